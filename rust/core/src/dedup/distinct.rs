//! The distinct keys of one partition, in a table that fits the second-level cache.

use crate::key::{Key, Packer};
use std::hint::black_box;

/// Slots of a table to begin with, at most: 512 KiB of 64-bit keys.
const SLOTS: usize = 1 << 16;
/// Fewest slots.
const FEWEST: usize = 1 << 6;
/// Items between two looks at how full the table is.
const BLOCK: usize = 128;

/// Items with an identity, of which the distinct ones are kept, in place.
pub trait Items {
    /// What makes two items the same.
    type Id: Key;
    /// Number of items.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The identity of an item.
    fn id(&self, at: usize) -> Self::Id;
    /// Moves an item forward.
    fn keep(&mut self, to: usize, from: usize);
}

/// Windows, identified by all of the key.
pub struct Windows<'a, K>(pub &'a mut [K]);

impl<K: Key> Items for Windows<'_, K> {
    type Id = K;
    fn len(&self) -> usize {
        self.0.len()
    }
    #[inline]
    fn id(&self, at: usize) -> K {
        self.0[at]
    }
    #[inline]
    fn keep(&mut self, to: usize, from: usize) {
        self.0[to] = self.0[from];
    }
}

/// Windows, identified by their context.
pub struct Contexts<'a, K>(pub &'a mut [K], pub Packer);

impl<K: Key> Items for Contexts<'_, K> {
    type Id = K;
    fn len(&self) -> usize {
        self.0.len()
    }
    #[inline]
    fn id(&self, at: usize) -> K {
        self.1.context(self.0[at])
    }
    #[inline]
    fn keep(&mut self, to: usize, from: usize) {
        self.0[to] = self.0[from];
    }
}

/// Windows, identified by their context, which fits in 64 bits.
pub struct NarrowContexts<'a, K>(pub &'a mut [K], pub Packer);

impl<K: Key> Items for NarrowContexts<'_, K> {
    type Id = u64;
    fn len(&self) -> usize {
        self.0.len()
    }
    #[inline]
    fn id(&self, at: usize) -> u64 {
        self.1.context(self.0[at]).fold()
    }
    #[inline]
    fn keep(&mut self, to: usize, from: usize) {
        self.0[to] = self.0[from];
    }
}

/// Windows with their units.
pub struct Units<'a, I, K>(pub &'a mut [I], pub &'a mut [K]);

impl<I: Key, K: Key> Items for Units<'_, I, K> {
    type Id = I;
    fn len(&self) -> usize {
        self.0.len()
    }
    #[inline]
    fn id(&self, at: usize) -> I {
        self.0[at]
    }
    #[inline]
    fn keep(&mut self, to: usize, from: usize) {
        self.0[to] = self.0[from];
        self.1[to] = self.1[from];
    }
}

/// A linear-probing table, reused from partition to partition.
#[derive(Debug, Default)]
pub struct Table<I> {
    slots: Vec<I>,
    shift: u32,
}

impl<I: Key> Table<I> {
    /// Moves the first item of each identity to the front, in order, and returns how many there are.
    /// The first `known` items are distinct. `foreign` is an identity that no item has: it marks
    /// free slots.
    pub fn distinct(&mut self, items: &mut impl Items<Id = I>, known: usize, foreign: I) -> usize {
        let total = items.len();
        self.clear((2 * total).clamp(FEWEST, SLOTS.max(2 * known)), foreign);
        let (mut kept, mut at) = (0, 0);
        while at < total {
            let end = total.min(at + BLOCK);
            if 2 * (kept + BLOCK) > self.slots.len() && self.slots.len() < 2 * total {
                self.grow(items, kept, foreign);
            }
            kept = self.insert(items, kept, at..end, foreign);
            at = end;
        }
        kept
    }

    fn clear(&mut self, least: usize, foreign: I) {
        let slots = least.next_power_of_two();
        self.shift = 64 - slots.trailing_zeros();
        self.slots.clear();
        self.slots.resize(slots, foreign);
    }

