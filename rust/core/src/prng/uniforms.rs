//! Draws of many generators at given places, one lane a seed: whole blocks are renewed without
//! tempering, and only the words asked for are tempered.

use super::mt19937_lanes::{LANES, renew, seed};
use crate::prng::mt19937::{WORDS, temper};
use crate::simd::vector::Vector;

/// Calls `found(lane, k, word)` for draw `places[lane][k]` of each lane's generator; places ascend.
#[inline(always)]
pub fn draws<V: Vector>(
    seeds: &[u32; LANES],
    places: &[&[u32]],
    state: &mut Vec<V>,
    mut found: impl FnMut(usize, usize, u32),
) {
    seed(seeds, state);
    let last = places.iter().filter_map(|places| places.last()).max();
    let words = last.map_or(0, |&last| last as usize + 1);
    let mut next = [0; LANES];
    for first in (0..words).step_by(WORDS) {
        renew(state, 0, WORDS.min(words - first));
        for (lane, places) in places.iter().enumerate() {
            while let Some(&place) = places.get(next[lane]) {
                let Some(word) = state[..WORDS].get(place as usize - first) else {
                    break;
                };
                found(lane, next[lane], temper(word.lane(lane)));
                next[lane] += 1;
            }
        }
    }
}
