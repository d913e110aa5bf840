//! Sets and counts of k-grams: the filter of the closed-model test.

use crate::error::{Error, Result};
use crate::input::documents::Documents;
use crate::input::partition::{PARTITIONS, Scattered, partition_of};
use crate::io::files;
use crate::io::records::{Reader, put_u64};
use crate::key::{Key, MAX_KGRAM_WIDTH, Packer, Wide};
use crate::threads::Pool;
use hashbrown::{HashMap, HashSet};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

const SET_MAGIC: [u8; 4] = *b"RSKG";
const COUNTS_MAGIC: [u8; 4] = *b"RSKC";
const VERSION: u32 = 2;
/// Bytes of an origin.
const LONGEST_ORIGIN: usize = 1 << 16;
/// Tokens of a chunk of counting.
const CHUNK: usize = 1 << 16;
/// Chunks between two looks at the caller's wish to stop.
const ROUND: usize = 64;

/// One value for each width of key.
enum ByWidth<A, B, C> {
    Narrow(A),
    Medium(B),
    Wide(C),
}

macro_rules! by_width {
    ($packer:expr, $new:expr) => {
        match $packer.window_bits() {
            ..=64 => ByWidth::Narrow($new),
            65..=128 => ByWidth::Medium($new),
            _ => ByWidth::Wide($new),
        }
    };
}

macro_rules! each {
    ($value:expr, $inner:ident => $body:expr) => {
        match $value {
            ByWidth::Narrow($inner) => $body,
            ByWidth::Medium($inner) => $body,
            ByWidth::Wide($inner) => $body,
        }
    };
}

macro_rules! pair {
    ($left:expr, $right:expr, ($a:ident, $b:ident) => $body:expr) => {
        match ($left, $right) {
            (ByWidth::Narrow($a), ByWidth::Narrow($b)) => ByWidth::Narrow($body),
            (ByWidth::Medium($a), ByWidth::Medium($b)) => ByWidth::Medium($body),
            (ByWidth::Wide($a), ByWidth::Wide($b)) => ByWidth::Wide($body),
            _ => {
                return Err(Error::Argument(
                    "the k-grams are of different widths".into(),
                ))
            }
        }
    };
}

fn check_width(width: usize) -> Result<()> {
    if (1..=MAX_KGRAM_WIDTH).contains(&width) {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "width must be from 1 to {MAX_KGRAM_WIDTH}, not {width}"
    )))
}

fn check_rows(rows: &[u32], width: usize, vocab_size: u32) -> Result<()> {
    match rows.iter().position(|&token| token >= vocab_size) {
        Some(at) => Err(Error::Tokens(format!(
            "token id {} of k-gram {} is outside the vocabulary of {vocab_size}",
            rows[at],
            at / width
        ))),
        None => Ok(()),
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

/// Refuses keys of a file that are not those of k-grams of the vocabulary, in order and once each:
/// a checksum only says that the file is as it was written.
fn check_keys<K: Key>(keys: &[K], packer: Packer, vocab_size: u32) -> Result<()> {
    let mut row = vec![0; packer.width];
    for (index, &key) in keys.iter().enumerate() {
        if index > 0 && keys[index - 1] >= key {
            return Err(Error::State(format!(
                "k-gram {index} is not in order, or there twice"
            )));
        }
        packer.unpack(key, &mut row);
        if key.mask(packer.window_bits()) != key || row.iter().any(|&token| token >= vocab_size) {
            return Err(Error::State(format!(
                "k-gram {index} is none of {} ids of a vocabulary of {vocab_size}",
                packer.width
            )));
        }
    }
    Ok(())
}

/// What `read` makes of the whole payload of a file; its errors name the file.
fn read_all<T>(
    path: &Path,
    payload: &[u8],
    read: impl FnOnce(&mut Reader) -> Result<T>,
) -> Result<T> {
    let mut reader = Reader::new(payload);
    let value = read(&mut reader).and_then(|value| reader.finish().map(|()| value));
    value.map_err(|error| Error::State(format!("{} is damaged: {error}", path.display())))
}

type Keys = ByWidth<Vec<u64>, Vec<u128>, Vec<Wide>>;

/// A set of k-grams over a vocabulary, sorted.
pub struct KgramSet {
    packer: Packer,
    vocab_size: u32,
    keys: Keys,
    origin: String,
    fingerprint: OnceLock<String>,
}

impl KgramSet {
    fn new(packer: Packer, vocab_size: u32, keys: Keys) -> Self {
        Self {
            packer,
            vocab_size,
            keys,
            origin: String::new(),
            fingerprint: OnceLock::new(),
        }
    }

    /// What is said of the set's making (by the layer above, which reads it): part of its content.
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
        check_width(width)?;
        let packer = Packer::new(width, vocab_size, false)?;
        check_rows(rows, width, vocab_size)?;
        let keys = by_width!(packer, pack_sorted(packer, rows));
        Ok(Self::new(packer, vocab_size, keys))
    }

    /// Tokens of a k-gram.
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

    /// Whether there is none.
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

    /// The contexts as keys of another packer, for lookups while windows are cut.
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
        let keys = pair!(&self.keys, &other.keys, (a, b) => union(a, b));
        Ok(Self::new(self.packer, self.vocab_size, keys))
    }

    /// K-grams of both sets.
    pub fn intersection(&self, other: &Self) -> Result<Self> {
        self.check_same(other)?;
        let keys = pair!(&self.keys, &other.keys, (a, b) => intersection(a, b));
        Ok(Self::new(self.packer, self.vocab_size, keys))
    }

    fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u64(&mut out, self.width() as u64);
        put_u64(&mut out, self.vocab_size.into());
        write_origin(&self.origin, &mut out);
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
        files::write_file(path, SET_MAGIC, VERSION, &self.payload())
    }

    /// Loads what [`KgramSet::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let payload = files::read_file(path, SET_MAGIC, VERSION, "k-gram set")?;
        read_all(path, &payload, |reader| {
            let (packer, vocab_size) = read_shape(reader)?;
            let origin = read_origin(reader)?;
            let keys = by_width!(packer, read_keys(reader, packer, vocab_size)?);
            Self::new(packer, vocab_size, keys).with_origin(&origin)
        })
    }
}