    fn grow(&mut self, items: &impl Items<Id = I>, kept: usize, foreign: I) {
        self.clear(4 * self.slots.len(), foreign);
        let mask = self.slots.len() - 1;
        for i in 0..kept {
            let id = items.id(i);
            let mut slot = home_of(id, self.shift);
            while self.slots[slot] != foreign {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = id;
        }
    }

    #[inline]
    fn insert(
        &mut self,
        items: &mut impl Items<Id = I>,
        mut kept: usize,
        range: std::ops::Range<usize>,
        foreign: I,
    ) -> usize {
        let (slots, shift) = (&mut self.slots[..], self.shift);
        let mask = slots.len() - 1;
        let mut homes = [0usize; BLOCK];
        for (home, at) in homes.iter_mut().zip(range.clone()) {
            *home = home_of(items.id(at), shift) & mask;
            prefetch(slots, *home);
        }
        for (at, &home) in range.zip(&homes) {
            let id = items.id(at);
            let mut slot = home;
            let mut there = slots[slot];
            // The first slot nearly always decides. Whether it was free or held the item already is
            // nothing that a processor could foresee, so nothing may branch on that: without the
            // black box there would be two branches.
            while !black_box((there == foreign) | (there == id)) {
                slot = (slot + 1) & mask;
                there = slots[slot];
            }
            slots[slot] = id;
            items.keep(kept, at);
            kept += usize::from(there == foreign);
        }
        kept
    }
}

/// Fetches a slot into the first-level cache.
#[inline]
fn prefetch<T>(slots: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(slot) = slots.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(slot).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slots, at);
}

/// Another hash than that of the partition, whose highest bits all items here share.
#[inline]
fn home_of<I: Key>(id: I, shift: u32) -> usize {
    (id.fold().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;

    #[test]
    fn keeps_the_first_of_each() -> Result<()> {
        let packer = Packer::new(2, 16, false)?;
        let mut table = Table::default();
        let mut keys: Vec<u64> = vec![0x12, 0x13, 0x22, 0x12, 0x21, 0x13];
        assert_eq!(table.distinct(&mut Windows(&mut keys), 0, u64::MAX), 4);
        assert_eq!(keys[..4], [0x12, 0x13, 0x22, 0x21]);
        let mut keys: Vec<u64> = vec![0x12, 0x22, 0x13, 0x41, 0x22, 0x31];
        assert_eq!(
            table.distinct(&mut Contexts(&mut keys, packer), 2, u64::MAX),
            4
        );
        assert_eq!(keys[..4], [0x12, 0x22, 0x41, 0x31]);
        let mut keys: Vec<u128> = vec![0x12, 0x22, 0x13, 0x41, 0x22, 0x31];
        let contexts = &mut NarrowContexts(&mut keys, packer);
        assert_eq!(Table::default().distinct(contexts, 2, u64::MAX), 4);
        assert_eq!(keys[..4], [0x12, 0x22, 0x41, 0x31]);
        let (mut units, mut keys) = (vec![5u128, 6, 5, 5], vec![1u64, 2, 3, 4]);
        assert_eq!(table_of(&mut units, &mut keys), 2);
        assert_eq!(keys[..2], [1, 2]);
        Ok(())
    }

    fn table_of(units: &mut [u128], keys: &mut [u64]) -> usize {
        Table::default().distinct(&mut Units(units, keys), 0, 0)
    }

    #[test]
    fn grows() {
        let mut table = Table::default();
        for (total, distinct) in [(1000u64, 1000u64), (400_000, 300_000), (400_000, 7)] {
            let mut keys: Vec<u64> = (0..total).map(|i| (i % distinct) << 20).collect();
            let kept = table.distinct(&mut Windows(&mut keys), 0, 1);
            assert_eq!(kept as u64, distinct);
            assert!(keys[..kept].iter().zip(0..).all(|(&key, i)| key == i << 20));
        }
    }
}
