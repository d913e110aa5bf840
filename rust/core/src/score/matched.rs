//! What the key would have done, weighed: `sum w P`, where P is the distribution into which a scheme
//! turns that of each row.

use super::exact_sum::ExactSum;
use crate::error::{Error, Result};
use crate::interrupt::{Check, items_per_check};
use crate::schemes::marking::{PIECE, Scratch, marked_rows, variation};
use crate::schemes::{Choices, Scheme, ScoreKind};
use crate::threads::Pool;
use rayon::prelude::*;

/// Sums over all tokens of all rows: exact, each row's part rounded once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matched {
    /// `sum w P`.
    pub sum: f64,
    /// For tournaments, the sum over depths of the squares of what the g-values are multiplied by,
    /// over 4: given the depths before, each depth's part of the sum has at most this variance. Else
    /// 0.
    pub variation: f64,
}

/// Weighs what a scheme makes of some distributions, in `pool` with interrupt checks in between.
///
/// # Errors
/// [`Error::Argument`] if there is not one finite weight for each token, and what a scheme says.
pub fn matched(
    scheme: &dyn Scheme,
    choices: &Choices<'_>,
    weights: &[f64],
    delta: f64,
    varies: bool,
    pool: &Pool,
    check: &mut Check<'_>,
) -> Result<Matched> {
    let (pieces, n) = (choices.pieces(PIECE), choices.n_tokens());
    if weights.len() != n || !weights.iter().all(|weight| weight.is_finite()) {
        return Err(Error::Argument(format!(
            "there must be one finite weight for each of the {n} tokens"
        )));
    }
    let slice = items_per_check(PIECE as f64 * scheme.nanoseconds());
    let (mut sum, mut moved) = (ExactSum::default(), ExactSum::default());
    for pieces in pieces.chunks(slice) {
        check()?;
        let sums: Result<Vec<_>> = pool.install(|| {
            let pieces = pieces.par_iter().cloned();
            let weigh = |scratch: &mut Scratch, rows| {
                let (mut sum, mut moved) = (ExactSum::default(), ExactSum::default());
                marked_rows(scheme, choices, rows, delta, scratch, |tokens, p, words| {
                    let w = &weights[tokens.clone()];
                    sum.add(p.iter().zip(w).map(|(p, w)| p * w).sum());
                    if let (true, ScoreKind::Depths(depth)) = (varies, scheme.score_kind()) {
                        moved.add(variation(choices.probabilities(tokens), words, w, depth));
                    }
                })?;
                Ok((sum, moved))
            };
            pieces.map_init(Scratch::default, weigh).collect()
        });
        for (more, moves) in sums? {
            sum.merge(&more);
            moved.merge(&moves);
        }
    }
    Ok(Matched {
        sum: sum.value(),
        variation: moved.value(),
    })
}
