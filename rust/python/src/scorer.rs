//! `Scorer`: documents in, tallies out.

use crate::documents::{Arrays, RaggedSource, flat, rows};
use crate::errors::{Whole, argument_error, borrow, borrow_mut, detached};
use crate::kgrams::KgramSet;
use crate::schemes::{Scheme, Watch};
use crate::tally::{Tally, tallies};
use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use radscore_core::{
    Budget, Combine, Damping, Error, Options, PromptRole, Rule, SavedFile, memory,
};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
        damping: Damping::default(),
        start,
        filter: filter.map(|set| Arc::clone(&set.inner)),
        threads,
    })
}

/// Weights and scores of units, their groups, and their residues.
type UnitArrays<'py> = (
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Option<Bound<'py, PyArray1<u64>>>,
    Option<Bound<'py, PyArray1<u64>>>,
);

/// How many units were saved, whether with their groups, and their residues.
type SavedUnits<'py> = (usize, bool, Option<Bound<'py, PyArray1<u64>>>);

/// What errors call a [`Scorer`].
const WHAT: &str = "scorer";

/// Scores documents under one or many schemes.
#[pyclass(module = "radscore._core")]
pub struct Scorer {
    inner: Whole<radscore_core::Scorer>,
    /// What schemes that Python computes have raised.
    watch: Watch,
}

/// A file of numbers.
struct NumberFile {
    path: PathBuf,
    file: BufWriter<File>,
    count: usize,
}

impl NumberFile {
    fn create(path: PathBuf) -> radscore_core::Result<Self> {
        match File::create(&path) {
            Ok(file) => Ok(Self {
                path,
                file: BufWriter::with_capacity(1 << 20, file),
                count: 0,
            }),
            Err(error) => Err(unwritten(&path, &error)),
        }
    }

    fn write(
        &mut self,
        mut words: impl ExactSizeIterator<Item = u64>,
    ) -> radscore_core::Result<()> {
        self.count += words.len();
        let written = words.try_for_each(|word| self.file.write_all(&word.to_le_bytes()));
        written.map_err(|error| unwritten(&self.path, &error))
    }

