//! Windows that wait to be deduplicated, and those that were: partitioned by a hash, in reading
//! order within each partition. Deduplication is put off until somebody asks, since a partition
//! that is done at one go stays in the cache.

use crate::dedup::scatter::{Run, Scatterer};
use crate::key::Key;
use crate::recycler::{BlockRecycler, reserve};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Partitions of a small store and of a large one, as bits. Results do not depend on it.
const FEW_BITS: u32 = 1;
pub(crate) const MANY_BITS: u32 = 12;
/// Keys from which a store is a large one.
const MANY: usize = 1 << 17;
/// Keys that are gathered before they are scattered.
const TAIL: usize = 1 << 22;
/// Keys of one run that the tail is cut into.
const RUN: usize = 1 << 20;

/// Things that are reused by whichever thread needs one.
#[derive(Debug, Default)]
pub struct Bench<T>(Mutex<Vec<T>>);

impl<T: Default> Bench<T> {
    /// Runs `work` with one of the things.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = lock().pop();
        let mut thing = waiting.unwrap_or_default();
        let result = work(&mut thing);
        lock().push(thing);
        result
    }

    /// Drops all things.
    pub fn clear(&mut self) {
        self.0
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Tells the partitions of keys: the highest bits of some hash, at most 16.
pub trait Placing<K>: Sync {
    /// Writes the partition of each key, among `2^bits`.
    fn places(&self, keys: &[K], bits: u32, scratch: &mut Scratch, out: &mut [u16]);
}

/// See the module.
pub struct Store<K: Key> {
    bits: u32,
    /// The first partition, where the store holds only some.
    base: usize,
    /// Whether the number of partitions stays as it is.
    fixed: bool,
    /// Read after all runs, not partitioned yet.
    tail: Vec<K>,
    runs: Vec<Run<K>>,
    progress: Vec<Progress>,
    arena: BlockRecycler<K>,
    scatterers: Bench<Sorting<K>>,
}

/// How far a partition has come: its first keys are distinct, and the first of those are scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys, over all runs.
    pub total: usize,
    /// Leading keys that are known to be distinct.
    pub distinct: usize,
    /// Leading keys that are scored.
    pub scored: usize,
}

/// The keys of one partition.
pub struct Part<'a, K> {
    /// Its keys, run after run.
    pub slices: Vec<&'a mut [K]>,
    /// How far it has come.
    pub progress: &'a mut Progress,
}

