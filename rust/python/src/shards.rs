//! `WindowCollector`, `Reducer` and `read_shard_header`: more windows than memory.

use crate::documents::{Arrays, RaggedSource};
use crate::errors::{Whole, argument_error, borrow, borrow_mut, detached};
use crate::kgrams::KgramSet;
use crate::schemes::{Scheme, Watch};
use crate::scorer::options;
use crate::tally::{Tally, tallies};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use radscore_core::{Budget, Collector, Exchange, Finished, PADDING, ShardFile, WindowShape};
use std::path::PathBuf;

/// Length and checksum of a file.
type Stamp<'py> = (u64, Bound<'py, PyBytes>);

/// What the header of a shard file says: configuration, shard, length and checksum.
type Header<'py> = (Bound<'py, PyBytes>, u64, u64, Bound<'py, PyBytes>);

/// What errors call a [`WindowCollector`].
const WHAT: &str = "collector";

fn budget(memory: usize, folders: Vec<PathBuf>) -> PyResult<Budget> {
    if folders.is_empty() {
        return Err(argument_error("there must be at least one folder"));
    }
    Ok(Budget { memory, folders })
}

fn stamp(py: Python<'_>, finished: Finished) -> Stamp<'_> {
    (finished.length, PyBytes::new(py, &finished.digest))
}

/// Reads the header of a shard file.
#[pyfunction]
pub fn read_shard_header(py: Python<'_>, path: PathBuf) -> PyResult<Header<'_>> {
    let file = detached(py, |_| ShardFile::open(&path))?;
    let configuration = PyBytes::new(py, file.configuration());
    let (length, digest) = stamp(py, file.finished);
    Ok((configuration, file.shard(), length, digest))
}

/// Cuts documents into windows and writes them to shard files.
#[pyclass(module = "radscore._core")]
pub struct WindowCollector {
    inner: Whole<Collector>,
    /// What a scheme that Python computes has raised.
    watch: Watch,
}

#[pymethods]
impl WindowCollector {
    #[new]
    #[pyo3(signature = (*, width, vocab_size, start, padding, seeds, dedup, prompt_role, filter, threads, bits))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        width: usize,
        vocab_size: u32,
        start: Option<usize>,
        padding: Option<i64>,
        seeds: Option<PyRef<'_, Scheme>>,
        dedup: &str,
        prompt_role: &str,
        filter: Option<PyRef<'_, KgramSet>>,
        threads: Option<usize>,
        bits: u32,
    ) -> PyResult<Self> {
        let id = |padding: i64| match padding {
            -1 => Ok(PADDING),
            id => u32::try_from(id)
                .ok()
                .filter(|&id| id < vocab_size)
                .ok_or_else(|| {
                    argument_error(format!("padding must be -1 or a token id, not {id}"))
                }),
        };
        let shape = WindowShape {
            width,
            vocab_size,
            start,
            padding: padding.map(id).transpose()?,
        };
        let options = options(dedup, "one", start, prompt_role, filter.as_deref(), threads)?;
        let watch = Watch::default();
        let seeds = seeds.map(|scheme| scheme.watched(py, &watch));
        let inner = watch.detached(py, |_| {
            Collector::new(shape, seeds.as_ref(), &options, bits)
        })?;
        let inner = Whole::new(inner);
        Ok(Self { inner, watch })
    }

    fn add<'py>(
        slf: &Bound<'py, Self>,
        documents: Arrays<'py>,
        prompts: Option<Arrays<'py>>,
        first: usize,
        last: usize,
    ) -> PyResult<()> {
        let mut collector = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *collector;
        let borrowed = RaggedSource::new(&documents, prompts.as_ref())?;
        let source = borrowed.source(inner.see(WHAT)?.vocab_size())?;
        let py = slf.py();
        inner.change(WHAT, |inner| {
            watch.detached(py, |check| inner.add(&source, first..last, check))
        })
    }

    #[getter]
    fn n_tokens(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.tokens())
    }

    #[getter]
    fn n_bytes(slf: &Bound<'_, Self>) -> PyResult<usize> {
        Ok(borrow(slf, WHAT)?.inner.see(WHAT)?.bytes())
    }

    fn write_shard<'py>(
        slf: &Bound<'py, Self>,
        path: PathBuf,
        configuration: [u8; 32],
        shard: u64,
    ) -> PyResult<Stamp<'py>> {
        let mut collector = borrow_mut(slf, WHAT)?;
        let Self { inner, watch } = &mut *collector;
        let py = slf.py();
        let done = inner.change(WHAT, |inner| {
            watch.detached(py, |_| inner.write_shard(&path, configuration, shard))
        })?;
        Ok(stamp(py, done))
    }

    fn merge_shards<'py>(
        slf: &Bound<'py, Self>,
        paths: Vec<PathBuf>,
        path: PathBuf,
        configuration: [u8; 32],
        shard: u64,
        memory: usize,
        folders: Vec<PathBuf>,
    ) -> PyResult<Stamp<'py>> {
        let collector = borrow(slf, WHAT)?;
        let (inner, budget) = (collector.inner.see(WHAT)?, budget(memory, folders)?);
        let done = collector.watch.detached(slf.py(), |check| {
            inner.merge_shards((&paths, configuration), &path, shard, &budget, check)
        })?;
        Ok(stamp(slf.py(), done))
    }
}

/// Scores partitions of shard files.
#[pyclass(frozen, module = "radscore._core")]
pub struct Reducer {
    inner: radscore_core::Reducer,
    /// What schemes that Python computes have raised.
    watch: Watch,
}

#[pymethods]
impl Reducer {
    #[new]
    #[pyo3(signature = (schemes, *, dedup, start, prompt_role, threads))]
    fn new(
        py: Python<'_>,
        schemes: Vec<PyRef<'_, Scheme>>,
        dedup: &str,
        start: Option<usize>,
        prompt_role: &str,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let options = options(dedup, "one", start, prompt_role, None, threads)?;
        let watch = Watch::default();
        let schemes = schemes.iter().map(|scheme| scheme.watched(py, &watch));
        let schemes = schemes.collect();
        let inner = watch.detached(py, |_| radscore_core::Reducer::new(schemes, &options))?;
        Ok(Self { inner, watch })
    }

    #[allow(clippy::too_many_arguments)]
    fn reduce(
        &self,
        py: Python<'_>,
        paths: Vec<PathBuf>,
        configuration: [u8; 32],
        first: usize,
        last: usize,
        exchange: PathBuf,
        memory: usize,
        folders: Vec<PathBuf>,
    ) -> PyResult<(Vec<Tally>, Vec<Exchange>)> {
        let budget = budget(memory, folders)?;
        let (sums, written) = self.watch.detached(py, |check| {
            let source = (&paths[..], &configuration);
            (self.inner).reduce(source, first..last, &exchange, &budget, check)
        })?;
        Ok((tallies(sums), written))
    }

    fn reduce_units(
        &self,
        py: Python<'_>,
        exchange: Vec<Exchange>,
        first: usize,
        last: usize,
        memory: usize,
        folders: Vec<PathBuf>,
    ) -> PyResult<Vec<Tally>> {
        let budget = budget(memory, folders)?;
        let sums = self.watch.detached(py, |check| {
            (self.inner).reduce_units(&exchange, first..last, &budget, check)
        })?;
        Ok(tallies(sums))
    }
}
