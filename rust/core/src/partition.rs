//! Records by partition of a key's context, and the tables that deduplicate each partition.

use crate::key::{Key, Packer};
use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};
use rayon::prelude::*;
use std::hash::BuildHasher;

/// Partitions of every table; results do not depend on it.
pub const PARTITIONS: usize = 64;

/// The partition of a mixed hash.
#[inline]
pub fn partition_of(mixed: u64) -> usize {
    (mixed >> (64 - PARTITIONS.trailing_zeros())) as usize
}

/// Records grouped by partition, in their first order within each.
pub struct Scattered<T> {
    records: Vec<T>,
    ends: [usize; PARTITIONS],
}

impl<T: Copy> Scattered<T> {
    /// Groups records by the partition that `partition` gives them.
    pub fn new(records: &[T], partition: impl Fn(&T) -> usize) -> Self {
        let Some(&any) = records.first() else {
            return Self {
                records: Vec::new(),
                ends: [0; PARTITIONS],
            };
        };
        let mut next = [0usize; PARTITIONS];
        records
            .iter()
            .for_each(|record| next[partition(record)] += 1);
        let mut total = 0;
        for slot in &mut next {
            (total, *slot) = (total + *slot, total);
        }
        let mut sorted = vec![any; records.len()];
        for record in records {
            let slot = &mut next[partition(record)];
            sorted[*slot] = *record;
            *slot += 1;
        }
        Self {
            records: sorted,
            ends: next,
        }
    }

    /// The records of a partition.
    pub fn part(&self, index: usize) -> &[T] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.records[start..self.ends[index]]
    }
}

/// What makes two records the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// All of the key.
    Whole,
    /// The context only (the key without its target).
    Context(Packer),
}

impl Identity {
    /// The part of a key that identifies it.
    #[inline]
    pub fn of<K: Key>(self, key: K) -> K {
        match self {
            Self::Whole => key,
            Self::Context(packer) => packer.context(key),
        }
    }
}

/// The distinct keys seen so far.
pub struct DistinctSet<K> {
    parts: Vec<HashTable<K>>,
    identity: Identity,
    hasher: DefaultHashBuilder,
}

impl<K: Key> DistinctSet<K> {
    /// An empty set.
    pub fn new(identity: Identity) -> Self {
        let parts = (0..PARTITIONS).map(|_| HashTable::new()).collect();
        Self {
            parts,
            identity,
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Number of distinct keys.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }

    /// Inserts `key_of` of every record, batch after batch, and returns by partition the records
    /// whose key was new.
    pub fn insert<T: Copy + Send + Sync>(
        &mut self,
        batches: &[Scattered<T>],
        key_of: impl Fn(&T) -> K + Sync,
    ) -> Vec<Vec<T>> {
        let (identity, hasher) = (self.identity, &self.hasher);
        let hash = |key: &K| hasher.hash_one(identity.of(*key));
        self.parts
            .par_iter_mut()
            .enumerate()
            .map(|(index, table)| {
                let mut fresh = Vec::new();
                for record in batches.iter().flat_map(|batch| batch.part(index)) {
                    let key = key_of(record);
                    let wanted = identity.of(key);
                    let entry =
                        table.entry(hash(&key), |other| identity.of(*other) == wanted, hash);
                    if let Entry::Vacant(slot) = entry {
                        slot.insert(key);
                        fresh.push(*record);
                    }
                }
                fresh
            })
            .collect()
    }

    /// All keys, sorted.
    pub fn sorted(&self) -> Vec<K> {
        let mut keys: Vec<K> = self
            .parts
            .iter()
            .flat_map(|part| part.iter().copied())
            .collect();
        keys.sort_unstable();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;

    #[test]
    fn keeps_the_first_of_each() -> Result<()> {
        let packer = Packer::new(2, 16, false)?;
        let keys: Vec<u64> = vec![0x12, 0x13, 0x22, 0x12, 0x21, 0x13];
        let scatter =
            |keys: &[u64]| Scattered::new(keys, |&key| partition_of(packer.context(key).mix()));
        let flat = |parts: Vec<Vec<u64>>| {
            let mut all = parts.concat();
            all.sort_unstable();
            all
        };
        let mut whole = DistinctSet::new(Identity::Whole);
        assert_eq!(
            flat(whole.insert(&[scatter(&keys)], |&k| k)),
            [0x12, 0x13, 0x21, 0x22]
        );
        assert_eq!(flat(whole.insert(&[scatter(&keys)], |&k| k)), [0; 0]);
        let mut context = DistinctSet::new(Identity::Context(packer));
        let batches = [scatter(&keys[..2]), scatter(&keys[2..])];
        assert_eq!(flat(context.insert(&batches, |&k| k)), [0x12, 0x22]);
        assert_eq!((whole.len(), context.len()), (4, 2));
        assert_eq!(context.sorted(), [0x12, 0x22]);
        Ok(())
    }
}
