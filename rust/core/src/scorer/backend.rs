//! Where the windows of a group are, and what is known of them.

use crate::dedup::partitions::Partitions;
use crate::dedup::rule::Rule;
use crate::dedup::window_set::WindowSet;
use crate::error::Result;
use crate::key::{Key, Packer};
use crate::schemes::Scheme;
use crate::score::schemes::GroupScores;
use crate::scorer::weighted::WeightedWindows;
use crate::threads::Pool;
use std::ops::Range;
use std::sync::Arc;

/// Windows that may wait if scoring takes most of the time, or nothing is deduplicated.
const MOST_WAITING: usize = 1 << 22;
/// Bytes of windows from which it is checked whether deduplication would free memory.
const CHECKED_BYTES: usize = 1 << 30;
/// Nanoseconds of scoring a window beside which partitioning costs nothing.
const SLOW: f64 = 300.0;

/// The state of a group.
pub(crate) enum Backend<K: Key> {
    /// Windows count once.
    Memory(Box<DistinctWindows<K>>),
    /// Windows have weights.
    Weighted(WeightedWindows<K>),
}

/// Distinct windows and those that wait, with the scores so far.
pub(crate) struct DistinctWindows<K: Key> {
    pub(crate) windows: WindowSet<K>,
    pub(crate) scores: GroupScores<K>,
    pub(crate) rule: Rule,
    /// Windows from which it is checked whether deduplication would free memory.
    check_interval: usize,
}

impl<K: Key> DistinctWindows<K> {
    pub(crate) fn new(schemes: &[Arc<dyn Scheme>], packer: Packer, rule: Rule) -> Self {
        let mut scores = GroupScores::new(schemes, packer, rule);
        let identity = scores.identity();
        Self {
            windows: WindowSet::new(identity, Partitions::default()),
            scores,
            rule,
            check_interval: CHECKED_BYTES / K::BYTES,
        }
    }

    /// Whether the backlog should be scored before more is read.
    pub(crate) fn is_due(&mut self, pool: &Pool) -> bool {
        let all = &self.windows.partitions;
        let (total, waiting) = (all.len(), all.unscored());
        if waiting < MOST_WAITING {
            return false;
        }
        if self.rule == Rule::None || self.scores.nanoseconds() > SLOW {
            return self.rule == Rule::None || waiting >= total / 4;
        }
        if total < self.check_interval {
            return false;
        }
        // If a sample of the partitions hardly shrinks without its repetitions, nothing is gained
        // now, and later all distinct windows would have to be read once more.
        let sample = 0..all.count() / 64;
        let before = self.keys_in(sample.clone());
        self.windows.dedup(sample.clone(), pool);
        let frees = 2 * self.keys_in(sample) <= before;
        if !frees {
            self.check_interval = 2 * self.windows.partitions.len();
        }
        frees
    }

    fn keys_in(&self, range: Range<usize>) -> usize {
        let all = &self.windows.partitions;
        range.map(|index| all.progress(index).total).sum()
    }

    /// Deduplicates and scores what waits. If `check` fails, the rest still waits and nothing is lost.
    pub(crate) fn flush(
        &mut self,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let WindowSet {
            identity,
            partitions,
            duplicates,
            ..
        } = &mut self.windows;
        self.scores
            .score_windows(partitions, identity, duplicates, pool, check)?;
        self.scores.flush_units(pool, check)
    }

    /// Returns memory that is not needed now to the system.
    pub(crate) fn reclaim(&mut self) {
        let all = &mut self.windows.partitions;
        all.shrink();
        self.check_interval = (CHECKED_BYTES / K::BYTES).max(2 * all.len());
    }

    /// Takes in the windows that another one, of the same configuration, has read after this one.
    /// What that has scored is scored again, unless every window counts.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let theirs = &other.windows.partitions;
        if self.rule == Rule::None {
            let pairs = self.scores.schemes.iter_mut().zip(&other.scores.schemes);
            pairs.for_each(|(mine, theirs)| mine.sums.merge(&theirs.sums));
            theirs.visit_all(|one| one.scored, |keys| self.windows.push(keys));
        } else {
            self.windows.duplicates += other.windows.duplicates;
            theirs.visit_all(|_| 0, |keys| self.windows.push(keys));
        }
    }
}
