//! Every scheme: the values of the tools that write the watermarks, and what holds for all schemes.

mod contracts;
mod vectors;

use radscore_core::schemes::{Scheme, SeedingRule};

const KEY: u64 = 15_485_863;
const HASH: SeedingRule = SeedingRule::Hash {
    seed: 3,
    salt_key: 35_317,
};

fn units(scheme: &dyn Scheme, windows: &[u32]) -> Vec<u128> {
    let mut out = vec![0; windows.len() / scheme.window_width()];
    scheme.units(windows, &mut out);
    out
}

fn scores(scheme: &dyn Scheme, windows: &[u32]) -> Vec<u64> {
    let mut out = vec![0; windows.len() / scheme.window_width()];
    scheme.scores(windows, &mut out);
    out
}
