//! `KgramSet` and `KgramCounts`.

use crate::documents::{Ragged, flat, rows};
use crate::errors::{Whole, argument_error, borrow, borrow_mut, detached, to_py};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use radscore_core as core;
use radscore_core::Pool;
use std::path::PathBuf;
use std::sync::Arc;

type RowsAndCounts<'py> = (Bound<'py, PyArray2<u32>>, Bound<'py, PyArray1<u64>>);

/// A set of k-grams over a vocabulary.
#[pyclass(frozen, module = "radscore._core")]
pub struct KgramSet {
    pub inner: Arc<core::KgramSet>,
}

fn set(inner: core::KgramSet) -> KgramSet {
    KgramSet {
        inner: Arc::new(inner),
    }
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
    #[pyo3(signature = (kgrams, vocab_size, origin=""))]
    fn from_rows(
        py: Python<'_>,
        kgrams: PyReadonlyArray2<'_, u32>,
        vocab_size: u32,
        origin: &str,
    ) -> PyResult<Self> {
        let (flat, width) = rows(&kgrams, "k-grams")?;
        detached(py, |_| {
            core::KgramSet::from_rows(flat, width, vocab_size)?.with_origin(origin)
        })
        .map(set)
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        detached(py, |_| core::KgramSet::load(&path)).map(set)
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        detached(py, |_| self.inner.save(&path))
    }

    #[getter]
    fn width(&self) -> usize {
        self.inner.width()
    }

    #[getter]
    fn vocab_size(&self) -> u32 {
        self.inner.vocab_size()
    }

    /// How the set was made.
    #[getter]
    fn origin(&self) -> &str {
        self.inner.origin()
    }

    #[getter]
    fn fingerprint(&self, py: Python<'_>) -> PyResult<&str> {
        detached(py, |_| self.inner.fingerprint())
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn contains(&self, kgram: Vec<u32>) -> bool {
        self.inner.contains(&kgram)
    }

    #[pyo3(signature = (other, origin=""))]
    fn union(&self, py: Python<'_>, other: &Self, origin: &str) -> PyResult<Self> {
        detached(py, |_| self.inner.union(&other.inner)?.with_origin(origin)).map(set)
    }

    #[pyo3(signature = (other, origin=""))]
    fn intersection(&self, py: Python<'_>, other: &Self, origin: &str) -> PyResult<Self> {
        detached(py, |_| {
            self.inner.intersection(&other.inner)?.with_origin(origin)
        })
        .map(set)
    }

    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u32>>> {
        let flat = detached(py, |_| Ok(self.inner.rows()))?;
        to_rows(py, flat, self.inner.width())
    }
}

/// What errors call a [`KgramCounts`].
const WHAT: &str = "k-gram count";

/// How often each k-gram occurs.
#[pyclass(module = "radscore._core")]
pub struct KgramCounts {
    inner: Whole<core::KgramCounts>,
}

#[pymethods]
impl KgramCounts {
    #[new]
    fn new(width: usize, vocab_size: u32) -> PyResult<Self> {
        Ok(Self {
            inner: Whole::new(core::KgramCounts::new(width, vocab_size).map_err(to_py)?),
        })
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = detached(py, |_| core::KgramCounts::load(&path))?;
        let inner = Whole::new(inner);
        Ok(Self { inner })
    }

    fn save(slf: &Bound<'_, Self>, path: PathBuf) -> PyResult<()> {
        let counts = borrow(slf, WHAT)?;
        let inner = counts.inner.see(WHAT)?;
        detached(slf.py(), |_| inner.save(&path))
    }

    #[getter]
    fn width(slf: &Bound<'_, Self>) -> PyResult<usize> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.width())
    }

    #[getter]
    fn vocab_size(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.vocab_size())
    }

    #[getter]
    fn origin(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.origin().to_owned())
    }

    fn set_origin(slf: &Bound<'_, Self>, origin: &str) -> PyResult<()> {
        let mut counts = borrow_mut(slf, WHAT)?;
        let inner = counts.inner.get(WHAT)?;
        inner.set_origin(origin).map_err(to_py)
    }

    #[getter]
    fn total(slf: &Bound<'_, Self>) -> PyResult<u128> {
        let counts = borrow(slf, WHAT)?;
        let inner = counts.inner.see(WHAT)?;
        Ok(slf.py().detach(|| inner.total()))
    }

    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.len())
    }

    fn get(slf: &Bound<'_, Self>, kgram: Vec<u32>) -> PyResult<u64> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.get(&kgram))
    }

    #[pyo3(signature = (values, offsets, threads=None))]
    fn add(
        slf: &Bound<'_, Self>,
        values: &Bound<'_, PyAny>,
        offsets: &Bound<'_, PyAny>,
        threads: Option<usize>,
    ) -> PyResult<()> {
        let mut counts = borrow_mut(slf, WHAT)?;
        let inner = &mut counts.inner;
        let ragged = Ragged::new(values, offsets)?;
        let documents = ragged.documents(inner.see(WHAT)?.vocab_size())?;
        let pool = Pool::new(threads).map_err(to_py)?;
        let py = slf.py();
        inner.change(WHAT, |inner| {
            detached(py, |check| inner.add(&documents, &pool, check))
        })
    }

    fn add_rows(
        slf: &Bound<'_, Self>,
        kgrams: PyReadonlyArray2<'_, u32>,
        counts: PyReadonlyArray1<'_, u64>,
    ) -> PyResult<()> {
        let mut all = borrow_mut(slf, WHAT)?;
        let inner = &mut all.inner;
        let (ids, width) = rows(&kgrams, "k-grams")?;
        let counts = flat(&counts, "counts").map_err(argument_error)?;
        let own = inner.see(WHAT)?.width();
        if width != own || ids.len() != counts.len() * width {
            return Err(argument_error(format!(
                "k-grams must have {own} columns and one count each"
            )));
        }
        let py = slf.py();
        inner.change(WHAT, |inner| detached(py, |_| inner.add_rows(ids, counts)))
    }

    #[pyo3(signature = (n, min_count, origin=""))]
    fn top(
        slf: &Bound<'_, Self>,
        n: Option<usize>,
        min_count: u64,
        origin: &str,
    ) -> PyResult<KgramSet> {
        let counts = borrow(slf, WHAT)?;
        let inner = counts.inner.see(WHAT)?;
        detached(slf.py(), |_| {
            let top = inner.top(n.unwrap_or(usize::MAX), min_count);
            top.with_origin(origin)
        })
        .map(set)
    }

    fn rows<'py>(slf: &Bound<'py, Self>) -> PyResult<RowsAndCounts<'py>> {
        let counts = borrow(slf, WHAT)?;
        let (py, inner) = (slf.py(), counts.inner.see(WHAT)?);
        let (flat, counts) = detached(py, |_| Ok(inner.rows()))?;
        Ok((
            to_rows(py, flat, inner.width())?,
            PyArray1::from_vec(py, counts),
        ))
    }
}
