//! Windows with weights: equal units are combined, then each counts once with its weight. Nothing here
//! reads a score, so that keys share it where their units are the same.

use crate::dedup::rule::Rule;
use crate::key::{Key, Packer};
use crate::memory;
use crate::schemes::{Scheme, ScoreKind, UnitKind};
use crate::score::exact_sum::ExactSum;
use rayon::prelude::*;
use std::cmp::Ordering;

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

/// How weights are made smaller once they are final; nothing is by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damping {
    /// The weight at which a unit counts half of it: `w / (1 + |w| / saturation)`.
    pub saturation: f64,
    /// The number of places of a context at which its windows count half: `n / (n + frequency)`.
    pub frequency: f64,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            saturation: f64::INFINITY,
            frequency: 0.0,
        }
    }
}

impl Damping {
    /// The weight that counts of a final one.
    pub fn saturated(self, weight: f64) -> f64 {
        weight / (1.0 + weight.abs() / self.saturation)
    }

    /// Multiplies the weights of combined windows by the factors of their contexts, which all records
    /// tell; both are sorted.
    fn by_frequency<K: Key>(
        self,
        records: &[Record<K>],
        windows: &mut [Record<K>],
        packer: Packer,
    ) {
        if self.frequency == 0.0 {
            return;
        }
        let same = |a: &Record<K>, b: &Record<K>| packer.context(a.key) == packer.context(b.key);
        let contexts = records.chunk_by(same).zip(windows.chunk_by_mut(same));
        let pairs: Vec<_> = memory::collect(contexts);
        let weigh = |places: &mut Vec<u64>, (own, windows): (&[Record<K>], &mut [Record<K>])| {
            places.clear();
            memory::append(places, own.iter().map(|record| record.order));
            places.sort_unstable();
            places.dedup();
            let n = places.len() as f64;
            windows
                .iter_mut()
                .for_each(|window| window.weight *= n / (n + self.frequency));
        };
        pairs.into_par_iter().for_each_init(Vec::new, weigh);
    }
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

impl<K: Key> Record<K> {
    /// By window, then by place, then by weight.
    pub fn compare(&self, other: &Self) -> Ordering {
        let by_rest = || self.order.cmp(&other.order);
        let by_weight = || self.weight.total_cmp(&other.weight);
        self.key
            .cmp(&other.key)
            .then_with(by_rest)
            .then_with(by_weight)
    }
}

/// A distinct window and its unit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row<K> {
    /// What the scheme reads of the window.
    pub unit: u128,
    /// The window.
    pub window: Record<K>,
}

impl<K: Key> Row<K> {
    /// By unit, then by place, then by window.
    pub fn compare(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (&self.window, &other.window);
        let by_rest = || {
            mine.order
                .cmp(&theirs.order)
                .then(mine.key.cmp(&theirs.key))
        };
        self.unit.cmp(&other.unit).then_with(by_rest)
    }
}

/// Where the units of a scheme come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitSource {
    /// Each window is a unit.
    Windows,
    /// A function that reads no key computes them, here named; by residue, windows count one by one.
    Shared((&'static str, u64), bool),
    /// They depend on the key.
    Keyed,
}

impl UnitSource {
    /// That of a scheme's units under some rules.
    pub fn of(scheme: &dyn Scheme, rule: Rule, how: Combine) -> Self {
        let by_residue = scheme.residues() > 0 && rule != Rule::None && how != Combine::First;
        let by_unit = rule == Rule::Unit && scheme.unit_kind() != UnitKind::Window;
        match scheme.unit_function() {
            _ if !by_residue && !by_unit => Self::Windows,
            Some(function) => Self::Shared(function, by_residue),
            None => Self::Keyed,
        }
    }
}

/// The distinct weighted units of one scheme, sorted: all that no score decides on.
#[derive(Debug, Clone, Default)]
pub struct Evidence<K> {
    /// A window of each unit: of several the first that was read.
    pub keys: Vec<K>,
    /// Weight of each unit, never 0.
    pub weights: Vec<f64>,
    /// What was counted on the way.
    pub counts: UnitCounts,
}

/// How many windows became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnitCounts {
    /// Windows that units with a weight stand for: one each, but several per residue.
    pub scored: u64,
    /// Distinct windows whose draw does not depend on the key.
    pub keyless: u64,
    /// Units whose weights cancelled.
    pub zero: u64,
}

impl UnitCounts {
    /// Adds the counts of other windows.
    pub fn merge(&mut self, other: &Self) {
        self.scored += other.scored;
        self.keyless += other.keyless;
        self.zero += other.zero;
    }
}

/// What a test needs to know of each unit.
#[derive(Debug, Clone, Default)]
pub struct WeightedUnits {
    /// Weight of each unit, never 0.
    pub weights: Vec<f64>,
    /// Score of each unit, if asked for; for tournament schemes the mean of its g-values.
    pub scores: Vec<f64>,
    /// Residue of each unit, if windows of one residue were added up.
    pub residues: Vec<u64>,
    /// Units of one group are scored by one permutation; empty if all are independent.
    pub groups: Vec<u64>,
}