fn check_origin(origin: &str) -> Result<()> {
    match origin.len() > LONGEST_ORIGIN {
        true => Err(Error::Argument(format!(
            "an origin has at most {LONGEST_ORIGIN} bytes, not {}",
            origin.len()
        ))),
        false => Ok(()),
    }
}

fn write_origin(origin: &str, out: &mut Vec<u8>) {
    put_u64(out, origin.len() as u64);
    out.extend_from_slice(origin.as_bytes());
}

fn read_origin(reader: &mut Reader) -> Result<String> {
    let len = reader.u64()? as usize;
    if len > LONGEST_ORIGIN {
        return Err(Error::State("the origin is too long".into()));
    }
    let bytes = reader.take(len)?.to_vec();
    String::from_utf8(bytes).map_err(|_| Error::State("the origin is not UTF-8".into()))
}

fn read_shape(reader: &mut Reader) -> Result<(Packer, u32)> {
    let width = reader.u64()? as usize;
    let vocab_size = u32::try_from(reader.u64()?).unwrap_or(u32::MAX);
    check_width(width)?;
    Ok((Packer::new(width, vocab_size, false)?, vocab_size))
}

/// Counts by partition.
type Counter<K> = Vec<HashMap<K, u64>>;

fn new_counter<K: Key>() -> Counter<K> {
    (0..PARTITIONS).map(|_| HashMap::new()).collect()
}

fn partition<K: Key>(key: K) -> usize {
    partition_of(key.mix())
}

fn count_range<K: Key>(
    counter: &mut Counter<K>,
    packer: Packer,
    documents: &Documents,
    range: Range<usize>,
) -> Result<()> {
    let starts: Vec<usize> = range.clone().step_by(CHUNK).collect();
    let batches: Vec<Scattered<K>> = starts
        .par_iter()
        .map_init(Vec::new, |tokens, &from| {
            let keys = chunk_keys(packer, documents, from..range.end.min(from + CHUNK), tokens);
            Scattered::new(&keys, |&key| partition(key))
        })
        .collect();
    counter
        .par_iter_mut()
        .enumerate()
        .try_for_each(|(index, counts)| {
            for &key in batches.iter().flat_map(|batch| batch.part(index)) {
                let count = counts.entry(key).or_insert(0);
                *count = count
                    .checked_add(1)
                    .ok_or_else(|| too_often(packer, key, *count, 1))?;
            }
            Ok(())
        })
}

fn too_often<K: Key>(packer: Packer, key: K, count: u64, more: u64) -> Error {
    let mut kgram = vec![0; packer.width];
    packer.unpack(key, &mut kgram);
    Error::Tokens(format!(
        "the k-gram {kgram:?} occurs {} times; a count is at most {}",
        u128::from(count) + u128::from(more),
        u64::MAX
    ))
}

/// The k-grams that end in a token range of the documents.
fn chunk_keys<K: Key>(
    packer: Packer,
    documents: &Documents,
    range: Range<usize>,
    tokens: &mut Vec<u32>,
) -> Vec<K> {
    let base = documents.start(0);
    let mut keys = Vec::with_capacity(range.len());
    let mut document = documents.document_at(base + range.start);
    while document < documents.len() && documents.start(document) - base < range.end {
        let begin = documents.start(document) - base;
        let to = documents.document_len(document).min(range.end - begin);
        let from = range
            .start
            .saturating_sub(begin)
            .saturating_sub(packer.width - 1);
        if from < to {
            tokens.clear();
            documents.copy_to(document, from, to, tokens);
            keys.extend(
                tokens
                    .windows(packer.width)
                    .map(|run| packer.pack::<K>(run)),
            );
        }
        document += 1;
    }
    keys
}

