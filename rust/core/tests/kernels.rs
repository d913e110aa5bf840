//! Every kernel that this machine has against the scalar one: all schemes, all that they answer,
//! window counts that leave remainders, narrow and wide contexts, small and large vocabularies.

use radscore_core::schemes::{
    GreenListKernel as Method, GumbelMax, Keyed, Kgw, LM_TABLE_SEED, Prf, Sbw, Scheme, Seeding,
    SeedingRule, SglangGumbel, SynthId, SynthIdDeepMind, TextSeal, VllmGumbel,
};
use radscore_core::simd::{self, Kernel};
use radscore_core::{Error, PADDING, Result};
use std::sync::{Mutex, PoisonError};

/// The kernel in force is the process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Steele, Lea and Flood's SplitMix64, for windows.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }
    /// Rows of windows; a few tokens are the first, the last, and padding where that may stand.
    fn windows(&mut self, scheme: &dyn Scheme, rows: usize) -> Vec<u32> {
        let (width, vocab) = (scheme.window_width(), scheme.vocab_size());
        let mut token = |k: usize| match self.below(12) {
            0 => 0,
            1 => vocab - 1,
            2 if k + 1 < width && scheme.accepts_padding() => PADDING,
            _ => self.below(vocab),
        };
        (0..rows * width).map(|k| token(k % width)).collect()
    }
}

#[derive(Debug, PartialEq)]
struct Answers {
    scores: Vec<u64>,
    units: Vec<u128>,
    mask: Vec<u8>,
    uniforms: Vec<Vec<u64>>,
    g_values: Vec<u64>,
}

/// All that a scheme says; what it refuses is empty.
fn answers(scheme: &dyn Scheme, windows: &[u32], contexts: &[u32]) -> Answers {
    let rows = windows.len() / scheme.window_width();
    let size = contexts.len() / (scheme.window_width() - 1).max(1) * scheme.vocab_size() as usize;
    let (mut scores, mut units) = (vec![9; rows], vec![9; rows]);
    scheme.scores(windows, &mut scores);
    scheme.units(windows, &mut units);
    let mut mask = vec![9; size];
    if scheme.green_mask(contexts, &mut mask).is_err() {
        mask.clear();
    }
    let mut g_values = vec![9; size];
    if scheme.g_values(contexts, &mut g_values).is_err() {
        g_values.clear();
    }
    let mut uniforms = Vec::new();
    for key in 0..scheme.key_count() {
        let mut row = vec![9.0; size];
        if scheme.uniforms_of(key, contexts, &mut row).is_ok() {
            uniforms.push(row.into_iter().map(f64::to_bits).collect());
        }
    }
    Answers {
        scores,
        units,
        mask,
        uniforms,
        g_values,
    }
}

fn check(name: &str, scheme: &dyn Scheme, random: &mut Random, rows: &[usize]) -> Result<()> {
    let contexts = random.windows(scheme, 2)[..2 * (scheme.window_width() - 1)].to_vec();
    let contexts = contexts
        .iter()
        .map(|&token| token.min(scheme.vocab_size() - 1));
    let contexts: Vec<u32> = contexts.collect();
    for &rows in rows {
        let windows = random.windows(scheme, rows);
        simd::set(Kernel::Scalar)?;
        let expected = answers(scheme, &windows, &contexts);
        for kernel in Kernel::available() {
            simd::set(kernel)?;
            let found = answers(scheme, &windows, &contexts);
            assert!(found == expected, "{name}, {rows} windows, {kernel:?}");
        }
    }
    Ok(())
}

fn locked<T>(test: impl FnOnce() -> Result<T>) -> Result<T> {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let done = test();
    simd::set(Kernel::from_environment()?)?;
    done
}

