//! A scheme that Python code computes: `radscore.schemes.PythonScheme` and whoever derives from it.
//!
//! Worker threads call the code with rows of token ids and hold the interpreter's lock only during
//! a call. An exception, or an answer of the wrong form, is kept in the [`Watch`] of the scorer or
//! call that needed it: nothing more is computed there, and every later use raises it again.

use crate::errors::{argument_error, detached_unless, is_ours, scheme_error, to_py};
use numpy::{
    Element, PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use radscore_core::schemes::{
    Scheme as CoreScheme, ScoreKind, SeedKind, Share, UnitKind, registry,
};
use radscore_core::{Error, PADDING, Result, memory};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const SCORES: &str = "compute_scores";
const UNITS: &str = "compute_units";
const SEEDS: &str = "compute_seeds";
const KEYLESS: &str = "compute_keyless";
const UNIFORMS: &str = "compute_uniforms";

/// What one window is taken to cost until the first call has been timed: so much that a wish to
/// stop is heard soon, however slow the code turns out to be.
const NANOSECONDS: f64 = 1e6;

/// Where schemes leave the first exception that their Python code raised for one scorer or call.
/// What was computed since is worth nothing.
#[derive(Clone, Default)]
pub struct Watch(Arc<OnceLock<PyErr>>);

impl Watch {
    /// [`detached`](crate::errors::detached), where what Python code raised ends the work.
    pub fn detached<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<R> + Send,
    ) -> PyResult<R> {
        detached_unless(py, |py| self.raise(py), work)
    }

    /// Raises what Python code raised, if it did.
    pub fn raise(&self, py: Python<'_>) -> PyResult<()> {
        self.0
            .get()
            .map_or(Ok(()), |error| Err(error.clone_ref(py)))
    }

    fn has_failed(&self) -> bool {
        self.0.get().is_some()
    }

    fn keep(&self, error: PyErr) {
        // Of several threads that fail, one is enough.
        drop(self.0.set(error));
    }
}

/// What a scheme says of itself.
#[derive(Clone)]
pub struct Shape {
    /// Its name, for messages.
    pub name: String,
    /// Size of the vocabulary.
    pub vocab_size: u32,
    /// Tokens of a window.
    pub window_width: usize,
    /// What a score is.
    pub score_kind: ScoreKind,
    /// The null share of a green or g-value.
    pub share: Option<Share>,
    /// What is read of a context.
    pub seed_kind: SeedKind,
    /// How many of a context's last tokens can fix the seed.
    pub least_own: usize,
    /// The id left of a document's first token.
    pub padding: Option<u32>,
    /// Whether the prompt stands there.
    pub reaches_prompt: bool,
}

/// The scheme: its shape, and the object whose methods compute. The object must not refer to the
/// `_core.Scheme` that is made of it: the garbage collector does not see through.
pub struct Foreign {
    functions: Py<PyAny>,
    shape: Shape,
    has_units: bool,
    has_keyless: bool,
    has_uniforms: bool,
    /// The bits of an f64: what a window cost lately, for all cores, since they take turns.
    nanoseconds: Arc<AtomicU64>,
    watch: Watch,
}

impl Foreign {
    /// Asks which optional methods there are, and checks that they fit the shape.
    pub fn new(functions: Bound<'_, PyAny>, shape: Shape) -> PyResult<Self> {
        registry::check_windows(shape.vocab_size, shape.window_width).map_err(to_py)?;
        let has = |name: &str| functions.hasattr(name);
        let has_units = has(UNITS)?;
        let lacks = |what: &str| {
            let name = &shape.name;
            Err(scheme_error(format!("scheme {name:?} needs {what}")))
        };
        if !has(SCORES)? {
            return lacks("a method compute_scores");
        }
        if shape.share.is_none() && shape.score_kind != ScoreKind::Real {
            return lacks("a share strictly between 0 and 1, since its scores are no real numbers");
        }
        match shape.seed_kind {
            SeedKind::WithTarget if !has_units => {
                return lacks("a method compute_units with the seed kind 'target'");
            }
            SeedKind::Hash | SeedKind::KeyedHash if !has(SEEDS)? => {
                return lacks("a method compute_seeds with a seed kind that is a hash");
            }
            _ => {}
        }
        if has(KEYLESS)? && !has_units {
            return lacks("a method compute_units beside compute_keyless");
        }
        if shape.least_own >= shape.window_width {
            return lacks("a least_own below window_width");
        }
        Ok(Self {
            has_units,
            has_keyless: has(KEYLESS)?,
            has_uniforms: has(UNIFORMS)?,
            functions: functions.unbind(),
            shape,
            nanoseconds: Arc::new(AtomicU64::new(NANOSECONDS.to_bits())),
            watch: Watch::default(),
        })
    }

