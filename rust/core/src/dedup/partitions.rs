//! Windows by partition: those that are known to be distinct, and behind them those that wait.
//!
//! Deduplication is put off until somebody asks: a partition that is done in one go stays in the
//! cache, and most windows are looked at once.

use crate::dedup::object_pool::ObjectPool;
use crate::dedup::partitioner::{PartitionBuffer, Partitioner};
use crate::dedup::scatter::ScatteredBlock;
use crate::key::Key;
use crate::memory;
use crate::recycler::{BlockRecycler, reserve};
use rayon::prelude::*;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Partitions of few keys and of many, as bits. Results do not depend on them.
const FEW_BITS: u32 = 1;
const MANY_BITS: u32 = 12;
/// Keys from which there are many.
const MANY: usize = 1 << 17;
/// Bytes of keys that are gathered before they are scattered.
const TAIL: usize = 1 << 25;
/// Most keys of a block that is made of the tail.
const BLOCK: usize = 1 << 20;

/// Scatters groups of keys, each to a block of its own, in parallel.
fn scatter<K: Key>(
    groups: Vec<Vec<&[K]>>,
    (recycler, buffers): (&mut BlockRecycler<K>, &ObjectPool<PartitionBuffer<K>>),
    bits: u32,
    partitioner: &impl Partitioner<K>,
) -> Vec<ScatteredBlock<K>> {
    let length = |group: &Vec<&[K]>| group.iter().map(|keys| keys.len()).sum();
    let memory = groups.iter().map(|group| recycler.take(length(group)));
    let memory: Vec<Vec<K>> = memory.collect();
    let groups = groups.into_par_iter().zip(memory);
    groups
        .map(|(group, memory)| {
            buffers.with(|buffer| buffer.scatter_batches(&group, memory, bits, partitioner))
        })
        .collect()
}

/// How far a partition has come: its first `distinct` keys are distinct, and the first `scored` of
/// those are scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys, over all blocks.
    pub total: usize,
    /// Leading keys that are known to be distinct.
    pub distinct: usize,
    /// Leading keys that are scored.
    pub scored: usize,
}

/// The keys of one partition, to be changed in place.
pub struct Partition<'a, K> {
    /// Its keys, block after block.
    pub slices: Vec<&'a mut [K]>,
    /// How far it has come.
    pub progress: &'a mut Progress,
}

impl<K: Key> Partition<'_, K> {
    /// Copies the keys from position `from` on.
    pub fn gather(&self, from: usize, out: &mut Vec<K>) {
        out.clear();
        let mut skip = from;
        for slice in &self.slices {
            let own = skip.min(slice.len());
            memory::extend(out, &slice[own..]);
            skip -= own;
        }
    }

    /// Keeps the first `kept` of `keys`, which are all that are distinct, in place of what it holds;
    /// those known to be distinct before must lead. Returns how many were removed.
    pub fn keep(&mut self, keys: &mut Vec<K>, kept: usize) -> usize {
        let Progress {
            total, distinct, ..
        } = *self.progress;
        keys.truncate(kept);
        self.replace(distinct, &keys[distinct..]);
        (self.progress.total, self.progress.distinct) = (kept, kept);
        total - kept
    }

    /// Moves the scored keys behind the others and takes those for scored instead.
    fn swap_scored(&mut self, keys: &mut Vec<K>) {
        self.gather(0, keys);
        keys.rotate_left(self.progress.scored);
        self.replace(0, keys);
        self.progress.scored = self.progress.total - self.progress.scored;
    }

    /// Writes keys over those from position `from` on.
    fn replace(&mut self, from: usize, keys: &[K]) {
        let (mut skip, mut rest) = (from, keys);
        for slice in &mut self.slices {
            let own = skip.min(slice.len());
            let count = rest.len().min(slice.len() - own);
            slice[own..own + count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            skip -= own;
        }
    }
}

