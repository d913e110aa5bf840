//! What became of the candidate windows, and how many there were of each.

use crate::error::Result;
use crate::io::records::{Reader, put_u64};
use std::io::Read;

/// Why a candidate window is scored or not. The numbers are part of the interface to Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Scored.
    Scored = 0,
    /// Before the first position that has a whole context, or before `start`.
    NoContext = 1,
    /// Its draw may have been seen in the document's prompt.
    Excluded = 2,
    /// Its context is not in the filter.
    Filtered = 3,
    /// A repetition under the deduplication rule.
    Duplicate = 4,
    /// Its random draw does not depend on the key.
    Keyless = 5,
    /// Evidence of earlier documents of the corpus.
    Shared = 6,
}

/// How many windows there were, and how many each rule removed. Counts of disjoint token ranges add
/// up to those of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents.
    pub documents: u64,
    /// Documents without a single window.
    pub short_documents: u64,
    /// Tokens.
    pub tokens: u64,
    /// Candidate windows.
    pub windows: u64,
    /// Removed because the draw may have been seen in the document's prompt.
    pub excluded: u64,
    /// Removed because the context is not in the filter.
    pub filtered: u64,
}

impl Counts {
    /// Appends the counts.
    pub fn write(&self, out: &mut Vec<u8>) {
        let counts = [
            self.documents,
            self.short_documents,
            self.tokens,
            self.windows,
            self.excluded,
            self.filtered,
        ];
        counts.iter().for_each(|&count| put_u64(out, count));
    }

    /// Reads what [`Counts::write`] wrote.
    pub fn read<R: Read>(reader: &mut Reader<R>) -> Result<Self> {
        Ok(Self {
            documents: reader.u64()?,
            short_documents: reader.u64()?,
            tokens: reader.u64()?,
            windows: reader.u64()?,
            excluded: reader.u64()?,
            filtered: reader.u64()?,
        })
    }

    /// Adds other counts.
    pub fn merge(&mut self, other: &Self) {
        self.documents += other.documents;
        self.short_documents += other.short_documents;
        self.tokens += other.tokens;
        self.windows += other.windows;
        self.excluded += other.excluded;
        self.filtered += other.filtered;
    }
}
