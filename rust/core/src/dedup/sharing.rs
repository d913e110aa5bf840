//! What the documents of a corpus share. Under one key a unit has the same score in every document that
//! holds it, so it is evidence only in the first few of them; documents with the same units are one test.

use crate::error::{Error, Result};
use crate::input::partition::{PARTITIONS, Scattered, partition_of};
use crate::io::files::{FileWriter, SavedFile};
use crate::io::records::put_u64;
use crate::key::Key;
use crate::memory;
use crate::threads::Pool;
use hashbrown::{HashMap, HashTable, hash_map, hash_table};
use rayon::prelude::*;
use std::path::Path;

const MAGIC: [u8; 4] = *b"RSSH";
const VERSION: u32 = 2;
const WHAT: &str = "table of shared units";
/// Bits of an entry that count documents; the others are the unit's fingerprint.
const COUNT: u64 = 0xFF;

/// What became of a unit of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No earlier document holds it.
    Fresh,
    /// Earlier documents hold it, and it is evidence here too.
    Common,
    /// Enough earlier documents use it already, or the document is a copy.
    Shared,
}

/// One document's units, as [`fingerprint`]s, each once.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Number of the document within the call.
    pub document: usize,
    /// Its units.
    pub units: usize,
}

/// Units and documents seen so far.
///
/// A unit takes 9 bytes and some reserve: 56 bits of a fingerprint and the count of its documents.
/// Two of n units have one fingerprint with probability n^2 / 2^57; one of them is then counted for
/// the other, which can drop evidence and invents none.
#[derive(Debug)]
pub struct Sharing {
    most: u8,
    units: Vec<HashTable<u64>>,
    /// The first document with these units.
    documents: HashMap<u128, u64>,
    n_documents: u64,
    journal: Journal,
}

/// What the last call changed.
#[derive(Debug, Default)]
struct Journal {
    counted: Vec<u64>,
    added: Vec<u128>,
    n_documents: u64,
}

/// A fixed 64-bit function of a unit, which stands for it.
#[inline]
pub fn fingerprint<K: Key>(unit: K) -> u64 {
    finish(unit.fold().rotate_left(32) ^ unit.mix())
}

/// The last steps of MurmurHash3.
#[inline]
fn finish(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    x = (x ^ (x >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    x ^ (x >> 33)
}

#[inline]
fn hash_of(entry: &u64) -> u64 {
    (entry >> 8).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[inline]
fn same(entry: u64, print: u64) -> bool {
    (entry ^ print) <= COUNT
}

/// A document's identity: its units, in any order.
fn identity(prints: &[u64]) -> u128 {
    let (mut low, mut high) = (0u64, prints.len() as u64);
    for &print in prints {
        low = low.wrapping_add(print);
        high = high.wrapping_add(finish(print ^ 0x9E37_79B9_7F4A_7C15));
    }
    u128::from(high) << 64 | u128::from(low)
}

impl Sharing {
    /// Units are evidence in the first `most` documents that hold them, from 1 to 255.
    pub fn new(most: u64) -> Result<Self> {
        let most = u8::try_from(most).ok().filter(|&most| most > 0);
        Ok(Self {
            most: most.ok_or_else(|| {
                Error::Argument("max_sharing must be from 1 to 255 documents".into())
            })?,
            units: vec![HashTable::new(); PARTITIONS],
            documents: HashMap::new(),
            n_documents: 0,
            journal: Journal::default(),
        })
    }

    /// Documents seen.
    pub fn n_documents(&self) -> u64 {
        self.n_documents
    }

    /// Begins a call, which [`Sharing::undo`] can take back until the next one begins.
    pub fn begin(&mut self) {
        self.journal.counted.clear();
        self.journal.added.clear();
        self.journal.n_documents = self.n_documents;
    }

    /// Ends a call that saw so many documents.
    pub fn end(&mut self, documents: usize) {
        self.n_documents += documents as u64;
    }

    /// Takes the last call back.
    pub fn undo(&mut self) {
        for print in std::mem::take(&mut self.journal.counted) {
            let table = &mut self.units[partition_of(print)];
            if let Ok(mut found) = table.find_entry(hash_of(&print), |&entry| same(entry, print)) {
                if found.get() & COUNT > 1 {
                    *found.get_mut() -= 1;
                } else {
                    found.remove();
                }
            }
        }
        for document in std::mem::take(&mut self.journal.added) {
            self.documents.remove(&document);
        }
        self.n_documents = self.journal.n_documents;
    }

    /// Judges the units of some documents, in reading order, and counts them. Returns a verdict for
    /// each unit, and for each document the earlier one that it copies.
    pub fn judge(
        &mut self,
        pool: &Pool,
        spans: &[Span],
        prints: &[u64],
    ) -> (Vec<Verdict>, Vec<Option<u64>>) {
        let mut verdicts = memory::filled(Verdict::Fresh, prints.len());
        let mut copies = memory::vec(spans.len());
        let mut records = memory::vec(prints.len());
        let mut from = 0;
        for span in spans {
            let own = &prints[from..from + span.units];
            let number = self.n_documents + span.document as u64;
            let first = self.first_with(own, number);
            if first.is_some() {
                verdicts[from..from + span.units].fill(Verdict::Shared);
            } else {
                records.extend(own.iter().enumerate().map(|(i, &print)| (print, from + i)));
            }
            copies.push(first);
            from += span.units;
        }
        let scattered = Scattered::new(&records, |record| partition_of(record.0));
        let (most, units) = (self.most, &mut self.units);
        let judged: Vec<_> = pool.install(|| {
            let tables = units.par_iter_mut().enumerate();
            tables
                .map(|(i, table)| judge_in(table, most, scattered.partition(i)))
                .collect()
        });
        for (known, counted) in judged {
            for (at, verdict) in known {
                verdicts[at] = verdict;
            }
            memory::extend(&mut self.journal.counted, &counted);
        }
        (verdicts, copies)
    }

    /// The earlier document with the same units; else this one becomes the first with them.
    fn first_with(&mut self, prints: &[u64], number: u64) -> Option<u64> {
        if prints.is_empty() {
            return None;
        }
        let document = identity(prints);
        memory::reserve_entries(&mut self.documents, 1);
        memory::reserve(&mut self.journal.added, 1);
        match self.documents.entry(document) {
            hash_map::Entry::Occupied(first) => Some(*first.get()),
            hash_map::Entry::Vacant(entry) => {
                entry.insert(number);
                self.journal.added.push(document);
                None
            }
        }
    }

    /// Saves all to a file, in place of an older one.
    pub fn save(&self, path: &Path) -> Result<()> {
        FileWriter::save(path, MAGIC, VERSION, |out| {
            out.put_u64(self.most.into())?;
            out.put_u64(self.n_documents)?;
            out.put_u64(self.documents.len() as u64)?;
            out.put_all(&self.documents, |(document, &number), out| {
                document.write(out);
                put_u64(out, number);
            })?;
            for table in &self.units {
                out.put_u64(table.len() as u64)?;
                out.put_all(table, |&entry, out| put_u64(out, entry))?;
            }
            Ok(())
        })
    }

    /// Loads what [`Sharing::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        SavedFile::open(path, MAGIC, VERSION, WHAT)?.read(|from| {
            let impossible = |_| Error::State("it has an impossible count".into());
            let mut sharing = Self::new(from.u64()?).map_err(impossible)?;
            sharing.n_documents = from.u64()?;
            let count = from.count(24)?;
            memory::reserve_entries(&mut sharing.documents, count);
            let pair = |record: &[u8]| {
                let (document, number) = record.split_at(16);
                (<u128 as Key>::read(document), <u64 as Key>::read(number))
            };
            from.records((count, 24), pair, |pairs| {
                sharing.documents.extend(pairs.iter().copied());
                Ok(())
            })?;
            for (index, table) in sharing.units.iter_mut().enumerate() {
                let count = from.count(8)?;
                memory::reserve_slots(table, count, hash_of);
                from.records((count, 8), <u64 as Key>::read, |entries| {
                    for &entry in entries {
                        if partition_of(entry) != index || entry & COUNT == 0 {
                            return Err(Error::State("it holds a unit out of place".into()));
                        }
                        table.insert_unique(hash_of(&entry), entry, hash_of);
                    }
                    Ok(())
                })?;
            }
            Ok(sharing)
        })
    }
}

