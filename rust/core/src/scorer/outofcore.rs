//! More windows than memory: files of work units are written, and reduced partition by partition.

use crate::dedup::placing::{ByUnit, ByWindow, Desk};
use crate::dedup::rule::Rule;
use crate::dedup::store::{Bench, Placing, Store};
use crate::error::{Error, Result};
use crate::io::files::unique_suffix;
use crate::key::Key;
use crate::recycler::{BlockRecycler, release};
use crate::score::scoring::SchemeState;
use crate::scorer::frame::Frame;
use crate::spill::shard_file::{NO_UNIT, UnitFile, Writer};
use crate::threads::Pool;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Partitions that one that outgrows memory is split into, as bits.
const SPLIT_BITS: u32 = 6;
/// How often a partition is split.
const MOST_LEVELS: u32 = 2;

/// What a reduction may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of windows that are held at once.
    pub memory: usize,
    /// Folders for temporary files, used in turn; there is at least one.
    pub folders: Vec<PathBuf>,
}

impl Limits {
    /// What is left beside the tables of some files, but half of the memory at least.
    pub(crate) fn beside(&self, files: &[UnitFile]) -> Self {
        let tables: usize = files.iter().map(UnitFile::table_bytes).sum();
        Self {
            memory: self.memory - tables.min(self.memory / 2),
            folders: self.folders.clone(),
        }
    }

    /// The path of a new temporary file.
    pub fn temporary(&self) -> Temporary {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = &self.folders[number % self.folders.len()];
        Temporary(folder.join(format!("radscore-{}.rsw", unique_suffix())))
    }
}

/// A file that is removed when it is not needed any more.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// A file that is there already.
    pub(crate) fn of(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Takes loaded partitions, with their level and the look at the caller's wish to stop.
type Each<'a, K> = dyn FnMut(&mut Store<K>, u32, &mut dyn FnMut() -> Result<()>) -> Result<()> + 'a;

/// How groups of partitions are loaded.
pub(crate) struct Loading<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) pool: &'a Pool,
    /// Whether files can be taken one by one, since nothing is deduplicated.
    pub(crate) one_by_one: bool,
    pub(crate) may_split: bool,
}

impl Loading<'_> {
    /// Loads some partitions of a section of all files, as many at once as memory holds, and gives
    /// them to `each`, with the level of their partitions. One that is larger is split first.
    pub(crate) fn for_groups<K: Key, P: Placing<K>>(
        &self,
        (section, files): (usize, &[UnitFile]),
        (parts, level): (Range<usize>, u32),
        placing: &dyn Fn(u32) -> P,
        check: &mut dyn FnMut() -> Result<()>,
        each: &mut Each<K>,
    ) -> Result<()> {
        let Some(first) = files.first() else {
            return Ok(());
        };
        let bits = first.bits(section)?;
        let mut arena = BlockRecycler::default();
        let mut from = parts.start;
        while from < parts.end {
            let (end, bytes) = self.group(section, files, from..parts.end)?;
            let large = bytes > self.limits.memory as u64;
            if large && self.may_split && !self.one_by_one && level < MOST_LEVELS {
                self.split((section, files), (from, level + 1), placing, check, each)?;
            } else {
                let batches = if large && self.one_by_one {
                    1
                } else {
                    files.len()
                };
                for files in files.chunks(batches) {
                    let mut store = Store::window(bits, from..end);
                    std::mem::swap(store.arena(), &mut arena);
                    for file in files {
                        check()?;
                        let read = || file.read(section, from..end, store.arena());
                        let run = self.pool.install(read)?;
                        store.add(run);
                    }
                    each(&mut store, level, check)?;
                    store.clear();
                    std::mem::swap(store.arena(), &mut arena);
                }
            }
            from = end;
        }
        Ok(())
    }

    /// The end of the partitions that a quarter of the memory holds at once, at least one, and their
    /// bytes.
    fn group(
        &self,
        section: usize,
        files: &[UnitFile],
        parts: Range<usize>,
    ) -> Result<(usize, u64)> {
        let (mut end, mut bytes) = (parts.start, 0);
        while end < parts.end {
            let mut more = 0;
            for file in files {
                more += file.part_bytes(section, end)?;
            }
            if end > parts.start && bytes + more > self.limits.memory as u64 / 4 {
                break;
            }
            (end, bytes) = (end + 1, bytes + more);
        }
        Ok((end, bytes))
    }

    /// Splits a partition by other bits of the hash, into files, and loads those.
    fn split<K: Key, P: Placing<K>>(
        &self,
        (section, files): (usize, &[UnitFile]),
        (part, level): (usize, u32),
        placing: &dyn Fn(u32) -> P,
        check: &mut dyn FnMut() -> Result<()>,
        each: &mut Each<K>,
    ) -> Result<()> {
        let parts = 0..1 << SPLIT_BITS;
        let mut store = Store::window(SPLIT_BITS, parts.clone());
        let mut arena = BlockRecycler::default();
        let mut written: Vec<Temporary> = Vec::new();
        let placing_here = placing(level);
        for (index, file) in files.iter().enumerate() {
            check()?;
            let run = file.read::<K>(section, part..part + 1, &mut arena)?;
            self.pool.install(|| store.push(run.part(0), &placing_here));
            arena.give(run.keys);
            if 2 * store.bytes() > self.limits.memory || index + 1 == files.len() {
                self.pool.install(|| store.settle(&placing_here));
                let temporary = self.limits.temporary();
                let expected = [(K::BYTES as u64, SPLIT_BITS)];
                let mut writer =
                    Writer::create(temporary.path(), [0; 32], 0, &expected)?.temporary();
                writer.section(Default::default(), 0);
                self.pool.install(|| writer.partitions(&store))?;
                writer.finish()?;
                written.push(temporary);
                store.clear();
            }
        }
        drop((store, arena));
        let files = open_all(&written)?;
        self.for_groups((0, &files), (parts, level), placing, check, each)
    }
}

