//! SynthID-Text (Dathathri et al., Nature 2024): g-values of a window, one per depth, from a
//! linear congruential hash in signed 64-bit arithmetic. Two incompatible forms are in use:
//! transformers' (a sampling table) and DeepMind's own since 2025 (an initial value made of the
//! keys, no table).

use super::params::Params;
use super::{Scheme, ScoreKind, SeedKind, Share, UnitKind, check, par_map};
use crate::error::{Error, Result};
use crate::key::MAX_CONTEXT_WIDTH;
use crate::memory;
use crate::prng::mt19937::Words;
use crate::schemes::residues::Residues;
use crate::schemes::rows::{self, Scores, SideBySide, Tokens, Units};
use crate::simd::lanes::Lanes;
use crate::simd::vector::Vector;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};

const MULTIPLIER: i64 = 6_364_136_223_846_793_005;

/// No vocabulary is larger.
const LARGEST_VOCAB: u64 = 1 << 20;

/// One step of the hash.
fn accumulate(hash: i64, datum: i64) -> i64 {
    hash.wrapping_add(datum)
        .wrapping_mul(MULTIPLIER)
        .wrapping_add(1)
}

/// One step of the hash in each lane.
#[inline(always)]
fn accumulate_lanes(hash: Lanes<i64>, data: Lanes<i64>) -> Lanes<i64> {
    (hash + data) * Lanes::splat(MULTIPLIER) + Lanes::splat(1)
}

#[inline(always)]
fn accumulate_columns(start: i64, columns: &[Tokens]) -> Lanes<i64> {
    let mut hash = Lanes::splat(start);
    for tokens in columns {
        hash = accumulate_lanes(hash, tokens.signed());
    }
    hash
}

fn accumulate_tokens(start: i64, tokens: &[u32]) -> i64 {
    tokens
        .iter()
        .fold(start, |hash, &token| accumulate(hash, token.into()))
}

/// One bit per key: the g-value of the hash extended by it.
fn g_word(hash: i64, keys: &[i64], g: impl Fn(i64) -> bool) -> u64 {
    let bits = keys.iter().enumerate();
    bits.fold(0, |word, (depth, &key)| {
        word | (u64::from(g(accumulate(hash, key))) << depth)
    })
}

fn check_parameters(keys: &[i64], vocab_size: u32, ngram_len: usize) -> Result<()> {
    check::vocab_size(vocab_size)?;
    check::width("ngram_len", ngram_len, 2, MAX_CONTEXT_WIDTH + 1)?;
    check::width("the number of keys", keys.len(), 1, 64)
}

/// transformers' `SynthIDTextWatermarkLogitsProcessor`.
///
/// All g-values of a window depend on `hash mod table size` alone when the size is a power of
/// two: that residue is the unit, and windows are counted by it. Otherwise the unit is the hash.
pub struct SynthId {
    vocab: u32,
    width: usize,
    keys: Vec<i64>,
    table: Arc<Vec<bool>>,
    ones: u32,
    /// The score word of each remainder, where the table's size is a small power of two.
    words: OnceLock<Vec<u64>>,
}

/// Up to this size of the table the score words of all remainders are kept: 512 kB.
const WORDS_KEPT: usize = 1 << 16;
/// From this many windows or vocabulary entries on it pays to build them.
const WORTH_WORDS: usize = 4096;

impl SynthId {
    /// The table is `torch.randint(0, 2, (sampling_table_size,))` of a CPU generator seeded with
    /// `sampling_table_seed`.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn new(
        keys: &[i64],
        vocab_size: u32,
        ngram_len: usize,
        sampling_table_size: u32,
        sampling_table_seed: u64,
    ) -> Result<Self> {
        check_parameters(keys, vocab_size, ngram_len)?;
        check::width(
            "sampling_table_size",
            sampling_table_size as usize,
            2,
            1 << 24,
        )?;
        let mut words = Words::new((sampling_table_seed & 0xFFFF_FFFF) as u32);
        let table = (0..sampling_table_size).map(|_| words.draw() % 2 == 1);
        let table: Vec<bool> = memory::collect(table);
        let ones: u32 = table.iter().map(|&one| u32::from(one)).sum();
        if ones == 0 || ones == sampling_table_size {
            return Err(Error::Scheme(format!(
                "sampling_table_size {sampling_table_size} with sampling_table_seed \
                 {sampling_table_seed} makes a table of one value only"
            )));
        }
        Ok(Self {
            vocab: vocab_size,
            width: ngram_len,
            keys: keys.to_vec(),
            table: Arc::new(table),
            ones,
            words: OnceLock::new(),
        })
    }

    /// From `keys`, `vocab_size`, `ngram_len`, `sampling_table_size` and `sampling_table_seed`.
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        Ok(Arc::new(Self::new(
            &params.signed_secrets("keys")?,
            params.count("vocab_size")?,
            params.count("ngram_len")? as usize,
            params.count("sampling_table_size")?,
            params.secret("sampling_table_seed")?,
        )?))
    }

    fn size(&self) -> i64 {
        self.table.len() as i64
    }

    fn word(&self, hash: i64) -> u64 {
        g_word(hash, &self.keys, |hash| {
            self.table[hash.rem_euclid(self.size()) as usize]
        })
    }

    /// What counts of a hash: the remainder that everything depends on, if there is one.
    fn read_of(&self, hash: i64) -> u64 {
        if self.table.len().is_power_of_two() {
            hash.rem_euclid(self.size()).cast_unsigned()
        } else {
            hash.cast_unsigned()
        }
    }

    /// Builds the score words of all remainders if that pays for so many answers.
    fn prepare(&self, answers: usize) {
        let size = self.table.len();
        if answers >= WORTH_WORDS && size <= WORDS_KEPT && size.is_power_of_two() {
            self.words
                .get_or_init(|| (0..self.size()).map(|hash| self.word(hash)).collect());
        }
    }
}