    fn finish(mut self) -> radscore_core::Result<usize> {
        let written = self.file.flush();
        written.map_err(|error| unwritten(&self.path, &error))?;
        Ok(self.count)
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Error {
    Error::Storage(format!("cannot write {}: {error}", path.display()))
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
    #[pyo3(signature = (schemes, dedup, combine, start, prompt_role, filter, threads, curve, limit=None, damping=None))]
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
        limit: Option<(usize, Vec<PathBuf>)>,
        damping: Option<(f64, f64)>,
    ) -> PyResult<Self> {
        let mut options = options(
            dedup,
            combine,
            start,
            prompt_role,
            filter.as_deref(),
            threads,
        )?;
        if let Some((saturation, frequency)) = damping {
            options.damping = Damping {
                saturation,
                frequency,
            };
        }
        let watch = Watch::default();
        let schemes = schemes.iter().map(|scheme| scheme.watched(py, &watch));
        let schemes = schemes.collect();
        let inner = watch.detached(py, |_| {
            let mut inner = radscore_core::Scorer::new(schemes, &options)?;
            inner.set_curve(curve)?;
            if let Some((memory, folders)) = limit {
                inner.set_limit(Budget { memory, folders });
            }
            if options.combine == Combine::Sum {
                inner.set_weighted();
            }
            Ok(Whole::new(inner))
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
        let source = borrowed.source(inner.see(WHAT)?.vocab_size())?;
        let py = slf.py();
        inner.change(WHAT, |inner| {
            watch.detached(py, |check| inner.add(&source, weights, check))
        })
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
        let py = slf.py();
        inner.change(WHAT, |inner| {
            watch.detached(py, |check| {
                inner.add_windows(ids, width, weights, orders, check)
            })
        })
    }

    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        let py = slf.py();
        inner.change(WHAT, |inner| watch.detached(py, |check| inner.flush(check)))
    }

    fn tallies(slf: &Bound<'_, Self>) -> PyResult<Vec<Tally>> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        let py = slf.py();
        let tally =
            |inner: &mut radscore_core::Scorer| watch.detached(py, |check| inner.tallies(check));
        inner.change(WHAT, tally).map(tallies)
    }

    #[pyo3(signature = (scheme, scores=true))]
    fn weighted_units<'py>(
        slf: &Bound<'py, Self>,
        scheme: usize,
        scores: bool,
    ) -> PyResult<Option<UnitArrays<'py>>> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let (py, Self { inner, watch }) = (slf.py(), &mut *scorer);
        if scheme >= inner.see(WHAT)?.schemes().len() {
            return Err(argument_error(format!("there is no scheme {scheme}")));
        }
        let units = inner.change(WHAT, |inner| {
            watch.detached(py, |check| inner.weighted_units(scheme, scores, check))
        })?;
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

    /// Writes weights and, if there are any, groups of the units of a scheme to files, one number after
    /// the other; returns how many there are, whether there are groups, and the residues, if any.
    fn store_units<'py>(
        slf: &Bound<'py, Self>,
        scheme: usize,
        weights: PathBuf,
        groups: PathBuf,
    ) -> PyResult<SavedUnits<'py>> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let (py, Self { inner, watch }) = (slf.py(), &mut *scorer);
        let (count, grouped, residues) = inner.change(WHAT, |inner| {
            watch.detached(py, |check| {
                let mut weights = NumberFile::create(weights)?;
                let mut groups = NumberFile::create(groups)?;
                let mut residues = Vec::new();
                inner.visit_units(scheme, false, check, &mut |units| {
                    memory::extend(&mut residues, &units.residues);
                    weights.write(units.weights.iter().map(|w| w.to_bits()))?;
                    groups.write(units.groups.into_iter())
                })?;
                Ok((weights.finish()?, groups.finish()? > 0, residues))
            })
        })?;
        let residues = (!residues.is_empty()).then(|| PyArray1::from_vec(py, residues));
        Ok((count, grouped, residues))
    }

    /// The first scheme whose weighted units are the same as one's.
    fn units_like(slf: &Bound<'_, Self>, scheme: usize) -> PyResult<usize> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.units_like(scheme))
    }

    /// Whether windows are in files.
    #[getter]
    fn is_in_files(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.is_in_files())
    }

    fn curve(slf: &Bound<'_, Self>) -> PyResult<Vec<(u64, Vec<Tally>)>> {
        let scorer = borrow(slf, WHAT)?;
        scorer.watch.raise(slf.py())?;
        let points = scorer.inner.see(WHAT)?.curve().iter();
        Ok(points
            .map(|(tokens, point)| (*tokens, tallies(point.clone())))
            .collect())
    }

    #[getter]
    fn n_tokens(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.tokens())
    }

    #[getter]
    fn weighted(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.is_weighted())
    }

    fn merge(slf: &Bound<'_, Self>, other: &Bound<'_, Self>) -> PyResult<()> {
        if slf.is(other) {
            return Err(argument_error(
                "the scorer is busy: it cannot be merged with itself",
            ));
        }
        let (mut scorer, other) = (borrow_mut(slf, WHAT)?, borrow(other, WHAT)?);
        other.watch.raise(slf.py())?;
        let (Self { inner, watch }, other) = (&mut *scorer, other.inner.see(WHAT)?);
        let py = slf.py();
        inner.change(WHAT, |inner| watch.detached(py, |_| inner.merge(other)))
    }

    fn save(slf: &Bound<'_, Self>, path: PathBuf, header: &[u8]) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        let inner = inner.get(WHAT)?;
        watch.detached(slf.py(), |_| inner.save(&path, header))
    }

    fn restore(slf: &Bound<'_, Self>, state: &Bound<'_, StateFile>) -> PyResult<()> {
        let mut scorer = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *scorer;
        let file = borrow_mut(state, "state")?.file.take();
        let file = file.ok_or_else(|| argument_error("the state was restored already"))?;
        let py = slf.py();
        inner.change(WHAT, |inner| watch.detached(py, |_| inner.restore(file)))
    }
}

/// An open file of a scorer's state, read up to its header.
#[pyclass(module = "radscore._core")]
pub struct StateFile {
    header: Vec<u8>,
    file: Option<SavedFile>,
}

#[pymethods]
impl StateFile {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let (header, file) = detached(py, |_| radscore_core::Scorer::open(&path))?;
        let file = Some(file);
        Ok(Self { header, file })
    }

    #[getter]
    fn header<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(slf.py(), &borrow(slf, "state")?.header))
    }
}
