//! The distinct items of one partition, found in a table that fits the second-level cache.

use crate::key::{Key, Packer};
use crate::memory;
use std::hint::black_box;

/// Most slots of a new table: 512 KiB of 64-bit keys.
const SLOTS: usize = 1 << 16;
/// Fewest slots.
const FEWEST: usize = 1 << 6;
/// Items between two checks of how full the table is.
const BLOCK: usize = 128;

/// A sequence of items that are equal if their identities are; the distinct ones are kept, in place.
pub trait Items {
    /// What is compared.
    type Id: Key;
    /// Number of items.
    fn len(&self) -> usize;
    /// The identity of an item.
    fn id(&self, at: usize) -> Self::Id;
    /// Copies an item forward.
    fn keep(&mut self, to: usize, from: usize);
}

/// Windows that are equal if all their tokens are.
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

/// Windows that are equal if their contexts are.
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

/// [`Contexts`] that fit in 64 bits.
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

/// Windows that are equal if their units are.
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

/// A hash table with linear probing, reused from partition to partition; at most half of it is filled.
///
/// An item costs a product and nearly always one slot, which was fetched into the first-level cache
/// while earlier items were looked up.
#[derive(Debug, Default)]
pub struct Table<I> {
    slots: Vec<I>,
    shift: u32,
}

impl<I: Key> Table<I> {
    /// Moves the first item of each identity to the front, in order, and returns how many there are.
    /// The first `known` items must be distinct. `empty_slot` is an identity that no item has.
    pub fn distinct(
        &mut self,
        items: &mut impl Items<Id = I>,
        known: usize,
        empty_slot: I,
    ) -> usize {
        let total = items.len();
        self.clear((2 * total).clamp(FEWEST, SLOTS.max(2 * known)), empty_slot);
        let (mut kept, mut at) = (0, 0);
        while at < total {
            let end = total.min(at + BLOCK);
            if 2 * (kept + BLOCK) > self.slots.len() && self.slots.len() < 2 * total {
                self.grow(items, kept, empty_slot);
            }
            kept = self.insert(items, kept, at..end, empty_slot);
            at = end;
        }
        kept
    }

    fn clear(&mut self, least: usize, empty_slot: I) {
        let slots = least.next_power_of_two();
        self.shift = 64 - slots.trailing_zeros();
        self.slots.clear();
        memory::resize(&mut self.slots, slots, empty_slot);
    }

    fn grow(&mut self, items: &impl Items<Id = I>, kept: usize, empty_slot: I) {
        self.clear(4 * self.slots.len(), empty_slot);
        let mask = self.slots.len() - 1;
        for i in 0..kept {
            let id = items.id(i);
            let mut slot = home_of(id, self.shift);
            while self.slots[slot] != empty_slot {
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
        empty_slot: I,
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
            // The first slot nearly always decides. No processor can predict whether it was empty or
            // held the item already, so the code must not branch on that; without the black box it
            // would.
            while !black_box((there == empty_slot) | (there == id)) {
                slot = (slot + 1) & mask;
                there = slots[slot];
            }
            slots[slot] = id;
            items.keep(kept, at);
            kept += usize::from(there == empty_slot);
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

/// The slot where the search for an identity begins: another hash than the one that decides on the
/// partition, since its highest bits are equal for all items here.
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
