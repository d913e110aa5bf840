//! SBW, stateless Bernoulli watermarking (Ceppi and Sanchez, "Flip, Don't Shuffle", EMNLP 2026;
//! package `sbw` 1.0.0, and vLLM): a 64-bit seed of the context keys one Philox call, and a word
//! below a threshold is green.

use super::params::Params;
use super::prf::Prf;
use super::seeding::{LM_TABLE_SEED, TABLE_SIZE, table, wraps_to_zero};
use super::vllm::chosen;
use super::{Scheme, ScoreKind, SeedKind, Share, UnitKind, check, par_map};
use crate::error::{Error, Result};
use crate::key::MAX_CONTEXT_WIDTH;
use crate::key::PADDING;
use crate::prng::philox::{high, low, philox4x32_10, philox4x32_10_lanes};
use crate::schemes::rows::{self, Mask, Scores, SideBySide, Tokens, Units};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::vector::Vector;
use std::sync::Arc;

const MAX: f64 = 2_147_483_647.0;

/// What `H` stands for in the seeding functions.
enum Hash {
    /// Jenkins' integer hash (the package's `gpu-` schemes, vLLM).
    Integer,
    /// lm-watermarking's table (the package's `-cpuhash` schemes).
    Table(Arc<Vec<u32>>),
}

/// The scheme. A unit is (seed, target).
pub struct Sbw {
    vocab: u32,
    read: usize,
    self_salt: bool,
    prf: Prf,
    key: i64,
    hash: Hash,
    /// Whether an id of the vocabulary hashes to 0.
    some_hash_is_zero: bool,
    threshold: u32,
}

impl Sbw {
    /// Reads `context_width` tokens: the preceding ones, or (`self_salt`) the target and the
    /// `context_width - 1` before it. Green where the word's low 31 bits are below
    /// `int(gamma * 0x7FFFFFFF)`.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn new(
        key: u64,
        vocab_size: u32,
        gamma: f64,
        prf: Prf,
        context_width: usize,
        self_salt: bool,
        table_hash: bool,
    ) -> Result<Self> {
        check::vocab_size(vocab_size)?;
        check::context_width(context_width)?;
        check::share("gamma", gamma)?;
        check::int64("key", key)?;
        if context_width < prf.least_width() {
            return Err(Error::Scheme(format!(
                "context_width must be at least {} for this seeding, not {context_width}",
                prf.least_width()
            )));
        }
        let threshold = (gamma * MAX) as u32;
        if threshold == 0 {
            return Err(Error::Scheme(format!(
                "gamma must be at least 2^-30, not {gamma}"
            )));
        }
        Ok(Self {
            vocab: vocab_size,
            read: context_width,
            self_salt,
            prf,
            key: key as i64,
            hash: if table_hash {
                Hash::Table(table(LM_TABLE_SEED))
            } else {
                Hash::Integer
            },
            some_hash_is_zero: (0..i64::from(vocab_size)).any(|x| jenkins(x) == 0),
            threshold,
        })
    }

    /// From `key`, `vocab_size`, `gamma`, `seeding` (a name of [`Prf`]), `context_width`, `self_salt`
    /// and `table_hash`.
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let prf = Prf::from_name(&params.text("seeding")?)?;
        Ok(Arc::new(Self::new(
            params.secret("key")?,
            params.count("vocab_size")?,
            params.number("gamma")?,
            prf,
            params.count("context_width")? as usize,
            params.flag("self_salt")?,
            params.flag("table_hash")?,
        )?))
    }

    fn seed(&self, read: &[u32]) -> u64 {
        let ids = read.iter().map(|&x| id(x));
        let seed = match &self.hash {
            Hash::Integer => self.prf.wrapping(self.key, ids, jenkins),
            Hash::Table(table) => self.prf.wrapping(self.key, ids, |x| {
                i64::from(table[x.rem_euclid(i64::from(TABLE_SIZE)) as usize]) + 1
            }),
        };
        seed as u64
    }

    fn green(&self, seed: u64, target: u32) -> bool {
        let words = philox4x32_10([target / 4, 0, 0, 0], [low(seed), high(seed)]);
        words[(target % 4) as usize] & 0x7FFF_FFFF < self.threshold
    }
}