/// Adds all counts, or none where a sum is too large.
fn add_counts<K: Key>(
    counter: &mut Counter<K>,
    packer: Packer,
    rows: &[u32],
    counts: &[u64],
) -> Result<()> {
    let mut sums: HashMap<K, u64> = HashMap::new();
    for (row, &count) in rows.chunks_exact(packer.width).zip(counts) {
        let key: K = packer.pack(row);
        let known = counter[partition(key)].get(&key).copied().unwrap_or(0);
        let sum = sums.entry(key).or_insert(known);
        *sum = sum
            .checked_add(count)
            .ok_or_else(|| too_often(packer, key, *sum, count))?;
    }
    for (key, sum) in sums {
        counter[partition(key)].insert(key, sum);
    }
    Ok(())
}

fn count_of<K: Key>(counter: &Counter<K>, packer: Packer, kgram: &[u32]) -> u64 {
    let key: K = packer.pack(kgram);
    counter[partition(key)].get(&key).copied().unwrap_or(0)
}

fn sorted_counts<K: Key>(counter: &Counter<K>) -> Vec<(K, u64)> {
    let mut all: Vec<(K, u64)> = counter
        .iter()
        .flatten()
        .map(|(&key, &n)| (key, n))
        .collect();
    all.sort_unstable();
    all
}

fn top<K: Key>(counter: &Counter<K>, n: usize, min_count: u64) -> Vec<K> {
    let mut all = sorted_counts(counter);
    all.retain(|&(_, count)| count >= min_count);
    if n < all.len() {
        all.par_sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(n);
        all.par_sort_unstable();
    }
    all.into_iter().map(|(key, _)| key).collect()
}

fn write_counts<K: Key>(counter: &Counter<K>, out: &mut Vec<u8>) {
    let all = sorted_counts(counter);
    put_u64(out, all.len() as u64);
    for (key, count) in all {
        key.write(out);
        put_u64(out, count);
    }
}

fn read_counts<K: Key>(reader: &mut Reader, packer: Packer, vocab_size: u32) -> Result<Counter<K>> {
    let records = reader.records(K::BYTES + 8)?;
    let keys: Vec<K> = records
        .clone()
        .map(|record| K::read(&record[..K::BYTES]))
        .collect();
    check_keys(&keys, packer, vocab_size)?;
    let mut counter = new_counter();
    for (key, record) in keys.into_iter().zip(records) {
        counter[partition(key)].insert(key, <u64 as Key>::read(&record[K::BYTES..]));
    }
    Ok(counter)
}

/// How often each k-gram occurs.
pub struct KgramCounts {
    packer: Packer,
    vocab_size: u32,
    counts: ByWidth<Counter<u64>, Counter<u128>, Counter<Wide>>,
    origin: String,
}

impl KgramCounts {
    /// No counts yet.
    pub fn new(width: usize, vocab_size: u32) -> Result<Self> {
        check_width(width)?;
        let packer = Packer::new(width, vocab_size, false)?;
        Ok(Self {
            packer,
            vocab_size,
            counts: by_width!(packer, new_counter()),
            origin: String::new(),
        })
    }

    /// As of a set.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// From now on this is said of their making.
    pub fn set_origin(&mut self, origin: &str) -> Result<()> {
        check_origin(origin)?;
        self.origin = origin.into();
        Ok(())
    }

    /// Tokens of a k-gram.
    pub fn width(&self) -> usize {
        self.packer.width
    }

