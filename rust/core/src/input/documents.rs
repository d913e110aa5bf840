//! Ragged token ids of any integer type, borrowed.

use crate::error::{Error, Result};
use crate::memory;
use crate::threads::Pool;
use rayon::prelude::*;

/// Token ids as they lie in memory, in whatever integer type.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum TokenSlice<'a> {
    U8(&'a [u8]),
    I8(&'a [i8]),
    U16(&'a [u16]),
    I16(&'a [i16]),
    U32(&'a [u32]),
    I32(&'a [i32]),
    U64(&'a [u64]),
    I64(&'a [i64]),
}

macro_rules! for_slice {
    ($self:expr, $slice:ident => $body:expr) => {
        match $self {
            TokenSlice::U8($slice) => $body,
            TokenSlice::I8($slice) => $body,
            TokenSlice::U16($slice) => $body,
            TokenSlice::I16($slice) => $body,
            TokenSlice::U32($slice) => $body,
            TokenSlice::I32($slice) => $body,
            TokenSlice::U64($slice) => $body,
            TokenSlice::I64($slice) => $body,
        }
    };
}

impl TokenSlice<'_> {
    /// Number of ids.
    pub fn len(&self) -> usize {
        for_slice!(self, s => s.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the ids `from..to` as u32; [`Documents::new`] has checked them.
    #[allow(clippy::unnecessary_cast)] // one of the types is the target itself
    pub fn copy_to(&self, from: usize, to: usize, out: &mut Vec<u32>) {
        memory::reserve(out, to - from);
        for_slice!(self, s => out.extend(s[from..to].iter().map(|&id| id as u32)));
    }

    /// Index of the first id in `from..to` that is outside the vocabulary.
    fn first_outside(&self, from: usize, to: usize, vocab_size: u32) -> Option<usize> {
        Pool::shared().install(|| self.find_outside(from, to, vocab_size))
    }

    #[allow(clippy::unnecessary_cast)]
    fn find_outside(&self, from: usize, to: usize, vocab_size: u32) -> Option<usize> {
        const CHUNK: usize = 1 << 16;
        let limit = u64::from(vocab_size);
        // A negative id, sign-extended, is a huge u64: one comparison checks both ends.
        for_slice!(self, s => s[from..to]
        .par_chunks(CHUNK)
        .enumerate()
        .find_map_first(|(chunk, run)| {
            let bad = run.iter().fold(false, |bad, &id| bad | (id as u64 >= limit));
            if !bad {
                return None;
            }
            run.iter().position(|&id| id as u64 >= limit).map(|at| from + chunk * CHUNK + at)
        }))
    }

    fn id(&self, index: usize) -> i128 {
        for_slice!(self, s => i128::from(s[index]))
    }
}

/// Documents back to back: document `i` is `values[offsets[i]..offsets[i + 1]]`.
///
/// Offsets never decrease and stay within the values, and every id is inside the vocabulary: checked
/// once, in parallel, when it is made. Values outside the documents are never read.
#[derive(Debug, Clone, Copy)]
pub struct Documents<'a> {
    values: TokenSlice<'a>,
    offsets: &'a [i64],
}

impl<'a> Documents<'a> {
    /// Checks the offsets, and that every id is below `vocab_size`.
    pub fn new(values: TokenSlice<'a>, offsets: &'a [i64], vocab_size: u32) -> Result<Self> {
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
            return Err(Error::Tokens(
                "offsets must have n_documents + 1 entries".into(),
            ));
        };
        if first < 0 || last > values.len() as i64 {
            return Err(Error::Tokens(format!(
                "offsets run from {first} to {last}, outside the {} values",
                values.len()
            )));
        }
        if let Some(i) = offsets.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(Error::Tokens(format!(
                "offsets decrease after document {i}"
            )));
        }
        if let Some(bad) = values.first_outside(first as usize, last as usize, vocab_size) {
            let document = offsets.partition_point(|&start| start <= bad as i64) - 1;
            return Err(Error::Tokens(format!(
                "token id {} at position {} of document {document} is outside the vocabulary of \
                 {vocab_size}",
                values.id(bad),
                bad as i64 - offsets[document],
            )));
        }
        Ok(Self { values, offsets })
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens of all documents.
    pub fn n_tokens(&self) -> usize {
        (self.offsets[self.len()] - self.offsets[0]) as usize
    }

    /// Tokens in document `i`.
    #[inline]
    pub fn document_len(&self, i: usize) -> usize {
        (self.offsets[i + 1] - self.offsets[i]) as usize
    }

    /// Index in the values of the first token of document `i`.
    #[inline]
    pub fn start(&self, i: usize) -> usize {
        self.offsets[i] as usize
    }

    /// The last document that begins at `index` or before: the one that holds that value. From the
    /// end of the documents on, their number.
    pub fn document_at(&self, index: usize) -> usize {
        self.offsets
            .partition_point(|&start| start <= index as i64)
            .saturating_sub(1)
    }

    /// The first document that begins at token `at` or later, counted from the first document's.
    pub fn begin_from(&self, at: usize) -> usize {
        let offset = self.offsets[0] + at as i64;
        self.offsets[..self.len()].partition_point(|&start| start < offset)
    }

    /// Appends the tokens `from..to` of document `i`.
    #[inline]
    pub fn copy_to(&self, i: usize, from: usize, to: usize, out: &mut Vec<u32>) {
        let start = self.start(i);
        self.values.copy_to(start + from, start + to, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_id_outside() {
        let values = [0i32, 1, 2, 3, -4, 100];
        let error = Documents::new(TokenSlice::I32(&values), &[0, 2, 2, 6], 50).err();
        let text = "token id -4 at position 2 of document 2 is outside the vocabulary of 50";
        assert_eq!(error, Some(Error::Tokens(text.into())));
        // What lies outside the documents is not read.
        assert!(Documents::new(TokenSlice::I32(&values), &[0, 2, 4], 50).is_ok());
    }

    #[test]
    fn refuses_bad_offsets() {
        let values = TokenSlice::U8(&[1, 2, 3]);
        for offsets in [&[][..], &[-1, 2], &[0, 4], &[0, 2, 1]] {
            assert!(Documents::new(values, offsets, 50).is_err());
        }
    }
}
