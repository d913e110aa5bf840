//! Windows in files give exactly what windows in memory give: any units, partitions and limits.

mod common;

use common::{VOCAB, corpus, ok, options, sums};
use radscore_core::dedup::rule::Rule as Dedup;
use radscore_core::schemes::{Keyed, Kgw, Scheme, SglangGumbel};
use radscore_core::score::tally::Tally;
use radscore_core::scorer::Scorer;
use radscore_core::scorer::outofcore::Limits;
use radscore_core::spill::shard_file::UnitFile;
use radscore_core::{BlockRecycler, Documents, Error, Result, Source, TokenSlice};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CONFIGURATION: [u8; 32] = [9; 32];
const RULES: [Dedup; 4] = [Dedup::Unit, Dedup::Window, Dedup::Context, Dedup::None];

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let name = format!("radscore-outofcore-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(|error| Error::Storage(error.to_string()))?;
        Ok(Self(path))
    }

    fn limits(&self, memory: usize) -> Limits {
        Limits {
            memory,
            folders: vec![self.0.clone()],
        }
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.0).map_or(0, |files| files.count())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Several at once, and one alone whose units are not windows.
fn sets() -> Result<[Vec<Arc<dyn Scheme>>; 2]> {
    let all = schemes()?;
    Ok([all.clone(), all[..1].to_vec()])
}

fn schemes() -> Result<Vec<Arc<dyn Scheme>>> {
    let additive = Kgw::new(VOCAB, 0.25, sums()?, false)?;
    Ok(vec![
        Arc::new(additive),
        Arc::new(Keyed::green([7; 16], VOCAB, 2, 0.25)?),
        Arc::new(SglangGumbel::new(77, None, VOCAB, 2)?),
        Arc::new(Keyed::gumbel([8; 16], VOCAB, 12)?),
        Arc::new(Keyed::gumbel([8; 16], VOCAB, 16)?),
    ])
}

fn in_memory(schemes: &[Arc<dyn Scheme>], rule: Dedup) -> Result<Vec<Tally>> {
    let (values, offsets) = corpus();
    let documents = Documents::new(TokenSlice::U16(&values), &offsets, VOCAB)?;
    let mut scorer = Scorer::new(schemes.to_vec(), &options(rule))?;
    scorer.add(&Source::new(documents, None)?, None, &mut ok)?;
    scorer.tallies(&mut ok)
}

/// The corpus as work units, cut anywhere, each with some tokens around it.
fn map(
    schemes: &[Arc<dyn Scheme>],
    folder: &Path,
    rule: Dedup,
    bits: u32,
    units: usize,
) -> Result<Vec<PathBuf>> {
    let (values, offsets) = corpus();
    let size = values.len().div_ceil(units);
    let mut paths = Vec::new();
    let mut scorer = Scorer::new(schemes.to_vec(), &options(rule))?;
    scorer.collect_only(bits)?;
    for (unit, from) in (0..values.len()).step_by(size).enumerate() {
        let to = values.len().min(from + size);
        let (first, last) = (from.saturating_sub(16), values.len().min(to + 17));
        let clamp = |&at: &i64| at.clamp(first as i64, last as i64) - first as i64;
        let own: Vec<i64> = offsets.iter().map(clamp).collect();
        let documents = Documents::new(TokenSlice::U16(&values[first..last]), &own, VOCAB)?;
        let source = Source::new(documents, None)?;
        scorer.add_part(&source, from - first..to - first, &mut ok)?;
        let path = folder.join(format!("unit-{unit}.rsw"));
        let finished = scorer.write_unit(&path, CONFIGURATION, unit as u64)?;
        assert_eq!(UnitFile::open(&path)?.finished, finished);
        paths.push(path);
    }
    Ok(paths)
}

