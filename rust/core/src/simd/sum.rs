//! Exact sums of many numbers at once.
//!
//! Each number is split exactly into a multiple of 2^-20, one of 2^-51 and one of 2^-82. Multiples of
//! one kind add up in double precision without rounding, as long as there are few enough of them, and
//! their sums go into the exact accumulator.

use super::lanes::{LANES, Lanes};
use super::vector::Vector;
use super::{Job, run};

/// Numbers from here on, and 0, are multiples of 2^-82.
const LEAST: f64 = 1.0 / (1u64 << 30) as f64;
/// Larger numbers are not split; multiples of 2^-20 stay below 2^42.
const MOST: f64 = (1u64 << 22) as f64;
/// Numbers whose integers may be added before they could reach 2^53.
const FEW: usize = 1 << 10;

/// Calls `add` with numbers whose exact sum is that of `words`, the bits of finite numbers.
pub fn add_all(words: &[u64], mut add: impl FnMut(f64)) {
    for words in words.chunks(FEW * LANES) {
        let whole = words.len() - words.len() % LANES;
        let (blocks, rest) = words.split_at(whole);
        match run(Blocks { words: blocks }) {
            Ok(Some(sums)) => sums.iter().flat_map(|sums| sums.0).for_each(&mut add),
            _ => blocks.iter().for_each(|&word| add(f64::from_bits(word))),
        }
        rest.iter().for_each(|&word| add(f64::from_bits(word)));
    }
}

struct Blocks<'a> {
    words: &'a [u64],
}

impl Job for Blocks<'_> {
    /// Three sums per lane; nothing if a number is too small or too large to be split.
    type Output = Option<[Lanes<f64>; 3]>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Output {
        // Adding and taking away 1.5 * 2^52 rounds to an integer.
        const ROUND: f64 = 6_755_399_441_055_744.0;
        const UP: f64 = (1u64 << 31) as f64;
        let zero = Lanes::splat(0.0f64);
        let (mut high, mut middle, mut low) = (zero, zero, zero);
        let mut outside = Lanes::splat(0u64);
        for words in self.words.chunks_exact(LANES) {
            for (lane, &word) in words.iter().enumerate() {
                let x = f64::from_bits(word);
                let size = x.abs();
                outside.0[lane] |= u64::from((size < LEAST && size != 0.0) || size > MOST);
                let scaled = x * (1u64 << 20) as f64;
                let first = (scaled + ROUND) - ROUND;
                let scaled = (scaled - first) * UP;
                let second = (scaled + ROUND) - ROUND;
                high.0[lane] += first;
                middle.0[lane] += second;
                low.0[lane] += (scaled - second) * UP;
            }
        }
        let scale = 1.0 / (1u64 << 20) as f64;
        let sums = [
            high.map(|sum| sum * scale),
            middle.map(|sum| sum * (scale / UP)),
            low.map(|sum| sum * (scale / UP / UP)),
        ];
        outside
            .0
            .iter()
            .all(|&outside| outside == 0)
            .then_some(sums)
    }
}
