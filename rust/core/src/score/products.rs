//! The sums of weight times score under one or many keys: exact, and so the same in any order.
//!
//! Where keys share their units, slices of these are unpacked once and scored by all keys while they
//! are in the cache. Where units depend on the key, windows are scattered by unit first, one key at a
//! time, so that equal units meet in a partition that the cache holds.

use crate::dedup::identity::SLICE;
use crate::dedup::object_pool::ObjectPool;
use crate::dedup::partitioner::{Scratch, partition_of};
use crate::error::Result;
use crate::interrupt::{CHECK_INTERVAL, Check};
use crate::key::{Key, Packer};
use crate::memory;
use crate::schemes::{Scheme, ScoreKind};
use crate::score::exact_sum::ExactSum;
use crate::score::tally::WeightSums;
use crate::score::weighted::{
    Combine, Damping, Evidence, Record, UnitCounts, exact_sum, score_value,
};
use crate::simd::vector::Vector;
use crate::simd::{self, Job};
use crate::threads::Pool;
use rayon::prelude::*;

/// Units that all keys score one after the other.
const SHARED: usize = 1 << 11;
/// Most units between two interrupt checks.
const MOST: usize = 1 << 22;
/// Nanoseconds of unpacking a window, and of adding its product.
const OWN: f64 = 2.0;
/// Windows that one worker scatters at once.
const CHUNK: usize = 1 << 17;
/// About how many windows a partition by unit has, and the most partitions, as bits.
const PARTITION: usize = 1 << 12;
const MOST_BITS: u32 = 12;

/// Turns the score words of units into the bits of weight times score.
fn multiply(kind: ScoreKind, weights: &[f64], words: &mut [u64]) {
    let job = Multiply {
        kind,
        weights,
        words,
    };
    if let Err(job) = simd::run(job) {
        job.compute();
    }
}

struct Multiply<'a> {
    kind: ScoreKind,
    weights: &'a [f64],
    words: &'a mut [u64],
}

impl Multiply<'_> {
    #[inline(always)]
    fn compute(self) {
        let pairs = self.words.iter_mut().zip(self.weights);
        match self.kind {
            ScoreKind::Green => pairs.for_each(|(word, w)| {
                *word = w.to_bits() & 0u64.wrapping_sub(*word);
            }),
            ScoreKind::Real => pairs.for_each(|(word, w)| {
                *word = (w * f64::from_bits(*word)).to_bits();
            }),
            ScoreKind::Depths(_) => {
                let mut values = [0.0; 65];
                for (ones, value) in (0..).zip(&mut values) {
                    *value = score_value(self.kind, u64::MAX.checked_shr(64 - ones).unwrap_or(0));
                }
                pairs.for_each(|(word, w)| {
                    *word = (w * values[word.count_ones() as usize]).to_bits();
                });
            }
        }
    }
}

impl Job for Multiply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        self.compute();
    }
}

/// What is computed with.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// How windows are packed.
    pub packer: Packer,
    /// The threads.
    pub pool: &'a Pool,
    /// What becomes of final weights.
    pub damping: Damping,
}