fn reduce(
    schemes: &[Arc<dyn Scheme>],
    folder: &Folder,
    rule: Dedup,
    files: &[PathBuf],
    bits: u32,
    workers: usize,
    memory: usize,
) -> Result<Vec<Tally>> {
    let limits = folder.limits(memory);
    let parts: Vec<_> = (0..1usize << bits)
        .step_by((1usize << bits).div_ceil(workers))
        .map(|from| from..(from + (1usize << bits).div_ceil(workers)).min(1 << bits))
        .collect();
    let mut total = vec![Tally::default(); schemes.len()];
    let mut add = |tallies: Vec<Tally>| {
        total
            .iter_mut()
            .zip(&tallies)
            .for_each(|(sum, more)| sum.merge(more));
    };
    let mut exchange = Vec::new();
    for (index, parts) in parts.iter().enumerate() {
        let mut scorer = Scorer::new(schemes.to_vec(), &options(rule))?;
        let prefix = folder.0.join(format!("part-{index}"));
        let source = (files, &CONFIGURATION);
        exchange.extend(scorer.reduce(source, parts.clone(), &prefix, &limits, &mut ok)?);
        add(scorer.partial());
    }
    let bits = 12.min(bits);
    let own = (1usize << bits).div_ceil(workers);
    for from in (0..1usize << bits).step_by(own) {
        let mut scorer = Scorer::new(schemes.to_vec(), &options(rule))?;
        let parts = from..(from + own).min(1 << bits);
        scorer.reduce_units(&exchange, parts, &limits, &mut ok)?;
        add(scorer.partial());
    }
    Ok(total)
}

