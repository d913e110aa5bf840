//! Our own scheme: a keyed cryptographic hash of the whole window (SipHash-2-4, 128-bit key), so
//! that distinct windows are independent under H0 and one token costs one hash.

use super::params::Params;
use super::{Scheme, ScoreKind, SeedKind, Share, UnitKind, check, exponential, par_map};
use crate::error::{Error, Result};
use crate::prng::siphash::SipHash24;
use crate::prng::siphash_lanes::SipHashes;
use crate::schemes::rows::{self, Ask, Mask, Scores, SideBySide, Tokens, Uniforms};
use crate::simd::lanes::Lanes;
use crate::simd::ln::exponentials;
use crate::simd::vector::Vector;
use std::sync::Arc;

/// First word of the message, plus the context width: keeps widths and other uses of a key apart.
const DOMAIN: u32 = 0x5253_4B00;

#[derive(Clone, Copy)]
enum Mode {
    Green { threshold: u64 },
    Gumbel,
}

/// The scheme. A unit is the window itself.
pub struct Keyed {
    vocab: u32,
    width: usize,
    start: SipHash24,
    mode: Mode,
}

impl Keyed {
    /// Green lists: a token is green when the window's hash is below `floor(gamma * 2^64)`.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn green(key: [u8; 16], vocab_size: u32, context_width: usize, gamma: f64) -> Result<Self> {
        check::share("gamma", gamma)?;
        // A product with a power of two is exact, and the conversion truncates.
        let threshold = (gamma * 2f64.powi(64)) as u64;
        if threshold == 0 {
            return Err(Error::Scheme(format!(
                "gamma must be at least 2^-64, not {gamma}"
            )));
        }
        Self::new(key, vocab_size, context_width, Mode::Green { threshold })
    }

    /// Gumbel-max: the score is `-ln(1 - u)`, `u` the hash's upper 53 bits times 2^-53.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn gumbel(key: [u8; 16], vocab_size: u32, context_width: usize) -> Result<Self> {
        Self::new(key, vocab_size, context_width, Mode::Gumbel)
    }

    fn new(key: [u8; 16], vocab_size: u32, context_width: usize, mode: Mode) -> Result<Self> {
        check::vocab_size(vocab_size)?;
        check::context_width(context_width)?;
        let bytes = u128::from_le_bytes(key);
        let mut start = SipHash24::new(bytes as u64, (bytes >> 64) as u64);
        start.push(DOMAIN + context_width as u32);
        Ok(Self {
            vocab: vocab_size,
            width: context_width + 1,
            start,
            mode,
        })
    }

    /// From `key`, `vocab_size`, `context_width`, and `gamma` unless it is Gumbel-max.
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let key = params.bytes("key")?;
        let key: [u8; 16] = key.try_into().map_err(|key: Vec<u8>| {
            Error::Scheme(format!(
                "key must be 16 bytes (32 hexadecimal digits), not {}",
                key.len()
            ))
        })?;
        let vocab_size = params.count("vocab_size")?;
        let width = params.count("context_width")? as usize;
        Ok(Arc::new(match params.optional_number("gamma")? {
            Some(gamma) => Self::green(key, vocab_size, width, gamma)?,
            None => Self::gumbel(key, vocab_size, width)?,
        }))
    }

    fn extend(&self, tokens: &[u32]) -> SipHash24 {
        tokens.iter().fold(self.start, |mut hash, &token| {
            hash.push(token);
            hash
        })
    }

    /// Asks about every vocabulary entry after each context; `write` answers from its hash.
    fn all<A: Ask>(
        &self,
        contexts: &[u32],
        out: &mut [A::Out],
        write: impl Fn(u64) -> A::Out + Sync,
    ) {
        rows::vocabulary::<A, _, _>(
            self,
            self.vocab,
            self.width - 1,
            contexts,
            out,
            |context| self.extend(context),
            |prefix, token| {
                let mut hash = *prefix;
                hash.push(token);
                write(hash.finish())
            },
        );
    }
}

impl SideBySide for Keyed {
    type State<'a, V: Vector> = SipHashes<V>;
    #[inline(always)]
    fn lane_state<V: Vector>(&self, context: &[Tokens]) -> SipHashes<V> {
        let mut hash = SipHashes::new(&self.start);
        for &tokens in context {
            hash.push(tokens);
        }
        hash
    }
    #[inline(always)]
    fn lane_scores<V: Vector>(&self, state: &SipHashes<V>, targets: Tokens) -> Lanes<u64> {
        let mut hash = *state;
        hash.push(targets);
        match self.mode {
            Mode::Green { threshold } => hash.finish().map(|hash| (hash < threshold).into()),
            Mode::Gumbel => exponentials(hash.finish().map(uniform)).map(f64::to_bits),
        }
    }
    #[inline(always)]
    fn lane_uniforms<V: Vector>(&self, state: &SipHashes<V>, targets: Tokens) -> Lanes<f64> {
        let mut hash = *state;
        hash.push(targets);
        hash.finish().map(uniform)
    }
}

/// The uniform of a hash: its upper 53 bits.
#[inline(always)]
fn uniform(hash: u64) -> f64 {
    (hash >> 11) as f64 * 2f64.powi(-53)
}

impl Scheme for Keyed {
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
                den: 1 << 64,
            }),
            Mode::Gumbel => None,
        }
    }
    fn nanoseconds(&self) -> f64 {
        6.0
    }
    fn seed_kind(&self) -> SeedKind {
        SeedKind::Context
    }
    fn unit_kind(&self) -> UnitKind {
        UnitKind::Window
    }
    fn units(&self, windows: &[u32], out: &mut [u128]) {
        // Never asked for; a hash of the window keeps the contract all the same.
        par_map(windows, self.width, out, |window| {
            self.extend(window).finish().into()
        });
    }

    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        rows::windows::<Scores, _>(self, windows, self.width, out, |window| {
            let hash = self.extend(window).finish();
            match self.mode {
                Mode::Green { threshold } => (hash < threshold).into(),
                Mode::Gumbel => exponential(uniform(hash)).to_bits(),
            }
        });
    }

    fn green_mask(&self, contexts: &[u32], out: &mut [u8]) -> Result<()> {
        let Mode::Green { threshold } = self.mode else {
            return Err(Error::Scheme(
                "keyed in gumbel mode has no green lists".into(),
            ));
        };
        self.all::<Mask>(contexts, out, |hash| (hash < threshold).into());
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
            uniform(self.extend(window).finish())
        });
        Ok(())
    }

    fn uniforms(&self, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        if let Mode::Green { .. } = self.mode {
            return Err(Error::Scheme("keyed in green mode has no uniforms".into()));
        }
        self.all::<Uniforms>(contexts, out, uniform);
        Ok(())
    }
}