impl SideBySide for SynthId {
    type State<'a, V: Vector> = Lanes<i64>;

    #[inline(always)]
    fn lane_state<V: Vector>(&self, context: &[Tokens]) -> Lanes<i64> {
        accumulate_columns(1, context)
    }

    #[inline(always)]
    fn lane_scores<V: Vector>(&self, state: &Lanes<i64>, targets: Tokens) -> Lanes<u64> {
        let hashes = accumulate_lanes(*state, targets.signed());
        match self.words.get() {
            Some(words) => {
                let last = words.len() - 1;
                hashes.map(|hash| words[hash as usize & last])
            }
            None => hashes.map(|hash| self.word(hash)),
        }
    }

    #[inline(always)]
    fn lane_units<V: Vector>(&self, state: &Lanes<i64>, targets: Tokens) -> Lanes<u128> {
        accumulate_lanes(*state, targets.signed()).map(|hash| self.read_of(hash).into())
    }
}

impl Scheme for SynthId {
    fn vocab_size(&self) -> u32 {
        self.vocab
    }
    fn window_width(&self) -> usize {
        self.width
    }
    fn score_kind(&self) -> ScoreKind {
        ScoreKind::Depths(self.keys.len() as u8)
    }
    fn share(&self) -> Option<Share> {
        Some(Share {
            num: self.ones.into(),
            den: self.table.len() as u128,
        })
    }
    fn padding(&self) -> Option<u32> {
        Some(0)
    }
    fn reaches_prompt(&self) -> bool {
        false
    }
    fn unit_kind(&self) -> UnitKind {
        UnitKind::Hashed
    }
    fn has_distinct_units(&self) -> bool {
        self.residues() > 0
    }
    fn residues(&self) -> usize {
        match self.table.len() {
            size if size.is_power_of_two() => size,
            _ => 0,
        }
    }
    fn sampling_table(&self) -> &[bool] {
        &self.table
    }
    fn residue_depths(&self, counts: &Residues) -> Vec<u64> {
        let mut depths = vec![0; self.keys.len()];
        for (residue, count) in counts.pairs() {
            for (ones, &key) in depths.iter_mut().zip(&self.keys) {
                let slot = accumulate(residue.into(), key).rem_euclid(self.size());
                *ones += count * u64::from(self.table[slot as usize]);
            }
        }
        depths
    }
    fn nanoseconds(&self) -> f64 {
        match self.residues() {
            0 => 100.0,
            _ => 10.0,
        }
    }
    fn units(&self, windows: &[u32], out: &mut [u128]) {
        rows::windows::<Units, _>(self, windows, self.width, out, |window| {
            self.read_of(accumulate_tokens(1, window)).into()
        });
    }
    fn unit_function(&self) -> Option<(&'static str, u64)> {
        Some(("synthid", self.residues() as u64))
    }
    fn seed_kind(&self) -> SeedKind {
        SeedKind::WithTarget
    }
    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        self.prepare(out.len());
        rows::windows::<Scores, _>(self, windows, self.width, out, |window| {
            self.word(accumulate_tokens(1, window))
        });
    }
    fn g_values(&self, contexts: &[u32], out: &mut [u64]) -> Result<()> {
        self.prepare(out.len());
        rows::vocabulary::<Scores, _, _>(
            self,
            self.vocab,
            self.width - 1,
            contexts,
            out,
            |context| accumulate_tokens(1, context),
            |&prefix, token| self.word(accumulate(prefix, token.into())),
        );
        Ok(())
    }
}

/// DeepMind's synthid-text since 2025: no table.
///
/// The hash of a window is a linear form of its tokens and of where it starts, and only what comes
/// after it depends on the keys. Windows that differ by a short vector of the form's lattice have
/// one hash under all keys: the unit is the form, started at 0 so that it depends on no key.
pub struct SynthIdDeepMind {
    vocab: u32,
    width: usize,
    keys: Vec<i64>,
    start: i64,
    /// What the start adds to the hash of a window.
    lead: i64,
}

