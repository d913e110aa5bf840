//! `Scorer` and `Tally`.

use crate::documents::{Arrays, RaggedSource, flat, rows};
use crate::errors::{argument_error, borrow, borrow_mut, detached, to_py};
use crate::kgrams::KgramSet;
use crate::schemes::{Scheme, Watch};
use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use radscore_core::dedup::rule::Rule;
use radscore_core::score::weighted::Combine;
use radscore_core::score::{options::Options, tally};
use radscore_core::scorer::outofcore::Limits;
use radscore_core::spill::shard_file::UnitFile;
use radscore_core::{PromptRole, Reader, Result, put_u64, scorer};
use std::path::PathBuf;
use std::sync::Arc;

const STATE_MAGIC: [u8; 4] = *b"RSST";
const STATE_VERSION: u32 = 3;

type Weights<'py> = Option<PyReadonlyArray1<'py, f64>>;

/// The rules of a test.
pub fn options(
    dedup: &str,
    combine: &str,
    start: Option<usize>,
    prompt_role: &str,
    filter: Option<&KgramSet>,
    threads: Option<usize>,
) -> PyResult<Options> {
    let unknown = |name: &str, value: &str, allowed: &str| {
        argument_error(format!("{name} must be {allowed}, not '{value}'"))
    };
    Ok(Options {
        rule: match dedup {
            "unit" => Rule::Unit,
            "window" => Rule::Window,
            "context" => Rule::Context,
            "none" => Rule::None,
            _ => {
                return Err(unknown(
                    "dedup",
                    dedup,
                    "'unit', 'window', 'context' or 'none'",
                ));
            }
        },
        combine: match combine {
            "one" => Combine::One,
            "sum" => Combine::Sum,
            "first" => Combine::First,
            _ => return Err(unknown("combine", combine, "'one', 'sum' or 'first'")),
        },
        role: match prompt_role {
            "exclude" => PromptRole::Exclude,
            "context" => PromptRole::Context,
            _ => {
                return Err(unknown(
                    "prompt_role",
                    prompt_role,
                    "'exclude' or 'context'",
                ));
            }
        },
        start,
        filter: filter.map(|set| Arc::clone(&set.inner)),
        threads,
    })
}

/// Sums over the windows of one test.
#[pyclass(frozen, eq, module = "radscore._core")]
#[derive(PartialEq)]
pub struct Tally {
    inner: tally::Tally,
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
    fn residue_counts<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<u64>>> {
        let counts = self.inner.sums.residues.counts();
        (!counts.is_empty()).then(|| PyArray1::from_vec(py, counts))
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

    fn merge(&self, other: &Self) -> Self {
        let mut inner = self.inner.clone();
        inner.merge(&other.inner);
        Self { inner }
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut out = Vec::new();
        self.inner.write(&mut out);
        PyBytes::new(py, &out)
    }

    #[staticmethod]
    fn from_bytes(state: &[u8]) -> PyResult<Self> {
        let mut reader = Reader::new(state);
        let inner = tally::Tally::read(&mut reader)
            .and_then(|inner| reader.finish().map(|()| inner))
            .map_err(to_py)?;
        Ok(Self { inner })
    }
}

/// Weights and scores of units, their groups, and their residues.
type UnitArrays<'py> = (
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Option<Bound<'py, PyArray1<u64>>>,
    Option<Bound<'py, PyArray1<u64>>>,
);

/// Length and checksum of a file.
type Stamp<'py> = (u64, Bound<'py, PyBytes>);

/// What errors call a [`Scorer`].
const WHAT: &str = "scorer";

/// Scores documents under one or many schemes.
#[pyclass(module = "radscore._core")]
pub struct Scorer {
    inner: scorer::Scorer,
    /// What schemes that Python computes have raised.
    watch: Watch,
}

fn limits(memory: usize, folders: Vec<PathBuf>) -> PyResult<Limits> {
    if folders.is_empty() {
        return Err(argument_error("there must be at least one folder"));
    }
    Ok(Limits { memory, folders })
}

/// What the header of a file of a work unit says: configuration, unit, length and checksum.
type Header<'py> = (Bound<'py, PyBytes>, u64, u64, Bound<'py, PyBytes>);

