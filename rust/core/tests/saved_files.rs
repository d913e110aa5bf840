//! Saved files, damaged or made up: each is refused, or does no harm.
//!
//! `RADSCORE_MUTATIONS` says how many to try of each kind of file.

mod common;

use common::{VOCAB, corpus, folder, ok, options, sums};
use radscore_core::memory::caught;
use radscore_core::schemes::{Keyed, Kgw, Scheme, SglangGumbel, SynthId};
use radscore_core::{
    BlockRecycler, Budget, Collector, Combine, Documents, Error, KgramCounts, KgramSet, Options,
    Pool, Reducer, Result, Rule as Dedup, Scorer, ShardFile, Sharing, Source, TokenSlice,
    WindowShape, score_sharing,
};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Load = Box<dyn Fn(&Path) -> Result<()>>;

/// A saved file and what loads it and uses all of it.
struct Saved {
    name: &'static str,
    path: PathBuf,
    load: Load,
}

fn storage(error: std::io::Error) -> Error {
    Error::Storage(error.to_string())
}

fn schemes() -> Result<Vec<Arc<dyn Scheme>>> {
    Ok(vec![
        Arc::new(Keyed::green([7; 16], VOCAB, 2, 0.25)?),
        Arc::new(Kgw::new(VOCAB, 0.25, sums()?, false)?),
        Arc::new(SglangGumbel::new(77, None, VOCAB, 2)?),
        Arc::new(SynthId::new(&[3, 5, 7], VOCAB, 3, 64, 0)?),
    ])
}

fn source<'a>(values: &'a [u16], offsets: &'a [i64]) -> Result<Source<'a>> {
    Source::new(
        Documents::new(TokenSlice::U16(values), offsets, VOCAB)?,
        None,
    )
}

fn state(name: &'static str, folder: &Path, own: Options, half: bool) -> Result<Saved> {
    let (values, offsets) = corpus();
    let mut scorer = Scorer::new(schemes()?, &own)?;
    if own.combine == Combine::Sum {
        scorer.set_weighted();
    }
    scorer.add(&source(&values, &offsets[..200])?, None, &mut ok)?;
    scorer.flush(&mut ok)?;
    if half {
        scorer.add(&source(&values, &offsets[200..])?, None, &mut ok)?;
    }
    let path = folder.join(name);
    scorer.save(&path, b"a header")?;
    let load = move |path: &Path| {
        let (_, file) = Scorer::open(path)?;
        let mut loaded = Scorer::new(schemes()?, &own)?;
        loaded.restore(file)?;
        loaded.add(&source(&values, &offsets)?, None, &mut ok)?;
        loaded.tallies(&mut ok).map(drop)
    };
    Ok(Saved {
        name,
        path,
        load: Box::new(load),
    })
}

fn kgrams(folder: &Path) -> Result<Vec<Saved>> {
    let (values, offsets) = corpus();
    let documents = Documents::new(TokenSlice::U16(&values), &offsets, VOCAB)?;
    let mut counts = KgramCounts::new(3, VOCAB)?;
    counts.add(&documents, Pool::shared(), &mut ok)?;
    counts.set_origin("somewhere")?;
    let (set, numbers) = (folder.join("set"), folder.join("counts"));
    counts.save(&numbers)?;
    counts.top(50, 1).with_origin("there")?.save(&set)?;
    let load_set: Load = Box::new(|path| KgramSet::load(path)?.fingerprint().map(drop));
    let load_counts: Load = Box::new(|path| {
        KgramCounts::load(path)?.top(9, 1);
        Ok(())
    });
    let saved = |name, path, load| Saved { name, path, load };
    Ok(vec![
        saved("set", set, load_set),
        saved("counts", numbers, load_counts),
    ])
}

fn sharing(folder: &Path) -> Result<Saved> {
    let (values, offsets) = corpus();
    let scheme = schemes()?.remove(0);
    let path = folder.join("sharing");
    let mut table = Sharing::new(2)?;
    let source = source(&values, &offsets)?;
    score_sharing(
        &scheme,
        &options(Dedup::Unit),
        &source,
        None,
        &mut table,
        &mut ok,
    )?;
    table.save(&path)?;
    let load: Load = Box::new(|path| Sharing::load(path).map(drop));
    Ok(Saved {
        name: "sharing",
        path,
        load,
    })
}

/// A shard's file, and one that a reducer hands on.
fn shards(folder: &Path) -> Result<Vec<Saved>> {
    let (values, offsets) = corpus();
    let (units, rules) = (schemes()?.remove(1), options(Dedup::Unit));
    let mut collector = Collector::new(WindowShape::of(&*units, None), None, &rules, 3)?;
    collector.add(&source(&values, &offsets)?, 0..values.len(), &mut ok)?;
    let path = folder.join("shard");
    collector.write_shard(&path, [9; 32], 0)?;
    let budget = Budget {
        memory: 1 << 20,
        folders: vec![folder.to_owned()],
    };
    let reducer = Reducer::new(vec![units], &rules)?;
    let files = [path.clone()];
    let prefix = folder.join("out");
    let (_, handed) = reducer.reduce((&files, &[9; 32]), 0..8, &prefix, &budget, &mut ok)?;
    let load: fn(&Path) -> Load = |_| {
        Box::new(|path| {
            let file = ShardFile::open(path)?;
            let mut recycler = BlockRecycler::default();
            file.read::<u64>(0..1 << file.bits(), &mut recycler)
                .map(drop)
        })
    };
    let exchange = handed[0].1.clone();
    Ok(vec![
        Saved {
            name: "shard",
            load: load(&path),
            path,
        },
        Saved {
            name: "exchange",
            load: load(&exchange),
            path: exchange,
        },
    ])
}

