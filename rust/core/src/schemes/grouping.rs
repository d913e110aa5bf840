//! Windows in any order, scored seed by seed: one seeding serves all targets of a context.

use rayon::prelude::*;

/// A window on its way: what it reads, where its score goes.
#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    row: usize,
    score: u64,
}

/// Scores rows whose random function reads (seed, target) only.
///
/// `seed_target(row)` names them; `score(scratch, seed, targets, scores)` is called once for each
/// distinct seed, with its distinct targets in ascending order.
pub(crate) fn score_by_seed<S: Default>(
    out: &mut [u64],
    seed_target: impl Fn(usize) -> (u32, u32) + Sync,
    score: impl Fn(&mut S, u32, &[u32], &mut [u64]) + Sync,
) {
    let mut entries: Vec<Entry> = (0..out.len())
        .into_par_iter()
        .map(|row| {
            let (seed, target) = seed_target(row);
            let key = (u64::from(seed) << 32) | u64::from(target);
            Entry { key, row, score: 0 }
        })
        .collect();
    entries.par_sort_unstable_by_key(|entry| entry.key);
    let same_seed = |a: &Entry, b: &Entry| a.key >> 32 == b.key >> 32;
    let scratch = || (S::default(), Vec::new(), Vec::new());
    entries.par_chunk_by_mut(same_seed).for_each_init(
        scratch,
        |(scratch, targets, scores), group| {
            targets.clear();
            targets.extend(group.iter().map(|entry| (entry.key & 0xFFFF_FFFF) as u32));
            targets.dedup();
            scores.clear();
            scores.resize(targets.len(), 0);
            let seed = (group[0].key >> 32) as u32;
            score(scratch, seed, targets, scores);
            let mut k = 0;
            for entry in group {
                if targets[k] != (entry.key & 0xFFFF_FFFF) as u32 {
                    k += 1;
                }
                entry.score = scores[k];
            }
        },
    );
    for entry in &entries {
        out[entry.row] = entry.score;
    }
}