/// Reads the header of a file of a work unit.
#[pyfunction]
pub fn read_unit(py: Python<'_>, path: PathBuf) -> PyResult<Header<'_>> {
    let file = detached(py, |_| UnitFile::open(&path))?;
    Ok((
        PyBytes::new(py, file.configuration()),
        file.unit(),
        file.finished.length,
        PyBytes::new(py, &file.finished.digest),
    ))
}

fn slice<'a>(weights: &'a Weights<'_>) -> PyResult<Option<&'a [f64]>> {
    match weights {
        Some(array) => flat(array, "weights").map(Some).map_err(argument_error),
        None => Ok(None),
    }
}

#[pymethods]
impl Scorer {
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        schemes: Vec<PyRef<'_, Scheme>>,
        dedup: &str,
        combine: &str,
        start: Option<usize>,
        prompt_role: &str,
        filter: Option<PyRef<'_, KgramSet>>,
        threads: Option<usize>,
        curve: Vec<u64>,
    ) -> PyResult<Self> {
        let options = options(
            dedup,
            combine,
            start,
            prompt_role,
            filter.as_deref(),
            threads,
        )?;
        let watch = Watch::default();
        let schemes = schemes.iter().map(|scheme| scheme.watched(py, &watch));
        let schemes = schemes.collect();
        let inner = watch.detached(py, |_| {
            let mut inner = scorer::Scorer::new(schemes, &options)?;
            inner.set_curve(curve)?;
            if options.combine == Combine::Sum {
                inner.set_weighted();
            }
            Ok(inner)
        })?;
        Ok(Self { inner, watch })
    }

    #[pyo3(signature = (documents, prompts=None, weights=None))]
    fn add<'py>(
        slf: &Bound<'py, Self>,
        documents: Arrays<'py>,
        prompts: Option<Arrays<'py>>,
        weights: Weights<'py>,
    ) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let (Self { inner, watch }, weights) = (&mut *scorer, slice(&weights)?);
        let borrowed = RaggedSource::new(&documents, prompts.as_ref())?;
        let source = borrowed.source(inner.vocab_size())?;
        watch.detached(slf.py(), |check| inner.add(&source, weights, check))
    }

    #[pyo3(signature = (windows, weights=None, occurrences=None))]
    fn add_windows(
        slf: &Bound<'_, Self>,
        windows: PyReadonlyArray2<'_, u32>,
        weights: Weights<'_>,
        occurrences: Option<PyReadonlyArray1<'_, u64>>,
    ) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let (ids, width) = rows(&windows, "windows")?;
        let orders = match &occurrences {
            Some(array) => Some(flat(array, "occurrences").map_err(argument_error)?),
            None => None,
        };
        let (Self { inner, watch }, weights) = (&mut *scorer, slice(&weights)?);
        watch.detached(slf.py(), |check| {
            inner.add_windows(ids, width, weights, orders, check)
        })
    }

    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        watch.detached(slf.py(), |check| inner.flush(check))
    }

    fn tallies(slf: &Bound<'_, Self>) -> PyResult<Vec<Tally>> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        let tallies = watch.detached(slf.py(), |check| inner.tallies(check))?;
        Ok(tallies.into_iter().map(|inner| Tally { inner }).collect())
    }

    fn weighted_units<'py>(
        slf: &Bound<'py, Self>,
        scheme: usize,
    ) -> PyResult<Option<UnitArrays<'py>>> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let (py, Self { inner, watch }) = (slf.py(), &mut *scorer);
        if scheme >= inner.schemes().len() {
            return Err(argument_error(format!("there is no scheme {scheme}")));
        }
        let units = watch.detached(py, |check| inner.weighted_units(scheme, check))?;
        Ok(units.map(|units| {
            let some = |ids: Vec<u64>| (!ids.is_empty()).then(|| PyArray1::from_vec(py, ids));
            let (groups, residues) = (some(units.groups), some(units.residues));
            (
                PyArray1::from_vec(py, units.weights),
                PyArray1::from_vec(py, units.scores),
                groups,
                residues,
            )
        }))
    }

    fn curve(slf: &Bound<'_, Self>) -> PyResult<Vec<(u64, Vec<Tally>)>> {
        let copy = |inner: &tally::Tally| Tally {
            inner: inner.clone(),
        };
        let point = |(tokens, tallies): &(u64, Vec<tally::Tally>)| {
            (*tokens, tallies.iter().map(copy).collect())
        };
        let scorer = borrow(slf, WHAT)?;
        scorer.watch.raise(slf.py())?;
        Ok(scorer.inner.curve().iter().map(point).collect())
    }

    #[getter]
    fn n_tokens(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(borrow(slf, WHAT)?.inner.tokens())
    }

    #[getter]
    fn weighted(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(borrow(slf, WHAT)?.inner.is_weighted())
    }

    fn merge(slf: &Bound<'_, Self>, other: &Bound<'_, Self>) -> PyResult<()> {
        if slf.is(other) {
            return Err(argument_error(
                "the scorer is busy: it cannot be merged with itself",
            ));
        }
        let (mut scorer, other) = (borrow_mut(slf, WHAT)?, borrow(other, WHAT)?);
        other.watch.raise(slf.py())?;
        let (Self { inner, watch }, other) = (&mut *scorer, &other.inner);
        watch.detached(slf.py(), |_| inner.merge(other))
    }

    fn save(slf: &Bound<'_, Self>, path: PathBuf, header: &[u8]) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        watch.detached(slf.py(), |_| {
            let mut payload = Vec::new();
            put_u64(&mut payload, header.len() as u64);
            payload.extend_from_slice(header);
            payload.extend(inner.state()?);
            radscore_core::write_file(&path, STATE_MAGIC, STATE_VERSION, &payload)
        })
    }

    #[staticmethod]
    fn read_state<'py>(
        py: Python<'py>,
        path: PathBuf,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let read = || -> Result<(Vec<u8>, Vec<u8>)> {
            let payload =
                radscore_core::read_file(&path, STATE_MAGIC, STATE_VERSION, "scorer state")?;
            let mut reader = Reader::new(&payload);
            let length = reader.u64()? as usize;
            let header = reader.take(length)?.to_vec();
            Ok((header, payload[8 + length..].to_vec()))
        };
        let (header, state) = detached(py, |_| read())?;
        Ok((PyBytes::new(py, &header), PyBytes::new(py, &state)))
    }

    fn set_limit(slf: &Bound<'_, Self>, memory: usize, folders: Vec<PathBuf>) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let limits = limits(memory, folders)?;
        scorer.inner.set_limit(limits).map_err(to_py)
    }

    fn collect_only(slf: &Bound<'_, Self>, bits: u32) -> PyResult<()> {
        borrow_mut(slf, WHAT)?
            .inner
            .collect_only(bits)
            .map_err(to_py)
    }

    #[getter]
    fn n_bytes(slf: &Bound<'_, Self>) -> PyResult<usize> {
        Ok(borrow(slf, WHAT)?.inner.bytes())
    }

    #[pyo3(signature = (documents, prompts, first, last))]
    fn add_part<'py>(
        slf: &Bound<'py, Self>,
        documents: Arrays<'py>,
        prompts: Option<Arrays<'py>>,
        first: usize,
        last: usize,
    ) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        let borrowed = RaggedSource::new(&documents, prompts.as_ref())?;
        let source = borrowed.source(inner.vocab_size())?;
        watch.detached(slf.py(), |check| {
            inner.add_part(&source, first..last, check)
        })
    }

    fn write_unit<'py>(
        slf: &Bound<'py, Self>,
        path: PathBuf,
        configuration: [u8; 32],
        unit: u64,
    ) -> PyResult<Stamp<'py>> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        let done = watch.detached(slf.py(), |_| inner.write_unit(&path, configuration, unit))?;
        Ok((done.length, PyBytes::new(slf.py(), &done.digest)))
    }

    fn join_units<'py>(
        slf: &Bound<'py, Self>,
        paths: Vec<PathBuf>,
        path: PathBuf,
        configuration: [u8; 32],
        unit: u64,
        memory: usize,
        folders: Vec<PathBuf>,
    ) -> PyResult<Stamp<'py>> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let (Self { inner, watch }, limits) = (&mut *scorer, limits(memory, folders)?);
        let done = watch.detached(slf.py(), |check| {
            inner.join_units((&paths, configuration), &path, unit, &limits, check)
        })?;
        Ok((done.length, PyBytes::new(slf.py(), &done.digest)))
    }

    #[allow(clippy::too_many_arguments)]
    fn reduce(
        slf: &Bound<'_, Self>,
        paths: Vec<PathBuf>,
        configuration: [u8; 32],
        first: usize,
        last: usize,
        exchange: PathBuf,
        memory: usize,
        folders: Vec<PathBuf>,
    ) -> PyResult<Vec<(usize, PathBuf)>> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let (Self { inner, watch }, limits) = (&mut *scorer, limits(memory, folders)?);
        watch.detached(slf.py(), |check| {
            let source = (&paths[..], &configuration);
            inner.reduce(source, first..last, &exchange, &limits, check)
        })
    }

    fn reduce_units(
        slf: &Bound<'_, Self>,
        exchange: Vec<(usize, PathBuf)>,
        first: usize,
        last: usize,
        memory: usize,
        folders: Vec<PathBuf>,
    ) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let (Self { inner, watch }, limits) = (&mut *scorer, limits(memory, folders)?);
        watch.detached(slf.py(), |check| {
            inner.reduce_units(&exchange, first..last, &limits, check)
        })
    }

    fn partial(slf: &Bound<'_, Self>) -> PyResult<Vec<Tally>> {
        let scorer = borrow(slf, WHAT)?;
        scorer.watch.raise(slf.py())?;
        let tallies = scorer.inner.partial();
        Ok(tallies.into_iter().map(|inner| Tally { inner }).collect())
    }

    fn restore(slf: &Bound<'_, Self>, state: &[u8]) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        watch.detached(slf.py(), |_| inner.restore(state))
    }
}
