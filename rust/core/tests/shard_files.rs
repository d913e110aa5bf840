//! Windows in shard files give exactly what windows in memory give: any shards, partitions and limits.

mod common;

use common::{VOCAB, corpus, folder, ok, options, sums};
use radscore_core::schemes::{Keyed, Kgw, Scheme, SglangGumbel};
use radscore_core::{
    BlockRecycler, Budget, Collector, Documents, Error, Reducer, Result, Rule as Dedup, Scorer,
    ShardFile, Source, Tally, TokenSlice, WindowShape,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CONFIGURATION: [u8; 32] = [9; 32];
const RULES: [Dedup; 4] = [Dedup::Unit, Dedup::Window, Dedup::Context, Dedup::None];

/// A folder of its own, removed at the end.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Result<Self> {
        folder().map(Self)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn budget(&self, memory: usize) -> Budget {
        Budget {
            memory,
            folders: vec![self.path().to_owned()],
        }
    }

    fn files(&self) -> usize {
        fs::read_dir(self.path()).map_or(0, |files| files.count())
    }
}

/// Schemes that read the same windows: several at once, and one alone whose units are not windows.
fn groups() -> Result<Vec<Vec<Arc<dyn Scheme>>>> {
    let all = schemes()?;
    let mut groups: Vec<Vec<Arc<dyn Scheme>>> = vec![all[..1].to_vec()];
    for same in all.chunk_by(|a, b| a.window_width() == b.window_width()) {
        groups.push(same.to_vec());
    }
    Ok(groups)
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

fn collector(schemes: &[Arc<dyn Scheme>], rule: Dedup, bits: u32) -> Result<Collector> {
    let shape = WindowShape::of(&*schemes[0], None);
    Collector::new(shape, None, &options(rule), bits)
}

/// The corpus in shards, cut anywhere, each with some tokens around it. A shard is written as soon as
/// it has so many bytes of windows.
fn map(
    schemes: &[Arc<dyn Scheme>],
    folder: &Path,
    rule: Dedup,
    bits: u32,
    (pieces, most_bytes): (usize, usize),
) -> Result<Vec<PathBuf>> {
    let (values, offsets) = corpus();
    let size = values.len().div_ceil(pieces);
    let mut paths = Vec::new();
    let mut collector = collector(schemes, rule, bits)?;
    for from in (0..values.len()).step_by(size) {
        let to = values.len().min(from + size);
        let (first, last) = (from.saturating_sub(16), values.len().min(to + 17));
        let clamp = |&at: &i64| at.clamp(first as i64, last as i64) - first as i64;
        let own: Vec<i64> = offsets.iter().map(clamp).collect();
        let documents = Documents::new(TokenSlice::U16(&values[first..last]), &own, VOCAB)?;
        let source = Source::new(documents, None)?;
        collector.add(&source, from - first..to - first, &mut ok)?;
        assert_eq!(collector.tokens(), to as u64);
        if collector.bytes() >= most_bytes || to == values.len() {
            let path = folder.join(format!("shard-{}.rsw", paths.len()));
            let finished = collector.write_shard(&path, CONFIGURATION, paths.len() as u64)?;
            assert_eq!(collector.bytes(), 0);
            assert_eq!(ShardFile::open(&path)?.finished, finished);
            paths.push(path);
        }
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
    let budget = folder.budget(memory);
    let size = (1usize << bits).div_ceil(workers);
    let ranges = (0..1usize << bits)
        .step_by(size)
        .map(|from| from..(from + size).min(1 << bits));
    let mut total = vec![Tally::default(); schemes.len()];
    let mut add = |tallies: Vec<Tally>| {
        total
            .iter_mut()
            .zip(&tallies)
            .for_each(|(sum, more)| sum.merge(more));
    };
    let mut exchange = Vec::new();
    let reducer = Reducer::new(schemes.to_vec(), &options(rule))?;
    for (index, range) in ranges.clone().enumerate() {
        let prefix = folder.path().join(format!("bucket-{index}"));
        let source = (files, &CONFIGURATION);
        let (tallies, written) = reducer.reduce(source, range, &prefix, &budget, &mut ok)?;
        exchange.extend(written);
        add(tallies);
    }
    for range in ranges {
        add(reducer.reduce_units(&exchange, range, &budget, &mut ok)?);
    }
    Ok(total)
}

#[test]
fn files_give_what_memory_gives() -> Result<()> {
    let groups = groups()?;
    for (schemes, rule) in groups.iter().flat_map(|own| RULES.map(|rule| (own, rule))) {
        let expected = in_memory(schemes, rule)?;
        for (bits, shards, workers, memory) in [
            (12, 1, 1, 1 << 30),
            (4, 3, 2, 1 << 30),
            (1, 7, 2, 2000),
            (3, 10, 3, 300),
        ] {
            let folder = Folder::new()?;
            let files = map(schemes, folder.path(), rule, bits, (shards, 0))?;
            assert_eq!(files.len(), shards);
            let tallies = reduce(schemes, &folder, rule, &files, bits, workers, memory)?;
            for (own, expected) in tallies.iter().zip(&expected) {
                assert_eq!(own, expected, "{rule:?} {bits} {shards} {workers} {memory}");
            }
        }
    }
    Ok(())
}

/// Windows are written whenever they fill some memory, which the reduction has no more of.
#[test]
fn a_limit_changes_nothing() -> Result<()> {
    let groups = groups()?;
    for (schemes, rule) in groups.iter().flat_map(|own| RULES.map(|rule| (own, rule))) {
        let folder = Folder::new()?;
        let files = map(schemes, folder.path(), rule, 6, (20, 10_000))?;
        assert!((2..=20).contains(&files.len()));
        let tallies = reduce(schemes, &folder, rule, &files, 6, 1, 1000)?;
        assert_eq!(tallies, in_memory(schemes, rule)?);
        let left = folder.files() - files.len();
        let handed_on = schemes.iter().any(|scheme| !scheme.has_distinct_units());
        assert_eq!(left > 0, rule == Dedup::Unit && handed_on);
    }
    Ok(())
}

#[test]
fn shards_merge() -> Result<()> {
    let groups = groups()?;
    for (schemes, rule) in groups.iter().flat_map(|own| RULES.map(|rule| (own, rule))) {
        let folder = Folder::new()?;
        let files = map(schemes, folder.path(), rule, 4, (6, 0))?;
        let merged = folder.path().join("merged.rsw");
        let budget = folder.budget(500);
        let source = (&files[..], CONFIGURATION);
        collector(schemes, rule, 4)?.merge_shards(source, &merged, 0, &budget, &mut ok)?;
        let tallies = reduce(schemes, &folder, rule, &[merged], 4, 1, 1 << 20)?;
        assert_eq!(tallies, in_memory(schemes, rule)?);
    }
    Ok(())
}

/// An interrupted reduction leaves nothing behind.
#[test]
fn an_interruption_leaves_no_files() -> Result<()> {
    let (folder, schemes) = (Folder::new()?, schemes()?);
    let files = map(&schemes[..1], folder.path(), Dedup::Unit, 4, (5, 0))?;
    let reducer = Reducer::new(schemes[..1].to_vec(), &options(Dedup::Unit))?;
    let (mut stop_at, mut stopped) = (1, 0);
    loop {
        let mut checks = 0;
        let done = reducer.reduce(
            (&files, &CONFIGURATION),
            0..16,
            &folder.path().join("bucket"),
            &folder.budget(300),
            &mut || {
                checks += 1;
                match checks == stop_at {
                    true => Err(Error::Interrupted),
                    false => Ok(()),
                }
            },
        );
        if done.is_ok() {
            break;
        }
        assert_eq!(folder.files(), files.len());
        (stop_at, stopped) = (stop_at + stop_at / 2 + 1, stopped + 1);
    }
    assert!(stopped > 5);
    Ok(())
}

#[test]
fn schemes_of_other_windows_are_refused() -> Result<()> {
    let schemes = schemes()?;
    for schemes in [vec![], schemes] {
        let refused = Reducer::new(schemes, &options(Dedup::Unit)).map(drop);
        assert!(matches!(refused, Err(Error::Argument(text)) if text.contains("the same windows")));
    }
    Ok(())
}

#[test]
fn damage_is_found() -> Result<()> {
    let (folder, schemes) = (Folder::new()?, schemes()?);
    let schemes = &schemes[..3];
    let files = map(schemes, folder.path(), Dedup::Unit, 4, (2, 0))?;
    let io = |error: std::io::Error| Error::Storage(error.to_string());
    let whole = fs::read(&files[1]).map_err(io)?;
    let fails = |bytes: &[u8]| -> Result<bool> {
        fs::write(&files[1], bytes).map_err(io)?;
        let done = reduce(schemes, &folder, Dedup::Unit, &files, 4, 1, 1 << 30);
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
        assert!(fails(&altered)?, "byte {at}");
        altered[at] ^= 4;
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(fails(&longer)?);
    assert!(!fails(&whole)?);
    let reducer = Reducer::new(schemes.to_vec(), &options(Dedup::Unit))?;
    let budget = folder.budget(1 << 20);
    let prefix = folder.path().join("x");
    let foreign = reducer.reduce((&files, &[1; 32]), 0..16, &prefix, &budget, &mut ok);
    let swapped = [files[1].clone(), files[0].clone()];
    let swapped = reducer.reduce((&swapped, &CONFIGURATION), 0..16, &prefix, &budget, &mut ok);
    assert!(
        matches!(swapped, Err(Error::Damaged { what, .. }) if what == "it is the file of shard 1, not of 0")
    );
    assert!(
        matches!(foreign, Err(Error::Damaged { what, .. }) if what.contains("another configuration"))
    );
    Ok(())
}

#[test]
fn files_opened_for_some_partitions() -> Result<()> {
    let (folder, schemes) = (Folder::new()?, schemes()?);
    let files = map(&schemes[1..2], folder.path(), Dedup::Unit, 4, (1, 0))?;
    let whole = ShardFile::open(&files[0])?;
    let some = ShardFile::open_range(&files[0], 5..9)?;
    assert_eq!(some.finished, whole.finished);
    assert_eq!(some.counts(), whole.counts());
    assert_eq!(4 * some.table_bytes(), whole.table_bytes());
    let mut recycler = BlockRecycler::default();
    for range in [5..9, 6..8, 8..9, 7..7] {
        let [own, all] = [&some, &whole].map(|file| file.read::<u64>(range.clone(), &mut recycler));
        let (own, all) = (own?, all?);
        for index in 0..range.len() {
            assert!(!own.partition(index).is_empty());
            assert_eq!(own.partition(index), all.partition(index));
            assert_eq!(
                some.partition_bytes(range.start + index)?,
                8 * own.partition(index).len() as u64
            );
        }
    }
    for range in [4..9, 5..10, 0..1, 9..10, 40..41] {
        let refused = some.read::<u64>(range.clone(), &mut recycler).map(drop);
        assert!(
            matches!(&refused, Err(Error::Storage(text)) if text.contains("not opened for")),
            "{range:?}"
        );
    }
    assert!(some.partition_bytes(4).is_err());
    // Wherever the header was altered: also in the entries of other partitions.
    let io = |error: std::io::Error| Error::Storage(error.to_string());
    let mut altered = fs::read(&files[0]).map_err(io)?;
    for at in (0..300).step_by(7) {
        altered[at] ^= 1;
        fs::write(&files[0], &altered).map_err(io)?;
        let opened = ShardFile::open_range(&files[0], 15..16);
        assert!(matches!(opened, Err(Error::Damaged { .. })), "byte {at}");
        altered[at] ^= 1;
    }
    fs::write(&files[0], &altered[..altered.len() - 8]).map_err(io)?;
    let cut = ShardFile::open_range(&files[0], 0..1);
    assert!(matches!(cut, Err(Error::Damaged { what, .. }) if what == "it is truncated"));
    Ok(())
}