#[test]
fn hashes_of_windows() -> Result<()> {
    locked(|| {
        let mut random = Random(1);
        for vocab in [2, 700, 1 << 20] {
            for width in 1..=16 {
                let gamma = [1e-6, 0.1, 0.25, 0.5, 0.9, 1.0 - 1e-6][width % 6];
                let key = random.next();
                let mut keys: Vec<i64> = Vec::new();
                (0..[1, 2, 30, 64][width % 4]).for_each(|_| keys.push(random.next() as i64));
                let small = key >> 1;
                let prf = Prf::NAMES[width % 11].1;
                let prf = if prf.least_width() > width {
                    Prf::Additive
                } else {
                    prf
                };
                let mut all: Vec<(&str, Box<dyn Scheme>)> = vec![
                    (
                        "keyed",
                        Box::new(Keyed::green([width as u8; 16], vocab, width, gamma)?),
                    ),
                    (
                        "keyed gumbel",
                        Box::new(Keyed::gumbel([7; 16], vocab, width)?),
                    ),
                    ("vllm", Box::new(VllmGumbel::single(key, vocab, width)?)),
                    (
                        "vllm dual",
                        Box::new(VllmGumbel::dual(key, vocab, width, 0.3)?),
                    ),
                    (
                        "sglang",
                        Box::new(SglangGumbel::new(key, None, vocab, width)?),
                    ),
                    (
                        "sglang dual",
                        Box::new(SglangGumbel::new(key, Some((3, 0.4)), vocab, width)?),
                    ),
                    (
                        "sbw",
                        Box::new(Sbw::new(
                            small,
                            vocab,
                            gamma,
                            Prf::Additive,
                            width,
                            false,
                            false,
                        )?),
                    ),
                    (
                        "sbw selfhash",
                        Box::new(Sbw::new(
                            small,
                            vocab,
                            gamma,
                            Prf::AnchoredMinHash,
                            width,
                            true,
                            false,
                        )?),
                    ),
                    (
                        "sbw minhash",
                        Box::new(Sbw::new(
                            small,
                            vocab,
                            gamma,
                            Prf::AnchoredMinHash,
                            width,
                            false,
                            false,
                        )?),
                    ),
                    (
                        "sbw other",
                        Box::new(Sbw::new(
                            small,
                            vocab,
                            gamma,
                            prf,
                            width,
                            width % 2 == 0,
                            width % 3 == 0,
                        )?),
                    ),
                    (
                        "synthid",
                        Box::new(SynthId::new(&keys, vocab, width + 1, 1 << width.max(3), 5)?),
                    ),
                    (
                        "synthid, odd table",
                        Box::new(SynthId::new(&keys, vocab, width + 1, 1001, 5)?),
                    ),
                    (
                        "deepmind",
                        Box::new(SynthIdDeepMind::new(&keys, vocab, width + 1)?),
                    ),
                ];
                if width <= 10 {
                    let gamma = gamma.clamp(0.001, 0.999);
                    all.push((
                        "textseal",
                        Box::new(TextSeal::green(key as i64, vocab, width, gamma)?),
                    ));
                    all.push((
                        "textseal gumbel",
                        Box::new(TextSeal::gumbel(key as i64, vocab, width)?),
                    ));
                }
                // The vocabulary-wide forms of a large one take long: at two widths only.
                if vocab == 1 << 20 && ![1, 5].contains(&width) {
                    continue;
                }
                for (name, scheme) in &all {
                    let name = format!("{name}, vocabulary {vocab}, width {width}");
                    let many = if vocab > 700 {
                        &[1041][..]
                    } else {
                        &[0, 1, 7, 15, 16, 17, 31, 1041]
                    };
                    check(&name, &**scheme, &mut random, many)?;
                }
            }
        }
        Ok(())
    })
}

/// Rules whose units cost more than a hash, over windows alone.
#[test]
fn torchs_generators() -> Result<()> {
    locked(|| {
        let mut random = Random(2);
        let hash = |seed| SeedingRule::Hash {
            seed,
            salt_key: 35_317,
        };
        let prf = |prf| SeedingRule::Prf {
            prf,
            hash_key: 15_485_863,
            table_seed: LM_TABLE_SEED.into(),
        };
        for (vocab, gamma) in [
            (2, 0.5),
            (3, 0.34),
            (700, 0.25),
            (700, 0.9),
            (2500, 0.5),
            (1301, 0.999),
        ] {
            for width in [1, 2, 5] {
                let seeding = Seeding::new(hash(random.next()), width, false)?;
                let salted = Seeding::new(prf(Prf::AnchoredMinHash), width, true)?;
                for last in [false, true] {
                    let kgw = Kgw::new(vocab, gamma, seeding.clone(), last)?;
                    check("kgw", &kgw, &mut random, &[0, 1, 5, 40, 333])?;
                    let kgw = Kgw::new(vocab, gamma, salted.clone(), last)?;
                    check("kgw, salted", &kgw, &mut random, &[1, 40])?;
                }
                let gumbel = GumbelMax::new(vocab, seeding)?;
                check("gumbel", &gumbel, &mut random, &[0, 1, 5, 40, 333])?;
            }
        }
        Ok(())
    })
}

/// Each algorithm of the green lists under each kernel against the definition (one draw at a time),
/// with one to many targets a seed.
#[test]
fn green_lists() -> Result<()> {
    locked(|| {
        let mut random = Random(3);
        for (vocab, gamma, rows, contexts) in [
            (50, 0.25, 500, 7),
            (700, 0.5, 300, 30),
            (32_000, 0.25, 90, 25),
            (151_936, 0.25, 40, 30),
            (1 << 20, 0.01, 30, 30),
            (1 << 20, 0.5, 6, 3),
        ] {
            let rule = SeedingRule::Hash {
                seed: 9,
                salt_key: 35_317,
            };
            let scheme = |method| {
                let kgw = Kgw::new(vocab, gamma, Seeding::new(rule, 1, false)?, false)?;
                Ok::<_, Error>(kgw.with_kernel(method))
            };
            let mut windows = Vec::new();
            for _ in 0..rows {
                windows.extend([random.below(contexts), random.below(vocab)]);
            }
            let scores = |method| {
                let mut out = vec![9; rows];
                scheme(method)?.scores(&windows, &mut out);
                Ok::<_, Error>(out)
            };
            let expected = scores(Method::Scalar)?;
            for kernel in Kernel::available() {
                simd::set(kernel)?;
                for method in [
                    Method::Auto,
                    Method::Tracking,
                    Method::Lanes,
                    Method::Bitmap,
                ] {
                    assert!(
                        scores(method)? == expected,
                        "{vocab} {gamma} {kernel:?} {method:?}"
                    );
                }
            }
        }
        Ok(())
    })
}
