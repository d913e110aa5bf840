//! Exact sums of many numbers at once.
//!
//! Each number is cut exactly into a multiple of a unit, one of 2^-39 of that unit, and one of 2^-78 of
//! it; the unit follows from the largest number. Multiples of one unit add up in double precision
//! without rounding, as long as there are few enough of them, and the three sums go into the exact
//! accumulator. What a number has below that, 2^-117 of the largest, goes there on its own.

use super::lanes::{LANES, Lanes};
use super::vector::Vector;
use super::{Job, run};

/// Bits of a part: the integers of [`MOST`] parts add up to at most 2^53.
const BITS: i32 = 39;
/// Numbers that are added at once.
const MOST: usize = 1 << 14;
/// Largest numbers, as exponents, whose units and their rounding constants are normal numbers.
const CUT: std::ops::RangeInclusive<i32> = -900..=1000;

/// Calls `add` with numbers whose exact sum is that of `words`, the bits of finite numbers.
pub fn add_all(words: &[u64], mut add: impl FnMut(f64)) {
    for words in words.chunks(MOST) {
        let whole = words.len() - words.len() % LANES;
        let (blocks, rest) = words.split_at(whole);
        let numbers = blocks.iter().map(|&word| f64::from_bits(word));
        match run(Blocks { words: blocks }) {
            Ok(Some(Sums { parts, cuts, exact })) => {
                parts.into_iter().for_each(&mut add);
                if !exact {
                    let left = numbers.map(|x| cuts.cut(x)[3]);
                    left.filter(|&x| x != 0.0).for_each(&mut add);
                }
            }
            _ => numbers.for_each(&mut add),
        }
        rest.iter().for_each(|&word| add(f64::from_bits(word)));
    }
}

/// What rounds to a multiple of each unit when it is added and taken away: 1.5 * 2^52 units.
#[derive(Clone, Copy)]
struct Cuts([f64; 3]);

impl Cuts {
    /// Those for numbers of at most this size; nothing if that is too small or too large.
    #[inline(always)]
    fn of(largest: f64) -> Option<Self> {
        let above = (largest.to_bits() >> 52) as i32 - 1022;
        let power = |exponent: i32| f64::from_bits(((exponent + 1023) as u64) << 52);
        let cut = |part: i32| 1.5 * power(above - part * BITS + 52);
        (CUT.contains(&above)).then(|| Self([cut(1), cut(2), cut(3)]))
    }

    /// The parts of a number, and what is left of it.
    #[inline(always)]
    fn cut(self, x: f64) -> [f64; 4] {
        let first = (x + self.0[0]) - self.0[0];
        let x = x - first;
        let second = (x + self.0[1]) - self.0[1];
        let x = x - second;
        let third = (x + self.0[2]) - self.0[2];
        [first, second, third, x - third]
    }
}

/// The exact sum of numbers that leave nothing.
struct Sums {
    parts: [f64; 3],
    cuts: Cuts,
    /// Whether no number left anything.
    exact: bool,
}

struct Blocks<'a> {
    words: &'a [u64],
}

impl Job for Blocks<'_> {
    type Output = Option<Sums>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Output {
        let mut largest = [0.0f64; LANES];
        for words in self.words.chunks_exact(LANES) {
            for (largest, &word) in largest.iter_mut().zip(words) {
                let size = f64::from_bits(word).abs();
                *largest = if size > *largest { size } else { *largest };
            }
        }
        let cuts = Cuts::of(largest.iter().fold(0.0, |a: f64, &b| a.max(b)))?;
        let mut sums = [Lanes::splat(0.0f64); 3];
        let mut left = Lanes::splat(0u64);
        for words in self.words.chunks_exact(LANES) {
            for (lane, &word) in words.iter().enumerate() {
                let parts = cuts.cut(f64::from_bits(word));
                sums[0].0[lane] += parts[0];
                sums[1].0[lane] += parts[1];
                sums[2].0[lane] += parts[2];
                left.0[lane] |= parts[3].to_bits() << 1; // of either zero nothing
            }
        }
        Some(Sums {
            parts: sums.map(|sums| sums.0.iter().sum()),
            cuts,
            exact: left.0.iter().all(|&left| left == 0),
        })
    }
}
