//! Windows with weights: sums under many keys at once, and in files, against sums one unit at a time.

#[allow(dead_code)] // others use the rest
mod common;

use common::{VOCAB, folder, ok, options, sums};
use radscore_core::schemes::{
    GumbelMax, Keyed, Kgw, Prf, Sbw, Scheme, SglangGumbel, SynthId, SynthIdDeepMind, TextSeal,
    VllmGumbel,
};
use radscore_core::{Budget, Combine, Damping, Error, Options, Result, Rule, Scorer, Tally};
use std::path::Path;
use std::sync::Arc;

/// Enough for several partitions.
const ROWS: usize = 18_000;

type Schemes = Vec<Arc<dyn Scheme>>;

/// Under three keys each, schemes of every kind of unit.
fn schemes() -> Result<Vec<(&'static str, Schemes)>> {
    let mut all: Vec<(&str, Schemes)> = Vec::new();
    let mut add = |name, make: &dyn Fn(u8) -> Result<Arc<dyn Scheme>>| {
        let keys: Result<Schemes> = [7, 8, 9].into_iter().map(make).collect();
        keys.map(|keys| all.push((name, keys)))
    };
    let keys = |key: u8| -> Vec<i64> { (1..9).map(|i| i * 1_234_567 + i64::from(key)).collect() };
    add("keyed", &|key| {
        Ok(Arc::new(Keyed::green([key; 16], VOCAB, 2, 0.25)?))
    })?;
    add("keyed gumbel", &|key| {
        Ok(Arc::new(Keyed::gumbel([key; 16], VOCAB, 2)?))
    })?;
    add("vllm", &|key| {
        Ok(Arc::new(VllmGumbel::single(key.into(), VOCAB, 2)?))
    })?;
    add("kgw", &|key| {
        Ok(Arc::new(Kgw::new(VOCAB, 0.25, sums()?, key == 8)?))
    })?;
    add("gumbel", &|_| Ok(Arc::new(GumbelMax::new(VOCAB, sums()?)?)))?;
    add("sbw", &|key| {
        let sbw = Sbw::new(key.into(), VOCAB, 0.25, Prf::MinHash, 2, false, false)?;
        Ok(Arc::new(sbw))
    })?;
    add("sglang", &|key| {
        Ok(Arc::new(SglangGumbel::new(key.into(), None, VOCAB, 2)?))
    })?;
    add("textseal", &|key| {
        Ok(Arc::new(TextSeal::green(key.into(), VOCAB, 2, 0.25)?))
    })?;
    add("synthid", &|key| {
        Ok(Arc::new(SynthId::new(&keys(key), VOCAB, 3, 1 << 12, 0)?))
    })?;
    add("synthid odd", &|key| {
        Ok(Arc::new(SynthId::new(&keys(key), VOCAB, 3, 999, 0)?))
    })?;
    add("deepmind", &|key| {
        Ok(Arc::new(SynthIdDeepMind::new(&keys(key), VOCAB, 3)?))
    })?;
    Ok(all)
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Windows, weights of very different sizes and both signs, and places.
fn rows() -> (Vec<u32>, Vec<f64>, Vec<u64>) {
    let mut state = 3u64;
    let tokens = (0..3 * ROWS).map(|_| (random(&mut state) % u64::from(VOCAB)) as u32);
    let tokens = tokens.collect();
    let weights = (0..ROWS).map(|row| match row % 50 {
        0 => 0.0,
        1 => 1e-30 * random(&mut state) as f64,
        2 => -1e18 / (1 + random(&mut state)) as f64,
        _ => random(&mut state) as f64 / 2f64.powi(31) - 0.4,
    });
    let weights = weights.collect();
    let places = (0..ROWS).map(|_| random(&mut state) % (ROWS as u64 / 2));
    let places = places.collect();
    (tokens, weights, places)
}

fn scorer(schemes: &Schemes, rules: &Options, files: Option<&Path>) -> Result<Scorer> {
    let mut scorer = Scorer::new(schemes.clone(), rules)?;
    if let Some(folder) = files {
        scorer.set_limit(Budget {
            memory: 1 << 16,
            folders: vec![folder.to_owned()],
        });
    }
    Ok(scorer)
}

fn added(mut scorer: Scorer, rows: std::ops::Range<usize>) -> Result<Scorer> {
    let (tokens, weights, places) = self::rows();
    for from in rows.clone().step_by(5000) {
        let own = from..rows.end.min(from + 5000);
        let tokens = &tokens[3 * own.start..3 * own.end];
        scorer.add_windows(
            tokens,
            3,
            Some(&weights[own.clone()]),
            Some(&places[own]),
            &mut ok,
        )?;
    }
    Ok(scorer)
}

/// The sum rounded once, by exact partial sums (Shewchuk's, as in Python's `math.fsum`).
fn fsum(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut partials: Vec<f64> = Vec::new();
    for mut x in numbers {
        let mut kept = 0;
        for at in 0..partials.len() {
            let mut y = partials[at];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                partials[kept] = low;
                kept += 1;
            }
            x = high;
        }
        partials.truncate(kept);
        partials.push(x);
    }
    let mut high = partials.pop().unwrap_or(0.0);
    let mut low = 0.0;
    while let Some(y) = partials.pop() {
        let x = high;
        high = x + y;
        low = y - (high - x);
        if low != 0.0 {
            break;
        }
    }
    let half = partials
        .last()
        .is_some_and(|&next| (low < 0.0) == (next < 0.0) && next != 0.0);
    let doubled = 2.0 * low;
    if half && low != 0.0 && doubled == (high + doubled) - high {
        high += doubled;
    }
    high
}

