//! `_core.Scheme`: a keyed scheme, immutable, shared with scorers.

mod choices;
mod foreign;
mod params;
mod rows;

use crate::errors::{argument_error, detached, reserve, to_py};
use choices::Distributions;
pub use foreign::Watch;
use foreign::{Foreign, Shape};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use params::params;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use radscore_core::schemes::registry;
use radscore_core::schemes::{
    Choices, Scheme as CoreScheme, ScoreKind, SeedKind, UnitKind, interruptible_scores,
    watermarked, windows_per_check,
};
use radscore_core::{Error, PADDING, Pool, Result, WindowShape, matched, memory};
use rows::Rows;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A keyed scheme: one of the core's, or one that Python code computes.
#[pyclass(frozen, module = "radscore._core")]
pub struct Scheme {
    inner: Inner,
}

enum Inner {
    Core(Arc<dyn CoreScheme>),
    Foreign(Arc<Foreign>),
}

impl Scheme {
    /// The scheme for one scorer or call; what its Python code raises there is kept in `watch`.
    pub fn watched(&self, py: Python<'_>, watch: &Watch) -> Arc<dyn CoreScheme> {
        match &self.inner {
            Inner::Core(scheme) => Arc::clone(scheme),
            Inner::Foreign(scheme) => Arc::new(scheme.watched(py, watch)),
        }
    }

    /// What it says of itself; nothing is computed.
    fn scheme(&self) -> &dyn CoreScheme {
        match &self.inner {
            Inner::Core(scheme) => scheme.as_ref(),
            Inner::Foreign(scheme) => scheme.as_ref(),
        }
    }
}

/// Time between two interrupt checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Most words computed between two interrupt checks, beyond one row.
const SLICE: usize = 1 << 22;

fn matrix<'py, T: numpy::Element>(
    py: Python<'py>,
    values: Vec<T>,
    columns: usize,
) -> PyResult<Bound<'py, PyArray2<T>>> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    values.into_pyarray(py).reshape([rows, columns])
}

impl Scheme {
    fn width(&self) -> usize {
        self.scheme().window_width()
    }

    /// One 128-bit value a window, as two words, high word first.
    fn identities<'py>(
        &self,
        py: Python<'py>,
        what: &str,
        windows: &Rows<'py>,
        width: usize,
        fill: impl Fn(&dyn CoreScheme, &[u32], &mut [u128]) + Sync,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        let watch = Watch::default();
        let scheme = &*self.watched(py, &watch);
        let rows = windows.check("windows", width)?;
        let mut words = reserve::<u64>(what, &[(rows, "windows"), (2, "words")])?;
        let ids = windows.read(py, "windows", scheme)?;
        let slice = windows_per_check([scheme].into_iter());
        let words = watch.detached(py, |check| {
            let mut values = Vec::new();
            for ids in ids.chunks(slice * width) {
                check()?;
                memory::resize(&mut values, ids.len() / width, 0);
                Pool::shared().install(|| fill(scheme, ids, &mut values));
                let halves = |&value: &u128| [(value >> 64) as u64, value as u64];
                words.extend(values.iter().flat_map(halves));
            }
            Ok(words)
        })?;
        matrix(py, words, 2)
    }

    /// Rows over the whole vocabulary, `per_word` values for each word that `fill` writes; `put`
    /// appends the values of words.
    fn fill<W: Send + Clone + Default, T: Send>(
        &self,
        py: Python<'_>,
        contexts: &Rows<'_>,
        (what, per_word): (&str, usize),
        fill: impl Fn(&dyn CoreScheme, &[u32], &mut [W]) -> Result<()> + Sync,
        put: impl Fn(&[W], &mut Vec<T>) + Sync,
    ) -> PyResult<Vec<T>> {
        let watch = Watch::default();
        let scheme = &*self.watched(py, &watch);
        let (width, vocab) = (self.width() - 1, scheme.vocab_size() as usize);
        let rows = contexts.check("contexts", width)?;
        // Whether the scheme can do it at all is told before anything is reserved.
        watch.detached(py, |_| {
            Pool::shared().install(|| fill(scheme, &[], &mut []))
        })?;
        let sizes = [(rows, "contexts"), (vocab, "ids"), (per_word, "depths")];
        let mut out = reserve::<T>(what, &sizes[..if per_word == 1 { 2 } else { 3 }])?;
        let ids = contexts.read(py, "contexts", scheme)?;
        watch.detached(py, |check| {
            let mut words = Vec::new();
            let (mut row, mut slice) = (0, 1);
            while row < rows {
                check()?;
                let start = Instant::now();
                let count = slice.min(rows - row);
                memory::resize(&mut words, count * vocab, W::default());
                let contexts = &ids[row * width..][..count * width];
                Pool::shared().install(|| fill(scheme, contexts, &mut words))?;
                put(&words, &mut out);
                row += count;
                let elapsed = start.elapsed();
                if elapsed < CHECK_INTERVAL / 2 && 2 * slice * vocab <= SLICE {
                    slice *= 2;
                } else if elapsed > CHECK_INTERVAL * 2 {
                    slice = (slice / 2).max(1);
                }
            }
            Ok(out)
        })
    }

    fn depth(&self) -> usize {
        match self.scheme().score_kind() {
            ScoreKind::Depths(depth) => depth.into(),
            _ => 0,
        }
    }
}

