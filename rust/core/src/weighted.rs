//! Windows with weights: equal units are combined, then each counts once with its weight.

use crate::frame::Rule;
use crate::key::{Key, Packer};
use crate::schemes::{Scheme, ScoreKind};
use crate::tally::{Tally, WeightSums};
use rayon::prelude::*;

/// How the weights of equal units are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// The unit counts once, with the weight of its first occurrence.
    One,
    /// The weights add.
    Sum,
}

/// A window with its place in reading order and its weight.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<K> {
    /// The packed window.
    pub key: K,
    /// Records of one place of reading share it.
    pub order: u64,
    /// Any finite number that does not depend on the key.
    pub weight: f64,
}

/// The distinct weighted units of one scheme, sorted.
#[derive(Debug, Clone, Default)]
pub struct WeightedUnits {
    /// Weight of each unit, never 0.
    pub weights: Vec<f64>,
    /// Score of each unit; for tournament schemes the mean of its g-values.
    pub scores: Vec<f64>,
    /// Units of one group are scored by one permutation; empty where all are independent.
    pub groups: Vec<u64>,
    /// Windows that were merged into an equal window, context or unit.
    pub merged: u64,
    /// Distinct windows whose draw does not depend on the key.
    pub keyless: u64,
    /// Units whose weights cancelled.
    pub zero: u64,
}

impl WeightedUnits {
    /// Adds these units to a tally.
    pub fn tally_into(&self, tally: &mut Tally) {
        let mut sums = WeightSums {
            zero: self.zero,
            ..WeightSums::default()
        };
        self.weights
            .iter()
            .zip(&self.scores)
            .for_each(|(&w, &s)| sums.add(w, s));
        tally.duplicates += self.merged;
        tally.sums.scored += self.weights.len() as u64;
        tally.sums.keyless += self.keyless;
        tally.weights = Some(sums);
    }
}

/// Sorts the records of the windows and combines equal ones.
pub fn combine<K: Key>(
    records: &mut [Record<K>],
    packer: Packer,
    rule: Rule,
    how: Combine,
) -> Vec<Record<K>> {
    let by_rest =
        |a: &Record<K>, b: &Record<K>| a.order.cmp(&b.order).then(a.weight.total_cmp(&b.weight));
    records.par_sort_unstable_by(|a, b| a.key.cmp(&b.key).then_with(|| by_rest(a, b)));
    match rule {
        Rule::None => records.to_vec(),
        Rule::Unit | Rule::Window => fold_equal(records, how),
        Rule::Context => {
            let same =
                |a: &Record<K>, b: &Record<K>| packer.context(a.key) == packer.context(b.key);
            let first_places = records.chunk_by(same).flat_map(|run| {
                let first = run.iter().map(|r| r.order).min().unwrap_or_default();
                run.iter()
                    .filter(move |record| record.order == first)
                    .copied()
            });
            fold_equal(&first_places.collect::<Vec<_>>(), how)
        }
    }
}

/// One record for each run of equal keys; within a run records are sorted.
fn fold_equal<K: Key>(sorted: &[Record<K>], how: Combine) -> Vec<Record<K>> {
    let mut out = Vec::new();
    let mut weights = Vec::new();
    for run in sorted.chunk_by(|a, b| a.key == b.key) {
        let mut record = run[0];
        if how == Combine::Sum && run.len() > 1 {
            weights.clear();
            weights.extend(run.iter().map(|r| r.weight));
            // By value, so that the sum does not depend on the order of the documents.
            weights.sort_unstable_by(f64::total_cmp);
            record.weight = weights.iter().sum();
        }
        out.push(record);
    }
    out
}

/// Combines the windows of one scheme by unit, drops what cancelled, and scores the rest.
pub fn scheme_units<K: Key>(
    scheme: &dyn Scheme,
    windows: &[Record<K>],
    packer: Packer,
    rule: Rule,
    how: Combine,
) -> WeightedUnits {
    let mut keys: Vec<K> = windows.iter().map(|record| record.key).collect();
    let mut weights: Vec<f64> = windows.iter().map(|record| record.weight).collect();
    let mut keyless = 0;
    if rule == Rule::Unit && !scheme.unit_is_window() {
        let tokens = packer.unpack_all(&keys);
        let mut units = vec![0u128; keys.len()];
        scheme.units(&tokens, &mut units);
        let mut constant = vec![false; keys.len()];
        scheme.keyless(&tokens, &mut constant);
        keyless = constant.iter().filter(|&&constant| constant).count() as u64;
        let mut rows: Vec<(u128, u64, usize)> = units
            .iter()
            .zip(windows)
            .enumerate()
            .filter(|&(i, _)| !constant[i])
            .map(|(i, (&u, r))| (u, r.order, i))
            .collect();
        rows.par_sort_unstable();
        (keys, weights) = rows
            .chunk_by(|a, b| a.0 == b.0)
            .map(|run| {
                let first = run[0].2;
                let weight = match how {
                    Combine::One => weights[first],
                    Combine::Sum if run.len() == 1 => weights[first],
                    Combine::Sum => {
                        let mut shared: Vec<f64> = run.iter().map(|row| weights[row.2]).collect();
                        shared.sort_unstable_by(f64::total_cmp);
                        shared.iter().sum()
                    }
                };
                (keys[first], weight)
            })
            .unzip();
    }
    let units = weights.len();
    let (keys, weights): (Vec<K>, Vec<f64>) = keys
        .into_iter()
        .zip(weights)
        .filter(|&(_, weight)| weight != 0.0)
        .unzip();
    let tokens = packer.unpack_all(&keys);
    let mut groups = vec![0; keys.len()];
    if !scheme.groups(&tokens, &mut groups) {
        groups.clear();
    }
    WeightedUnits {
        scores: scores(scheme, &tokens, keys.len()),
        groups,
        merged: 0,
        keyless,
        zero: (units - weights.len()) as u64,
        weights,
    }
}

/// Scores as numbers.
pub fn scores(scheme: &dyn Scheme, windows: &[u32], rows: usize) -> Vec<f64> {
    let mut words = vec![0; rows];
    scheme.scores(windows, &mut words);
    words
        .into_iter()
        .map(|word| score_value(scheme.score_kind(), word))
        .collect()
}

/// The number that a score word stands for; for tournament schemes the mean of the g-values.
pub fn score_value(kind: ScoreKind, word: u64) -> f64 {
    match kind {
        ScoreKind::Green => word as f64,
        ScoreKind::Real => f64::from_bits(word),
        ScoreKind::Depths(depth) => f64::from(word.count_ones()) / f64::from(depth),
    }
}
