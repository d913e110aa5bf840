//! What a key makes of distributions: the rules by which text is marked, over ragged rows.
//!
//! Gumbel-max leaves one token, that with the least `-ln(u) / q`; green lists make q proportional to
//! `q e^(delta g)`; a tournament makes of q, depth by depth, `q (1 + g - sum q g)`.

use super::{Scheme, ScoreKind};
use crate::error::{Error, Result};
use crate::memory;
use crate::simd::vector::Vector;
use crate::simd::{self, Job};
use rayon::prelude::*;
use std::ops::Range;

/// Tokens that are marked in one piece of work.
pub(crate) const PIECE: usize = 1 << 13;
/// Numbers that are added side by side, so that sums are the same under every kernel.
const SIDES: usize = 16;

/// Distributions over some tokens each, one row per context.
#[derive(Debug, Clone, Copy)]
pub struct Choices<'a> {
    contexts: &'a [u32],
    width: usize,
    offsets: &'a [i64],
    tokens: &'a [u32],
    q: &'a [f64],
}

impl<'a> Choices<'a> {
    /// Rows of `width` ids of context; row r has the tokens and numbers from `offsets[r]` to
    /// `offsets[r + 1]`. The numbers of a row are probabilities up to a factor.
    ///
    /// # Errors
    /// [`Error::Argument`] if lengths do not fit, or a number is negative or not finite.
    pub fn new(
        contexts: &'a [u32],
        width: usize,
        offsets: &'a [i64],
        tokens: &'a [u32],
        q: &'a [f64],
    ) -> Result<Self> {
        let rows = contexts.len() / width.max(1);
        let rises = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let ends = (offsets.first(), offsets.last());
        if ends != (Some(&0), Some(&(tokens.len() as i64))) || !rises {
            return Err(Error::Argument(
                "offsets must rise from 0 to the number of tokens".into(),
            ));
        }
        if width > 0 && offsets.len() != rows + 1 {
            return Err(Error::Argument(format!(
                "there are {rows} contexts, but {} offsets",
                offsets.len()
            )));
        }
        if tokens.len() != q.len() {
            return Err(Error::Argument(format!(
                "there are {} tokens, but {} probabilities",
                tokens.len(),
                q.len()
            )));
        }
        if let Some(bad) = q.iter().find(|q| !(q.is_finite() && **q >= 0.0)) {
            return Err(Error::Argument(format!(
                "probabilities must be 0 or more, not {bad}"
            )));
        }
        Ok(Self {
            contexts,
            width,
            offsets,
            tokens,
            q,
        })
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of all rows.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Where the tokens of some rows are.
    pub(crate) fn range(&self, rows: &Range<usize>) -> Range<usize> {
        self.offsets[rows.start] as usize..self.offsets[rows.end] as usize
    }

    fn context(&self, row: usize) -> &'a [u32] {
        &self.contexts[row * self.width..][..self.width]
    }

    /// Ranges of rows with about so many tokens each.
    pub(crate) fn pieces(&self, tokens: usize) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < self.len() {
            let wanted = self.offsets[start] + tokens as i64;
            let end = self.offsets.partition_point(|&offset| offset < wanted);
            let end = end.clamp(start + 1, self.len());
            memory::push(&mut pieces, start..end);
            start = end;
        }
        pieces
    }
}

/// Memory that one thread uses over and over.
#[derive(Default)]
pub(crate) struct Scratch {
    windows: Vec<u32>,
    words: Vec<u64>,
    uniforms: Vec<Vec<f64>>,
    p: Vec<f64>,
}

/// What a rule makes of some rows: `each` is called with the tokens of each (as a range of
/// [`Choices`]) and their marked probabilities. A row whose numbers are all 0 stays so.
pub(crate) fn marked_rows<S: Scheme + ?Sized>(
    scheme: &S,
    choices: &Choices<'_>,
    rows: Range<usize>,
    delta: f64,
    scratch: &mut Scratch,
    mut each: impl FnMut(Range<usize>, &[f64]),
) -> Result<()> {
    let all = choices.range(&rows);
    let Scratch {
        windows,
        words,
        uniforms,
        p,
    } = scratch;
    windows.clear();
    memory::reserve(windows, all.len() * (choices.width + 1));
    for row in rows.clone() {
        for &token in &choices.tokens[choices.range(&(row..row + 1))] {
            windows.extend_from_slice(choices.context(row));
            windows.push(token);
        }
    }
    let rule = scheme.score_kind();
    if rule == ScoreKind::Real {
        uniforms.resize_with(scheme.key_count(), Vec::new);
        for (index, uniforms) in uniforms.iter_mut().enumerate() {
            memory::resize(uniforms, all.len(), 0.0);
            scheme.uniforms_of_windows(index, windows, uniforms)?;
        }
    } else {
        memory::resize(words, all.len(), 0);
        scheme.scores(windows, words);
    }
    let boost = delta.exp();
    for row in rows {
        let tokens = choices.range(&(row..row + 1));
        let here = tokens.start - all.start..tokens.end - all.start;
        let q = &choices.q[tokens.clone()];
        let sum: f64 = q.iter().sum();
        p.clear();
        if rule == ScoreKind::Real {
            memory::resize(p, q.len(), 0.0);
            for (index, uniforms) in uniforms.iter().enumerate() {
                if let Some(winner) = winner(q, &uniforms[here.clone()]) {
                    p[winner] += scheme.key_share(index);
                }
            }
            each(tokens, p);
            continue;
        }
        let factor = if sum > 0.0 { 1.0 / sum } else { 0.0 };
        memory::append(p, q.iter().map(|&q| q * factor));
        let words = &words[here];
        match rule {
            ScoreKind::Depths(depth) => tournament(p, words, depth),
            _ => biased(p, words, boost),
        }
        each(tokens, p);
    }
    Ok(())
}

