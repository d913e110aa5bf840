//! Rows over the whole vocabulary: what generation asks for.

use rayon::prelude::*;

/// Fills rows of `vocab` entries: `prepare(context)` once a context, `entry(prepared, token)` for
/// each token; parallel over contexts and within them.
pub(crate) fn fill<T: Send, P: Sync>(
    vocab: u32,
    width: usize,
    contexts: &[u32],
    out: &mut [T],
    prepare: impl Fn(&[u32]) -> P + Sync,
    entry: impl Fn(&P, u32) -> T + Sync,
) {
    const LEAST: usize = 4096;
    let rows = out.par_chunks_mut(vocab as usize).enumerate();
    rows.for_each(|(row, out)| {
        let prepared = prepare(&contexts[row * width..][..width]);
        let tokens = out.par_iter_mut().zip(0..vocab).with_min_len(LEAST);
        tokens.for_each(|(out, token)| *out = entry(&prepared, token));
    });
}
