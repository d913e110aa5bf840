//! Windows in any order, scored seed by seed, so that one seeding serves all targets of a context. The
//! cost besides scoring is that of sorting.

use crate::memory;
use rayon::prelude::*;

/// Fewest and most windows of a batch: enough to fill the lanes of a kernel, and few enough that
/// every thread gets some.
const FEWEST: usize = 32;
const MOST: usize = 1024;

/// A window: what it reads, its row, and its score once known.
#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    row: usize,
    score: u64,
}

impl Entry {
    fn seed(&self) -> u32 {
        (self.key >> 32) as u32
    }
    fn target(&self) -> u32 {
        (self.key & 0xFFFF_FFFF) as u32
    }
}

/// Distinct seeds, each with its distinct targets; both ascend.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    seeds: Vec<u32>,
    /// Where the targets of each seed end.
    ends: Vec<usize>,
    targets: Vec<u32>,
}

impl Batch {
    /// Adds a pair, in ascending order; a repetition is left out.
    pub fn push(&mut self, seed: u32, target: u32) {
        if self.seeds.last() != Some(&seed) {
            memory::push(&mut self.seeds, seed);
            memory::push(&mut self.ends, self.targets.len());
        } else if self.targets.last() == Some(&target) {
            return;
        }
        memory::push(&mut self.targets, target);
        if let Some(end) = self.ends.last_mut() {
            *end = self.targets.len();
        }
    }

    /// Removes all pairs and keeps the memory.
    pub fn clear(&mut self) {
        self.seeds.clear();
        self.ends.clear();
        self.targets.clear();
    }

    /// All targets, seed by seed.
    #[must_use]
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Each seed, and the range of [`Batch::targets`] that belongs to it.
    pub fn seeds(&self) -> impl Iterator<Item = (u32, std::ops::Range<usize>)> + '_ {
        let starts = std::iter::once(&0).chain(&self.ends);
        let ranges = starts.zip(&self.ends).map(|(&start, &end)| start..end);
        self.seeds.iter().copied().zip(ranges)
    }
}

/// Scores rows whose random function reads (seed, target) only.
///
/// `seed_target(row)` gives them; `score(scratch, batch, scores)` fills in the scores of a batch's
/// targets. All targets of a seed are in one batch.
pub(crate) fn score_by_seed<S: Default>(
    out: &mut [u64],
    seed_target: impl Fn(usize) -> (u32, u32) + Sync,
    score: impl Fn(&mut S, &Batch, &mut [u64]) + Sync,
) {
    let mut entries: Vec<Entry> = memory::vec(out.len());
    (0..out.len())
        .into_par_iter()
        .map(|row| {
            let (seed, target) = seed_target(row);
            let key = (u64::from(seed) << 32) | u64::from(target);
            Entry { key, row, score: 0 }
        })
        .collect_into_vec(&mut entries);
    entries.par_sort_unstable_by_key(|entry| entry.key);
    let scratch = || (S::default(), Batch::default(), Vec::new());
    batches(&mut entries).into_par_iter().for_each_init(
        scratch,
        |(scratch, batch, scores), entries| {
            batch.clear();
            for entry in entries.iter() {
                batch.push(entry.seed(), entry.target());
            }
            scores.clear();
            memory::resize(scores, batch.targets.len(), 0);
            score(scratch, batch, scores);
            let mut last = entries[0].key;
            let mut k = 0;
            for entry in entries {
                k += usize::from(entry.key != last);
                last = entry.key;
                entry.score = scores[k];
            }
        },
    );
    for entry in &entries {
        out[entry.row] = entry.score;
    }
}

/// Cuts sorted entries into batches, between seeds.
fn batches(mut entries: &mut [Entry]) -> Vec<&mut [Entry]> {
    let share = entries.len() / (4 * rayon::current_num_threads());
    let least = share.next_multiple_of(FEWEST).clamp(FEWEST, MOST);
    let mut batches = Vec::new();
    while !entries.is_empty() {
        let mut end = least.min(entries.len());
        let seed = entries[end - 1].seed();
        while end < entries.len() && entries[end].seed() == seed {
            end += 1;
        }
        let (batch, rest) = std::mem::take(&mut entries).split_at_mut(end);
        memory::push(&mut batches, batch);
        entries = rest;
    }
    batches
}
