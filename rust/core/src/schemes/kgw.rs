//! Green lists from a permutation of the vocabulary, seeded by the context: Kirchenbauer et al.,
//! "A Watermark for Large Language Models" (ICML 2023), as in lm-watermarking, transformers and
//! the radioactivity authors' code.

use super::green_list::Scratch;
use super::grouping::score_by_seed;
use super::params::Params;
use super::permutation::{Kernel, Permutation};
use super::seeding::{Seeding, seeded_units};
use super::{Scheme, ScoreKind, SeedKind, Share, UnitKind, check, par_map};
use crate::error::Result;
use crate::memory;
use crate::simd::{self, Kernel as InstructionSet};
use rayon::prelude::*;
use std::sync::Arc;

/// Vocabulary entries scored in one go where each has a list of its own.
const TOKENS: usize = 1 << 14;

/// The scheme. A unit is (low 32 bits of the seed, target).
pub struct Kgw {
    vocab: u32,
    green: u32,
    seeding: Seeding,
    lists: Permutation,
}

impl Kgw {
    /// Green are the first `int(gamma * vocab_size)` entries of the context's permutation, or
    /// the last where `green_last` is set (lm-watermarking's legacy switch).
    ///
    /// # Errors
    /// [`crate::Error::Scheme`] naming the parameter that is out of range.
    pub fn new(vocab_size: u32, gamma: f64, seeding: Seeding, green_last: bool) -> Result<Self> {
        check::vocab_size(vocab_size)?;
        let green = check::green_list(gamma, vocab_size)?;
        Ok(Self {
            vocab: vocab_size,
            green,
            seeding,
            lists: Permutation::new(vocab_size, green, green_last),
        })
    }

    /// The same with a forced algorithm.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.lists = self.lists.with_kernel(kernel);
        self
    }

    /// From `vocab_size`, `gamma`, `green_last`, those of [`Seeding::from_params`], and in tests
    /// `kernel`.
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let kernel = match params.optional_text("kernel")? {
            Some(name) => Kernel::from_name(&name)?,
            None => Kernel::Auto,
        };
        let scheme = Self::new(
            params.count("vocab_size")?,
            params.number("gamma")?,
            Seeding::from_params(params)?,
            params.flag("green_last")?,
        )?;
        Ok(Arc::new(scheme.with_kernel(kernel)))
    }
}

impl Scheme for Kgw {
    fn vocab_size(&self) -> u32 {
        self.vocab
    }
    fn window_width(&self) -> usize {
        self.seeding.window_width()
    }
    fn score_kind(&self) -> ScoreKind {
        ScoreKind::Green
    }
    fn share(&self) -> Option<Share> {
        Some(Share {
            num: self.green.into(),
            den: self.vocab.into(),
        })
    }
    seeded_units!();

    fn nanoseconds(&self) -> f64 {
        let per_step = match simd::active() {
            InstructionSet::Scalar => 1.0,
            InstructionSet::Avx2 => 0.45,
            InstructionSet::Avx512 => 0.25,
        };
        200.0 + per_step * f64::from(self.lists.steps())
    }

    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        let seeder = self.seeding.prepare();
        let width = self.window_width();
        let seed_target = |row: usize| seeder.seed_target(&windows[row * width..][..width]);
        score_by_seed(
            out,
            seed_target,
            |(scratch, green): &mut (Scratch, Vec<bool>), batch, scores| {
                memory::resize(green, scores.len(), false);
                self.lists.green_batch(batch, scratch, green);
                for (score, &green) in scores.iter_mut().zip(green.iter()) {
                    *score = green.into();
                }
            },
        );
    }

    fn groups(&self, windows: &[u32], out: &mut [u64]) -> bool {
        if self.seeding.self_salt() {
            return false; // every target has a permutation of its own
        }
        let seeder = self.seeding.prepare();
        par_map(windows, self.window_width(), out, |window| {
            seeder.seed(window).into()
        });
        true
    }

    fn green_mask(&self, contexts: &[u32], out: &mut [u8]) -> Result<()> {
        let seeder = self.seeding.prepare();
        let width = self.window_width() - 1;
        let vocab = self.vocab as usize;
        let rows = out.par_chunks_mut(vocab).enumerate();
        if self.seeding.self_salt() {
            rows.for_each(|(row, out)| {
                let context = &contexts[row * width..][..width];
                // Every token has a list of its own: windows like any others.
                for (block, out) in out.chunks_mut(TOKENS).enumerate() {
                    let mut windows = Vec::with_capacity(out.len() * (width + 1));
                    for token in ((block * TOKENS) as u32..).take(out.len()) {
                        windows.extend_from_slice(context);
                        windows.push(token);
                    }
                    let mut scores = vec![0; out.len()];
                    self.scores(&windows, &mut scores);
                    for (out, score) in out.iter_mut().zip(scores) {
                        *out = u8::from(score == 1);
                    }
                }
            });
        } else {
            let scratch = || (Scratch::default(), vec![false; vocab]);
            rows.for_each_init(scratch, |(scratch, green), (row, out)| {
                let seed = seeder.seed_read(&contexts[row * width..][..width]);
                self.lists.green_all(seed, scratch, green);
                for (out, &green) in out.iter_mut().zip(green.iter()) {
                    *out = green.into();
                }
            });
        }
        Ok(())
    }
}
