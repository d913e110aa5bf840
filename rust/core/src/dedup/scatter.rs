//! Scattering keys to partitions: one pass has counted them, this one writes them through buffers of
//! a cache line per partition, so that memory is written in whole lines and each page of it is touched
//! once per line instead of once per key.

use crate::key::Key;
use crate::memory;
use std::mem::MaybeUninit;

/// The keys of some stretch of the input: partition after partition, in reading order within each.
///
/// Deduplication leaves gaps: of partition `i` the first `lens[i]` keys from `starts[i]` on count.
#[derive(Debug)]
pub struct ScatteredBlock<K> {
    pub(crate) keys: Vec<K>,
    /// Where each partition begins, and where the last one ends.
    pub(crate) starts: Vec<usize>,
    /// Keys left in each partition; what follows them, up to the next partition, is garbage.
    pub(crate) lens: Vec<u32>,
}

impl<K: Key> ScatteredBlock<K> {
    /// A block without gaps.
    pub fn new(keys: Vec<K>, starts: Vec<usize>) -> Self {
        let lens = starts.windows(2).map(|pair| (pair[1] - pair[0]) as u32);
        Self {
            lens: memory::collect(lens),
            keys,
            starts,
        }
    }

    /// The keys of a partition.
    pub fn partition(&self, index: usize) -> &[K] {
        let start = self.starts[index];
        &self.keys[start..start + self.lens[index] as usize]
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<K>() + self.lens.len() * 12
    }

    /// Closes the gaps that deduplication left and returns the memory behind them.
    pub fn shrink(&mut self) {
        let mut to = 0;
        for index in 0..self.lens.len() {
            let (from, len) = (self.starts[index], self.lens[index] as usize);
            self.keys.copy_within(from..from + len, to);
            self.starts[index] = to;
            to += len;
        }
        if let Some(end) = self.starts.last_mut() {
            *end = to;
        }
        self.keys.truncate(to);
        self.keys.shrink_to_fit();
    }
}

/// Keys that fill a cache line; four where they do not divide one.
const fn line<K: Key>() -> usize {
    if K::BYTES <= 64 && 64 % K::BYTES == 0 {
        64 / K::BYTES
    } else {
        4
    }
}

/// Writes blocks, one after the other.
///
/// `cursors[i]` is where the next key of partition `i` belongs in the block. The keys since the last
/// whole cache line before it wait in the partition's buffer; all earlier ones are written.
pub struct Scatterer<K> {
    /// A cache line of keys per partition.
    buffers: Vec<K>,
    cursors: Vec<u32>,
    /// Keys between the cache line's boundary and the block's first key.
    skew: u32,
    starts: Vec<usize>,
    /// The memory of the block.
    block: Vec<K>,
}

impl<K: Key> Default for Scatterer<K> {
    fn default() -> Self {
        Self {
            buffers: Vec::new(),
            cursors: Vec::new(),
            skew: 0,
            starts: Vec::new(),
            block: Vec::new(),
        }
    }
}

impl<K: Key> Scatterer<K> {
    /// Begins a block in the memory of `block` with `counts[i]` keys in partition `i`, fewer than 2^32 in all.
    pub fn begin(&mut self, counts: &[u32], block: Vec<K>) {
        let mut total = 0;
        self.starts.clear();
        memory::reserve_exact(&mut self.starts, counts.len() + 1);
        self.starts.push(0);
        self.starts.extend(counts.iter().map(|&count| {
            total += count as usize;
            total
        }));
        self.cursors.clear();
        let starts = self.starts[..counts.len()].iter();
        memory::append(&mut self.cursors, starts.map(|&at| at as u32));
        let slots = counts.len() * line::<K>();
        memory::resize(&mut self.buffers, slots, K::default());
        self.block = block;
        self.block.clear();
        memory::reserve_exact(&mut self.block, total);
        self.skew = ((self.block.as_ptr() as usize / K::BYTES) % line::<K>()) as u32;
    }

    /// Appends a key to its partition.
    #[inline]
    pub fn push(&mut self, key: K, partition: usize) {
        let line = line::<K>();
        let cursor = &mut self.cursors[partition];
        let (end, lane) = (*cursor + 1, (*cursor + self.skew) as usize % line);
        *cursor = end;
        self.buffers[partition * line + lane] = key;
        if lane == line - 1 {
            self.write(partition, end as usize, line);
        }
    }

