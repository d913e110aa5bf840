//! The checksum of a partition.

use crate::key::Key;

/// A 64-bit checksum against damage, not against an adversary. Words go round four lanes, so that it
/// keeps up with memory; how the bytes are cut into updates does not matter.
pub(super) struct Checksum {
    lanes: [u64; 4],
    bytes: u64,
}

impl Checksum {
    pub(super) fn new() -> Self {
        Self {
            lanes: [
                0x243F_6A88_85A3_08D3,
                0x1319_8A2E_0370_7344,
                0xA409_3822_299F_31D0,
                0x082E_FA98_EC4E_6C89,
            ],
            bytes: 0,
        }
    }

    /// Takes whole words, whose order counts.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut lane = (self.bytes / 8) as usize;
        self.bytes += bytes.len() as u64;
        let mut words = bytes.chunks_exact(8).map(<u64 as Key>::read);
        if lane.is_multiple_of(4) {
            for four in bytes.chunks_exact(32) {
                for (lane, word) in self.lanes.iter_mut().zip(four.chunks_exact(8)) {
                    *lane = (*lane ^ <u64 as Key>::read(word)).mix();
                }
            }
            words = bytes[bytes.len() / 32 * 32..]
                .chunks_exact(8)
                .map(<u64 as Key>::read);
        }
        for word in words {
            let slot = &mut self.lanes[lane % 4];
            *slot = (*slot ^ word).mix();
            lane += 1;
        }
    }

    pub(super) fn value(&self) -> u64 {
        self.lanes
            .iter()
            .fold(self.bytes, |sum, &lane| (sum ^ lane).mix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_does_not_depend_on_the_cuts() {
        let bytes: Vec<u8> = (0..800u32).map(|i| (i * 7) as u8).collect();
        let sum = |cuts: &[usize]| {
            let mut sum = Checksum::new();
            let mut from = 0;
            for &cut in cuts.iter().chain([&bytes.len()]) {
                sum.update(&bytes[from..cut]);
                from = cut;
            }
            sum.value()
        };
        let whole = sum(&[]);
        for cut in (0..bytes.len()).step_by(8) {
            assert_eq!(sum(&[cut]), whole);
            assert_eq!(sum(&[cut / 16 * 8, cut]), whole);
        }
        let mut sums: Vec<u64> = (0..bytes.len())
            .map(|at| {
                let mut sum = Checksum::new();
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                sum.update(&changed);
                sum.value()
            })
            .collect();
        sums.push(whole);
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), bytes.len() + 1);
    }
}
