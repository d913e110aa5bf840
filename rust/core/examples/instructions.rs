//! One path of the core on fixed data, one thread, to count its instructions:
//! `valgrind --tool=callgrind target/release/examples/instructions PATH`, where `PATH` is one of
//! `keyed`, `vllm`, `kgw`, `documents`, `weights`. Prints a checksum of the answer, which a change of
//! layout or of speed must leave as it is. Valgrind knows no AVX-512, so the kernel is at most AVX2.
use radscore_core::schemes::{Keyed, Kgw, Scheme, Seeding, SeedingRule, VllmGumbel};
use radscore_core::simd::{self, Kernel};
use radscore_core::{
    Combine, Damping, Documents, Error, Options, PromptRole, Result, Rule as Dedup, Scorer, Source,
    TokenSlice, score_documents,
};
use std::sync::Arc;

const VOCAB: u32 = 50_000;
/// Tokens of a document.
const DOCUMENT: usize = 700;

/// Tokens of which few are frequent, so that some windows repeat.
fn tokens(n: usize, vocab: u32) -> Vec<u16> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    (0..n)
        .map(|_| (next() % (1 + next() % (1 + next() % vocab))) as u16)
        .collect()
}

fn options() -> Options {
    Options {
        rule: Dedup::Unit,
        combine: Combine::Sum,
        damping: Damping::default(),
        start: None,
        role: PromptRole::Exclude,
        filter: None,
        threads: Some(1),
    }
}

/// The tally of one scheme, as its bytes and as text.
fn detect(scheme: Arc<dyn Scheme>, n: usize, weigh: bool) -> Result<String> {
    let values = tokens(n, scheme.vocab_size());
    let offsets: Vec<i64> = (0..=n as i64).step_by(DOCUMENT).collect();
    let documents = Documents::new(TokenSlice::U16(&values), &offsets, scheme.vocab_size())?;
    let total = documents.n_tokens();
    let weights: Vec<f64> = (0..total).map(|i| (i % 97) as f64 / 97.0).collect();
    let mut scorer = Scorer::new(vec![scheme], &options())?;
    let source = Source::new(documents, None)?;
    scorer.add(&source, weigh.then_some(&weights[..]), &mut || Ok(()))?;
    let tallies = scorer.tallies(&mut || Ok(()))?;
    Ok(format!("{tallies:?}"))
}

fn documents(scheme: Arc<dyn Scheme>, n: usize) -> Result<String> {
    let values = tokens(n, scheme.vocab_size());
    let offsets: Vec<i64> = (0..=n as i64).step_by(DOCUMENT).collect();
    let documents = Documents::new(TokenSlice::U16(&values), &offsets, scheme.vocab_size())?;
    let source = Source::new(documents, None)?;
    let tallies = score_documents(&scheme, &options(), &source, None, &mut || Ok(()))?;
    Ok(format!("{tallies:?}"))
}

fn main() -> Result<()> {
    if simd::active() == Kernel::Avx512 {
        simd::set(Kernel::Avx2)?;
    }
    let keyed =
        || -> Result<Arc<dyn Scheme>> { Ok(Arc::new(Keyed::green([7; 16], VOCAB, 2, 0.25)?)) };
    let path = std::env::args().nth(1).unwrap_or_default();
    let answer = match &path[..] {
        "keyed" => detect(keyed()?, 1 << 21, false)?,
        "vllm" => detect(Arc::new(VllmGumbel::single(7, VOCAB, 2)?), 1 << 20, false)?,
        "kgw" => {
            let hash = SeedingRule::Hash {
                seed: 0,
                salt_key: 35_317,
            };
            let seeding = Seeding::new(hash, 1, false)?;
            detect(
                Arc::new(Kgw::new(32_000, 0.25, seeding, false)?),
                1 << 14,
                false,
            )?
        }
        "documents" => documents(keyed()?, 1 << 20)?,
        "weights" => detect(keyed()?, 1 << 19, true)?,
        _ => {
            return Err(Error::Argument(format!(
                "the path must be keyed, vllm, kgw, documents or weights, not {path:?}"
            )));
        }
    };
    // FNV-1a
    let sum = answer.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    println!("{path} {sum:016x}");
    Ok(())
}
