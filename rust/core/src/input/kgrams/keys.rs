//! What sets and counts of k-grams share: keys as wide as the k-grams need, and the fields of files.

use crate::error::{Error, Result};
use crate::io::files::{FileReader, Writer};
use crate::key::{Key, MAX_KGRAM_WIDTH, Packer};
use std::io::Write;

/// The version of both kinds of file.
pub const VERSION: u32 = 3;
/// Most bytes of an origin.
const LONGEST_ORIGIN: usize = 1 << 16;

/// The same thing for keys of 64, 128 or 384 bits.
pub enum ByWidth<A, B, C> {
    /// `u64`.
    Narrow(A),
    /// `u128`.
    Medium(B),
    /// [`Wide`](crate::key::Wide).
    Wide(C),
}

/// The variant for a packer's k-grams, made by an expression that is generic over the key.
macro_rules! by_width {
    ($packer:expr, $new:expr) => {
        match $packer.window_bits() {
            ..=64 => ByWidth::Narrow($new),
            65..=128 => ByWidth::Medium($new),
            _ => ByWidth::Wide($new),
        }
    };
}
pub(super) use by_width;

/// The value of an expression over what any variant holds.
macro_rules! each {
    ($value:expr, $inner:ident => $body:expr) => {
        match $value {
            ByWidth::Narrow($inner) => $body,
            ByWidth::Medium($inner) => $body,
            ByWidth::Wide($inner) => $body,
        }
    };
}
pub(super) use each;

/// The variant that an expression makes of what the same variant held.
macro_rules! map_width {
    ($value:expr, $inner:ident => $body:expr) => {
        match $value {
            ByWidth::Narrow($inner) => ByWidth::Narrow($body),
            ByWidth::Medium($inner) => ByWidth::Medium($body),
            ByWidth::Wide($inner) => ByWidth::Wide($body),
        }
    };
}
pub(super) use map_width;

/// A packer for k-grams of `width` token ids.
pub fn packer_for(width: usize, vocab_size: u32) -> Result<Packer> {
    if !(1..=MAX_KGRAM_WIDTH).contains(&width) {
        return Err(Error::Argument(format!(
            "width must be from 1 to {MAX_KGRAM_WIDTH}, not {width}"
        )));
    }
    Packer::new(width, vocab_size, false)
}

/// Refuses rows with an id outside the vocabulary.
pub fn check_rows(rows: &[u32], width: usize, vocab_size: u32) -> Result<()> {
    match rows.iter().position(|&token| token >= vocab_size) {
        Some(at) => Err(Error::Tokens(format!(
            "token id {} of k-gram {} is outside the vocabulary of {vocab_size}",
            rows[at],
            at / width
        ))),
        None => Ok(()),
    }
}

/// Refuses keys from a file that are not k-grams over the vocabulary, in order and once each: a
/// checksum only says that the file is as it was written.
pub struct KeyCheck<K> {
    packer: Packer,
    vocab_size: u32,
    row: Vec<u32>,
    last: Option<K>,
    count: usize,
}

impl<K: Key> KeyCheck<K> {
    /// Checks the keys that follow.
    pub fn new(packer: Packer, vocab_size: u32) -> Self {
        Self {
            packer,
            vocab_size,
            row: vec![0; packer.width],
            last: None,
            count: 0,
        }
    }

    /// Checks the next key.
    pub fn next(&mut self, key: K) -> Result<()> {
        let index = self.count;
        if self.last.is_some_and(|last| last >= key) {
            return Err(Error::State(format!(
                "k-gram {index} is out of order or occurs twice"
            )));
        }
        self.packer.unpack(key, &mut self.row);
        let inside = self.row.iter().all(|&token| token < self.vocab_size);
        if key.mask(self.packer.window_bits()) != key || !inside {
            return Err(Error::State(format!(
                "k-gram {index} has an id outside the vocabulary of {}",
                self.vocab_size
            )));
        }
        (self.last, self.count) = (Some(key), index + 1);
        Ok(())
    }
}

/// Refuses an origin that is too long.
pub fn check_origin(origin: &str) -> Result<()> {
    match origin.len() > LONGEST_ORIGIN {
        true => Err(Error::Argument(format!(
            "an origin has at most {LONGEST_ORIGIN} bytes, not {}",
            origin.len()
        ))),
        false => Ok(()),
    }
}

/// The fields that both kinds of file begin with: width, vocabulary, origin.
pub fn write_head<W: Write>(
    out: &mut Writer<W>,
    (width, vocab_size): (usize, u32),
    origin: &str,
) -> Result<()> {
    out.put_u64(width as u64)?;
    out.put_u64(vocab_size.into())?;
    out.put_u64(origin.len() as u64)?;
    out.put(origin.as_bytes())
}

/// Reads what [`write_head`] wrote.
pub fn read_head(from: &mut FileReader) -> Result<(Packer, u32, String)> {
    let width = from.u64()? as usize;
    let vocab_size = u32::try_from(from.u64()?).unwrap_or(u32::MAX);
    let packer = packer_for(width, vocab_size)?;
    let length = from.u64()?;
    if length > LONGEST_ORIGIN as u64 {
        return Err(Error::State("the origin is too long".into()));
    }
    let origin = String::from_utf8(from.bytes(length)?)
        .map_err(|_| Error::State("the origin is not UTF-8".into()))?;
    Ok((packer, vocab_size, origin))
}
