//! Green lists cut from `torch.randperm` on the CPU, without building the permutation.
//!
//! `randperm(V)` walks i = 0, 1, .. and swaps entry i with entry i + z, z = draw mod (V - i);
//! entry i never moves again. Whether a token is among the first g entries therefore needs g
//! draws and one tracked position per token. `draw mod m = c` is tested without a division (a
//! multiple of m is recognised by multiplying with the inverse of m's odd part; Warren, Hacker's
//! Delight, 10-17), and the rare hit is confirmed exactly.
//!
//! [`Permutation::green_scalar`] is the definition that every faster kernel must reproduce.

use super::grouping::Batch;
use crate::error::{Error, Result};
use crate::prng::mt19937::{Block, Mt19937, WORDS};
use crate::prng::mt19937_lanes::LANES;
use crate::schemes::landings::{DONE, Divisors as Known, TARGETS, Targets, landings};
use crate::simd::vector::Vector;
use crate::simd::{self, Kernel as InstructionSet, Work};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Draws that are tested together before the loop looks whether one hit.
const STRIDE: usize = 48;

/// For each step i of a permutation of `vocab` entries: how to recognise multiples of vocab - i.
struct Divisors {
    vocab: u32,
    inverse: Vec<u32>,
    bound: Vec<u32>,
    twos: Vec<u32>,
}

impl Divisors {
    fn new(vocab: u32, steps: u32) -> Self {
        let odd = |i: u32| (vocab - i) >> (vocab - i).trailing_zeros();
        Self {
            vocab,
            inverse: (0..steps).map(|i| inverse(odd(i))).collect(),
            bound: (0..steps).map(|i| u32::MAX / odd(i)).collect(),
            twos: (0..steps).map(|i| (vocab - i).trailing_zeros()).collect(),
        }
    }

    /// One table for all schemes of the same shape: a test with decoy keys has hundreds.
    fn shared(vocab: u32, steps: u32) -> Arc<Self> {
        static LIVE: Mutex<Vec<Weak<Divisors>>> = Mutex::new(Vec::new());
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|table| table.strong_count() > 0);
        let found = live
            .iter()
            .filter_map(Weak::upgrade)
            .find(|table| table.vocab == vocab && table.inverse.len() >= steps as usize);
        found.unwrap_or_else(|| {
            let table = Arc::new(Self::new(vocab, steps));
            live.push(Arc::downgrade(&table));
            table
        })
    }
}

/// The inverse of an odd number mod 2^32: Newton's steps, from three right bits to 48.
fn inverse(odd: u32) -> u32 {
    (0..4).fold(odd, |x, _| {
        x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x)))
    })
}

/// Which algorithm answers; tests force each. The instruction set is chosen elsewhere
/// ([`crate::simd`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernel {
    /// Whatever is fastest for the number of targets on this machine.
    #[default]
    Auto,
    /// One draw at a time, with a division each: the oracle.
    Scalar,
    /// Position tracking over blocks of draws, one seed at a time.
    Tracking,
    /// Position tracking for many seeds side by side; as `Tracking` without vectors.
    Lanes,
    /// The whole partial permutation.
    Bitmap,
}

impl Kernel {
    /// The kernel of that name.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "scalar" => Ok(Self::Scalar),
            "tracking" => Ok(Self::Tracking),
            "lanes" => Ok(Self::Lanes),
            "bitmap" => Ok(Self::Bitmap),
            _ => Err(Error::Argument(format!(
                "kernel must be auto, scalar, tracking, lanes or bitmap, not {name:?}"
            ))),
        }
    }
}

/// Green lists of one vocabulary and size.
pub struct Permutation {
    vocab: u32,
    /// Draws that decide: green or red tokens are those that land within them.
    steps: u32,
    /// Whether landing within `steps` means green (else the list is the permutation's tail).
    first: bool,
    divisors: Arc<Divisors>,
    kernel: Kernel,
}

/// Memory that one thread uses over and over.
#[derive(Default)]
pub struct Scratch {
    entries: Vec<u32>,
    tracked: Vec<Tracked>,
    green: Vec<bool>,
}

