//! What each scheme has scored of the distinct windows of a frame.

use crate::distinct::{Contexts, NarrowContexts, Table, Units, Windows};
use crate::error::Result;
use crate::frame::Rule;
use crate::kernels;
use crate::kernels::vector::Vector;
use crate::key::{Key, Packer};
use crate::pool::Pool;
use crate::schemes::{Scheme, slice_len};
use crate::store::{Bench, Part, Placing, Progress, Store, part_of};
use crate::tally::Sums;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Windows that one worker unpacks and scores at one go.
const SLICE: usize = 1 << 13;
/// Windows that are deduplicated between two looks at the caller's wish to stop.
pub(crate) const ROUND: usize = 1 << 22;

/// Nanoseconds of scoring a window up to which it is scored where it is deduplicated.
const QUICK: f64 = 500.0;
/// Nanoseconds of one core between two looks at the caller's wish to stop.
const PATIENCE: f64 = 1e8;

/// What a worker needs to deduplicate and score a partition.
#[derive(Debug, Default)]
pub struct Desk<K> {
    keys: Vec<K>,
    units: Vec<u128>,
    scratch: Scratch,
    windows: Table<K>,
    contexts: Table<u64>,
    unit_table: Table<u128>,
}

/// What a worker needs to score windows.
#[derive(Debug, Default)]
struct Scratch {
    tokens: Vec<u32>,
    words: Vec<u64>,
    keyless: Vec<bool>,
}

/// Bits of a hash that each level of partitions has for itself.
const LEVEL_BITS: u32 = 20;

/// Places windows by their context, so that what shares a context shares a partition; within one
/// that is split further (levels from 1 on) by what makes them the same.
#[derive(Debug, Clone, Copy)]
pub struct ByWindow {
    /// How windows are packed.
    pub packer: Packer,
    /// What makes them the same.
    pub rule: Rule,
    /// 0, or how often the partition was split.
    pub level: u32,
}

impl ByWindow {
    /// The hash that decides on the partition.
    #[inline(always)]
    pub fn hash<K: Key>(self, window: K) -> u64 {
        if self.level == 0 {
            return self.packer.context(window).spread();
        }
        let id = match self.rule {
            Rule::Context => self.packer.context(window),
            _ => window,
        };
        id.mix().rotate_left(LEVEL_BITS * self.level)
    }

    /// The partitions of windows among `2^bits`.
    #[inline]
    pub fn places<K: Key>(self, keys: &[K], bits: u32, out: &mut [u16]) {
        let work = Places {
            placing: self,
            keys,
            bits,
            out,
        };
        if let Err(work) = kernels::run(work) {
            work.compute();
        }
    }

    /// The same of what makes windows the same.
    fn hash_id<K: Key>(self, id: K) -> u64 {
        match self.rule {
            Rule::Context if self.level == 0 => id.spread(),
            Rule::Context => id.mix().rotate_left(LEVEL_BITS * self.level),
            _ => self.hash(id),
        }
    }
}

/// Partitions of windows, to be computed side by side.
struct Places<'a, K> {
    placing: ByWindow,
    keys: &'a [K],
    bits: u32,
    out: &'a mut [u16],
}

impl<K: Key> Places<'_, K> {
    #[inline(always)]
    fn compute(self) {
        for (out, &key) in self.out.iter_mut().zip(self.keys) {
            *out = part_of(self.placing.hash(key), self.bits) as u16;
        }
    }
}

impl<K: Key> kernels::Work for Places<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        self.compute();
    }
}

impl<K: Key> Placing<K> for ByWindow {
    fn place(&self, keys: &mut Vec<K>, hashes: &mut Vec<u64>) {
        hashes.extend(keys.iter().map(|&key| self.hash(key)));
    }
}

/// Places windows by their unit and leaves out, and counts, those without a key.
pub struct ByUnit<'a> {
    scheme: &'a dyn Scheme,
    packer: Packer,
    level: u32,
    keyless: AtomicU64,
}

impl<'a> ByUnit<'a> {
    /// Nothing counted yet.
    pub fn new(scheme: &'a dyn Scheme, packer: Packer, level: u32) -> Self {
        Self {
            scheme,
            packer,
            level,
            keyless: AtomicU64::new(0),
        }
    }

