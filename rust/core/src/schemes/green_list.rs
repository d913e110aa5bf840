//! The green list of one seed, cut from `torch.randperm` on the CPU without building the permutation.
//!
//! `randperm(V)` walks i = 0, 1, .. and swaps entry i with entry i + z, z = draw mod (V - i);
//! entry i never moves again. Whether a token is among the first g entries therefore needs g
//! draws and one tracked position per token. `draw mod m = c` is tested without a division (see
//! [`Divisors`]), and the rare hit is confirmed exactly.

use super::divisors::Divisors;
use crate::memory;
use crate::prng::mt19937::{Block, Mt19937, WORDS, Words};
use crate::simd::vector::Vector;
use crate::simd::{Job, run};
use std::sync::Arc;

/// Draws that are tested together before the loop checks whether one hit.
const STRIDE: usize = 48;

/// How a vocabulary is split, whatever the seed. Always 0 < `steps` < `vocab`.
pub struct GreenList {
    /// Entries of the permutation.
    pub vocab: u32,
    /// Draws that decide: green or red tokens are those that land within them.
    pub steps: u32,
    /// Whether landing within `steps` means green (else the list is the permutation's tail).
    pub first: bool,
    /// Tests of divisibility for at least `steps` steps.
    pub divisors: Arc<Divisors>,
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

impl GreenList {
    /// The first `green` entries of `randperm(vocab)`, or the last if `last` is set.
    /// `0 < green < vocab`.
    pub fn new(vocab: u32, green: u32, last: bool) -> Self {
        let steps = if last { vocab - green } else { green };
        Self {
            vocab,
            steps,
            first: !last,
            divisors: Divisors::shared(vocab, steps),
        }
    }

    /// The definition that the others must reproduce: follows each target through the swaps, one draw
    /// at a time, `steps` divisions each.
    pub fn scalar(&self, seed: u32, targets: &[u32], out: &mut [bool]) {
        for (out, &target) in out.iter_mut().zip(targets) {
            let mut words = Words::new(seed);
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

    /// Greenness of every token: `out[t]` for t below `vocab`. `steps` draws and divisions, and a pass
    /// over the vocabulary.
    pub fn all(&self, seed: u32, scratch: &mut Scratch, out: &mut [bool]) {
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

    /// Greenness of `targets`, from that of every token.
    pub fn bitmap(&self, seed: u32, targets: &[u32], scratch: &mut Scratch, out: &mut [bool]) {
        let mut green = std::mem::take(&mut scratch.green);
        green.resize(self.vocab as usize, false);
        self.all(seed, scratch, &mut green);
        for (out, &target) in out.iter_mut().zip(targets) {
            *out = green[target as usize];
        }
        scratch.green = green;
    }

    /// Greenness of `targets`, each tracked through the draws: `steps` multiplications each.
    pub fn tracking(&self, seed: u32, targets: &[u32], scratch: &mut Scratch, out: &mut [bool]) {
        let job = OneSeed {
            list: self,
            seed,
            targets,
            scratch,
            out,
        };
        // Without vectors it is the same code, compiled for any processor.
        if let Err(job) = run(job) {
            job.track();
        }
    }

    /// [`GreenList::tracking`] for the instruction set of the caller: block by block of draws, until
    /// each target has landed.
    #[inline(always)]
    pub fn track(&self, seed: u32, targets: &[u32], scratch: &mut Scratch, out: &mut [bool]) {
        out.fill(!self.first);
        scratch.tracked.clear();
        let all = (0u32..).zip(targets);
        memory::append(
            &mut scratch.tracked,
            all.map(|(index, &position)| Tracked { position, index }),
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

/// [`GreenList::track`] for each instruction set.
struct OneSeed<'a> {
    list: &'a GreenList,
    seed: u32,
    targets: &'a [u32],
    scratch: &'a mut Scratch,
    out: &'a mut [bool],
}

impl OneSeed<'_> {
    #[inline(always)]
    fn track(self) {
        self.list
            .track(self.seed, self.targets, self.scratch, self.out);
    }
}

impl Job for OneSeed<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        self.track();
    }
}