    /// The same for a scorer or call of its own.
    pub fn watched(&self, py: Python<'_>, watch: &Watch) -> Self {
        Self {
            functions: self.functions.clone_ref(py),
            shape: self.shape.clone(),
            nanoseconds: Arc::clone(&self.nanoseconds),
            watch: watch.clone(),
            ..*self
        }
    }

    /// Calls a method with rows of token ids. `read` takes its answer over, or tells that it is not
    /// `wanted`.
    fn call(
        &self,
        method: &str,
        (rows, width): (&[u32], usize),
        wanted: &str,
        read: impl FnOnce(&Bound<'_, PyAny>, usize) -> bool,
    ) {
        if rows.is_empty() || self.watch.has_failed() {
            return;
        }
        let n = rows.len() / width;
        let called = Python::try_attach(|py| {
            let start = Instant::now();
            let windows = PyArray1::from_vec(py, memory::copy(rows)).reshape([n, width])?;
            let answer = self.functions.bind(py).call_method1(method, (windows,))?;
            if method == SCORES {
                self.took(start.elapsed(), n);
            }
            if read(&answer, n) {
                return Ok(());
            }
            Err(scheme_error(format!(
                "{method} of scheme {:?} must return {wanted}, not {}",
                self.shape.name,
                form(&answer)?
            )))
        });
        if let Some(Err(error)) = called {
            let kept = Python::try_attach(|py| self.explained(py, method, error));
            kept.into_iter().for_each(|error| self.watch.keep(error));
        }
    }

    /// Remembers what a window costs.
    fn took(&self, time: Duration, windows: usize) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let each = time.as_nanos() as f64 * cores as f64 / windows as f64;
        let mean = (self.nanoseconds() + each) / 2.0;
        self.nanoseconds.store(mean.to_bits(), Ordering::Relaxed);
    }

    /// What is raised in place of an exception of the scheme's own code, which becomes its cause. Its
    /// text was not written with secrets in mind and is not repeated.
    fn explained(&self, py: Python<'_>, method: &str, error: PyErr) -> PyErr {
        if is_ours(py, &error) || !error.is_instance_of::<PyException>(py) {
            return error; // ours, or KeyboardInterrupt and the like
        }
        let kind = error
            .get_type(py)
            .name()
            .map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
        let name = &self.shape.name;
        let explained = scheme_error(format!("{method} of scheme {name:?} raised {kind}"));
        explained.set_cause(py, Some(error));
        explained
    }