impl<K: Key> Part<'_, K> {
    /// Copies the keys from a place on.
    pub fn gather(&self, from: usize, out: &mut Vec<K>) {
        out.clear();
        let mut skip = from;
        for slice in &self.slices {
            let own = skip.min(slice.len());
            out.extend_from_slice(&slice[own..]);
            skip -= own;
        }
    }

    /// Replaces the keys from a place on.
    pub fn replace(&mut self, from: usize, keys: &[K]) {
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

impl<K: Key> Default for Store<K> {
    fn default() -> Self {
        Self {
            bits: FEW_BITS,
            base: 0,
            fixed: false,
            tail: Vec::new(),
            runs: Vec::new(),
            progress: vec![Progress::default(); 1 << FEW_BITS],
            arena: BlockRecycler::default(),
            scatterers: Bench::default(),
        }
    }
}

impl<K: Key> Drop for Store<K> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<K: Key> Store<K> {
    /// The partitions are those of the highest bits of a hash; how many.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// An empty store for some of `2^bits` partitions.
    pub fn window(bits: u32, parts: Range<usize>) -> Self {
        let mut store = Self::default();
        (store.bits, store.base, store.fixed) = (bits, parts.start, true);
        store.progress = vec![Progress::default(); parts.len()];
        store
    }

    /// Number of partitions that it holds.
    pub fn parts(&self) -> usize {
        self.progress.len()
    }

    /// The keys of a partition.
    pub fn slices(&self, part: usize) -> Vec<&[K]> {
        self.runs.iter().map(|run| run.part(part)).collect()
    }

    /// Memory for runs to come.
    pub fn arena(&mut self) -> &mut BlockRecycler<K> {
        &mut self.arena
    }

    /// Keys that it holds.
    pub fn len(&self) -> usize {
        self.tail.len() + self.progress.iter().map(|part| part.total).sum::<usize>()
    }

    /// Whether there are too few partitions to keep all workers busy.
    pub fn is_small(&self) -> bool {
        self.bits == FEW_BITS
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys that are not known to be distinct.
    pub fn backlog(&self) -> usize {
        let waiting = |part: &Progress| part.total - part.distinct;
        self.tail.len() + self.progress.iter().map(waiting).sum::<usize>()
    }

    /// Keys that are not scored.
    pub fn unscored(&self) -> usize {
        let waiting = |part: &Progress| part.total - part.scored;
        self.tail.len() + self.progress.iter().map(waiting).sum::<usize>()
    }

    /// Bytes of the keys that it holds; not those of memory that waits to be used again.
    pub fn bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(Run::bytes).sum();
        runs + self.tail.len() * K::BYTES
    }

    /// How far a partition has come.
    pub fn progress(&self, part: usize) -> Progress {
        self.progress[part]
    }

    /// The end of the partitions from `from` on that together hold about `most` keys that wait.
    pub fn round(&self, from: usize, most: usize, waiting: impl Fn(&Progress) -> usize) -> usize {
        let mut sum = 0;
        let rest = self.progress[from..].iter();
        let count = rest
            .take_while(|part| {
                let go = sum == 0 || sum + waiting(part) <= most;
                sum += waiting(part);
                go
            })
            .count();
        from + count
    }

    /// Appends keys, read after all others; partitions them once there are many.
    pub fn push(&mut self, keys: &[K], placing: &impl Placing<K>) {
        for keys in keys.chunks(TAIL) {
            self.tail.extend_from_slice(keys);
            if self.tail.len() >= TAIL {
                self.settle(placing);
            }
        }
    }

    /// Appends batches of keys; what is much is partitioned at once.
    pub fn extend(&mut self, batches: &[&[K]], placing: &impl Placing<K>) {
        let total: usize = batches.iter().map(|keys| keys.len()).sum();
        if total < RUN {
            return batches.iter().for_each(|keys| self.push(keys, placing));
        }
        self.settle(placing);
        self.grow(total, placing);
        let mut groups: Vec<Vec<&[K]>> = vec![Vec::new()];
        let mut size = 0;
        for keys in batches.iter().flat_map(|keys| keys.chunks(RUN)) {
            if size > 0 && size + keys.len() > RUN {
                groups.push(Vec::new());
                size = 0;
            }
            groups
                .last_mut()
                .into_iter()
                .for_each(|group| group.push(keys));
            size += keys.len();
        }
        self.scatter_all(groups, placing);
    }

    /// Scatters groups of keys, each to a run of its own.
    fn scatter_all(&mut self, groups: Vec<Vec<&[K]>>, placing: &impl Placing<K>) {
        let length = |group: &Vec<&[K]>| group.iter().map(|keys| keys.len()).sum();
        let targets = self.targets(groups.iter().map(length));
        let (bits, scatterers) = (self.bits, &self.scatterers);
        let runs: Vec<Run<K>> = groups
            .into_par_iter()
            .zip(targets)
            .map(|(group, target)| {
                scatterers.with(|desk| desk.scatter_batches(&group, target, bits, placing))
            })
            .collect();
        runs.into_iter().for_each(|run| self.add(run));
    }

    /// Partitions what is not yet.
    pub fn settle(&mut self, placing: &impl Placing<K>) {
        if self.tail.is_empty() {
            return;
        }
        self.grow(self.tail.len(), placing);
        let tail = std::mem::take(&mut self.tail);
        let share = tail.len().div_ceil(rayon::current_num_threads());
        let groups = tail.chunks(RUN.min(share.max(1 << 14)));
        self.scatter_all(groups.map(|keys| vec![keys]).collect(), placing);
        if tail.capacity() <= 2 * TAIL {
            self.tail = tail;
            self.tail.clear();
        }
    }

    /// Makes the partitions many before `more` keys come, where they will be many.
    pub fn grow(&mut self, more: usize, placing: &impl Placing<K>) {
        if self.fixed || self.bits == MANY_BITS || self.len() + more < MANY {
            return;
        }
        let ends = [
            |p: &Progress| p.scored,
            |p: &Progress| p.distinct,
            |p: &Progress| p.total,
        ];
        let mut stages: [Vec<K>; 3] = Default::default();
        for part in 0..self.parts() {
            let mut from = 0;
            for (stage, end) in stages.iter_mut().zip(ends) {
                let end = end(&self.progress[part]);
                self.copy_part(part, from, end, stage);
                from = end;
            }
        }
        self.bits = MANY_BITS;
        self.runs.clear();
        self.progress = vec![Progress::default(); 1 << self.bits];
        for (index, keys) in stages.iter().enumerate() {
            let (bits, target) = (self.bits, reserve(keys.len()));
            let run = self
                .scatterers
                .with(|desk| desk.scatter_batches(&[keys], target, bits, placing));
            self.add(run);
            for part in &mut self.progress {
                match index {
                    0 => (part.scored, part.distinct) = (part.total, part.total),
                    1 => part.distinct = part.total,
                    _ => {}
                }
            }
        }
    }

    /// Appends a run that has as many partitions.
    pub fn add(&mut self, run: Run<K>) {
        if run.keys.is_empty() {
            return self.arena.give(run.keys);
        }
        for (part, &len) in self.progress.iter_mut().zip(&run.lens) {
            part.total += len as usize;
        }
        self.runs.push(run);
    }

    /// Vectors for the keys of runs to come.
    pub fn targets(&mut self, lengths: impl Iterator<Item = usize>) -> Vec<Vec<K>> {
        lengths.map(|length| self.arena.take(length)).collect()
    }

    /// Runs `work` on each partition of a range, in parallel, with its number. It may take keys away: `total` says
    /// then how many of the first are left.
    pub fn for_parts<R: Send>(
        &mut self,
        parts: Range<usize>,
        work: impl Fn(usize, &mut Part<K>) -> R + Sync,
    ) -> Vec<R> {
        let progress = self.progress[parts.clone()].iter_mut();
        let mut views: Vec<Part<K>> = progress
            .map(|progress| Part {
                slices: Vec::with_capacity(self.runs.len()),
                progress,
            })
            .collect();
        for run in &mut self.runs {
            let mut at = run.starts[parts.start];
            let mut rest = &mut run.keys[at..run.starts[parts.end]];
            for (index, view) in parts.clone().zip(&mut views) {
                let (own, more) = rest.split_at_mut(run.starts[index + 1] - at);
                (rest, at) = (more, run.starts[index + 1]);
                let len = run.lens[index] as usize;
                if len > 0 {
                    view.slices.push(&mut own[..len]);
                }
            }
        }
        let base = self.base;
        let results = views
            .par_iter_mut()
            .enumerate()
            .map(|(i, view)| work(base + parts.start + i, view))
            .collect();
        for index in parts {
            let mut left = self.progress[index].total;
            for run in &mut self.runs {
                let own = left.min(run.lens[index] as usize);
                run.lens[index] = own as u32;
                left -= own;
            }
        }
        results
    }

    /// All keys of some partitions from `from` of each on, as `for_parts` has them, then the tail.
    pub fn export(&self, from: impl Fn(&Progress) -> usize) -> Vec<K> {
        let mut out = Vec::new();
        for part in 0..self.parts() {
            let progress = &self.progress[part];
            self.copy_part(part, from(progress), progress.total, &mut out);
        }
        out.extend_from_slice(&self.tail);
        out
    }

    /// The keys of some partitions that are distinct and not scored.
    pub fn unscored_keys(&self, parts: Range<usize>) -> Vec<K> {
        let mut out = Vec::new();
        for part in parts {
            let Progress {
                distinct, scored, ..
            } = self.progress[part];
            self.copy_part(part, scored, distinct, &mut out);
        }
        out
    }

    /// Appends the keys `from..to` of a partition.
    fn copy_part(&self, part: usize, from: usize, to: usize, out: &mut Vec<K>) {
        self.visit(part, from..to, |keys| out.extend_from_slice(keys));
    }

    /// Appends some keys of a partition where they lie.
    pub fn slices_of<'a>(&'a self, part: usize, range: Range<usize>, out: &mut Vec<&'a [K]>) {
        self.visit(part, range, |keys| out.push(keys));
    }

    fn visit<'a>(&'a self, part: usize, range: Range<usize>, mut take: impl FnMut(&'a [K])) {
        let mut at = 0;
        for run in &self.runs {
            let keys = run.part(part);
            let clamp = |place: usize| place.clamp(at, at + keys.len()) - at;
            let own = &keys[clamp(range.start)..clamp(range.end)];
            if !own.is_empty() {
                take(own);
            }
            at += keys.len();
        }
    }

    /// Takes what is distinct in some partitions for scored.
    pub fn mark_parts_scored(&mut self, parts: Range<usize>) {
        for part in &mut self.progress[parts] {
            part.scored = part.distinct;
        }
    }

    /// Takes all that is distinct for scored.
    pub fn mark_scored(&mut self) {
        self.mark_parts_scored(0..self.parts());
    }

    /// Forgets all keys.
    pub fn clear(&mut self) {
        self.runs
            .drain(..)
            .for_each(|run| self.arena.give(run.keys));
        self.progress.fill(Progress::default());
        self.tail.clear();
    }

    /// Returns the memory behind keys that were dropped, and what waits to be used again.
    pub fn shrink(&mut self) {
        self.runs.retain(|run| run.lens.iter().any(|&len| len > 0));
        self.runs.par_iter_mut().for_each(Run::shrink);
        self.arena.clear();
        self.scatterers.clear();
    }
}

