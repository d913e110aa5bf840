//! 256-bit vectors.

use super::vector::{Job, Vector};
use std::arch::x86_64::*;

/// Eight words.
#[derive(Clone, Copy)]
pub struct Avx2(__m256i);

/// Does a job with 256-bit vectors.
#[target_feature(enable = "avx2")]
pub fn run<J: Job>(job: J) -> J::Output {
    job.run::<Avx2>()
}

/// For intrinsics, and for access to a vector's lanes or to a slice that is long enough.
macro_rules! enabled {
    ($($code:tt)*) => {
        // SAFETY: AVX2 is enabled wherever `run` hands out the vector of this file.
        unsafe { $($code)* }
    };
}

impl Vector for Avx2 {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(word: u32) -> Self {
        Self(enabled! { _mm256_set1_epi32(word.cast_signed()) })
    }
    #[inline(always)]
    fn load(words: &[u32]) -> Self {
        let words = &words[..Self::LANES];
        Self(enabled! { _mm256_loadu_si256(words.as_ptr().cast()) })
    }
    #[inline(always)]
    fn lane(&self, lane: usize) -> u32 {
        let words: &[u32; 8] = enabled! { &*std::ptr::from_ref(self).cast() };
        words[lane]
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(enabled! { _mm256_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(enabled! { _mm256_sub_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(enabled! { _mm256_mullo_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(enabled! { _mm256_min_epu32(self.0, other.0) })
    }
    #[inline(always)]
    fn rotate_right(self, bits: u32) -> Self {
        // A shift by 32 leaves nothing, so that 0 needs no case of its own.
        enabled! {
            let right = _mm256_srlv_epi32(self.0, Self::splat(bits).0);
            let left = _mm256_sllv_epi32(self.0, Self::splat(32 - bits).0);
            Self(_mm256_or_si256(right, left))
        }
    }
    #[inline(always)]
    fn at_most(self, bound: u32) -> u32 {
        enabled! {
            let small = _mm256_cmpeq_epi32(self.min(Self::splat(bound)).0, self.0);
            _mm256_movemask_ps(_mm256_castsi256_ps(small)).cast_unsigned()
        }
    }
    #[inline(always)]
    fn seeded(self, index: u32) -> Self {
        let mixed = enabled! { _mm256_xor_si256(self.0, _mm256_srli_epi32::<30>(self.0)) };
        Self(mixed)
            .mul(Self::splat(1_812_433_253))
            .add(Self::splat(index))
    }
    #[inline(always)]
    fn twisted(self, next: Self, far: Self) -> Self {
        enabled! {
            let upper = _mm256_and_si256(self.0, Self::splat(0x8000_0000).0);
            let lower = _mm256_and_si256(next.0, Self::splat(0x7fff_ffff).0);
            let half = _mm256_srli_epi32::<1>(_mm256_or_si256(upper, lower));
            // The lowest bit of `next` everywhere.
            let odd = _mm256_srai_epi32::<31>(_mm256_slli_epi32::<31>(next.0));
            let matrix = _mm256_and_si256(odd, Self::splat(0x9908_b0df).0);
            Self(_mm256_xor_si256(_mm256_xor_si256(far.0, half), matrix))
        }
    }
    #[inline(always)]
    fn tempered(self) -> Self {
        enabled! {
            let (b, c) = (Self::splat(0x9d2c_5680).0, Self::splat(0xefc6_0000).0);
            let y = self.0;
            let y = _mm256_xor_si256(y, _mm256_srli_epi32::<11>(y));
            let y = _mm256_xor_si256(y, _mm256_and_si256(_mm256_slli_epi32::<7>(y), b));
            let y = _mm256_xor_si256(y, _mm256_and_si256(_mm256_slli_epi32::<15>(y), c));
            Self(_mm256_xor_si256(y, _mm256_srli_epi32::<18>(y)))
        }
    }
    #[inline(always)]
    fn splat64(word: u64) -> Self {
        Self(enabled! { _mm256_set1_epi64x(word.cast_signed()) })
    }
    #[inline(always)]
    fn widened(words: &[u32]) -> Self {
        let words = &words[..Self::LANES / 2];
        Self(enabled! { _mm256_cvtepu32_epi64(_mm_loadu_si128(words.as_ptr().cast())) })
    }
    #[inline(always)]
    fn store64(self, out: &mut [u64]) {
        let out = &mut out[..Self::LANES / 2];
        enabled! { _mm256_storeu_si256(out.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn add64(self, other: Self) -> Self {
        Self(enabled! { _mm256_add_epi64(self.0, other.0) })
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(enabled! { _mm256_xor_si256(self.0, other.0) })
    }
    #[inline(always)]
    fn rotated64<const L: u32, const R: u32>(self) -> Self {
        enabled! {
            if L == 32 {
                return Self(_mm256_shuffle_epi32::<0b10_11_00_01>(self.0));
            }
            let left = _mm256_sllv_epi64(self.0, Self::splat64(L.into()).0);
            let right = _mm256_srlv_epi64(self.0, Self::splat64(R.into()).0);
            Self(_mm256_or_si256(left, right))
        }
    }
}