#[derive(Clone, Copy)]
struct Tracked {
    position: u32,
    /// Index of the target among those asked for.
    index: u32,
}

impl Permutation {
    /// The first `green` entries of `randperm(vocab)`, or the last where `last` is set.
    /// `0 < green < vocab`.
    #[must_use]
    pub fn new(vocab: u32, green: u32, last: bool) -> Self {
        let steps = if last { vocab - green } else { green };
        Self {
            vocab,
            steps,
            first: !last,
            divisors: Divisors::shared(vocab, steps),
            kernel: Kernel::Auto,
        }
    }

    /// Draws that decide.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The same with a forced kernel.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Greenness of distinct `targets` in the permutation seeded with `seed`.
    pub fn green(&self, seed: u32, targets: &[u32], scratch: &mut Scratch, out: &mut [bool]) {
        match self.kernel {
            Kernel::Scalar => self.green_scalar(seed, targets, out),
            Kernel::Tracking => self.green_tracking(seed, targets, scratch, out),
            Kernel::Bitmap => self.green_bitmap(seed, targets, scratch, out),
            Kernel::Auto if targets.len() > bitmap_from() => {
                self.green_bitmap(seed, targets, scratch, out);
            }
            Kernel::Auto | Kernel::Lanes => self.green_tracking(seed, targets, scratch, out),
        }
    }

    /// Greenness of the targets of many seeds.
    pub fn green_batch(&self, batch: &Batch, scratch: &mut Scratch, out: &mut [bool]) {
        if matches!(self.kernel, Kernel::Auto | Kernel::Lanes) {
            let work = ManySeeds {
                lists: self,
                batch,
                scratch: &mut *scratch,
                out: &mut *out,
            };
            if simd::run(work).is_ok() {
                return;
            }
        }
        for (seed, range) in batch.seeds() {
            let targets = &batch.targets()[range.clone()];
            self.green(seed, targets, scratch, &mut out[range]);
        }
    }

    /// The oracle: follows each target through the swaps, one draw at a time.
    pub fn green_scalar(&self, seed: u32, targets: &[u32], out: &mut [bool]) {
        for (out, &target) in out.iter_mut().zip(targets) {
            let mut words = crate::prng::mt19937::Words::new(seed);
            let mut position = target;
            let mut landed = false;
            for i in 0..self.steps {
                let q = i + words.draw() % (self.vocab - i);
                if q == position {
                    landed = true;
                    break;
                }
                if position == i {
                    position = q;
                }
            }
            *out = landed == self.first;
        }
    }

    /// Greenness of every token: `out[t]` for t below `vocab`.
    pub fn green_all(&self, seed: u32, scratch: &mut Scratch, out: &mut [bool]) {
        scratch.entries.clear();
        scratch.entries.extend(0..self.vocab);
        let entries = &mut scratch.entries;
        let mut generator = Mt19937::new(seed);
        let mut block: Block = [0; WORDS];
        let mut first = 0u32;
        while first < self.steps {
            generator.twist();
            generator.temper(&mut block);
            for (i, y) in (first..self.steps).zip(block) {
                entries.swap(i as usize, (i + y % (self.vocab - i)) as usize);
            }
            first += WORDS as u32;
        }
        out.fill(!self.first);
        for &token in &entries[..self.steps as usize] {
            out[token as usize] = self.first;
        }
    }

    fn green_bitmap(&self, seed: u32, targets: &[u32], scratch: &mut Scratch, out: &mut [bool]) {
        let mut green = std::mem::take(&mut scratch.green);
        green.resize(self.vocab as usize, false);
        self.green_all(seed, scratch, &mut green);
        for (out, &target) in out.iter_mut().zip(targets) {
            *out = green[target as usize];
        }
        scratch.green = green;
    }

    fn green_tracking(&self, seed: u32, targets: &[u32], scratch: &mut Scratch, out: &mut [bool]) {
        let work = OneSeed {
            lists: self,
            seed,
            targets,
            scratch,
            out,
        };
        // Without vectors it is the same code, compiled for any processor.
        if let Err(work) = simd::run(work) {
            work.track();
        }
    }

