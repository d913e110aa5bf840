//! The scorer against a naive one: every rule, split, merged, saved, with weights.

mod common;

use common::{VOCAB, corpus, folder, ok, options, sums};
use radscore_core::schemes::{GumbelMax, Keyed, Kgw, Scheme, ScoreKind, UnitKind};
use radscore_core::{
    Combine, Documents, Error, KgramSet, Options, Result, Rule as Dedup, Scorer, Source, Tally,
    TokenSlice, positions, score_documents,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

fn additive() -> Result<Arc<dyn Scheme>> {
    Ok(Arc::new(Kgw::new(VOCAB, 0.25, sums()?, false)?))
}

/// A scheme that is slow enough to be scored after all was deduplicated.
fn slow() -> Result<Arc<dyn Scheme>> {
    Ok(Arc::new(GumbelMax::new(VOCAB, sums()?)?))
}

fn keyed(width: usize) -> Result<Arc<dyn Scheme>> {
    Ok(Arc::new(Keyed::green([7; 16], VOCAB, width, 0.25)?))
}

/// Windows in reading order.
fn windows(values: &[u16], offsets: &[i64], width: usize) -> Vec<Vec<u32>> {
    let documents = offsets
        .windows(2)
        .map(|pair| &values[pair[0] as usize..pair[1] as usize]);
    documents
        .flat_map(|document| document.windows(width))
        .map(|window| window.iter().map(|&id| id.into()).collect())
        .collect()
}

fn unit(scheme: &dyn Scheme, window: &[u32]) -> Vec<u32> {
    if scheme.unit_kind() == UnitKind::Window {
        return window.to_vec();
    }
    let mut units = [0];
    scheme.units(window, &mut units);
    (0..4).map(|i| (units[0] >> (32 * i)) as u32).collect()
}

fn score(scheme: &dyn Scheme, window: &[u32]) -> u64 {
    let mut words = [0];
    scheme.scores(window, &mut words);
    words[0]
}

/// Additive seeds are a product of the key and the sum of the context.
fn keyless(scheme: &dyn Scheme, rule: Dedup, window: &[u32]) -> bool {
    rule == Dedup::Unit && scheme.unit_kind() != UnitKind::Window && window[..2] == [0, 0]
}

/// Scored, green and removed by the definition.
fn naive(scheme: &dyn Scheme, rule: Dedup, windows: &[Vec<u32>]) -> (u64, u64, u64) {
    let mut seen = HashSet::new();
    let (mut scored, mut green) = (0, 0);
    for window in windows {
        let identity = match rule {
            Dedup::Unit => unit(scheme, window),
            Dedup::Window => window.clone(),
            Dedup::Context => window[..window.len() - 1].to_vec(),
            Dedup::None => vec![],
        };
        if keyless(scheme, rule, window) {
            continue;
        }
        if rule == Dedup::None || seen.insert(identity) {
            scored += 1;
            green += score(scheme, window);
        }
    }
    (scored, green, windows.len() as u64 - scored)
}

fn summary(tally: &Tally) -> (u64, u64, u64) {
    let removed = tally.duplicates + tally.sums.keyless;
    (tally.sums.scored, tally.sums.green, removed)
}

fn add(
    scorer: &mut Scorer,
    values: &[u16],
    offsets: &[i64],
    weights: Option<&[f64]>,
) -> Result<()> {
    let documents = Documents::new(TokenSlice::U16(values), offsets, VOCAB)?;
    scorer.add(&Source::new(documents, None)?, weights, &mut ok)
}

/// What a state of a scorer is loaded as.
fn reloaded(
    scorer: &mut Scorer,
    schemes: Vec<Arc<dyn Scheme>>,
    options: &Options,
) -> Result<Scorer> {
    let folder = folder()?;
    let path = folder.path().join("state");
    scorer.save(&path, b"header")?;
    let (header, file) = Scorer::open(&path)?;
    assert_eq!(header, b"header");
    let mut loaded = Scorer::new(schemes, options)?;
    loaded.restore(file)?;
    Ok(loaded)
}

#[test]
fn follows_every_rule_for_several_schemes_at_once() -> Result<()> {
    let (values, offsets) = corpus();
    let all = [additive()?, keyed(1)?, keyed(2)?, keyed(12)?, keyed(16)?];
    let rules = [Dedup::Unit, Dedup::Window, Dedup::Context, Dedup::None];
    for (schemes, rule) in [&all[..], &all[..1]]
        .iter()
        .flat_map(|set| rules.map(|rule| (set.to_vec(), rule)))
    {
        let mut whole = Scorer::new(schemes.clone(), &options(rule))?;
        add(&mut whole, &values, &offsets, None)?;
        let tallies = whole.tallies(&mut ok)?;
        for (scheme, tally) in schemes.iter().zip(&tallies) {
            let windows = windows(&values, &offsets, scheme.window_width());
            assert_eq!(summary(tally), naive(scheme.as_ref(), rule, &windows));
        }
        // In pieces, with a save and a restore of unscored and scored windows between them.
        let mut pieces = Scorer::new(schemes.clone(), &options(rule))?;
        for (i, cut) in [0..50, 50..51, 51..200, 200..300].into_iter().enumerate() {
            add(&mut pieces, &values, &offsets[cut.start..=cut.end], None)?;
            if i == 2 {
                pieces.flush(&mut ok)?;
            }
            pieces = reloaded(&mut pieces, schemes.clone(), &options(rule))?;
        }
        assert_eq!(pieces.tallies(&mut ok)?, tallies);
        // Two scorers, merged.
        let mut left = Scorer::new(schemes.clone(), &options(rule))?;
        let mut right = Scorer::new(schemes.clone(), &options(rule))?;
        add(&mut left, &values, &offsets[..=120], None)?;
        add(&mut right, &values, &offsets[120..], None)?;
        right.flush(&mut ok)?;
        left.merge(&right)?;
        assert_eq!(left.tallies(&mut ok)?, tallies);
    }
    Ok(())
}

#[test]
fn combines_weights() -> Result<()> {
    let (values, offsets) = corpus();
    let weights: Vec<f64> = (0..values.len())
        .map(|i| ((i * 37) % 11) as f64 - 5.0)
        .collect();
    let scheme = additive()?;
    for (rule, combine) in [
        (Dedup::Unit, Combine::One),
        (Dedup::Unit, Combine::Sum),
        (Dedup::Window, Combine::Sum),
        (Dedup::Context, Combine::One),
        (Dedup::None, Combine::Sum),
    ] {
        let all = Options {
            combine,
            ..options(rule)
        };
        let mut scorer = Scorer::new(vec![scheme.clone()], &all)?;
        add(
            &mut scorer,
            &values,
            &offsets[..=100],
            Some(&weights[..offsets[100] as usize]),
        )?;
        let mut rest = Scorer::new(vec![scheme.clone()], &all)?;
        add(
            &mut rest,
            &values,
            &offsets[100..],
            Some(&weights[offsets[100] as usize..]),
        )?;
        let restored = reloaded(&mut rest, vec![scheme.clone()], &all)?;
        scorer.merge(&restored)?;
        let tally = scorer.tallies(&mut ok)?.remove(0);
        // The definition: small whole weights, so that every sum is exact.
        let mut combined: HashMap<Vec<u32>, (f64, u64)> = HashMap::new();
        let mut place = 0;
        for pair in offsets.windows(2) {
            for at in pair[0] as usize + 2..pair[1] as usize {
                let window: Vec<u32> = values[at - 2..=at].iter().map(|&id| id.into()).collect();
                place += 1;
                if keyless(scheme.as_ref(), rule, &window) {
                    continue;
                }
                let identity = match rule {
                    Dedup::Unit => unit(scheme.as_ref(), &window),
                    Dedup::Window => window.clone(),
                    Dedup::Context => window[..2].to_vec(),
                    Dedup::None => vec![place],
                };
                let entry = combined.entry(identity);
                let fresh = (0.0, score(scheme.as_ref(), &window));
                let seen = matches!(entry, std::collections::hash_map::Entry::Occupied(_));
                let slot = entry.or_insert(fresh);
                if combine == Combine::Sum || !seen {
                    slot.0 += weights[at];
                }
            }
        }
        combined.retain(|_, (weight, _)| *weight != 0.0);
        let sums = tally
            .weights
            .clone()
            .ok_or(Error::State("no weights".into()))?;
        assert_eq!(tally.sums.scored, combined.len() as u64);
        let total =
            |f: fn(f64, f64) -> f64| combined.values().map(|&(w, s)| f(w, s as f64)).sum::<f64>();
        assert_eq!(sums.weight.value(), total(|w, _| w));
        assert_eq!(sums.square.value(), total(|w, _| w * w));
        assert_eq!(sums.product.value(), total(|w, s| w * s));
        let windows = tally.counts.windows;
        let left_out = tally.duplicates + tally.sums.keyless + sums.zero;
        assert_eq!(tally.sums.scored + left_out, windows);
        assert_eq!(tally.sums.keyless > 0, rule == Dedup::Unit);
        let units = scorer
            .weighted_units(0, true, &mut ok)?
            .ok_or(Error::State("no weights".into()))?;
        assert_eq!(units.groups.len(), units.weights.len());
    }
    Ok(())
}

#[test]
fn pairs_of_one_place_stay_together() -> Result<()> {
    let all = Options {
        combine: Combine::Sum,
        ..options(Dedup::Context)
    };
    let mut scorer = Scorer::new(vec![keyed(1)?], &all)?;
    let windows = [3, 1, 3, 2, 4, 1, 3, 1, 3, 5];
    let weights = [0.5, 0.25, 1.0, 8.0, 16.0];
    scorer.add_windows(&windows, 2, Some(&weights), Some(&[0, 0, 1, 2, 2]), &mut ok)?;
    let units = scorer
        .weighted_units(0, true, &mut ok)?
        .ok_or(Error::State("no weights".into()))?;
    assert_eq!(units.weights, [0.5, 0.25, 1.0]);
    Ok(())
}

#[test]
fn filters_by_context() -> Result<()> {
    let (values, offsets) = corpus();
    let filter_set = Arc::new(KgramSet::from_rows(&[0, 0, 1, 0, 0, 7], 2, VOCAB)?);
    let filter = Some(Arc::clone(&filter_set));
    let scheme = keyed(2)?;
    let all = Options {
        filter,
        ..options(Dedup::Unit)
    };
    let mut scorer = Scorer::new(vec![scheme.clone()], &all)?;
    add(&mut scorer, &values, &offsets, None)?;
    let mut kept = windows(&values, &offsets, 3);
    let before = kept.len() as u64;
    kept.retain(|window| filter_set.contains(&window[..2]));
    let tally = scorer.tallies(&mut ok)?.remove(0);
    assert_eq!(summary(&tally), naive(scheme.as_ref(), Dedup::Unit, &kept));
    assert_eq!(tally.counts.filtered, before - kept.len() as u64);
    assert!(Scorer::new(vec![keyed(3)?], &all).is_err());
    Ok(())
}

#[test]
fn a_document_is_a_test_of_its_own() -> Result<()> {
    let (values, offsets) = corpus();
    let documents = Documents::new(TokenSlice::U16(&values), &offsets, VOCAB)?;
    let source = Source::new(documents, None)?;
    for scheme in [additive()?, keyed(2)?] {
        for rule in [Dedup::Unit, Dedup::Window, Dedup::Context, Dedup::None] {
            let all = options(rule);
            let tallies = score_documents(&scheme, &all, &source, None, &mut ok)?;
            let places = positions(&scheme, &all, &source, None, &mut ok)?;
            for (i, tally) in tallies.iter().enumerate() {
                let own = windows(&values, &offsets[i..=i + 1], 3);
                let (scored, green, removed) = naive(scheme.as_ref(), rule, &own);
                let removed_here = tally.duplicates + tally.keyless;
                let found = (tally.scored, tally.statistic, removed_here);
                assert_eq!(found, (scored, green as f64, removed));
                let span = offsets[i] as usize..offsets[i + 1] as usize;
                let count = places.status[span.clone()]
                    .iter()
                    .filter(|&&s| s == 0)
                    .count() as u64;
                let sum: f64 = places.scores[span].iter().filter(|s| s.is_finite()).sum();
                assert_eq!((count, sum), (scored, green as f64));
            }
        }
    }
    Ok(())
}

#[test]
fn an_interruption_loses_nothing() -> Result<()> {
    let (values, offsets) = corpus();
    let scheme = additive()?;
    assert_eq!(scheme.score_kind(), ScoreKind::Green);
    let mut calm = Scorer::new(vec![scheme.clone()], &options(Dedup::Unit))?;
    add(&mut calm, &values, &offsets, None)?;
    let mut hurried = Scorer::new(vec![scheme], &options(Dedup::Unit))?;
    let documents = Documents::new(TokenSlice::U16(&values), &offsets, VOCAB)?;
    let source = Source::new(documents, None)?;
    assert_eq!(
        hurried.add(&source, None, &mut || Err(Error::Interrupted)),
        Err(Error::Interrupted)
    );
    assert!(hurried.tallies(&mut || Err(Error::Interrupted)).is_err());
    assert_eq!(hurried.tallies(&mut ok)?, calm.tallies(&mut ok)?);
    Ok(())
}

/// The stop may come between deduplication and scoring, and the state be saved then.
#[test]
fn an_interruption_that_is_saved_loses_nothing() -> Result<()> {
    let (values, offsets) = corpus();
    for schemes in [vec![slow()?], vec![slow()?, keyed(2)?]] {
        let mut whole = Scorer::new(schemes.clone(), &options(Dedup::Unit))?;
        add(&mut whole, &values, &offsets, None)?;
        let expected = whole.tallies(&mut ok)?;
        let mut interrupted = 0;
        for stop_at in 1..30 {
            let mut scorer = Scorer::new(schemes.clone(), &options(Dedup::Unit))?;
            add(&mut scorer, &values, &offsets, None)?;
            let mut looks = 0;
            let stopped = scorer.flush(&mut || {
                looks += 1;
                if looks == stop_at {
                    Err(Error::Interrupted)
                } else {
                    Ok(())
                }
            });
            interrupted += u32::from(stopped.is_err());
            let rules = options(Dedup::Unit);
            let mut restored = reloaded(&mut scorer, schemes.clone(), &rules)?;
            assert_eq!(
                restored.tallies(&mut ok)?,
                expected,
                "stopped at look {stop_at}"
            );
            assert_eq!(scorer.tallies(&mut ok)?, expected);
        }
        assert!(interrupted > 1);
    }
    Ok(())
}

#[test]
fn refuses_what_makes_no_sense() -> Result<()> {
    assert!(Scorer::new(vec![], &options(Dedup::Unit)).is_err());
    let mut scorer = Scorer::new(vec![keyed(2)?], &options(Dedup::Unit))?;
    let (values, offsets) = ([1u16, 2, 3, 4], [0i64, 4]);
    assert!(add(&mut scorer, &values, &offsets, Some(&[1.0])).is_err());
    assert!(
        add(
            &mut scorer,
            &values,
            &offsets,
            Some(&[1.0, 1.0, f64::NAN, 1.0])
        )
        .is_err()
    );
    add(&mut scorer, &values, &offsets, None)?;
    assert!(add(&mut scorer, &values, &offsets, Some(&[1.0; 4])).is_err());
    let early = Options {
        start: Some(1),
        ..options(Dedup::Unit)
    };
    assert!(Scorer::new(vec![keyed(2)?], &early).is_err());
    Ok(())
}

#[test]
fn an_interruption_keeps_the_curve() -> Result<()> {
    let (values, offsets) = corpus();
    let steps = vec![100, 1000, 2000, values.len() as u64];
    let mut calm = Scorer::new(vec![additive()?], &options(Dedup::Unit))?;
    calm.set_curve(steps.clone())?;
    add(&mut calm, &values, &offsets, None)?;
    for fail_at in 0..8 {
        let mut hurried = Scorer::new(vec![additive()?], &options(Dedup::Unit))?;
        hurried.set_curve(steps.clone())?;
        let documents = Documents::new(TokenSlice::U16(&values), &offsets, VOCAB)?;
        let source = Source::new(documents, None)?;
        let mut looks = 0;
        let stopped = hurried.add(&source, None, &mut || {
            looks += 1;
            if looks == fail_at + 1 {
                Err(Error::Interrupted)
            } else {
                Ok(())
            }
        });
        let read = hurried.tokens() as usize;
        assert!(stopped.is_err() || read == values.len());
        // The rest, from the document that was cut: windows across the cut are lost, as documented.
        hurried.tallies(&mut ok)?;
        let expected = calm
            .curve()
            .iter()
            .filter(|(tokens, _)| *tokens <= read as u64);
        assert!(hurried.curve().iter().eq(expected));
    }
    Ok(())
}

#[test]
fn a_long_document_keeps_its_prompt() -> Result<()> {
    // Longer than a chunk of work, so that the prompt's contexts serve several chunks.
    let values: Vec<u16> = (0..200_000u32).map(|i| (i * i % 37) as u16).collect();
    let offsets = [0, 5, 199_990, 200_000];
    let prompts: Vec<u16> = values[1000..1020].to_vec();
    let documents = Documents::new(TokenSlice::U16(&values), &offsets, VOCAB)?;
    let prompts = Documents::new(TokenSlice::U16(&prompts), &[0, 0, 20, 20], VOCAB)?;
    let source = Source::new(documents, Some(prompts))?;
    let mut scorer = Scorer::new(vec![keyed(2)?], &options(Dedup::Window))?;
    scorer.add(&source, None, &mut ok)?;
    let own = &values[1000..1020];
    let excluded = (5 + 2..199_990)
        .filter(|&at| own.windows(2).any(|pair| pair == &values[at - 2..at]))
        .count();
    assert!(excluded > 0);
    assert_eq!(scorer.tallies(&mut ok)?[0].counts.excluded, excluded as u64);
    Ok(())
}

#[test]
fn a_state_of_another_vocabulary_is_refused() -> Result<()> {
    let mut large = Scorer::new(
        vec![Arc::new(Keyed::green([7; 16], 900, 2, 0.25)?)],
        &options(Dedup::Unit),
    )?;
    let documents = Documents::new(TokenSlice::U16(&[899, 898, 897, 896]), &[0, 4], 900)?;
    large.add(&Source::new(documents, None)?, None, &mut ok)?;
    let other = reloaded(&mut large, vec![keyed(2)?], &options(Dedup::Unit));
    assert!(matches!(other.err(), Some(Error::State(text)) if text.contains("another vocabulary")));
    Ok(())
}

#[test]
fn weights_and_places_have_bounds() -> Result<()> {
    let summed = Options {
        combine: Combine::Sum,
        ..options(Dedup::Unit)
    };
    let mut scorer = Scorer::new(vec![keyed(1)?], &summed)?;
    let same = [1, 2, 1, 2, 1, 2, 1, 2];
    assert!(
        scorer
            .add_windows(&same, 2, Some(&[1e101; 4]), None, &mut ok)
            .is_err()
    );
    let far = Some(&[u64::MAX, 0, 0, 0][..]);
    assert!(
        scorer
            .add_windows(&same, 2, Some(&[1.0; 4]), far, &mut ok)
            .is_err()
    );
    // The exact sum is 2^-20; added one after the other it would be 0.
    let weights = [1e100, 2f64.powi(-20), -1e100, 0.0];
    scorer.add_windows(&same, 2, Some(&weights), None, &mut ok)?;
    let sums = scorer.tallies(&mut ok)?.remove(0).weights;
    assert_eq!(sums.map(|sums| sums.weight.value()), Some(2f64.powi(-20)));
    Ok(())
}
