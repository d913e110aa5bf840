//! Chosen draws of many generators, one seed per lane: blocks are renewed untempered, and only the
//! words asked for are tempered.

use super::mt19937_lanes::{LANES, renew, seed};
use crate::prng::mt19937::{WORDS, temper};
use crate::simd::vector::Vector;

/// Calls `found(lane, k, word)` for draw number `indices[lane][k]` of each lane's generator; indices
/// ascend. The cost is that of the largest index, in all lanes.
#[inline(always)]
pub fn draws<V: Vector>(
    seeds: &[u32; LANES],
    indices: &[&[u32]],
    state: &mut Vec<V>,
    mut found: impl FnMut(usize, usize, u32),
) {
    seed(seeds, state);
    let last = indices.iter().filter_map(|indices| indices.last()).max();
    let words = last.map_or(0, |&last| last as usize + 1);
    let mut next = [0; LANES];
    for first in (0..words).step_by(WORDS) {
        renew(state, 0, WORDS.min(words - first));
        for (lane, indices) in indices.iter().enumerate() {
            while let Some(&index) = indices.get(next[lane]) {
                let Some(word) = state[..WORDS].get(index as usize - first) else {
                    break;
                };
                found(lane, next[lane], temper(word.lane(lane)));
                next[lane] += 1;
            }
        }
    }
}