    /// Tracks all targets through the draws, block by block, until each has landed.
    #[inline(always)]
    fn track(&self, seed: u32, targets: &[u32], scratch: &mut Scratch, out: &mut [bool]) {
        out.fill(!self.first);
        scratch.tracked.clear();
        scratch.tracked.extend(
            (0u32..)
                .zip(targets)
                .map(|(index, &position)| Tracked { position, index }),
        );
        let tracked = &mut scratch.tracked;
        let mut generator = Mt19937::new(seed);
        let mut block: Block = [0; WORDS];
        let mut first = 0u32;
        while first < self.steps && !tracked.is_empty() {
            generator.twist();
            generator.temper(&mut block);
            let draws = (self.steps - first).min(WORDS as u32);
            let words = &block[..draws as usize];
            let mut k = 0;
            while k < tracked.len() {
                match self.follow(words, first, tracked[k].position) {
                    Some(position) => {
                        tracked[k].position = position;
                        k += 1;
                    }
                    None => {
                        out[tracked[k].index as usize] = self.first;
                        tracked.swap_remove(k);
                    }
                }
            }
            first += draws;
        }
    }

    /// Follows one position through the draws of steps `first ..`; `None` once it has landed.
    #[inline(always)]
    fn follow(&self, words: &[u32], first: u32, mut position: u32) -> Option<u32> {
        let end = first + words.len() as u32;
        let mut i = first;
        loop {
            let stop = end.min(position);
            if i < stop
                && self.lands(
                    &words[(i - first) as usize..(stop - first) as usize],
                    i,
                    position,
                )
            {
                return None;
            }
            if stop == end {
                return Some(position);
            }
            // Step i = position swaps the tracked entry itself.
            let z = words[(stop - first) as usize] % (self.vocab - stop);
            if z == 0 {
                return None;
            }
            position = stop + z;
            i = stop + 1;
        }
    }

    /// Whether one of the draws of steps `first ..` swaps `position` (beyond them) to its step.
    #[inline(always)]
    fn lands(&self, words: &[u32], first: u32, position: u32) -> bool {
        let steps = first as usize..first as usize + words.len();
        let inverse = &self.divisors.inverse[steps.clone()];
        let bound = &self.divisors.bound[steps];
        let mut i = first;
        let strides = words
            .chunks(STRIDE)
            .zip(inverse.chunks(STRIDE))
            .zip(bound.chunks(STRIDE));
        for ((words, inverse), bound) in strides {
            let mut hit = false;
            let mut offset = position - i;
            for ((&y, &inverse), &bound) in words.iter().zip(inverse).zip(bound) {
                hit |= y.wrapping_sub(offset).wrapping_mul(inverse) <= bound;
                offset = offset.wrapping_sub(1);
            }
            if hit
                && (i..)
                    .zip(words)
                    .any(|(i, &y)| y % (self.vocab - i) == position - i)
            {
                return true;
            }
            i += words.len() as u32;
        }
        false
    }
}

/// [`Permutation::track`] for each instruction set.
struct OneSeed<'a> {
    lists: &'a Permutation,
    seed: u32,
    targets: &'a [u32],
    scratch: &'a mut Scratch,
    out: &'a mut [bool],
}

impl OneSeed<'_> {
    #[inline(always)]
    fn track(self) {
        self.lists
            .track(self.seed, self.targets, self.scratch, self.out);
    }
}

impl Work for OneSeed<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        self.track();
    }
}

/// [`Permutation::green_batch`] with the seeds in lanes.
struct ManySeeds<'a> {
    lists: &'a Permutation,
    batch: &'a Batch,
    scratch: &'a mut Scratch,
    out: &'a mut [bool],
}

/// What one lane is asked: up to [`TARGETS`] targets of a seed.
struct Slot {
    seed: u32,
    first: usize,
    count: usize,
}

