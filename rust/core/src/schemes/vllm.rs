//! vLLM's Gumbel watermarks (vllm/v1/watermarking, read in 0.33.0): a Philox4x32-10 chain over
//! the context, one more call for the target.

use super::params::Params;
use super::{Scheme, ScoreKind, SeedKind, UnitKind, check, exponential, par_map};
use crate::error::Result;
use crate::key::PADDING;
use crate::prng::philox::{high, low, philox4x32_10, philox4x32_10_lanes};
use crate::schemes::rows::{self, Scores, SideBySide, Tokens, Uniforms};
use crate::simd::lanes::Lanes;
use crate::simd::ln::exponentials;
use crate::simd::vector::Vector;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const CONTEXT_DOMAIN: u32 = 0x574D_4358;
const TOKEN_DOMAIN: u32 = 0x574D_544B;

/// One keyed uniform function.
#[derive(Clone, Copy)]
struct Prf {
    key: [u32; 2],
}

impl Prf {
    fn new(key: u64) -> Self {
        Self {
            key: [low(key), high(key)],
        }
    }

    /// The key derived from a master key for one of two roles.
    fn derived(master: u64, role: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update(role);
        digest.update(master.to_be_bytes());
        let first = digest
            .finalize()
            .iter()
            .take(8)
            .fold(0, |key, &byte| (key << 8) | u64::from(byte));
        Self::new(first)
    }

    /// The chain over a context; padding is already the word 0xFFFFFFFF.
    fn context(&self, context: &[u32]) -> [u32; 4] {
        const { assert!(PADDING == 0xFFFF_FFFF) };
        let mut state = [CONTEXT_DOMAIN, context.len() as u32, 0, 0];
        for (offset, block) in (0u32..).step_by(4).zip(context.chunks(4)) {
            let mut words = [u32::MAX, u32::MAX - 1, u32::MAX - 2, u32::MAX - 3];
            words[..block.len()].copy_from_slice(block);
            for (word, state) in words.iter_mut().zip(state) {
                *word ^= state;
            }
            state = philox4x32_10(words, [self.key[0] ^ offset, self.key[1]]);
        }
        state
    }

    /// The float32 uniform of a target after a context's chain.
    fn uniform(&self, state: &[u32; 4], target: u32) -> f64 {
        let out = philox4x32_10(
            [target >> 2, state[0], state[1], state[2]],
            [self.key[0] ^ state[3], self.key[1] ^ TOKEN_DOMAIN],
        );
        rounded(out[(target & 3) as usize])
    }

    fn window(&self, window: &[u32]) -> f64 {
        let (context, target) = window.split_at(window.len() - 1);
        self.uniform(&self.context(context), target[0])
    }
}

/// The float32 uniform of a word: its quotient in double precision, rounded once.
#[inline(always)]
fn rounded(word: u32) -> f64 {
    let numerator = f64::from(((word >> 8) + 1).cast_signed());
    f64::from((numerator / 16_777_217.0) as f32)
}

/// A context's chain in each lane.
type Chains = [Lanes<u32>; 4];

impl SideBySide for Prf {
    type State<'a, V: Vector> = Chains;

    #[inline(always)]
    fn lane_state<V: Vector>(&self, context: &[Tokens]) -> Chains {
        let zero = Lanes::splat(0);
        let width = context.len() as u32;
        let mut state = [
            Lanes::splat(CONTEXT_DOMAIN),
            Lanes::splat(width),
            zero,
            zero,
        ];
        for (offset, block) in (0u32..).step_by(4).zip(context.chunks(4)) {
            for (slot, state) in (0u32..).zip(&mut state) {
                let missing = Lanes::splat(u32::MAX - slot);
                *state = *state ^ block.get(slot as usize).copied().unwrap_or(missing);
            }
            let key = [
                Lanes::splat(self.key[0] ^ offset),
                Lanes::splat(self.key[1]),
            ];
            state = philox4x32_10_lanes(state, key);
        }
        state
    }

    #[inline(always)]
    fn lane_scores<V: Vector>(&self, state: &Chains, targets: Tokens) -> Lanes<u64> {
        exponentials(self.lane_uniforms::<V>(state, targets)).map(f64::to_bits)
    }

    #[inline(always)]
    fn lane_uniforms<V: Vector>(&self, state: &Chains, targets: Tokens) -> Lanes<f64> {
        let [low, high] = self.key;
        let out = philox4x32_10_lanes(
            [targets >> 2, state[0], state[1], state[2]],
            [
                state[3] ^ Lanes::splat(low),
                Lanes::splat(high ^ TOKEN_DOMAIN),
            ],
        );
        chosen(out, targets).map(rounded)
    }
}

/// Word `target mod 4` of each lane.
#[inline(always)]
pub(super) fn chosen(words: [Lanes<u32>; 4], targets: Tokens) -> Lanes<u32> {
    let [w0, w1, w2, w3] = words;
    let pick = |a: Lanes<u32>, b: Lanes<u32>, bit: u32| {
        let all = targets.map(|target| (target >> bit & 1).wrapping_neg());
        a ^ ((a ^ b) & all)
    };
    pick(pick(w0, w1, 0), pick(w2, w3, 0), 1)
}

impl SideBySide for VllmGumbel {
    type State<'a, V: Vector> = (Chains, Chains);