impl WeightedUnits {
    /// Appends others.
    pub fn extend(&mut self, more: &Self) {
        memory::extend(&mut self.weights, &more.weights);
        memory::extend(&mut self.scores, &more.scores);
        memory::extend(&mut self.residues, &more.residues);
        memory::extend(&mut self.groups, &more.groups);
    }

    /// Those of a scheme, still without scores, and the tokens of a window of each.
    pub fn of<K: Key>(
        evidence: &Evidence<K>,
        scheme: &dyn Scheme,
        source: UnitSource,
        packer: Packer,
    ) -> (Self, Vec<u32>) {
        let tokens = packer.unpack_all(&evidence.keys);
        let mut groups = memory::filled(0, evidence.keys.len());
        if !scheme.groups(&tokens, &mut groups) {
            groups.clear();
        }
        let mut residues = Vec::new();
        if let UnitSource::Shared(_, true) = source {
            let mut ids = memory::filled(0u128, evidence.keys.len());
            scheme.units(&tokens, &mut ids);
            memory::append(&mut residues, ids.iter().map(|&id| id as u64));
        }
        let units = Self {
            weights: memory::copy(&evidence.weights),
            scores: Vec::new(),
            residues,
            groups,
        };
        (units, tokens)
    }
}

/// Sorts the records of the windows and combines equal ones.
pub fn combine<K: Key>(
    records: &mut [Record<K>],
    packer: Packer,
    rule: Rule,
    how: Combine,
    damping: Damping,
) -> Vec<Record<K>> {
    records.par_sort_unstable_by(Record::compare);
    let mut windows = match rule {
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
    };
    damping.by_frequency(records, &mut windows, packer);
    windows
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

/// The units of distinct windows, and how many of these have no key.
pub fn rows_of<K: Key>(
    scheme: &dyn Scheme,
    windows: &[Record<K>],
    packer: Packer,
) -> (Vec<Row<K>>, u64) {
    let keys: Vec<K> = memory::collect(windows.iter().map(|record| record.key));
    let tokens = packer.unpack_all(&keys);
    let mut units = memory::filled(0u128, keys.len());
    scheme.units(&tokens, &mut units);
    let mut keyless = memory::filled(false, keys.len());
    scheme.keyless(&tokens, &mut keyless);
    let mut rows = memory::vec(windows.len());
    for ((&window, unit), _) in windows.iter().zip(units).zip(&keyless).filter(|row| !row.1) {
        rows.push(Row { unit, window });
    }
    let constant = windows.len() - rows.len();
    (rows, constant as u64)
}

/// Combines rows by unit, or adds them up by residue, and drops what cancelled.
pub fn fold_units<K: Key>(
    rows: &mut [Row<K>],
    source: UnitSource,
    how: Combine,
    damping: Damping,
) -> Evidence<K> {
    rows.par_sort_unstable_by(Row::compare);
    // Each window counts; those of one residue have one score, so their weights add.
    let by_residue = matches!(source, UnitSource::Shared(_, true));
    let mut found = Evidence::default();
    for own in rows.chunk_by(|a, b| a.unit == b.unit) {
        let weights = own.iter().map(|row| row.window.weight);
        let weight = match how {
            _ if by_residue => exact_sum(weights.map(|weight| damping.saturated(weight))),
            Combine::Sum => damping.saturated(exact_sum(weights)),
            _ => damping.saturated(own[0].window.weight),
        };
        let windows = if by_residue { own.len() as u64 } else { 1 };
        found.push(own[0].window.key, weight, windows);
    }
    found
}

/// Distinct windows of which each is a unit, without those whose weights cancelled.
pub fn lone_units<K: Key>(windows: &[Record<K>], damping: Damping) -> Evidence<K> {
    let mut found = Evidence {
        keys: memory::vec(windows.len()),
        weights: memory::vec(windows.len()),
        counts: UnitCounts::default(),
    };
    for record in windows {
        found.push(record.key, damping.saturated(record.weight), 1);
    }
    found
}

impl<K: Key> Evidence<K> {
    fn push(&mut self, key: K, weight: f64, windows: u64) {
        if weight == 0.0 {
            self.counts.zero += windows;
            return;
        }
        self.counts.scored += windows;
        memory::push(&mut self.keys, key);
        memory::push(&mut self.weights, weight);
    }
}

/// A sum that does not depend on the order of the documents: rounded once.
pub(crate) fn exact_sum(mut weights: impl ExactSizeIterator<Item = f64>) -> f64 {
    if weights.len() <= 2 {
        let first = weights.next().unwrap_or_default();
        return weights.next().map_or(first, |second| first + second);
    }
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
