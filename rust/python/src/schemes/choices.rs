//! Ragged rows of tokens and probabilities from numpy.

use super::rows::Rows;
use crate::errors::{argument_error, token_error};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use radscore_core::schemes::Scheme as CoreScheme;

/// Where rows begin, tokens and their probabilities.
#[derive(FromPyObject)]
pub struct Distributions<'py>(
    PyReadonlyArray1<'py, i64>,
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray1<'py, f64>,
);

impl Distributions<'_> {
    /// Tokens of all rows.
    pub fn len(&self) -> usize {
        self.1.as_array().len()
    }

    /// The arrays.
    pub fn slices(&self) -> PyResult<(&[i64], &[u32], &[f64])> {
        let offsets = slice(&self.0, "offsets")?;
        let tokens = slice(&self.1, "tokens")?;
        Ok((offsets, tokens, slice(&self.2, "probabilities")?))
    }

    /// The contexts' ids; they and the tokens must be a scheme's.
    pub fn contexts(
        &self,
        py: Python<'_>,
        contexts: &Rows<'_>,
        scheme: &dyn CoreScheme,
    ) -> PyResult<Vec<u32>> {
        contexts.check("contexts", scheme.window_width() - 1)?;
        let (_, tokens, _) = self.slices()?;
        let vocab = scheme.vocab_size();
        if let Some(token) = tokens.iter().find(|&&token| token >= vocab) {
            return Err(token_error(format!(
                "token id {token} is outside the vocabulary of {vocab}"
            )));
        }
        contexts.read(py, "contexts", scheme)
    }
}

/// The numbers of a contiguous array.
pub fn slice<'a, T: numpy::Element>(
    array: &'a PyReadonlyArray1<'_, T>,
    name: &str,
) -> PyResult<&'a [T]> {
    let contiguous = array.as_slice();
    contiguous.map_err(|_| argument_error(format!("{name} must be contiguous")))
}