impl SynthIdDeepMind {
    /// The hash starts at SHA-256 of the keys (int64, little-endian), read big-endian,
    /// mod 2^63 - 1.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn new(keys: &[i64], vocab_size: u32, ngram_len: usize) -> Result<Self> {
        check_parameters(keys, vocab_size, ngram_len)?;
        let mut digest = Sha256::new();
        for key in keys {
            digest.update(key.to_le_bytes());
        }
        const MODULUS: u128 = (1 << 63) - 1;
        let start = digest.finalize().iter().fold(0u128, |rest, &byte| {
            ((rest << 8) | u128::from(byte)) % MODULUS
        });
        let start = i64::try_from(start).map_err(|error| Error::Scheme(error.to_string()))?;
        Ok(Self {
            vocab: vocab_size,
            width: ngram_len,
            keys: keys.to_vec(),
            start,
            lead: (0..ngram_len).fold(start, |lead, _| lead.wrapping_mul(MULTIPLIER)),
        })
    }

    /// From `keys`, `vocab_size` and `ngram_len`.
    pub(super) fn from_params(params: &mut Params) -> Result<Arc<dyn Scheme>> {
        let keys = params.signed_secrets("keys")?;
        let (vocab_size, width) = (params.count("vocab_size")?, params.count("ngram_len")?);
        Ok(Arc::new(Self::new(&keys, vocab_size, width as usize)?))
    }

    fn word(&self, hash: i64) -> u64 {
        g_word(hash, &self.keys, |hash| {
            let mixed = (0..12).fold(hash, |h, _| {
                h.wrapping_add(1).wrapping_mul(MULTIPLIER).wrapping_add(1) >> 5
            });
            (mixed >> 30) & 1 == 1
        })
    }
}

impl SideBySide for SynthIdDeepMind {
    type State<'a, V: Vector> = Lanes<i64>;

    #[inline(always)]
    fn lane_state<V: Vector>(&self, context: &[Tokens]) -> Lanes<i64> {
        accumulate_columns(self.start, context)
    }

    #[inline(always)]
    fn lane_scores<V: Vector>(&self, state: &Lanes<i64>, targets: Tokens) -> Lanes<u64> {
        let hashes = accumulate_lanes(*state, targets.signed());
        let mut words = Lanes::splat(0u64);
        for (depth, &key) in (0u32..).zip(&self.keys) {
            let mut h = accumulate_lanes(hashes, Lanes::splat(key));
            for _ in 0..12 {
                // (h + 1) M + 1
                h = (h * Lanes::splat(MULTIPLIER) + Lanes::splat(MULTIPLIER.wrapping_add(1))) >> 5;
            }
            words = words | (h >> 30).map(|h| (h & 1).cast_unsigned() << depth);
        }
        words
    }

    #[inline(always)]
    fn lane_units<V: Vector>(&self, state: &Lanes<i64>, targets: Tokens) -> Lanes<u128> {
        // The form is linear: what it started at comes off with its coefficient.
        let hashes = accumulate_lanes(*state, targets.signed());
        hashes.map(|hash| hash.wrapping_sub(self.lead).cast_unsigned().into())
    }
}

impl Scheme for SynthIdDeepMind {
    fn vocab_size(&self) -> u32 {
        self.vocab
    }
    fn window_width(&self) -> usize {
        self.width
    }
    fn score_kind(&self) -> ScoreKind {
        ScoreKind::Depths(self.keys.len() as u8)
    }
    fn share(&self) -> Option<Share> {
        Some(Share { num: 1, den: 2 })
    }
    fn padding(&self) -> Option<u32> {
        Some(0)
    }
    fn reaches_prompt(&self) -> bool {
        false
    }
    fn unit_kind(&self) -> UnitKind {
        UnitKind::Hashed
    }
    fn units(&self, windows: &[u32], out: &mut [u128]) {
        rows::windows::<Units, _>(self, windows, self.width, out, |window| {
            u128::from(accumulate_tokens(0, window).cast_unsigned())
        });
    }
    fn unit_function(&self) -> Option<(&'static str, u64)> {
        Some(("deepmind", 0))
    }
    fn seed_kind(&self) -> SeedKind {
        SeedKind::Hash
    }
    /// The hash of a context and a target is that of the context plus the target, stepped once: two
    /// windows share it only where their contexts' hashes are less than a vocabulary apart, and so
    /// in one block of [`LARGEST_VOCAB`] or in blocks that touch. The keys move all hashes of one
    /// width by the same number, so they are left out.
    fn seeds(&self, windows: &[u32], out: &mut [u128]) {
        par_map(windows, self.width, out, |window| {
            let hash = accumulate_tokens(0, &window[..self.width - 1]);
            u128::from(hash.cast_unsigned() / LARGEST_VOCAB)
        });
    }
    fn seeds_reach_neighbours(&self) -> bool {
        true
    }
    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        rows::windows::<Scores, _>(self, windows, self.width, out, |window| {
            self.word(accumulate_tokens(self.start, window))
        });
    }
    fn g_values(&self, contexts: &[u32], out: &mut [u64]) -> Result<()> {
        rows::vocabulary::<Scores, _, _>(
            self,
            self.vocab,
            self.width - 1,
            contexts,
            out,
            |context| accumulate_tokens(self.start, context),
            |&prefix, token| self.word(accumulate(prefix, token.into())),
        );
        Ok(())
    }
}
