//! Reading shard files.

use crate::dedup::scatter::ScatteredBlock;
use crate::error::{Error, Result};
use crate::input::counts::Counts;
use crate::io::checksum::Checksum;
use crate::key::Key;
use crate::memory;
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
        memory::resize(&mut header, HEAD + fields as usize, 0);
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
            return Err(damaged(match end > length {
                true => "it is truncated",
                false => "it is longer than its header says",
            }));
        }
        let mut gap = [0; 64];
        let gap = &mut gap[..header.offset as usize - Header::len(header.bits)];
        let read = file.read_exact(gap);
        read.map_err(|error| storage("read", path, &error))?;
        if gap.iter().any(|&byte| byte != 0) {
            return Err(damaged(
                "something stands between its header and its windows",
            ));
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

    /// Gives the keys of a partition to `take`, at most so many at a time; after an error they are worth
    /// nothing.
    pub fn read_pieces<K: Key>(
        &self,
        index: usize,
        most: usize,
        mut take: impl FnMut(&[K]) -> Result<()>,
    ) -> Result<()> {
        self.check_keys::<K>()?;
        let Entry { before, keys, sum } = self.entries(index..index + 1)?[0];
        let mut buffer = memory::filled(K::default(), most.min(keys as usize));
        let (mut checksum, mut done) = (Checksum::new(), 0);
        while done < keys {
            let count = (keys - done).min(most as u64);
            let own = &mut buffer[..count as usize];
            let offset = self.header.offset + (before + done) * self.header.key_bytes;
            let read = self.file.read_exact_at(as_bytes_mut(own), offset);
            read.map_err(|error| storage("read", &self.path, &error))?;
            checksum.update(as_bytes(own));
            take(own)?;
            done += count;
        }
        match checksum.value() == sum {
            true => Ok(()),
            false => Err(self.mismatch(index)),
        }
    }

    fn check_keys<K: Key>(&self) -> Result<()> {
        if self.header.key_bytes != K::BYTES as u64 {
            return Err(Error::Storage(format!(
                "{} holds windows of another width or vocabulary",
                self.path.display()
            )));
        }
        Ok(())
    }

    fn mismatch(&self, index: usize) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            what: format!("partition {index} does not match its checksum"),
        }
    }

    /// The keys of some partitions, whose checksums are verified, in the current rayon pool.
    pub fn read<K: Key>(
        &self,
        range: Range<usize>,
        recycler: &mut BlockRecycler<K>,
    ) -> Result<ScatteredBlock<K>> {
        self.check_keys::<K>()?;
        let entries = self.entries(range.clone())?;
        let before = entries.first().map_or(0, |entry| entry.before);
        let mut starts = memory::vec(entries.len() + 1);
        starts.push(0);
        let mut total = 0;
        for entry in entries {
            total += entry.keys as usize;
            starts.push(total);
        }
        let mut keys: Vec<K> = recycler.take(total);
        memory::resize(&mut keys, total, K::default());
        let offset = self.header.offset + before * self.header.key_bytes;
        let mut pieces = Vec::new();
        let (mut rest, mut from) = (&mut keys[..], 0);
        for index in 1..starts.len() {
            let length = starts[index] - starts[from];
            if length * K::BYTES >= BUFFER || index + 1 == starts.len() {
                let (own, more) = rest.split_at_mut(length);
                memory::push(&mut pieces, (from..index, own));
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
                    return Err(self.mismatch(range.start + index));
                }
            }
            Ok(())
        })?;
        Ok(ScatteredBlock::new(keys, starts))
    }
}
