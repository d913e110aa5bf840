//! `_core.Scheme`: a keyed scheme, immutable, shared with scorers.

use crate::documents::check_aligned;
use crate::errors::{argument_error, detached, reserve, to_py, token_error};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use radscore_core::schemes::{
    GreenListKernel as Kernel, GumbelMax, Keyed, Kgw, Prf, Sbw, Scheme as CoreScheme, ScoreKind,
    SeedKind, Seeding, SeedingRule as Rule, SglangGumbel, SynthId, SynthIdDeepMind, TableRule,
    TextSeal, UnitKind, VllmGumbel, interruptible_scores, windows_per_check,
};
use radscore_core::{Error, PADDING, Pool, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A keyed scheme.
#[pyclass(frozen, module = "radscore._core")]
pub struct Scheme {
    /// The scheme itself.
    pub inner: Arc<dyn CoreScheme>,
}

fn wrap(scheme: Result<impl CoreScheme + 'static>) -> PyResult<Scheme> {
    let inner = Arc::new(scheme.map_err(to_py)?);
    Ok(Scheme { inner })
}

/// The names of seedings: the radioactivity authors' `hash`, `table_additive`, `table_skip` and
/// `table_min`; transformers' `last_token`; lm-watermarking's functions.
fn seeding(
    name: &str,
    context_width: usize,
    self_salt: bool,
    seed: u64,
    key: u64,
    table_seed: u64,
) -> Result<Seeding> {
    let table = |rule| Rule::Table {
        rule,
        salt_key: key,
        table_seed,
    };
    let rule = match name {
        "hash" => Rule::Hash {
            seed,
            salt_key: key,
        },
        "table_additive" => table(TableRule::Additive),
        "table_skip" => table(TableRule::Skip),
        "table_min" => table(TableRule::Min),
        "last_token" => Rule::LastToken { hash_key: key },
        _ => Rule::Prf {
            prf: Prf::from_name(name)?,
            hash_key: key,
            table_seed,
        },
    };
    Seeding::new(rule, context_width, self_salt)
}

fn kernel(name: &str) -> Result<Kernel> {
    match name {
        "auto" => Ok(Kernel::Auto),
        "scalar" => Ok(Kernel::Scalar),
        "tracking" => Ok(Kernel::Tracking),
        "lanes" => Ok(Kernel::Lanes),
        "bitmap" => Ok(Kernel::Bitmap),
        _ => Err(Error::Argument(format!(
            "kernel must be auto, scalar, tracking, lanes or bitmap, not {name:?}"
        ))),
    }
}

/// Rows of token ids from uint32 (2^32 - 1 is padding) or int64 (-1 is padding).
#[derive(FromPyObject)]
enum Rows<'py> {
    Narrow(PyReadonlyArray2<'py, u32>),
    Wide(PyReadonlyArray2<'py, i64>),
}

impl Rows<'_> {
    fn shape(&self) -> (usize, usize) {
        let shape = match self {
            Self::Narrow(array) => array.shape(),
            Self::Wide(array) => array.shape(),
        };
        (shape[0], shape[1])
    }

    /// The number of rows, each for one call of the random function.
    fn check(&self, name: &str, width: usize) -> PyResult<usize> {
        let (rows, columns) = self.shape();
        if columns != width {
            return Err(argument_error(format!(
                "{name} must have {width} columns for this scheme, not {columns}"
            )));
        }
        match self {
            Self::Narrow(array) => check_aligned(array, name),
            Self::Wide(array) => check_aligned(array, name),
        }
        .map_err(token_error)?;
        Ok(rows)
    }

    /// The ids, checked. The rows must be.
    fn read(&self, py: Python<'_>, name: &str, scheme: &dyn CoreScheme) -> PyResult<Vec<u32>> {
        let (rows, width) = self.shape();
        let mut out = reserve(name, &[(rows, "rows"), (width, "ids")])?;
        let vocab = scheme.vocab_size();
        let padding = scheme.accepts_padding();
        let target = scheme.window_width() - 1;
        let check = |(k, id): (usize, i64)| {
            let token = u32::try_from(id).unwrap_or(PADDING);
            let padded = padding && (id == -1 || id == i64::from(PADDING)) && k % width < target;
            if token < vocab || padded {
                return Ok(token);
            }
            Err(Error::Tokens(format!(
                "token id {id} in row {} of {name} is outside the vocabulary of {vocab}",
                k / width
            )))
        };
        let mut push = |item| check(item).map(|token| out.push(token));
        match self {
            Self::Narrow(array) => {
                let ids = array.as_array();
                let ids = ids.iter().map(|&id| id.into()).enumerate();
                detached(py, |_| ids.into_iter().try_for_each(&mut push))?;
            }
            Self::Wide(array) => {
                let ids = array.as_array();
                let ids = ids.iter().copied().enumerate();
                detached(py, |_| ids.into_iter().try_for_each(&mut push))?;
            }
        }
        Ok(out)
    }
}

/// Time between two looks at the caller's wish to stop.
const PATIENCE: Duration = Duration::from_millis(100);
/// Most words that are computed between two looks, beyond one row.
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
        self.inner.window_width()
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
        let scheme = &*self.inner;
        let rows = windows.check("windows", width)?;
        let mut words = reserve::<u64>(what, &[(rows, "windows"), (2, "words")])?;
        let ids = windows.read(py, "windows", scheme)?;
        let slice = windows_per_check([scheme].into_iter());
        let words = detached(py, |check| {
            let mut values = Vec::new();
            for ids in ids.chunks(slice * width) {
                check()?;
                values.resize(ids.len() / width, 0);
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
        let scheme = &*self.inner;
        let (width, vocab) = (self.width() - 1, scheme.vocab_size() as usize);
        let rows = contexts.check("contexts", width)?;
        // Whether the scheme can do it at all is told before anything is reserved.
        fill(scheme, &[], &mut []).map_err(to_py)?;
        let sizes = [(rows, "contexts"), (vocab, "ids"), (per_word, "depths")];
        let mut out = reserve::<T>(what, &sizes[..if per_word == 1 { 2 } else { 3 }])?;
        let ids = contexts.read(py, "contexts", scheme)?;
        detached(py, |check| {
            let mut words = Vec::new();
            let (mut row, mut slice) = (0, 1);
            while row < rows {
                check()?;
                let start = Instant::now();
                let count = slice.min(rows - row);
                words.resize(count * vocab, W::default());
                let contexts = &ids[row * width..][..count * width];
                Pool::shared().install(|| fill(scheme, contexts, &mut words))?;
                put(&words, &mut out);
                row += count;
                let elapsed = start.elapsed();
                if elapsed < PATIENCE / 2 && 2 * slice * vocab <= SLICE {
                    slice *= 2;
                } else if elapsed > PATIENCE * 2 {
                    slice = (slice / 2).max(1);
                }
            }
            Ok(out)
        })
    }

    fn depth(&self) -> usize {
        match self.inner.score_kind() {
            ScoreKind::Depths(depth) => depth.into(),
            _ => 0,
        }
    }
}

fn put_bits(words: &[u64], depth: usize, out: &mut Vec<u8>) {
    for &word in words {
        out.extend((0..depth).map(|d| ((word >> d) & 1) as u8));
    }
}

#[pymethods]
impl Scheme {
    /// Green lists from a permutation; see `radscore.KGW`.
    #[staticmethod]
    #[pyo3(signature = (*, vocab_size, gamma, context_width, seeding, self_salt, seed, key,
        table_seed, green_last, kernel="auto"))]
    #[allow(clippy::too_many_arguments)]
    fn kgw(
        vocab_size: u32,
        gamma: f64,
        context_width: usize,
        seeding: &str,
        self_salt: bool,
        seed: u64,
        key: u64,
        table_seed: u64,
        green_last: bool,
        kernel: &str,
    ) -> PyResult<Self> {
        let kernel = self::kernel(kernel).map_err(to_py)?;
        let seeding = self::seeding(seeding, context_width, self_salt, seed, key, table_seed)
            .map_err(to_py)?;
        let scheme = Kgw::new(vocab_size, gamma, seeding, green_last);
        wrap(scheme.map(|scheme| scheme.with_kernel(kernel)))
    }

    /// Gumbel-max with torch's uniforms; see `radscore.GumbelMax`.
    #[staticmethod]
    #[pyo3(signature = (*, vocab_size, context_width, seeding, seed, key, table_seed))]
    fn gumbel_max(
        vocab_size: u32,
        context_width: usize,
        seeding: &str,
        seed: u64,
        key: u64,
        table_seed: u64,
    ) -> PyResult<Self> {
        let seeding =
            self::seeding(seeding, context_width, false, seed, key, table_seed).map_err(to_py)?;
        wrap(GumbelMax::new(vocab_size, seeding))
    }

    /// SynthID-Text of transformers; see `radscore.SynthID`.
    #[staticmethod]
    #[pyo3(signature = (*, keys, vocab_size, ngram_len, sampling_table_size, sampling_table_seed))]
    fn synthid(
        keys: Vec<i64>,
        vocab_size: u32,
        ngram_len: usize,
        sampling_table_size: u32,
        sampling_table_seed: u64,
    ) -> PyResult<Self> {
        wrap(SynthId::new(
            &keys,
            vocab_size,
            ngram_len,
            sampling_table_size,
            sampling_table_seed,
        ))
    }

    /// SynthID-Text of DeepMind; see `radscore.SynthIDDeepMind`.
    #[staticmethod]
    #[pyo3(signature = (*, keys, vocab_size, ngram_len))]
    fn synthid_deepmind(keys: Vec<i64>, vocab_size: u32, ngram_len: usize) -> PyResult<Self> {
        wrap(SynthIdDeepMind::new(&keys, vocab_size, ngram_len))
    }

    /// TextSeal, by Gumbel-max where `gamma` is None; see `radscore.TextSeal`.
    #[staticmethod]
    #[pyo3(signature = (*, key, vocab_size, context_width, gamma))]
    fn textseal(
        key: i64,
        vocab_size: u32,
        context_width: usize,
        gamma: Option<f64>,
    ) -> PyResult<Self> {
        wrap(match gamma {
            Some(gamma) => TextSeal::green(key, vocab_size, context_width, gamma),
            None => TextSeal::gumbel(key, vocab_size, context_width),
        })
    }

    /// vLLM's Gumbel watermark, of two keys where `alpha` is given; see `radscore.VLLMGumbel`.
    #[staticmethod]
    #[pyo3(signature = (*, key, vocab_size, context_width, alpha))]
    fn vllm_gumbel(
        key: u64,
        vocab_size: u32,
        context_width: usize,
        alpha: Option<f64>,
    ) -> PyResult<Self> {
        wrap(match alpha {
            Some(alpha) => VllmGumbel::dual(key, vocab_size, context_width, alpha),
            None => VllmGumbel::single(key, vocab_size, context_width),
        })
    }

    /// SGLang's Gumbel watermark; `second` is (key_b, mixing_probability).
    #[staticmethod]
    #[pyo3(signature = (*, key, second, vocab_size, context_width))]
    fn sglang_gumbel(
        key: u64,
        second: Option<(u64, f64)>,
        vocab_size: u32,
        context_width: usize,
    ) -> PyResult<Self> {
        wrap(SglangGumbel::new(key, second, vocab_size, context_width))
    }

    /// Stateless Bernoulli watermarking; see `radscore.SBW`.
    #[staticmethod]
    #[pyo3(signature = (*, key, vocab_size, gamma, seeding, context_width, self_salt, table_hash))]
    fn sbw(
        key: u64,
        vocab_size: u32,
        gamma: f64,
        seeding: &str,
        context_width: usize,
        self_salt: bool,
        table_hash: bool,
    ) -> PyResult<Self> {
        let prf = Prf::from_name(seeding).map_err(to_py)?;
        wrap(Sbw::new(
            key,
            vocab_size,
            gamma,
            prf,
            context_width,
            self_salt,
            table_hash,
        ))
    }

    /// Our own scheme, by Gumbel-max where `gamma` is None; see `radscore.Keyed`.
    #[staticmethod]
    #[pyo3(signature = (*, key, vocab_size, context_width, gamma))]
    fn keyed(
        key: &[u8],
        vocab_size: u32,
        context_width: usize,
        gamma: Option<f64>,
    ) -> PyResult<Self> {
        let length = key.len();
        let key: [u8; 16] = key.try_into().map_err(|_| {
            to_py(Error::Scheme(format!(
                "key must be 16 bytes (32 hexadecimal digits), not {length}"
            )))
        })?;
        wrap(match gamma {
            Some(gamma) => Keyed::green(key, vocab_size, context_width, gamma),
            None => Keyed::gumbel(key, vocab_size, context_width),
        })
    }

    /// Size of the vocabulary.
    #[getter]
    fn vocab_size(&self) -> u32 {
        self.inner.vocab_size()
    }

    /// Tokens of a window, target included.
    #[getter]
    fn window_width(&self) -> usize {
        self.width()
    }

    /// `"green"`, `"real"` or `"depths"`.
    #[getter]
    fn score_kind(&self) -> &'static str {
        match self.inner.score_kind() {
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
        self.inner.share().map(|share| (share.num, share.den))
    }

    /// Whether distinct windows are always distinct units.
    #[getter]
    fn unit_is_window(&self) -> bool {
        self.inner.unit_kind() == UnitKind::Window
    }

    /// Whether distinct windows are distinct units under this key.
    #[getter]
    fn has_distinct_units(&self) -> bool {
        self.inner.has_distinct_units()
    }

    /// How many residues decide on the score of a window, where windows are counted by them; else 0.
    #[getter]
    fn residues(&self) -> usize {
        self.inner.residues()
    }

    /// The sampling table: bool (size,); None where the scheme has none.
    #[getter]
    fn sampling_table<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<bool>>> {
        let table = self.inner.sampling_table();
        (!table.is_empty()).then(|| PyArray1::from_slice(py, table))
    }

    /// What is read of a context: "context", "hash", "keyed hash" or "target".
    #[getter]
    fn seed_kind(&self) -> &'static str {
        match self.inner.seed_kind() {
            SeedKind::Context => "context",
            SeedKind::Hash => "hash",
            SeedKind::KeyedHash => "keyed hash",
            SeedKind::WithTarget => "target",
        }
    }

    /// How many of a context's last tokens can fix the seed.
    #[getter]
    fn least_own(&self) -> usize {
        self.inner.least_own()
    }

    /// Whether seeds that differ by one can share draws.
    #[getter]
    fn seeds_reach_neighbours(&self) -> bool {
        self.inner.seeds_reach_neighbours()
    }

    /// The id that may stand left of a document's first token (-1: none of the vocabulary's).
    #[getter]
    fn padding(&self) -> Option<i64> {
        let padding = self.inner.padding()?;
        Some(if padding == PADDING {
            -1
        } else {
            padding.into()
        })
    }

    /// Whether the prompt stands before the first generated token when text is marked.
    #[getter]
    fn reaches_prompt(&self) -> bool {
        self.inner.reaches_prompt()
    }

    /// The first position of a document that is scored by default.
    #[getter]
    fn first_position(&self) -> usize {
        self.inner.first_position()
    }

    /// Keys that generation chooses between at random.
    #[getter]
    fn key_count(&self) -> usize {
        self.inner.key_count()
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
        matrix(py, mask, self.inner.vocab_size() as usize)
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
        matrix(py, uniforms, self.inner.vocab_size() as usize)
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
        let shape = [rows, self.inner.vocab_size() as usize, depth];
        Ok(values.into_pyarray(py).reshape(shape)?.into_any())
    }

    /// The score of each window as it stands, without deduplication: bool (n,), float64 (n,) or
    /// uint8 (n, depth).
    fn scores<'py>(&self, py: Python<'py>, windows: Rows<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows = windows.check("windows", self.width())?;
        let depth = self.depth();
        // As many bytes as the core and the values here take.
        let sizes = [(rows, "windows"), (depth.max(1) + 8, "values")];
        drop(reserve::<u64>("scores", &sizes)?);
        let ids = windows.read(py, "windows", &*self.inner)?;
        let words = detached(py, |check| {
            interruptible_scores(&*self.inner, &ids, Pool::shared(), check)
        })?;
        Ok(match self.inner.score_kind() {
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

    /// The unit of each window: uint64 (n, 2), high word first.
    fn units<'py>(
        &self,
        py: Python<'py>,
        windows: Rows<'py>,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        if self.inner.unit_kind() == UnitKind::Window {
            return Err(to_py(Error::Argument(
                "units: the unit of this scheme is the window itself".into(),
            )));
        }
        self.identities(py, "units", &windows, self.width(), |scheme, ids, out| {
            scheme.units(ids, out);
        })
    }

    /// The seed of each window, or its unit where no seed is known before the target: uint64 (n, 2),
    /// high word first.
    fn seeds<'py>(
        &self,
        py: Python<'py>,
        windows: Rows<'py>,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        if self.inner.seed_kind() == SeedKind::Context {
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
        let least = self.inner.least_own();
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
            self.inner.vocab_size(),
            self.width(),
            self.score_kind()
        )
    }
}
