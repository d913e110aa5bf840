//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011).

use crate::simd::lanes::Lanes;

const M0: u64 = 0xD251_1F53;
const M1: u64 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// Ten rounds; the key is bumped between rounds, nine times.
#[inline]
#[must_use]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = u64::from(c0) * M0;
        let p1 = u64::from(c2) * M1;
        (c0, c1, c2, c3) = (high(p1) ^ c1 ^ k0, low(p1), high(p0) ^ c3 ^ k1, low(p0));
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    [c0, c1, c2, c3]
}

/// The same, with a counter and a key per lane.
///
/// Words live in 64-bit lanes of which only the low halves count: vector instructions multiply those,
/// so that a product's low half needs no mask and its high half one shift.
#[inline(always)]
#[must_use]
pub fn philox4x32_10_lanes(counter: [Lanes<u32>; 4], key: [Lanes<u32>; 2]) -> [Lanes<u32>; 4] {
    // Word by word: `map` on arrays is not always inlined.
    let [mut c0, mut c1, mut c2, mut c3] = [
        counter[0].wide(),
        counter[1].wide(),
        counter[2].wide(),
        counter[3].wide(),
    ];
    let [mut k0, mut k1] = [key[0].wide(), key[1].wide()];
    for _ in 0..10 {
        let p0 = c0.map(|c| (c & 0xFFFF_FFFF) * M0);
        let p1 = c2.map(|c| (c & 0xFFFF_FFFF) * M1);
        (c0, c1, c2, c3) = ((p1 >> 32) ^ c1 ^ k0, p1, (p0 >> 32) ^ c3 ^ k1, p0);
        k0 = k0.map(|k| k.wrapping_add(W0.into()));
        k1 = k1.map(|k| k.wrapping_add(W1.into()));
    }
    [c0.low(), c1.low(), c2.low(), c3.low()]
}

/// The low 32 bits.
#[inline]
#[must_use]
pub fn low(x: u64) -> u32 {
    (x & 0xFFFF_FFFF) as u32
}

/// The high 32 bits.
#[inline]
#[must_use]
pub fn high(x: u64) -> u32 {
    (x >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random123 1.14, kat_vectors, philox4x32 10.
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([ones; 4], [ones; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
