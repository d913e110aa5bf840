//! Reading shard files.

use crate::dedup::scatter::ScatteredBlock;
use crate::error::{Error, Result};
use crate::input::counts::Counts;
use crate::io::checksum::Checksum;
use crate::key::Key;
use crate::recycler::BlockRecycler;
use crate::spill::header::{
    BUFFER, DIGEST, Entry, HEAD, Header, MAGIC, VERSION, as_bytes, as_bytes_mut, digest_of, storage,
};
use rayon::prelude::*;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use crate::spill::header::{Configuration, Finished};

/// The number of a file that belongs to no shard.
pub const NO_SHARD: u64 = u64::MAX;

/// A file that [`ShardWriter`] wrote: the distinct windows of a shard, by partition. It stays open;
/// 24 bytes of memory per partition are held.
///
/// [`ShardWriter`]: crate::spill::shard_writer::ShardWriter
#[derive(Debug)]
pub struct ShardFile {
    path: PathBuf,
    file: File,
    header: Header,
    /// What its marker must say.
    pub finished: Finished,
}

impl ShardFile {
    /// Opens a file and reads its header. An error names the file and what is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_range(path, 0..usize::MAX)
    }

    /// Opens a file to read some of its partitions. The header is verified as a whole; of its table
    /// only those partitions are kept.
    pub fn open_range(path: &Path, range: Range<usize>) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged {
            path: path.to_owned(),
            what: what.into(),
        };
        let mut file = File::open(path).map_err(|error| storage("read", path, &error))?;
        let length = file
            .metadata()
            .map_err(|error| storage("read", path, &error))?
            .len();
        let mut header = vec![0; HEAD];
        file.read_exact(&mut header)
            .map_err(|_| damaged("it has no header"))?;
        if header[..4] != MAGIC {
            return Err(damaged(
                "it is not a shard file of this version of radscore",
            ));
        }
        let version = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if version != VERSION {
            return Err(damaged(&format!(
                "it is of version {version}; this radscore reads version {VERSION}"
            )));
        }
        let fields = <u64 as Key>::read(&header[8..]);
        if fields > length {
            return Err(damaged("it is truncated"));
        }
        header.resize(HEAD + fields as usize, 0);
        let mut digest = [0; DIGEST];
        file.read_exact(&mut header[HEAD..])
            .and_then(|()| file.read_exact(&mut digest))
            .map_err(|_| damaged("it is truncated"))?;
        if digest_of(&header) != digest {
            return Err(damaged("its header was altered"));
        }
        let (header, end) =
            Header::read(&header[HEAD..], range).map_err(|_| damaged("its header is invalid"))?;
        if end != length {
            return Err(damaged("it is truncated"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            finished: Finished { length, digest },
        })
    }

    /// Opens files to read some of their partitions; they must be of one configuration, if one is
    /// given.
    pub fn open_all(
        paths: &[PathBuf],
        configuration: Option<&Configuration>,
        range: &Range<usize>,
    ) -> Result<Vec<Self>> {
        let open = |path: &PathBuf| {
            let file = Self::open_range(path, range.clone())?;
            match configuration {
                Some(wanted) if wanted != file.configuration() => Err(Error::Damaged {
                    path: path.clone(),
                    what: "it was made with another configuration".into(),
                }),
                _ => Ok(file),
            }
        };
        paths.iter().map(open).collect()
    }

    /// Bytes of memory that its table takes.
    pub fn table_bytes(&self) -> usize {
        self.header.entries.len() * size_of::<Entry>()
    }

    /// What its windows depend on.
    pub fn configuration(&self) -> &Configuration {
        &self.header.configuration
    }

    /// The number of the shard.
    pub fn shard(&self) -> u64 {
        self.header.shard
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was read to cut the windows, and the repetitions that were left out.
    pub fn counts(&self) -> (Counts, u64) {
        (self.header.counts, self.header.duplicates)
    }

    /// It has `2^bits` partitions.
    pub fn bits(&self) -> u32 {
        self.header.bits
    }

    /// Bytes of a partition.
    pub fn partition_bytes(&self, index: usize) -> Result<u64> {
        let own = self.entries(index..index + 1)?;
        Ok(own.iter().map(|entry| entry.keys).sum::<u64>() * self.header.key_bytes)
    }

    fn entries(&self, range: Range<usize>) -> Result<&[Entry]> {
        let first = self.header.first;
        let own = (range.start.checked_sub(first))
            .zip(range.end.checked_sub(first))
            .and_then(|(from, to)| self.header.entries.get(from..to));
        own.ok_or_else(|| {
            Error::Storage(format!(
                "{} was not opened for the partitions {range:?}",
                self.path.display()
            ))
        })
    }

    /// The keys of some partitions, whose checksums are verified, in the current rayon pool.
    pub fn read<K: Key>(
        &self,
        range: Range<usize>,
        recycler: &mut BlockRecycler<K>,
    ) -> Result<ScatteredBlock<K>> {
        if self.header.key_bytes != K::BYTES as u64 {
            return Err(Error::Storage(format!(
                "{} holds windows of another width or vocabulary",
                self.path.display()
            )));
        }
        let entries = self.entries(range.clone())?;
        let before = entries.first().map_or(0, |entry| entry.before);
        let mut starts = vec![0];
        let mut total = 0;
        for entry in entries {
            total += entry.keys as usize;
            starts.push(total);
        }
        let mut keys: Vec<K> = recycler.take(total);
        keys.resize(total, K::default());
        let offset = self.header.offset + before * self.header.key_bytes;
        let mut pieces = Vec::new();
        let (mut rest, mut from) = (&mut keys[..], 0);
        for index in 1..starts.len() {
            let length = starts[index] - starts[from];
            if length * K::BYTES >= BUFFER || index + 1 == starts.len() {
                let (own, more) = rest.split_at_mut(length);
                pieces.push((from..index, own));
                (rest, from) = (more, index);
            }
        }
        pieces.into_par_iter().try_for_each(|(own, keys)| {
            let first = starts[own.start];
            self.file
                .read_exact_at(as_bytes_mut(keys), offset + (first * K::BYTES) as u64)
                .map_err(|error| storage("read", &self.path, &error))?;
            for index in own {
                let mut sum = Checksum::new();
                sum.update(as_bytes(
                    &keys[starts[index] - first..starts[index + 1] - first],
                ));
                if sum.value() != entries[index].sum {
                    return Err(Error::Damaged {
                        path: self.path.clone(),
                        what: format!(
                            "partition {} does not match its checksum",
                            range.start + index
                        ),
                    });
                }
            }
            Ok(())
        })?;
        Ok(ScatteredBlock::new(keys, starts))
    }
}
