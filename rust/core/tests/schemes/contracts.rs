//! What holds for every scheme: its forms agree, its null share is right, its parameters are checked.

use super::{HASH, KEY, scores, units};
use radscore_core::Result;
use radscore_core::schemes::{
    GumbelMax, Keyed, Kgw, LM_TABLE_SEED, Prf, Sbw, Scheme, ScoreKind, Seeding, SeedingRule,
    SglangGumbel, SynthId, SynthIdDeepMind, TextSeal, UnitKind, VllmGumbel,
};

fn every_scheme() -> Result<Vec<(&'static str, Box<dyn Scheme>)>> {
    let vocab = 700;
    let prf = |prf, table_seed| SeedingRule::Prf {
        prf,
        hash_key: KEY,
        table_seed,
    };
    let keys: Vec<i64> = (1..31).collect();
    let hash = Seeding::new(HASH, 2, false)?;
    let lm = Seeding::new(prf(Prf::AnchoredMinHash, LM_TABLE_SEED.into()), 4, true)?;
    let one = Seeding::new(prf(Prf::Additive, 0), 1, true)?;
    let minhash = Seeding::new(prf(Prf::MinHash, 5), 4, false)?;
    let left = Seeding::new(SeedingRule::LastToken { hash_key: KEY }, 3, false)?;
    Ok(vec![
        (
            "kgw hash",
            Box::new(Kgw::new(vocab, 0.25, hash.clone(), false)?),
        ),
        (
            "kgw last",
            Box::new(Kgw::new(vocab, 0.25, hash.clone(), true)?),
        ),
        (
            "kgw self-salted",
            Box::new(Kgw::new(vocab, 0.25, lm, false)?),
        ),
        (
            "kgw self-salted, width 1",
            Box::new(Kgw::new(vocab, 0.25, one, false)?),
        ),
        (
            "kgw minhash",
            Box::new(Kgw::new(vocab, 0.5, minhash, false)?),
        ),
        ("kgw lefthash", Box::new(Kgw::new(vocab, 0.5, left, false)?)),
        ("gumbel", Box::new(GumbelMax::new(vocab, hash.clone())?)),
        (
            "synthid",
            Box::new(SynthId::new(&keys, vocab, 5, 65_536, 0)?),
        ),
        (
            "synthid, odd table",
            Box::new(SynthId::new(&keys, vocab, 5, 1001, 3)?),
        ),
        ("deepmind", Box::new(SynthIdDeepMind::new(&keys, vocab, 5)?)),
        ("textseal", Box::new(TextSeal::green(-7, vocab, 3, 0.25)?)),
        ("textseal gumbel", Box::new(TextSeal::gumbel(7, vocab, 10)?)),
        ("vllm", Box::new(VllmGumbel::single(7, vocab, 5)?)),
        ("sglang", Box::new(SglangGumbel::new(7, None, vocab, 4)?)),
        (
            "sglang dual",
            Box::new(SglangGumbel::new(7, Some((9, 0.5)), vocab, 1)?),
        ),
        (
            "sbw",
            Box::new(Sbw::new(7, vocab, 0.25, Prf::Additive, 1, false, false)?),
        ),
        (
            "sbw selfhash",
            Box::new(Sbw::new(
                7,
                vocab,
                0.3,
                Prf::AnchoredMinHash,
                4,
                true,
                false,
            )?),
        ),
        (
            "sbw table",
            Box::new(Sbw::new(7, vocab, 0.3, Prf::MinHash, 4, false, true)?),
        ),
        ("keyed", Box::new(Keyed::green([1; 16], vocab, 4, 0.25)?)),
        ("keyed gumbel", Box::new(Keyed::gumbel([1; 16], vocab, 1)?)),
    ])
}

/// The vocabulary-wide forms say the same as the scores of all windows of a context; equal units
/// have equal scores; a window's score does not depend on its neighbours in the call.
#[test]
fn wide_forms_agree_with_scores() -> Result<()> {
    for (name, scheme) in every_scheme()? {
        let (width, vocab) = (scheme.window_width(), scheme.vocab_size());
        let contexts: Vec<u32> = (0..3 * (width as u32 - 1))
            .map(|i| i * 7919 % vocab)
            .collect();
        let mut windows = Vec::new();
        for row in 0..3 {
            let context = &contexts[row * (width - 1)..(row + 1) * (width - 1)];
            for token in 0..vocab {
                windows.extend_from_slice(context);
                windows.push(token);
            }
        }
        let all = scores(&*scheme, &windows);
        let size = 3 * vocab as usize;
        match scheme.score_kind() {
            ScoreKind::Green => {
                let mut mask = vec![9; size];
                scheme.green_mask(&contexts, &mut mask)?;
                let greens: Vec<u64> = mask.into_iter().map(u64::from).collect();
                assert_eq!(greens, all, "{name}");
                assert!(scheme.uniforms(&contexts, &mut []).is_err(), "{name}");
            }
            ScoreKind::Depths(_) => {
                let mut words = vec![0; size];
                scheme.g_values(&contexts, &mut words)?;
                assert_eq!(words, all, "{name}");
            }
            ScoreKind::Real => {
                let mut uniforms = vec![9.0; size];
                scheme.uniforms(&contexts, &mut uniforms)?;
                for (u, score) in uniforms.iter().zip(&all) {
                    let expected = -(1.0 - u).ln();
                    let score = f64::from_bits(*score);
                    assert!(
                        (score - expected).abs() <= 1e-13 * expected.max(1e-3),
                        "{name}"
                    );
                }
            }
        }
        for row in (0..size).step_by(97) {
            let window = &windows[row * width..][..width];
            assert_eq!(scores(&*scheme, window), [all[row]], "{name}");
        }
        if scheme.unit_kind() != UnitKind::Window {
            let units = units(&*scheme, &windows);
            let mut seen = std::collections::HashMap::new();
            for (unit, score) in units.iter().zip(&all) {
                assert_eq!(seen.entry(unit).or_insert(score), &score, "{name}");
            }
        }
    }
    Ok(())
}