    /// Size of the vocabulary.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// Number of distinct k-grams.
    pub fn len(&self) -> usize {
        each!(&self.counts, counter => counter.iter().map(HashMap::len).sum())
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sum of all counts.
    pub fn total(&self) -> u128 {
        each!(&self.counts, counter => {
            counter.iter().flat_map(HashMap::values).map(|&count| u128::from(count)).sum()
        })
    }

    /// Counts the k-grams of documents, in `pool`. When `check` fails, what was counted so far
    /// stays counted.
    pub fn add(
        &mut self,
        documents: &Documents,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let packer = self.packer;
        each!(&mut self.counts, counter => {
            let total = documents.n_tokens();
            for from in (0..total).step_by(CHUNK * ROUND) {
                check()?;
                let to = total.min(from + CHUNK * ROUND);
                pool.install(|| count_range(counter, packer, documents, from..to))?;
            }
            Ok(())
        })
    }

    /// Adds given counts of given k-grams (rows of token ids): all of them, or none on an error.
    pub fn add_rows(&mut self, rows: &[u32], counts: &[u64]) -> Result<()> {
        check_rows(rows, self.width(), self.vocab_size)?;
        let packer = self.packer;
        each!(&mut self.counts, counter => add_counts(counter, packer, rows, counts))
    }

    /// How often a k-gram occurs.
    pub fn get(&self, kgram: &[u32]) -> u64 {
        if kgram.len() != self.width() || kgram.iter().any(|&token| token >= self.vocab_size) {
            return 0;
        }
        each!(&self.counts, counter => count_of(counter, self.packer, kgram))
    }

    /// The `n` most frequent k-grams that occur at least `min_count` times. Of equally frequent
    /// ones those come first whose token ids come first in lexicographic order.
    pub fn top(&self, n: usize, min_count: u64) -> KgramSet {
        Pool::shared().install(|| self.select(n, min_count))
    }

    fn select(&self, n: usize, min_count: u64) -> KgramSet {
        let keys = match &self.counts {
            ByWidth::Narrow(counter) => ByWidth::Narrow(top(counter, n, min_count)),
            ByWidth::Medium(counter) => ByWidth::Medium(top(counter, n, min_count)),
            ByWidth::Wide(counter) => ByWidth::Wide(top(counter, n, min_count)),
        };
        KgramSet::new(self.packer, self.vocab_size, keys)
    }

    /// All k-grams in lexicographic order (rows of token ids) with their counts.
    pub fn rows(&self) -> (Vec<u32>, Vec<u64>) {
        each!(&self.counts, counter => {
            let (keys, counts): (Vec<_>, Vec<u64>) = sorted_counts(counter).into_iter().unzip();
            (self.packer.unpack_all(&keys), counts)
        })
    }

    /// Saves the counts.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut out = Vec::new();
        put_u64(&mut out, self.width() as u64);
        put_u64(&mut out, self.vocab_size.into());
        write_origin(&self.origin, &mut out);
        each!(&self.counts, counter => write_counts(counter, &mut out));
        files::write_file(path, COUNTS_MAGIC, VERSION, &out)
    }

    /// Loads what [`KgramCounts::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let payload = files::read_file(path, COUNTS_MAGIC, VERSION, "k-gram count file")?;
        read_all(path, &payload, |reader| {
            let (packer, vocab_size) = read_shape(reader)?;
            let origin = read_origin(reader)?;
            Ok(Self {
                packer,
                vocab_size,
                counts: by_width!(packer, read_counts(reader, packer, vocab_size)?),
                origin,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::documents::TokenSlice;

    #[test]
    fn counts_never_cross_documents() -> Result<()> {
        let values = [1u16, 2, 1, 2, 3, 1, 2];
        let documents = Documents::new(TokenSlice::U16(&values), &[0, 4, 4, 7], 10)?;
        for width in [1, 2, 3, 16] {
            let mut counts = KgramCounts::new(width, 10)?;
            counts.add(&documents, Pool::shared(), &mut || Ok(()))?;
            assert_eq!(
                counts.total(),
                [7, 5, 3][..].get(width - 1).copied().unwrap_or(0)
            );
        }
        let mut counts = KgramCounts::new(2, 10)?;
        counts.add(&documents, Pool::shared(), &mut || Ok(()))?;
        assert_eq!(counts.rows(), (vec![1, 2, 2, 1, 3, 1], vec![3, 1, 1]));
        assert_eq!(
            (counts.get(&[1, 2]), counts.get(&[2, 3]), counts.get(&[1])),
            (3, 0, 0)
        );
        // Ties: lexicographically first.
        assert_eq!(counts.top(2, 1).rows(), [1, 2, 2, 1]);
        assert_eq!(counts.top(9, 2).rows(), [1, 2]);
        Ok(())
    }

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

    #[test]
    fn counts_never_wrap() -> Result<()> {
        let mut counts = KgramCounts::new(2, 10)?;
        counts.add_rows(&[1, 2, 3, 4], &[u64::MAX, u64::MAX])?;
        assert_eq!(counts.total(), 2 * u128::from(u64::MAX));
        let before = counts.rows();
        let more = counts.add_rows(&[5, 6, 3, 4], &[1, 1]);
        assert!(
            matches!(more, Err(Error::Tokens(text)) if text.contains("[3, 4] occurs 18446744073709551616 times"))
        );
        assert_eq!(counts.rows(), before);
        let documents = Documents::new(TokenSlice::U16(&[1, 2]), &[0, 2], 10)?;
        let more = counts.add(&documents, Pool::shared(), &mut || Ok(()));
        assert!(matches!(more, Err(Error::Tokens(text)) if text.contains("[1, 2]")));
        assert_eq!(counts.rows(), before);
        Ok(())
    }
}
