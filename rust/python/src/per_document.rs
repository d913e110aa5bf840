//! Documents scored on their own, and what they share.

use crate::documents::{Arrays, RaggedSource};
use crate::errors::{Whole, borrow, borrow_mut, detached, to_py};
use crate::kgrams::KgramSet;
use crate::schemes::{Scheme, Watch};
use crate::scorer::options;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use radscore_core::schemes::ScoreKind;
use radscore_core::{DocumentTally, memory};
use std::path::PathBuf;

/// What errors call a [`Sharing`].
const WHAT: &str = "table of shared units";

/// Status and score of each position.
type StatusAndScores<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<f64>>);

/// Which units the documents of a corpus share.
#[pyclass(module = "radscore._core")]
pub struct Sharing {
    inner: Whole<radscore_core::Sharing>,
}

#[pymethods]
impl Sharing {
    #[new]
    fn new(most: u64) -> PyResult<Self> {
        let inner = radscore_core::Sharing::new(most).map_err(to_py)?;
        let inner = Whole::new(inner);
        Ok(Self { inner })
    }

    #[getter]
    fn n_documents(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.n_documents())
    }

    fn undo(slf: &Bound<'_, Self>) -> PyResult<()> {
        borrow_mut(slf, WHAT)?.inner.get(WHAT)?.undo();
        Ok(())
    }

    fn save(slf: &Bound<'_, Self>, path: PathBuf) -> PyResult<()> {
        let sharing = borrow(slf, WHAT)?;
        let inner = sharing.inner.see(WHAT)?;
        detached(slf.py(), |_| inner.save(&path))
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = detached(py, |_| radscore_core::Sharing::load(&path))?;
        let inner = Whole::new(inner);
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
    let mut tallies = match table.as_mut() {
        Some(table) => table.inner.change(WHAT, |table| {
            watch.detached(py, |check| {
                let (most, source) = (max_contexts, &source);
                let found =
                    radscore_core::score_sharing(&scheme, &options, source, most, table, check)?;
                // What a scheme that failed last has said of units must not stay.
                check().inspect_err(|_| table.undo())?;
                Ok(found)
            })
        }),
        None => watch.detached(py, |check| {
            radscore_core::score_documents(&scheme, &options, &source, max_contexts, check)
        }),
    }?;
    let out = PyDict::new(py);
    for (name, get) in COUNTS {
        let counts = detached(py, |_| Ok(memory::collect(tallies.iter().map(get))))?;
        out.set_item(name, PyArray1::from_vec(py, counts))?;
    }
    let copy_of = |tally: &DocumentTally| tally.copy_of.map_or(-1, |first| first as i64);
    let copies = detached(py, |_| Ok(memory::collect(tallies.iter().map(copy_of))))?;
    out.set_item("copy_of", PyArray1::from_vec(py, copies))?;
    let statistic = |tally: &DocumentTally| tally.statistic;
    let statistic = detached(py, |_| Ok(memory::collect(tallies.iter().map(statistic))))?;
    out.set_item("statistic", PyArray1::from_vec(py, statistic))?;
    if let ScoreKind::Depths(depth) = scheme.score_kind() {
        let flat = detached(py, |_| {
            let mut flat = memory::vec(tallies.len() * usize::from(depth));
            for tally in tallies.drain(..) {
                flat.extend(tally.depths);
            }
            Ok(flat)
        })?;
        out.set_item("depth_counts", PyArray1::from_vec(py, flat))?;
    }
    Ok(out)
}

/// A count of a document, and how it is called.
type Count = (&'static str, fn(&DocumentTally) -> u64);

/// What is counted of each document.
const COUNTS: [Count; 8] = [
    ("n_windows", |tally| tally.windows),
    ("n_excluded", |tally| tally.excluded),
    ("n_filtered", |tally| tally.filtered),
    ("n_duplicates", |tally| tally.duplicates),
    ("n_keyless", |tally| tally.keyless),
    ("n_shared", |tally| tally.shared),
    ("n_scored", |tally| tally.scored),
    ("n_common", |tally| tally.common),
];

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