fn open_all(files: &[Temporary]) -> Result<Vec<UnitFile>> {
    files
        .iter()
        .map(|file| UnitFile::open(file.path()))
        .collect()
}

impl<K: Key> Frame<K> {
    /// From now on windows are only collected, in `2^bits` partitions, to be written to files.
    pub(crate) fn collect_only(&mut self, bits: u32) {
        self.separate_units();
        self.store = Store::window(bits, 0..1 << bits);
        release::<K>();
    }

    /// Key bytes and partitions of the section that it writes.
    pub(crate) fn section(&self) -> (u64, u32) {
        (K::BYTES as u64, self.store.bits())
    }

    /// Bytes of the windows that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let units = self.schemes.iter().filter_map(|state| state.units.as_ref());
        self.store.bytes() + units.map(Store::bytes).sum::<usize>()
    }

    /// Writes its windows, each once, as the next section.
    pub(crate) fn spill(&mut self, writer: &mut Writer, pool: &Pool) -> Result<()> {
        self.dedup_all(pool);
        writer.section(self.counts, self.duplicates);
        pool.install(|| writer.partitions(&self.store))
    }

    /// Forgets its windows, which are in a file now.
    pub(crate) fn forget(&mut self) {
        self.store.clear();
        (self.counts, self.duplicates) = Default::default();
    }

    /// Writes the windows of some files, each once, as the next section.
    pub(crate) fn join(
        &mut self,
        writer: &mut Writer,
        (section, files): (usize, &[UnitFile]),
        loading: &Loading,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.add_counts(section, files)?;
        writer.section(self.counts, self.duplicates);
        let parts = 1 << self.store.bits();
        let sameness = self.sameness();
        let mut removed = 0;
        let desks = Bench::default();
        loading.for_groups(
            (section, files),
            (0..parts, 0),
            &|_| sameness.clone(),
            check,
            &mut |store: &mut Store<K>, _, _| {
                let all = 0..store.parts();
                loading.pool.install(|| {
                    removed += crate::score::scoring::dedup(store, all, &desks, &sameness);
                    writer.partitions(store)
                })
            },
        )?;
        writer.removed(removed);
        (self.counts, self.duplicates) = Default::default();
        Ok(())
    }

    /// Adds what the files' headers say of how many windows were read and left out.
    pub(crate) fn add_counts(&mut self, section: usize, files: &[UnitFile]) -> Result<()> {
        for file in files {
            let (counts, duplicates) = file.counts(section)?;
            self.counts.merge(&counts);
            self.duplicates += duplicates;
        }
        Ok(())
    }

    /// Forgets everything but how it is set up.
    pub(crate) fn reset(&mut self, bits: u32) {
        self.collect_only(bits);
        self.level = 0;
        (self.counts, self.duplicates) = Default::default();
        for state in &mut self.schemes {
            state.sums = Default::default();
            state.level = 0;
            if let Some(store) = &mut state.units {
                *store = Store::window(bits, 0..1 << bits);
            }
        }
    }

    /// Deduplicates and scores some partitions of files. Windows that count once a unit go on to
    /// the files that `exchange` names, one after the other, whenever they fill half of the memory.
    pub(crate) fn reduce(
        &mut self,
        (section, files): (usize, &[UnitFile]),
        parts: Range<usize>,
        loading: &Loading,
        exchange: &mut dyn FnMut() -> PathBuf,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let (packer, rule) = (self.plan.packer, self.rule);
        let placing = |level| ByWindow {
            packer,
            rule,
            level,
        };
        let pool = loading.pool;
        let each = &mut |store: &mut Store<K>, level, check: &mut dyn FnMut() -> Result<()>| {
            self.level = level;
            std::mem::swap(&mut self.store, store);
            let done = self.flush_windows(pool, check);
            std::mem::swap(&mut self.store, store);
            self.level = 0;
            done?;
            let units = self.schemes.iter().filter_map(|state| state.units.as_ref());
            if 2 * units.map(Store::bytes).sum::<usize>() > loading.limits.memory {
                self.write_units(&exchange(), pool)?;
            }
            Ok(())
        };
        loading.for_groups((section, files), (parts, 0), &placing, check, each)
    }

    /// Whether distinct windows wait to be deduplicated by unit.
    pub(crate) fn has_units(&self) -> bool {
        self.schemes.iter().any(|state| state.units.is_some())
    }

    /// Writes the windows that count once a unit, a section for each such scheme, and forgets them.
    pub(crate) fn write_units(&mut self, path: &Path, pool: &Pool) -> Result<()> {
        let packer = self.plan.packer;
        let mut expected = Vec::new();
        for state in &mut self.schemes {
            pool.install(|| state.dedup_units(&self.desks, packer));
            let stores = state.units.iter();
            expected.extend(stores.map(|store| (K::BYTES as u64, store.bits())));
        }
        let mut writer = Writer::create(path, [0; 32], NO_UNIT, &expected)?;
        for store in self
            .schemes
            .iter_mut()
            .filter_map(|state| state.units.as_mut())
        {
            writer.section(Default::default(), 0);
            pool.install(|| writer.partitions(store))?;
            store.clear();
        }
        writer.finish().map(drop)
    }

    /// Deduplicates by unit and scores some partitions of what [`Frame::write_units`] wrote.
    pub(crate) fn reduce_units(
        &mut self,
        files: &[UnitFile],
        parts: &Range<usize>,
        loading: &Loading,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.separate_units();
        let packer = self.plan.packer;
        let states = self
            .schemes
            .iter_mut()
            .filter(|state| state.units.is_some());
        for (section, state) in states.enumerate() {
            reduce_scheme(
                state,
                (section, files),
                parts,
                packer,
                loading,
                &self.desks,
                check,
            )?;
        }
        Ok(())
    }
}