    /// Windows that were left out.
    pub fn keyless(self) -> u64 {
        self.keyless.into_inner()
    }
}

impl<K: Key> Placing<K> for ByUnit<'_> {
    fn place(&self, keys: &mut Vec<K>, hashes: &mut Vec<u64>) {
        let (mut tokens, mut kept) = (Vec::new(), 0);
        let mut units = vec![0u128; SLICE];
        let mut flags = vec![false; SLICE];
        for from in (0..keys.len()).step_by(SLICE) {
            let range = from..keys.len().min(from + SLICE);
            let count = range.len();
            self.packer.unpack_into(&keys[range], &mut tokens);
            self.scheme.units(&tokens, &mut units[..count]);
            let some = self.scheme.keyless(&tokens, &mut flags[..count]);
            for row in 0..count {
                if some && std::mem::take(&mut flags[row]) {
                    continue;
                }
                keys[kept] = keys[from + row];
                hashes.push(units[row].mix().rotate_left(LEVEL_BITS * self.level));
                kept += 1;
            }
        }
        self.keyless
            .fetch_add((keys.len() - kept) as u64, Ordering::Relaxed);
        keys.truncate(kept);
    }
}

/// An identity whose hash lies in another partition: it is none of this partition's.
fn foreign<I: Key>(part: usize, bits: u32, hash: impl Fn(I) -> u64) -> I {
    (0..)
        .map(|i| I::default().push(i, 20).push(i, 20).push(i, 20))
        .find(|&id| part_of(hash(id), bits) != part)
        .unwrap_or_default()
}

/// Deduplicates a partition of windows, which are at the desk then; returns how many were removed.
/// `None`, and nothing at the desk, where all were known to be distinct.
fn dedup_windows<K: Key>(
    part: &mut Part<K>,
    desk: &mut Desk<K>,
    (index, bits): (usize, u32),
    placing: ByWindow,
) -> Option<usize> {
    let ByWindow { packer, rule, .. } = placing;
    let Progress {
        total, distinct, ..
    } = *part.progress;
    if distinct == total || rule == Rule::None {
        part.progress.distinct = total;
        return None;
    }
    part.gather(0, &mut desk.keys);
    let foreign = foreign(index, bits, |id: K| placing.hash_id(id));
    let context_bits = packer.window_bits() - packer.bits;
    let kept = if rule == Rule::Context && K::BITS == 128 && context_bits <= 64 {
        let items = &mut NarrowContexts(&mut desk.keys, packer);
        desk.contexts.distinct(items, distinct, foreign.fold())
    } else if rule == Rule::Context {
        let items = &mut Contexts(&mut desk.keys, packer);
        desk.windows.distinct(items, distinct, foreign)
    } else {
        let items = &mut Windows(&mut desk.keys);
        desk.windows.distinct(items, distinct, foreign)
    };
    Some(settle_part(part, &mut desk.keys, kept))
}

/// The same by their unit.
fn dedup_units<K: Key>(
    part: &mut Part<K>,
    desk: &mut Desk<K>,
    (index, bits): (usize, u32),
    (scheme, packer, level): (&dyn Scheme, Packer, u32),
) -> Option<usize> {
    let Progress {
        total, distinct, ..
    } = *part.progress;
    if distinct == total {
        return None;
    }
    part.gather(0, &mut desk.keys);
    desk.units.clear();
    desk.units.resize(total, 0);
    for (keys, units) in desk.keys.chunks(SLICE).zip(desk.units.chunks_mut(SLICE)) {
        packer.unpack_into(keys, &mut desk.scratch.tokens);
        scheme.units(&desk.scratch.tokens, units);
    }
    let foreign = foreign(index, bits, |id: u128| {
        id.mix().rotate_left(LEVEL_BITS * level)
    });
    let items = &mut Units(&mut desk.units, &mut desk.keys);
    let kept = desk.unit_table.distinct(items, distinct, foreign);
    Some(settle_part(part, &mut desk.keys, kept))
}

