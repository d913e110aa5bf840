//! The header of a shard file: magic, version and length, the fields, and their SHA-256.

use crate::error::{Error, Result};
use crate::input::counts::Counts;
use crate::io::records::{Reader, put_u64};
use crate::key::Key;
use crate::key::Widest;
use crate::memory;
use sha2::{Digest, Sha256};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

pub(super) const MAGIC: [u8; 4] = *b"RSSF";
pub(super) const VERSION: u32 = 2;
/// Bytes before the fields: magic, version, length of the fields.
pub(super) const HEAD: usize = 16;
pub(super) const DIGEST: usize = 32;
/// Bytes that are written or read in one go.
pub(super) const BUFFER: usize = 1 << 20;

/// A hash of what the windows of a file depend on: equal hashes, equal meaning.
pub type Configuration = [u8; 32];

/// What the marker of a finished file must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Bytes of the file.
    pub length: u64,
    /// SHA-256 of its header, which holds the checksums of all partitions.
    pub digest: [u8; DIGEST],
}

/// Keys and checksum of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Keys of all partitions before it.
    pub before: u64,
    pub keys: u64,
    pub sum: u64,
}

/// The fields. Keys of all partitions lie one after the other from `offset` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub configuration: Configuration,
    pub shard: u64,
    pub key_bytes: u64,
    /// What was read to cut the windows.
    pub counts: Counts,
    /// Repetitions that were left out.
    pub duplicates: u64,
    /// There are `2^bits` partitions.
    pub bits: u32,
    /// Where the keys begin.
    pub offset: u64,
    /// The partition of the first entry; the whole table begins with 0.
    pub first: usize,
    pub entries: Vec<Entry>,
}

impl Header {
    /// Bytes of a header, with what stands around its fields.
    pub(super) fn len(bits: u32) -> usize {
        HEAD + 32 + 8 * (1 + 1 + 6 + 1 + 1 + 1) + (16 << bits) + DIGEST
    }

    /// Where the keys begin.
    pub(super) fn offset(bits: u32) -> u64 {
        Self::len(bits).next_multiple_of(64) as u64
    }

    /// The header up to its digest.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut fields = self.configuration.to_vec();
        put_u64(&mut fields, self.shard);
        put_u64(&mut fields, self.key_bytes);
        self.counts.write(&mut fields);
        put_u64(&mut fields, self.duplicates);
        put_u64(&mut fields, self.bits.into());
        put_u64(&mut fields, self.offset);
        for entry in &self.entries {
            put_u64(&mut fields, entry.keys);
            put_u64(&mut fields, entry.sum);
        }
        let mut header = memory::vec(HEAD + fields.len());
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        put_u64(&mut header, fields.len() as u64);
        header.extend_from_slice(&fields);
        header
    }

    /// Reads the fields, of the table only some partitions; returns also where the last one ends.
    pub(super) fn read(fields: &[u8], range: Range<usize>) -> Result<(Self, u64)> {
        let mut reader = Reader::new(fields);
        let configuration = reader.array()?;
        let (shard, key_bytes) = (reader.u64()?, reader.u64()?);
        let (counts, duplicates) = (Counts::read(&mut reader)?, reader.u64()?);
        let (bits, offset) = (reader.u64()?, reader.u64()?);
        let impossible = || Error::State("the header has an impossible count".into());
        if bits > 24 || !(8..=Widest::BYTES as u64).contains(&key_bytes) {
            return Err(impossible());
        }
        let own = range.start.min(1 << bits)..range.end.min(1 << bits);
        let (mut entries, mut before) = (memory::vec(own.len()), 0u64);
        for index in 0..1 << bits {
            let (keys, sum) = (reader.u64()?, reader.u64()?);
            if own.contains(&index) {
                entries.push(Entry { before, keys, sum });
            }
            before = before.checked_add(keys).ok_or_else(impossible)?;
        }
        if offset != Self::offset(bits as u32) {
            return Err(impossible());
        }
        let end = before.checked_mul(key_bytes);
        let end = end.and_then(|bytes| bytes.checked_add(offset));
        reader.finish()?;
        let header = Self {
            configuration,
            shard,
            key_bytes,
            counts,
            duplicates,
            bits: bits as u32,
            offset,
            first: own.start,
            entries,
        };
        Ok((header, end.ok_or_else(impossible)?))
    }
}

/// The SHA-256 of a header.
pub(super) fn digest_of(header: &[u8]) -> [u8; DIGEST] {
    Sha256::digest(header).into()
}

/// The error of an operation on a file.
pub(super) fn storage(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let reason = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full; finished work is kept: free some space and rerun".into()
        }
        _ => error.to_string(),
    };
    Error::Storage(format!("cannot {what} {}: {reason}", path.display()))
}

/// Keys as they lie in memory.
pub(super) fn as_bytes<K: Key>(keys: &[K]) -> &[u8] {
    // SAFETY: keys are unsigned integers or arrays of them: every byte of them is initialised, and
    // bytes have no alignment.
    unsafe { std::slice::from_raw_parts(keys.as_ptr().cast(), size_of_val(keys)) }
}

/// [`as_bytes`], to be written to.
pub(super) fn as_bytes_mut<K: Key>(keys: &mut [K]) -> &mut [u8] {
    // SAFETY: as above, and any bytes make an unsigned integer.
    unsafe { std::slice::from_raw_parts_mut(keys.as_mut_ptr().cast(), size_of_val(keys)) }
}