/// A padding as Python knows it.
fn padding_id(padding: u32) -> i64 {
    match padding {
        PADDING => -1,
        id => id.into(),
    }
}

fn put_bits(words: &[u64], depth: usize, out: &mut Vec<u8>) {
    for &word in words {
        out.extend((0..depth).map(|d| ((word >> d) & 1) as u8));
    }
}

#[pymethods]
impl Scheme {
    /// The compiled scheme of that name, from the parameters that its constructor takes.
    #[new]
    #[pyo3(signature = (name, /, **parameters))]
    fn new(name: &str, parameters: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let inner = registry::build(name, params(parameters)?).map_err(to_py)?;
        Ok(Self {
            inner: Inner::Core(inner),
        })
    }

    /// The names of all compiled schemes.
    #[staticmethod]
    fn names() -> Vec<&'static str> {
        registry::names().collect()
    }

    /// A scheme that Python code computes; see `radscore.schemes.PythonScheme`.
    #[staticmethod]
    #[pyo3(signature = (functions, *, name, vocab_size, window_width, score_kind, depth, share,
        seed_kind, least_own, padding, reaches_prompt))]
    #[allow(clippy::too_many_arguments)]
    fn python(
        functions: Bound<'_, PyAny>,
        name: String,
        vocab_size: u32,
        window_width: usize,
        score_kind: &str,
        depth: u8,
        share: Option<(u128, u128)>,
        seed_kind: &str,
        least_own: usize,
        padding: Option<i64>,
        reaches_prompt: bool,
    ) -> PyResult<Self> {
        let shape = Shape {
            name,
            vocab_size,
            window_width,
            score_kind: foreign::score_kind(score_kind, depth)?,
            share: foreign::share(share),
            seed_kind: foreign::seed_kind(seed_kind)?,
            least_own,
            padding: foreign::padding(padding, vocab_size)?,
            reaches_prompt,
        };
        Ok(Self {
            inner: Inner::Foreign(Arc::new(Foreign::new(functions, shape)?)),
        })
    }

    /// Size of the vocabulary.
    #[getter]
    fn vocab_size(&self) -> u32 {
        self.scheme().vocab_size()
    }

    /// Tokens of a window, target included.
    #[getter]
    fn window_width(&self) -> usize {
        self.width()
    }

    /// `"green"`, `"real"` or `"depths"`.
    #[getter]
    fn score_kind(&self) -> &'static str {
        match self.scheme().score_kind() {
            ScoreKind::Green => "green",
            ScoreKind::Real => "real",
            ScoreKind::Depths(_) => "depths",
        }
    }

    /// Number of g-values of a window; 0 for other scores.
    #[getter(depth)]
    fn get_depth(&self) -> usize {
        self.depth()
    }

    /// (numerator, denominator) of the null share of a green or g-value; None for real scores.
    #[getter]
    fn share(&self) -> Option<(u128, u128)> {
        self.scheme().share().map(|share| (share.num, share.den))
    }

    /// Whether distinct windows are always distinct units.
    #[getter]
    fn unit_is_window(&self) -> bool {
        self.scheme().unit_kind() == UnitKind::Window
    }

    /// Whether distinct windows are distinct units under this key.
    #[getter]
    fn has_distinct_units(&self) -> bool {
        self.scheme().has_distinct_units()
    }

    /// How many residues decide on the score of a window, where windows are counted by them; else 0.
    #[getter]
    fn residues(&self) -> usize {
        self.scheme().residues()
    }

    /// The sampling table: bool (size,); None where the scheme has none.
    #[getter]
    fn sampling_table<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray1<bool>>>> {
        let table = self.scheme().sampling_table();
        let table = detached(py, |_| Ok(memory::copy(table)))?;
        Ok((!table.is_empty()).then(|| PyArray1::from_vec(py, table)))
    }

    /// What is read of a context: "context", "hash", "keyed hash" or "target".
    #[getter]
    fn seed_kind(&self) -> &'static str {
        match self.scheme().seed_kind() {
            SeedKind::Context => "context",
            SeedKind::Hash => "hash",
            SeedKind::KeyedHash => "keyed hash",
            SeedKind::WithTarget => "target",
        }
    }

    /// How many of a context's last tokens can fix the seed.
    #[getter]
    fn least_own(&self) -> usize {
        self.scheme().least_own()
    }

    /// Whether seeds that differ by one can share draws.
    #[getter]
    fn seeds_reach_neighbours(&self) -> bool {
        self.scheme().seeds_reach_neighbours()
    }

    /// The id that may stand left of a document's first token (-1: none of the vocabulary's).
    #[getter]
    fn padding(&self) -> Option<i64> {
        self.scheme().padding().map(padding_id)
    }

    /// Everything that decides how documents are cut into windows: width, size of the vocabulary,
    /// padding, and the first position that is scored.
    #[pyo3(signature = (start))]
    fn window_shape(&self, start: Option<usize>) -> (usize, u32, Option<i64>, Option<usize>) {
        let shape = WindowShape::of(self.scheme(), start);
        let padding = shape.padding.map(padding_id);
        (shape.width, shape.vocab_size, padding, shape.start)
    }

    /// Whether the prompt stands before the first generated token when text is marked.
    #[getter]
    fn reaches_prompt(&self) -> bool {
        self.scheme().reaches_prompt()
    }

    /// The first position of a document that is scored by default.
    #[getter]
    fn first_position(&self) -> usize {
        self.scheme().first_position()
    }

    /// Keys that generation chooses between at random.
    #[getter]
    fn key_count(&self) -> usize {
        self.scheme().key_count()
    }

    /// Greenness of the whole vocabulary after each context: bool (n, vocab_size).
    fn green_mask<'py>(
        &self,
        py: Python<'py>,
        contexts: Rows<'py>,
    ) -> PyResult<Bound<'py, PyArray2<bool>>> {
        let mask = self.fill(
            py,
            &contexts,
            ("masks", 1),
            |scheme, ids, out: &mut [u8]| scheme.green_mask(ids, out),
            |words, out| out.extend(words.iter().map(|&green| green != 0)),
        )?;
        matrix(py, mask, self.scheme().vocab_size() as usize)
    }

    /// Uniforms of the whole vocabulary after each context: float64 (n, vocab_size).
    #[pyo3(signature = (contexts, key_index=0))]
    fn uniforms<'py>(
        &self,
        py: Python<'py>,
        contexts: Rows<'py>,
        key_index: usize,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let uniforms = self.fill(
            py,
            &contexts,
            ("uniforms", 1),
            |scheme, ids, out: &mut [f64]| scheme.uniforms_of(key_index, ids, out),
            |words, out| out.extend_from_slice(words),
        )?;
        matrix(py, uniforms, self.scheme().vocab_size() as usize)
    }

    /// g-values of the whole vocabulary after each context: uint8 (n, vocab_size, depth).
    fn g_values<'py>(&self, py: Python<'py>, contexts: Rows<'py>) -> PyResult<Bound<'py, PyAny>> {
        let depth = self.depth();
        let values = self.fill(
            py,
            &contexts,
            ("g-values", depth),
            |scheme, ids, out: &mut [u64]| scheme.g_values(ids, out),
            |words, out| put_bits(words, depth, out),
        )?;
        let (rows, _) = contexts.shape();
        let shape = [rows, self.scheme().vocab_size() as usize, depth];
        Ok(values.into_pyarray(py).reshape(shape)?.into_any())
    }

    /// The score of each window as it stands, without deduplication: bool (n,), float64 (n,) or
    /// uint8 (n, depth).
    fn scores<'py>(&self, py: Python<'py>, windows: Rows<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows = windows.check("windows", self.width())?;
        let depth = self.depth();
        // As many bytes as the core and the values here take.
        let sizes = [(rows, "windows"), (depth.max(1) + 8, "values")];
        drop(black_box(reserve::<u64>("scores", &sizes)?));
        let watch = Watch::default();
        let scheme = self.watched(py, &watch);
        let ids = windows.read(py, "windows", scheme.as_ref())?;
        let words = watch.detached(py, |check| {
            interruptible_scores(scheme.as_ref(), &ids, Pool::shared(), check)
        })?;
        Ok(match self.scheme().score_kind() {
            ScoreKind::Green => {
                let greens: Vec<bool> = words.into_iter().map(|word| word != 0).collect();
                greens.into_pyarray(py).into_any()
            }
            ScoreKind::Real => {
                let reals: Vec<f64> = words.into_iter().map(f64::from_bits).collect();
                reals.into_pyarray(py).into_any()
            }
            ScoreKind::Depths(_) => {
                let mut values = Vec::with_capacity(rows * depth);
                put_bits(&words, depth, &mut values);
                let values = values.into_pyarray(py);
                values.reshape([rows, depth])?.into_any()
            }
        })
    }

    /// The distributions into which the key turns those of some rows: float64 (n_tokens,).
    fn watermarked<'py>(
        &self,
        py: Python<'py>,
        contexts: Rows<'py>,
        distributions: Distributions<'py>,
        delta: f64,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let watch = Watch::default();
        let scheme = &*self.watched(py, &watch);
        let ids = distributions.contexts(py, &contexts, scheme)?;
        let mut out = reserve::<f64>("probabilities", &[(distributions.len(), "tokens")])?;
        out.resize(distributions.len(), 0.0);
        let (offsets, tokens, q) = distributions.slices()?;
        let out = watch.detached(py, |check| {
            check()?;
            let choices = Choices::new(&ids, scheme.window_width() - 1, offsets, tokens, q)?;
            Pool::shared().install(|| watermarked(scheme, &choices, delta, &mut out))?;
            Ok(out)
        })?;
        Ok(PyArray1::from_vec(py, out))
    }

    /// Their sum with weights: see `radscore.stats.matched`.
    #[pyo3(signature = (contexts, distributions, weights, delta, *, threads))]
    fn matched<'py>(
        &self,
        py: Python<'py>,
        contexts: Rows<'py>,
        distributions: Distributions<'py>,
        weights: PyReadonlyArray1<'py, f64>,
        delta: f64,
        threads: Option<usize>,
    ) -> PyResult<f64> {
        let watch = Watch::default();
        let scheme = &*self.watched(py, &watch);
        let ids = distributions.contexts(py, &contexts, scheme)?;
        let (offsets, tokens, q) = distributions.slices()?;
        let weights = choices::slice(&weights, "weights")?;
        let pool = Pool::new(threads).map_err(to_py)?;
        watch.detached(py, |check| {
            let choices = Choices::new(&ids, scheme.window_width() - 1, offsets, tokens, q)?;
            matched(scheme, &choices, weights, delta, &pool, check)
        })
    }

    /// The unit of each window: uint64 (n, 2), high word first.
    fn units<'py>(
        &self,
        py: Python<'py>,
        windows: Rows<'py>,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        if self.scheme().unit_kind() == UnitKind::Window {
            return Err(to_py(Error::Argument(
                "units: the unit of this scheme is the window itself".into(),
            )));
        }
        self.identities(py, "units", &windows, self.width(), |scheme, ids, out| {
            scheme.units(ids, out);
        })
    }

    /// Whether the random draw of each window may not depend on the key: bool (n,).
    fn keyless<'py>(
        &self,
        py: Python<'py>,
        windows: Rows<'py>,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let watch = Watch::default();
        let scheme = &*self.watched(py, &watch);
        let rows = windows.check("windows", self.width())?;
        let mut out = reserve::<bool>("windows", &[(rows, "windows")])?;
        out.resize(rows, false);
        let ids = windows.read(py, "windows", scheme)?;
        let out = watch.detached(py, |_| {
            if scheme.unit_kind() != UnitKind::Window {
                Pool::shared().install(|| scheme.keyless(&ids, &mut out));
            }
            Ok(out)
        })?;
        Ok(PyArray1::from_vec(py, out))
    }

    /// The seed of each window, or its unit where no seed is known before the target: uint64 (n, 2),
    /// high word first.
    fn seeds<'py>(
        &self,
        py: Python<'py>,
        windows: Rows<'py>,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        if self.scheme().seed_kind() == SeedKind::Context {
            return Err(to_py(Error::Argument(
                "seeds: the seed of this scheme is the context itself".into(),
            )));
        }
        self.identities(py, "seeds", &windows, self.width(), |scheme, ids, out| {
            scheme.seeds(ids, out);
        })
    }

    /// The seeds (or units) of windows of which only the last `own + 1` tokens are known.
    fn seeds_of_tails<'py>(
        &self,
        py: Python<'py>,
        tails: Rows<'py>,
        own: usize,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        let least = self.scheme().least_own();
        if !(least..self.width()).contains(&own) {
            return Err(argument_error(format!(
                "own must be from {least} to {}, not {own}",
                self.width() - 1
            )));
        }
        self.identities(py, "seeds", &tails, own + 1, |scheme, ids, out| {
            scheme.seeds_of_tails(ids, own, out);
        })
    }

    /// Shows no key: the scheme's public parameters stand in its Python class.
    fn __repr__(&self) -> String {
        format!(
            "Scheme(vocab_size={}, window_width={}, score_kind={:?})",
            self.scheme().vocab_size(),
            self.width(),
            self.score_kind()
        )
    }
}
