//! Little-endian fields of saved files.

use crate::error::{Error, Result};
use crate::memory;
use std::io::Read;

/// Items that are read in one go.
const BATCH: usize = 1 << 14;

/// Reads fields one after the other. It never reads past the end, nor allocates what a damaged count
/// asks for.
pub struct Reader<R> {
    source: R,
    left: u64,
}

impl<'a> Reader<&'a [u8]> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::of(bytes, bytes.len() as u64)
    }
}

impl<R: Read> Reader<R> {
    /// A reader of the next `length` bytes of a source.
    pub fn of(source: R, length: u64) -> Self {
        Self {
            source,
            left: length,
        }
    }

    /// Where it reads from.
    pub(super) fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Fills a buffer with the next bytes.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        self.claim(out.len() as u64, 1)?;
        self.left -= out.len() as u64;
        let read = self.source.read_exact(out);
        read.map_err(|error| Error::State(format!("it cannot be read: {error}")))
    }

    /// Fails unless so many records of `size` bytes may follow.
    fn claim(&self, count: u64, size: usize) -> Result<usize> {
        match count.checked_mul(size as u64) {
            Some(bytes) if bytes <= self.left => Ok(count as usize),
            Some(_) => Err(Error::State(
                "the file is shorter than its own counts say".into(),
            )),
            None => Err(Error::State("the file has an impossible count".into())),
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut raw = [0; N];
        self.fill(&mut raw).map(|()| raw)
    }

    /// The next u64.
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = memory::filled(0, self.claim(count, 1)?);
        self.fill(&mut bytes).map(|()| bytes)
    }

    /// A count of records of `size` bytes, which follow.
    pub fn count(&mut self, size: usize) -> Result<usize> {
        let count = self.u64()?;
        self.claim(count, size)
    }

    /// So many records of `size` bytes: `take` gets some of them at a time, one after the other.
    pub fn records<T>(
        &mut self,
        (count, size): (usize, usize),
        read: impl Fn(&[u8]) -> T,
        mut take: impl FnMut(&[T]) -> Result<()>,
    ) -> Result<()> {
        let mut raw = memory::filled(0, size * self.claim(count as u64, size)?.min(BATCH));
        let mut items = memory::vec(count.min(BATCH));
        let mut left = count;
        while left > 0 {
            let own = left.min(BATCH);
            self.fill(&mut raw[..own * size])?;
            items.clear();
            items.extend(raw[..own * size].chunks_exact(size).map(&read));
            take(&items)?;
            left -= own;
        }
        Ok(())
    }

    /// A count, then that many records of `size` bytes.
    pub fn list<T: Clone>(&mut self, size: usize, read: impl Fn(&[u8]) -> T) -> Result<Vec<T>> {
        let count = self.count(size)?;
        let mut all = memory::vec(count);
        self.records((count, size), read, |items| {
            all.extend_from_slice(items);
            Ok(())
        })?;
        Ok(all)
    }

    /// Fails if bytes are left.
    pub fn finish(&self) -> Result<()> {
        match self.left {
            0 => Ok(()),
            left => Err(Error::State(format!("the file has {left} bytes too many"))),
        }
    }
}

/// Appends a u64.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    memory::extend(out, &value.to_le_bytes());
}