/// Units that are not fresh, by their position, and those that were counted once more.
type Judged = (Vec<(usize, Verdict)>, Vec<u64>);

fn judge_in(table: &mut HashTable<u64>, most: u8, records: &[(u64, usize)]) -> Judged {
    let (mut known, mut counted) = (Vec::new(), memory::vec(records.len()));
    for &(print, at) in records {
        let hash = hash_of(&print);
        memory::reserve_slots(table, 1, hash_of);
        match table.entry(hash, |&entry| same(entry, print), hash_of) {
            hash_table::Entry::Vacant(entry) => {
                entry.insert((print & !COUNT) | 1);
                counted.push(print);
            }
            hash_table::Entry::Occupied(mut entry) => {
                if *entry.get() & COUNT < u64::from(most) {
                    *entry.get_mut() += 1;
                    counted.push(print);
                    memory::push(&mut known, (at, Verdict::Common));
                } else {
                    memory::push(&mut known, (at, Verdict::Shared));
                }
            }
        }
    }
    (known, counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(sharing: &mut Sharing, documents: &[&[u64]]) -> (Vec<Verdict>, Vec<Option<u64>>) {
        let spans: Vec<_> = documents
            .iter()
            .enumerate()
            .map(|(document, units)| Span {
                document,
                units: units.len(),
            })
            .collect();
        let prints: Vec<_> = documents.concat().into_iter().map(fingerprint).collect();
        sharing.begin();
        let found = sharing.judge(Pool::shared(), &spans, &prints);
        sharing.end(documents.len());
        found
    }

    #[test]
    fn the_first_documents_use_a_unit() -> Result<()> {
        use Verdict::{Common, Fresh, Shared};
        let mut sharing = Sharing::new(2)?;
        let (verdicts, copies) = judge(&mut sharing, &[&[1, 2], &[2, 3], &[2, 4], &[3, 2], &[]]);
        let expected = [Fresh, Fresh, Common, Fresh, Shared, Fresh, Shared, Shared];
        assert_eq!(verdicts, expected);
        assert_eq!(copies, [None, None, None, Some(1), None]);
        let path = std::env::temp_dir().join(format!("radscore-sharing-{}", std::process::id()));
        sharing.save(&path)?;
        let mut loaded = Sharing::load(&path)?;
        let next: [&[u64]; 3] = [&[4, 2], &[5, 3], &[6, 3]];
        let expected = (
            vec![Shared, Shared, Fresh, Common, Fresh, Shared],
            vec![Some(2), None, None],
        );
        for sharing in [&mut sharing, &mut loaded] {
            for _ in 0..3 {
                assert_eq!(judge(sharing, &next), expected);
                assert_eq!(sharing.n_documents(), 8);
                sharing.undo();
                assert_eq!(sharing.n_documents(), 5);
            }
        }
        let _ = std::fs::remove_file(&path);
        assert!(Sharing::new(0).is_err() && Sharing::new(256).is_err());
        Ok(())
    }
}
