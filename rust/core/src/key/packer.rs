//! How the tokens of a window are packed into a key, the oldest in the highest bits.

use super::integer::Key;
use crate::error::{Error, Result};
use crate::memory;

/// Largest vocabulary.
const MAX_VOCAB: u32 = 1 << 20;
/// Most tokens of a context.
pub const MAX_CONTEXT_WIDTH: usize = 64;
/// Most tokens of a k-gram.
pub const MAX_KGRAM_WIDTH: usize = 16;

/// The token id that stands for "no token" before a document's first (vLLM's -1).
pub const PADDING: u32 = u32::MAX;

/// How windows of `width` tokens are packed: so many bits a token, as few as hold every id. Padding
/// has the code `vocab_size`. Packing and unpacking cost a shift or two per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packer {
    /// Tokens in a window.
    pub width: usize,
    /// Bits per token, from 1 to 21.
    pub bits: u32,
    vocab_size: u32,
    padded: bool,
}

impl Packer {
    /// A packer for `width` tokens below `vocab_size`, and [`PADDING`] where `padded`.
    pub fn new(width: usize, vocab_size: u32, padded: bool) -> Result<Self> {
        if !(2..=MAX_VOCAB).contains(&vocab_size) {
            return Err(Error::Argument(format!(
                "vocab_size must be from 2 to {MAX_VOCAB}, not {vocab_size}"
            )));
        }
        if width == 0 || width > MAX_CONTEXT_WIDTH + 1 {
            return Err(Error::Argument(format!(
                "a window has 1 to {} tokens, not {width}",
                MAX_CONTEXT_WIDTH + 1
            )));
        }
        let largest = if padded { vocab_size } else { vocab_size - 1 };
        Ok(Self {
            width,
            bits: u32::BITS - largest.leading_zeros(),
            vocab_size,
            padded,
        })
    }

    /// Whether [`PADDING`] may stand in a window.
    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// Bits of a whole window.
    pub fn window_bits(&self) -> u32 {
        self.width as u32 * self.bits
    }

    /// The code of a token.
    #[inline]
    pub fn code(&self, token: u32) -> u32 {
        if token == PADDING {
            self.vocab_size
        } else {
            token
        }
    }

    /// The key of at most `width` tokens.
    pub fn pack<K: Key>(&self, tokens: &[u32]) -> K {
        tokens.iter().fold(K::default(), |key, &token| {
            key.push(self.code(token), self.bits)
        })
    }

    /// Appends the key of every window of a run of tokens.
    pub fn pack_all<K: Key>(&self, tokens: &[u32], out: &mut Vec<K>) {
        let (bits, width) = (self.bits, self.width);
        if K::BITS > 64 || (self.padded && tokens.contains(&PADDING)) {
            let Some(lead) = tokens.get(..width - 1) else {
                return;
            };
            let (mut key, window_bits) = (self.pack::<K>(lead), self.window_bits());
            out.extend(tokens[width - 1..].iter().map(|&token| {
                key = key.push(self.code(token), bits).mask(window_bits);
                key
            }));
            return;
        }
        // Each key from its own tokens, so that none waits for the one before.
        match width {
            1 => self.pack_each::<K, 1>(tokens, out),
            2 => self.pack_each::<K, 2>(tokens, out),
            3 => self.pack_each::<K, 3>(tokens, out),
            4 => self.pack_each::<K, 4>(tokens, out),
            5 => self.pack_each::<K, 5>(tokens, out),
            _ => out.extend(
                tokens
                    .windows(width)
                    .map(|window| self.pack_plain::<K>(window)),
            ),
        }
    }

    /// Windows of a width known to the compiler, which unrolls the loop.
    fn pack_each<K: Key, const WIDTH: usize>(&self, tokens: &[u32], out: &mut Vec<K>) {
        out.extend(
            tokens
                .windows(WIDTH)
                .map(|window| self.pack_plain::<K>(&window[..WIDTH])),
        );
    }

    /// The key of tokens without padding.
    #[inline(always)]
    fn pack_plain<K: Key>(&self, tokens: &[u32]) -> K {
        let push = |key: K, &token: &u32| key.push(token, self.bits);
        tokens.iter().fold(K::default(), push)
    }

    /// The tokens of a window's key.
    pub fn unpack<K: Key>(&self, mut key: K, out: &mut [u32]) {
        let mask = (1u32 << self.bits) - 1;
        for slot in out.iter_mut().rev() {
            let code = key.low() & mask;
            *slot = if code == self.vocab_size {
                PADDING
            } else {
                code
            };
            key = key.pop(self.bits);
        }
    }

    /// The tokens of many windows, one row each.
    pub fn unpack_all<K: Key>(&self, keys: &[K]) -> Vec<u32> {
        let mut out = Vec::new();
        self.unpack_into(keys, &mut out);
        out
    }