fn reduce_scheme<K: Key>(
    state: &mut SchemeState<K>,
    (section, files): (usize, &[UnitFile]),
    parts: &Range<usize>,
    packer: crate::key::Packer,
    loading: &Loading,
    desks: &Bench<Desk<K>>,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let scheme = std::sync::Arc::clone(&state.scheme);
    let placing = |level| ByUnit::new(std::sync::Arc::clone(&scheme), packer, level);
    loading.for_groups(
        (section, files),
        (parts.clone(), 0),
        &placing,
        check,
        &mut |store: &mut Store<K>, level, check| {
            state.level = level;
            let own = state.units.replace(std::mem::take(store));
            let done = state.flush_units(loading.pool, desks, packer, check);
            *store = std::mem::replace(&mut state.units, own).unwrap_or_default();
            state.level = 0;
            done
        },
    )
}

/// Opens the files of work units to read some partitions; they must have been made with one
/// configuration.
pub fn open_units(
    paths: &[PathBuf],
    configuration: Option<&[u8; 32]>,
    parts: &Range<usize>,
) -> Result<Vec<UnitFile>> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let file = UnitFile::open_parts(path, parts.clone())?;
        if configuration.is_some_and(|wanted| wanted != file.configuration()) {
            return Err(Error::Damaged {
                path: path.clone(),
                what: "it was made with another configuration".into(),
            });
        }
        files.push(file);
    }
    Ok(files)
}

/// Whether windows are taken file by file where memory is short.
pub(crate) fn one_by_one(rule: Rule) -> bool {
    rule == Rule::None
}
