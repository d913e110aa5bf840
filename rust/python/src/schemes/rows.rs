//! Rows of token ids from numpy.

use crate::documents::check_aligned;
use crate::errors::{argument_error, detached, reserve, token_error};
use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use radscore_core::schemes::Scheme as CoreScheme;
use radscore_core::{Error, PADDING};

/// Rows of token ids from uint32 (2^32 - 1 is padding) or int64 (-1 is padding).
#[derive(FromPyObject)]
pub enum Rows<'py> {
    /// 2^32 - 1 is padding.
    Narrow(PyReadonlyArray2<'py, u32>),
    /// -1 is padding.
    Wide(PyReadonlyArray2<'py, i64>),
}

impl Rows<'_> {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        let shape = match self {
            Self::Narrow(array) => array.shape(),
            Self::Wide(array) => array.shape(),
        };
        (shape[0], shape[1])
    }

    /// The number of rows, each for one call of the random function.
    pub fn check(&self, name: &str, width: usize) -> PyResult<usize> {
        let (rows, columns) = self.shape();
        if columns != width {
            return Err(argument_error(format!(
                "{name} must have {width} columns for this scheme, not {columns}"
            )));
        }
        match self {
            Self::Narrow(array) => check_aligned(array, name),
            Self::Wide(array) => check_aligned(array, name),
        }
        .map_err(token_error)?;
        Ok(rows)
    }

    /// The ids, checked. The rows must be.
    pub fn read(&self, py: Python<'_>, name: &str, scheme: &dyn CoreScheme) -> PyResult<Vec<u32>> {
        let (rows, width) = self.shape();
        let mut out = reserve(name, &[(rows, "rows"), (width, "ids")])?;
        let vocab = scheme.vocab_size();
        let padding = scheme.accepts_padding();
        let target = scheme.window_width() - 1;
        let check = |(k, id): (usize, i64)| {
            let token = u32::try_from(id).unwrap_or(PADDING);
            let padded = padding && (id == -1 || id == i64::from(PADDING)) && k % width < target;
            if token < vocab || padded {
                return Ok(token);
            }
            Err(Error::Tokens(format!(
                "token id {id} in row {} of {name} is outside the vocabulary of {vocab}",
                k / width
            )))
        };
        let mut push = |item| check(item).map(|token| out.push(token));
        match self {
            Self::Narrow(array) => {
                let ids = array.as_array();
                let ids = ids.iter().map(|&id| id.into()).enumerate();
                detached(py, |_| ids.into_iter().try_for_each(&mut push))?;
            }
            Self::Wide(array) => {
                let ids = array.as_array();
                let ids = ids.iter().copied().enumerate();
                detached(py, |_| ids.into_iter().try_for_each(&mut push))?;
            }
        }
        Ok(out)
    }
}
