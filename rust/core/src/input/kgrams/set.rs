//! A set of k-grams.

use super::keys::{
    ByWidth, VERSION, by_width, check_keys, check_origin, check_rows, each, packer_for, read_all,
    read_head, write_head,
};
use crate::error::{Error, Result};
use crate::io::files;
use crate::io::records::{Reader, put_u64};
use crate::key::{Key, Packer, Wide};
use hashbrown::HashSet;
use sha2::{Digest, Sha256};
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
        self.rows()
            .chunks_exact(self.packer.width)
            .map(|row| packer.pack(row))
            .collect()
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

    fn payload(&self) -> Vec<u8> {
        let mut out = write_head(self.width(), self.vocab_size, &self.origin);
        each!(&self.keys, keys => write_keys(keys, &mut out));
        out
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the content.
    pub fn fingerprint(&self) -> &str {
        self.fingerprint.get_or_init(|| {
            let digest = Sha256::digest(self.payload());
            digest[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        })
    }

    /// Saves the set.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_file(path, MAGIC, VERSION, &self.payload())
    }

    /// Loads what [`KgramSet::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let payload = files::read_file(path, MAGIC, VERSION, "k-gram set")?;
        read_all(path, &payload, |reader| {
            let (packer, vocab_size, origin) = read_head(reader)?;
            let keys = by_width!(packer, read_keys(reader, packer, vocab_size)?);
            Self::new(packer, vocab_size, keys).with_origin(&origin)
        })
    }
}

fn pack_sorted<K: Key>(packer: Packer, rows: &[u32]) -> Vec<K> {
    let mut keys: Vec<K> = rows
        .chunks_exact(packer.width)
        .map(|row| packer.pack(row))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn union<K: Key>(left: &[K], right: &[K]) -> Vec<K> {
    let mut all = [left, right].concat();
    all.sort_unstable();
    all.dedup();
    all
}

fn intersection<K: Key>(left: &[K], right: &[K]) -> Vec<K> {
    left.iter()
        .filter(|key| right.binary_search(key).is_ok())
        .copied()
        .collect()
}

fn write_keys<K: Key>(keys: &[K], out: &mut Vec<u8>) {
    put_u64(out, keys.len() as u64);
    keys.iter().for_each(|key| key.write(out));
}

fn read_keys<K: Key>(reader: &mut Reader, packer: Packer, vocab_size: u32) -> Result<Vec<K>> {
    let keys: Vec<K> = reader.records(K::BYTES)?.map(K::read).collect();
    check_keys(&keys, packer, vocab_size)?;
    Ok(keys)
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
