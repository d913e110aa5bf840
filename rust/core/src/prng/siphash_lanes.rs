//! SipHash-2-4 of many messages with one key and length, one per lane.

use crate::prng::siphash::SipHash24;
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::vector::Vector;

/// A running hash in each of [`LANES`] lanes: the same as [`SipHash24`] of each.
#[derive(Clone, Copy)]
pub struct SipHashes<V> {
    /// The first [`SipHashes::GROUPS`] are used: two of eight lanes, or one of sixteen.
    groups: [Group<V>; 2],
    words: u64,
}

/// As many hashes as a vector has 32-bit words: two vectors of 64-bit words, so that neither
/// waits for the other.
#[derive(Clone, Copy)]
struct Group<V> {
    v: [[V; 2]; 4],
    half: [V; 2],
}

impl<V: Vector> SipHashes<V> {
    const GROUPS: usize = LANES / V::LANES;

    /// Continues a hash in every lane.
    #[inline(always)]
    #[must_use]
    pub fn new(start: &SipHash24) -> Self {
        let group = Group {
            v: start.v.map(|word| [V::splat64(word); 2]),
            half: [V::splat64(start.half); 2],
        };
        Self {
            groups: [group; 2],
            words: start.words,
        }
    }

    /// Takes one more word of each message.
    #[inline(always)]
    pub fn push(&mut self, words: Lanes<u32>) {
        let odd = !self.words.is_multiple_of(2);
        for (group, words) in self.groups[..Self::GROUPS]
            .iter_mut()
            .zip(words.0.chunks(V::LANES))
        {
            let (low, high) = words.split_at(V::LANES / 2);
            let more = [V::widened(low), V::widened(high)];
            if odd {
                let upper = |i: usize| more[i].rotated64::<32, 32>().xor(group.half[i]);
                group.block([upper(0), upper(1)]);
                group.half = [V::splat64(0); 2];
            } else {
                group.half = more;
            }
        }
        self.words += 1;
    }

    /// The hashes of all words taken.
    #[inline(always)]
    #[must_use]
    pub fn finish(mut self) -> Lanes<u64> {
        let bytes = V::splat64(self.words.wrapping_mul(4) << 56);
        let mut out = [0; LANES];
        for (group, out) in self.groups[..Self::GROUPS]
            .iter_mut()
            .zip(out.chunks_mut(V::LANES))
        {
            group.block(group.half.map(|half| half.xor(bytes)));
            group.v[2] = group.v[2].map(|v| v.xor(V::splat64(0xff)));
            for _ in 0..4 {
                group.round();
            }
            let (low, high) = out.split_at_mut(V::LANES / 2);
            for (i, out) in [low, high].into_iter().enumerate() {
                let [a, b, c, d] = group.v.map(|v| v[i]);
                a.xor(b).xor(c.xor(d)).store64(out);
            }
        }
        Lanes(out)
    }
}

impl<V: Vector> Group<V> {
    #[inline(always)]
    fn block(&mut self, m: [V; 2]) {
        for (v, m) in self.v[3].iter_mut().zip(m) {
            *v = v.xor(m);
        }
        self.round();
        self.round();
        for (v, m) in self.v[0].iter_mut().zip(m) {
            *v = v.xor(m);
        }
    }

    #[inline(always)]
    fn round(&mut self) {
        for i in 0..2 {
            let [mut v0, mut v1, mut v2, mut v3] = self.v.map(|v| v[i]);
            v0 = v0.add64(v1);
            v2 = v2.add64(v3);
            v1 = v1.rotated64::<13, 51>().xor(v0);
            v3 = v3.rotated64::<16, 48>().xor(v2);
            v0 = v0.rotated64::<32, 32>();
            v2 = v2.add64(v1);
            v0 = v0.add64(v3);
            v1 = v1.rotated64::<17, 47>().xor(v2);
            v3 = v3.rotated64::<21, 43>().xor(v0);
            v2 = v2.rotated64::<32, 32>();
            [self.v[0][i], self.v[1][i], self.v[2][i], self.v[3][i]] = [v0, v1, v2, v3];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Job, run_each};

    /// The hashes of one message per lane, after a common prefix.
    #[derive(Clone)]
    struct Hashes<'a> {
        start: SipHash24,
        words: &'a [Lanes<u32>],
    }

    impl Job for Hashes<'_> {
        type Output = [u64; LANES];
        #[inline(always)]
        fn run<V: Vector>(self) -> [u64; LANES] {
            let mut hashes = SipHashes::<V>::new(&self.start);
            self.words.iter().for_each(|&words| hashes.push(words));
            hashes.finish().0
        }
    }

    /// The crate `siphasher`, on random keys, prefixes and messages.
    #[test]
    fn agrees_with_siphasher() {
        let mut random = rand_mt::Mt64::new(2);
        for round in 0..100 {
            let (k0, k1) = (random.next_u64(), random.next_u64());
            let prefix: Vec<u32> = (0..round % 3).map(|_| random.next_u32()).collect();
            let words: Vec<Lanes<u32>> = (0..round % 17)
                .map(|_| Lanes(std::array::from_fn(|_| random.next_u32())))
                .collect();
            let mut start = SipHash24::new(k0, k1);
            prefix.iter().for_each(|&word| start.push(word));
            let expected: [u64; LANES] = std::array::from_fn(|lane| {
                let message = words.iter().map(|words| words.0[lane]);
                let all = prefix.iter().copied().chain(message);
                let bytes: Vec<u8> = all.flat_map(u32::to_le_bytes).collect();
                siphasher::sip::SipHasher24::new_with_keys(k0, k1).hash(&bytes)
            });
            let job = Hashes {
                start,
                words: &words,
            };
            for (kernel, hashes) in run_each(&job) {
                assert_eq!(hashes, expected, "{kernel:?}, {} words", words.len());
            }
        }
    }
}
