//! A set of k-grams.

use super::keys::{
    ByWidth, KeyCheck, VERSION, by_width, check_origin, check_rows, each, packer_for, read_head,
    write_head,
};
use crate::error::{Error, Result};
use crate::io::files::{FileReader, FileWriter, SavedFile, Writer};
use crate::key::{Key, Packer, Wide};
use crate::memory;
use hashbrown::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

const MAGIC: [u8; 4] = *b"RSKG";

type Keys = ByWidth<Vec<u64>, Vec<u128>, Vec<Wide>>;

/// A set of k-grams over a vocabulary, with a word on where it comes from.
///
/// Keys are sorted and distinct: 8, 16 or 48 bytes for each k-gram, and a look-up is a binary search.
pub struct KgramSet {
    packer: Packer,
    vocab_size: u32,
    keys: Keys,
    origin: String,
    fingerprint: OnceLock<String>,
}

/// What `$join` makes of the keys of two sets of one width.
macro_rules! both {
    ($left:expr, $right:expr, $join:ident) => {
        match ($left, $right) {
            (ByWidth::Narrow(a), ByWidth::Narrow(b)) => ByWidth::Narrow($join(a, b)),
            (ByWidth::Medium(a), ByWidth::Medium(b)) => ByWidth::Medium($join(a, b)),
            (ByWidth::Wide(a), ByWidth::Wide(b)) => ByWidth::Wide($join(a, b)),
            _ => {
                return Err(Error::Argument(
                    "the k-grams are of different widths".into(),
                ))
            }
        }
    };
}

impl KgramSet {
    /// The set of these keys, sorted and distinct.
    pub(super) fn new(packer: Packer, vocab_size: u32, keys: Keys) -> Self {
        Self {
            packer,
            vocab_size,
            keys,
            origin: String::new(),
            fingerprint: OnceLock::new(),
        }
    }

    /// How the set was made, in words that only the layer above reads. It is part of the content.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The same k-grams with another origin.
    pub fn with_origin(mut self, origin: &str) -> Result<Self> {
        check_origin(origin)?;
        self.origin = origin.into();
        self.fingerprint = OnceLock::new();
        Ok(self)
    }

    /// A set from rows of `width` token ids; repetitions count once.
    pub fn from_rows(rows: &[u32], width: usize, vocab_size: u32) -> Result<Self> {
        let packer = packer_for(width, vocab_size)?;
        check_rows(rows, width, vocab_size)?;
        let keys = by_width!(packer, pack_sorted(packer, rows));
        Ok(Self::new(packer, vocab_size, keys))
    }

    /// Tokens in a k-gram.
    pub fn width(&self) -> usize {
        self.packer.width
    }

