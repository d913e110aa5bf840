//! TextSeal (Meta; package `textseal` 0.0.5): a linear hash of context, target and key in int64
//! arithmetic, one xor-shift, and a remainder mod 8191.

use super::params::Params;
use super::{Scheme, ScoreKind, SeedKind, Share, UnitKind, check, exponential, par_map};
use crate::error::{Error, Result};
use crate::schemes::rows::{self, Mask, Scores, SideBySide, Tokens, Uniforms, Units};
use crate::simd::lanes::Lanes;
use crate::simd::ln::exponentials;
use crate::simd::vector::Vector;
use std::sync::Arc;

const PRIMES: [i64; 10] = [
    10_000_019, 10_000_247, 10_000_439, 10_000_643, 10_000_747, 10_000_867, 10_000_993, 10_001_213,
    10_001_357, 10_001_501,
];
const TARGET: i64 = 100_000_007;
const KEY: i64 = 500_001_713;
const FIRST: i64 = 15_485_863;
const SECOND: i64 = 40_499;
const VALUES: u16 = 8191;

#[derive(Clone, Copy)]
enum Mode {
    Green { threshold: u16 },
    Gumbel,
}

/// The scheme. A unit is the integer `sum_j P[j] c[j] + 100000007 target`.
pub struct TextSeal {
    vocab: u32,
    width: usize,
    keyed: i64,
    mode: Mode,
}

impl TextSeal {
    /// Green where `u < gamma`, compared in float32 as the package does; the true share is the
    /// number of such values over 8191.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn green(key: i64, vocab_size: u32, context_width: usize, gamma: f64) -> Result<Self> {
        check::share("gamma", gamma)?;
        let below = |h: &u16| f32::from(*h) / f32::from(VALUES) < gamma as f32;
        let threshold = (0..VALUES).take_while(below).count() as u16;
        if threshold == 0 || threshold == VALUES {
            return Err(Error::Scheme(format!(
                "gamma must leave between 1 and 8190 of the 8191 values green, not {threshold}"
            )));
        }
        Self::new(key, vocab_size, context_width, Mode::Green { threshold })
    }

    /// The score is `-ln(1 - u)`.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn gumbel(key: i64, vocab_size: u32, context_width: usize) -> Result<Self> {
        Self::new(key, vocab_size, context_width, Mode::Gumbel)
    }

    fn new(key: i64, vocab_size: u32, context_width: usize, mode: Mode) -> Result<Self> {
        check::vocab_size(vocab_size)?;
        check::width("context_width", context_width, 1, PRIMES.len())?;
        Ok(Self {
            vocab: vocab_size,
            width: context_width + 1,
            keyed: KEY.wrapping_mul(key),
            mode,
        })
    }

    /// From `key`, `vocab_size`, `context_width`, and `gamma` unless it is Gumbel-max.
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let key = params.signed_secret("key")?;
        let vocab_size = params.count("vocab_size")?;
        let width = params.count("context_width")? as usize;
        Ok(Arc::new(match params.optional_number("gamma")? {
            Some(gamma) => Self::green(key, vocab_size, width, gamma)?,
            None => Self::gumbel(key, vocab_size, width)?,
        }))
    }

    fn unit(&self, window: &[u32]) -> i64 {
        let (context, target) = window.split_at(self.width - 1);
        context_sum(context) + TARGET * target.first().map_or(0, |&t| i64::from(t))
    }

    /// The value below 8191 of a unit.
    fn value(&self, unit: i64) -> u16 {
        let h = unit
            .wrapping_add(self.keyed)
            .wrapping_mul(FIRST)
            .wrapping_mul(SECOND);
        (h ^ (h >> 13)).rem_euclid(VALUES.into()) as u16
    }
}

/// At most ten terms below 2^44: no overflow.
fn context_sum(context: &[u32]) -> i64 {
    let terms = PRIMES.iter().zip(context);
    terms.map(|(prime, &x)| prime * i64::from(x)).sum()
}

#[inline(always)]
fn uniform(value: u16) -> f64 {
    f64::from(value) / f64::from(VALUES)
}

/// `x mod 8191` without a division: 2^13 leaves 1, so the digits in that base are added, and 2^64,
/// which a negative number lacks, leaves 2^12.
#[inline(always)]
fn remainder(x: i64) -> u16 {
    const MASK: u64 = VALUES as u64;
    let bits = x.cast_unsigned();
    let digits = (bits & MASK)
        + ((bits >> 13) & MASK)
        + ((bits >> 26) & MASK)
        + ((bits >> 39) & MASK)
        + (bits >> 52)
        + ((bits >> 63) * (MASK - (1 << 12)));
    let sum = (digits & MASK) + (digits >> 13);
    (if sum >= MASK { sum - MASK } else { sum }) as u16
}

impl TextSeal {
    /// [`TextSeal::value`] of each lane.
    #[inline(always)]
    fn values(&self, units: Lanes<i64>) -> Lanes<u16> {
        let h = (units + Lanes::splat(self.keyed)) * Lanes::splat(FIRST.wrapping_mul(SECOND));
        (h ^ (h >> 13)).map(remainder)
    }
}

