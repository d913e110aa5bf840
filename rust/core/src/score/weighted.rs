//! Windows with weights: equal units are combined, then each counts once with its weight.

use crate::dedup::rule::Rule;
use crate::key::{Key, Packer};
use crate::memory;
use crate::schemes::{Scheme, ScoreKind, UnitKind};
use crate::score::exact_sum::ExactSum;
use crate::score::tally::{Tally, WeightSums};
use rayon::prelude::*;

/// How the weights of equal units are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// The unit counts once, with the weight of its first occurrence.
    One,
    /// The weights add.
    Sum,
    /// As `One`, by residue too: for weights that depend on earlier scores.
    First,
}

/// A window, its place in reading order and its weight.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<K> {
    /// The packed window.
    pub key: K,
    /// Where it stands in reading order; several records may share a place.
    pub order: u64,
    /// At most 1e100 in magnitude; it does not depend on the key.
    pub weight: f64,
}

/// The distinct weighted units of one scheme, sorted.
#[derive(Debug, Clone, Default)]
pub struct WeightedUnits {
    /// Weight of each unit, never 0.
    pub weights: Vec<f64>,
    /// Score of each unit; for tournament schemes the mean of its g-values.
    pub scores: Vec<f64>,
    /// Residue of each unit, if windows of one residue were added up.
    pub residues: Vec<u64>,
    /// Windows that these units stand for: one each, but several per residue.
    pub scored: u64,
    /// Units of one group are scored by one permutation; empty if all are independent.
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
        tally.sums.scored += self.scored;
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
        Rule::None => memory::copy(records),
        Rule::Unit | Rule::Window => fold_equal(records, how),
        Rule::Context => {
            let same =
                |a: &Record<K>, b: &Record<K>| packer.context(a.key) == packer.context(b.key);
            let first_of_each = records.chunk_by(same).flat_map(|own| {
                let first = own.iter().map(|r| r.order).min().unwrap_or_default();
                own.iter()
                    .filter(move |record| record.order == first)
                    .copied()
            });
            fold_equal(&memory::collect(first_of_each), how)
        }
    }
}

/// One record for each key; records of one key are sorted by reading order.
fn fold_equal<K: Key>(sorted: &[Record<K>], how: Combine) -> Vec<Record<K>> {
    let equal = sorted.chunk_by(|a, b| a.key == b.key);
    let fold = |own: &[Record<K>]| match how {
        Combine::Sum if own.len() > 1 => Record {
            weight: exact_sum(own.iter().map(|record| record.weight)),
            ..own[0]
        },
        _ => own[0],
    };
    memory::collect(equal.map(fold))
}

/// Combines the windows of one scheme by unit or by residue and drops what cancelled. Returns the units,
/// still without scores, and the tokens of one window of each.
pub fn scheme_units<K: Key>(
    scheme: &dyn Scheme,
    windows: &[Record<K>],
    packer: Packer,
    rule: Rule,
    how: Combine,
) -> (WeightedUnits, Vec<u32>) {
    let by_residue = scheme.residues() > 0 && rule != Rule::None && how != Combine::First;
    let (mut units, keyless) = if by_residue {
        // Each window counts; those of one residue have one score, so their weights add.
        combine_units(scheme, windows, packer, Combine::Sum)
    } else if rule == Rule::Unit && scheme.unit_kind() != UnitKind::Window {
        combine_units(scheme, windows, packer, how)
    } else {
        let alone = |record: &Record<K>| Unit {
            key: record.key,
            weight: record.weight,
            windows: 1,
        };
        (memory::collect(windows.iter().map(alone)), 0)
    };
    if !by_residue {
        units.iter_mut().for_each(|unit| unit.windows = 1);
    }
    let all: u64 = units.iter().map(|unit| unit.windows).sum();
    units.retain(|unit| unit.weight != 0.0);
    let scored: u64 = units.iter().map(|unit| unit.windows).sum();
    let keys: Vec<K> = memory::collect(units.iter().map(|unit| unit.key));
    let weights = memory::collect(units.iter().map(|unit| unit.weight));
    let tokens = packer.unpack_all(&keys);
    let mut groups = memory::filled(0, keys.len());
    if !scheme.groups(&tokens, &mut groups) {
        groups.clear();
    }
    let mut residues = Vec::new();
    if by_residue {
        let mut ids = memory::filled(0u128, keys.len());
        scheme.units(&tokens, &mut ids);
        memory::append(&mut residues, ids.iter().map(|&id| id as u64));
    }
    let units = WeightedUnits {
        groups,
        residues,
        keyless,
        zero: all - scored,
        scored,
        weights,
        ..WeightedUnits::default()
    };
    (units, tokens)
}

/// Windows that have one score.
struct Unit<K> {
    key: K,
    weight: f64,
    windows: u64,
}

/// The distinct units, sorted, and how many windows have no key.
fn combine_units<K: Key>(
    scheme: &dyn Scheme,
    windows: &[Record<K>],
    packer: Packer,
    how: Combine,
) -> (Vec<Unit<K>>, u64) {
    let keys: Vec<K> = memory::collect(windows.iter().map(|record| record.key));
    let tokens = packer.unpack_all(&keys);
    let mut units = memory::filled(0u128, keys.len());
    scheme.units(&tokens, &mut units);
    let mut keyless = memory::filled(false, keys.len());
    scheme.keyless(&tokens, &mut keyless);
    let rows = (0..keys.len()).filter(|&i| !keyless[i]);
    let rows = rows.map(|i| (units[i], windows[i].order, i));
    let mut rows: Vec<(u128, u64, usize)> = memory::collect(rows);
    rows.par_sort_unstable();
    let combined = rows.chunk_by(|a, b| a.0 == b.0).map(|own| {
        let first = own[0].2;
        let weight = match how {
            Combine::One | Combine::First => windows[first].weight,
            Combine::Sum => exact_sum(own.iter().map(|row| windows[row.2].weight)),
        };
        Unit {
            key: keys[first],
            weight,
            windows: own.len() as u64,
        }
    });
    let constant = keyless.iter().filter(|&&constant| constant).count();
    (memory::collect(combined), constant as u64)
}

/// A sum that does not depend on the order of the documents: rounded once.
fn exact_sum(weights: impl Iterator<Item = f64>) -> f64 {
    let mut sum = ExactSum::default();
    weights.for_each(|weight| sum.add(weight));
    sum.value()
}

/// The number that a score word means; for tournament schemes the mean of the g-values.
pub fn score_value(kind: ScoreKind, word: u64) -> f64 {
    match kind {
        ScoreKind::Green => word as f64,
        ScoreKind::Real => f64::from_bits(word),
        ScoreKind::Depths(depth) => f64::from(word.count_ones()) / f64::from(depth),
    }
}

/// Whether a weight can be summed and squared without overflow.
pub(crate) fn is_weight(weight: f64) -> bool {
    weight.abs() <= 1e100
}