impl Means<'_> {
    /// How many units of a cost in nanoseconds to work on between two interrupt checks.
    fn round(&self, cost: f64) -> usize {
        let threads = self.pool.threads() as f64;
        (CHECK_INTERVAL * threads / (cost + OWN)).clamp(64.0, MOST as f64) as usize
    }

    /// The sums of weights, and of their squares, of some units.
    pub fn weight_sums(&self, weights: &[f64], check: &mut Check<'_>) -> Result<WeightSums> {
        let all = ObjectPool::<(WeightSums, Vec<u64>)>::default();
        for weights in weights.chunks(MOST) {
            check()?;
            let add = |weights: &[f64]| all.with(|(sums, words)| sums.add_weights(weights, words));
            self.pool
                .install(|| weights.par_chunks(CHUNK).for_each(add));
        }
        let mut total = WeightSums::default();
        let parts = all.into_all();
        parts.iter().for_each(|(sums, _)| total.merge(sums));
        Ok(total)
    }

    /// The sum of weight times score of some units under each of some schemes.
    pub fn products<K: Key>(
        &self,
        schemes: &[&dyn Scheme],
        evidence: &Evidence<K>,
        check: &mut Check<'_>,
    ) -> Result<Vec<ExactSum>> {
        let cost: f64 = schemes.iter().map(|scheme| scheme.nanoseconds()).sum();
        let round = self.round(cost);
        let slice = match schemes.iter().any(|s| s.shares_work_within_contexts()) {
            true => SLICE,
            false => SHARED,
        };
        let all = ObjectPool::<(Vec<ExactSum>, Scratch)>::default();
        let score = |(keys, weights): (&[K], &[f64])| {
            all.with(|(sums, scratch)| {
                memory::resize(sums, schemes.len(), ExactSum::default());
                let Scratch { tokens, words, .. } = scratch;
                self.packer.unpack_into(keys, tokens);
                memory::resize(words, keys.len(), 0);
                for (sum, scheme) in sums.iter_mut().zip(schemes) {
                    scheme.scores(tokens, words);
                    multiply(scheme.score_kind(), weights, words);
                    sum.add_all(words);
                }
            });
        };
        let Evidence { keys, weights, .. } = evidence;
        for (keys, weights) in keys.chunks(round).zip(weights.chunks(round)) {
            check()?;
            let slices = keys.par_chunks(slice).zip(weights.par_chunks(slice));
            self.pool.install(|| slices.for_each(score));
        }
        let mut total = memory::filled(ExactSum::default(), schemes.len());
        for (sums, _) in all.into_all() {
            let pairs = total.iter_mut().zip(&sums);
            pairs.for_each(|(sum, more)| sum.merge(more));
        }
        Ok(total)
    }

    /// The sums of a scheme whose units depend on the key, over distinct windows.
    pub fn keyed<K: Key>(
        &self,
        scheme: &dyn Scheme,
        windows: &[Record<K>],
        how: Combine,
        check: &mut Check<'_>,
    ) -> Result<(UnitCounts, WeightSums)> {
        let apart = scheme.has_distinct_units();
        let bits = match apart {
            true => 0,
            false => (windows.len() / PARTITION).max(1).ilog2().min(MOST_BITS),
        };
        let workers = ObjectPool::<Worker<K>>::default();
        let mut blocks: Vec<Block<K>> = Vec::new();
        let chunk = CHUNK.min(self.round(scheme.nanoseconds()));
        for windows in windows.chunks(chunk * self.pool.threads()) {
            check()?;
            let scatter = |windows: &[Record<K>]| {
                workers.with(|worker| {
                    if !apart {
                        return worker.scatter(scheme, self.packer, windows, bits);
                    }
                    for windows in windows.chunks(SLICE) {
                        worker.records.clear();
                        memory::extend(&mut worker.records, windows);
                        worker.score(scheme, self, None);
                    }
                    Block::default()
                })
            };
            let scattered = || windows.par_chunks(chunk).map(scatter).collect::<Vec<_>>();
            memory::append(&mut blocks, self.pool.install(scattered));
        }
        let (all, mut from) = (1usize << bits, 0);
        while from < all && !apart {
            check()?;
            let round = self.round(scheme.nanoseconds() + 20.0) * all / windows.len().max(1);
            let end = all.min(from + round.max(1));
            let partition = |index: usize| {
                workers.with(|worker| {
                    worker.records.clear();
                    for block in &blocks {
                        let own = block.starts[index] as usize..block.starts[index + 1] as usize;
                        memory::extend(&mut worker.records, &block.records[own]);
                    }
                    worker.score(scheme, self, Some(how));
                });
            };
            self.pool
                .install(|| (from..end).into_par_iter().for_each(partition));
            from = end;
        }
        let (mut counts, mut sums) = (UnitCounts::default(), WeightSums::default());
        for worker in workers.into_all() {
            counts.merge(&worker.counts);
            sums.merge(&worker.sums);
        }
        Ok((counts, sums))
    }
}

/// The windows of a chunk, by partition of their units.
struct Block<K> {
    records: Vec<Record<K>>,
    starts: Vec<u32>,
}

impl<K> Default for Block<K> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            starts: Vec::new(),
        }
    }
}

/// A worker's memory and sums.
#[derive(Default)]
struct Worker<K> {
    scratch: Scratch,
    records: Vec<Record<K>>,
    partitions: Vec<u16>,
    keys: Vec<K>,
    weights: Vec<f64>,
    slots: Vec<u32>,
    /// Windows with the unit of another, behind that.
    equal: Vec<(u32, u32)>,
    counts: UnitCounts,
    sums: WeightSums,
}

/// The mark of a window without a key, or of one whose unit another one stands for.
const GONE: u16 = u16::MAX;
/// The mark of an empty slot.
const EMPTY: u32 = u32::MAX;

impl<K: Key> Worker<K> {
    /// Unpacks windows.
    fn unpack(&mut self, packer: Packer, records: &[Record<K>]) {
        self.keys.clear();
        memory::append(&mut self.keys, records.iter().map(|record| record.key));
        packer.unpack_into(&self.keys, &mut self.scratch.tokens);
    }

    /// Marks and counts the unpacked windows without a key.
    fn drop_keyless(&mut self, scheme: &dyn Scheme, partitions: &mut [u16]) {
        let Scratch {
            tokens, keyless, ..
        } = &mut self.scratch;
        keyless.clear();
        memory::resize(keyless, partitions.len(), false);
        if scheme.keyless(tokens, keyless) {
            let marked = partitions.iter_mut().zip(keyless);
            for (partition, _) in marked.filter(|(_, keyless)| **keyless) {
                *partition = GONE;
                self.counts.keyless += 1;
            }
        }
    }

