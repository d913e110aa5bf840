//! Files of work units: the windows of one unit by partition, with what lies where and a checksum
//! a partition. A file appears under its name only when it is whole.

use crate::dedup::scatter::Run;
use crate::dedup::store::Store;
use crate::error::{Error, Result};
use crate::input::counts::Counts;
use crate::io::atomic::AtomicFile;
use crate::io::checksum::Checksum;
use crate::io::records::{Reader, put_u64};
use crate::key::{Key, Widest};
use crate::recycler::BlockRecycler;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"RSWU";
const VERSION: u32 = 2;
/// Bytes before the fields of the header: magic, version, length of the fields.
const HEAD: usize = 16;
const DIGEST: usize = 32;
/// Bytes that are written at one go.
const BUFFER: usize = 1 << 20;

/// The number of a file that is of no work unit.
pub const NO_UNIT: u64 = u64::MAX;

/// What the windows of a file were made with: equal hashes, equal meaning.
pub type Configuration = [u8; 32];

/// Keys and checksum of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Keys of the section before it.
    before: u64,
    keys: u64,
    sum: u64,
}

/// The windows of one frame in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    /// The partition of the first entry.
    first: usize,
    key_bytes: u64,
    counts: Counts,
    /// Repetitions that were left out when the file was written.
    duplicates: u64,
    bits: u32,
    /// Where the section's keys begin.
    place: u64,
    entries: Vec<Entry>,
}

/// Writes a file section by section; nothing stands under its name before [`Writer::finish`].
pub struct Writer {
    file: AtomicFile,
    configuration: Configuration,
    unit: u64,
    expected: Vec<(u64, u32)>,
    sections: Vec<Section>,
    place: u64,
    durable: bool,
}

fn storage(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let reason = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full; what was finished is kept: free space and run the same again".into()
        }
        _ => error.to_string(),
    };
    Error::Storage(format!("cannot {what} {}: {reason}", path.display()))
}

impl Writer {
    /// Begins a file of work unit `unit` whose sections will have keys of so many bytes and so
    /// many partitions (as bits).
    pub fn create(
        path: &Path,
        configuration: Configuration,
        unit: u64,
        expected: &[(u64, u32)],
    ) -> Result<Self> {
        let file = AtomicFile::create(path).map_err(|error| storage("write", path, &error))?;
        let place = (HEAD + header_len(expected) + DIGEST).next_multiple_of(64) as u64;
        Ok(Self {
            file,
            configuration,
            unit,
            expected: expected.to_vec(),
            sections: Vec::new(),
            place,
            durable: true,
        })
    }

    /// The file need not outlive the process: nothing waits for the disk.
    pub fn temporary(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Begins the next section.
    pub fn section(&mut self, counts: Counts, duplicates: u64) {
        let (key_bytes, bits) = self.expected[self.sections.len()];
        self.sections.push(Section {
            first: 0,
            key_bytes,
            counts,
            duplicates,
            bits,
            place: self.place,
            entries: Vec::new(),
        });
    }

    /// Adds repetitions that were left out to the section.
    pub fn removed(&mut self, more: u64) {
        if let Some(section) = self.sections.last_mut() {
            section.duplicates += more;
        }
    }

    /// Appends the partitions of a store to the section. Several workers write, each its place.
    pub fn partitions<K: Key>(&mut self, store: &Store<K>) -> Result<()> {
        let Some(section) = self.sections.last_mut() else {
            return Ok(());
        };
        let last = section.entries.last();
        let mut before = last.map_or(0, |last| last.before + last.keys);
        let first = before;
        let mut groups: Vec<(u64, Range<usize>)> = Vec::new();
        let mut size = BUFFER;
        for part in 0..store.parts() {
            let bytes = store.progress(part).total * K::BYTES;
            match groups.last_mut() {
                Some((_, parts)) if size + bytes <= BUFFER => parts.end = part + 1,
                _ => {
                    groups.push((
                        self.place + (before - first) * K::BYTES as u64,
                        part..part + 1,
                    ));
                    size = 0;
                }
            }
            size += bytes;
            before += store.progress(part).total as u64;
        }
        let file = self.file.file();
        let write = |buffer: &mut Vec<u8>, (place, parts): (u64, Range<usize>)| {
            buffer.clear();
            let sums: Vec<(u64, u64)> = parts
                .map(|part| {
                    let (mut sum, mut keys) = (Checksum::new(), 0);
                    for slice in store.slices(part) {
                        sum.update(as_bytes(slice));
                        buffer.extend_from_slice(as_bytes(slice));
                        keys += slice.len() as u64;
                    }
                    (keys, sum.value())
                })
                .collect();
            file.write_all_at(buffer, place).map(|()| sums)
        };
        let written: std::io::Result<Vec<Vec<(u64, u64)>>> =
            groups.into_par_iter().map_init(Vec::new, write).collect();
        let written = written.map_err(|error| storage("write", self.file.path(), &error))?;
        let mut before = first;
        for (keys, sum) in written.into_iter().flatten() {
            section.entries.push(Entry { before, keys, sum });
            before += keys;
        }
        self.place += (before - first) * K::BYTES as u64;
        Ok(())
    }

    /// Writes the header, makes sure that all is on the disk, and gives the file its name.
    pub fn finish(self) -> Result<Finished> {
        let header = self.header();
        let digest: [u8; DIGEST] = Sha256::digest(&header).into();
        let path = self.file.path().to_owned();
        let written = (|| {
            let file = self.file.file();
            file.write_all_at(&header, 0)?;
            file.write_all_at(&digest, header.len() as u64)?;
            // A section without keys at the end leaves the file shorter than its data would begin.
            file.set_len(self.place)?;
            self.file.commit(self.durable)
        })();
        written.map_err(|error| storage("write", &path, &error))?;
        Ok(Finished {
            length: self.place,
            digest,
        })
    }

    fn header(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        fields.extend_from_slice(&self.configuration);
        put_u64(&mut fields, self.unit);
        put_u64(&mut fields, self.sections.len() as u64);
        for section in &self.sections {
            put_u64(&mut fields, section.key_bytes);
            section.counts.write(&mut fields);
            put_u64(&mut fields, section.duplicates);
            put_u64(&mut fields, section.bits.into());
            put_u64(&mut fields, section.place);
            for entry in &section.entries {
                put_u64(&mut fields, entry.keys);
                put_u64(&mut fields, entry.sum);
            }
        }
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&VERSION.to_le_bytes());
        put_u64(&mut header, fields.len() as u64);
        header.extend(fields);
        header
    }
}

