//! How many windows have each residue, for schemes that read nothing else of a window.

use crate::error::{Error, Result};
use crate::io::records::{Reader, put_u64};
use crate::memory;
use std::io::Read;

/// Counts of residues below a size.
///
/// Few are kept as a list, so that the counts of a small partition cost no more than its windows; from
/// as many as there are residues on, they are a table. One of the two is always empty.
#[derive(Debug, Clone, Default)]
pub struct Residues {
    size: usize,
    few: Vec<u32>,
    table: Vec<u64>,
}

/// The most residues there are: those of the largest sampling table.
const MOST: u64 = 1 << 24;

impl Residues {
    /// Number of different residues; 0 if none was counted.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Counts residues, all of them below `size`.
    pub fn add(&mut self, size: usize, residues: impl ExactSizeIterator<Item = u32>) {
        self.size = size;
        if self.table.is_empty() && self.few.len() + residues.len() > size {
            self.spread();
        }
        if self.table.is_empty() {
            return memory::append(&mut self.few, residues);
        }
        for residue in residues {
            self.table[residue as usize] += 1;
        }
    }

    /// Turns the list into a table.
    fn spread(&mut self) {
        memory::resize(&mut self.table, self.size, 0);
        for residue in std::mem::take(&mut self.few) {
            self.table[residue as usize] += 1;
        }
    }

    /// Adds other counts, of as many residues.
    pub fn merge(&mut self, other: &Self) {
        if other.size == 0 {
            return;
        }
        self.add(other.size, other.few.iter().copied());
        if !other.table.is_empty() {
            if self.table.is_empty() {
                self.spread();
            }
            let pairs = self.table.iter_mut().zip(&other.table);
            pairs.for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    /// Each residue that occurs, with its count, in ascending order.
    pub fn pairs(&self) -> Vec<(u32, u64)> {
        if !self.table.is_empty() {
            let all = (0..).zip(self.table.iter().copied());
            return memory::collect(all.filter(|&(_, count)| count > 0));
        }
        let mut sorted = memory::copy(&self.few);
        sorted.sort_unstable();
        let runs = sorted.chunk_by(|a, b| a == b);
        memory::collect(runs.map(|run| (run[0], run.len() as u64)))
    }

    /// The count of every residue, or nothing if none was counted.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = memory::filled(0, self.size);
        for (residue, count) in self.pairs() {
            counts[residue as usize] = count;
        }
        counts
    }

    /// Appends the counts: pairs if few residues occur, else all, in as many bytes as the largest needs.
    pub fn write(&self, out: &mut Vec<u8>) {
        let pairs = self.pairs();
        let largest = pairs.iter().map(|pair| pair.1).max().unwrap_or_default();
        let bytes = (8 - largest.leading_zeros() as usize / 8).max(1);
        put_u64(out, self.size as u64);
        if pairs.len() * (4 + bytes) < self.size * bytes {
            put_u64(out, bytes as u64);
            put_u64(out, pairs.len() as u64);
            memory::reserve(out, pairs.len() * (4 + bytes));
            for (residue, count) in pairs {
                out.extend_from_slice(&residue.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes()[..bytes]);
            }
        } else {
            put_u64(out, bytes as u64 | WHOLE);
            memory::reserve(out, self.size * bytes);
            for count in self.counts() {
                out.extend_from_slice(&count.to_le_bytes()[..bytes]);
            }
        }
    }

    /// Reads what [`Residues::write`] wrote.
    pub fn read<R: Read>(reader: &mut Reader<R>) -> Result<Self> {
        let damaged = || Error::State("the counts of residues are damaged".into());
        let size = reader.u64()?;
        let form = reader.u64()?;
        let bytes = (form & !WHOLE) as usize;
        if size > MOST || !(1..=8).contains(&bytes) {
            return Err(damaged());
        }
        let size = size as usize;
        let number = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let mut read = Self {
            size,
            ..Self::default()
        };
        if form & WHOLE != 0 {
            let mut table = Vec::new();
            reader.records((size, bytes), number, |counts| {
                memory::extend(&mut table, counts);
                Ok(())
            })?;
            read.table = table;
            return Ok(read);
        }
        let pair = |row: &[u8]| (number(&row[..4]) as usize, number(&row[4..]));
        let pairs: Vec<(usize, u64)> = reader.list(4 + bytes, pair)?;
        if pairs.len() > size {
            return Err(damaged());
        }
        let total = pairs
            .iter()
            .try_fold(0u64, |sum, pair| sum.checked_add(pair.1))
            .ok_or_else(damaged)?;
        if pairs.iter().any(|pair| pair.0 >= size) {
            return Err(damaged());
        }
        if total > size as u64 {
            memory::resize(&mut read.table, size, 0);
            pairs
                .iter()
                .for_each(|&(residue, count)| read.table[residue] += count);
        } else {
            for (residue, count) in pairs {
                memory::append(&mut read.few, (0..count).map(|_| residue as u32));
            }
        }
        Ok(read)
    }
}

/// Marks counts that are written without their residues.
const WHOLE: u64 = 1 << 8;

impl PartialEq for Residues {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.pairs() == other.pairs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: usize, residues: &[u32]) -> Residues {
        let mut counts = Residues::default();
        counts.add(size, residues.iter().copied());
        counts
    }

    #[test]
    fn a_list_and_a_table_are_the_same_counts() {
        let all: Vec<u32> = (0..50).map(|i| i * i % 16).collect();
        let whole = of(16, &all);
        let mut merged = Residues::default();
        for residue in &all {
            merged.merge(&of(16, &[*residue]));
        }
        assert_eq!(whole, merged);
        assert_eq!(whole.counts().iter().sum::<u64>(), 50);
        let mut twice = of(16, &all[..3]);
        twice.merge(&of(16, &all[3..]));
        assert_eq!(whole, twice);
    }

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        for counts in [
            Residues::default(),
            of(1 << 16, &[7, 7, 65_535]),
            of(4, &[3; 1000]),
            of(4, &[0, 1, 2, 3, 3]),
        ] {
            let mut bytes = Vec::new();
            counts.write(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(Residues::read(&mut reader)?, counts);
            reader.finish()?;
        }
        Ok(())
    }

    #[test]
    fn damage_is_an_error() {
        let mut bytes = Vec::new();
        of(64, &[63]).write(&mut bytes);
        for (at, value) in [(0, 2), (8, 9), (8, 0), (16, 77), (7, 255)] {
            let mut broken = bytes.clone();
            broken[at] = value;
            assert!(Residues::read(&mut Reader::new(&broken)).is_err(), "{at}");
        }
    }
}