/// The observed share over many windows lies within six standard deviations of the stated one.
#[test]
fn shares_hold() -> Result<()> {
    for (name, scheme) in every_scheme()? {
        let (Some(share), ScoreKind::Green) = (scheme.share(), scheme.score_kind()) else {
            continue;
        };
        let (width, n) = (scheme.window_width(), 20_000);
        let windows: Vec<u32> = (0..(n * width) as u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as u32 % scheme.vocab_size())
            .collect();
        // Independent only as far as the units are distinct.
        let mut units = units(&*scheme, &windows);
        let all = scores(&*scheme, &windows);
        let pairs: std::collections::HashMap<_, _> = units.drain(..).zip(all).collect();
        let (n, green) = (pairs.len() as f64, pairs.values().sum::<u64>() as f64);
        let share = share.num as f64 / share.den as f64;
        let sigma = (n * share * (1.0 - share)).sqrt();
        assert!(
            (green - n * share).abs() < 6.0 * sigma,
            "{name}: {green} of {n}"
        );
    }
    Ok(())
}

fn message<T>(result: Result<T>) -> String {
    result
        .err()
        .map_or_else(String::new, |error| error.to_string())
}

/// Each parameter out of range is named with its value and what is allowed; keys never show.
#[test]
fn parameters_are_checked() -> Result<()> {
    let hash = Seeding::new(HASH, 2, false)?;
    let says = |text: String, parts: &[&str]| {
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{text:?} {parts:?}"
        );
    };
    says(
        message(Kgw::new(1, 0.25, hash.clone(), false)),
        &["vocab_size", "2 to 1048576", "not 1"],
    );
    says(
        message(Kgw::new((1 << 20) + 1, 0.25, hash.clone(), false)),
        &["vocab_size", "1048577"],
    );
    for gamma in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
        says(
            message(Kgw::new(100, gamma, hash.clone(), false)),
            &["gamma", &gamma.to_string()],
        );
    }
    says(
        message(Kgw::new(3, 0.25, hash.clone(), false)),
        &["gamma = 0.25", "0 green"],
    );
    says(
        message(Seeding::new(HASH, 0, false)),
        &["context_width", "1 to 64", "not 0"],
    );
    says(
        message(Seeding::new(HASH, 65, false)),
        &["context_width", "not 65"],
    );
    says(message(Seeding::new(HASH, 2, true)), &["self_salt"]);
    let big = u64::MAX - 12_345;
    let secret = message(Seeding::new(
        SeedingRule::LastToken { hash_key: big },
        1,
        false,
    ));
    assert!(secret.contains("hash_key") && !secret.contains(&big.to_string()));
    let pairs = SeedingRule::Prf {
        prf: Prf::MinSkipGram,
        hash_key: KEY,
        table_seed: 0,
    };
    says(
        message(Seeding::new(pairs, 1, false)),
        &["context_width", "at least 2"],
    );
    says(
        message(SynthId::new(&[], 100, 5, 65_536, 0)),
        &["number of keys", "1 to 64", "not 0"],
    );
    says(
        message(SynthId::new(&[1; 65], 100, 5, 65_536, 0)),
        &["not 65"],
    );
    says(
        message(SynthId::new(&[1], 100, 1, 65_536, 0)),
        &["ngram_len", "2 to 65"],
    );
    says(
        message(SynthId::new(&[1], 100, 5, 1, 0)),
        &["sampling_table_size", "not 1"],
    );
    says(
        message(TextSeal::gumbel(1, 100, 11)),
        &["context_width", "1 to 10", "not 11"],
    );
    says(message(TextSeal::green(1, 100, 3, 0.99999)), &["gamma"]);
    says(
        message(VllmGumbel::dual(1, 100, 4, 1.5)),
        &["alpha", "from 0 to 1", "1.5"],
    );
    let mixing = SglangGumbel::new(1, Some((2, -0.5)), 100, 4);
    says(message(mixing), &["mixing_probability", "-0.5"]);
    says(
        message(Sbw::new(1 << 63, 100, 0.5, Prf::Additive, 1, false, false)),
        &["key", "2^63"],
    );
    says(message(Prf::from_name("nope")), &["additive", "nope"]);
    let dual = VllmGumbel::dual(1, 100, 4, 0.5)?;
    let mut out = vec![0.0; 100];
    says(
        message(dual.uniforms_of(2, &[0; 4], &mut out)),
        &["key_index", "0 to 1", "not 2"],
    );
    Ok(())
}