/// Keys by partition, in reading order within each, and in the tail those that have none yet.
///
/// There are two partitions until keys become many, then 4096, unless their number is fixed. A key
/// is scattered once (those of a small set twice), in blocks that are never moved.
pub struct Partitions<K: Key> {
    bits: u32,
    /// Number of the first partition, where only some of them are here.
    first: usize,
    /// Whether the number of partitions stays as it is.
    fixed: bool,
    /// Read after all blocks, not partitioned yet.
    tail: Vec<K>,
    blocks: Vec<ScatteredBlock<K>>,
    progress: Vec<Progress>,
    recycler: BlockRecycler<K>,
    buffers: ObjectPool<PartitionBuffer<K>>,
}

impl<K: Key> Default for Partitions<K> {
    fn default() -> Self {
        Self {
            bits: FEW_BITS,
            first: 0,
            fixed: false,
            tail: Vec::new(),
            blocks: Vec::new(),
            progress: vec![Progress::default(); 1 << FEW_BITS],
            recycler: BlockRecycler::default(),
            buffers: ObjectPool::default(),
        }
    }
}

impl<K: Key> Drop for Partitions<K> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<K: Key> Partitions<K> {
    /// Some of `2^bits` partitions, empty.
    pub fn fixed(bits: u32, range: Range<usize>) -> Self {
        let mut partitions = Self::default();
        (partitions.bits, partitions.first, partitions.fixed) = (bits, range.start, true);
        partitions.progress = memory::filled(Progress::default(), range.len());
        partitions
    }

    /// The partition is the highest so many bits of a hash.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Number of partitions that are here.
    pub fn count(&self) -> usize {
        self.progress.len()
    }

    /// The keys of a partition, block after block.
    pub fn slices(&self, index: usize) -> impl Iterator<Item = &[K]> {
        self.blocks.iter().map(move |block| block.partition(index))
    }

    /// Memory for blocks to come.
    pub fn recycler(&mut self) -> &mut BlockRecycler<K> {
        &mut self.recycler
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.tail.len() + self.progress.iter().map(|one| one.total).sum::<usize>()
    }

    /// Whether there are too few partitions to keep all workers busy.
    pub fn are_few(&self) -> bool {
        self.bits == FEW_BITS
    }

    /// Keys that are not scored.
    pub fn unscored(&self) -> usize {
        let waiting = |one: &Progress| one.total - one.scored;
        self.tail.len() + self.progress.iter().map(waiting).sum::<usize>()
    }

