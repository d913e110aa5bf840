//! Nanoseconds per window of each scheme under each kernel, on one thread: for work on the kernels.
//! The measurements against other tools are in `benches/`.
use radscore_core::schemes::{
    GreenListKernel as Method, GumbelMax, Keyed, Kgw, Prf, Sbw, Scheme, Seeding, SeedingRule,
    SglangGumbel, SynthId, SynthIdDeepMind, TextSeal, VllmGumbel,
};
use radscore_core::simd::{self, Kernel};
use radscore_core::{Pool, Result};
use std::time::Instant;

fn words(n: usize, vocab: u32) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(vocab)) as u32
    };
    (0..n).map(|_| next()).collect()
}

fn measure(name: &str, scheme: &dyn Scheme, n: usize, pool: &Pool) -> Result<()> {
    let windows = words(n * scheme.window_width(), scheme.vocab_size());
    let mut out = vec![0; n];
    let mut line = format!("{name:28}");
    let mut first = None;
    for kernel in Kernel::available() {
        simd::set(kernel)?;
        let mut times: Vec<f64> = (0..15)
            .map(|_| {
                let start = Instant::now();
                pool.install(|| scheme.scores(&windows, &mut out));
                start.elapsed().as_secs_f64() * 1e9 / n as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let sum = out.iter().fold(0u64, |sum, word| sum.rotate_left(1) ^ word);
        assert_eq!(*first.get_or_insert(sum), sum, "{name}");
        line += &format!("  {} {:9.2}", kernel.name(), times[0]);
    }
    println!("{line}");
    Ok(())
}

fn main() -> Result<()> {
    let pool = Pool::new(Some(1))?;
    let hash = SeedingRule::Hash {
        seed: 0,
        salt_key: 35_317,
    };
    let only = std::env::args().nth(1).unwrap_or_default();
    let mut all: Vec<(&str, usize, Box<dyn Scheme>)> = Vec::new();
    let seeding = Seeding::new(hash, 2, false)?;
    all.push((
        "kgw 32000 .25",
        3000,
        Box::new(Kgw::new(32_000, 0.25, seeding.clone(), false)?),
    ));
    all.push((
        "kgw 128000 .5",
        300,
        Box::new(Kgw::new(128_000, 0.5, seeding.clone(), false)?),
    ));
    let one = Seeding::new(hash, 1, false)?;
    all.push((
        "kgw 4/seed",
        4096,
        Box::new(Kgw::new(1000, 0.25, one, false)?),
    ));
    if only == "crossover" {
        return crossover(&pool);
    }
    let n = 1 << 16;
    all.push((
        "keyed 2",
        n,
        Box::new(Keyed::green([7; 16], 50_000, 2, 0.25)?),
    ));
    all.push((
        "keyed 4",
        n,
        Box::new(Keyed::green([7; 16], 50_000, 4, 0.25)?),
    ));
    all.push((
        "keyed 15",
        n,
        Box::new(Keyed::green([7; 16], 50_000, 15, 0.25)?),
    ));
    all.push((
        "keyed gumbel 2",
        n,
        Box::new(Keyed::gumbel([7; 16], 50_000, 2)?),
    ));
    all.push(("vllm 2", n, Box::new(VllmGumbel::single(7, 50_000, 2)?)));
    all.push(("vllm 4", n, Box::new(VllmGumbel::single(7, 50_000, 4)?)));
    all.push((
        "vllm dual 4",
        n,
        Box::new(VllmGumbel::dual(7, 50_000, 4, 0.1)?),
    ));
    let keys: Vec<i64> = (1..31).map(|i| i * 1_234_567).collect();
    all.push((
        "sglang 2",
        n,
        Box::new(SglangGumbel::new(7, None, 50_000, 2)?),
    ));
    all.push((
        "sglang dual 4",
        n,
        Box::new(SglangGumbel::new(7, Some((9, 0.5)), 50_000, 4)?),
    ));
    all.push((
        "textseal 3",
        n,
        Box::new(TextSeal::green(7, 50_000, 3, 0.25)?),
    ));
    all.push((
        "textseal gumbel 3",
        n,
        Box::new(TextSeal::gumbel(7, 50_000, 3)?),
    ));
    all.push((
        "synthid",
        n,
        Box::new(SynthId::new(&keys, 50_000, 5, 65_536, 0)?),
    ));
    all.push((
        "synthid odd",
        4096,
        Box::new(SynthId::new(&keys, 50_000, 5, 65_537, 0)?),
    ));
    all.push((
        "deepmind",
        4096,
        Box::new(SynthIdDeepMind::new(&keys, 50_000, 5)?),
    ));
    all.push((
        "sbw 1",
        n,
        Box::new(Sbw::new(7, 50_000, 0.25, Prf::Additive, 1, false, false)?),
    ));
    all.push((
        "sbw selfhash 4",
        n,
        Box::new(Sbw::new(
            7,
            50_000,
            0.25,
            Prf::AnchoredMinHash,
            4,
            true,
            false,
        )?),
    ));
    all.push((
        "sbw table 4",
        n,
        Box::new(Sbw::new(7, 50_000, 0.25, Prf::MinHash, 4, false, true)?),
    ));
    all.push((
        "gumbel torch",
        1024,
        Box::new(GumbelMax::new(32_000, seeding.clone())?),
    ));
    for (name, n, scheme) in &all {
        if name.contains(&only) {
            measure(name, &**scheme, *n, &pool)?;
        }
    }
    Ok(())
}

/// Nanoseconds per target for so many targets per seed, by each algorithm of the green lists.
fn crossover(pool: &Pool) -> Result<()> {
    let hash = SeedingRule::Hash {
        seed: 0,
        salt_key: 35_317,
    };
    let methods = [Method::Tracking, Method::Lanes, Method::Bitmap];
    for (vocab, gamma) in [(32_000, 0.25), (128_000, 0.5)] {
        for count in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
            let mut windows = Vec::new();
            let targets = words(count, vocab);
            for context in 0..if count > 32 { 16 } else { 64 } {
                windows.extend(targets.iter().flat_map(|&target| [context, target]));
            }
            let mut out = vec![0; windows.len() / 2];
            let mut line = format!("{vocab} {count:4}");
            for kernel in Kernel::available() {
                simd::set(kernel)?;
                for method in methods {
                    let seeding = Seeding::new(hash, 1, false)?;
                    let scheme = Kgw::new(vocab, gamma, seeding, false)?.with_kernel(method);
                    let mut time = f64::MAX;
                    for _ in 0..7 {
                        let start = Instant::now();
                        pool.install(|| scheme.scores(&windows, &mut out));
                        time = time.min(start.elapsed().as_secs_f64());
                    }
                    line += &format!("  {:7.0}", time * 1e9 / out.len() as f64);
                }
                line += "  |";
            }
            println!("{line}");
        }
    }
    Ok(())
}
