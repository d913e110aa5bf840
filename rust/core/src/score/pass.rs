//! One pass over partitions: repetitions are removed, and what is new is scored while it is in the
//! cache, by all schemes that read it.

use crate::dedup::identity::{Identity, SLICE, Workspace};
use crate::dedup::object_pool::ObjectPool;
use crate::dedup::partitioner::Scratch;
use crate::dedup::partitions::{Partitions, Progress};
use crate::dedup::window_set::dedup;
use crate::error::Result;
use crate::key::{Key, Packer};
use crate::memory;
use crate::schemes::{Scheme, UnitKind, windows_per_check};
use crate::score::tally::Sums;
use crate::threads::Pool;
use std::ops::Range;

/// Windows that are deduplicated between two interrupt checks.
const ROUND: usize = 1 << 22;
/// Windows that several schemes score one after the other.
const SHARED: usize = 1 << 11;
/// Nanoseconds of scoring a window up to which it is scored where it is deduplicated.
const QUICK: f64 = 500.0;
/// Nanoseconds of one core between two interrupt checks.
const CHECK_INTERVAL: f64 = 1e8;

/// How a pass scores. Each window costs its deduplication once, and every scheme's score once.
///
/// Cheap schemes score a partition right after it was deduplicated, on the same core. Expensive ones
/// score after a round, in slices short enough for interrupt checks.
pub struct ScorePass<'a, K> {
    /// All of them score every new window.
    pub schemes: &'a [&'a dyn Scheme],
    /// How windows are packed.
    pub packer: Packer,
    /// Whether windows without a key are counted instead of scored.
    pub drops_keyless: bool,
    /// Whether the caller needs the new windows themselves.
    pub returns_windows: bool,
    /// The threads.
    pub pool: &'a Pool,
    /// The threads' memory.
    pub workspaces: &'a ObjectPool<Workspace<K>>,
}