    /// Values of up to 127 bits, one per row: with one more bit the core marks windows without a key.
    fn identities(&self, method: &str, rows: (&[u32], usize), out: &mut [u128]) {
        out.fill(0);
        let wanted = "a uint64 array, shape (n,), or (n, 2) with high words below 2^63 first";
        self.call(method, rows, wanted, |answer, n| {
            if let Ok(words) = answer.extract::<PyReadonlyArray1<'_, u64>>() {
                let words = words.as_array();
                out.iter_mut()
                    .zip(&words)
                    .for_each(|(out, &word)| *out = word.into());
                return words.len() == n;
            }
            let Ok(words) = answer.extract::<PyReadonlyArray2<'_, u64>>() else {
                return false;
            };
            let words = words.as_array();
            for (out, pair) in out.iter_mut().zip(words.rows()) {
                *out = pair
                    .iter()
                    .fold(0, |all, &word| (all << 64) | u128::from(word));
            }
            words.dim() == (n, 2) && out.iter().all(|value| value >> 127 == 0)
        });
    }

    /// One value per row.
    fn values<T: Element + Copy, W>(
        &self,
        method: &str,
        rows: (&[u32], usize),
        wanted: &str,
        out: &mut [W],
        word: impl Fn(T) -> Option<W>,
    ) {
        self.call(method, rows, wanted, |answer, n| {
            let Ok(values) = answer.extract::<PyReadonlyArray1<'_, T>>() else {
                return false;
            };
            let values = values.as_array();
            values.len() == n
                && out.iter_mut().zip(&values).all(|(out, &value)| {
                    let word = word(value);
                    word.map(|word| *out = word).is_some()
                })
        });
    }

    /// One bit per depth and row.
    fn depths(&self, rows: (&[u32], usize), depth: usize, out: &mut [u64]) {
        let wanted = "a bool or uint8 array of 0 and 1, shape (n, depth)";
        self.call(SCORES, rows, wanted, |answer, n| {
            let mut read = |bit: &dyn Fn(usize, usize) -> u8, dim: (usize, usize)| {
                for (row, out) in out.iter_mut().enumerate().take(dim.0) {
                    *out = (0..dim.1.min(depth))
                        .fold(0, |word, d| word | (u64::from(bit(row, d) & 1) << d));
                }
                dim == (n, depth)
            };
            if let Ok(bits) = answer.extract::<PyReadonlyArray2<'_, bool>>() {
                let bits = bits.as_array();
                return read(&|row, d| bits[(row, d)].into(), bits.dim());
            }
            let Ok(bits) = answer.extract::<PyReadonlyArray2<'_, u8>>() else {
                return false;
            };
            let bits = bits.as_array();
            bits.iter().all(|&bit| bit < 2) && read(&|row, d| bits[(row, d)], bits.dim())
        });
    }

    /// The score words of each vocabulary entry after each context.
    fn whole_vocabulary<T>(&self, contexts: &[u32], out: &mut [T], word: impl Fn(u64) -> T) {
        let (width, vocab) = (self.shape.window_width, self.shape.vocab_size);
        let rows = out.chunks_mut(vocab as usize).enumerate();
        for (row, out) in rows {
            let context = &contexts[row * (width - 1)..][..width - 1];
            let mut windows = memory::vec(out.len() * width);
            for token in 0..vocab {
                windows.extend_from_slice(context);
                windows.push(token);
            }
            let mut words = memory::filled(0, out.len());
            self.scores(&windows, &mut words);
            out.iter_mut()
                .zip(words)
                .for_each(|(out, found)| *out = word(found));
        }
    }

    fn lacks(&self, what: &str) -> Error {
        Error::Scheme(format!("scheme {:?} has no {what}", self.shape.name))
    }
}

/// Type and shape of an answer.
fn form(answer: &Bound<'_, PyAny>) -> PyResult<String> {
    match answer.cast::<PyUntypedArray>() {
        Ok(array) => Ok(format!("{} {:?}", array.dtype(), array.shape())),
        Err(_) => Ok(answer.get_type().name()?.to_string()),
    }
}

