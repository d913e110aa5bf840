//! Keyed schemes: what turns a window into a score. One file per scheme.
//!
//! A *window* is `window_width` token ids, oldest first, the target last. A *unit* is what the
//! scheme's random function really reads of a window: windows with the same unit have the same
//! score under every key and are one piece of evidence.

mod check;
mod divisors;
mod green_list;
mod grouping;
mod gumbel;
mod keyed;
mod kgw;
mod landings;
pub(crate) mod marking;
mod params;
mod permutation;
mod prf;
pub mod registry;
pub(crate) mod residues;
mod rows;
mod sbw;
mod seeding;
mod sglang;
mod synthid;
mod textseal;
mod vllm;

pub use gumbel::GumbelMax;
pub use keyed::Keyed;
pub use kgw::Kgw;
pub use marking::{Choices, watermarked};
pub use permutation::Kernel as GreenListKernel;
pub use prf::Prf;
pub use sbw::Sbw;
pub use seeding::{LM_TABLE_SEED, Rule as SeedingRule, Seeding, TableRule};
pub use sglang::SglangGumbel;
pub use synthid::{SynthId, SynthIdDeepMind};
pub use textseal::TextSeal;
pub use vllm::VllmGumbel;

use crate::error::{Error, Result};
use crate::interrupt::{Check, items_per_check};
use crate::key::PADDING;
use crate::memory;
use crate::threads::Pool;
use rayon::prelude::*;
use residues::Residues;

/// What one score is, and so how a tally adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreKind {
    /// 0 or 1 in the score word: red or green.
    Green,
    /// The bits of an f64 in the score word.
    Real,
    /// One bit per depth (bit d = g-value of depth d), for 1 to 64 depths.
    Depths(u8),
}

/// The exact probability that a green test or g-value is 1 under H0, as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Numerator.
    pub num: u128,
    /// Denominator.
    pub den: u128,
}

/// What a unit is, and so how units are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// The window itself: distinct windows are distinct units.
    Window,
    /// A seed of 32 bits and, in the 32 bits below, the target.
    SeedAndTarget,
    /// Any other function of the window, in up to 127 bits.
    Hashed,
}

/// What a scheme's random function reads of a context, and so what two windows must differ in for
/// their draws to be independent whatever the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedKind {
    /// The context itself: distinct contexts, independent draws.
    Context,
    /// A hash of the context, the same under every key.
    Hash,
    /// A hash of context and key.
    KeyedHash,
    /// Nothing before the target is known (self-salted seedings, a table read by a hash of the
    /// whole window): draws are compared window by window, by their units.
    WithTarget,
}