    #[inline(always)]
    fn lane_state<V: Vector>(&self, context: &[Tokens]) -> (Chains, Chains) {
        let first = self.prf.lane_state::<V>(context);
        let second = self
            .second
            .map_or(first, |(prf, _)| prf.lane_state::<V>(context));
        (first, second)
    }

    #[inline(always)]
    fn lane_scores<V: Vector>(&self, state: &(Chains, Chains), targets: Tokens) -> Lanes<u64> {
        let first = exponentials(self.prf.lane_uniforms::<V>(&state.0, targets));
        let Some((prf, alpha)) = self.second else {
            return first.map(f64::to_bits);
        };
        let second = exponentials(prf.lane_uniforms::<V>(&state.1, targets));
        let mixed = first.zip(second, |a, b| (1.0 - alpha) * a + alpha * b);
        mixed.map(f64::to_bits)
    }
}

/// `gumbel` and `dual_key_gumbel`. A unit is the window itself.
pub struct VllmGumbel {
    vocab: u32,
    width: usize,
    prf: Prf,
    second: Option<(Prf, f64)>,
}

impl VllmGumbel {
    /// `gumbel`: the score is `-ln(1 - u)`.
    ///
    /// # Errors
    /// [`crate::Error::Scheme`] naming the parameter that is out of range.
    pub fn single(key: u64, vocab_size: u32, context_width: usize) -> Result<Self> {
        Self::new(Prf::new(key), None, vocab_size, context_width)
    }

    /// `dual_key_gumbel`: two keys derived from the master key; the score is
    /// `(1 - alpha) s_A + alpha s_B`.
    ///
    /// # Errors
    /// [`crate::Error::Scheme`] naming the parameter that is out of range.
    pub fn dual(key: u64, vocab_size: u32, context_width: usize, alpha: f64) -> Result<Self> {
        check::closed_share("alpha", alpha)?;
        let second = Some((Prf::derived(key, b"key_b"), alpha));
        Self::new(
            Prf::derived(key, b"key_a"),
            second,
            vocab_size,
            context_width,
        )
    }

    /// From `key`, `vocab_size` and `context_width`.
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let (key, vocab_size) = (params.secret("key")?, params.count("vocab_size")?);
        let width = params.count("context_width")? as usize;
        Ok(Arc::new(Self::single(key, vocab_size, width)?))
    }

    /// The same, and `alpha`.
    pub(super) fn dual_from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let (key, vocab_size) = (params.secret("key")?, params.count("vocab_size")?);
        let width = params.count("context_width")? as usize;
        let alpha = params.number("alpha")?;
        Ok(Arc::new(Self::dual(key, vocab_size, width, alpha)?))
    }

    fn key(&self, index: usize) -> Result<Prf> {
        let keys = [Some(self.prf), self.second.map(|(prf, _)| prf)];
        let key = keys.get(index).copied().flatten();
        key.ok_or_else(|| check::key_index(index, self.key_count()))
    }

    fn new(prf: Prf, second: Option<(Prf, f64)>, vocab: u32, context_width: usize) -> Result<Self> {
        check::vocab_size(vocab)?;
        check::context_width(context_width)?;
        Ok(Self {
            vocab,
            width: context_width + 1,
            prf,
            second,
        })
    }
}

impl Scheme for VllmGumbel {
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
        15.0
    }
    fn seed_kind(&self) -> SeedKind {
        SeedKind::Context
    }
    fn unit_kind(&self) -> UnitKind {
        UnitKind::Window
    }
    fn padding(&self) -> Option<u32> {
        Some(PADDING)
    }
    fn reaches_prompt(&self) -> bool {
        false
    }
    fn units(&self, windows: &[u32], out: &mut [u128]) {
        par_map(windows, self.width, out, |window| {
            let state = self.prf.context(&window[..self.width - 1]);
            let words = [state[0], state[1], state[2], window[self.width - 1]];
            words
                .iter()
                .fold(0, |unit, &word| (unit << 32) | u128::from(word))
        });
    }
    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        rows::windows::<Scores, _>(self, windows, self.width, out, |window| {
            let first = exponential(self.prf.window(window));
            let score = self.second.map_or(first, |(prf, alpha)| {
                (1.0 - alpha) * first + alpha * exponential(prf.window(window))
            });
            score.to_bits()
        });
    }
    fn key_count(&self) -> usize {
        1 + usize::from(self.second.is_some())
    }
    fn key_share(&self, key_index: usize) -> f64 {
        let alpha = self.second.map_or(0.0, |(_, alpha)| alpha);
        if key_index == 0 { 1.0 - alpha } else { alpha }
    }
    fn uniforms_of_windows(
        &self,
        key_index: usize,
        windows: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        let prf = self.key(key_index)?;
        let one = |window: &[u32]| prf.window(window);
        rows::windows::<Uniforms, _>(&prf, windows, self.width, out, one);
        Ok(())
    }
    fn uniforms_of(&self, key_index: usize, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        let prf = self.key(key_index)?;
        rows::vocabulary::<Uniforms, _, _>(
            &prf,
            self.vocab,
            self.width - 1,
            contexts,
            out,
            |context| prf.context(context),
            |state, token| prf.uniform(state, token),
        );
        Ok(())
    }
    fn uniforms(&self, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        self.uniforms_of(0, contexts, out)
    }
}