/// What is read before the target in each lane, and the seeds if they need no more.
#[derive(Clone, Copy)]
pub struct Read<'a> {
    context: &'a [Tokens],
    seeds: Lanes<u64>,
}

impl Sbw {
    /// The seeds of each lane from the tokens that are read, with `self_salt` the target among them:
    /// side by side for the seedings that vLLM has, one by one for others.
    #[inline(always)]
    fn seeds(&self, context: &[Tokens], target: Option<Tokens>) -> Lanes<u64> {
        let key = Lanes::splat(self.key);
        let read = || context.iter().copied().chain(target);
        let seeds = match (&self.hash, self.prf) {
            (Hash::Integer, Prf::Additive) => {
                let mut sum = Lanes::splat(0);
                for tokens in read() {
                    sum = sum + tokens.map(id);
                }
                sum * key
            }
            (Hash::Integer, Prf::AnchoredMinHash) => {
                let mut least = Lanes::splat(i64::MAX);
                let Some(&last) = target.as_ref().or(context.last()) else {
                    return least.map(i64::cast_unsigned);
                };
                let anchored = key * last.map(hash_of);
                for tokens in read() {
                    least = least.zip(tokens.map(hash_of) * anchored, i64::min);
                }
                least
            }
            _ => return self.seeds_one_by_one(context, target),
        };
        seeds.map(i64::cast_unsigned)
    }

    #[inline(never)]
    fn seeds_one_by_one(&self, context: &[Tokens], target: Option<Tokens>) -> Lanes<u64> {
        let mut seeds = Lanes::splat(0);
        for lane in 0..LANES {
            let mut read = [0; MAX_CONTEXT_WIDTH];
            for (read, tokens) in read.iter_mut().zip(context.iter().chain(&target)) {
                *read = tokens.0[lane];
            }
            seeds.0[lane] = self.seed(&read[..self.read]);
        }
        seeds
    }

    #[inline(always)]
    fn seeds_with(&self, read: &Read, targets: Tokens) -> Lanes<u64> {
        if self.self_salt {
            self.seeds(read.context, Some(targets))
        } else {
            read.seeds
        }
    }
}

impl SideBySide for Sbw {
    type State<'a, V: Vector> = Read<'a>;

    #[inline(always)]
    fn lane_state<'a, V: Vector>(&self, context: &'a [Tokens]) -> Read<'a> {
        let seeds = if self.self_salt {
            Lanes::splat(0)
        } else {
            self.seeds(context, None)
        };
        Read { context, seeds }
    }

    #[inline(always)]
    fn lane_scores<V: Vector>(&self, state: &Read, targets: Tokens) -> Lanes<u64> {
        let (seeds, zero) = (self.seeds_with(state, targets), Lanes::splat(0));
        let counter = [targets >> 2, zero, zero, zero];
        let words = philox4x32_10_lanes(counter, [seeds.low(), seeds.high()]);
        chosen(words, targets).map(|word| (word & 0x7FFF_FFFF < self.threshold).into())
    }

    #[inline(always)]
    fn lane_units<V: Vector>(&self, state: &Read, targets: Tokens) -> Lanes<u128> {
        let seeds = self.seeds_with(state, targets);
        seeds.zip(targets, |seed, target| {
            (u128::from(seed) << 32) | u128::from(target)
        })
    }
}

#[inline(always)]
fn hash_of(token: u32) -> i64 {
    jenkins(id(token))
}

/// vLLM pads a context with -1.
#[inline(always)]
fn id(token: u32) -> i64 {
    if token == PADDING { -1 } else { token.into() }
}

/// Bob Jenkins' integer hash of x + 1 in wrapping int32 with arithmetic shifts.
#[inline(always)]
fn jenkins(x: i64) -> i64 {
    let mut i = x.wrapping_add(1) as i32;
    i = i.wrapping_sub(i.wrapping_shl(6));
    i ^= i >> 17;
    i = i.wrapping_sub(i.wrapping_shl(9));
    i ^= i.wrapping_shl(4);
    i = i.wrapping_sub(i.wrapping_shl(3));
    i ^= i.wrapping_shl(10);
    i ^= i >> 15;
    i.into()
}

