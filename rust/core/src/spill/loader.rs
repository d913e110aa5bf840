//! Partitions of many files, as many at once as memory holds.

use crate::dedup::identity::Identity;
use crate::dedup::partitions::Partitions;
use crate::error::Result;
use crate::key::Key;
use crate::recycler::BlockRecycler;
use crate::spill::budget::Budget;
use crate::spill::shard_file::{NO_SHARD, ShardFile};
use crate::spill::shard_writer::ShardWriter;
use crate::threads::Pool;
use std::ops::Range;
use tempfile::TempPath;

/// Partitions that one that outgrows memory is split into, as bits.
const SPLIT_BITS: u32 = 6;
/// Keys that are read at once to be split.
const PIECE: usize = 1 << 20;
/// How often a partition is split.
const MOST_LEVELS: u32 = 2;

/// Takes loaded partitions, what makes windows equal at their level, and the interrupt check.
pub(crate) type Take<'a, K> =
    dyn FnMut(&mut Partitions<K>, &Identity, &mut dyn FnMut() -> Result<()>) -> Result<()> + 'a;

/// Loads the same partitions of all files together. Each key is read once, and for each time that its
/// partition is split, written and read once more.
pub(crate) struct PartitionLoader<'a> {
    pub(crate) budget: &'a Budget,
    pub(crate) pool: &'a Pool,
    /// Whether a large partition can be taken file by file, since nothing is deduplicated.
    pub(crate) one_by_one: bool,
    /// Whether a large partition may be split.
    pub(crate) may_split: bool,
}

impl PartitionLoader<'_> {
    /// Loads a range of partitions of all files, in groups, and gives each group to `take`.
    pub(crate) fn for_groups<K: Key>(
        &self,
        files: &[ShardFile],
        range: Range<usize>,
        identity: &Identity,
        check: &mut dyn FnMut() -> Result<()>,
        take: &mut Take<K>,
    ) -> Result<()> {
        self.for_groups_at(files, (range, 0), identity, check, take)
    }

    /// [`PartitionLoader::for_groups`] of partitions that were split `level` times.
    fn for_groups_at<K: Key>(
        &self,
        files: &[ShardFile],
        (range, level): (Range<usize>, u32),
        identity: &Identity,
        check: &mut dyn FnMut() -> Result<()>,
        take: &mut Take<K>,
    ) -> Result<()> {
        let Some(first) = files.first() else {
            return Ok(());
        };
        let bits = first.bits();
        let mut recycler = BlockRecycler::default();
        let mut from = range.start;
        while from < range.end {
            let (end, bytes) = self.group(files, from..range.end)?;
            let large = bytes > self.budget.memory as u64 / 4;
            if large && self.may_split && !self.one_by_one && level < MOST_LEVELS {
                self.split(files, (from, level + 1), identity, check, take)?;
            } else {
                let at_once = if large && self.one_by_one {
                    1
                } else {
                    files.len()
                };
                for files in files.chunks(at_once) {
                    let mut partitions = Partitions::fixed(bits, from..end);
                    std::mem::swap(partitions.recycler(), &mut recycler);
                    for file in files {
                        check()?;
                        let read = || file.read(from..end, partitions.recycler());
                        let block = self.pool.install(read)?;
                        partitions.add(block);
                    }
                    take(&mut partitions, identity, check)?;
                    partitions.clear();
                    std::mem::swap(partitions.recycler(), &mut recycler);
                }
            }
            from = end;
        }
        Ok(())
    }

    /// The end of the partitions that a quarter of the memory holds, at least one, and their bytes.
    fn group(&self, files: &[ShardFile], range: Range<usize>) -> Result<(usize, u64)> {
        let (mut end, mut bytes) = (range.start, 0);
        while end < range.end {
            let mut more = 0;
            for file in files {
                more += file.partition_bytes(end)?;
            }
            if end > range.start && bytes + more > self.budget.memory as u64 / 4 {
                break;
            }
            (end, bytes) = (end + 1, bytes + more);
        }
        Ok((end, bytes))
    }

    /// Splits a partition by other bits of the hash, into temporary files, and loads those.
    fn split<K: Key>(
        &self,
        files: &[ShardFile],
        (index, level): (usize, u32),
        identity: &Identity,
        check: &mut dyn FnMut() -> Result<()>,
        take: &mut Take<K>,
    ) -> Result<()> {
        let identity = &identity.at_level(level);
        let range = 0..1 << SPLIT_BITS;
        let mut partitions = Partitions::<K>::fixed(SPLIT_BITS, range.clone());
        let mut written: Vec<TempPath> = Vec::new();
        for (number, file) in files.iter().enumerate() {
            check()?;
            file.read_pieces(index, PIECE, |keys| {
                self.pool.install(|| partitions.push(keys, identity));
                if 2 * partitions.bytes() > self.budget.memory {
                    written.push(self.write(&mut partitions, identity)?);
                }
                Ok(())
            })?;
            if number + 1 == files.len() {
                written.push(self.write(&mut partitions, identity)?);
            }
        }
        drop(partitions);
        let files = written.iter().map(|file| ShardFile::open(file));
        let files = files.collect::<Result<Vec<_>>>()?;
        self.for_groups_at(&files, (range, level), identity, check, take)
    }

    /// Moves all keys to a temporary file.
    fn write<K: Key>(
        &self,
        partitions: &mut Partitions<K>,
        identity: &Identity,
    ) -> Result<TempPath> {
        let file = self.budget.temporary()?;
        let bits = partitions.bits();
        self.pool.install(|| partitions.scatter_tail(identity));
        let writer = ShardWriter::create::<K>(&file, [0; 32], NO_SHARD, bits)?;
        let mut writer = writer.temporary();
        self.pool.install(|| writer.append(partitions))?;
        writer.finish(Default::default(), 0)?;
        partitions.clear();
        Ok(file)
    }
}