    /// Bytes of memory that the keys take; not those that wait to be used again.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(ScatteredBlock::bytes).sum();
        blocks + self.tail.len() * K::BYTES
    }

    /// How far a partition has come.
    pub fn progress(&self, index: usize) -> Progress {
        self.progress[index]
    }

    /// The end of the partitions from `from` on, at least one, that have at most `most` keys to do.
    pub fn round(&self, from: usize, most: usize, to_do: impl Fn(&Progress) -> usize) -> usize {
        let mut sum = 0;
        let rest = self.progress[from..].iter();
        let count = rest
            .take_while(|one| {
                let fits = sum == 0 || sum + to_do(one) <= most;
                sum += to_do(one);
                fits
            })
            .count();
        from + count
    }

    /// Appends keys that were read after all others; scatters them once they are many.
    pub fn push(&mut self, keys: &[K], partitioner: &impl Partitioner<K>) {
        for keys in keys.chunks(TAIL / K::BYTES) {
            memory::extend(&mut self.tail, keys);
            if self.tail.len() * K::BYTES >= TAIL {
                self.scatter_tail(partitioner);
            }
        }
    }

    /// [`Partitions::push`] for batches; if they are many keys, they are scattered at once.
    pub fn push_batches(&mut self, batches: &[&[K]], partitioner: &impl Partitioner<K>) {
        let total: usize = batches.iter().map(|keys| keys.len()).sum();
        if total < BLOCK {
            return batches.iter().for_each(|keys| self.push(keys, partitioner));
        }
        self.scatter_tail(partitioner);
        self.grow(total, partitioner);
        let mut groups: Vec<Vec<&[K]>> = vec![Vec::new()];
        let mut size = 0;
        for keys in batches.iter().flat_map(|keys| keys.chunks(BLOCK)) {
            if size > 0 && size + keys.len() > BLOCK {
                groups.push(Vec::new());
                size = 0;
            }
            groups
                .last_mut()
                .into_iter()
                .for_each(|group| group.push(keys));
            size += keys.len();
        }
        self.scatter_all(groups, partitioner);
    }

    /// Scatters groups of keys, each to a block of its own, in parallel.
    fn scatter_all(&mut self, groups: Vec<Vec<&[K]>>, partitioner: &impl Partitioner<K>) {
        let bits = self.bits;
        let (recycler, buffers) = (&mut self.recycler, &self.buffers);
        let blocks = scatter(groups, (recycler, buffers), bits, partitioner);
        blocks.into_iter().for_each(|block| self.add(block));
    }

    /// Scatters the tail.
    pub fn scatter_tail(&mut self, partitioner: &impl Partitioner<K>) {
        if self.tail.is_empty() {
            return;
        }
        self.grow(self.tail.len(), partitioner);
        let share = self.tail.len().div_ceil(rayon::current_num_threads());
        let groups = self.tail.chunks(BLOCK.min(share.max(1 << 14)));
        let groups = groups.map(|keys| vec![keys]).collect();
        let memory = (&mut self.recycler, &self.buffers);
        let blocks = scatter(groups, memory, self.bits, partitioner);
        blocks.into_iter().for_each(|block| self.add(block));
        self.tail.clear();
        if self.tail.capacity() * K::BYTES > 2 * TAIL {
            self.tail = Vec::new();
        }
    }

    /// Before `more` keys come: scatters all again to many partitions if that makes them many.
    pub fn grow(&mut self, more: usize, partitioner: &impl Partitioner<K>) {
        if self.fixed || self.bits == MANY_BITS || self.len() + more < MANY {
            return;
        }
        let ends = [
            |one: &Progress| one.scored,
            |one: &Progress| one.distinct,
            |one: &Progress| one.total,
        ];
        let mut stages: [Vec<K>; 3] = Default::default();
        for index in 0..self.count() {
            let mut from = 0;
            for (stage, end) in stages.iter_mut().zip(ends) {
                let end = end(&self.progress[index]);
                self.copy(index, from..end, stage);
                from = end;
            }
        }
        let blocks = stages.map(|keys| {
            let memory = reserve(keys.len());
            self.buffers
                .with(|buffer| buffer.scatter_batches(&[&keys], memory, MANY_BITS, partitioner))
        });
        self.bits = MANY_BITS;
        self.blocks.clear();
        self.progress = memory::filled(Progress::default(), 1 << self.bits);
        for (stage, block) in blocks.into_iter().enumerate() {
            self.add(block);
            for one in &mut self.progress {
                match stage {
                    0 => (one.scored, one.distinct) = (one.total, one.total),
                    1 => one.distinct = one.total,
                    _ => {}
                }
            }
        }
    }

    /// Appends a block with as many partitions.
    pub fn add(&mut self, block: ScatteredBlock<K>) {
        if block.keys.is_empty() {
            return self.recycler.give(block.keys);
        }
        for (one, &len) in self.progress.iter_mut().zip(&block.lens) {
            one.total += len as usize;
        }
        self.blocks.push(block);
    }

    /// Memory for blocks of these lengths.
    pub fn memory_for(&mut self, lengths: impl Iterator<Item = usize>) -> Vec<Vec<K>> {
        lengths.map(|length| self.recycler.take(length)).collect()
    }

    /// Whether so much came since the last deduplication that it may free memory.
    pub fn has_grown(&self) -> bool {
        let distinct: usize = self.progress.iter().map(|one| one.distinct).sum();
        self.len() - distinct > TAIL / K::BYTES + distinct / 4
    }

    /// Runs `work` on each partition of a range, in parallel, with its number among all `2^bits`.
    /// It may remove keys: then its `total` says how many of the first ones are left.
    pub fn for_each<R: Send>(
        &mut self,
        range: Range<usize>,
        work: impl Fn(usize, &mut Partition<K>) -> R + Sync,
    ) -> Vec<R> {
        let progress = self.progress[range.clone()].iter_mut();
        let mut views: Vec<Partition<K>> = memory::collect(progress.map(|progress| Partition {
            slices: memory::vec(self.blocks.len()),
            progress,
        }));
        for block in &mut self.blocks {
            let mut from = block.starts[range.start];
            let mut rest = &mut block.keys[from..block.starts[range.end]];
            for (index, view) in range.clone().zip(&mut views) {
                let (own, more) = rest.split_at_mut(block.starts[index + 1] - from);
                (rest, from) = (more, block.starts[index + 1]);
                let len = block.lens[index] as usize;
                if len > 0 {
                    view.slices.push(&mut own[..len]);
                }
            }
        }
        let first = self.first;
        let mut results = memory::vec(views.len());
        let done = catch_unwind(AssertUnwindSafe(|| {
            let views = views.par_iter_mut().enumerate();
            let run = |(i, view): (usize, &mut Partition<K>)| work(first + range.start + i, view);
            views.map(run).collect_into_vec(&mut results);
        }));
        // What was removed is removed, also where the work on other partitions has failed.
        for index in range {
            let mut left = self.progress[index].total;
            for block in &mut self.blocks {
                let own = left.min(block.lens[index] as usize);
                block.lens[index] = own as u32;
                left -= own;
            }
        }
        done.map_or_else(|cause| resume_unwind(cause), |()| results)
    }

    /// Calls `take` with the keys of all partitions, of each from the position that `from` tells, then
    /// with the tail.
    pub fn visit_all(&self, from: impl Fn(&Progress) -> usize, mut take: impl FnMut(&[K])) {
        for (index, progress) in self.progress.iter().enumerate() {
            self.visit(index, from(progress)..progress.total, &mut take);
        }
        take(&self.tail);
    }

    /// The keys of some partitions that are distinct and not scored.
    pub fn unscored_keys(&self, range: Range<usize>) -> Vec<K> {
        let mut out = Vec::new();
        for index in range {
            let Progress {
                distinct, scored, ..
            } = self.progress[index];
            self.copy(index, scored..distinct, &mut out);
        }
        out
    }

    fn copy(&self, index: usize, positions: Range<usize>, out: &mut Vec<K>) {
        self.visit(index, positions, |keys| memory::extend(out, keys));
    }

    /// Calls `take` with some keys of a partition, block after block.
    pub fn visit<'a>(
        &'a self,
        index: usize,
        positions: Range<usize>,
        mut take: impl FnMut(&'a [K]),
    ) {
        let mut before = 0;
        for keys in self.slices(index) {
            let clamp = |position: usize| position.clamp(before, before + keys.len()) - before;
            let own = &keys[clamp(positions.start)..clamp(positions.end)];
            if !own.is_empty() {
                take(own);
            }
            before += keys.len();
        }
    }

    /// Takes the distinct keys of some partitions for scored.
    pub fn mark_scored(&mut self, range: Range<usize>) {
        for one in &mut self.progress[range] {
            one.scored = one.distinct;
        }
    }

    /// Takes all keys for scored; they must be distinct.
    pub fn mark_all_scored(&mut self) {
        self.mark_scored(0..self.count());
    }

    /// Takes the keys that are not scored for scored, and the others for those that wait; all must be
    /// distinct.
    pub fn swap_scored(&mut self) {
        let buffers = ObjectPool::default();
        self.for_each(0..self.count(), |_, partition| {
            buffers.with(|keys| partition.swap_scored(keys));
        });
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        self.blocks
            .drain(..)
            .for_each(|block| self.recycler.give(block.keys));
        self.progress.fill(Progress::default());
        self.tail.clear();
    }

    /// Returns the memory of keys that were removed, and what waits to be used again.
    pub fn shrink(&mut self) {
        self.blocks
            .retain(|block| block.lens.iter().any(|&len| len > 0));
        self.blocks.par_iter_mut().for_each(ScatteredBlock::shrink);
        self.recycler.clear();
        self.buffers.clear();
    }
}