impl Scheme for Sbw {
    fn vocab_size(&self) -> u32 {
        self.vocab
    }
    fn window_width(&self) -> usize {
        self.read + usize::from(!self.self_salt)
    }
    fn score_kind(&self) -> ScoreKind {
        ScoreKind::Green
    }
    fn share(&self) -> Option<Share> {
        Some(Share {
            num: self.threshold.into(),
            den: 1 << 31,
        })
    }
    fn unit_kind(&self) -> UnitKind {
        UnitKind::Hashed
    }
    fn has_distinct_units(&self) -> bool {
        // The seed is key * c: two ids, less than 2^21 apart, meet only where the key is a multiple
        // of a high power of two.
        let one_product = matches!(self.prf, Prf::Additive | Prf::Multiplicative | Prf::MinFunc);
        let one = self.read == 1 && !self.self_salt && matches!(self.hash, Hash::Integer);
        one && one_product && self.key.trailing_zeros() <= 64 - 21
    }
    fn nanoseconds(&self) -> f64 {
        20.0
    }
    fn padding(&self) -> Option<u32> {
        Some(PADDING)
    }
    fn units(&self, windows: &[u32], out: &mut [u128]) {
        let width = self.window_width();
        rows::windows::<Units, _>(self, windows, width, out, |window| {
            let seed = self.seed(&window[..self.read]);
            (u128::from(seed) << 32) | u128::from(window[width - 1])
        });
    }
    fn least_own(&self) -> usize {
        self.prf.least_tail(self.read) - usize::from(self.self_salt)
    }
    fn seeds_of_tails(&self, tails: &[u32], own: usize, out: &mut [u128]) {
        par_map(tails, own + 1, out, |tail| {
            let seed = u128::from(self.seed(&tail[..own + usize::from(self.self_salt)]));
            match self.self_salt {
                true => (seed << 32) | u128::from(tail[own]),
                false => seed,
            }
        });
    }
    fn seed_kind(&self) -> SeedKind {
        match self.self_salt {
            true => SeedKind::WithTarget,
            false => SeedKind::KeyedHash,
        }
    }
    fn keyless(&self, windows: &[u32], out: &mut [bool]) -> bool {
        if self.has_distinct_units() {
            let windows = windows.chunks_exact(2).zip(out);
            windows.for_each(|(window, keyless)| *keyless = window[0] == 0);
            return true;
        }
        if let (Hash::Integer, Prf::AnchoredMinHash, false) =
            (&self.hash, self.prf, self.some_hash_is_zero)
        {
            // The product of two hashes of 32 bits is 0 where one of them is: that of the padding.
            if !windows.contains(&PADDING) {
                return false;
            }
        }
        par_map(windows, self.window_width(), out, |window| {
            let ids = window[..self.read].iter().map(|&x| id(x));
            match &self.hash {
                Hash::Integer => self.prf.is_keyless(ids, jenkins, |x| x == 0),
                // Entries of the table are never 0.
                Hash::Table(_) => self.prf.is_keyless(ids, |_| 1, wraps_to_zero),
            }
        });
        true
    }
    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        let width = self.window_width();
        rows::windows::<Scores, _>(self, windows, width, out, |window| {
            let seed = self.seed(&window[..self.read]);
            self.green(seed, window[width - 1]).into()
        });
    }
    fn green_mask(&self, contexts: &[u32], out: &mut [u8]) -> Result<()> {
        let (width, vocab) = (self.window_width() - 1, self.vocab);
        if self.self_salt {
            let entry = |window: &Vec<u32>, token: u32| {
                let mut read = [0; MAX_CONTEXT_WIDTH];
                read[..width].copy_from_slice(window);
                read[width] = token;
                self.green(self.seed(&read[..self.read]), token).into()
            };
            let prepare = <[u32]>::to_vec;
            rows::vocabulary::<Mask, _, _>(self, vocab, width, contexts, out, prepare, entry);
        } else {
            let entry = |&seed: &u64, token: u32| self.green(seed, token).into();
            let prepare = |context: &[u32]| self.seed(context);
            rows::vocabulary::<Mask, _, _>(self, vocab, width, contexts, out, prepare, entry);
        }
        Ok(())
    }
}
