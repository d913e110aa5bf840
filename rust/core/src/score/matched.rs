//! What the key would have done, weighed: `sum w P`, where P is the distribution into which a scheme
//! turns that of each row.

use super::exact_sum::ExactSum;
use crate::error::{Error, Result};
use crate::interrupt::{Check, items_per_check};
use crate::schemes::marking::{PIECE, Scratch, marked_rows};
use crate::schemes::{Choices, Scheme};
use crate::threads::Pool;
use rayon::prelude::*;

/// Weighs what a scheme makes of some distributions, in `pool` with interrupt checks in between: each
/// row's sum is rounded once, and theirs once again.
///
/// # Errors
/// [`Error::Argument`] if there is not one finite weight for each token, and what a scheme says.
pub fn matched(
    scheme: &dyn Scheme,
    choices: &Choices<'_>,
    weights: &[f64],
    delta: f64,
    pool: &Pool,
    check: &mut Check<'_>,
) -> Result<f64> {
    let (pieces, n) = (choices.pieces(PIECE), choices.n_tokens());
    if weights.len() != n || !weights.iter().all(|weight| weight.is_finite()) {
        return Err(Error::Argument(format!(
            "there must be one finite weight for each of the {n} tokens"
        )));
    }
    let slice = items_per_check(PIECE as f64 * scheme.nanoseconds());
    let mut sum = ExactSum::default();
    for pieces in pieces.chunks(slice) {
        check()?;
        let sums: Result<Vec<_>> = pool.install(|| {
            let weigh = |scratch: &mut Scratch, rows| {
                let mut sum = ExactSum::default();
                marked_rows(scheme, choices, rows, delta, scratch, |tokens, p| {
                    let weighed = p.iter().zip(&weights[tokens]);
                    sum.add(weighed.map(|(p, w)| p * w).sum());
                })?;
                Ok(sum)
            };
            let pieces = pieces.par_iter().cloned();
            pieces.map_init(Scratch::default, weigh).collect()
        });
        sums?.iter().for_each(|more| sum.merge(more));
    }
    Ok(sum.value())
}