/// A keyed scheme: immutable, shared between threads. Windows come as rows of
/// [`Scheme::window_width`] token ids in one flat slice.
pub trait Scheme: Send + Sync {
    /// Size of the vocabulary; every token id is below it.
    fn vocab_size(&self) -> u32;
    /// Tokens of a window: the preceding tokens that are read, and the target.
    fn window_width(&self) -> usize;
    /// What a score word holds.
    fn score_kind(&self) -> ScoreKind;
    /// The exact null share of a green or g-value; `None` for real scores.
    fn share(&self) -> Option<Share> {
        None
    }
    /// What a unit is.
    fn unit_kind(&self) -> UnitKind;
    /// Whether distinct windows that depend on the key are distinct units under this key, so that
    /// there is nothing to deduplicate by unit.
    fn has_distinct_units(&self) -> bool {
        self.unit_kind() == UnitKind::Window
    }
    /// How many residues there are where one of them, [`Scheme::units`], decides on the score of a
    /// window; 0 where there are none. Then windows count once, by their residue: the law of the
    /// sum over random keys is known for any counts of residues.
    fn residues(&self) -> usize {
        0
    }
    /// The table that residues, shifted by the keys, are looked up in; nothing where there is none.
    fn sampling_table(&self) -> &[bool] {
        &[]
    }
    /// The ones at each depth among windows with these residues; nothing where there are no residues.
    fn residue_depths(&self, counts: &Residues) -> Vec<u64> {
        let _ = counts;
        Vec::new()
    }
    /// Roughly what one score costs, in nanoseconds of one core: it sets how much is scored between
    /// two interrupt checks.
    fn nanoseconds(&self) -> f64 {
        100.0
    }
    /// Whether windows of one context are cheaper to score together than one by one; units are
    /// then seed and target.
    fn shares_work_within_contexts(&self) -> bool {
        false
    }
    /// The token id that may stand left of a document's first token, where there is one.
    fn padding(&self) -> Option<u32> {
        None
    }
    /// Whether the prompt stands before the first generated token when text is marked. Where it
    /// does not, [`Scheme::padding`] stands there, and the first token is marked already.
    fn reaches_prompt(&self) -> bool {
        true
    }
    /// The first position of a document that is scored unless another is asked for.
    fn first_position(&self) -> usize {
        match self.reaches_prompt() {
            true => self.window_width() - 1,
            false => 0,
        }
    }
    /// Whether [`PADDING`], which is no id of the vocabulary, may stand in a context.
    fn accepts_padding(&self) -> bool {
        self.padding() == Some(PADDING)
    }
    /// The unit of each window, exactly (equal units, equal keys); whatever `out` held is written over.
    /// Not called where units are windows ([`UnitKind::Window`]).
    fn units(&self, windows: &[u32], out: &mut [u128]);
    /// What computes the units where no key takes part, by name and parameter: schemes that agree in it
    /// and in the shape of windows have the same units. `None` where units depend on the key.
    fn unit_function(&self) -> Option<(&'static str, u64)> {
        None
    }
    /// What is read of a context.
    fn seed_kind(&self) -> SeedKind;
    /// The seed of each window: windows whose seeds differ (and are not [neighbours]) share no draw,
    /// whatever their targets are. Not called where the seed is the context; the unit where there
    /// is no seed without the target. The targets of windows are ignored otherwise.
    ///
    /// [neighbours]: Scheme::seeds_reach_neighbours
    fn seeds(&self, windows: &[u32], out: &mut [u128]) {
        self.units(windows, out);
        if self.seed_kind() != SeedKind::WithTarget {
            out.iter_mut().for_each(|unit| *unit >>= 32); // seed and target
        }
    }
    /// How many of a context's last tokens can fix the seed, whatever stands before them: the whole
    /// context, unless the function reads a part of it or takes the least of several values. Text that
    /// was marked with a context that nobody sees shows the seeds of such tails.
    fn least_own(&self) -> usize {
        self.window_width() - 1
    }
    /// [`Scheme::seeds`] of windows of which only the last `own + 1` tokens are known, as far as these
    /// fix them; `own` is at least [`Scheme::least_own`].
    fn seeds_of_tails(&self, tails: &[u32], own: usize, out: &mut [u128]) {
        debug_assert_eq!(own, self.window_width() - 1);
        self.seeds(tails, out);
    }
    /// Whether seeds that differ by one can share draws too.
    fn seeds_reach_neighbours(&self) -> bool {
        false
    }
    /// Tells of each window whether its random draw does not depend on the key, or not always (a seed
    /// that is a product with token id 0, say): it is the same under every key and so no evidence.
    /// `false`, with `out` untouched, where no window can be so. Like units, not called where units
    /// are windows.
    fn keyless(&self, windows: &[u32], out: &mut [bool]) -> bool {
        let _ = (windows, out);
        false
    }
    /// The score word of each window, whatever `out` held; parallel inside, in the current rayon pool.
    /// Windows may come in any order; those that share a context need not be adjacent.
    fn scores(&self, windows: &[u32], out: &mut [u64]);
    /// The group of each window within which scores are drawn without replacement (one
    /// permutation), or `false` (and `out` untouched) where all scores are independent.
    fn groups(&self, windows: &[u32], out: &mut [u64]) -> bool {
        let _ = (windows, out);
        false
    }
    /// Greenness of the whole vocabulary after each context: rows of `window_width - 1` ids in,
    /// rows of `vocab_size` bytes (1 green, 0 red) out.
    fn green_mask(&self, contexts: &[u32], out: &mut [u8]) -> Result<()> {
        let _ = (contexts, out);
        Err(Error::Scheme("this scheme has no green lists".into()))
    }
    /// The uniform of each vocabulary entry after each context (rows of `vocab_size` f64), for
    /// schemes that sample by Gumbel-max.
    fn uniforms(&self, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        let _ = (contexts, out);
        Err(Error::Scheme("this scheme has no uniforms".into()))
    }
    /// How many keys generation chooses between, at random for each context (vLLM's dual key).
    fn key_count(&self) -> usize {
        1
    }
    /// [`Scheme::uniforms`] under one of [`Scheme::key_count`] keys.
    fn uniforms_of(&self, key_index: usize, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        if key_index >= self.key_count() {
            return Err(check::key_index(key_index, self.key_count()));
        }
        self.uniforms(contexts, out)
    }
    /// How often generation uses one of [`Scheme::key_count`] keys.
    fn key_share(&self, key_index: usize) -> f64 {
        f64::from(u8::from(key_index == 0))
    }
    /// The uniform of each window under one of [`Scheme::key_count`] keys, for schemes that sample by
    /// Gumbel-max.
    fn uniforms_of_windows(
        &self,
        key_index: usize,
        windows: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        if key_index > 0 {
            return Err(check::key_index(key_index, self.key_count()));
        }
        let mut words = memory::filled(0, out.len());
        self.scores(windows, &mut words);
        for (u, word) in out.iter_mut().zip(words) {
            *u = -libm::expm1(-f64::from_bits(word)); // of the score -ln(1 - u)
        }
        Ok(())
    }
    /// The g-values of each vocabulary entry after each context, one bit per depth (rows of
    /// `vocab_size` words), for tournament sampling.
    fn g_values(&self, contexts: &[u32], out: &mut [u64]) -> Result<()> {
        let _ = (contexts, out);
        Err(Error::Scheme("this scheme has no g-values".into()))
    }
}