fn settle_part<K: Key>(part: &mut Part<K>, keys: &mut Vec<K>, kept: usize) -> usize {
    let Progress {
        total, distinct, ..
    } = *part.progress;
    keys.truncate(kept);
    part.replace(distinct, &keys[distinct..]);
    (part.progress.total, part.progress.distinct) = (kept, kept);
    total - kept
}

/// [`dedup_windows`] for [`Work::dedup_and_score`].
pub fn by_window<K: Key>(
    placing: ByWindow,
) -> impl Fn(&mut Part<K>, &mut Desk<K>, (usize, u32)) -> Option<usize> + Sync {
    move |part, desk, place| dedup_windows(part, desk, place, placing)
}

/// Deduplicates the windows of some partitions by the rule; returns how many were removed.
pub fn dedup<K: Key>(
    store: &mut Store<K>,
    parts: Range<usize>,
    bench: &Bench<Desk<K>>,
    placing: ByWindow,
) -> u64 {
    let bits = store.bits();
    let removed = store.for_parts(parts, |index, part| {
        bench.with(|desk| dedup_windows(part, desk, (index, bits), placing))
    });
    removed.into_iter().flatten().sum::<usize>() as u64
}

/// One scheme with what it has scored.
pub struct SchemeState<K: Key> {
    pub(crate) scheme: Arc<dyn Scheme>,
    /// Distinct windows by their unit, where units and not windows count once.
    pub(crate) units: Option<Store<K>>,
    /// How often the partitions of units were split.
    pub(crate) level: u32,
    pub(crate) sums: Sums,
}

impl<K: Key> SchemeState<K> {
    /// Nothing scored yet.
    pub fn new(scheme: Arc<dyn Scheme>, rule: Rule) -> Self {
        let by_unit = rule == Rule::Unit && !scheme.has_distinct_units();
        Self {
            units: by_unit.then(Store::default),
            scheme,
            level: 0,
            sums: Sums::default(),
        }
    }

    /// Takes distinct windows that are to count once a unit.
    pub fn push_units(&mut self, batches: &[&[K]], packer: Packer) {
        if let Some(store) = &mut self.units {
            let placing = ByUnit::new(self.scheme.as_ref(), packer, self.level);
            store.extend(batches, &placing);
            self.sums.keyless += placing.keyless();
        }
    }

    /// Deduplicates by unit without scoring.
    pub fn dedup_units(&mut self, bench: &Bench<Desk<K>>, packer: Packer) {
        let parts = self.units.as_ref().map_or(0, Store::parts);
        self.dedup_unit_parts(0..parts, bench, packer);
    }

    fn settle_units(&mut self, packer: Packer) {
        if let Some(store) = &mut self.units {
            let placing = ByUnit::new(self.scheme.as_ref(), packer, self.level);
            store.settle(&placing);
            self.sums.keyless += placing.keyless();
        }
    }

    fn dedup_unit_parts(&mut self, parts: Range<usize>, bench: &Bench<Desk<K>>, packer: Packer) {
        self.settle_units(packer);
        let Some(store) = &mut self.units else {
            return;
        };
        let (scheme, bits, level) = (self.scheme.as_ref(), store.bits(), self.level);
        let removed = store.for_parts(parts.start..parts.end.min(store.parts()), |index, part| {
            bench.with(|desk| dedup_units(part, desk, (index, bits), (scheme, packer, level)))
        });
        self.sums.unit_duplicates += removed.into_iter().flatten().sum::<usize>() as u64;
    }

    /// Scores the units that wait. When `check` fails, the rest still waits.
    pub fn flush_units(
        &mut self,
        pool: &Pool,
        bench: &Bench<Desk<K>>,
        packer: Packer,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        if self
            .units
            .as_ref()
            .is_none_or(|store| store.unscored() == 0)
        {
            return Ok(());
        }
        pool.install(|| self.settle_units(packer));
        let Some(store) = &mut self.units else {
            return Ok(());
        };
        let (scheme, level, sums) = (self.scheme.as_ref(), self.level, &mut self.sums);
        let work = Work {
            schemes: &[scheme],
            packer,
            drops_keyless: false,
            hands_on: false,
            pool,
            desks: bench,
        };
        work.dedup_and_score(
            store,
            &|part, desk, place| dedup_units(part, desk, place, (scheme, packer, level)),
            check,
            |removed, more, _| {
                sums.unit_duplicates += removed;
                more.iter().for_each(|more| sums.merge(more));
            },
        )
    }
}