impl SideBySide for TextSeal {
    /// The contexts' part of the units.
    type State<'a, V: Vector> = Lanes<i64>;

    #[inline(always)]
    fn lane_state<V: Vector>(&self, context: &[Tokens]) -> Lanes<i64> {
        let mut sum = Lanes::splat(0);
        for (&prime, tokens) in PRIMES.iter().zip(context) {
            sum = sum + tokens.signed() * Lanes::splat(prime);
        }
        sum
    }

    #[inline(always)]
    fn lane_scores<V: Vector>(&self, state: &Lanes<i64>, targets: Tokens) -> Lanes<u64> {
        match self.mode {
            Mode::Green { threshold } => {
                let units = *state + targets.signed() * Lanes::splat(TARGET);
                self.values(units).map(|value| (value < threshold).into())
            }
            Mode::Gumbel => exponentials(self.lane_uniforms::<V>(state, targets)).map(f64::to_bits),
        }
    }

    #[inline(always)]
    fn lane_uniforms<V: Vector>(&self, state: &Lanes<i64>, targets: Tokens) -> Lanes<f64> {
        let units = *state + targets.signed() * Lanes::splat(TARGET);
        self.values(units).map(uniform)
    }

    #[inline(always)]
    fn lane_units<V: Vector>(&self, state: &Lanes<i64>, targets: Tokens) -> Lanes<u128> {
        let units = *state + targets.signed() * Lanes::splat(TARGET);
        units.map(|unit| u128::from(unit.unsigned_abs()))
    }
}

impl Scheme for TextSeal {
    fn vocab_size(&self) -> u32 {
        self.vocab
    }
    fn window_width(&self) -> usize {
        self.width
    }
    fn score_kind(&self) -> ScoreKind {
        match self.mode {
            Mode::Green { .. } => ScoreKind::Green,
            Mode::Gumbel => ScoreKind::Real,
        }
    }
    fn share(&self) -> Option<Share> {
        match self.mode {
            Mode::Green { threshold } => Some(Share {
                num: threshold.into(),
                den: VALUES.into(),
            }),
            Mode::Gumbel => None,
        }
    }
    fn unit_kind(&self) -> UnitKind {
        UnitKind::Hashed
    }
    fn units(&self, windows: &[u32], out: &mut [u128]) {
        rows::windows::<Units, _>(self, windows, self.width, out, |window| {
            u128::from(self.unit(window).unsigned_abs())
        });
    }
    fn unit_function(&self) -> Option<(&'static str, u64)> {
        Some(("textseal", 0))
    }
    fn seed_kind(&self) -> SeedKind {
        SeedKind::Hash
    }
    /// Two windows of one unit have context sums that differ by a multiple of the target's factor.
    fn seeds(&self, windows: &[u32], out: &mut [u128]) {
        par_map(windows, self.width, out, |window| {
            let sum = context_sum(&window[..self.width - 1]);
            sum.rem_euclid(TARGET).unsigned_abs().into()
        });
    }
    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        rows::windows::<Scores, _>(self, windows, self.width, out, |window| {
            let value = self.value(self.unit(window));
            match self.mode {
                Mode::Green { threshold } => (value < threshold).into(),
                Mode::Gumbel => exponential(uniform(value)).to_bits(),
            }
        });
    }
    fn green_mask(&self, contexts: &[u32], out: &mut [u8]) -> Result<()> {
        let Mode::Green { threshold } = self.mode else {
            return Err(Error::Scheme(
                "textseal in gumbel mode has no green lists".into(),
            ));
        };
        rows::vocabulary::<Mask, _, _>(
            self,
            self.vocab,
            self.width - 1,
            contexts,
            out,
            context_sum,
            |sum, token| (self.value(sum + TARGET * i64::from(token)) < threshold).into(),
        );
        Ok(())
    }
    fn uniforms_of_windows(
        &self,
        key_index: usize,
        windows: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        check::one_key(key_index)?;
        rows::windows::<Uniforms, _>(self, windows, self.width, out, |window| {
            uniform(self.value(self.unit(window)))
        });
        Ok(())
    }
    fn uniforms(&self, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        if let Mode::Green { .. } = self.mode {
            return Err(Error::Scheme(
                "textseal in green mode has no uniforms".into(),
            ));
        }
        rows::vocabulary::<Uniforms, _, _>(
            self,
            self.vocab,
            self.width - 1,
            contexts,
            out,
            context_sum,
            |sum, token| uniform(self.value(sum + TARGET * i64::from(token))),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders() {
        let modulus = i64::from(VALUES);
        for near in [0, i64::MIN, i64::MAX, 8191, -8191, 1 << 52, 8191 << 39] {
            for x in (-9000..9000).map(|d| near.wrapping_add(d)) {
                assert_eq!(i64::from(remainder(x)), x.rem_euclid(modulus), "{x}");
            }
        }
    }
}
