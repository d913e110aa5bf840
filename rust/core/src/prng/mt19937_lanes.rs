//! MT19937 with one generator per lane: word i of every lane's state is one vector, so that all lanes
//! are renewed by the same instructions.

use crate::prng::mt19937::{SHIFT, WORDS};
use crate::simd::vector::Vector;

/// Most lanes of any vector.
pub const LANES: usize = 16;

/// The first state of each lane's generator, and one word more: see [`near_and_far`].
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

/// How many words, up to `most`, can be renewed from `index` on in one go: until the far words wrap
/// round. Words are renewed in place, in order.
#[inline(always)]
pub fn run_length(index: usize, most: usize) -> usize {
    let end = if index < WORDS - SHIFT {
        WORDS - SHIFT
    } else {
        WORDS
    };
    most.min(end - index)
}

/// The words to renew along with the one after them, and the words 397 ahead (wrapping round).
///
/// The last word of a block is followed by the block's own first, which is copied behind it once it is
/// known.
#[inline(always)]
pub fn near_and_far<V: Copy>(state: &mut [V], index: usize, length: usize) -> (&mut [V], &[V]) {
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

/// Renews words `from..to` of a block; all before them have been renewed.
#[inline(always)]
pub fn renew<V: Vector>(state: &mut [V], mut from: usize, to: usize) {
    while from < to {
        // As far as the words that are read are older than those that are written.
        let length = run_length(from, (to - from).min(WORDS - SHIFT));
        let (near, far) = near_and_far(state, from, length);
        let near = &mut near[..=far.len()];
        for j in 0..far.len() {
            near[j] = near[j].twisted(near[j + 1], far[j]);
        }
        from += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Job, run_each};

    /// Some blocks of state, each renewed in runs that end at `cuts`.
    #[derive(Clone)]
    struct Blocks<'a> {
        seeds: [u32; LANES],
        cuts: &'a [usize],
        blocks: usize,
    }

    impl Job for Blocks<'_> {
        /// The tempered words of each lane.
        type Output = Vec<Vec<u32>>;
        #[inline(always)]
        fn run<V: Vector>(self) -> Vec<Vec<u32>> {
            let mut state: Vec<V> = Vec::new();
            seed(&self.seeds, &mut state);
            let mut lanes = vec![Vec::new(); V::LANES];
            for _ in 0..self.blocks {
                let mut from = 0;
                for &to in self.cuts.iter().chain([&WORDS]) {
                    renew(&mut state, from, to);
                    from = to;
                }
                for word in &state[..WORDS] {
                    let word = word.tempered();
                    let all = lanes.iter_mut().enumerate();
                    all.for_each(|(lane, words)| words.push(word.lane(lane)));
                }
            }
            lanes
        }
    }

    /// The crate `rand_mt`, on random seeds, renewed in random runs.
    #[test]
    fn agrees_with_rand_mt() {
        let mut random = rand_mt::Mt64::new(4);
        for round in 0..20 {
            let seeds = std::array::from_fn(|_| random.next_u32());
            let mut cuts: Vec<usize> = (0..round)
                .map(|_| random.next_u32() as usize % WORDS)
                .collect();
            cuts.sort_unstable();
            let job = Blocks {
                seeds,
                cuts: &cuts,
                blocks: 3,
            };
            for (kernel, lanes) in run_each(&job) {
                for (words, seed) in lanes.iter().zip(seeds) {
                    let mut oracle = rand_mt::Mt::new(seed);
                    let same = words.iter().all(|&word| word == oracle.next_u32());
                    assert!(
                        same && words.len() == 3 * WORDS,
                        "{kernel:?} {seed} {cuts:?}"
                    );
                }
            }
        }
    }
}
