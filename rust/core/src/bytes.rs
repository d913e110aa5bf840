//! Little-endian fields of files that radscore writes: `magic, version, payload, SHA-256`.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

const CHECKSUM: usize = 32;

/// Writes `magic`, a version, the payload and a checksum: first to a file beside it, then renamed,
/// so that an older file is never lost to a half-written one.
pub fn write_file(path: &Path, magic: [u8; 4], version: u32, payload: &[u8]) -> Result<()> {
    let fail =
        |error: std::io::Error| Error::State(format!("cannot write {}: {error}", path.display()));
    let mut name = path.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = File::create(&temporary)?;
        let mut digest = Sha256::new();
        for part in [&magic[..], &version.to_le_bytes(), payload] {
            digest.update(part);
            file.write_all(part)?;
        }
        file.write_all(&digest.finalize())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        fail(error)
    })
}

/// Reads what [`write_file`] wrote and returns the payload; `what` names the kind of file.
pub fn read_file(path: &Path, magic: [u8; 4], version: u32, what: &str) -> Result<Vec<u8>> {
    let place = path.display();
    let mut bytes = fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::State(format!("{place} does not exist")),
        _ => Error::State(format!("cannot read {place}: {error}")),
    })?;
    if bytes.len() < 8 || bytes[..4] != magic {
        return Err(Error::State(format!("{place} is not a {what} of radscore")));
    }
    let found = <u64 as crate::key::Key>::read(&[&bytes[4..8], &[0; 4]].concat());
    if found != u64::from(version) {
        return Err(Error::State(format!(
            "{place} is a {what} of version {found}; this radscore reads version {version}"
        )));
    }
    let end = bytes.len().saturating_sub(CHECKSUM);
    if end < 8 || Sha256::digest(&bytes[..end])[..] != bytes[end..] {
        return Err(Error::State(format!(
            "{place} is damaged: its checksum does not fit"
        )));
    }
    bytes.truncate(end);
    bytes.drain(..8);
    Ok(bytes)
}

/// Reads fields from a payload; running out of bytes is an error.
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
        Ok(<u64 as crate::key::Key>::read(self.take(8)?))
    }

    /// A count, then that many records of `size` bytes.
    pub fn records(&mut self, size: usize) -> Result<std::slice::ChunksExact<'a, u8>> {
        let count = self.u64()? as usize;
        let bytes = count
            .checked_mul(size)
            .ok_or_else(|| Error::State("the file has an impossible count".into()))?;
        Ok(self.take(bytes)?.chunks_exact(size))
    }

    /// Fails unless all bytes were read.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::State(format!(
                "{} bytes too many in the file",
                self.rest.len()
            )))
        }
    }
}

/// Appends a u64.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
