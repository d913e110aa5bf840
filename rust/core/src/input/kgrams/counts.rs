//! How often each k-gram occurs.

use super::keys::{
    ByWidth, KeyCheck, VERSION, by_width, check_origin, check_rows, each, map_width, packer_for,
    read_head, write_head,
};
use super::set::KgramSet;
use crate::error::{Error, Result};
use crate::input::documents::Documents;
use crate::input::partition::{PARTITIONS, Scattered, partition_of};
use crate::interrupt::Check;
use crate::io::files::{FileReader, FileWriter, SavedFile};
use crate::io::records::put_u64;
use crate::key::{Key, Packer, Wide};
use crate::memory;
use crate::threads::Pool;
use hashbrown::HashMap;
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;

const MAGIC: [u8; 4] = *b"RSKC";
/// Tokens that one worker counts at a time.
const CHUNK: usize = 1 << 16;
/// Chunks between two interrupt checks.
const ROUND: usize = 64;

/// Counts by partition of the key's hash; no count is 0.
type Counter<K> = Vec<HashMap<K, u64>>;

/// How often each k-gram over a vocabulary occurs.
///
/// Counting scatters the keys of [`ROUND`] chunks by partition, then every partition counts its own:
/// no locks, and results that do not depend on the number of threads. Counts never wrap.
pub struct KgramCounts {
    packer: Packer,
    vocab_size: u32,
    counts: ByWidth<Counter<u64>, Counter<u128>, Counter<Wide>>,
    origin: String,
}

impl KgramCounts {
    /// No counts yet.
    pub fn new(width: usize, vocab_size: u32) -> Result<Self> {
        let packer = packer_for(width, vocab_size)?;
        Ok(Self {
            packer,
            vocab_size,
            counts: by_width!(packer, new_counter()),
            origin: String::new(),
        })
    }

    /// How the counts were made, as in [`KgramSet::origin`].
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Sets the origin.
    pub fn set_origin(&mut self, origin: &str) -> Result<()> {
        check_origin(origin)?;
        self.origin = origin.into();
        Ok(())
    }

    /// Tokens in a k-gram.
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

    /// Counts the k-grams of documents, in `pool`. If `check` fails, what was counted so far stays
    /// counted.
    pub fn add(&mut self, documents: &Documents, pool: &Pool, check: &mut Check<'_>) -> Result<()> {
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

    /// Adds counts of k-grams, given as rows of token ids: all of them, or none on an error.
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

    /// The `n` most frequent k-grams that occur at least `min_count` times; of equally frequent ones,
    /// the first in lexicographic order of their ids.
    pub fn top(&self, n: usize, min_count: u64) -> KgramSet {
        let keys = Pool::shared()
            .install(|| map_width!(&self.counts, counter => top(counter, n, min_count)));
        KgramSet::new(self.packer, self.vocab_size, keys)
    }

    /// All k-grams in lexicographic order (rows of token ids) with their counts.
    pub fn rows(&self) -> (Vec<u32>, Vec<u64>) {
        each!(&self.counts, counter => {
            let sorted = sorted_counts(counter);
            let keys: Vec<_> = memory::collect(sorted.iter().map(|pair| pair.0));
            let counts = memory::collect(sorted.iter().map(|pair| pair.1));
            drop(sorted);
            (self.packer.unpack_all(&keys), counts)
        })
    }

    /// Saves the counts.
    pub fn save(&self, path: &Path) -> Result<()> {
        FileWriter::save(path, MAGIC, VERSION, |out| {
            write_head(out, (self.width(), self.vocab_size), &self.origin)?;
            each!(&self.counts, counter => write_counts(counter, out))
        })
    }

    /// Loads what [`KgramCounts::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        SavedFile::open(path, MAGIC, VERSION, "k-gram count file")?.read(|from| {
            let (packer, vocab_size, origin) = read_head(from)?;
            Ok(Self {
                packer,
                vocab_size,
                counts: by_width!(packer, read_counts(from, packer, vocab_size)?),
                origin,
            })
        })
    }
}

fn new_counter<K: Key>() -> Counter<K> {
    (0..PARTITIONS).map(|_| HashMap::new()).collect()
}

fn partition<K: Key>(key: K) -> usize {
    partition_of(key.mix())
}

/// Counts the k-grams that end in a token range.
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
            for &key in batches.iter().flat_map(|batch| batch.partition(index)) {
                memory::reserve_entries(counts, 1);
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

/// The keys of the k-grams that end in a token range.
fn chunk_keys<K: Key>(
    packer: Packer,
    documents: &Documents,
    range: Range<usize>,
    tokens: &mut Vec<u32>,
) -> Vec<K> {
    let base = documents.start(0);
    let mut keys = memory::vec(range.len());
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
            let runs = tokens.windows(packer.width);
            memory::append(&mut keys, runs.map(|run| packer.pack::<K>(run)));
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
        memory::reserve_entries(&mut sums, 1);
        let sum = sums.entry(key).or_insert(known);
        *sum = sum
            .checked_add(count)
            .ok_or_else(|| too_often(packer, key, *sum, count))?;
    }
    for (key, sum) in sums {
        memory::reserve_entries(&mut counter[partition(key)], 1);
        counter[partition(key)].insert(key, sum);
    }
    Ok(())
}

fn count_of<K: Key>(counter: &Counter<K>, packer: Packer, kgram: &[u32]) -> u64 {
    let key: K = packer.pack(kgram);
    counter[partition(key)].get(&key).copied().unwrap_or(0)
}

fn sorted_counts<K: Key>(counter: &[HashMap<K, u64>]) -> Vec<(K, u64)> {
    let mut all: Vec<(K, u64)> = memory::vec(counter.iter().map(HashMap::len).sum());
    all.extend(counter.iter().flatten().map(|(&key, &n)| (key, n)));
    all.sort_unstable();
    all
}

fn top<K: Key>(counter: &Counter<K>, n: usize, min_count: u64) -> Vec<K> {
    let mut all = sorted_counts(counter);
    all.retain(|&(_, count)| count >= min_count);
    if n < all.len() {
        all.par_sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(n);
        all.par_sort_unstable();
    }
    memory::collect(all.into_iter().map(|(key, _)| key))
}

/// Writes the counts partition by partition, those of each in ascending order of their k-grams.
fn write_counts<K: Key>(counter: &Counter<K>, out: &mut FileWriter) -> Result<()> {
    for counts in counter {
        let sorted = sorted_counts(std::slice::from_ref(counts));
        out.put_u64(sorted.len() as u64)?;
        out.put_all(sorted, |(key, count), out| {
            key.write(out);
            put_u64(out, count);
        })?;
    }
    Ok(())
}

fn read_counts<K: Key>(
    from: &mut FileReader,
    packer: Packer,
    vocab_size: u32,
) -> Result<Counter<K>> {
    let mut counter = new_counter();
    for (index, counts) in counter.iter_mut().enumerate() {
        let size = K::BYTES + 8;
        let number = from.count(size)?;
        memory::reserve_entries(counts, number);
        let mut check = KeyCheck::new(packer, vocab_size);
        let record = |raw: &[u8]| {
            (
                K::read(&raw[..K::BYTES]),
                <u64 as Key>::read(&raw[K::BYTES..]),
            )
        };
        from.records((number, size), record, |records| {
            records.iter().try_for_each(|&(key, _)| check.next(key))?;
            for &(key, count) in records {
                if partition(key) != index {
                    return Err(Error::State("a count is out of place".into()));
                }
                counts.insert(key, count);
            }
            Ok(())
        })?;
    }
    Ok(counter)
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