const RULES: [(Rule, Combine); 7] = [
    (Rule::Unit, Combine::Sum),
    (Rule::Unit, Combine::One),
    (Rule::Unit, Combine::First),
    (Rule::Window, Combine::Sum),
    (Rule::Context, Combine::One),
    (Rule::Context, Combine::Sum),
    (Rule::None, Combine::Sum),
];

/// None, both and one of the two, in turn.
const DAMPING: [Damping; 3] = [
    Damping {
        saturation: f64::INFINITY,
        frequency: 0.0,
    },
    Damping {
        saturation: 2.0,
        frequency: 3.0,
    },
    Damping {
        saturation: 0.5,
        frequency: 0.0,
    },
];

/// The sums of a tally, which say the same of its units one by one.
fn check(name: &str, scorer: &mut Scorer, index: usize, tally: &Tally) -> Result<()> {
    let units = scorer.weighted_units(index, true, &mut ok)?;
    let units = units.ok_or(Error::State("no weights".into()))?;
    let sums = tally
        .weights
        .clone()
        .ok_or(Error::State("no weights".into()))?;
    let weights = || units.weights.iter().copied();
    assert_eq!(sums.weight.value(), fsum(weights()), "{name}");
    assert_eq!(
        sums.square.value(),
        fsum(weights().map(|w| w * w)),
        "{name}"
    );
    let products = weights().zip(&units.scores).map(|(w, s)| w * s);
    assert_eq!(sums.product.value(), fsum(products), "{name}");
    let most = weights().fold(0.0, |most: f64, w| most.max(w.abs()));
    assert_eq!(sums.max_abs, most, "{name}");
    if units.residues.is_empty() {
        assert_eq!(tally.sums.scored, units.weights.len() as u64, "{name}");
    }
    let counted = tally.sums.scored + tally.sums.keyless + sums.zero + tally.duplicates;
    assert_eq!(counted, ROWS as u64, "{name}");
    Ok(())
}

#[test]
fn keys_together_in_memory_and_in_files() -> Result<()> {
    let temporary = folder()?;
    for (name, keys) in schemes()? {
        for ((rule, combine), damping) in RULES.into_iter().zip(DAMPING.into_iter().cycle()) {
            let rules = Options {
                combine,
                damping,
                ..options(rule)
            };
            let name = &format!("{name}, {rule:?}, {combine:?}, {damping:?}");
            let mut together = added(scorer(&keys, &rules, None)?, 0..ROWS)?;
            let tallies = together.tallies(&mut ok)?;
            check(name, &mut together, 2, &tallies[2])?;
            let mut alone = added(scorer(&keys[1..2].to_vec(), &rules, None)?, 0..ROWS)?;
            assert_eq!(alone.tallies(&mut ok)?[..], tallies[1..2], "{name}");
            // Merged and saved, with most of the windows in files.
            let files = Some(temporary.path());
            let mut first = added(scorer(&keys, &rules, files)?, 0..ROWS / 3)?;
            let mut second = added(scorer(&keys, &rules, files)?, ROWS / 3..ROWS)?;
            assert!(second.is_in_files());
            let path = temporary.path().join("state");
            second.save(&path, b"")?;
            let mut loaded = scorer(&keys, &rules, files)?;
            loaded.restore(Scorer::open(&path)?.1)?;
            first.merge(&loaded)?;
            let mut whole = added(scorer(&keys, &rules, None)?, 0..ROWS / 3)?;
            whole = added(whole, ROWS / 3..ROWS)?;
            let (expected, found) = (whole.tallies(&mut ok)?, first.tallies(&mut ok)?);
            assert_eq!(found, expected, "{name}");
            let mine = first.weighted_units(2, true, &mut ok)?.unwrap_or_default();
            let theirs = whole.weighted_units(2, true, &mut ok)?.unwrap_or_default();
            assert_eq!(mine.weights, theirs.weights, "{name}");
            assert_eq!(mine.scores, theirs.scores, "{name}");
            assert_eq!(
                (mine.groups, mine.residues),
                (theirs.groups, theirs.residues)
            );
        }
    }
    let left = std::fs::read_dir(temporary.path()).map(Iterator::count);
    assert_eq!(left.ok(), Some(1), "only the saved state is left");
    Ok(())
}