/// Deduplicates a partition at a desk, as [`dedup_windows`] does.
type Dedup<'a, K> = dyn Fn(&mut Part<K>, &mut Desk<K>, (usize, u32)) -> Option<usize> + Sync + 'a;

/// What is done with the windows of partitions.
pub struct Work<'a, K> {
    /// All of them score a window that is new.
    pub schemes: &'a [&'a dyn Scheme],
    /// How windows are packed.
    pub packer: Packer,
    /// Whether windows without a key are counted instead of scored.
    pub drops_keyless: bool,
    /// Whether the windows that are new are wanted themselves.
    pub hands_on: bool,
    /// Who works.
    pub pool: &'a Pool,
    /// Where.
    pub desks: &'a Bench<Desk<K>>,
}

impl<K: Key> Work<'_, K> {
    /// Deduplicates all partitions and scores what was not scored yet, round by round; `take` gets
    /// how many windows were removed in a round, the sums of each scheme, and the new windows where
    /// they are wanted. When `check` fails, what was not taken still waits.
    pub fn dedup_and_score(
        &self,
        store: &mut Store<K>,
        dedup: &Dedup<K>,
        check: &mut dyn FnMut() -> Result<()>,
        mut take: impl FnMut(u64, &[Sums], &[&[K]]),
    ) -> Result<()> {
        let cost = self.nanoseconds();
        let mut from = 0;
        while from < store.parts() {
            let end = store.round(from, ROUND, |part| part.total - part.scored);
            check()?;
            if cost <= QUICK {
                let (removed, sums, before) = self.quick_round(store, from..end, dedup);
                let mut fresh = Vec::new();
                if self.hands_on {
                    for (part, &scored) in (from..end).zip(&before) {
                        let distinct = store.progress(part).distinct;
                        store.slices_of(part, scored..distinct, &mut fresh);
                    }
                }
                take(removed, &sums, &fresh);
            } else {
                let bits = store.bits();
                let removed = self.pool.install(|| {
                    store.for_parts(from..end, |index, part| {
                        self.desks.with(|desk| dedup(part, desk, (index, bits)))
                    })
                });
                let removed = removed.into_iter().flatten().sum::<usize>();
                take(removed as u64, &[], &[]);
                self.score_parts(store, from..end, cost, check, |sums, keys| {
                    take(0, sums, &[&keys]);
                })?;
            }
            from = end;
        }
        Ok(())
    }

    /// What a window costs.
    fn nanoseconds(&self) -> f64 {
        self.schemes.iter().map(|scheme| scheme.nanoseconds()).sum()
    }

    /// Each partition is deduplicated and scored by one worker while it is in its cache. Returns how
    /// many windows were removed, the sums, and how many of each partition were scored before.
    fn quick_round(
        &self,
        store: &mut Store<K>,
        parts: Range<usize>,
        dedup: &Dedup<K>,
    ) -> (u64, Vec<Sums>, Vec<usize>) {
        let bits = store.bits();
        let results = self.pool.install(|| {
            store.for_parts(parts, |index, part| {
                self.desks.with(|desk| {
                    let removed = dedup(part, desk, (index, bits));
                    let scored = part.progress.scored;
                    if removed.is_none() {
                        part.gather(0, &mut desk.keys);
                    }
                    part.progress.scored = part.progress.distinct;
                    let fresh = &desk.keys[scored..];
                    let sums = self.score_keys(fresh, &mut desk.scratch);
                    (removed.unwrap_or_default() as u64, sums, scored)
                })
            })
        });
        let mut total = vec![Sums::default(); self.schemes.len()];
        let (mut removed, mut before) = (0, Vec::with_capacity(results.len()));
        for (own, sums, scored) in results {
            removed += own;
            total
                .iter_mut()
                .zip(&sums)
                .for_each(|(sum, more)| sum.merge(more));
            before.push(scored);
        }
        (removed, total, before)
    }

    /// Scores the distinct windows of some partitions that are not scored yet, so many at once that
    /// the caller's wish to stop is heard.
    fn score_parts(
        &self,
        store: &mut Store<K>,
        parts: Range<usize>,
        cost: f64,
        check: &mut dyn FnMut() -> Result<()>,
        mut take: impl FnMut(&[Sums], Vec<K>),
    ) -> Result<()> {
        let threads = self.pool.threads() as f64;
        let most = (PATIENCE * threads / cost).clamp(64.0, ROUND as f64) as usize;
        let mut from = parts.start;
        while from < parts.end {
            let waiting = |part: &Progress| part.distinct - part.scored;
            let end = store.round(from, most, waiting).min(parts.end);
            let count: usize = (from..end).map(|part| waiting(&store.progress(part))).sum();
            if count > 0 {
                check()?;
                let keys = store.unscored_keys(from..end);
                let sums = if end - from == 1 && count > 4 * most {
                    self.score_large(&keys, check)?
                } else {
                    self.score_round(store, from..end)
                };
                store.mark_parts_scored(from..end);
                take(&sums, keys);
            }
            from = end;
        }
        Ok(())
    }

    /// Many partitions, each scored by one worker.
    fn score_round(&self, store: &mut Store<K>, parts: Range<usize>) -> Vec<Sums> {
        let results = self.pool.install(|| {
            store.for_parts(parts, |_, part| {
                self.desks.with(|desk| {
                    part.gather(part.progress.scored, &mut desk.keys);
                    self.score_keys(&desk.keys, &mut desk.scratch)
                })
            })
        });
        let mut total = vec![Sums::default(); self.schemes.len()];
        for sums in &results {
            total
                .iter_mut()
                .zip(sums)
                .for_each(|(sum, more)| sum.merge(more));
        }
        total
    }

    /// One partition that takes long: all workers score it, slice by slice.
    fn score_large(&self, keys: &[K], check: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Sums>> {
        let mut keys = keys.to_vec();
        // Sorted, windows of one context are in one slice.
        keys.sort_unstable();
        let mut total = Vec::with_capacity(self.schemes.len());
        for &scheme in self.schemes {
            let mut sums = Sums::default();
            for keys in keys.chunks(slice_len([scheme].into_iter())) {
                check()?;
                let more = self
                    .pool
                    .install(|| self.score_one(scheme, keys, &mut Scratch::default()));
                sums.merge(&more);
            }
            total.push(sums);
        }
        Ok(total)
    }

    /// The sums of windows under each scheme.
    fn score_keys(&self, keys: &[K], scratch: &mut Scratch) -> Vec<Sums> {
        self.schemes
            .iter()
            .map(|&scheme| self.score_one(scheme, keys, scratch))
            .collect()
    }

    /// The sums of windows under one scheme; those of one context should stand in one call.
    fn score_one(&self, scheme: &dyn Scheme, keys: &[K], scratch: &mut Scratch) -> Sums {
        let Scratch {
            tokens,
            words,
            keyless,
        } = scratch;
        let mut sums = Sums::default();
        let slice = if scheme.shares_work_within_contexts() {
            keys.len().max(1)
        } else {
            SLICE
        };
        for keys in keys.chunks(slice) {
            self.packer.unpack_into(keys, tokens);
            if self.drops_keyless && !scheme.unit_is_window() {
                keyless.clear();
                keyless.resize(keys.len(), false);
                if scheme.keyless(tokens, keyless) {
                    let kept = retain_rows(tokens, self.packer.width, keyless);
                    sums.keyless += (keys.len() - kept) as u64;
                }
            }
            words.clear();
            words.resize(tokens.len() / self.packer.width, 0);
            scheme.scores(tokens, words);
            sums.add(scheme.score_kind(), words);
        }
        sums
    }
}

/// Removes the rows that are marked; returns how many are left.
fn retain_rows(tokens: &mut Vec<u32>, width: usize, marked: &[bool]) -> usize {
    let Some(first) = marked.iter().position(|&mark| mark) else {
        return marked.len();
    };
    let mut kept = first;
    for row in (first..marked.len()).filter(|&row| !marked[row]) {
        tokens.copy_within(row * width..(row + 1) * width, kept * width);
        kept += 1;
    }
    tokens.truncate(kept * width);
    kept
}
