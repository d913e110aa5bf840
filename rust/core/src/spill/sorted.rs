//! More records than memory: sorted in temporary files, and read again range by range in order.

use crate::error::{Error, Result};
use crate::interrupt::Check;
use crate::io::checksum::Checksum;
use crate::io::records::put_u64;
use crate::key::Key;
use crate::memory;
use crate::score::weighted::{Record, Row};
use crate::spill::budget::Budget;
use crate::spill::header::storage;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tempfile::TempPath;

/// Items that are written, checked and read at once.
const BLOCK: usize = 1 << 12;

/// What sorted files hold.
pub trait Item: Copy + Send + Sync {
    /// Bytes of an item in a file.
    const BYTES: usize;
    /// Appends its bytes.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads what [`Item::write`] wrote; everything comes so much later in reading order.
    fn read(bytes: &[u8], later: u64) -> Self;
    /// The order of items in a file.
    fn compare(&self, other: &Self) -> Ordering;
}

impl<K: Key> Item for Record<K> {
    const BYTES: usize = K::BYTES + 16;
    fn write(&self, out: &mut Vec<u8>) {
        self.key.write(out);
        put_u64(out, self.order);
        put_u64(out, self.weight.to_bits());
    }
    fn read(bytes: &[u8], later: u64) -> Self {
        let (key, rest) = bytes.split_at(K::BYTES);
        Self {
            key: K::read(key),
            order: <u64 as Key>::read(&rest[..8]) + later,
            weight: f64::from_bits(<u64 as Key>::read(&rest[8..])),
        }
    }
    fn compare(&self, other: &Self) -> Ordering {
        Self::compare(self, other)
    }
}

impl<K: Key> Item for Row<K> {
    const BYTES: usize = <Record<K> as Item>::BYTES + 16;
    fn write(&self, out: &mut Vec<u8>) {
        self.unit.write(out);
        Item::write(&self.window, out);
    }
    fn read(bytes: &[u8], later: u64) -> Self {
        let (unit, window) = bytes.split_at(16);
        Self {
            unit: <u128 as Key>::read(unit),
            window: Item::read(window, later),
        }
    }
    fn compare(&self, other: &Self) -> Ordering {
        Self::compare(self, other)
    }
}

/// Sorted items in a temporary file, which goes with the last that holds it.
#[derive(Debug)]
struct BlockFile<T> {
    path: TempPath,
    file: File,
    /// The first item of each block, and the block's checksum.
    blocks: Vec<(T, u64)>,
    count: usize,
}

impl<T: Item> BlockFile<T> {
    fn write(sorted: &[T], budget: &Budget) -> Result<Self> {
        let path = budget.temporary()?;
        let mut options = File::options();
        let open = options.read(true).write(true).create_new(true).open(&path);
        let mut file = open.map_err(|error| storage("write", &path, &error))?;
        let (mut bytes, mut blocks) = (Vec::new(), Vec::new());
        for items in sorted.chunks(BLOCK) {
            bytes.clear();
            memory::reserve(&mut bytes, BLOCK * T::BYTES);
            items.iter().for_each(|item| item.write(&mut bytes));
            memory::push(&mut blocks, (items[0], checksum(&bytes)));
            file.write_all(&bytes)
                .map_err(|error| storage("write", &path, &error))?;
        }
        Ok(Self {
            path,
            file,
            blocks,
            count: sorted.len(),
        })
    }

    /// Appends the items of a block.
    fn read(&self, block: usize, later: u64, out: &mut Vec<T>) -> Result<()> {
        let count = BLOCK.min(self.count - block * BLOCK);
        let mut bytes = memory::filled(0u8, count * T::BYTES);
        self.file
            .read_exact_at(&mut bytes, (block * BLOCK * T::BYTES) as u64)
            .map_err(|error| storage("read", &self.path, &error))?;
        if checksum(&bytes) != self.blocks[block].1 {
            return Err(Error::Damaged {
                path: self.path.to_path_buf(),
                what: "it does not match its checksum".into(),
            });
        }
        let items = bytes.chunks_exact(T::BYTES);
        memory::append(out, items.map(|bytes| T::read(bytes, later)));
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::new();
    sum.update(bytes);
    sum.value()
}

/// Sorted items, which come so much later in reading order than they say.
#[derive(Debug)]
pub struct SortedFile<T> {
    file: Arc<BlockFile<T>>,
    later: u64,
}

impl<T: Item> SortedFile<T> {
    /// The same, later in reading order.
    pub fn later(&self, by: u64) -> Self {
        Self {
            file: Arc::clone(&self.file),
            later: self.later + by,
        }
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.file.count
    }

