//! Green lists for many seeds: which algorithm answers, one seed at a time or side by side.

use super::green_list::{GreenList, Scratch};
use super::grouping::Batch;
use super::landings::{DONE, StepDivisors, TARGETS, Targets, landings};
use crate::error::{Error, Result};
use crate::prng::mt19937_lanes::LANES;
use crate::simd::vector::Vector;
use crate::simd::{self, Job, Kernel as InstructionSet};

/// Which algorithm answers; tests force each. The instruction set is another matter
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

/// Green lists of one vocabulary and size, under any seed. Every algorithm gives the same answers.
pub struct Permutation {
    list: GreenList,
    kernel: Kernel,
}

impl Permutation {
    /// The first `green` entries of `randperm(vocab)`, or the last if `last` is set.
    /// `0 < green < vocab`.
    #[must_use]
    pub fn new(vocab: u32, green: u32, last: bool) -> Self {
        Self {
            list: GreenList::new(vocab, green, last),
            kernel: Kernel::Auto,
        }
    }

    /// Draws that decide.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.list.steps
    }

    /// The same with a forced algorithm.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Greenness of distinct `targets` in the permutation seeded with `seed`.
    fn green(&self, seed: u32, targets: &[u32], scratch: &mut Scratch, out: &mut [bool]) {
        match self.kernel {
            Kernel::Scalar => self.list.scalar(seed, targets, out),
            Kernel::Tracking => self.list.tracking(seed, targets, scratch, out),
            Kernel::Bitmap => self.list.bitmap(seed, targets, scratch, out),
            Kernel::Auto if targets.len() > bitmap_from() => {
                self.list.bitmap(seed, targets, scratch, out);
            }
            Kernel::Auto | Kernel::Lanes => self.list.tracking(seed, targets, scratch, out),
        }
    }

    /// Greenness of the targets of many seeds.
    pub fn green_batch(&self, batch: &Batch, scratch: &mut Scratch, out: &mut [bool]) {
        if matches!(self.kernel, Kernel::Auto | Kernel::Lanes) {
            let job = ManySeeds {
                lists: self,
                batch,
                scratch: &mut *scratch,
                out: &mut *out,
            };
            if simd::run(job).is_ok() {
                return;
            }
        }
        for (seed, range) in batch.seeds() {
            let targets = &batch.targets()[range.clone()];
            self.green(seed, targets, scratch, &mut out[range]);
        }
    }

    /// Greenness of every token: `out[t]` for t below `vocab`.
    pub fn green_all(&self, seed: u32, scratch: &mut Scratch, out: &mut [bool]) {
        self.list.all(seed, scratch, out);
    }
}

/// [`Permutation::green_batch`] with the seeds in lanes.
struct ManySeeds<'a> {
    lists: &'a Permutation,
    batch: &'a Batch,
    scratch: &'a mut Scratch,
    out: &'a mut [bool],
}

/// What one lane answers: up to [`TARGETS`] targets of a seed.
struct Slot {
    seed: u32,
    first: usize,
    count: usize,
}

impl Job for ManySeeds<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let (list, bitmap_from) = (&self.lists.list, bitmap_from());
        let kernel = self.lists.kernel;
        let mut slots = Vec::new();
        for (seed, range) in self.batch.seeds() {
            if kernel == Kernel::Auto && range.len() > bitmap_from {
                let targets = &self.batch.targets()[range.clone()];
                list.bitmap(seed, targets, self.scratch, &mut self.out[range]);
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
            // Empty lanes cost the same; with fewer than half, one seed after the other is cheaper.
            if kernel == Kernel::Auto && slots.len() < V::LANES / 2 {
                for slot in slots {
                    let range = slot.first..slot.first + slot.count;
                    let targets = &self.batch.targets()[range.clone()];
                    list.track(slot.seed, targets, self.scratch, &mut self.out[range]);
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
        let list = &self.lists.list;
        let steps = list.steps as usize;
        let divisors = StepDivisors {
            vocab: list.vocab,
            inverse: &list.divisors.inverse[..steps],
            twos: &list.divisors.twos[..steps],
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
                *out = (landed >> t & 1 == 1) == list.first;
            }
        }
    }
}

/// Beyond this many targets of one seed the whole list is cheaper: measured for 32,000 and 128,000
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
}