#[test]
fn files_give_what_memory_gives() -> Result<()> {
    let sets = sets()?;
    for (schemes, rule) in sets.iter().flat_map(|set| RULES.map(|rule| (set, rule))) {
        let expected = in_memory(schemes, rule)?;
        for (bits, units, workers, memory) in [
            (12, 1, 1, 1 << 30),
            (4, 3, 2, 1 << 30),
            (1, 7, 2, 2000),
            (3, 10, 3, 300),
        ] {
            let folder = Folder::new(&format!("any-{rule:?}-{bits}-{}", schemes.len()))?;
            let files = map(schemes, &folder.0, rule, bits, units)?;
            let tallies = reduce(schemes, &folder, rule, &files, bits, workers, memory)?;
            for (own, expected) in tallies.iter().zip(&expected) {
                assert_eq!(own, expected, "{rule:?} {bits} {units} {workers} {memory}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_limit_changes_nothing() -> Result<()> {
    let (values, offsets) = corpus();
    let sets = sets()?;
    for (schemes, rule) in sets.iter().flat_map(|set| RULES.map(|rule| (set, rule))) {
        let folder = Folder::new(&format!("limit-{rule:?}-{}", schemes.len()))?;
        let mut limited = Scorer::new(schemes.clone(), &options(rule))?;
        limited.set_limit(folder.limits(1000))?;
        let mut free = Scorer::new(schemes.clone(), &options(rule))?;
        for cut in [0..50, 50..51, 51..200, 200..300] {
            let offsets = &offsets[cut.start..=cut.end];
            let documents = Documents::new(TokenSlice::U16(&values), offsets, VOCAB)?;
            let source = Source::new(documents, None)?;
            limited.add(&source, None, &mut ok)?;
            free.add(&source, None, &mut ok)?;
            assert_eq!(limited.tallies(&mut ok)?, free.tallies(&mut ok)?);
            assert_eq!(limited.tallies(&mut ok)?, free.tallies(&mut ok)?);
        }
        assert!(folder.files() > 1);
        drop(limited);
        assert_eq!(folder.files(), 0);
    }
    Ok(())
}

#[test]
fn units_join() -> Result<()> {
    let sets = sets()?;
    for (schemes, rule) in sets.iter().flat_map(|set| RULES.map(|rule| (set, rule))) {
        let folder = Folder::new(&format!("join-{rule:?}-{}", schemes.len()))?;
        let files = map(schemes, &folder.0, rule, 4, 6)?;
        let mut scorer = Scorer::new(schemes.clone(), &options(rule))?;
        scorer.collect_only(4)?;
        let joined = folder.0.join("joined.rsw");
        let limits = folder.limits(500);
        scorer.join_units((&files, CONFIGURATION), &joined, 0, &limits, &mut ok)?;
        let tallies = reduce(schemes, &folder, rule, &[joined], 4, 1, 1 << 20)?;
        assert_eq!(tallies, in_memory(schemes, rule)?);
    }
    Ok(())
}

#[test]
fn damage_is_found() -> Result<()> {
    let (folder, schemes) = (Folder::new("damage")?, schemes()?);
    let files = map(&schemes, &folder.0, Dedup::Unit, 4, 2)?;
    let io = |error: std::io::Error| Error::Storage(error.to_string());
    let whole = fs::read(&files[1]).map_err(io)?;
    let fails = |bytes: &[u8]| -> Result<bool> {
        fs::write(&files[1], bytes).map_err(io)?;
        let done = reduce(&schemes, &folder, Dedup::Unit, &files, 4, 1, 1 << 30);
        Ok(matches!(done, Err(Error::Damaged { path, .. }) if path == files[1]))
    };
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        assert!(fails(&whole[..length])?, "cut to {length} bytes");
    }
    let mut altered = whole.clone();
    let header = 2000;
    for at in (0..header)
        .step_by(97)
        .chain((header..whole.len()).step_by(whole.len() / 40))
    {
        altered[at] ^= 4;
        // Between header and keys lie a few bytes that nobody reads.
        let read = fails(&altered)?;
        assert!(
            read || (8..=72).contains(&(whole.len() - at)) || at < 8192,
            "byte {at}"
        );
        altered[at] ^= 4;
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(fails(&longer)?);
    assert!(!fails(&whole)?);
    let foreign = Scorer::new(schemes.clone(), &options(Dedup::Unit))?.reduce(
        (&files, &[1; 32]),
        0..16,
        &folder.0.join("x"),
        &folder.limits(1 << 20),
        &mut ok,
    );
    assert!(
        matches!(foreign, Err(Error::Damaged { what, .. }) if what.contains("another configuration"))
    );
    Ok(())
}

#[test]
fn files_opened_for_some_partitions() -> Result<()> {
    let (folder, schemes) = (Folder::new("opened")?, schemes()?);
    let files = map(&schemes[1..2], &folder.0, Dedup::Unit, 4, 1)?;
    let whole = UnitFile::open(&files[0])?;
    let some = UnitFile::open_parts(&files[0], 5..9)?;
    assert_eq!(some.finished, whole.finished);
    assert_eq!(some.counts(0)?, whole.counts(0)?);
    assert_eq!(4 * some.table_bytes(), whole.table_bytes());
    let mut arena = BlockRecycler::default();
    for parts in [5..9, 6..8, 8..9, 7..7] {
        let [own, all] = [&some, &whole].map(|file| file.read::<u64>(0, parts.clone(), &mut arena));
        let (own, all) = (own?, all?);
        for part in 0..parts.len() {
            assert!(!own.part(part).is_empty());
            assert_eq!(own.part(part), all.part(part));
            assert_eq!(
                some.part_bytes(0, parts.start + part)?,
                8 * own.part(part).len() as u64
            );
        }
    }
    for parts in [4..9, 5..10, 0..1, 9..10, 40..41] {
        let refused = some.read::<u64>(0, parts.clone(), &mut arena).map(drop);
        assert!(
            matches!(&refused, Err(Error::Storage(text)) if text.contains("not opened for")),
            "{parts:?}"
        );
    }
    assert!(some.part_bytes(0, 4).is_err());
    // Wherever the header was altered: also in the entries of other partitions.
    let io = |error: std::io::Error| Error::Storage(error.to_string());
    let mut altered = fs::read(&files[0]).map_err(io)?;
    for at in (0..300).step_by(7) {
        altered[at] ^= 1;
        fs::write(&files[0], &altered).map_err(io)?;
        let opened = UnitFile::open_parts(&files[0], 15..16);
        assert!(matches!(opened, Err(Error::Damaged { .. })), "byte {at}");
        altered[at] ^= 1;
    }
    fs::write(&files[0], &altered[..altered.len() - 8]).map_err(io)?;
    let cut = UnitFile::open_parts(&files[0], 0..1);
    assert!(matches!(cut, Err(Error::Damaged { what, .. }) if what == "it is cut"));
    Ok(())
}
