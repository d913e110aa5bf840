//! MT19937 with one generator a lane: the state's words are interleaved, so that all lanes are
//! renewed by the same instructions.

use crate::prng::mt19937::{SHIFT, WORDS};
use crate::simd::vector::Vector;

/// Most lanes of any vector.
pub const LANES: usize = 16;

/// The first state of each lane's generator. It has one word more than a state: see [`parts`].
#[inline(always)]
pub fn seed<V: Vector>(seeds: &[u32; LANES], state: &mut Vec<V>) {
    let mut word = V::load(seeds);
    state.clear();
    state.reserve(WORDS + 1);
    state.push(word);
    for index in 1..WORDS as u32 {
        word = word.seeded(index);
        state.push(word);
    }
    state.push(word);
}

/// How many words, up to `most`, can be renewed from `index` on in one go: those whose far words
/// lie on one side. Words are renewed in place, in order.
#[inline(always)]
pub fn run_length(index: usize, most: usize) -> usize {
    let part = if index < WORDS - SHIFT {
        WORDS - SHIFT
    } else {
        WORDS
    };
    most.min(part - index)
}

/// The words to renew with the one after them, and the words 397 further (round the block).
///
/// The last word of a block is followed by the block's own first, so that is put behind it once it
/// is known.
#[inline(always)]
pub fn parts<V: Copy>(state: &mut [V], index: usize, length: usize) -> (&mut [V], &[V]) {
    if index < WORDS - SHIFT {
        let (near, far) = state.split_at_mut(index + SHIFT);
        return (&mut near[index..=index + length], &far[..length]);
    }
    if index == WORDS - SHIFT {
        state[WORDS] = state[0];
    }
    let (far, near) = state.split_at_mut(index);
    let from = index - (WORDS - SHIFT);
    (&mut near[..=length], &far[from..from + length])
}

/// Renews words `from..to` of a block, all that come before them being renewed.
#[inline(always)]
pub fn renew<V: Vector>(state: &mut [V], mut from: usize, to: usize) {
    while from < to {
        // Up to where the words that are read are older than those that are written.
        let length = run_length(from, (to - from).min(WORDS - SHIFT));
        let (near, far) = parts(state, from, length);
        let near = &mut near[..=far.len()];
        for j in 0..far.len() {
            near[j] = near[j].twisted(near[j + 1], far[j]);
        }
        from += length;
    }
}
