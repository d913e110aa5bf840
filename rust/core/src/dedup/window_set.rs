//! Windows cut from documents, each once.

use crate::dedup::identity::{Identity, Workspace};
use crate::dedup::object_pool::ObjectPool;
use crate::dedup::partitioner::PartitionBuffer;
use crate::dedup::partitions::Partitions;
use crate::dedup::scatter::ScatteredBlock;
use crate::input::counts::Counts;
use crate::input::source::Source;
use crate::input::windows::{WindowBuffer, WindowPlan};
use crate::key::Key;
use crate::memory;
use crate::threads::Pool;
use rayon::prelude::*;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Token positions that one worker cuts in one go.
const CHUNK: usize = 1 << 16;
/// Bytes of windows that it cuts and scatters in one go where a range is long.
const LONG_BYTES: usize = 1 << 24;
/// Token positions from which a range is long.
const LONG: usize = 1 << 17;

/// Removes the repetitions of some partitions, and adds how many there were to `removed`: also of
/// those that were done when the memory for the others ran out.
pub fn dedup<K: Key>(
    partitions: &mut Partitions<K>,
    range: Range<usize>,
    workspaces: &ObjectPool<Workspace<K>>,
    identity: &Identity,
    removed: &mut u64,
) {
    let bits = partitions.bits();
    let done = AtomicU64::new(0);
    let run = catch_unwind(AssertUnwindSafe(|| {
        partitions.for_each(range, |index, partition| {
            let own =
                workspaces.with(|workspace| identity.dedup(partition, workspace, (index, bits)));
            done.fetch_add(own.unwrap_or_default() as u64, Ordering::Relaxed);
        });
    }));
    *removed += done.into_inner();
    run.unwrap_or_else(|cause| resume_unwind(cause));
}

/// A set of windows that grows: documents in, windows by partition out, repetitions removed on demand.
///
/// What is added was read later than all before; that decides which of several equal windows stays.
pub struct WindowSet<K: Key> {
    /// Which windows are equal.
    pub identity: Identity,
    /// The windows.
    pub partitions: Partitions<K>,
    /// Repetitions that were removed.
    pub duplicates: u64,
    workspaces: ObjectPool<Workspace<K>>,
    buffers: ObjectPool<PartitionBuffer<K>>,
}

impl<K: Key> WindowSet<K> {
    /// An empty set.
    pub fn new(identity: Identity, partitions: Partitions<K>) -> Self {
        Self {
            identity,
            partitions,
            duplicates: 0,
            workspaces: ObjectPool::default(),
            buffers: ObjectPool::default(),
        }
    }

    /// Adds the windows whose targets are in a token range of the source, in the current rayon pool;
    /// returns what was counted on the way, without the documents.
    pub fn add_range(
        &mut self,
        plan: &WindowPlan<K>,
        source: &Source,
        range: Range<usize>,
    ) -> Counts {
        match range.len() >= LONG {
            true => self.add_long(plan, source, range),
            false => self.add_short(plan, source, range),
        }
    }

    fn add_short(&mut self, plan: &WindowPlan<K>, source: &Source, range: Range<usize>) -> Counts {
        let prompts = plan.prompt_sets(source, &range, CHUNK);
        let cut = |chunk: &Range<usize>, windows: &mut WindowBuffer<K>| {
            let mut all = Vec::with_capacity(chunk.len());
            let counts = plan.key_blocks(source, chunk.clone(), &prompts, windows, |keys| {
                memory::extend(&mut all, keys);
            });
            (all, counts)
        };
        let batches: Vec<(Vec<K>, Counts)> = chunks(&range, CHUNK)
            .par_iter()
            .map_init(WindowBuffer::default, |windows, chunk| cut(chunk, windows))
            .collect();
        let mut total = Counts::default();
        for (keys, counts) in &batches {
            total.merge(counts);
            self.push(keys);
        }
        total
    }

    /// Each worker takes a long chunk, finds the partition of each window, then cuts them again and
    /// scatters them. Cutting twice is cheaper than writing the windows down in between, unless each
    /// is looked up in sets.
    fn add_long(&mut self, plan: &WindowPlan<K>, source: &Source, range: Range<usize>) -> Counts {
        let Self {
            identity,
            partitions,
            buffers,
            ..
        } = self;
        partitions.scatter_tail(identity);
        partitions.grow(range.len(), identity);
        let threads = rayon::current_num_threads();
        let count = range
            .len()
            .div_ceil(LONG_BYTES / K::BYTES)
            .next_multiple_of(threads);
        let size = range.len().div_ceil(count);
        let chunks = chunks(&range, size);
        let memory = partitions.memory_for(chunks.iter().map(Range::len));
        let prompts = plan.prompt_sets(source, &range, size);
        let (bits, cut_twice) = (partitions.bits(), plan.keeps_all(source));
        let scatter = |chunk: Range<usize>, memory: Vec<K>, windows: &mut WindowBuffer<K>| {
            buffers.with(|buffer| {
                let mut all = std::mem::take(&mut buffer.keys);
                all.clear();
                buffer.begin(bits);
                let cut = chunk.clone();
                let counts = plan.key_blocks(source, cut, &prompts, windows, |keys| {
                    buffer.count(keys, &*identity);
                    if !cut_twice {
                        memory::extend(&mut all, keys);
                    }
                });
                let block = buffer.scatter(memory, |push| {
                    if cut_twice {
                        plan.key_blocks(source, chunk, &prompts, windows, push);
                    } else {
                        push(&all);
                    }
                });
                buffer.keys = all;
                (block, counts)
            })
        };
        let blocks: Vec<(ScatteredBlock<K>, Counts)> = chunks
            .into_par_iter()
            .zip(memory)
            .map_init(WindowBuffer::default, |windows, (chunk, memory)| {
                scatter(chunk, memory, windows)
            })
            .collect();
        let mut total = Counts::default();
        for (block, counts) in blocks {
            total.merge(&counts);
            partitions.add(block);
        }
        total
    }

    /// Adds windows.
    pub fn push(&mut self, keys: &[K]) {
        self.partitions.push(keys, &self.identity);
    }

    /// Removes the repetitions of some partitions, but not those that wait in the tail.
    pub fn dedup(&mut self, range: Range<usize>, pool: &Pool) {
        let (partitions, workspaces) = (&mut self.partitions, &self.workspaces);
        let (identity, removed) = (&self.identity, &mut self.duplicates);
        pool.install(|| dedup(partitions, range, workspaces, identity, removed));
    }

    /// Removes all repetitions.
    pub fn dedup_all(&mut self, pool: &Pool) {
        pool.install(|| self.partitions.scatter_tail(&self.identity));
        self.dedup(0..self.partitions.count(), pool);
    }
}

/// A range of token positions in chunks.
pub fn chunks(range: &Range<usize>, size: usize) -> Vec<Range<usize>> {
    range
        .clone()
        .step_by(size)
        .map(|from| from..range.end.min(from + size))
        .collect()
}
