//! Byte-pair merges: the pair of lowest rank first; of equal pairs, the leftmost.

use radscore_core::memory;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Up to this many symbols the next merge is found by looking at all of them; beyond, a heap pays.
const FEW: usize = 48;
const NONE: u32 = u32::MAX;

/// What each pair of symbols merges into, and when: a hash table that is at most half full.
pub struct Merges {
    /// Open addressing with linear probing: the pair, its rank and its product.
    slots: Vec<(u64, u32, u32)>,
    mask: usize,
}

const EMPTY: u64 = u64::MAX;

impl Merges {
    /// From pairs and their products in order of rank; the last of equal pairs counts.
    pub fn new(pairs: &[(u32, u32, u32)]) -> Self {
        let size = (pairs.len() * 2 + 1).next_power_of_two();
        let mut merges = Self {
            slots: vec![(EMPTY, 0, 0); size],
            mask: size - 1,
        };
        for (rank, &(left, right, product)) in (0..).zip(pairs) {
            let key = pair_key(left, right);
            let mut at = merges.start(key);
            while merges.slots[at].0 != EMPTY && merges.slots[at].0 != key {
                at = (at + 1) & merges.mask;
            }
            merges.slots[at] = (key, rank, product);
        }
        merges
    }

    #[inline]
    fn start(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & self.mask
    }

    /// Rank and product of a pair; the rank is [`NONE`] if it does not merge.
    #[inline]
    fn get(&self, left: u32, right: u32) -> (u32, u32) {
        let key = pair_key(left, right);
        let mut at = self.start(key);
        loop {
            let (found, rank, product) = self.slots[at];
            if found == key {
                return (rank, product);
            }
            if found == EMPTY {
                return (NONE, 0);
            }
            at = (at + 1) & self.mask;
        }
    }
}

fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Memory that merging uses over and over.
#[derive(Default)]
pub struct Scratch {
    /// The symbols to merge; afterwards, what they have become.
    pub symbols: Vec<u32>,
    /// The merge of each symbol with its right neighbour.
    pairs: Vec<(u32, u32)>,
    links: Vec<(u32, u32)>,
    heap: BinaryHeap<Reverse<(u32, u32, u32)>>,
}

impl Scratch {
    /// Merges `symbols` until no pair merges: quadratic up to [`FEW`] symbols, n log n beyond.
    pub fn merge(&mut self, merges: &Merges) {
        if self.symbols.len() <= FEW {
            self.merge_few(merges);
        } else {
            self.merge_many(merges);
        }
    }

    fn merge_few(&mut self, merges: &Merges) {
        let symbols = &mut self.symbols;
        self.pairs.clear();
        let pairs = symbols.windows(2).map(|pair| merges.get(pair[0], pair[1]));
        memory::append(&mut self.pairs, pairs);
        loop {
            let mut best = NONE;
            let mut at = 0;
            for (i, &(rank, _)) in self.pairs.iter().enumerate() {
                if rank < best {
                    (best, at) = (rank, i);
                }
            }
            if best == NONE {
                return;
            }
            symbols[at] = self.pairs[at].1;
            symbols.remove(at + 1);
            self.pairs.remove(at);
            if at > 0 {
                self.pairs[at - 1] = merges.get(symbols[at - 1], symbols[at]);
            }
            if let Some(pair) = self.pairs.get_mut(at) {
                *pair = merges.get(symbols[at], symbols[at + 1]);
            }
        }
    }

    /// The same with a heap; an outdated merge in it shows by its rank and product.
    fn merge_many(&mut self, merges: &Merges) {
        let n = self.symbols.len() as u32;
        self.links.clear();
        memory::append(&mut self.links, (0..n).map(|i| (i.wrapping_sub(1), i + 1)));
        // One merge for each neighbour at first, and at most two more where one is done.
        let mut heap = std::mem::take(&mut self.heap).into_vec();
        heap.clear();
        memory::reserve(&mut heap, 3 * self.symbols.len());
        self.heap = heap.into();
        for (i, pair) in (0..n).zip(self.symbols.windows(2)) {
            let (rank, product) = merges.get(pair[0], pair[1]);
            if rank != NONE {
                self.heap.push(Reverse((rank, i, product)));
            }
        }
        while let Some(Reverse((rank, at, product))) = self.heap.pop() {
            let (before, right) = self.links[at as usize];
            // A symbol that was merged into its left neighbour is marked; past the end there is none.
            if self.symbols[at as usize] == NONE || right >= n {
                continue;
            }
            let pair = (self.symbols[at as usize], self.symbols[right as usize]);
            if merges.get(pair.0, pair.1) != (rank, product) {
                continue;
            }
            let after = self.links[right as usize].1;
            self.symbols[at as usize] = product;
            self.symbols[right as usize] = NONE;
            self.links[at as usize].1 = after;
            if after < n {
                self.links[after as usize].0 = at;
                self.offer(merges, at, after);
            }
            if before < n {
                self.offer(merges, before, at);
            }
        }
        self.symbols.retain(|&symbol| symbol != NONE);
    }

    fn offer(&mut self, merges: &Merges, left: u32, right: u32) {
        let pair = (self.symbols[left as usize], self.symbols[right as usize]);
        let (rank, product) = merges.get(pair.0, pair.1);
        if rank != NONE {
            self.heap.push(Reverse((rank, left, product)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges step by step, by the definition.
    fn slow(symbols: &[u32], pairs: &[(u32, u32, u32)]) -> Vec<u32> {
        let mut symbols = symbols.to_vec();
        loop {
            let rank_of = |pair: &[u32]| {
                pairs
                    .iter()
                    .rposition(|&(left, right, _)| [left, right] == *pair)
            };
            let ranked = symbols.windows(2).enumerate();
            let best = ranked
                .filter_map(|(at, pair)| Some((rank_of(pair)?, at)))
                .min();
            let Some((rank, at)) = best else {
                return symbols;
            };
            symbols.splice(at..at + 2, [pairs[rank].2]);
        }
    }

    #[test]
    fn both_ways_agree_with_the_definition() {
        let pairs = [
            (0, 1, 3),
            (1, 0, 4),
            (3, 3, 5),
            (0, 0, 6),
            (6, 6, 7),
            (2, 3, 8),
            (4, 4, 9),
        ];
        let merges = Merges::new(&pairs);
        let mut state = 1u64;
        for length in 0..120 {
            let symbols: Vec<u32> = (0..length)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 60) as u32 % 3
                })
                .collect();
            let expected = slow(&symbols, &pairs);
            let mut scratch = Scratch::default();
            scratch.symbols.clone_from(&symbols);
            scratch.merge_few(&merges);
            assert_eq!(scratch.symbols, expected);
            scratch.symbols = symbols;
            scratch.merge_many(&merges);
            assert_eq!(scratch.symbols, expected);
        }
    }
}