    /// Size of the vocabulary.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// Number of k-grams.
    pub fn len(&self) -> usize {
        each!(&self.keys, keys => keys.len())
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a k-gram is in the set.
    pub fn contains(&self, kgram: &[u32]) -> bool {
        kgram.len() == self.packer.width
            && kgram.iter().all(|&token| token < self.vocab_size)
            && each!(&self.keys, keys => keys.binary_search(&self.packer.pack(kgram)).is_ok())
    }

    /// The k-grams in lexicographic order, one row each.
    pub fn rows(&self) -> Vec<u32> {
        each!(&self.keys, keys => self.packer.unpack_all(keys))
    }

    /// The k-grams as keys of another packer, to look contexts up while windows are cut.
    pub fn lookup<K: Key>(&self, packer: Packer) -> HashSet<K> {
        let (mut row, mut all) = (vec![0; self.packer.width], HashSet::new());
        memory::reserve_members(&mut all, self.len());
        each!(&self.keys, keys => for &key in keys {
            self.packer.unpack(key, &mut row);
            all.insert(packer.pack(&row));
        });
        all
    }

    fn check_same(&self, other: &Self) -> Result<()> {
        if (self.packer, self.vocab_size) == (other.packer, other.vocab_size) {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "the sets differ: {}-grams over {} ids, and {}-grams over {} ids",
            self.width(),
            self.vocab_size,
            other.width(),
            other.vocab_size
        )))
    }

    /// K-grams of either set.
    pub fn union(&self, other: &Self) -> Result<Self> {
        self.check_same(other)?;
        let keys = both!(&self.keys, &other.keys, union);
        Ok(Self::new(self.packer, self.vocab_size, keys))
    }

    /// K-grams of both sets.
    pub fn intersection(&self, other: &Self) -> Result<Self> {
        self.check_same(other)?;
        let keys = both!(&self.keys, &other.keys, intersection);
        Ok(Self::new(self.packer, self.vocab_size, keys))
    }

    fn write<W: Write>(&self, out: &mut Writer<W>) -> Result<()> {
        write_head(out, (self.width(), self.vocab_size), &self.origin)?;
        each!(&self.keys, keys => {
            out.put_u64(keys.len() as u64)?;
            out.put_all(keys, |key, out| key.write(out))
        })
    }

    /// The SHA-256 of the content, in hexadecimal digits.
    pub fn fingerprint(&self) -> Result<&str> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known);
        }
        let computed = Writer::fingerprint(|out| self.write(out))?;
        Ok(self.fingerprint.get_or_init(|| computed))
    }

    /// Saves the set.
    pub fn save(&self, path: &Path) -> Result<()> {
        FileWriter::save(path, MAGIC, VERSION, |out| self.write(out))
    }

    /// Loads what [`KgramSet::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        SavedFile::open(path, MAGIC, VERSION, "k-gram set")?.read(|from| {
            let (packer, vocab_size, origin) = read_head(from)?;
            let keys = by_width!(packer, read_keys(from, packer, vocab_size)?);
            Self::new(packer, vocab_size, keys).with_origin(&origin)
        })
    }
}

fn pack_sorted<K: Key>(packer: Packer, rows: &[u32]) -> Vec<K> {
    let rows = rows.chunks_exact(packer.width);
    let mut keys: Vec<K> = memory::collect(rows.map(|row| packer.pack(row)));
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn union<K: Key>(left: &[K], right: &[K]) -> Vec<K> {
    let mut all = memory::vec(left.len() + right.len());
    all.extend_from_slice(left);
    all.extend_from_slice(right);
    all.sort_unstable();
    all.dedup();
    all
}

fn intersection<K: Key>(left: &[K], right: &[K]) -> Vec<K> {
    let both = left.iter().filter(|key| right.binary_search(key).is_ok());
    memory::collect(both.copied())
}

fn read_keys<K: Key>(from: &mut FileReader, packer: Packer, vocab_size: u32) -> Result<Vec<K>> {
    let count = from.count(K::BYTES)?;
    let (mut all, mut check) = (memory::vec(count), KeyCheck::new(packer, vocab_size));
    from.records((count, K::BYTES), K::read, |keys| {
        all.extend_from_slice(keys);
        keys.iter().try_for_each(|&key| check.next(key))
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_algebra() -> Result<()> {
        for (width, vocab) in [(2, 50), (4, 1 << 20), (10, 1 << 20)] {
            let row = |first: u32| (0..width as u32).map(|i| first + i).collect::<Vec<_>>();
            let left = KgramSet::from_rows(&[row(3), row(1), row(3)].concat(), width, vocab)?;
            let right = KgramSet::from_rows(&[row(3), row(2)].concat(), width, vocab)?;
            assert_eq!(left.len(), 2);
            assert!(left.contains(&row(1)) && !left.contains(&row(2)) && !left.contains(&[1]));
            assert_eq!(left.intersection(&right)?.rows(), row(3));
            assert_eq!(
                left.union(&right)?.rows(),
                [row(1), row(2), row(3)].concat()
            );
        }
        let (two, three) = (
            KgramSet::from_rows(&[1, 2], 2, 9)?,
            KgramSet::from_rows(&[], 3, 9)?,
        );
        assert!(two.union(&three).is_err());
        assert!(KgramSet::from_rows(&[1, 9], 2, 9).is_err());
        Ok(())
    }
}