impl Work for ManySeeds<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let (lists, bitmap_from) = (self.lists, bitmap_from());
        let mut slots = Vec::new();
        for (seed, range) in self.batch.seeds() {
            if lists.kernel == Kernel::Auto && range.len() > bitmap_from {
                let targets = &self.batch.targets()[range.clone()];
                lists.green_bitmap(seed, targets, self.scratch, &mut self.out[range]);
                continue;
            }
            slots.extend(range.clone().step_by(TARGETS).map(|first| Slot {
                seed,
                first,
                count: TARGETS.min(range.end - first),
            }));
        }
        // Lanes that run together have as many targets as the one with most of them.
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.count));
        let mut state = Vec::new();
        for slots in slots.chunks(V::LANES) {
            // Lanes cost the same when empty; below a half, one seed after the other is cheaper.
            if lists.kernel == Kernel::Auto && slots.len() < V::LANES / 2 {
                for slot in slots {
                    let range = slot.first..slot.first + slot.count;
                    let targets = &self.batch.targets()[range.clone()];
                    lists.track(slot.seed, targets, self.scratch, &mut self.out[range]);
                }
            } else {
                self.side_by_side::<V>(slots, &mut state);
            }
        }
    }
}

impl ManySeeds<'_> {
    #[inline(always)]
    fn side_by_side<V: Vector>(&mut self, slots: &[Slot], state: &mut Vec<V>) {
        let lists = self.lists;
        let steps = lists.steps as usize;
        let divisors = Known {
            vocab: lists.vocab,
            inverse: &lists.divisors.inverse[..steps],
            twos: &lists.divisors.twos[..steps],
        };
        let mut seeds = [0; LANES];
        let mut targets: [Targets; LANES] = [[DONE; TARGETS]; LANES];
        for ((slot, seed), targets) in slots.iter().zip(&mut seeds).zip(&mut targets) {
            *seed = slot.seed;
            targets[..slot.count]
                .copy_from_slice(&self.batch.targets()[slot.first..slot.first + slot.count]);
        }
        let landed = landings(&divisors, &seeds, &targets, slots[0].count, state);
        for (slot, landed) in slots.iter().zip(landed) {
            for (t, out) in self.out[slot.first..slot.first + slot.count]
                .iter_mut()
                .enumerate()
            {
                *out = (landed >> t & 1 == 1) == lists.first;
            }
        }
    }
}

/// Beyond so many targets of one seed the whole list is cheaper: measured for 32,000 and 128,000
/// tokens and shares of a quarter and a half.
fn bitmap_from() -> usize {
    match simd::active() {
        InstructionSet::Scalar => 8,
        InstructionSet::Avx2 => 24,
        InstructionSet::Avx512 => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::mt19937::randperm;

    fn kernels(vocab: u32, green: u32, last: bool) -> [Permutation; 4] {
        [
            Kernel::Scalar,
            Kernel::Tracking,
            Kernel::Lanes,
            Kernel::Bitmap,
        ]
        .map(|kernel| Permutation::new(vocab, green, last).with_kernel(kernel))
    }

    /// Every kernel against the permutation itself, whole vocabularies.
    #[test]
    fn all_kernels_agree_with_the_permutation() {
        let shapes = [
            (2, 1),
            (3, 1),
            (3, 2),
            (17, 16),
            (640, 1),
            (1000, 250),
            (1024, 623),
            (1024, 625),
            (4096, 2048),
        ];
        for (vocab, green) in shapes {
            for seed in [0, 1, 3_141_592_653, u32::MAX] {
                for last in [false, true] {
                    let perm = randperm(seed, vocab);
                    let mut expected = vec![last; vocab as usize];
                    let cut = if last { vocab - green } else { green };
                    for &token in &perm[..cut as usize] {
                        expected[token as usize] = !last;
                    }
                    let targets: Vec<u32> = (0..vocab).collect();
                    for list in kernels(vocab, green, last) {
                        let mut out = vec![false; vocab as usize];
                        let mut batch = Batch::default();
                        targets.iter().for_each(|&target| batch.push(seed, target));
                        list.green_batch(&batch, &mut Scratch::default(), &mut out);
                        assert_eq!(
                            out, expected,
                            "{vocab} {green} {seed} {last} {:?}",
                            list.kernel
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn inverses() {
        for odd in (1..5000).step_by(2).chain([u32::MAX, 1_048_575]) {
            assert_eq!(inverse(odd).wrapping_mul(odd), 1);
        }
    }
}