impl CoreScheme for Foreign {
    fn vocab_size(&self) -> u32 {
        self.shape.vocab_size
    }
    fn window_width(&self) -> usize {
        self.shape.window_width
    }
    fn score_kind(&self) -> ScoreKind {
        self.shape.score_kind
    }
    fn share(&self) -> Option<Share> {
        self.shape.share
    }
    fn unit_kind(&self) -> UnitKind {
        match self.has_units {
            true => UnitKind::Hashed,
            false => UnitKind::Window,
        }
    }
    fn nanoseconds(&self) -> f64 {
        f64::from_bits(self.nanoseconds.load(Ordering::Relaxed))
    }
    fn padding(&self) -> Option<u32> {
        self.shape.padding
    }
    fn reaches_prompt(&self) -> bool {
        self.shape.reaches_prompt
    }
    fn seed_kind(&self) -> SeedKind {
        self.shape.seed_kind
    }
    fn least_own(&self) -> usize {
        self.shape.least_own
    }
    fn units(&self, windows: &[u32], out: &mut [u128]) {
        self.identities(UNITS, (windows, self.shape.window_width), out);
    }
    fn seeds(&self, windows: &[u32], out: &mut [u128]) {
        self.seeds_of_tails(windows, self.shape.window_width - 1, out);
    }
    fn seeds_of_tails(&self, tails: &[u32], own: usize, out: &mut [u128]) {
        let method = match self.shape.seed_kind {
            SeedKind::WithTarget => UNITS,
            _ => SEEDS,
        };
        self.identities(method, (tails, own + 1), out);
    }
    fn keyless(&self, windows: &[u32], out: &mut [bool]) -> bool {
        if self.has_keyless {
            out.fill(false);
            let wanted = "a bool array, shape (n,)";
            let rows = (windows, self.shape.window_width);
            self.values(KEYLESS, rows, wanted, out, |keyless: bool| Some(keyless));
        }
        self.has_keyless
    }
    fn scores(&self, windows: &[u32], out: &mut [u64]) {
        out.fill(0);
        let rows = (windows, self.shape.window_width);
        match self.shape.score_kind {
            ScoreKind::Green => {
                let wanted = "a bool array, shape (n,)";
                self.values(SCORES, rows, wanted, out, |green: bool| Some(green.into()));
            }
            ScoreKind::Real => {
                let wanted = "a float64 array of finite numbers, shape (n,)";
                let word = |score: f64| score.is_finite().then(|| score.to_bits());
                self.values(SCORES, rows, wanted, out, word);
            }
            ScoreKind::Depths(depth) => self.depths(rows, depth.into(), out),
        }
    }
    fn green_mask(&self, contexts: &[u32], out: &mut [u8]) -> Result<()> {
        if self.shape.score_kind != ScoreKind::Green {
            return Err(self.lacks("green lists"));
        }
        self.whole_vocabulary(contexts, out, |word| word as u8);
        Ok(())
    }
    fn uniforms(&self, contexts: &[u32], out: &mut [f64]) -> Result<()> {
        if !self.has_uniforms {
            return Err(self.lacks("uniforms"));
        }
        out.fill(0.5);
        let vocab = self.shape.vocab_size as usize;
        let rows = (contexts, self.shape.window_width - 1);
        let wanted = "a float64 array of numbers from 0 to below 1, shape (n, vocab_size)";
        self.call(UNIFORMS, rows, wanted, |answer, n| {
            let Ok(values) = answer.extract::<PyReadonlyArray2<'_, f64>>() else {
                return false;
            };
            let values = values.as_array();
            let pairs = out.iter_mut().zip(&values);
            pairs.for_each(|(out, &value)| *out = value);
            values.dim() == (n, vocab) && values.iter().all(|value| (0.0..1.0).contains(value))
        });
        Ok(())
    }
    fn g_values(&self, contexts: &[u32], out: &mut [u64]) -> Result<()> {
        let ScoreKind::Depths(_) = self.shape.score_kind else {
            return Err(self.lacks("g-values"));
        };
        self.whole_vocabulary(contexts, out, |word| word);
        Ok(())
    }
}

/// A kind of score by its name.
pub fn score_kind(name: &str, depth: u8) -> PyResult<ScoreKind> {
    match name {
        "green" => Ok(ScoreKind::Green),
        "real" => Ok(ScoreKind::Real),
        "depths" if (1..=64).contains(&depth) => Ok(ScoreKind::Depths(depth)),
        "depths" => Err(argument_error(format!(
            "depth must be from 1 to 64, not {depth}"
        ))),
        _ => Err(argument_error(format!(
            "score_kind must be green, real or depths, not {name:?}"
        ))),
    }
}

/// A kind of seed by its name.
pub fn seed_kind(name: &str) -> PyResult<SeedKind> {
    match name {
        "context" => Ok(SeedKind::Context),
        "hash" => Ok(SeedKind::Hash),
        "keyed hash" => Ok(SeedKind::KeyedHash),
        "target" => Ok(SeedKind::WithTarget),
        _ => Err(argument_error(format!(
            "seed_kind must be context, hash, keyed hash or target, not {name:?}"
        ))),
    }
}

/// A share strictly between 0 and 1.
pub fn share(share: Option<(u128, u128)>) -> Option<Share> {
    let (num, den) = share?;
    (0 < num && num < den).then_some(Share { num, den })
}

/// A padding: -1, or an id of the vocabulary.
pub fn padding(padding: Option<i64>, vocab_size: u32) -> PyResult<Option<u32>> {
    match padding {
        None => Ok(None),
        Some(-1) => Ok(Some(PADDING)),
        Some(id) => match u32::try_from(id) {
            Ok(id) if id < vocab_size => Ok(Some(id)),
            _ => Err(argument_error(format!(
                "padding must be -1 or an id below vocab_size, not {id}"
            ))),
        },
    }
}
