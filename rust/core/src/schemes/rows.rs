//! Windows side by side: what a scheme gives for it, and the loops over windows and over the
//! vocabulary. Under the scalar kernel, and for very wide windows, the same loops go one by one.

use crate::simd::lanes::{LANES, Lanes};
use crate::simd::vector::Vector;
use crate::simd::{Job, run};
use rayon::prelude::*;

/// A token of each lane's window.
pub type Tokens = Lanes<u32>;

/// Most tokens of a window that is hashed in lanes.
const WIDEST: usize = 17;
/// Windows, or vocabulary entries, that one job takes.
const ROWS: usize = 1024;

/// A scheme that hashes windows in lanes. Methods are `#[inline(always)]`.
pub trait SideBySide: Sync {
    /// What is kept of the contexts.
    type State<'a, V: Vector>;
    /// Reads the contexts, oldest token first.
    fn lane_state<'a, V: Vector>(&self, context: &'a [Tokens]) -> Self::State<'a, V>;
    /// The score words of a target after each context.
    fn lane_scores<V: Vector>(&self, state: &Self::State<'_, V>, targets: Tokens) -> Lanes<u64>;
    /// The uniforms of a target after each context, for schemes that have them.
    fn lane_uniforms<V: Vector>(&self, state: &Self::State<'_, V>, targets: Tokens) -> Lanes<f64> {
        let _ = (state, targets);
        Lanes::splat(0.0)
    }
    /// The units of a target after each context, for schemes whose units are not windows.
    fn lane_units<V: Vector>(&self, state: &Self::State<'_, V>, targets: Tokens) -> Lanes<u128> {
        let _ = (state, targets);
        Lanes::splat(0)
    }
}

/// A question to a scheme.
pub trait Ask: Sync {
    /// The answer for one window.
    type Out: Copy + Default + Send;
    /// The answers for a target after each context.
    fn ask<V: Vector, S: SideBySide>(
        scheme: &S,
        state: &S::State<'_, V>,
        targets: Tokens,
    ) -> Lanes<Self::Out>;
}

/// Score words (and g-values, which are the same).
pub struct Scores;
impl Ask for Scores {
    type Out = u64;
    #[inline(always)]
    fn ask<V: Vector, S: SideBySide>(
        scheme: &S,
        state: &S::State<'_, V>,
        targets: Tokens,
    ) -> Lanes<u64> {
        scheme.lane_scores::<V>(state, targets)
    }
}

/// Units.
pub struct Units;
impl Ask for Units {
    type Out = u128;
    #[inline(always)]
    fn ask<V: Vector, S: SideBySide>(
        scheme: &S,
        state: &S::State<'_, V>,
        targets: Tokens,
    ) -> Lanes<u128> {
        scheme.lane_units::<V>(state, targets)
    }
}

/// Greenness: the score word in a byte.
pub struct Mask;
impl Ask for Mask {
    type Out = u8;
    #[inline(always)]
    fn ask<V: Vector, S: SideBySide>(
        scheme: &S,
        state: &S::State<'_, V>,
        targets: Tokens,
    ) -> Lanes<u8> {
        scheme
            .lane_scores::<V>(state, targets)
            .map(|word| (word & 1) as u8)
    }
}

/// Uniforms.
pub struct Uniforms;
impl Ask for Uniforms {
    type Out = f64;
    #[inline(always)]
    fn ask<V: Vector, S: SideBySide>(
        scheme: &S,
        state: &S::State<'_, V>,
        targets: Tokens,
    ) -> Lanes<f64> {
        scheme.lane_uniforms::<V>(state, targets)
    }
}

/// Asks about windows (rows of `width` tokens), in parallel; `one` answers for a window without
/// vectors.
pub fn windows<A: Ask, S: SideBySide>(
    scheme: &S,
    windows: &[u32],
    width: usize,
    out: &mut [A::Out],
    one: impl Fn(&[u32]) -> A::Out + Sync,
) {
    out.par_chunks_mut(ROWS)
        .zip(windows.par_chunks(ROWS * width))
        .for_each(|(out, windows)| {
            let job = Windows::<A, S> {
                scheme,
                windows,
                width,
                out,
            };
            let left = if width > WIDEST { Err(job) } else { run(job) };
            if let Err(Windows { windows, out, .. }) = left {
                for (out, window) in out.iter_mut().zip(windows.chunks_exact(width)) {
                    *out = one(window);
                }
            }
        });
}

struct Windows<'a, A: Ask, S> {
    scheme: &'a S,
    windows: &'a [u32],
    width: usize,
    out: &'a mut [A::Out],
}

