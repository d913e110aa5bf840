//! Which partition a key belongs to, and how a worker scatters keys to their partitions.

use crate::dedup::scatter::{ScatteredBlock, Scatterer};
use crate::key::Key;
use crate::memory;

/// Finds the partitions of keys. Keys that may be equal under a rule get the same partition.
pub trait Partitioner<K>: Sync {
    /// Writes the partition of each key among `2^bits` (at most 2^16): the highest bits of a hash.
    fn find(&self, keys: &[K], bits: u32, scratch: &mut Scratch, out: &mut [u16]);
}

/// The partition of a hash among `2^bits`.
#[inline]
pub fn partition_of(hash: u64, bits: u32) -> usize {
    (hash >> (64 - bits)) as usize
}

/// A worker's memory for the tokens of windows, and for what is computed from them.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) tokens: Vec<u32>,
    pub(crate) words: Vec<u64>,
    pub(crate) keyless: Vec<bool>,
    /// The identity of each window, where windows are not compared themselves.
    pub(crate) ids: Vec<u128>,
}

/// A worker's memory for scattering keys: first the partitions of all keys of a block are found and
/// counted, then the same keys are scattered in the same order.
pub(crate) struct PartitionBuffer<K> {
    /// Memory for keys that are read twice.
    pub(crate) keys: Vec<K>,
    partitions: Vec<u16>,
    counts: Vec<u32>,
    scratch: Scratch,
    scatterer: Scatterer<K>,
}

impl<K: Key> Default for PartitionBuffer<K> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            partitions: Vec::new(),
            counts: Vec::new(),
            scratch: Scratch::default(),
            scatterer: Scatterer::default(),
        }
    }
}

impl<K: Key> PartitionBuffer<K> {
    /// Begins a block of `2^bits` partitions.
    pub(crate) fn begin(&mut self, bits: u32) {
        self.partitions.clear();
        self.counts.clear();
        memory::resize(&mut self.counts, 1 << bits, 0);
    }

    /// Finds the partitions of the block's next keys.
    pub(crate) fn count(&mut self, keys: &[K], partitioner: &impl Partitioner<K>) {
        let (from, bits) = (self.partitions.len(), self.counts.len().trailing_zeros());
        memory::resize(&mut self.partitions, from + keys.len(), 0);
        let partitions = &mut self.partitions[from..];
        partitioner.find(keys, bits, &mut self.scratch, partitions);
        for &partition in &*partitions {
            self.counts[usize::from(partition)] += 1;
        }
    }

    /// Scatters all keys of the block: `feed` calls the function it is given with them, in the order
    /// in which they were counted. The block lies in the memory of `block`.
    pub(crate) fn scatter(
        &mut self,
        block: Vec<K>,
        feed: impl FnOnce(&mut dyn FnMut(&[K])),
    ) -> ScatteredBlock<K> {
        let (scatterer, mut partitions) = (&mut self.scatterer, &self.partitions[..]);
        scatterer.begin(&self.counts, block);
        feed(&mut |keys| {
            let (own, rest) = partitions.split_at(keys.len());
            for (&key, &partition) in keys.iter().zip(own) {
                scatterer.push(key, partition.into());
            }
            partitions = rest;
        });
        scatterer.finish()
    }

    /// Scatters batches of keys to `2^bits` partitions.
    pub(crate) fn scatter_batches(
        &mut self,
        batches: &[&[K]],
        block: Vec<K>,
        bits: u32,
        partitioner: &impl Partitioner<K>,
    ) -> ScatteredBlock<K> {
        self.begin(bits);
        for keys in batches {
            self.count(keys, partitioner);
        }
        self.scatter(block, |push| batches.iter().for_each(|keys| push(keys)))
    }
}
