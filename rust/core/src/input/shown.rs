//! What a prompt has shown of the random function, and which windows may have been met there.

use crate::schemes::Scheme;
use hashbrown::HashSet;

/// Windows whose seeds are found at one go.
pub(crate) const SEEDED: usize = 1 << 11;
/// What a prompt has shown of the random function.
pub enum Shown<K> {
    /// Contexts, where they are the seeds.
    Contexts(HashSet<K>),
    /// Seeds, those that may share a draw among them; or units.
    Seeds(HashSet<u128>),
}

/// Calls `take` with the seed of each window of a run of tokens.
fn for_seeds(scheme: &dyn Scheme, tokens: &[u32], mut take: impl FnMut(u128)) {
    let width = scheme.window_width();
    let (mut rows, mut seeds) = (Vec::new(), Vec::new());
    for from in (0..(tokens.len() + 1).saturating_sub(width)).step_by(SEEDED) {
        let to = tokens.len().min(from + SEEDED + width - 1);
        rows.clear();
        for window in tokens[from..to].windows(width) {
            rows.extend_from_slice(window);
        }
        seeds.resize(rows.len() / width, 0);
        scheme.seeds(&rows, &mut seeds);
        seeds.iter().for_each(|&seed| take(seed));
    }
}

/// Which windows of a run of tokens have a seed that was shown.
pub(crate) fn met(scheme: &dyn Scheme, shown: &HashSet<u128>, tokens: &[u32]) -> Vec<bool> {
    let mut met = Vec::with_capacity(tokens.len());
    for_seeds(scheme, tokens, |seed| met.push(shown.contains(&seed)));
    met
}
