//! What each scheme has scored of the distinct windows of a frame.

use crate::dedup::placing::{ByUnit, Desk, SLICE, Sameness};
use crate::dedup::store::{Bench, Progress, Scratch, Store};
use crate::error::Result;
use crate::key::{Key, Packer};
use crate::schemes::{Scheme, UnitKind, windows_per_check};
use crate::score::tally::Sums;
use crate::threads::Pool;
use std::ops::Range;
use std::sync::Arc;

/// Windows that are deduplicated between two looks at the caller's wish to stop.
pub(crate) const ROUND: usize = 1 << 22;

/// Windows that several schemes score one after the other.
const SHARED: usize = 1 << 11;
/// Nanoseconds of scoring a window up to which it is scored where it is deduplicated.
const QUICK: f64 = 500.0;
/// Nanoseconds of one core between two looks at the caller's wish to stop.
const PATIENCE: f64 = 1e8;

/// Deduplicates the windows of some partitions; returns how many were removed.
pub fn dedup<K: Key>(
    store: &mut Store<K>,
    parts: Range<usize>,
    desks: &Bench<Desk<K>>,
    sameness: &Sameness,
) -> u64 {
    let bits = store.bits();
    let removed = store.for_parts(parts, |index, part| {
        desks.with(|desk| sameness.dedup(part, desk, (index, bits)))
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
    /// The scheme of the frame that counts residues for this one too, where it is another.
    pub(crate) counted_by: Option<usize>,
}

impl<K: Key> SchemeState<K> {
    /// Nothing scored yet.
    pub fn new(scheme: Arc<dyn Scheme>) -> Self {
        Self {
            units: None,
            scheme,
            level: 0,
            sums: Sums::default(),
            counted_by: None,
        }
    }

    /// Whether it scores windows itself that count once a window.
    pub fn scores_windows(&self) -> bool {
        self.units.is_none() && self.counted_by.is_none()
    }

    /// What makes windows the same for it.
    fn sameness(&self, packer: Packer) -> Sameness {
        Sameness::Unit(ByUnit::new(Arc::clone(&self.scheme), packer, self.level))
    }

    /// Takes distinct windows that are to count once a unit.
    pub fn push_units(&mut self, batches: &[&[K]], packer: Packer) {
        let sameness = self.sameness(packer);
        if let Some(store) = &mut self.units {
            store.extend(batches, &sameness);
        }
    }

    /// Deduplicates by unit without scoring.
    pub fn dedup_units(&mut self, desks: &Bench<Desk<K>>, packer: Packer) {
        let sameness = self.sameness(packer);
        if let Some(store) = &mut self.units {
            store.settle(&sameness);
            self.sums.unit_duplicates += dedup(store, 0..store.parts(), desks, &sameness);
        }
    }

    /// Scores the units that wait. When `check` fails, the rest still waits.
    pub fn flush_units(
        &mut self,
        pool: &Pool,
        desks: &Bench<Desk<K>>,
        packer: Packer,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let sameness = self.sameness(packer);
        let Some(store) = &mut self.units else {
            return Ok(());
        };
        if store.unscored() == 0 {
            return Ok(());
        }
        pool.install(|| store.settle(&sameness));
        let sums = &mut self.sums;
        let work = Work {
            schemes: &[self.scheme.as_ref()],
            packer,
            drops_keyless: true,
            hands_on: false,
            pool,
            desks,
        };
        work.dedup_and_score(store, &sameness, check, |removed, more, _| {
            sums.unit_duplicates += removed;
            more.iter().for_each(|more| sums.merge(more));
        })
    }
}

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
        sameness: &Sameness,
        check: &mut dyn FnMut() -> Result<()>,
        mut take: impl FnMut(u64, &[Sums], &[&[K]]),
    ) -> Result<()> {
        let cost = self.nanoseconds();
        let mut from = 0;
        while from < store.parts() {
            let end = store.round(from, ROUND, |part| part.total - part.scored);
            check()?;
            if cost <= QUICK {
                let (removed, sums, before) = self.quick_round(store, from..end, sameness);
                let mut fresh = Vec::new();
                if self.hands_on {
                    for (part, &scored) in (from..end).zip(&before) {
                        let distinct = store.progress(part).distinct;
                        store.slices_of(part, scored..distinct, &mut fresh);
                    }
                }
                take(removed, &sums, &fresh);
            } else {
                let dedup = || dedup(store, from..end, self.desks, sameness);
                take(self.pool.install(dedup), &[], &[]);
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
        sameness: &Sameness,
    ) -> (u64, Vec<Sums>, Vec<usize>) {
        let bits = store.bits();
        let results = self.pool.install(|| {
            store.for_parts(parts, |index, part| {
                self.desks.with(|desk| {
                    let removed = sameness.dedup(part, desk, (index, bits));
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
            merge_all(&mut total, &sums);
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
                let large = end - from == 1 && count > 4 * most;
                let sums = if large || store.is_small() {
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
            merge_all(&mut total, sums);
        }
        total
    }

    /// One partition that takes long, or few: all workers score them, slice by slice.
    fn score_large(&self, keys: &[K], check: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Sums>> {
        let mut keys = keys.to_vec();
        // Sorted, windows of one context are in one slice.
        keys.sort_unstable();
        let mut total = Vec::with_capacity(self.schemes.len());
        for &scheme in self.schemes {
            let mut sums = Sums::default();
            for keys in keys.chunks(windows_per_check([scheme].into_iter())) {
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
        let alike = |scheme: &&dyn Scheme| {
            let whole = self.drops_keyless && scheme.unit_kind() != UnitKind::Window;
            !whole && scheme.residues() == 0 && !scheme.shares_work_within_contexts()
        };
        if self.schemes.len() < 2 || !self.schemes.iter().all(alike) {
            let score = |&scheme: &&dyn Scheme| self.score_one(scheme, keys, scratch);
            return self.schemes.iter().map(score).collect();
        }
        // Windows are unpacked once for all keys, so few at a time that they stay in the cache.
        let Scratch { tokens, words, .. } = scratch;
        let mut all = vec![Sums::default(); self.schemes.len()];
        for keys in keys.chunks(SHARED) {
            self.packer.unpack_into(keys, tokens);
            words.resize(keys.len(), 0);
            for (sums, scheme) in all.iter_mut().zip(self.schemes) {
                scheme.scores(tokens, words);
                sums.add(scheme.score_kind(), words);
            }
        }
        all
    }

    /// The sums of windows under one scheme; those of one context should stand in one call.
    fn score_one(&self, scheme: &dyn Scheme, keys: &[K], scratch: &mut Scratch) -> Sums {
        let Scratch {
            tokens,
            words,
            keyless,
            ids,
        } = scratch;
        let mut sums = Sums::default();
        if scheme.residues() > 0 {
            for keys in keys.chunks(SLICE) {
                self.packer.unpack_into(keys, tokens);
                ids.resize(keys.len(), 0);
                scheme.units(tokens, ids);
                sums.add_residues(scheme.residues(), ids);
            }
            return sums;
        }
        let slice = if scheme.shares_work_within_contexts() {
            keys.len().max(1)
        } else {
            SLICE
        };
        for keys in keys.chunks(slice) {
            self.packer.unpack_into(keys, tokens);
            if self.drops_keyless && scheme.unit_kind() != UnitKind::Window {
                keyless.resize(keys.len(), false);
                if scheme.keyless(tokens, keyless) {
                    let kept = retain_rows(tokens, self.packer.width, keyless);
                    sums.keyless += (keys.len() - kept) as u64;
                }
            }
            words.resize(tokens.len() / self.packer.width, 0);
            scheme.scores(tokens, words);
            sums.add(scheme.score_kind(), words);
        }
        sums
    }
}

/// Adds the sums of each scheme.
fn merge_all(total: &mut [Sums], more: &[Sums]) {
    total
        .iter_mut()
        .zip(more)
        .for_each(|(sum, more)| sum.merge(more));
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