/// Gumbel-max: the token with the least `-ln(u) / q`, of equal ones the first; none if all q are 0.
fn winner(q: &[f64], uniforms: &[f64]) -> Option<usize> {
    let (mut best, mut least) = (None, f64::INFINITY);
    for (k, (&q, &u)) in q.iter().zip(uniforms).enumerate() {
        // -ln(u) is at least 1 - u: few tokens need a logarithm.
        if q > 0.0 && (1.0 - u <= least * q || best.is_none()) {
            let time = -libm::log(u) / q;
            if time < least || best.is_none() {
                (best, least) = (Some(k), time);
            }
        }
    }
    best
}

/// Green tokens are `boost` times as likely as before, against red ones.
fn biased(p: &mut [f64], words: &[u64], boost: f64) {
    for (p, &green) in p.iter_mut().zip(words) {
        *p *= if green == 1 { boost } else { 1.0 };
    }
    let sum: f64 = p.iter().sum();
    if sum > 0.0 {
        p.iter_mut().for_each(|p| *p /= sum);
    }
}

/// Two-way tournaments, one per depth.
fn tournament(p: &mut [f64], words: &[u64], depth: u8) {
    let job = Tournament { p, words, depth };
    if let Err(Tournament { p, words, depth }) = simd::run(job) {
        play(p, words, depth);
    }
}

struct Tournament<'a> {
    p: &'a mut [f64],
    words: &'a [u64],
    depth: u8,
}

impl Job for Tournament<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        play(self.p, self.words, self.depth);
    }
}

/// `p` where bit `depth` of the word is set, else 0.
#[inline(always)]
fn won(p: f64, word: u64, depth: u8) -> f64 {
    f64::from_bits(p.to_bits() & (word >> depth & 1).wrapping_neg())
}

/// One pass per depth, which also adds up what the next one needs.
#[inline(always)]
fn play(p: &mut [f64], words: &[u64], depth: u8) {
    let mut share = shared(p, words, |p, word| (p, won(p, word, 0)));
    for d in 0..depth {
        // Where nearly all probability has g = 1 its sum can be rounded to more than 1.
        let lost = (1.0 - share).max(0.0);
        let next = (d + 1).min(depth - 1);
        share = shared(p, words, |p, word| {
            let after = p * lost + won(p, word, d);
            (after, won(after, word, next))
        });
    }
}

/// Replaces each number by the first of what `f` gives, and adds up the second, side by side.
#[inline(always)]
fn shared(p: &mut [f64], words: &[u64], f: impl Fn(f64, u64) -> (f64, f64)) -> f64 {
    let mut sums = [0.0; SIDES];
    let (numbers, rest) = p.as_chunks_mut::<SIDES>();
    let (bits, bits_of_rest) = words.as_chunks::<SIDES>();
    for (p, words) in numbers.iter_mut().zip(bits) {
        for ((p, &word), sum) in p.iter_mut().zip(words).zip(&mut sums) {
            let (after, more) = f(*p, word);
            *p = after;
            *sum += more;
        }
    }
    for ((p, &word), sum) in rest.iter_mut().zip(bits_of_rest).zip(&mut sums) {
        let (after, more) = f(*p, word);
        *p = after;
        *sum += more;
    }
    sums.iter().sum()
}

/// The distribution into which the key turns that of each row (as it does when text is written), in the
/// places of its tokens: Gumbel-max leaves the token with the least `-ln(u) / q` (of equal ones the
/// first; with several keys, each has the share of [`Scheme::key_share`]), green tokens become
/// `e^delta` times as likely, g-values play a tournament per depth. What a row has no token for has
/// probability 0; a row whose numbers are all 0 stays so. Parallel inside, in the current rayon pool.
///
/// # Errors
/// What the scheme's uniforms raise.
pub fn watermarked(
    scheme: &dyn Scheme,
    choices: &Choices<'_>,
    delta: f64,
    out: &mut [f64],
) -> Result<()> {
    let mut rest = out;
    let mut pieces = Vec::new();
    for rows in choices.pieces(PIECE) {
        let (piece, after) = rest.split_at_mut(choices.range(&rows).len());
        memory::push(&mut pieces, (rows, piece));
        rest = after;
    }
    pieces
        .into_par_iter()
        .try_for_each_init(Scratch::default, |scratch, (rows, out)| {
            let start = choices.range(&rows).start;
            marked_rows(scheme, choices, rows, delta, scratch, |tokens, p| {
                out[tokens.start - start..tokens.end - start].copy_from_slice(p);
            })
        })
}