    /// Writes the first `filled` keys of a buffer, so that the last becomes the block's key `end - 1`.
    #[inline]
    fn write(&mut self, partition: usize, end: usize, filled: usize) {
        let buffer = &self.buffers[partition * line::<K>()..][..filled];
        let from = (end - self.starts[partition]).min(filled);
        let target = &mut self.block.spare_capacity_mut()[end - from..end];
        if from == line::<K>() {
            stream(buffer, target);
        } else {
            for (slot, &key) in target.iter_mut().zip(&buffer[filled - from..]) {
                slot.write(key);
            }
        }
    }

    /// The block. Panics unless each partition got as many keys as announced.
    pub fn finish(&mut self) -> ScatteredBlock<K> {
        let line = line::<K>();
        for partition in 0..self.cursors.len() {
            let end = self.cursors[partition] as usize;
            let filled = (end + self.skew as usize) % line;
            if filled > 0 && end > self.starts[partition] {
                self.write(partition, end, filled);
            }
        }
        fence();
        let ends = self.starts[1..].iter();
        let complete = self
            .cursors
            .iter()
            .zip(ends)
            .all(|(&cursor, &end)| cursor as usize == end);
        let mut keys = std::mem::take(&mut self.block);
        let total = self.starts.last().copied().unwrap_or_default();
        assert!(
            complete,
            "a partition got more or fewer keys than announced"
        );
        // SAFETY: each partition's cursor has gone from its start to its end, which is the start of
        // the next, one key at a time; every slot it passed was written, at the latest above. So the
        // first `total` slots are initialised, and `begin` reserved them.
        unsafe { keys.set_len(total) };
        ScatteredBlock::new(keys, memory::copy(&self.starts))
    }
}

/// Writes a whole line past the caches, since it is not read soon.
#[cfg(target_arch = "x86_64")]
#[inline]
fn stream<K: Key>(from: &[K], to: &mut [MaybeUninit<K>]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    assert_eq!(from.len(), to.len());
    let (source, target) = (from.as_ptr(), to.as_mut_ptr());
    if size_of_val(from) != 64 || !(target as usize).is_multiple_of(16) {
        return copy(from, to);
    }
    // SAFETY: both slices have 64 bytes, the target's are aligned to 16, and SSE2 is part of every
    // x86-64.
    unsafe {
        for i in 0..4 {
            let words = _mm_loadu_si128(source.cast::<__m128i>().add(i));
            _mm_stream_si128(target.cast::<__m128i>().add(i), words);
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn stream<K: Key>(from: &[K], to: &mut [MaybeUninit<K>]) {
    copy(from, to);
}

fn copy<K: Key>(from: &[K], to: &mut [MaybeUninit<K>]) {
    for (slot, &key) in to.iter_mut().zip(from) {
        slot.write(key);
    }
}

/// Makes streamed lines visible to other threads.
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of every x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Wide;

    fn check<K: Key + std::fmt::Debug>() {
        let mut scatterer = Scatterer::default();
        for (total, partitions) in [(0, 2), (1, 2), (1000, 3), (5000, 64), (100, 4096)] {
            let keys: Vec<K> = (0..total)
                .map(|i: u32| K::default().push(i.wrapping_mul(77), 20).push(i, 20))
                .collect();
            let partition = |key: K| (key.mix() % partitions as u64) as usize;
            let mut counts = vec![0; partitions];
            keys.iter().for_each(|&key| counts[partition(key)] += 1);
            scatterer.begin(&counts, Vec::new());
            keys.iter()
                .for_each(|&key| scatterer.push(key, partition(key)));
            let block = scatterer.finish();
            for index in 0..partitions {
                let mut own = keys.clone();
                own.retain(|&key| partition(key) == index);
                assert_eq!(block.partition(index), own);
            }
        }
    }

    #[test]
    fn keeps_the_order_in_each_partition() {
        check::<u64>();
        check::<u128>();
        check::<Wide>();
    }

    #[test]
    fn shrinks_in_place() {
        let mut block = ScatteredBlock::new(vec![1u64, 2, 3, 4, 5, 6], vec![0, 3, 3, 6]);
        block.lens = vec![1, 0, 2];
        block.shrink();
        assert_eq!(
            (block.partition(0), block.partition(1), block.partition(2)),
            (&[1][..], &[][..], &[4, 5][..])
        );
        assert_eq!((block.keys.len(), block.starts), (3, vec![0, 1, 1, 3]));
    }
}
