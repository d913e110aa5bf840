//! Little-endian fields of saved files.

use crate::error::{Error, Result};

/// Reads fields one after the other. It never reads past the end, nor allocates what a damaged count
/// asks for.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.rest.len() {
            return Err(Error::State(
                "the file is shorter than its own counts say".into(),
            ));
        }
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    /// The next u64.
    pub fn u64(&mut self) -> Result<u64> {
        let mut raw = [0; 8];
        raw.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(raw))
    }

    /// A count, then that many records of `size` bytes.
    pub fn records(&mut self, size: usize) -> Result<std::slice::ChunksExact<'a, u8>> {
        let count = self.u64()? as usize;
        let bytes = count
            .checked_mul(size)
            .ok_or_else(|| Error::State("the file has an impossible count".into()))?;
        Ok(self.take(bytes)?.chunks_exact(size))
    }

    /// Fails if bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::State(format!(
                "the file has {} bytes too many",
                self.rest.len()
            )))
        }
    }
}

/// Appends a u64.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
