//! What each scheme has scored of the distinct windows of a frame.

use crate::distinct::{Contexts, Table, Units, Windows};
use crate::error::Result;
use crate::frame::Rule;
use crate::key::{Key, Packer};
use crate::pool::Pool;
use crate::schemes::{Scheme, slice_len};
use crate::store::{Bench, Part, Placing, Progress, Store};
use crate::tally::Sums;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Windows that one worker unpacks and scores at one go.
const SLICE: usize = 1 << 13;
/// Windows that are deduplicated between two looks at the caller's wish to stop.
pub(crate) const ROUND: usize = 1 << 22;

/// Nanoseconds of one core between two looks at the caller's wish to stop.
const PATIENCE: f64 = 1e8;

/// What a worker needs to deduplicate and score a partition.
#[derive(Debug, Default)]
pub struct Desk<K> {
    keys: Vec<K>,
    units: Vec<u128>,
    tokens: Vec<u32>,
    words: Vec<u64>,
    windows: Table<K>,
    unit_table: Table<u128>,
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
    #[inline]
    pub fn hash<K: Key>(self, window: K) -> u64 {
        if self.level == 0 {
            return self.packer.context(window).mix();
        }
        let id = match self.rule {
            Rule::Context => self.packer.context(window),
            _ => window,
        };
        id.mix().rotate_left(LEVEL_BITS * self.level)
    }

    /// The same of what makes windows the same.
    fn hash_id<K: Key>(self, id: K) -> u64 {
        match self.rule {
            Rule::Context => id.mix().rotate_left(LEVEL_BITS * self.level),
            _ => self.hash(id),
        }
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
        .find(|&id| crate::store::part_of(hash(id), bits) != part)
        .unwrap_or_default()
}

/// Deduplicates a partition of windows; returns how many were removed.
fn dedup_windows<K: Key>(
    part: &mut Part<K>,
    desk: &mut Desk<K>,
    (index, bits): (usize, u32),
    placing: ByWindow,
) -> usize {
    let ByWindow { packer, rule, .. } = placing;
    let Progress {
        total, distinct, ..
    } = *part.progress;
    if distinct == total || rule == Rule::None {
        part.progress.distinct = total;
        return 0;
    }
    part.gather(0, &mut desk.keys);
    let foreign = foreign(index, bits, |id: K| placing.hash_id(id));
    let kept = if rule == Rule::Context {
        let items = &mut Contexts(&mut desk.keys, packer);
        desk.windows.distinct(items, distinct, foreign)
    } else {
        let items = &mut Windows(&mut desk.keys);
        desk.windows.distinct(items, distinct, foreign)
    };
    settle_part(part, &desk.keys, kept)
}

/// Deduplicates a partition of windows by their unit; returns how many were removed.
fn dedup_units<K: Key>(
    part: &mut Part<K>,
    desk: &mut Desk<K>,
    (index, bits): (usize, u32),
    (scheme, packer, level): (&dyn Scheme, Packer, u32),
) -> usize {
    let Progress {
        total, distinct, ..
    } = *part.progress;
    if distinct == total {
        return 0;
    }
    part.gather(0, &mut desk.keys);
    desk.units.clear();
    desk.units.resize(total, 0);
    for (keys, units) in desk.keys.chunks(SLICE).zip(desk.units.chunks_mut(SLICE)) {
        packer.unpack_into(keys, &mut desk.tokens);
        scheme.units(&desk.tokens, units);
    }
    let foreign = foreign(index, bits, |id: u128| {
        id.mix().rotate_left(LEVEL_BITS * level)
    });
    let items = &mut Units(&mut desk.units, &mut desk.keys);
    let kept = desk.unit_table.distinct(items, distinct, foreign);
    settle_part(part, &desk.keys, kept)
}

fn settle_part<K: Key>(part: &mut Part<K>, keys: &[K], kept: usize) -> usize {
    let Progress {
        total, distinct, ..
    } = *part.progress;
    part.replace(distinct, &keys[distinct..kept]);
    (part.progress.total, part.progress.distinct) = (kept, kept);
    total - kept
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
    removed.iter().sum::<usize>() as u64
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
        let by_unit = rule == Rule::Unit && !scheme.unit_is_window();
        Self {
            units: by_unit.then(Store::default),
            scheme,
            level: 0,
            sums: Sums::default(),
        }
    }