fn every_file(folder: &Path) -> Result<Vec<Saved>> {
    let weighted = Options {
        combine: Combine::Sum,
        ..options(Dedup::Unit)
    };
    let mut all = vec![
        state("scored", folder, options(Dedup::Unit), false)?,
        state("waiting", folder, options(Dedup::Context), true)?,
        state("counting all", folder, options(Dedup::None), true)?,
        state("weighted", folder, weighted, true)?,
        sharing(folder)?,
    ];
    all.extend(kgrams(folder)?);
    all.extend(shards(folder)?);
    Ok(all)
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.0 >> 33) as usize) % most.max(1)
    }
}

/// Other bytes than these: bits or words changed, cut, longer, or in another order.
fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => out[at] ^= 1 << random.below(8),
        1 => out.truncate(at),
        2 => out.extend_from_slice(&bytes[at..]),
        3 => {
            let length = 1 + random.below((bytes.len() - at).min(64));
            let to = random.below(bytes.len() - length + 1);
            out.copy_within(at..at + length, to);
        }
        4 => {
            let words = [
                0,
                1,
                u64::MAX,
                1 << 63,
                1 << 60,
                1 << 32,
                bytes.len() as u64,
            ];
            let word = words[random.below(words.len())].to_le_bytes();
            let end = out.len().min(at / 8 * 8 + 8);
            out[at / 8 * 8..end].copy_from_slice(&word[..end - at / 8 * 8]);
        }
        5 => {
            let end = out.len().min(at + 1 + random.below(40));
            out.drain(at..end);
        }
        _ => {
            let half = out.len() / 2;
            let (left, right) = out.split_at_mut(half);
            let length = left.len().min(32);
            let (from, to) = (
                random.below(half - length + 1),
                random.below(right.len() - length + 1),
            );
            left[from..from + length].swap_with_slice(&mut right[to..to + length]);
        }
    }
    out
}

/// Makes the checksums of a mutated file right, as someone would who means it.
fn forged(mut bytes: Vec<u8>) -> Vec<u8> {
    let put = |bytes: &mut [u8], end: usize| {
        let digest = Sha256::digest(&bytes[..end]);
        bytes[end..end + 32].copy_from_slice(&digest);
    };
    let length = |bytes: &[u8]| {
        let word = bytes.get(8..16).and_then(|word| word.try_into().ok());
        word.map_or(usize::MAX, |word| u64::from_le_bytes(word) as usize)
    };
    let behind = length(&bytes).saturating_add(16);
    if behind.saturating_add(32) <= bytes.len() && !bytes.starts_with(b"RSK") {
        put(&mut bytes, behind);
    }
    if bytes.len() >= 40 && !bytes.starts_with(b"RSSF") {
        let end = bytes.len() - 32;
        put(&mut bytes, end);
    }
    bytes
}

fn mutations() -> usize {
    let asked = std::env::var("RADSCORE_MUTATIONS").ok();
    asked.and_then(|number| number.parse().ok()).unwrap_or(1500)
}

#[test]
fn any_damage_is_an_error() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("file");
    for saved in every_file(folder.path())? {
        (saved.load)(&saved.path)?;
        let bytes = fs::read(&saved.path).map_err(storage)?;
        let mut random = Random(1);
        for round in 0..mutations() {
            let damaged = mutated(&bytes, &mut random);
            if damaged == bytes {
                continue;
            }
            fs::write(&path, damaged).map_err(storage)?;
            let found = caught(|| (saved.load)(&path));
            let named = |text: &str| text.contains(&path.display().to_string());
            assert!(
                matches!(&found, Err(Error::State(text) | Error::Storage(text)) if named(text))
                    || matches!(&found, Err(Error::Damaged { .. })),
                "{} {round}: {found:?}",
                saved.name
            );
        }
    }
    Ok(())
}

#[test]
fn what_is_made_up_does_no_harm() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("file");
    for saved in every_file(folder.path())? {
        let bytes = fs::read(&saved.path).map_err(storage)?;
        let mut random = Random(2);
        let mut accepted = 0;
        for round in 0..mutations() {
            let made_up = forged(mutated(&bytes, &mut random));
            fs::write(&path, made_up).map_err(storage)?;
            let found = caught(|| (saved.load)(&path));
            accepted += usize::from(found.is_ok());
            assert!(
                !matches!(found, Err(Error::Internal(_) | Error::Memory(_))),
                "{} {round}: {found:?}",
                saved.name
            );
        }
        assert!(accepted < mutations(), "{}", saved.name);
    }
    Ok(())
}
