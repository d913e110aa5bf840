//! Documents from numpy arrays, without a copy.

use crate::errors::{detached, to_py, token_error};
use numpy::ndarray::Dimension;
use numpy::{
    Element, PyReadonlyArray, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use radscore_core::{Documents, Source, TokenSlice};

/// Refuses an array whose items are not aligned.
pub fn check_aligned<T: Element, D: Dimension>(
    array: &PyReadonlyArray<'_, T, D>,
    what: &str,
) -> Result<(), String> {
    if array.is_aligned() || array.len() == 0 {
        return Ok(());
    }
    Err(format!(
        "{what} must be aligned in memory; a copy of the array will be"
    ))
}

/// The items of an array in C order, or why they cannot be read in place.
pub fn flat<'a, T: Element, D: Dimension>(
    array: &'a PyReadonlyArray<'_, T, D>,
    what: &str,
) -> Result<&'a [T], String> {
    check_aligned(array, what)?;
    match array.as_slice() {
        Ok(items) if array.is_c_contiguous() || items.is_empty() => Ok(items),
        _ => Err(format!(
            "{what} must be contiguous in memory, in C order (see numpy.ascontiguousarray)"
        )),
    }
}

macro_rules! tokens {
    ($($variant:ident $type:ty),*) => {
        /// A borrowed one-dimensional integer array.
        enum Tokens<'py> {
            $($variant(PyReadonlyArray1<'py, $type>)),*
        }

        impl<'py> Tokens<'py> {
            fn new(values: &Bound<'py, PyAny>) -> PyResult<Self> {
                $(if let Ok(array) = values.extract::<PyReadonlyArray1<'py, $type>>() {
                    return Ok(Self::$variant(array));
                })*
                let what = match values.cast::<PyUntypedArray>() {
                    Ok(array) => format!("{}-D {}", array.ndim(), array.dtype()),
                    Err(_) => values.get_type().to_string(),
                };
                Err(token_error(format!("token ids must be a 1-D integer array, not {what}")))
            }

            fn slice(&self) -> PyResult<TokenSlice<'_>> {
                Ok(match self {
                    $(Self::$variant(array) => {
                        TokenSlice::$variant(flat(array, "token ids").map_err(token_error)?)
                    })*
                })
            }
        }
    };
}

tokens!(U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, U64 u64, I64 i64);

/// Borrowed documents: `(values, offsets)`.
pub struct Ragged<'py> {
    values: Tokens<'py>,
    offsets: PyReadonlyArray1<'py, i64>,
}

impl<'py> Ragged<'py> {
    /// Borrows the arrays.
    pub fn new(values: &Bound<'py, PyAny>, offsets: &Bound<'py, PyAny>) -> PyResult<Self> {
        let offsets = offsets
            .extract()
            .map_err(|_| token_error("offsets must be a 1-D array of int64"))?;
        Ok(Self {
            values: Tokens::new(values)?,
            offsets,
        })
    }

    /// The documents, with every id checked against the vocabulary; the interpreter is free meanwhile.
    pub fn documents(&self, vocab_size: u32) -> PyResult<Documents<'_>> {
        let offsets = flat(&self.offsets, "offsets").map_err(token_error)?;
        let values = self.values.slice()?;
        let py = self.offsets.py();
        detached(py, |_| Documents::new(values, offsets, vocab_size))
    }
}

/// Borrowed documents and prompts.
pub struct RaggedSource<'py> {
    documents: Ragged<'py>,
    prompts: Option<Ragged<'py>>,
}

/// `(values, offsets)` as Python passes it.
pub type Arrays<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

impl<'py> RaggedSource<'py> {
    /// Borrows documents and, if there are any, prompts.
    pub fn new(documents: &Arrays<'py>, prompts: Option<&Arrays<'py>>) -> PyResult<Self> {
        let prompts = match prompts {
            Some((values, offsets)) => Some(Ragged::new(values, offsets)?),
            None => None,
        };
        Ok(Self {
            documents: Ragged::new(&documents.0, &documents.1)?,
            prompts,
        })
    }

    /// The source for the core.
    pub fn source(&self, vocab_size: u32) -> PyResult<Source<'_>> {
        let prompts = match &self.prompts {
            Some(prompts) => Some(prompts.documents(vocab_size).map_err(|error| {
                token_error(format!("in the prompts: {}", error.value(self.py())))
            })?),
            None => None,
        };
        Source::new(self.documents.documents(vocab_size)?, prompts).map_err(to_py)
    }

    fn py(&self) -> Python<'py> {
        self.documents.offsets.py()
    }
}

/// Rows of token ids, flat, and the number of columns, from a contiguous 2-D array of uint32.
pub fn rows<'a>(array: &'a PyReadonlyArray2<'_, u32>, what: &str) -> PyResult<(&'a [u32], usize)> {
    let items = flat(array, what).map_err(token_error)?;
    Ok((items, array.shape()[1]))
}
