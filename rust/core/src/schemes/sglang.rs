//! SGLang's Gumbel watermark (sglang/srt/sampling/watermarking, read in 0.5.23): MurmurHash3 of
//! the context, then of key, context hash and target.

use super::params::Params;
use super::{Scheme, ScoreKind, SeedKind, UnitKind, check, exponential};
use crate::error::Result;
use crate::prng::murmur::{Murmur, MurmurLanes, murmur3_words};
use crate::prng::philox::{high, low};
use crate::schemes::rows::{self, Scores, SideBySide, Tokens, Uniforms, Units};
use crate::simd::lanes::Lanes;
use crate::simd::ln::exponentials;
use crate::simd::vector::Vector;
use std::sync::Arc;

/// A second key, chosen for a context by a coin.
#[derive(Clone, Copy)]
struct Second {
    key: u64,
    /// Key A where the coin is below it; up to 2^32.
    threshold: u64,
}

/// The scheme. A unit is (context hash, target).
pub struct SglangGumbel {
    vocab: u32,
    width: usize,
    key: u64,
    second: Option<Second>,
}

impl SglangGumbel {
    /// One key, or two with `(key_b, mixing_probability)`: a context uses key A with that
    /// probability.
    ///
    /// # Errors
    /// [`crate::Error::Scheme`] naming the parameter that is out of range.
    pub fn new(
        key: u64,
        second: Option<(u64, f64)>,
        vocab_size: u32,
        context_width: usize,
    ) -> Result<Self> {
        check::vocab_size(vocab_size)?;
        check::context_width(context_width)?;
        if let Some((_, probability)) = second {
            check::closed_share("mixing_probability", probability)?;
        }
        Ok(Self {
            vocab: vocab_size,
            width: context_width + 1,
            key,
            second: second.map(|(key, probability)| Second {
                key,
                threshold: (probability * 2f64.powi(32)) as u64,
            }),
        })
    }

    /// From `key`, `vocab_size`, `context_width`, and for a second key `key_b` and
    /// `mixing_probability`.
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let key = params.secret("key")?;
        let second = match params.optional_secret("key_b")? {
            Some(key_b) => Some((key_b, params.number("mixing_probability")?)),
            None => None,
        };
        let vocab_size = params.count("vocab_size")?;
        let width = params.count("context_width")? as usize;
        Ok(Arc::new(Self::new(key, second, vocab_size, width)?))
    }

    /// The hash of a context, and the hash of (key, context hash) that a target continues.
    fn prefix(&self, context: &[u32]) -> (u32, Murmur) {
        let hash = murmur3_words(context.iter().copied());
        let key = match self.second {
            Some(second) if !self.first_key(second, hash) => second.key,
            _ => self.key,
        };
        let mut prefix = Murmur::default();
        for word in [low(key), high(key), hash] {
            prefix.push(word);
        }
        (hash, prefix)
    }

    fn first_key(&self, second: Second, hash: u32) -> bool {
        let keys = [self.key, second.key];
        let words = keys.into_iter().flat_map(|key| [low(key), high(key)]);
        u64::from(murmur3_words(words.chain([hash]))) < second.threshold
    }
}

fn uniform(mut prefix: Murmur, target: u32) -> f64 {
    prefix.push(target);
    middle(prefix.finish())
}

/// The middle of the interval of a hash.
#[inline(always)]
fn middle(hash: u32) -> f64 {
    const INTERVAL: f64 = 1.0 / 4_294_967_296.0;
    (f64::from(hash) + 0.5) * INTERVAL
}

/// The contexts' hashes, and the hashes that a target continues.
#[derive(Clone, Copy)]
pub struct Prefixes {
    hashes: Lanes<u32>,
    prefixes: MurmurLanes,
}

impl SideBySide for SglangGumbel {
    type State<'a, V: Vector> = Prefixes;

    #[inline(always)]
    fn lane_state<V: Vector>(&self, context: &[Tokens]) -> Prefixes {
        let mut hash = MurmurLanes::new();
        for &tokens in context {
            hash.push(tokens);
        }
        let hashes = hash.finish();
        let mut keys = Lanes::splat(self.key);
        if let Some(second) = self.second {
            let mut coin = MurmurLanes::new();
            for key in [self.key, second.key] {
                coin.push(Lanes::splat(low(key)));
                coin.push(Lanes::splat(high(key)));
            }
            coin.push(hashes);
            keys = coin.finish().map(|coin| {
                let first = u64::from(coin) < second.threshold;
                if first { self.key } else { second.key }
            });
        }
        let mut prefixes = MurmurLanes::new();
        prefixes.push(keys.low());
        prefixes.push(keys.high());
        prefixes.push(hashes);
        Prefixes { hashes, prefixes }
    }

    #[inline(always)]
    fn lane_scores<V: Vector>(&self, state: &Prefixes, targets: Tokens) -> Lanes<u64> {
        exponentials(self.lane_uniforms::<V>(state, targets)).map(f64::to_bits)
    }

    #[inline(always)]
    fn lane_uniforms<V: Vector>(&self, state: &Prefixes, targets: Tokens) -> Lanes<f64> {
        let mut hash = state.prefixes;
        hash.push(targets);
        hash.finish().map(middle)
    }

    #[inline(always)]
    fn lane_units<V: Vector>(&self, state: &Prefixes, targets: Tokens) -> Lanes<u128> {
        let units = (state.hashes.wide() << 32) | targets.wide();
        units.map(u128::from)
    }
}

impl Scheme for SglangGumbel {
    fn vocab_size(&self) -> u32 {
        self.vocab
    }
    fn window_width(&self) -> usize {
        self.width
    }
    fn score_kind(&self) -> ScoreKind {
        ScoreKind::Real
    }
    fn nanoseconds(&self) -> f64 {
        20.0
    }
    fn unit_kind(&self) -> UnitKind {
        UnitKind::SeedAndTarget
    }
    fn unit_function(&self) -> Option<(&'static str, u64)> {
        Some(("murmur", 0))
    }
    fn seed_kind(&self) -> SeedKind {
        SeedKind::Hash
    }
    fn units(&self, windows: &[u32], out: &mut [u128]) {
        rows::windows::<Units, _>(self, windows, self.width, out, |window| {
            let (context, target) = window.split_at(self.width - 1);
            let hash = murmur3_words(context.iter().copied());
            (u128::from(hash) << 32) | u128::from(target[0])
        });
    }
    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        rows::windows::<Scores, _>(self, windows, self.width, out, |window| {
            let (context, target) = window.split_at(self.width - 1);
            exponential(uniform(self.prefix(context).1, target[0])).to_bits()
        });
    }
    fn uniforms_of_windows(
        &self,
        key_index: usize,
        windows: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        check::one_key(key_index)?;
        rows::windows::<Uniforms, _>(self, windows, self.width, out, |window| {
            let (context, target) = window.split_at(self.width - 1);
            uniform(self.prefix(context).1, target[0])
        });
        Ok(())
    }
    fn uniforms(&self, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        rows::vocabulary::<Uniforms, _, _>(
            self,
            self.vocab,
            self.width - 1,
            contexts,
            out,
            |context| self.prefix(context).1,
            |&prefix, token| uniform(prefix, token),
        );
        Ok(())
    }
}