/// How many windows to score, each under all of some schemes, between two interrupt checks.
pub fn windows_per_check<'a>(schemes: impl Iterator<Item = &'a dyn Scheme>) -> usize {
    items_per_check(schemes.map(|scheme| scheme.nanoseconds()).sum())
}

/// The score words of windows, computed in `pool` with interrupt checks in between.
pub fn interruptible_scores(
    scheme: &dyn Scheme,
    windows: &[u32],
    pool: &Pool,
    check: &mut Check<'_>,
) -> Result<Vec<u64>> {
    let (width, slice) = (
        scheme.window_width(),
        windows_per_check([scheme].into_iter()),
    );
    let mut words = memory::filled(0, windows.len() / width);
    for (rows, out) in windows.chunks(slice * width).zip(words.chunks_mut(slice)) {
        check()?;
        pool.install(|| scheme.scores(rows, out));
    }
    Ok(words)
}

/// Runs `score` over every window, in parallel.
pub(crate) fn par_map<T: Send>(
    windows: &[u32],
    width: usize,
    out: &mut [T],
    score: impl Fn(&[u32]) -> T + Sync,
) {
    const ROWS: usize = 1024;
    out.par_chunks_mut(ROWS)
        .zip(windows.par_chunks(ROWS * width))
        .for_each(|(out, rows)| {
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(width)) {
                *out = score(row);
            }
        });
}

/// The Gumbel-max score of a uniform: `-ln(1 - u)`, Exp(1) under H0. `libm`, so that the bits are
/// the same on every machine.
pub(crate) fn exponential(u: f64) -> f64 {
    0.0 - libm::log(1.0 - u)
}