    /// Gives all items, some at a time, to `take`.
    pub fn visit(&self, mut take: impl FnMut(&[T]) -> Result<()>) -> Result<()> {
        let mut items = Vec::new();
        for block in 0..self.file.blocks.len() {
            items.clear();
            self.file.read(block, self.later, &mut items)?;
            take(&items)?;
        }
        Ok(())
    }
}

/// Items that go to sorted files where they would outgrow their share of memory.
pub struct Spill<T> {
    budget: Budget,
    most: usize,
    waiting: Vec<T>,
    files: Vec<SortedFile<T>>,
}

impl<T: Item> Spill<T> {
    /// Nothing yet; up to so many bytes of items are held.
    pub fn new(budget: &Budget, bytes: usize) -> Self {
        Self {
            budget: budget.clone(),
            most: (bytes / size_of::<T>()).max(BLOCK),
            waiting: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Goes on with items that [`Spill::pause`] gave.
    pub fn resume(budget: &Budget, bytes: usize, waiting: Vec<T>) -> Self {
        Self {
            waiting,
            ..Self::new(budget, bytes)
        }
    }

    /// The items in memory, and the files since the beginning.
    pub fn pause(self) -> (Vec<T>, Vec<SortedFile<T>>) {
        (self.waiting, self.files)
    }

    /// Adds items, in the current rayon pool.
    pub fn push(&mut self, mut items: &[T]) -> Result<()> {
        while !items.is_empty() {
            if self.waiting.len() >= self.most {
                self.write()?;
            }
            let (now, rest) = items.split_at(items.len().min(self.most - self.waiting.len()));
            let wanted = self.waiting.len() + now.len();
            if wanted > self.waiting.capacity() {
                let held = self.waiting.len();
                let room = (2 * held).max(wanted).min(self.most);
                memory::reserve_exact(&mut self.waiting, room - held);
            }
            self.waiting.extend_from_slice(now);
            items = rest;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        self.waiting.par_sort_unstable_by(T::compare);
        let file = Arc::new(BlockFile::write(&self.waiting, &self.budget)?);
        memory::push(&mut self.files, SortedFile { file, later: 0 });
        self.waiting.clear();
        Ok(())
    }

    /// All items in files; their memory is free then.
    pub fn finish(mut self) -> Result<Vec<SortedFile<T>>> {
        if !self.waiting.is_empty() {
            self.write()?;
        }
        Ok(self.files)
    }
}

/// Gives all items of some files to `take`, range by range in ascending order of `id`, which must not
/// decrease along a file. Items of one id come together, about `most` at a time, each file's in order.
pub fn for_ranges<T: Item, I: Ord + Copy>(
    files: &[SortedFile<T>],
    most: usize,
    id: impl Fn(&T) -> I,
    check: &mut Check<'_>,
    take: &mut dyn FnMut(&mut Vec<T>, &mut Check<'_>) -> Result<()>,
) -> Result<()> {
    let mut starts: Vec<I> = Vec::new();
    for one in files {
        memory::append(
            &mut starts,
            one.file.blocks.iter().map(|(first, _)| id(first)),
        );
    }
    starts.sort_unstable();
    let step = (most / BLOCK).saturating_sub(files.len()).max(1);
    // Of each file the next block, and what was read of it and belongs to a later range.
    let mut cursors: Vec<(usize, Vec<T>)> = files.iter().map(|_| (0, Vec::new())).collect();
    let mut items = Vec::new();
    let mut from = 0;
    while from < starts.len() {
        let first = starts[from];
        let end = starts
            .get(from + step)
            .filter(|&&end| end > first)
            .or_else(|| {
                // One id fills the range: all of it must be read at once.
                let beyond = starts.partition_point(|&start| start <= first);
                starts.get(beyond.max(from + step))
            });
        let end = end.copied();
        items.clear();
        for (one, (next, rest)) in files.iter().zip(&mut cursors) {
            loop {
                let own = end.map_or(rest.len(), |end| {
                    rest.partition_point(|item| id(item) < end)
                });
                memory::extend(&mut items, &rest[..own]);
                rest.drain(..own);
                if !rest.is_empty() || *next == one.file.blocks.len() {
                    break;
                }
                one.file.read(*next, one.later, rest)?;
                *next += 1;
            }
            check()?;
        }
        take(&mut items, check)?;
        from = end.map_or(starts.len(), |end| {
            starts.partition_point(|&start| start < end)
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges are in order, each id in one of them, whatever was spilled when.
    #[test]
    fn ranges_are_the_sorted_whole() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|error| Error::Storage(error.to_string()))?;
        let budget = Budget {
            memory: 1,
            folders: vec![folder.path().to_owned()],
        };
        let bytes = 1 << 19;
        let many = 20 * BLOCK;
        for (distinct, most) in [(1, 1), (7, many), (20_000, many), (1 << 40, many)] {
            let mut state = 1u64;
            let mut all: Vec<Record<u64>> = (0..200_000u64)
                .map(|order| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let (key, weight) = ((state >> 20) % distinct, order as f64);
                    Record { key, order, weight }
                })
                .collect();
            let mut spill = Spill::new(&budget, bytes);
            all.chunks(777).try_for_each(|items| spill.push(items))?;
            let files = spill.finish()?;
            assert_eq!(
                files.len(),
                all.len().div_ceil(bytes / size_of::<Record<u64>>())
            );
            let mut found: Vec<Record<u64>> = Vec::new();
            let id = |record: &Record<u64>| record.key / 2;
            for_ranges(&files, most, id, &mut || Ok(()), &mut |items, _| {
                items.sort_unstable_by(Record::compare);
                let before = found.last().map(id);
                assert!(before.is_none_or(|last| items.iter().all(|item| id(item) > last)));
                assert!(items.len() <= most || distinct < 20_000);
                found.extend_from_slice(items);
                Ok(())
            })?;
            all.sort_unstable_by(Record::compare);
            let parts = |r: &Record<u64>| (r.key, r.order, r.weight.to_bits());
            assert!(found.iter().map(parts).eq(all.iter().map(parts)));
            let moved = files[0].later(5);
            let mut orders = Vec::new();
            moved.visit(|items| {
                orders.extend(items.iter().map(|item| item.order));
                Ok(())
            })?;
            assert_eq!(orders.iter().min(), Some(&5));
        }
        Ok(())
    }
}
