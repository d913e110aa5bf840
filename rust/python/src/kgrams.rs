//! `KgramSet` and `KgramCounts`.

use crate::documents::{Ragged, rows};
use crate::errors::{argument_error, detached, to_py};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use radscore_core::kgrams;
use radscore_core::pool::Pool;
use std::path::PathBuf;
use std::sync::Arc;

type RowsAndCounts<'py> = (Bound<'py, PyArray2<u32>>, Bound<'py, PyArray1<u64>>);

/// A set of k-grams over a vocabulary.
#[pyclass(frozen, module = "radscore._core")]
pub struct KgramSet {
    pub inner: Arc<kgrams::KgramSet>,
}

fn set(inner: radscore_core::Result<kgrams::KgramSet>) -> PyResult<KgramSet> {
    Ok(KgramSet {
        inner: Arc::new(inner.map_err(to_py)?),
    })
}

fn to_rows<'py>(
    py: Python<'py>,
    flat: Vec<u32>,
    width: usize,
) -> PyResult<Bound<'py, PyArray2<u32>>> {
    let rows = flat.len() / width;
    PyArray1::from_vec(py, flat).reshape([rows, width])
}

#[pymethods]
impl KgramSet {
    #[staticmethod]
    fn from_rows(kgrams: PyReadonlyArray2<'_, u32>, vocab_size: u32) -> PyResult<Self> {
        let (flat, width) = rows(&kgrams, "k-grams")?;
        set(kgrams::KgramSet::from_rows(flat, width, vocab_size))
    }

    #[staticmethod]
    fn load(path: PathBuf) -> PyResult<Self> {
        set(kgrams::KgramSet::load(&path))
    }

    fn save(&self, path: PathBuf) -> PyResult<()> {
        self.inner.save(&path).map_err(to_py)
    }

    #[getter]
    fn width(&self) -> usize {
        self.inner.width()
    }

    #[getter]
    fn vocab_size(&self) -> u32 {
        self.inner.vocab_size()
    }

    #[getter]
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn contains(&self, kgram: Vec<u32>) -> bool {
        self.inner.contains(&kgram)
    }

    fn union(&self, other: &Self) -> PyResult<Self> {
        set(self.inner.union(&other.inner))
    }

    fn intersection(&self, other: &Self) -> PyResult<Self> {
        set(self.inner.intersection(&other.inner))
    }

    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u32>>> {
        to_rows(py, self.inner.rows(), self.inner.width())
    }
}

/// How often each k-gram occurs.
#[pyclass(module = "radscore._core")]
pub struct KgramCounts {
    inner: kgrams::KgramCounts,
}

#[pymethods]
impl KgramCounts {
    #[new]
    fn new(width: usize, vocab_size: u32) -> PyResult<Self> {
        Ok(Self {
            inner: kgrams::KgramCounts::new(width, vocab_size).map_err(to_py)?,
        })
    }

    #[staticmethod]
    fn load(path: PathBuf) -> PyResult<Self> {
        Ok(Self {
            inner: kgrams::KgramCounts::load(&path).map_err(to_py)?,
        })
    }

    fn save(&self, path: PathBuf) -> PyResult<()> {
        self.inner.save(&path).map_err(to_py)
    }

    #[getter]
    fn width(&self) -> usize {
        self.inner.width()
    }

    #[getter]
    fn vocab_size(&self) -> u32 {
        self.inner.vocab_size()
    }

    #[getter]
    fn total(&self) -> u64 {
        self.inner.total()
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn get(&self, kgram: Vec<u32>) -> u64 {
        self.inner.get(&kgram)
    }

    #[pyo3(signature = (values, offsets, threads=None))]
    fn add(
        &mut self,
        py: Python<'_>,
        values: &Bound<'_, PyAny>,
        offsets: &Bound<'_, PyAny>,
        threads: Option<usize>,
    ) -> PyResult<()> {
        let ragged = Ragged::new(values, offsets)?;
        let documents = ragged.documents(self.inner.vocab_size())?;
        let pool = Pool::new(threads).map_err(to_py)?;
        let inner = &mut self.inner;
        detached(py, |check| inner.add(&documents, &pool, check))
    }

    fn add_rows(
        &mut self,
        kgrams: PyReadonlyArray2<'_, u32>,
        counts: PyReadonlyArray1<'_, u64>,
    ) -> PyResult<()> {
        let (flat, width) = rows(&kgrams, "k-grams")?;
        let counts = counts
            .as_slice()
            .map_err(|_| argument_error("counts must be contiguous"))?;
        if width != self.inner.width() || flat.len() != counts.len() * width {
            return Err(argument_error(format!(
                "k-grams must have {} columns and one count each",
                self.inner.width()
            )));
        }
        self.inner.add_rows(flat, counts).map_err(to_py)
    }

    fn top(&self, py: Python<'_>, n: Option<usize>, min_count: u64) -> KgramSet {
        let inner = py.detach(|| self.inner.top(n.unwrap_or(usize::MAX), min_count));
        KgramSet {
            inner: Arc::new(inner),
        }
    }

    fn rows<'py>(&self, py: Python<'py>) -> PyResult<RowsAndCounts<'py>> {
        let (flat, counts) = py.detach(|| self.inner.rows());
        Ok((
            to_rows(py, flat, self.inner.width())?,
            PyArray1::from_vec(py, counts),
        ))
    }
}