fn header_len(expected: &[(u64, u32)]) -> usize {
    let section = |&(_, bits): &(u64, u32)| 8 * (1 + 6 + 1 + 1 + 1) + (16 << bits);
    32 + 8 + 8 + expected.iter().map(section).sum::<usize>()
}

/// What a marker says of a finished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Bytes of the file.
    pub length: u64,
    /// SHA-256 of its header, which holds the checksums of all partitions.
    pub digest: [u8; DIGEST],
}

/// A file that was written by [`Writer`].
#[derive(Debug)]
pub struct UnitFile {
    path: PathBuf,
    file: File,
    configuration: Configuration,
    unit: u64,
    sections: Vec<Section>,
    /// What its marker must say.
    pub finished: Finished,
}

impl UnitFile {
    /// Opens a file and reads its header. What is wrong is named, with the file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_parts(path, 0..usize::MAX)
    }

    /// Opens a file to read some partitions of each section. The header is verified as a whole; of
    /// its table only those partitions are kept.
    pub fn open_parts(path: &Path, parts: Range<usize>) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged {
            path: path.to_owned(),
            what: what.into(),
        };
        let mut file = File::open(path).map_err(|error| storage("read", path, &error))?;
        let length = file
            .metadata()
            .map_err(|error| storage("read", path, &error))?
            .len();
        let mut header = vec![0; HEAD];
        file.read_exact(&mut header)
            .map_err(|_| damaged("it has no header"))?;
        if header[..4] != MAGIC {
            return Err(damaged("it is no file of windows"));
        }
        let version = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if version != VERSION {
            return Err(damaged(&format!(
                "it is of version {version}; this radscore reads version {VERSION}"
            )));
        }
        let fields = <u64 as Key>::read(&header[8..]);
        if fields > length {
            return Err(damaged("it is cut"));
        }
        header.resize(HEAD + fields as usize, 0);
        let mut digest = [0; DIGEST];
        file.read_exact(&mut header[HEAD..])
            .and_then(|()| file.read_exact(&mut digest))
            .map_err(|_| damaged("it is cut"))?;
        if Sha256::digest(&header)[..] != digest {
            return Err(damaged("its header was altered"));
        }
        let mut reader = Reader::new(&header[HEAD..]);
        let read = read_header(&mut reader, parts);
        let (configuration, unit, sections, end) =
            read.map_err(|_| damaged("its header makes no sense"))?;
        if end.is_some_and(|end| end != length) {
            return Err(damaged("it is cut"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            configuration,
            unit,
            sections,
            finished: Finished { length, digest },
        })
    }

    /// Bytes of memory that its table takes.
    pub fn table_bytes(&self) -> usize {
        let entries = self.sections.iter().map(|section| section.entries.len());
        entries.sum::<usize>() * size_of::<Entry>()
    }

    /// What it was made with.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The work unit.
    pub fn unit(&self) -> u64 {
        self.unit
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Counts of a section, and repetitions that were left out.
    pub fn counts(&self, section: usize) -> Result<(Counts, u64)> {
        let section = self.section(section)?;
        Ok((section.counts, section.duplicates))
    }

    /// Partitions of a section, as bits.
    pub fn bits(&self, section: usize) -> Result<u32> {
        Ok(self.section(section)?.bits)
    }

    /// Bytes of a partition.
    pub fn part_bytes(&self, section: usize, part: usize) -> Result<u64> {
        let section = self.section(section)?;
        let own = self.entries(section, part..part + 1)?;
        Ok(own.iter().map(|entry| entry.keys).sum::<u64>() * section.key_bytes)
    }

    fn section(&self, index: usize) -> Result<&Section> {
        self.sections.get(index).ok_or_else(|| {
            Error::Storage(format!("{} has no section {index}", self.path.display()))
        })
    }

    fn entries<'a>(&self, section: &'a Section, parts: Range<usize>) -> Result<&'a [Entry]> {
        let own = parts
            .start
            .checked_sub(section.first)
            .zip(parts.end.checked_sub(section.first))
            .and_then(|(from, to)| section.entries.get(from..to));
        own.ok_or_else(|| {
            Error::Storage(format!(
                "{} was not opened for the partitions {parts:?}",
                self.path.display()
            ))
        })
    }

    /// The keys of some partitions, whose checksums are verified.
    pub fn read<K: Key>(
        &self,
        section: usize,
        parts: Range<usize>,
        arena: &mut BlockRecycler<K>,
    ) -> Result<Run<K>> {
        let section = self.section(section)?;
        if section.key_bytes != K::BYTES as u64 {
            return Err(Error::Storage(format!(
                "{} holds windows of another width or vocabulary",
                self.path.display()
            )));
        }
        let entries = self.entries(section, parts.clone())?;
        let before = entries.first().map_or(0, |entry| entry.before);
        let mut starts = vec![0];
        let mut total = 0;
        for entry in entries {
            total += entry.keys as usize;
            starts.push(total);
        }
        let mut keys: Vec<K> = arena.take(total);
        keys.resize(total, K::default());
        let place = section.place + before * section.key_bytes;
        let mut pieces = Vec::new();
        let (mut rest, mut from) = (&mut keys[..], 0);
        for part in 1..starts.len() {
            let length = starts[part] - starts[from];
            if length * K::BYTES >= BUFFER || part + 1 == starts.len() {
                let (own, more) = rest.split_at_mut(length);
                pieces.push((from..part, own));
                (rest, from) = (more, part);
            }
        }
        pieces.into_par_iter().try_for_each(|(own, keys)| {
            let first = starts[own.start];
            self.file
                .read_exact_at(as_bytes_mut(keys), place + (first * K::BYTES) as u64)
                .map_err(|error| storage("read", &self.path, &error))?;
            for part in own {
                let mut sum = Checksum::new();
                sum.update(as_bytes(
                    &keys[starts[part] - first..starts[part + 1] - first],
                ));
                if sum.value() != entries[part].sum {
                    return Err(Error::Damaged {
                        path: self.path.clone(),
                        what: format!("partition {} does not fit its checksum", parts.start + part),
                    });
                }
            }
            Ok(())
        })?;
        Ok(Run::new(keys, starts))
    }
}

