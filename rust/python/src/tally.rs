//! `Tally`.

use crate::errors::detached;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use radscore_core::Reader;

/// Sums over the windows of one test.
#[pyclass(frozen, eq, module = "radscore._core")]
#[derive(PartialEq)]
pub struct Tally {
    pub inner: radscore_core::Tally,
}

#[pymethods]
impl Tally {
    #[getter]
    fn n_documents(&self) -> u64 {
        self.inner.counts.documents
    }

    #[getter]
    fn n_short_documents(&self) -> u64 {
        self.inner.counts.short_documents
    }

    #[getter]
    fn n_tokens(&self) -> u64 {
        self.inner.counts.tokens
    }

    #[getter]
    fn n_windows(&self) -> u64 {
        self.inner.counts.windows
    }

    #[getter]
    fn n_excluded(&self) -> u64 {
        self.inner.counts.excluded
    }

    #[getter]
    fn n_filtered(&self) -> u64 {
        self.inner.counts.filtered
    }

    #[getter]
    fn n_duplicates(&self) -> u64 {
        self.inner.duplicates
    }

    #[getter]
    fn n_keyless(&self) -> u64 {
        self.inner.sums.keyless
    }

    #[getter]
    fn n_scored(&self) -> u64 {
        self.inner.sums.scored
    }

    #[getter]
    fn n_green(&self) -> u64 {
        self.inner.sums.green
    }

    #[getter]
    fn score_sum(&self) -> f64 {
        self.inner.sums.score.value()
    }

    #[getter]
    fn depth_counts(&self) -> Vec<u64> {
        self.inner.sums.depths.clone()
    }

    /// Windows of each residue, uint64 (size,); None where none were counted by residue.
    #[getter]
    fn residue_counts<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray1<u64>>>> {
        let counts = detached(py, |_| Ok(self.inner.sums.residues.counts()))?;
        Ok((!counts.is_empty()).then(|| PyArray1::from_vec(py, counts)))
    }

    #[getter]
    fn weighted(&self) -> bool {
        self.inner.weights.is_some()
    }

    #[getter]
    fn n_zero_weight(&self) -> u64 {
        self.inner.weights.as_ref().map_or(0, |w| w.zero)
    }

    #[getter]
    fn sum_weight(&self) -> f64 {
        self.inner
            .weights
            .as_ref()
            .map_or(0.0, |w| w.weight.value())
    }

    #[getter]
    fn sum_weight_squared(&self) -> f64 {
        self.inner
            .weights
            .as_ref()
            .map_or(0.0, |w| w.square.value())
    }

    #[getter]
    fn max_abs_weight(&self) -> f64 {
        self.inner.weights.as_ref().map_or(0.0, |w| w.max_abs)
    }

    #[getter]
    fn sum_weight_score(&self) -> f64 {
        self.inner
            .weights
            .as_ref()
            .map_or(0.0, |w| w.product.value())
    }

    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<Self> {
        let inner = detached(py, |_| {
            let mut inner = self.inner.clone();
            inner.merge(&other.inner);
            Ok(inner)
        })?;
        Ok(Self { inner })
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, |_| {
            let mut out = Vec::new();
            self.inner.write(&mut out);
            Ok(out)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, state: &[u8]) -> PyResult<Self> {
        let inner = detached(py, |_| {
            let mut reader = Reader::new(state);
            let inner = radscore_core::Tally::read(&mut reader)?;
            reader.finish().map(|()| inner)
        })?;
        Ok(Self { inner })
    }
}

/// Tallies for Python.
pub fn tallies(all: Vec<radscore_core::Tally>) -> Vec<Tally> {
    all.into_iter().map(|inner| Tally { inner }).collect()
}
