//! What a test needs to know about the scored units: sums, which add up over disjoint sets of units.

use crate::error::Result;
use crate::input::counts::Counts;
use crate::io::records::{Reader, put_u64};
use crate::key::Key;
use crate::memory;
use crate::schemes::ScoreKind;
use crate::schemes::residues::Residues;
use crate::score::exact_sum::ExactSum;
use std::io::Read;

/// Sums over the scored units of one scheme.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums {
    /// Units scored.
    pub scored: u64,
    /// Green units.
    pub green: u64,
    /// Sum of real scores.
    pub score: ExactSum,
    /// Ones at each depth.
    pub depths: Vec<u64>,
    /// Windows of each residue, if nothing else of a window decides on its score.
    pub residues: Residues,
    /// Distinct windows that share a unit with an earlier one.
    pub unit_duplicates: u64,
    /// Distinct windows whose draw does not depend on the key, which are not scored.
    pub keyless: u64,
}

impl Sums {
    /// Adds the score words of units.
    pub fn add(&mut self, kind: ScoreKind, words: &[u64]) {
        self.scored += words.len() as u64;
        match kind {
            ScoreKind::Green => self.green += words.iter().sum::<u64>(),
            ScoreKind::Real => self.score.add_all(words),
            ScoreKind::Depths(depth) => {
                self.depths.resize(depth.into(), 0);
                for &word in words {
                    for (d, ones) in self.depths.iter_mut().enumerate() {
                        *ones += word >> d & 1;
                    }
                }
            }
        }
    }

    /// Counts the residues of windows.
    pub fn add_residues(&mut self, size: usize, units: &[u128]) {
        self.scored += units.len() as u64;
        self.residues
            .add(size, units.iter().map(|&unit| unit as u32));
    }

    /// Appends the sums.
    pub fn write(&self, out: &mut Vec<u8>) {
        let counts = [self.scored, self.green, self.unit_duplicates, self.keyless];
        counts.iter().for_each(|&count| put_u64(out, count));
        put_u64(out, self.depths.len() as u64);
        self.depths.iter().for_each(|&ones| put_u64(out, ones));
        self.score.write(out);
        self.residues.write(out);
    }

    /// Reads what [`Sums::write`] wrote.
    pub fn read<R: Read>(reader: &mut Reader<R>) -> Result<Self> {
        Ok(Self {
            scored: reader.u64()?,
            green: reader.u64()?,
            unit_duplicates: reader.u64()?,
            keyless: reader.u64()?,
            depths: reader.list(8, <u64 as Key>::read)?,
            score: ExactSum::read(&reader.array::<{ ExactSum::BYTES }>()?),
            residues: Residues::read(reader)?,
        })
    }

    /// Adds the sums of other, different units.
    pub fn merge(&mut self, other: &Self) {
        self.scored += other.scored;
        self.green += other.green;
        self.score.merge(&other.score);
        self.residues.merge(&other.residues);
        self.unit_duplicates += other.unit_duplicates;
        self.keyless += other.keyless;
        if self.depths.len() < other.depths.len() {
            self.depths.resize(other.depths.len(), 0);
        }
        self.depths
            .iter_mut()
            .zip(&other.depths)
            .for_each(|(ones, more)| *ones += more);
    }
}

/// Sums over weighted units.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WeightSums {
    /// Sum of w.
    pub weight: ExactSum,
    /// Sum of w^2.
    pub square: ExactSum,
    /// Largest |w|.
    pub max_abs: f64,
    /// Sum of w times the score.
    pub product: ExactSum,
    /// Units whose weights cancelled to 0, which are not scored.
    pub zero: u64,
}

impl WeightSums {
    /// Adds the weights of units, without their scores; `words` is scratch memory.
    pub fn add_weights(&mut self, weights: &[f64], words: &mut Vec<u64>) {
        const SLICE: usize = 1 << 11;
        for weights in weights.chunks(SLICE) {
            words.clear();
            memory::append(words, weights.iter().map(|w| w.to_bits()));
            self.weight.add_all(words);
            let squares = words.iter_mut().zip(weights);
            squares.for_each(|(word, w)| *word = (w * w).to_bits());
            self.square.add_all(words);
            let largest = weights.iter().fold(0.0, |most: f64, w| most.max(w.abs()));
            self.max_abs = self.max_abs.max(largest);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        [&self.weight, &self.square, &self.product]
            .iter()
            .for_each(|sum| sum.write(out));
        put_u64(out, self.max_abs.to_bits());
        put_u64(out, self.zero);
    }

    fn read<R: Read>(reader: &mut Reader<R>) -> Result<Self> {
        Ok(Self {
            weight: ExactSum::read(&reader.array::<{ ExactSum::BYTES }>()?),
            square: ExactSum::read(&reader.array::<{ ExactSum::BYTES }>()?),
            product: ExactSum::read(&reader.array::<{ ExactSum::BYTES }>()?),
            max_abs: f64::from_bits(reader.u64()?),
            zero: reader.u64()?,
        })
    }

    /// Adds the sums of other, different units.
    pub fn merge(&mut self, other: &Self) {
        self.weight.merge(&other.weight);
        self.square.merge(&other.square);
        self.product.merge(&other.product);
        self.max_abs = self.max_abs.max(other.max_abs);
        self.zero += other.zero;
    }
}

/// Everything that is known of the windows of one test.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// What each rule saw and removed.
    pub counts: Counts,
    /// Windows removed as repetitions of a window or context.
    pub duplicates: u64,
    /// Sums over the units that were scored.
    pub sums: Sums,
    /// Sums with weights, if windows carry any.
    pub weights: Option<WeightSums>,
}

impl Tally {
    /// Adds the tally of windows whose units are all different from these.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.duplicates += other.duplicates;
        self.sums.merge(&other.sums);
        match (&mut self.weights, &other.weights) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    /// Appends the tally.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.counts.write(out);
        put_u64(out, self.duplicates);
        self.sums.write(out);
        put_u64(out, u64::from(self.weights.is_some()));
        if let Some(weights) = &self.weights {
            weights.write(out);
        }
    }

    /// Reads what [`Tally::write`] wrote.
    pub fn read<R: Read>(reader: &mut Reader<R>) -> Result<Self> {
        Ok(Self {
            counts: Counts::read(reader)?,
            duplicates: reader.u64()?,
            sums: Sums::read(reader)?,
            weights: match reader.u64()? {
                0 => None,
                _ => Some(WeightSums::read(reader)?),
            },
        })
    }
}
