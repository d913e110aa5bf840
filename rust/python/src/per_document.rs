//! Documents scored on their own, and what they share.

use crate::documents::{Arrays, RaggedSource};
use crate::errors::{borrow_mut, detached, to_py};
use crate::kgrams::KgramSet;
use crate::schemes::{Scheme, Watch};
use crate::scorer::options;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use radscore_core::DocumentTally;
use radscore_core::schemes::ScoreKind;
use std::path::PathBuf;

/// What errors call a [`Sharing`].
const WHAT: &str = "table of shared units";

/// Status and score of each position.
type StatusAndScores<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<f64>>);

/// Which units the documents of a corpus share.
#[pyclass(module = "radscore._core")]
pub struct Sharing {
    inner: radscore_core::Sharing,
}

#[pymethods]
impl Sharing {
    #[new]
    fn new(most: u64) -> PyResult<Self> {
        let inner = radscore_core::Sharing::new(most).map_err(to_py)?;
        Ok(Self { inner })
    }

    #[getter]
    fn n_documents(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(borrow_mut(slf, WHAT)?.inner.n_documents())
    }

    fn undo(slf: &Bound<'_, Self>) -> PyResult<()> {
        borrow_mut(slf, WHAT)?.inner.undo();
        Ok(())
    }

    fn save(slf: &Bound<'_, Self>, path: PathBuf) -> PyResult<()> {
        let sharing = borrow_mut(slf, WHAT)?;
        let inner = &sharing.inner;
        detached(slf.py(), |_| inner.save(&path))
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = detached(py, |_| radscore_core::Sharing::load(&path))?;
        Ok(Self { inner })
    }
}

/// Scores each document as a test of its own; a dict of arrays with one entry a document.
#[pyfunction]
#[pyo3(signature = (scheme, documents, prompts, filter, dedup, start, prompt_role, threads, max_contexts, sharing=None))]
#[allow(clippy::too_many_arguments)]
pub fn score_documents<'py>(
    py: Python<'py>,
    scheme: PyRef<'py, Scheme>,
    documents: Arrays<'py>,
    prompts: Option<Arrays<'py>>,
    filter: Option<PyRef<'py, KgramSet>>,
    dedup: &str,
    start: Option<usize>,
    prompt_role: &str,
    threads: Option<usize>,
    max_contexts: Option<usize>,
    sharing: Option<Bound<'py, Sharing>>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = options(dedup, "one", start, prompt_role, filter.as_deref(), threads)?;
    let watch = Watch::default();
    let scheme = scheme.watched(py, &watch);
    let borrowed = RaggedSource::new(&documents, prompts.as_ref())?;
    let source = borrowed.source(scheme.vocab_size())?;
    let mut table = match &sharing {
        Some(table) => Some(borrow_mut(table, WHAT)?),
        None => None,
    };
    let table = table.as_mut().map(|table| &mut table.inner);
    let tallies = watch.detached(py, |check| {
        let scheme = &scheme;
        match table {
            Some(table) => {
                let (most, source) = (max_contexts, &source);
                let found =
                    radscore_core::score_sharing(scheme, &options, source, most, table, check)?;
                // What a scheme that failed last has said of units must not stay.
                check().inspect_err(|_| table.undo())?;
                Ok(found)
            }
            None => radscore_core::score_documents(scheme, &options, &source, max_contexts, check),
        }
    })?;
    let out = PyDict::new(py);
    let column = |name: &str, get: fn(&DocumentTally) -> u64| {
        out.set_item(name, PyArray1::from_iter(py, tallies.iter().map(get)))
    };
    column("n_windows", |tally| tally.windows)?;
    column("n_excluded", |tally| tally.excluded)?;
    column("n_filtered", |tally| tally.filtered)?;
    column("n_duplicates", |tally| tally.duplicates)?;
    column("n_keyless", |tally| tally.keyless)?;
    column("n_shared", |tally| tally.shared)?;
    column("n_scored", |tally| tally.scored)?;
    column("n_common", |tally| tally.common)?;
    let copies = tallies
        .iter()
        .map(|tally| tally.copy_of.map_or(-1, |first| first as i64));
    out.set_item("copy_of", PyArray1::from_iter(py, copies))?;
    let statistic = PyArray1::from_iter(py, tallies.iter().map(|tally| tally.statistic));
    out.set_item("statistic", statistic)?;
    if let ScoreKind::Depths(_) = scheme.score_kind() {
        let flat: Vec<u64> = tallies
            .iter()
            .flat_map(|tally| tally.depths.iter().copied())
            .collect();
        out.set_item("depth_counts", PyArray1::from_vec(py, flat))?;
    }
    Ok(out)
}

/// Status and score of each token of the documents as a target.
#[pyfunction]
#[pyo3(signature = (scheme, documents, prompts, filter, dedup, start, prompt_role, threads, max_contexts))]
#[allow(clippy::too_many_arguments)]
pub fn score_positions<'py>(
    py: Python<'py>,
    scheme: PyRef<'py, Scheme>,
    documents: Arrays<'py>,
    prompts: Option<Arrays<'py>>,
    filter: Option<PyRef<'py, KgramSet>>,
    dedup: &str,
    start: Option<usize>,
    prompt_role: &str,
    threads: Option<usize>,
    max_contexts: Option<usize>,
) -> PyResult<StatusAndScores<'py>> {
    let options = options(dedup, "one", start, prompt_role, filter.as_deref(), threads)?;
    let watch = Watch::default();
    let scheme = scheme.watched(py, &watch);
    let borrowed = RaggedSource::new(&documents, prompts.as_ref())?;
    let source = borrowed.source(scheme.vocab_size())?;
    let all = watch.detached(py, |check| {
        radscore_core::positions(&scheme, &options, &source, max_contexts, check)
    })?;
    Ok((
        PyArray1::from_vec(py, all.status),
        PyArray1::from_vec(py, all.scores),
    ))
}