    /// Scatters windows by their units.
    fn scatter(
        &mut self,
        scheme: &dyn Scheme,
        packer: Packer,
        windows: &[Record<K>],
        bits: u32,
    ) -> Block<K> {
        let mut partitions = std::mem::take(&mut self.partitions);
        partitions.clear();
        memory::resize(&mut partitions, windows.len(), 0);
        let by_seed = scheme.shares_work_within_contexts();
        for (records, partitions) in windows.chunks(SLICE).zip(partitions.chunks_mut(SLICE)) {
            self.unpack(packer, records);
            let Scratch { tokens, ids, .. } = &mut self.scratch;
            memory::resize(ids, records.len(), 0);
            scheme.units(tokens, ids);
            for (partition, &id) in partitions.iter_mut().zip(&*ids) {
                let hash = match by_seed {
                    true => ((id >> 32) as u64).spread(),
                    false => id.spread(),
                };
                *partition = if bits == 0 {
                    0
                } else {
                    partition_of(hash, bits) as u16
                };
            }
            self.drop_keyless(scheme, partitions);
        }
        let mut starts = memory::filled(0u32, (1 << bits) + 1);
        for &partition in partitions.iter().filter(|&&partition| partition != GONE) {
            starts[usize::from(partition) + 1] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let total = starts.last().copied().unwrap_or_default();
        let mut records = memory::filled(Record::default(), total as usize);
        let mut cursors = memory::copy(&starts);
        for (record, &partition) in windows.iter().zip(&partitions) {
            if partition != GONE {
                let cursor = &mut cursors[usize::from(partition)];
                records[*cursor as usize] = *record;
                *cursor += 1;
            }
        }
        self.partitions = partitions;
        Block { records, starts }
    }

    /// Adds the windows at hand to the sums, those of one unit as one, if they may be equal.
    fn score(&mut self, scheme: &dyn Scheme, means: &Means<'_>, how: Option<Combine>) {
        let Means {
            packer, damping, ..
        } = *means;
        let records = std::mem::take(&mut self.records);
        let mut gone = std::mem::take(&mut self.partitions);
        gone.clear();
        memory::resize(&mut gone, records.len(), 0);
        self.unpack(packer, &records);
        self.weights.clear();
        memory::append(&mut self.weights, records.iter().map(|r| r.weight));
        match how {
            Some(how) => self.combine(scheme, &records, how, &mut gone),
            None => self.drop_keyless(scheme, &mut gone),
        }
        let mut kept = 0;
        for row in (0..records.len()).filter(|&row| gone[row] != GONE) {
            if self.weights[row] == 0.0 {
                self.counts.zero += 1;
                continue;
            }
            self.keys[kept] = self.keys[row];
            self.weights[kept] = damping.saturated(self.weights[row]);
            kept += 1;
        }
        self.keys.truncate(kept);
        self.weights.truncate(kept);
        self.counts.scored += kept as u64;
        let Scratch { tokens, words, .. } = &mut self.scratch;
        packer.unpack_into(&self.keys, tokens);
        self.sums.add_weights(&self.weights, words);
        memory::resize(words, kept, 0);
        scheme.scores(tokens, words);
        multiply(scheme.score_kind(), &self.weights, words);
        self.sums.product.add_all(words);
        (self.records, self.partitions) = (records, gone);
    }

    /// Gives one window of each unit the weight of all.
    fn combine(
        &mut self,
        scheme: &dyn Scheme,
        records: &[Record<K>],
        how: Combine,
        gone: &mut [u16],
    ) {
        let Scratch { tokens, ids, .. } = &mut self.scratch;
        memory::resize(ids, records.len(), 0);
        scheme.units(tokens, ids);
        let slots = (2 * records.len()).next_power_of_two().max(2);
        let shift = 64 - slots.ilog2();
        self.slots.clear();
        memory::resize(&mut self.slots, slots, EMPTY);
        self.equal.clear();
        for (row, &id) in ids.iter().enumerate() {
            let mut slot = (id.fold().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize;
            loop {
                let there = self.slots[slot];
                if there == EMPTY {
                    self.slots[slot] = row as u32;
                    break;
                }
                if ids[there as usize] == id {
                    memory::push(&mut self.equal, (there, row as u32));
                    gone[row] = GONE;
                    break;
                }
                slot = (slot + 1) & (slots - 1);
            }
        }
        self.equal.sort_unstable();
        for own in self.equal.chunk_by(|a, b| a.0 == b.0) {
            let first = own[0].0 as usize;
            self.weights[first] = match how {
                Combine::Sum => {
                    let mut rows = memory::vec(own.len() + 1);
                    rows.push(records[first].weight);
                    rows.extend(own.iter().map(|&(_, row)| records[row as usize].weight));
                    exact_sum(rows.into_iter())
                }
                Combine::One | Combine::First => {
                    let rows = own.iter().map(|&(_, row)| row as usize);
                    let earliest = rows.min_by_key(|&row| (records[row].order, row));
                    let earliest = earliest
                        .filter(|&row| records[row].order < records[first].order)
                        .unwrap_or(first);
                    records[earliest].weight
                }
            };
        }
    }
}
