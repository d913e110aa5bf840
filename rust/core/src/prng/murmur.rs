//! MurmurHash3 x86-32 over whole 32-bit words (Appleby, smhasher), seed 0.

use crate::simd::lanes::Lanes;

/// The hash of `words`, as of their little-endian bytes.
#[inline]
#[must_use]
pub fn murmur3_words(words: impl IntoIterator<Item = u32>) -> u32 {
    let mut hash = Murmur::default();
    for word in words {
        hash.push(word);
    }
    hash.finish()
}

/// A running hash. A copy keeps a prefix, to be continued in several ways.
#[derive(Debug, Clone, Copy, Default)]
pub struct Murmur {
    state: u32,
    bytes: u32,
}

impl Murmur {
    /// Takes one more word.
    #[inline]
    pub fn push(&mut self, word: u32) {
        let k = word
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593);
        self.state = (self.state ^ k)
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
        self.bytes = self.bytes.wrapping_add(4);
    }

    /// The hash of all words taken.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u32 {
        let mut h = self.state ^ self.bytes;
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }
}

/// The same for messages of one length, one per lane.
#[derive(Clone, Copy)]
pub struct MurmurLanes {
    state: Lanes<u32>,
    bytes: u32,
}

impl MurmurLanes {
    /// The hash of nothing.
    #[inline(always)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Lanes::splat(0),
            bytes: 0,
        }
    }

    /// Takes one more word of each message.
    #[inline(always)]
    pub fn push(&mut self, word: Lanes<u32>) {
        let k = (word * Lanes::splat(0xcc9e_2d51)).rotate_left(15) * Lanes::splat(0x1b87_3593);
        self.state = (self.state ^ k).rotate_left(13) * Lanes::splat(5) + Lanes::splat(0xe654_6b64);
        self.bytes = self.bytes.wrapping_add(4);
    }

    /// The hashes of all words taken.
    #[inline(always)]
    #[must_use]
    pub fn finish(self) -> Lanes<u32> {
        let mut h = self.state ^ Lanes::splat(self.bytes);
        h = (h ^ (h >> 16)) * Lanes::splat(0x85eb_ca6b);
        h = (h ^ (h >> 13)) * Lanes::splat(0xc2b2_ae35);
        h ^ (h >> 16)
    }
}

impl Default for MurmurLanes {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wikipedia, "MurmurHash", test vectors: "test" with seed 0; and SGLang 0.5.23
    /// (tests/golden/sglang_gumbel.json, first case): the context (31).
    #[test]
    fn known_answers() {
        assert_eq!(murmur3_words([u32::from_le_bytes(*b"test")]), 0xba6b_d213);
        assert_eq!(murmur3_words([31]), 1_168_509_563);
    }
}
