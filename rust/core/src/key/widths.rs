//! Keys of 64, 128, 384 and 1408 bits.

use super::integer::Key;
use crate::recycler::Recycled;
use std::sync::Mutex;

fn mix64(x: u64) -> u64 {
    let wide = u128::from(x ^ 0x9E37_79B9_7F4A_7C15) * u128::from(0xA076_1D64_78BD_642F_u64);
    let folded = (wide as u64) ^ ((wide >> 64) as u64);
    folded ^ (folded >> 29)
}

macro_rules! recycled {
    ($type:ty) => {
        impl Recycled for $type {
            fn idle() -> &'static Mutex<Vec<Vec<Self>>> {
                static IDLE: Mutex<Vec<Vec<$type>>> = Mutex::new(Vec::new());
                &IDLE
            }
        }
    };
}

recycled!(u64);
recycled!(u128);
recycled!(Wide);
recycled!(Widest);

macro_rules! primitive_key {
    ($type:ty, $mix:expr, $fold:expr) => {
        impl Key for $type {
            const BITS: u32 = <$type>::BITS;
            #[inline]
            fn push(self, code: u32, bits: u32) -> Self {
                (self << bits) | <$type>::from(code)
            }
            #[inline]
            fn mask(self, bits: u32) -> Self {
                if bits >= Self::BITS {
                    self
                } else {
                    self & ((1 << bits) - 1)
                }
            }
            #[inline(always)]
            fn pop(self, bits: u32) -> Self {
                self >> bits
            }
            #[inline]
            fn low(self) -> u32 {
                self as u32
            }
            #[inline]
            fn mix(self) -> u64 {
                $mix(self)
            }
            #[inline(always)]
            fn fold(self) -> u64 {
                $fold(self)
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn read(bytes: &[u8]) -> Self {
                let mut raw = [0; Self::BYTES];
                raw.copy_from_slice(bytes);
                Self::from_le_bytes(raw)
            }
        }
    };
}

primitive_key!(u64, mix64, |x: u64| x);
primitive_key!(
    u128,
    |x: u128| mix64(x as u64 ^ mix64((x >> 64) as u64)),
    |x: u128| (x as u64) ^ ((x >> 64) as u64).wrapping_mul(0xA076_1D64_78BD_642F)
);

/// 384 bits, highest word first: 17 tokens of up to 22 bits.
pub type Wide = [u64; 6];
/// 1408 bits, highest word first: 65 tokens of up to 21 bits.
pub type Widest = [u64; 22];

macro_rules! words_key {
    ($words:literal) => {
        impl Key for [u64; $words] {
            const BITS: u32 = 64 * $words;
            #[inline]
            fn push(self, code: u32, bits: u32) -> Self {
                let mut out = [0; $words];
                for i in 0..$words - 1 {
                    out[i] = (self[i] << bits) | (self[i + 1] >> (64 - bits));
                }
                out[$words - 1] = (self[$words - 1] << bits) | u64::from(code);
                out
            }
            #[inline]
            fn mask(mut self, bits: u32) -> Self {
                for (i, word) in self.iter_mut().enumerate() {
                    let above = (bits as usize).saturating_sub(64 * ($words - 1 - i));
                    if above < 64 {
                        *word &= (1u64 << above) - 1;
                    }
                }
                self
            }
            #[inline]
            fn pop(self, bits: u32) -> Self {
                let mut out = [0; $words];
                out[0] = self[0] >> bits;
                for i in 1..$words {
                    out[i] = (self[i] >> bits) | (self[i - 1] << (64 - bits));
                }
                out
            }
            #[inline]
            fn low(self) -> u32 {
                self[$words - 1] as u32
            }
            #[inline]
            fn mix(self) -> u64 {
                self.iter()
                    .fold(0, |hash, &word| mix64(hash ^ word).wrapping_add(word))
            }
            #[inline]
            fn fold(self) -> u64 {
                self.mix()
            }
            fn write(self, out: &mut Vec<u8>) {
                for word in self.iter().rev() {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
            fn read(bytes: &[u8]) -> Self {
                let mut out = [0; $words];
                for (word, raw) in out.iter_mut().rev().zip(bytes.chunks_exact(8)) {
                    *word = <u64 as Key>::read(raw);
                }
                out
            }
        }
    };
}

words_key!(6);
words_key!(22);
