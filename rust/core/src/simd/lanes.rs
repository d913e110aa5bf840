//! Plain arrays of words, one per lane, for what compilers vectorise well by themselves: hashes made
//! of additions, products, shifts and rotations. Arithmetic wraps.

use std::ops::{Add, BitAnd, BitOr, BitXor, Mul, Shl, Shr};

/// Windows that are hashed side by side: two or four vectors, so that an instruction need not wait for
/// the one before.
pub const LANES: usize = 16;

/// One word per lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes<T>(pub [T; LANES]);

impl<T: Copy> Lanes<T> {
    /// All lanes the same.
    #[inline(always)]
    pub fn splat(word: T) -> Self {
        Self([word; LANES])
    }

    /// `f` of each lane.
    #[inline(always)]
    pub fn map<R: Copy + Default>(self, f: impl Fn(T) -> R) -> Lanes<R> {
        let mut out = [R::default(); LANES];
        for (out, word) in out.iter_mut().zip(self.0) {
            *out = f(word);
        }
        Lanes(out)
    }

    /// `f` of each lane of both.
    #[inline(always)]
    pub fn zip<U: Copy, R: Copy + Default>(
        self,
        other: Lanes<U>,
        f: impl Fn(T, U) -> R,
    ) -> Lanes<R> {
        let mut out = [R::default(); LANES];
        for ((out, a), b) in out.iter_mut().zip(self.0).zip(other.0) {
            *out = f(a, b);
        }
        Lanes(out)
    }
}

macro_rules! arithmetic {
    ($word:ty) => {
        impl Add for Lanes<$word> {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.zip(other, <$word>::wrapping_add)
            }
        }
        impl Mul for Lanes<$word> {
            type Output = Self;
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.zip(other, <$word>::wrapping_mul)
            }
        }
        impl BitXor for Lanes<$word> {
            type Output = Self;
            #[inline(always)]
            fn bitxor(self, other: Self) -> Self {
                self.zip(other, |a, b| a ^ b)
            }
        }
        impl BitOr for Lanes<$word> {
            type Output = Self;
            #[inline(always)]
            fn bitor(self, other: Self) -> Self {
                self.zip(other, |a, b| a | b)
            }
        }
        impl BitAnd for Lanes<$word> {
            type Output = Self;
            #[inline(always)]
            fn bitand(self, other: Self) -> Self {
                self.zip(other, |a, b| a & b)
            }
        }
        impl Shr<u32> for Lanes<$word> {
            type Output = Self;
            #[inline(always)]
            fn shr(self, bits: u32) -> Self {
                self.map(|word| word >> bits)
            }
        }
        impl Shl<u32> for Lanes<$word> {
            type Output = Self;
            #[inline(always)]
            fn shl(self, bits: u32) -> Self {
                self.map(|word| word << bits)
            }
        }
    };
}
arithmetic!(u32);
arithmetic!(u64);
arithmetic!(i64);

impl Lanes<u32> {
    /// Every lane rotated to the left.
    #[inline(always)]
    pub fn rotate_left(self, bits: u32) -> Self {
        self.map(|word| word.rotate_left(bits))
    }
    /// The same numbers in 64 bits.
    #[inline(always)]
    pub fn wide(self) -> Lanes<u64> {
        self.map(u64::from)
    }
    /// The same numbers in 64 bits, signed.
    #[inline(always)]
    pub fn signed(self) -> Lanes<i64> {
        self.map(i64::from)
    }
}

impl Lanes<u64> {
    /// The low halves.
    #[inline(always)]
    pub fn low(self) -> Lanes<u32> {
        self.map(|word| (word & 0xFFFF_FFFF) as u32)
    }
    /// The high halves.
    #[inline(always)]
    pub fn high(self) -> Lanes<u32> {
        self.map(|word| (word >> 32) as u32)
    }
}