    /// Takes distinct windows that are to count once a unit.
    pub fn push_units(&mut self, keys: &[K], packer: Packer) {
        if let Some(store) = &mut self.units {
            let placing = ByUnit::new(self.scheme.as_ref(), packer, self.level);
            store.push(keys, &placing);
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
        self.sums.unit_duplicates += removed.iter().sum::<usize>() as u64;
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
        let (mut from, parts) = (0, self.units.as_ref().map_or(0, Store::parts));
        while from < parts {
            let waiting = |part: &Progress| part.total - part.distinct;
            let end = match &self.units {
                Some(store) => store.round(from, ROUND, waiting),
                None => parts,
            };
            check()?;
            pool.install(|| self.dedup_unit_parts(from..end, bench, packer));
            if let Some(store) = &mut self.units {
                let schemes = [self.scheme.as_ref()];
                let sums = &mut self.sums;
                score_parts(
                    store,
                    from..end,
                    &schemes,
                    pool,
                    bench,
                    packer,
                    check,
                    false,
                    |more, _| {
                        more.iter().for_each(|more| sums.merge(more));
                    },
                )?;
            }
            from = end;
        }
        Ok(())
    }
}

/// Scores the distinct windows of some partitions that are not scored yet, round by round; `take`
/// gets the sums of each scheme for a round and, where wanted, its windows, which count as scored
/// from then on.
/// When `check` fails, what was not taken still waits.
#[allow(clippy::too_many_arguments)]
pub fn score_parts<K: Key>(
    store: &mut Store<K>,
    parts: Range<usize>,
    schemes: &[&dyn Scheme],
    pool: &Pool,
    bench: &Bench<Desk<K>>,
    packer: Packer,
    check: &mut dyn FnMut() -> Result<()>,
    want_keys: bool,
    mut take: impl FnMut(&[Sums], &[K]),
) -> Result<()> {
    let cost: f64 = schemes.iter().map(|scheme| scheme.nanoseconds()).sum();
    let threads = pool.threads() as f64;
    let most = (PATIENCE * threads / cost.max(1.0)).clamp(64.0, ROUND as f64) as usize;
    let mut from = parts.start;
    while from < parts.end {
        let end = store
            .round(from, most, |part| part.distinct - part.scored)
            .min(parts.end);
        let waiting = (from..end).map(|part| {
            let progress = store.progress(part);
            progress.distinct - progress.scored
        });
        let waiting: usize = waiting.sum();
        if waiting > 0 {
            check()?;
            let sums = if end - from == 1 && waiting > 4 * most {
                score_large(store, from, schemes, pool, packer, check)?
            } else {
                pool.install(|| score_round(store, from..end, schemes, bench, packer))
            };
            let keys = if want_keys {
                store.unscored_keys(from..end)
            } else {
                Vec::new()
            };
            take(&sums, &keys);
            store.mark_parts_scored(from..end);
        }
        from = end;
    }
    Ok(())
}

/// Many partitions, each scored by one worker while it is in its cache.
fn score_round<K: Key>(
    store: &mut Store<K>,
    parts: Range<usize>,
    schemes: &[&dyn Scheme],
    bench: &Bench<Desk<K>>,
    packer: Packer,
) -> Vec<Sums> {
    let results = store.for_parts(parts, |_, part| {
        bench.with(|desk| {
            part.gather(part.progress.scored, &mut desk.keys);
            let Desk {
                keys,
                tokens,
                words,
                ..
            } = desk;
            let score = |scheme: &&dyn Scheme| score_keys(*scheme, keys, packer, tokens, words);
            schemes.iter().map(score).collect::<Vec<Sums>>()
        })
    });
    let mut total = vec![Sums::default(); schemes.len()];
    for sums in &results {
        total
            .iter_mut()
            .zip(sums)
            .for_each(|(sum, more)| sum.merge(more));
    }
    total
}

/// The sums of windows; windows of one context should stand in one call.
fn score_keys<K: Key>(
    scheme: &dyn Scheme,
    keys: &[K],
    packer: Packer,
    tokens: &mut Vec<u32>,
    words: &mut Vec<u64>,
) -> Sums {
    let mut sums = Sums::default();
    let slice = if scheme.shares_work_within_contexts() {
        keys.len().max(1)
    } else {
        SLICE
    };
    for keys in keys.chunks(slice) {
        packer.unpack_into(keys, tokens);
        words.clear();
        words.resize(keys.len(), 0);
        scheme.scores(tokens, words);
        sums.add(scheme.score_kind(), words);
    }
    sums
}

/// One partition that takes long: all workers score it, slice by slice.
fn score_large<K: Key>(
    store: &mut Store<K>,
    part: usize,
    schemes: &[&dyn Scheme],
    pool: &Pool,
    packer: Packer,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Sums>> {
    let mut keys = store.unscored_keys(part..part + 1);
    // Sorted, windows of one context are in one slice.
    keys.sort_unstable();
    let mut total = Vec::with_capacity(schemes.len());
    for &scheme in schemes {
        let mut sums = Sums::default();
        for keys in keys.chunks(slice_len([scheme].into_iter())) {
            check()?;
            let more =
                pool.install(|| score_keys(scheme, keys, packer, &mut Vec::new(), &mut Vec::new()));
            sums.merge(&more);
        }
        total.push(sums);
    }
    Ok(total)
}