/// Configuration, unit, sections with the entries of some partitions, and where the last one ends.
type Header = (Configuration, u64, Vec<Section>, Option<u64>);

fn read_header(reader: &mut Reader, parts: Range<usize>) -> Result<Header> {
    let mut configuration = [0; 32];
    configuration.copy_from_slice(reader.take(32)?);
    let unit = reader.u64()?;
    let (mut sections, mut end) = (Vec::new(), None);
    for _ in 0..reader.u64()? {
        let key_bytes = reader.u64()?;
        let (counts, duplicates) = (Counts::read(reader)?, reader.u64()?);
        let (bits, place) = (reader.u64()?, reader.u64()?);
        if bits > 24 || !(8..=Widest::BYTES as u64).contains(&key_bytes) {
            return Err(Error::State("impossible".into()));
        }
        let own = parts.start.min(1 << bits)..parts.end.min(1 << bits);
        let (mut entries, mut before) = (Vec::with_capacity(own.len()), 0);
        for part in 0..1 << bits {
            let (keys, sum) = (reader.u64()?, reader.u64()?);
            if keys > 1 << 48 {
                return Err(Error::State("impossible".into()));
            }
            if own.contains(&part) {
                entries.push(Entry { before, keys, sum });
            }
            before += keys;
        }
        end = Some(place + before * key_bytes);
        sections.push(Section {
            first: own.start,
            key_bytes,
            counts,
            duplicates,
            bits: bits as u32,
            place,
            entries,
        });
    }
    Ok((configuration, unit, sections, end))
}

/// Keys as they lie in memory.
fn as_bytes<K: Key>(keys: &[K]) -> &[u8] {
    // SAFETY: keys are unsigned integers or arrays of them: every byte of them is initialised, and
    // bytes have no alignment.
    unsafe { std::slice::from_raw_parts(keys.as_ptr().cast(), size_of_val(keys)) }
}

fn as_bytes_mut<K: Key>(keys: &mut [K]) -> &mut [u8] {
    // SAFETY: as above, and any bytes make an unsigned integer.
    unsafe { std::slice::from_raw_parts_mut(keys.as_mut_ptr().cast(), size_of_val(keys)) }
}
