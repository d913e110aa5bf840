//! Writing shard files.

use crate::dedup::partitions::Partitions;
use crate::error::Result;
use crate::input::counts::Counts;
use crate::io::atomic::AtomicFile;
use crate::io::checksum::Checksum;
use crate::key::Key;
use crate::memory;
use crate::spill::header::{
    BUFFER, Configuration, Entry, Finished, Header, as_bytes, digest_of, storage,
};
use rayon::prelude::*;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes a shard file, partition after partition. Nothing has its name before
/// [`ShardWriter::finish`], and nothing stays if that is not called.
pub struct ShardWriter {
    file: AtomicFile,
    header: Header,
    /// Where the next partition begins.
    end: u64,
    durable: bool,
}

impl ShardWriter {
    /// Begins the file of a shard, with `2^bits` partitions of keys `K`.
    pub fn create<K: Key>(
        path: &Path,
        configuration: Configuration,
        shard: u64,
        bits: u32,
    ) -> Result<Self> {
        let file = AtomicFile::create(path).map_err(|error| storage("write", path, &error))?;
        let offset = Header::offset(bits);
        Ok(Self {
            file,
            header: Header {
                configuration,
                shard,
                key_bytes: K::BYTES as u64,
                counts: Counts::default(),
                duplicates: 0,
                bits,
                offset,
                first: 0,
                entries: memory::vec(1 << bits),
            },
            end: offset,
            durable: true,
        })
    }

    /// The file need not outlive the process: nothing waits for the disk.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Appends partitions, in the current rayon pool: several workers write, each at its own offset.
    pub fn append<K: Key>(&mut self, partitions: &Partitions<K>) -> Result<()> {
        let last = self.header.entries.last();
        let first = last.map_or(0, |last| last.before + last.keys);
        let mut before = first;
        let mut groups: Vec<(u64, Range<usize>)> = Vec::new();
        let mut size = BUFFER;
        for index in 0..partitions.count() {
            let bytes = partitions.progress(index).total * K::BYTES;
            match groups.last_mut() {
                Some((_, range)) if size + bytes <= BUFFER => range.end = index + 1,
                _ => {
                    let offset = self.end + (before - first) * K::BYTES as u64;
                    memory::push(&mut groups, (offset, index..index + 1));
                    size = 0;
                }
            }
            size += bytes;
            before += partitions.progress(index).total as u64;
        }
        let file = self.file.file();
        let write = |buffer: &mut Vec<u8>, (offset, range): (u64, Range<usize>)| {
            buffer.clear();
            let (mut at, mut sums) = (offset, memory::vec(range.len()));
            for index in range {
                let (mut sum, mut keys) = (Checksum::new(), 0);
                for slice in partitions.slices(index) {
                    keys += slice.len() as u64;
                    for piece in as_bytes(slice).chunks(BUFFER) {
                        sum.update(piece);
                        if buffer.len() + piece.len() > BUFFER {
                            file.write_all_at(buffer, at)?;
                            at += buffer.len() as u64;
                            buffer.clear();
                        }
                        memory::extend(buffer, piece);
                    }
                }
                sums.push((keys, sum.value()));
            }
            file.write_all_at(buffer, at).map(|()| sums)
        };
        let written: std::io::Result<Vec<Vec<(u64, u64)>>> =
            groups.into_par_iter().map_init(Vec::new, write).collect();
        let written = written.map_err(|error| storage("write", self.file.path(), &error))?;
        let mut before = first;
        for (keys, sum) in written.into_iter().flatten() {
            self.header.entries.push(Entry { before, keys, sum });
            before += keys;
        }
        self.end += (before - first) * K::BYTES as u64;
        Ok(())
    }

    /// Writes the header, with what was counted while the windows were cut and the repetitions that
    /// were left out; makes sure that all is on the disk, and gives the file its name.
    pub fn finish(mut self, counts: Counts, duplicates: u64) -> Result<Finished> {
        (self.header.counts, self.header.duplicates) = (counts, duplicates);
        let header = self.header.to_bytes();
        let digest = digest_of(&header);
        let path = self.file.path().to_owned();
        let written = (|| {
            let file = self.file.file();
            file.write_all_at(&header, 0)?;
            file.write_all_at(&digest, header.len() as u64)?;
            // Without a single key the file is shorter than its data would begin.
            file.set_len(self.end)?;
            self.file.commit(self.durable)
        })();
        written.map_err(|error| storage("write", &path, &error))?;
        Ok(Finished {
            length: self.end,
            digest,
        })
    }
}
