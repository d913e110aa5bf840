//! Gumbel-max sampling with torch's CPU uniforms (Aaronson 2022; the radioactivity authors'
//! `openai`): `r = torch.rand(V)` in float32, seeded by the context; the score of a target t is
//! `-ln(1 - r[t])`, Exp(1) under H0.

use super::grouping::{Batch, score_by_seed};
use super::params::Params;
use super::seeding::{Seeding, seeded_units};
use super::{Scheme, ScoreKind, SeedKind, UnitKind, check, exponential};
use crate::error::{Error, Result};
use crate::memory;
use crate::prng::mt19937::{Mt19937, WORDS};
use crate::prng::mt19937_lanes::LANES;
use crate::prng::uniforms::draws;
use crate::simd::vector::Vector;
use crate::simd::{self, Job};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The scheme. A unit is (low 32 bits of the seed, target).
pub struct GumbelMax {
    vocab: u32,
    seeding: Seeding,
}

impl GumbelMax {
    /// One draw of float32 for each vocabulary entry, in order.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn new(vocab_size: u32, seeding: Seeding) -> Result<Self> {
        check::vocab_size(vocab_size)?;
        if seeding.self_salt() {
            return Err(Error::Scheme(
                "self_salt must be false: the uniforms of a context are drawn before the target"
                    .into(),
            ));
        }
        Ok(Self {
            vocab: vocab_size,
            seeding,
        })
    }

    /// From `vocab_size` and those of [`Seeding::from_params`].
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let vocab_size = params.count("vocab_size")?;
        Ok(Arc::new(Self::new(
            vocab_size,
            Seeding::from_params(params)?,
        )?))
    }
}

/// torch's float32 uniform of a word.
fn uniform(word: u32) -> f64 {
    f64::from(word & 0x00FF_FFFF) * 2f64.powi(-24)
}

/// The scores of ascending indices: twists past the blocks before each, and tempers one word.
#[inline(always)]
fn uniforms_at(seed: u32, ascending: &[u32], out: &mut [u64]) {
    let mut generator = Mt19937::new(seed);
    let mut blocks = 0;
    for (out, &index) in out.iter_mut().zip(ascending) {
        let index = index as usize;
        while blocks <= index / WORDS {
            generator.twist();
            blocks += 1;
        }
        *out = exponential(uniform(generator.word(index % WORDS))).to_bits();
    }
}

/// The scores of a batch, seeds in lanes.
struct ManySeeds<'a> {
    batch: &'a Batch,
    out: &'a mut [u64],
}

impl Job for ManySeeds<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let targets = self.batch.targets();
        let mut slots: Vec<(u32, Range<usize>)> = memory::collect(self.batch.seeds());
        // Lanes that run together draw as far as the one that draws most.
        slots.sort_unstable_by_key(|(_, range)| targets[range.end - 1]);
        let mut state: Vec<V> = Vec::new();
        for slots in slots.chunks(V::LANES) {
            if slots.len() < V::LANES / FEW_LANES {
                for (seed, range) in slots {
                    uniforms_at(*seed, &targets[range.clone()], &mut self.out[range.clone()]);
                }
                continue;
            }
            let mut seeds = [0; LANES];
            let mut indices: [&[u32]; LANES] = [&[]; LANES];
            for ((slot, seed), indices) in slots.iter().zip(&mut seeds).zip(&mut indices) {
                *seed = slot.0;
                *indices = &targets[slot.1.clone()];
            }
            let found = |lane: usize, k: usize, word| {
                self.out[slots[lane].1.start + k] = exponential(uniform(word)).to_bits();
            };
            draws(&seeds, &indices[..slots.len()], &mut state, found);
        }
    }
}

/// With fewer than a quarter of the lanes in use it is cheaper to draw for their seeds one by one.
const FEW_LANES: usize = 4;

impl Scheme for GumbelMax {
    fn vocab_size(&self) -> u32 {
        self.vocab
    }
    fn window_width(&self) -> usize {
        self.seeding.window_width()
    }
    fn score_kind(&self) -> ScoreKind {
        ScoreKind::Real
    }
    seeded_units!();

    fn nanoseconds(&self) -> f64 {
        2_000.0 + 0.2 * f64::from(self.vocab)
    }

    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        let seeder = self.seeding.prepare();
        let width = self.window_width();
        let seed_target = |row: usize| seeder.seed_target(&windows[row * width..][..width]);
        score_by_seed(out, seed_target, |(): &mut (), batch, scores| {
            let job = ManySeeds { batch, out: scores };
            if let Err(ManySeeds { batch, out }) = simd::run(job) {
                for (seed, range) in batch.seeds() {
                    uniforms_at(seed, &batch.targets()[range.clone()], &mut out[range]);
                }
            }
        });
    }

    fn uniforms(&self, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        let seeder = self.seeding.prepare();
        let width = self.window_width() - 1;
        let rows = out.par_chunks_mut(self.vocab as usize);
        rows.zip(contexts.par_chunks(width))
            .for_each(|(out, context)| {
                let mut generator = Mt19937::new(seeder.seed_read(context));
                for block in out.chunks_mut(WORDS) {
                    generator.twist();
                    for (k, out) in block.iter_mut().enumerate() {
                        *out = uniform(generator.word(k));
                    }
                }
            });
        Ok(())
    }
}
