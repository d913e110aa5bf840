//! SipHash-2-4 (Aumasson and Bernstein 2012) over 32-bit words taken as little-endian bytes.

/// A running hash. A copy keeps a prefix, to be continued in several ways. Two rounds for every second
/// word, and six at the end.
#[derive(Clone, Copy)]
pub struct SipHash24 {
    pub(crate) v: [u64; 4],
    pub(crate) words: u64,
    pub(crate) half: u64,
}

impl SipHash24 {
    /// Starts under a 128-bit key: `k0` its first eight bytes, `k1` its last, little-endian.
    #[inline]
    #[must_use]
    pub fn new(k0: u64, k1: u64) -> Self {
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            words: 0,
            half: 0,
        }
    }

    /// Takes one more word.
    #[inline]
    pub fn push(&mut self, word: u32) {
        if self.words.is_multiple_of(2) {
            self.half = u64::from(word);
        } else {
            self.block(self.half | (u64::from(word) << 32));
            self.half = 0;
        }
        self.words += 1;
    }

    /// The hash of all words taken.
    #[inline]
    #[must_use]
    pub fn finish(mut self) -> u64 {
        let bytes = self.words.wrapping_mul(4);
        self.block((bytes << 56) | self.half);
        self.v[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }

    #[inline]
    fn block(&mut self, m: u64) {
        self.v[3] ^= m;
        self.round();
        self.round();
        self.v[0] ^= m;
    }

    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.v;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The crate `siphasher`, on random keys and messages.
    #[test]
    fn agrees_with_siphasher() {
        let mut random = rand_mt::Mt64::new(1);
        for round in 0..400 {
            let (k0, k1) = (random.next_u64(), random.next_u64());
            let words: Vec<u32> = (0..round % 70).map(|_| random.next_u32()).collect();
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut sip = SipHash24::new(k0, k1);
            words.iter().for_each(|&word| sip.push(word));
            let oracle = siphasher::sip::SipHasher24::new_with_keys(k0, k1);
            assert_eq!(sip.finish(), oracle.hash(&bytes), "{} words", words.len());
        }
    }

    /// Aumasson's reference vectors.h, key 00 01 .. 0f, message 00 01 .. of 0, 4, 8 and 12 bytes.
    #[test]
    fn reference_vectors() {
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let expected: [u64; 4] = [
            0x726f_db47_dd0e_0e31,
            0xcf27_94e0_2771_87b7,
            0x93f5_f579_9a93_2462,
            0x751e_8fbc_860e_e5fb,
        ];
        let words = [0x0302_0100, 0x0706_0504, 0x0b0a_0908];
        for (n, &hash) in expected.iter().enumerate() {
            let mut sip = SipHash24::new(k0, k1);
            for &word in &words[..n] {
                sip.push(word);
            }
            assert_eq!(sip.finish(), hash, "{n} words");
        }
    }
}