/// The partition of a hash among `2^bits`.
#[inline]
pub fn part_of(hash: u64, bits: u32) -> usize {
    (hash >> (64 - bits)) as usize
}

/// What a worker needs to look at the tokens of windows.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) tokens: Vec<u32>,
    pub(crate) words: Vec<u64>,
    pub(crate) keyless: Vec<bool>,
    /// What makes windows the same, where they are not compared themselves.
    pub(crate) ids: Vec<u128>,
}

/// What a worker needs to scatter keys.
pub(crate) struct Sorting<K> {
    /// Keys that were cut, where all are needed at once.
    pub(crate) keys: Vec<K>,
    places: Vec<u16>,
    counts: Vec<u32>,
    scratch: Scratch,
    scatterer: Scatterer<K>,
}

impl<K: Key> Default for Sorting<K> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            places: Vec::new(),
            counts: Vec::new(),
            scratch: Scratch::default(),
            scatterer: Scatterer::default(),
        }
    }
}

impl<K: Key> Sorting<K> {
    /// Begins a run over `2^bits` partitions.
    pub(crate) fn begin(&mut self, bits: u32) {
        self.places.clear();
        self.counts.clear();
        self.counts.resize(1 << bits, 0);
    }

    /// Finds the partitions of the next keys of the run.
    pub(crate) fn place(&mut self, keys: &[K], placing: &impl Placing<K>) {
        let (from, bits) = (self.places.len(), self.counts.len().trailing_zeros());
        self.places.resize(from + keys.len(), 0);
        let places = &mut self.places[from..];
        placing.places(keys, bits, &mut self.scratch, places);
        for &place in &*places {
            self.counts[usize::from(place)] += 1;
        }
    }

    /// Scatters all keys of the run, in the same order: `feed` calls what it is given with them.
    pub(crate) fn scatter(
        &mut self,
        target: Vec<K>,
        feed: impl FnOnce(&mut dyn FnMut(&[K])),
    ) -> Run<K> {
        let (scatterer, mut places) = (&mut self.scatterer, &self.places[..]);
        scatterer.begin(&self.counts, target);
        feed(&mut |keys| {
            let (own, rest) = places.split_at(keys.len());
            for (&key, &place) in keys.iter().zip(own) {
                scatterer.push(key, place.into());
            }
            places = rest;
        });
        scatterer.finish()
    }

    /// Scatters batches of keys to `2^bits` partitions.
    pub(crate) fn scatter_batches(
        &mut self,
        batches: &[&[K]],
        target: Vec<K>,
        bits: u32,
        placing: &impl Placing<K>,
    ) -> Run<K> {
        self.begin(bits);
        for keys in batches {
            self.place(keys, placing);
        }
        self.scatter(target, |push| batches.iter().for_each(|keys| push(keys)))
    }
}
