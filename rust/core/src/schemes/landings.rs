//! Torch's green lists, many seeds side by side: one seed per lane, up to eight targets per lane.
//!
//! All lanes walk through the steps of their permutations together. At step i a lane's entry p
//! moves when `draw mod (V - i) = p - i`, which is tested without a division: for m = 2^k * odd, x
//! is a multiple of m when x times the inverse of the odd part, rotated by k, is at most
//! (2^32 - 1) / m (Warren, Hacker's Delight, 10-17). The least such value of a stride of steps is
//! compared once; strides in which a lane may have moved, or passes its own entry, are followed
//! again for that lane alone, with divisions. Twist, tempering and test are one loop, so that a
//! word of state is loaded and stored once, and no more words are made than there are steps.

use crate::prng::mt19937::{WORDS, temper};
use crate::prng::mt19937_lanes::{LANES, near_and_far, run_length, seed};
use crate::simd::vector::Vector;

/// Most targets of one lane.
pub const TARGETS: usize = 8;
/// Steps that are tested together: fewer cost more tests, more cost more after a hit.
const STRIDE: usize = 24;
/// A position that no step ever reaches: of lanes and targets that are unused or done.
pub const DONE: u32 = u32::MAX;

/// How to recognise multiples of the number of entries left at each step, which is
/// `vocab - step`.
pub struct StepDivisors<'a> {
    /// Entries of the permutation.
    pub vocab: u32,
    /// The inverse of the odd part.
    pub inverse: &'a [u32],
    /// The number of factors 2.
    pub twos: &'a [u32],
}

/// The targets of one lane; `DONE` past the last.
pub type Targets = [u32; TARGETS];

/// Whether each target lands within the first `divisors.inverse.len()` steps of the permutation
/// of its lane's seed: bit t of a lane's answer for its target t.
///
/// `count` is the largest number of targets of a lane; lanes from [`Vector::LANES`] on are ignored.
#[inline(always)]
pub fn landings<V: Vector>(
    divisors: &StepDivisors,
    seeds: &[u32; LANES],
    targets: &[Targets; LANES],
    count: usize,
    state: &mut Vec<V>,
) -> [u8; LANES] {
    match count {
        0 | 1 => track::<V, 1>(divisors, seeds, targets, state),
        2 => track::<V, 2>(divisors, seeds, targets, state),
        3 | 4 => track::<V, 4>(divisors, seeds, targets, state),
        _ => track::<V, 8>(divisors, seeds, targets, state),
    }
}

/// [`landings`] for up to T targets per lane.
#[inline(always)]
fn track<V: Vector, const T: usize>(
    divisors: &StepDivisors,
    seeds: &[u32; LANES],
    targets: &[Targets; LANES],
    state: &mut Vec<V>,
) -> [u8; LANES] {
    let steps = divisors.inverse.len();
    seed(seeds, state);
    let mut landed = [0; LANES];
    let mut positions = [[DONE; LANES]; T];
    for (lane, targets) in targets[..V::LANES].iter().enumerate() {
        for (position, &target) in positions.iter_mut().zip(targets) {
            position[lane] = target;
        }
    }
    let mut left = positions
        .as_flattened()
        .iter()
        .filter(|&&p| p != DONE)
        .count();
    let (mut first, mut index) = (0, 0);
    while first < steps && left > 0 {
        let length = run_length(index, STRIDE.min(steps - first));
        let (near, far) = near_and_far(state, index, length);
        let at = Stride {
            vocab: divisors.vocab,
            first: first as u32,
            inverse: &divisors.inverse[first..first + length],
            twos: &divisors.twos[first..first + length],
        };
        let suspects = advance::<V, T>(&at, near, far, &positions);
        for (t, suspects) in suspects.into_iter().enumerate() {
            let mut rest = suspects;
            while rest != 0 {
                let lane = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                let position = positions[t][lane];
                let next = at.follow(near, lane, position);
                if next == DONE && position != DONE {
                    landed[lane] |= 1 << t;
                    left -= 1;
                }
                positions[t][lane] = next;
            }
        }
        first += length;
        index = if index + length == WORDS {
            0
        } else {
            index + length
        };
    }
    landed
}

/// Some consecutive steps.
struct Stride<'a> {
    vocab: u32,
    first: u32,
    inverse: &'a [u32],
    twos: &'a [u32],
}

/// Makes the words of a stride. Returns the lanes where each target may have moved; in all others it
/// certainly has not.
#[inline(always)]
fn advance<V: Vector, const T: usize>(
    at: &Stride,
    near: &mut [V],
    far: &[V],
    positions: &[[u32; LANES]; T],
) -> [u32; T] {
    let length = far.len();
    let (near, inverse, twos) = (
        &mut near[..=length],
        &at.inverse[..length],
        &at.twos[..length],
    );
    // Loops, since compilers may leave the closures of `from_fn` outside, without vectors.
    let mut start = [V::splat(0); T];
    for (start, position) in start.iter_mut().zip(positions) {
        *start = V::load(position);
    }
    // The first target's distance rides on the counter, the others are relative to it.
    let mut counter = V::splat(at.first).sub(start[0]);
    let mut relative = [V::splat(0); T];
    for t in 1..T {
        relative[t] = start[t].sub(start[0]);
    }
    let mut least = [V::splat(u32::MAX); T];
    let one = V::splat(1);
    for j in 0..length {
        let word = near[j].twisted(near[j + 1], far[j]);
        near[j] = word;
        let above = word.tempered().add(counter);
        counter = counter.add(one);
        let inverse = V::splat(inverse[j]);
        for t in 0..T {
            let above = if t == 0 {
                above
            } else {
                above.sub(relative[t])
            };
            least[t] = least[t].min(above.mul(inverse).rotate_right(twos[j]));
        }
    }
    let bound = u32::MAX / (at.vocab - (at.first + length as u32 - 1));
    let mut suspects = [0; T];
    for t in 0..T {
        let ahead = start[t].sub(V::splat(at.first));
        suspects[t] = least[t].at_most(bound) | ahead.at_most(length as u32 - 1);
    }
    suspects
}

impl Stride<'_> {
    /// Where one lane's entry is after the stride; `DONE` if it has landed.
    #[inline(always)]
    fn follow<V: Vector>(&self, words: &[V], lane: usize, mut position: u32) -> u32 {
        if position == DONE {
            return DONE;
        }
        for (i, word) in (self.first..).zip(&words[..self.inverse.len()]) {
            let moved = i + temper(word.lane(lane)) % (self.vocab - i);
            if moved == position {
                return DONE;
            }
            if position == i {
                position = moved;
            }
        }
        position
    }
}
