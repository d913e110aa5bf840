//! 512-bit vectors.

use super::vector::{Job, Vector};
use std::arch::x86_64::*;

/// Sixteen words.
#[derive(Clone, Copy)]
pub struct Avx512(__m512i);

/// Does a job with 512-bit vectors.
#[target_feature(enable = "avx2,avx512f,avx512dq,avx512bw,avx512vl")]
pub fn run<J: Job>(job: J) -> J::Output {
    job.run::<Avx512>()
}

/// For intrinsics, and for access to a vector's lanes or to a slice that is long enough.
macro_rules! enabled {
    ($($code:tt)*) => {
        // SAFETY: AVX-512 F, DQ, BW and VL are enabled wherever `run` hands out the vector of this file.
        unsafe { $($code)* }
    };
}

// Truth tables for `_mm512_ternarylogic_epi32(a, b, c)`; bit (4a + 2b + c) is the result.
/// `a ^ (b & c)`.
const XOR_AND: i32 = 0b0111_1000;
/// `c` where the mask `a` is set, else `b`.
const SELECT: i32 = 0b1010_1100;

impl Vector for Avx512 {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(enabled! { _mm512_set1_epi32(word.cast_signed()) })
    }
    #[inline(always)]
    fn load(words: &[u32]) -> Self {
        let words = &words[..Self::LANES];
        Self(enabled! { _mm512_loadu_epi32(words.as_ptr().cast()) })
    }
    #[inline(always)]
    fn lane(&self, lane: usize) -> u32 {
        let words: &[u32; 16] = enabled! { &*std::ptr::from_ref(self).cast() };
        words[lane]
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(enabled! { _mm512_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(enabled! { _mm512_sub_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(enabled! { _mm512_mullo_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(enabled! { _mm512_min_epu32(self.0, other.0) })
    }
    #[inline(always)]
    fn rotate_right(self, bits: u32) -> Self {
        Self(enabled! { _mm512_rorv_epi32(self.0, Self::splat(bits).0) })
    }
    #[inline(always)]
    fn at_most(self, bound: u32) -> u32 {
        enabled! { _mm512_cmple_epu32_mask(self.0, Self::splat(bound).0) }.into()
    }
    #[inline(always)]
    fn seeded(self, index: u32) -> Self {
        let mixed = enabled! { _mm512_xor_si512(self.0, _mm512_srli_epi32::<30>(self.0)) };
        Self(mixed)
            .mul(Self::splat(1_812_433_253))
            .add(Self::splat(index))
    }
    #[inline(always)]
    fn twisted(self, next: Self, far: Self) -> Self {
        enabled! {
            let upper = Self::splat(0x8000_0000).0;
            let joined = _mm512_ternarylogic_epi32::<SELECT>(upper, next.0, self.0);
            let odd = _mm512_test_epi32_mask(next.0, Self::splat(1).0);
            let word = _mm512_xor_si512(far.0, _mm512_srli_epi32::<1>(joined));
            let matrix = Self::splat(0x9908_b0df).0;
            Self(_mm512_mask_xor_epi32(word, odd, word, matrix))
        }
    }
    #[inline(always)]
    fn tempered(self) -> Self {
        enabled! {
            let (b, c) = (Self::splat(0x9d2c_5680).0, Self::splat(0xefc6_0000).0);
            let y = self.0;
            let y = _mm512_xor_si512(y, _mm512_srli_epi32::<11>(y));
            let y = _mm512_ternarylogic_epi32::<XOR_AND>(y, _mm512_slli_epi32::<7>(y), b);
            let y = _mm512_ternarylogic_epi32::<XOR_AND>(y, _mm512_slli_epi32::<15>(y), c);
            Self(_mm512_xor_si512(y, _mm512_srli_epi32::<18>(y)))
        }
    }
    #[inline(always)]
    fn splat64(word: u64) -> Self {
        Self(enabled! { _mm512_set1_epi64(word.cast_signed()) })
    }
    #[inline(always)]
    fn widened(words: &[u32]) -> Self {
        let words = &words[..Self::LANES / 2];
        Self(enabled! { _mm512_cvtepu32_epi64(_mm256_loadu_si256(words.as_ptr().cast())) })
    }
    #[inline(always)]
    fn store64(self, out: &mut [u64]) {
        let out = &mut out[..Self::LANES / 2];
        enabled! { _mm512_storeu_epi64(out.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn add64(self, other: Self) -> Self {
        Self(enabled! { _mm512_add_epi64(self.0, other.0) })
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(enabled! { _mm512_xor_si512(self.0, other.0) })
    }
    #[inline(always)]
    fn rotated64<const L: u32, const R: u32>(self) -> Self {
        Self(enabled! { _mm512_rolv_epi64(self.0, Self::splat64(L.into()).0) })
    }
}