impl<A: Ask, S: SideBySide> Job for Windows<'_, A, S> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut columns = [Lanes::splat(0); WIDEST];
        let columns = &mut columns[..self.width];
        let blocks = self.windows.chunks(LANES * self.width);
        for (windows, out) in blocks.zip(self.out.chunks_mut(LANES)) {
            transpose(windows, columns);
            let (context, target) = columns.split_at(columns.len() - 1);
            let state = self.scheme.lane_state::<V>(context);
            write(A::ask::<V, S>(self.scheme, &state, target[0]), out);
        }
    }
}

/// Writes as many answers as there is room for: nearly always all, which needs no call.
#[inline(always)]
fn write<T: Copy>(answers: Lanes<T>, out: &mut [T]) {
    match <&mut [T; LANES]>::try_from(&mut *out) {
        Ok(out) => *out = answers.0,
        Err(_) => out.copy_from_slice(&answers.0[..out.len()]),
    }
}

/// Turns rows of windows into columns of tokens; lanes past the last window repeat the first. The usual
/// widths are constants, so that addresses are too.
#[inline(always)]
fn transpose(windows: &[u32], columns: &mut [Tokens]) {
    let width = columns.len();
    if windows.len() == LANES * width {
        match width {
            2 => transpose_full::<2>(windows, columns),
            3 => transpose_full::<3>(windows, columns),
            4 => transpose_full::<4>(windows, columns),
            5 => transpose_full::<5>(windows, columns),
            _ => transpose_any(windows, columns),
        }
    } else {
        transpose_any(windows, columns);
    }
}

/// Not inlined, so that it is compiled without vectors: with them, compilers scatter.
#[inline(never)]
fn transpose_any(windows: &[u32], columns: &mut [Tokens]) {
    let width = columns.len();
    for (w, column) in columns.iter_mut().enumerate() {
        *column = Lanes::splat(windows[w]);
        for (token, window) in column.0.iter_mut().zip(windows.chunks_exact(width)) {
            *token = window[w];
        }
    }
}

#[inline(always)]
fn transpose_full<const W: usize>(windows: &[u32], columns: &mut [Tokens]) {
    let (columns, windows) = (&mut columns[..W], &windows[..LANES * W]);
    for (w, column) in columns.iter_mut().enumerate() {
        for (lane, token) in column.0.iter_mut().enumerate() {
            *token = windows[lane * W + w];
        }
    }
}

/// Asks about every vocabulary entry after each context of `width` tokens: a row of `vocab` answers per
/// context. Parallel over contexts and within them; `prepare` and `entry` answer without vectors.
pub fn vocabulary<A: Ask, S: SideBySide, P: Sync>(
    scheme: &S,
    vocab: u32,
    width: usize,
    contexts: &[u32],
    out: &mut [A::Out],
    prepare: impl Fn(&[u32]) -> P + Sync,
    entry: impl Fn(&P, u32) -> A::Out + Sync,
) {
    const LEAST: usize = 4096;
    let rows = out.par_chunks_mut(vocab as usize).enumerate();
    rows.for_each(|(row, out)| {
        let context = &contexts[row * width..][..width];
        let blocks = out.par_chunks_mut(LEAST).enumerate();
        blocks.for_each(|(block, out)| {
            let job = Vocabulary::<A, S> {
                scheme,
                context,
                first: (block * LEAST) as u32,
                out,
            };
            let left = if width > WIDEST { Err(job) } else { run(job) };
            if let Err(Vocabulary { first, out, .. }) = left {
                let prepared = prepare(context);
                for (token, out) in (first..).zip(out) {
                    *out = entry(&prepared, token);
                }
            }
        });
    });
}

struct Vocabulary<'a, A: Ask, S> {
    scheme: &'a S,
    context: &'a [u32],
    first: u32,
    out: &'a mut [A::Out],
}

impl<A: Ask, S: SideBySide> Job for Vocabulary<'_, A, S> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut columns = [Lanes::splat(0); WIDEST];
        for (column, &token) in columns.iter_mut().zip(self.context) {
            *column = Lanes::splat(token);
        }
        let state = self.scheme.lane_state::<V>(&columns[..self.context.len()]);
        let lane: [u32; LANES] = std::array::from_fn(|lane| lane as u32);
        for (block, out) in (self.first..)
            .step_by(LANES)
            .zip(self.out.chunks_mut(LANES))
        {
            let targets = Lanes(lane) + Lanes::splat(block);
            write(A::ask::<V, S>(self.scheme, &state, targets), out);
        }
    }
}