    /// Overwrites `out` with the tokens of many windows, one row each.
    pub fn unpack_into<K: Key>(&self, keys: &[K], out: &mut Vec<u32>) {
        memory::resize(out, keys.len() * self.width, 0);
        match self.width {
            2 => self.unpack_rows::<K, 2>(keys, out),
            3 => self.unpack_rows::<K, 3>(keys, out),
            4 => self.unpack_rows::<K, 4>(keys, out),
            5 => self.unpack_rows::<K, 5>(keys, out),
            width => {
                for (row, &key) in out.chunks_exact_mut(width).zip(keys) {
                    self.unpack_row(key, row);
                }
            }
        }
        if self.padded {
            // Stored whether it changes or not: no branch.
            for slot in out.iter_mut() {
                *slot = match *slot == self.vocab_size {
                    true => PADDING,
                    false => *slot,
                };
            }
        }
    }

    /// Rows of a width known to the compiler, which unrolls the loop.
    fn unpack_rows<K: Key, const WIDTH: usize>(&self, keys: &[K], out: &mut [u32]) {
        for (row, &key) in out.chunks_exact_mut(WIDTH).zip(keys) {
            let mut tokens = [0; WIDTH];
            self.unpack_row(key, &mut tokens);
            row.copy_from_slice(&tokens);
        }
    }

    #[inline(always)]
    fn unpack_row<K: Key>(&self, key: K, row: &mut [u32]) {
        let mask = (1u32 << self.bits) - 1;
        let mut rest = key;
        for slot in row.iter_mut().rev() {
            *slot = rest.low() & mask;
            rest = rest.pop(self.bits);
        }
    }

    /// Whether a key is that of some window: no bits above it, and no id outside the vocabulary.
    pub fn is_window<K: Key>(&self, key: K) -> bool {
        let mut tokens = [0; MAX_CONTEXT_WIDTH + 1];
        self.unpack(key, &mut tokens[..self.width]);
        let allowed = |&token: &u32| token < self.vocab_size || (token == PADDING && self.padded);
        key.mask(self.window_bits()) == key && tokens[..self.width].iter().all(allowed)
    }

    /// The key of the context of a window: all but its target.
    #[inline(always)]
    pub fn context<K: Key>(&self, window: K) -> K {
        window.pop(self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::widths::{Wide, Widest};
    use super::*;

    fn round_trip<K: Key + std::fmt::Debug>(vocab_size: u32, width: usize) -> Result<()> {
        let packer = Packer::new(width, vocab_size, true)?;
        assert!(packer.window_bits() <= K::BITS);
        let tokens: Vec<u32> = (0..width as u32)
            .map(|i| {
                if i == 1 {
                    PADDING
                } else {
                    (i * 7919 + vocab_size - 1) % vocab_size
                }
            })
            .collect();
        let key: K = packer.pack(&tokens);
        let mut back = vec![0; width];
        packer.unpack(key, &mut back);
        assert_eq!(back, tokens);
        packer.unpack_into(&[key, key], &mut back);
        assert_eq!(back, [&tokens[..], &tokens].concat());
        let mut all: Vec<K> = Vec::new();
        packer.pack_all(&tokens, &mut all);
        assert_eq!(all, [key]);
        let mut rolled: K = packer.pack(&vec![vocab_size - 1; width]);
        for &token in &tokens {
            rolled = rolled
                .push(packer.code(token), packer.bits)
                .mask(packer.window_bits());
        }
        assert_eq!(rolled, key);
        let context: K = packer.pack(&tokens[..width - 1]);
        assert_eq!(packer.context(key), context);
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        assert_eq!(bytes.len(), K::BYTES);
        assert_eq!(K::read(&bytes), key);
        Ok(())
    }

    #[test]
    fn packs_every_width() -> Result<()> {
        for vocab_size in [2, 3, 255, 32_000, 49_152, 65_536, MAX_VOCAB] {
            for width in 1..=MAX_CONTEXT_WIDTH + 1 {
                let bits = Packer::new(width, vocab_size, true)?.window_bits();
                if bits <= 64 {
                    round_trip::<u64>(vocab_size, width)?;
                }
                if bits <= 128 {
                    round_trip::<u128>(vocab_size, width)?;
                }
                if bits <= 384 {
                    round_trip::<Wide>(vocab_size, width)?;
                }
                round_trip::<Widest>(vocab_size, width)?;
            }
        }
        Ok(())
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(Packer::new(2, 1, false).is_err());
        assert!(Packer::new(2, MAX_VOCAB + 1, false).is_err());
        assert!(Packer::new(0, 100, false).is_err());
        assert!(Packer::new(66, 100, false).is_err());
    }
}
