//! The fast path from text to token ids.

use crate::errors::{argument_error, detached};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyString;
use radscore_tokenize::{TOKENIZERS_VERSION, Tokenizer};

type Int64<'py> = Bound<'py, PyArray1<i64>>;

/// A tokenizer whose configuration the fast path covers.
#[pyclass(frozen, module = "radscore._core")]
pub struct FastTokenizer(Tokenizer);

#[pymethods]
impl FastTokenizer {
    /// The release of `tokenizers` whose character classes are built in.
    #[classattr]
    const TOKENIZERS_VERSION: &'static str = TOKENIZERS_VERSION;

    #[new]
    fn new(py: Python<'_>, json: &str, add_special_tokens: bool) -> PyResult<Self> {
        let made = detached(py, |_| Ok(Tokenizer::new(json, add_special_tokens)))?;
        made.map(Self).map_err(argument_error)
    }

    /// Texts that show whether two tokenizers have the same character classes.
    #[staticmethod]
    fn probe() -> Vec<String> {
        Tokenizer::probe()
    }

    /// Ids and offsets of the texts, and the indices of those that the reference must encode.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Bound<'py, PyString>>,
    ) -> PyResult<(Bound<'py, PyArray1<u32>>, Int64<'py>, Int64<'py>)> {
        let borrowed: PyResult<Vec<&str>> = texts.iter().map(|text| text.to_str()).collect();
        let borrowed = borrowed?;
        let encoded = detached(py, |_| Ok(self.0.encode(&borrowed)))?;
        Ok((
            PyArray1::from_vec(py, encoded.ids),
            PyArray1::from_vec(py, encoded.offsets),
            PyArray1::from_vec(py, encoded.refused),
        ))
    }
}
