//! What tests of scorers share: a corpus with much repetition, and how it is scored.

use radscore_core::schemes::{LM_TABLE_SEED, Prf, Seeding, SeedingRule};
use radscore_core::{Combine, Damping, Error, Options, PromptRole, Result, Rule as Dedup};

pub const VOCAB: u32 = 40;

pub fn ok() -> Result<()> {
    Ok(())
}

/// An empty folder that is removed when it is dropped.
pub fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|error| Error::Storage(error.to_string()))
}

/// A seeding by the sum of two tokens: permuted contexts are one unit.
pub fn sums() -> Result<Seeding> {
    let prf = Prf::from_name("additive")?;
    let rule = SeedingRule::Prf {
        prf,
        hash_key: 0x8000_000B, // seeds that fill 32 bits
        table_seed: LM_TABLE_SEED.into(),
    };
    Seeding::new(rule, 2, false)
}

pub fn options(rule: Dedup) -> Options {
    Options {
        rule,
        combine: Combine::One,
        damping: Damping::default(),
        start: None,
        role: PromptRole::Exclude,
        filter: None,
        threads: Some(2),
    }
}

/// Pseudo-random documents of very different lengths, with much repetition.
pub fn corpus() -> (Vec<u16>, Vec<i64>) {
    let mut state = 5u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        state >> 33
    };
    let mut offsets = vec![0];
    let mut values = Vec::new();
    for _ in 0..300 {
        for _ in 0..next() % 40 * (next() % 3) {
            values.push((next() % 40 * (next() % 2)) as u16);
        }
        offsets.push(values.len() as i64);
    }
    (values, offsets)
}
