//! Keys by partition: one pass counts, one scatters through buffers of one cache line a partition,
//! so that memory is written in whole lines and the partitions' pages are touched once a line.

use crate::key::Key;
use std::mem::MaybeUninit;

/// Keys of a stretch of reading: partition after partition, each in reading order.
#[derive(Debug)]
pub struct Run<K> {
    pub(crate) keys: Vec<K>,
    /// Where each partition begins, and the end.
    pub(crate) starts: Vec<usize>,
    /// Keys of each partition that are left; behind them is garbage.
    pub(crate) lens: Vec<u32>,
}

impl<K: Key> Run<K> {
    /// A run whose partitions are full.
    pub fn new(keys: Vec<K>, starts: Vec<usize>) -> Self {
        let lens = starts.windows(2).map(|pair| (pair[1] - pair[0]) as u32);
        Self {
            lens: lens.collect(),
            keys,
            starts,
        }
    }

    /// The keys of a partition.
    pub fn part(&self, index: usize) -> &[K] {
        let start = self.starts[index];
        &self.keys[start..start + self.lens[index] as usize]
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<K>() + self.lens.len() * 12
    }

    /// Closes the gaps that deduplication left and returns the memory behind them.
    pub fn shrink(&mut self) {
        let mut to = 0;
        for part in 0..self.lens.len() {
            let (from, len) = (self.starts[part], self.lens[part] as usize);
            self.keys.copy_within(from..from + len, to);
            self.starts[part] = to;
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

/// Scatters keys to partitions; its buffers serve one run after the other.
pub struct Scatterer<K> {
    buffers: Vec<K>,
    cursors: Vec<u32>,
    /// Keys that a line of memory holds before the first of the target.
    skew: u32,
    starts: Vec<usize>,
    target: Vec<K>,
}

impl<K: Key> Default for Scatterer<K> {
    fn default() -> Self {
        Self {
            buffers: Vec::new(),
            cursors: Vec::new(),
            skew: 0,
            starts: Vec::new(),
            target: Vec::new(),
        }
    }
}

impl<K: Key> Scatterer<K> {
    /// Begins a run of `counts` keys in each partition, fewer than 2^32 in all, in `target`, an
    /// empty vector with room for them.
    pub fn begin(&mut self, counts: &[u32], target: Vec<K>) {
        let mut total = 0;
        self.starts.clear();
        self.starts.push(0);
        self.starts.extend(counts.iter().map(|&count| {
            total += count as usize;
            total
        }));
        self.cursors.clear();
        self.cursors
            .extend(self.starts[..counts.len()].iter().map(|&at| at as u32));
        self.buffers
            .resize(counts.len() * line::<K>(), K::default());
        self.target = target;
        self.target.clear();
        self.target.reserve_exact(total);
        self.skew = ((self.target.as_ptr() as usize / K::BYTES) % line::<K>()) as u32;
    }

    /// Puts the next key into its partition.
    #[inline]
    pub fn push(&mut self, key: K, part: usize) {
        let line = line::<K>();
        let cursor = &mut self.cursors[part];
        let (end, lane) = (*cursor + 1, (*cursor + self.skew) as usize % line);
        *cursor = end;
        self.buffers[part * line + lane] = key;
        if lane == line - 1 {
            self.write(part, end as usize, line);
        }
    }

    /// Writes the keys of a buffer of which `filled` lanes are in use, the last for place `end - 1`.
    #[inline]
    fn write(&mut self, part: usize, end: usize, filled: usize) {
        let buffer = &self.buffers[part * line::<K>()..][..filled];
        let from = (end - self.starts[part]).min(filled);
        let target = &mut self.target.spare_capacity_mut()[end - from..end];
        if from == line::<K>() {
            stream(buffer, target);
        } else {
            for (slot, &key) in target.iter_mut().zip(&buffer[filled - from..]) {
                slot.write(key);
            }
        }
    }

    /// The run, once as many keys as were announced have been put.
    pub fn finish(&mut self) -> Run<K> {
        let line = line::<K>();
        for part in 0..self.cursors.len() {
            let end = self.cursors[part] as usize;
            let filled = (end + self.skew as usize) % line;
            if filled > 0 && end > self.starts[part] {
                self.write(part, end, filled);
            }
        }
        fence();
        let ends = self.starts[1..].iter();
        let complete = self
            .cursors
            .iter()
            .zip(ends)
            .all(|(&cursor, &end)| cursor as usize == end);
        let mut keys = std::mem::take(&mut self.target);
        let total = self.starts.last().copied().unwrap_or_default();
        assert!(
            complete,
            "a partition got more or fewer keys than announced"
        );
        // SAFETY: each partition's cursor has gone from its start to its end, which is the start of
        // the next, one key at a time; every place it passed was written, at the latest above. So
        // the first `total` places are initialised, and `begin` reserved them.
        unsafe { keys.set_len(total) };
        Run::new(keys, self.starts.clone())
    }
}

/// Writes a whole line past the caches: it is not read soon.
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

/// Makes what was streamed visible to other threads.
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
        for (total, parts) in [(0, 2), (1, 2), (1000, 3), (5000, 64), (100, 4096)] {
            let keys: Vec<K> = (0..total)
                .map(|i: u32| K::default().push(i.wrapping_mul(77), 20).push(i, 20))
                .collect();
            let part = |key: K| (key.mix() % parts as u64) as usize;
            let mut counts = vec![0; parts];
            keys.iter().for_each(|&key| counts[part(key)] += 1);
            scatterer.begin(&counts, Vec::new());
            keys.iter().for_each(|&key| scatterer.push(key, part(key)));
            let run = scatterer.finish();
            for index in 0..parts {
                let mut own = keys.clone();
                own.retain(|&key| part(key) == index);
                assert_eq!(run.part(index), own);
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
        let mut run = Run::new(vec![1u64, 2, 3, 4, 5, 6], vec![0, 3, 3, 6]);
        run.lens = vec![1, 0, 2];
        run.shrink();
        assert_eq!(
            (run.part(0), run.part(1), run.part(2)),
            (&[1][..], &[][..], &[4, 5][..])
        );
        assert_eq!((run.keys.len(), run.starts), (3, vec![0, 1, 1, 3]));
    }
}