impl<K: Key> ScorePass<'_, K> {
    /// Deduplicates all partitions and scores what is not scored yet, round by round. `take` gets how
    /// many windows a round removed, the sums of each scheme, and the new windows if they are needed.
    /// If `check` fails, what was not taken still waits.
    pub fn run(
        &self,
        partitions: &mut Partitions<K>,
        identity: &Identity,
        check: &mut dyn FnMut() -> Result<()>,
        mut take: impl FnMut(u64, &[Sums], &[&[K]]),
    ) -> Result<()> {
        let cost = self.nanoseconds();
        let mut from = 0;
        while from < partitions.count() {
            let end = partitions.round(from, ROUND, |one| one.total - one.scored);
            check()?;
            if cost <= QUICK {
                let (removed, sums, before) = self.quick_round(partitions, from..end, identity);
                let mut fresh = Vec::new();
                if self.returns_windows {
                    for (index, &scored) in (from..end).zip(&before) {
                        let distinct = partitions.progress(index).distinct;
                        partitions.visit(index, scored..distinct, |keys| {
                            memory::push(&mut fresh, keys);
                        });
                    }
                }
                take(removed, &sums, &fresh);
            } else {
                let mut removed = 0;
                self.pool.install(|| {
                    dedup(
                        partitions,
                        from..end,
                        self.workspaces,
                        identity,
                        &mut removed,
                    );
                });
                take(removed, &[], &[]);
                self.slow_round(partitions, from..end, cost, check, |sums, keys| {
                    take(0, sums, &[&keys]);
                })?;
            }
            from = end;
        }
        Ok(())
    }

    /// Cost of a window.
    fn nanoseconds(&self) -> f64 {
        self.schemes.iter().map(|scheme| scheme.nanoseconds()).sum()
    }

    /// One worker deduplicates a partition and scores it while it is in its cache. Returns how many
    /// windows were removed, the sums, and how many of each partition were scored before.
    fn quick_round(
        &self,
        partitions: &mut Partitions<K>,
        range: Range<usize>,
        identity: &Identity,
    ) -> (u64, Vec<Sums>, Vec<usize>) {
        let bits = partitions.bits();
        let all = ObjectPool::default();
        let results = self.pool.install(|| {
            partitions.for_each(range, |index, partition| {
                self.workspaces.with(|workspace| {
                    let removed = identity.dedup(partition, workspace, (index, bits));
                    let scored = partition.progress.scored;
                    if removed.is_none() {
                        partition.gather(0, &mut workspace.keys);
                    }
                    partition.progress.scored = partition.progress.distinct;
                    let fresh = &workspace.keys[scored..];
                    all.with(|sums| self.score_keys(fresh, &mut workspace.scratch, sums));
                    (removed.unwrap_or_default() as u64, scored)
                })
            })
        });
        let removed = results.iter().map(|one| one.0).sum();
        let before = memory::collect(results.iter().map(|one| one.1));
        (removed, self.total_of(all), before)
    }

    /// Scores the distinct windows of some partitions that are not scored yet, few enough at a time
    /// for interrupt checks.
    fn slow_round(
        &self,
        partitions: &mut Partitions<K>,
        range: Range<usize>,
        cost: f64,
        check: &mut dyn FnMut() -> Result<()>,
        mut take: impl FnMut(&[Sums], Vec<K>),
    ) -> Result<()> {
        let threads = self.pool.threads() as f64;
        let most = (CHECK_INTERVAL * threads / cost).clamp(64.0, ROUND as f64) as usize;
        let mut from = range.start;
        while from < range.end {
            let waiting = |one: &Progress| one.distinct - one.scored;
            let end = partitions.round(from, most, waiting).min(range.end);
            let count: usize = (from..end)
                .map(|index| waiting(&partitions.progress(index)))
                .sum();
            if count > 0 {
                check()?;
                let keys = partitions.unscored_keys(from..end);
                let large = end - from == 1 && count > 4 * most;
                let sums = if large || partitions.are_few() {
                    self.score_large(&keys, check)?
                } else {
                    self.score_many(partitions, from..end)
                };
                partitions.mark_scored(from..end);
                take(&sums, keys);
            }
            from = end;
        }
        Ok(())
    }

    /// Many partitions, each scored by one worker.
    fn score_many(&self, partitions: &mut Partitions<K>, range: Range<usize>) -> Vec<Sums> {
        let all = ObjectPool::default();
        self.pool.install(|| {
            partitions.for_each(range, |_, partition| {
                self.workspaces.with(|workspace| {
                    partition.gather(partition.progress.scored, &mut workspace.keys);
                    let Workspace { keys, scratch, .. } = workspace;
                    all.with(|sums| self.score_keys(keys, scratch, sums));
                });
            })
        });
        self.total_of(all)
    }

    /// The sums of each scheme, over those of all workers.
    fn total_of(&self, all: ObjectPool<Vec<Sums>>) -> Vec<Sums> {
        let mut total = memory::filled(Sums::default(), self.schemes.len());
        for sums in all.into_all() {
            let pairs = total.iter_mut().zip(&sums);
            pairs.for_each(|(sum, more)| sum.merge(more));
        }
        total
    }

    /// One large partition, or few: all workers score each slice together.
    fn score_large(&self, keys: &[K], check: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Sums>> {
        let mut keys = memory::copy(keys);
        // Sorted, windows of one context are in one slice.
        keys.sort_unstable();
        let mut total = Vec::with_capacity(self.schemes.len());
        for &scheme in self.schemes {
            let mut sums = Sums::default();
            for keys in keys.chunks(windows_per_check([scheme].into_iter())) {
                check()?;
                let mut scratch = Scratch::default();
                self.pool
                    .install(|| self.score_one(scheme, keys, &mut scratch, &mut sums));
            }
            total.push(sums);
        }
        Ok(total)
    }

    /// Adds windows to the sums of each scheme.
    fn score_keys(&self, keys: &[K], scratch: &mut Scratch, all: &mut Vec<Sums>) {
        memory::resize(all, self.schemes.len(), Sums::default());
        let alike = |scheme: &&dyn Scheme| {
            let whole = self.drops_keyless && scheme.unit_kind() != UnitKind::Window;
            !whole && scheme.residues() == 0 && !scheme.shares_work_within_contexts()
        };
        if self.schemes.len() < 2 || !self.schemes.iter().all(alike) {
            for (sums, &scheme) in all.iter_mut().zip(self.schemes) {
                self.score_one(scheme, keys, scratch, sums);
            }
            return;
        }
        // Windows are unpacked once for all keys, so few at a time that they stay in the cache.
        let Scratch { tokens, words, .. } = scratch;
        for keys in keys.chunks(SHARED) {
            self.packer.unpack_into(keys, tokens);
            memory::resize(words, keys.len(), 0);
            for (sums, scheme) in all.iter_mut().zip(self.schemes) {
                scheme.scores(tokens, words);
                sums.add(scheme.score_kind(), words);
            }
        }
    }

    /// Adds windows to the sums of one scheme; those of one context should stand in one call.
    fn score_one(&self, scheme: &dyn Scheme, keys: &[K], scratch: &mut Scratch, sums: &mut Sums) {
        let Scratch {
            tokens,
            words,
            keyless,
            ids,
        } = scratch;
        if scheme.residues() > 0 {
            for keys in keys.chunks(SLICE) {
                self.packer.unpack_into(keys, tokens);
                memory::resize(ids, keys.len(), 0);
                scheme.units(tokens, ids);
                sums.add_residues(scheme.residues(), ids);
            }
            return;
        }
        let slice = if scheme.shares_work_within_contexts() {
            keys.len().max(1)
        } else {
            SLICE
        };
        for keys in keys.chunks(slice) {
            self.packer.unpack_into(keys, tokens);
            if self.drops_keyless && scheme.unit_kind() != UnitKind::Window {
                memory::resize(keyless, keys.len(), false);
                if scheme.keyless(tokens, keyless) {
                    let kept = retain_rows(tokens, self.packer.width, keyless);
                    sums.keyless += (keys.len() - kept) as u64;
                }
            }
            memory::resize(words, tokens.len() / self.packer.width, 0);
            scheme.scores(tokens, words);
            sums.add(scheme.score_kind(), words);
        }
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
