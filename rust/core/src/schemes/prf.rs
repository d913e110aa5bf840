//! lm-watermarking's pseudorandom functions of a context, in the arithmetic of each program that has
//! them.

use crate::error::{Error, Result};

/// A pseudorandom function of a context `c` under a key `K`; `H` is a hash of integers that the caller
/// gives. Each costs one or two passes over the context; `MinSkipGram` looks at every pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prf {
    /// `K * prod(c)`.
    Multiplicative,
    /// `K * sum(c)`.
    Additive,
    /// `K * min(c)`.
    MinFunc,
    /// `prod H(K * c[0, 2, 4, ..])`.
    SimpleSkip,
    /// `H(K * c[0])`.
    SkipGram,
    /// `H(K * c[0]) * H(K * c[-1])`.
    AnchoredSkipGram,
    /// `min_j H(K * c[j])`.
    MinHash,
    /// `min_j K * H(c[j]) * H(c[-1])`.
    AnchoredMinHash,
    /// `min over pairs H(K * c[i]) * H(K * c[j])`.
    MinSkipGram,
    /// `k = K; for x in c: k = k * H(k * x) mod 2^32`.
    NonComm,
    /// `sum_j K * c[j] * (j + 1)`.
    Position,
}

impl Prf {
    /// The names, as lm-watermarking spells them without `_prf`.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("multiplicative", Self::Multiplicative),
        ("additive", Self::Additive),
        ("minfunc", Self::MinFunc),
        ("simple_skip", Self::SimpleSkip),
        ("skipgram", Self::SkipGram),
        ("anchored_skipgram", Self::AnchoredSkipGram),
        ("minhash", Self::MinHash),
        ("anchored_minhash", Self::AnchoredMinHash),
        ("minskipgram", Self::MinSkipGram),
        ("noncomm", Self::NonComm),
        ("position", Self::Position),
    ];

    /// The function of that name.
    ///
    /// # Errors
    /// [`Error::Scheme`] if there is none.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, prf)| *prf).ok_or_else(|| {
            let names: Vec<_> = Self::NAMES.iter().map(|(known, _)| *known).collect();
            Error::Scheme(format!(
                "the seeding function must be one of {}, not {name:?}",
                names.join(", ")
            ))
        })
    }

    /// Whether the function reads `H`.
    #[must_use]
    pub fn hashes(self) -> bool {
        !matches!(
            self,
            Self::Multiplicative | Self::Additive | Self::MinFunc | Self::Position
        )
    }

    /// The least number of tokens it needs.
    #[must_use]
    pub fn least_width(self) -> usize {
        if self == Self::MinSkipGram { 2 } else { 1 }
    }

    /// How many of the last of `width` tokens can fix the value.
    #[must_use]
    pub(crate) fn least_tail(self, width: usize) -> usize {
        match self {
            Self::MinFunc | Self::MinHash | Self::AnchoredMinHash => 1,
            Self::MinSkipGram => 2,
            _ => width,
        }
    }

    /// The value over `c` in torch's int64 arithmetic, which wraps; `outer` multiplies the key with the
    /// finished value of `multiplicative`, `additive` and `minfunc`.
    fn eval<T>(
        self,
        key: i64,
        c: impl ExactSizeIterator<Item = i64> + Clone,
        hash: impl Fn(i64) -> i64,
        outer: impl Fn(i64, i64) -> T,
        plain: impl Fn(i64) -> T,
    ) -> T {
        let keyed = |x: i64| hash(key.wrapping_mul(x));
        let first = c.clone().next().unwrap_or(0);
        let last = c.clone().last().unwrap_or(0);
        match self {
            Self::Multiplicative => outer(key, c.fold(1, i64::wrapping_mul)),
            Self::Additive => outer(key, c.fold(0, i64::wrapping_add)),
            Self::MinFunc => outer(key, c.min().unwrap_or(0)),
            Self::SimpleSkip => plain(c.step_by(2).map(keyed).fold(1, i64::wrapping_mul)),
            Self::SkipGram => plain(keyed(first)),
            Self::AnchoredSkipGram => plain(keyed(first).wrapping_mul(keyed(last))),
            Self::MinHash => plain(c.map(keyed).min().unwrap_or(0)),
            Self::AnchoredMinHash => {
                let anchor = hash(last);
                let term = |x| key.wrapping_mul(hash(x)).wrapping_mul(anchor);
                plain(c.map(term).min().unwrap_or(0))
            }
            Self::MinSkipGram => {
                let pairs = (0..c.len()).flat_map(|i| {
                    let one = c.clone().nth(i).map_or(0, &keyed);
                    let others = c.clone().skip(i + 1);
                    others.map(move |x| (one, x))
                });
                plain(
                    pairs
                        .map(|(one, x)| one.wrapping_mul(keyed(x)))
                        .min()
                        .unwrap_or(0),
                )
            }
            Self::NonComm => plain(c.fold(key, |k, x| {
                k.wrapping_mul(hash(k.wrapping_mul(x))).rem_euclid(1 << 32)
            })),
            Self::Position => {
                let terms = (1i64..)
                    .zip(c)
                    .map(|(j, x)| key.wrapping_mul(x).wrapping_mul(j));
                plain(terms.fold(0, i64::wrapping_add))
            }
        }
    }

    /// Whether the value is, or may be, the same under every key: the key multiplies 0, or the least of
    /// several hashes may be that of 0. `is_zero` says which ids the hash cannot tell from 0 once the
    /// key has multiplied them.
    pub(crate) fn is_keyless(
        self,
        c: impl ExactSizeIterator<Item = i64> + Clone,
        hash: impl Fn(i64) -> i64,
        is_zero: impl Fn(i64) -> bool,
    ) -> bool {
        let first = c.clone().next().unwrap_or(0);
        let last = c.clone().last().unwrap_or(0);
        match self {
            Self::Multiplicative => c.fold(1, i64::wrapping_mul) == 0,
            Self::Additive => c.fold(0, i64::wrapping_add) == 0,
            Self::MinFunc => c.min() == Some(0),
            Self::SimpleSkip => c.step_by(2).all(is_zero),
            Self::SkipGram => is_zero(first),
            Self::AnchoredSkipGram => is_zero(first) && is_zero(last),
            Self::MinHash => c.clone().any(is_zero),
            Self::AnchoredMinHash => {
                let anchor = hash(last);
                c.clone().any(|x| hash(x).wrapping_mul(anchor) == 0)
            }
            Self::MinSkipGram => c.filter(|&x| is_zero(x)).count() >= 2,
            Self::NonComm => false,
            Self::Position => {
                let terms = (1i64..).zip(c).map(|(j, x)| x.wrapping_mul(j));
                terms.fold(0, i64::wrapping_add) == 0
            }
        }
    }

    /// The value in int64 arithmetic throughout (the package `sbw`).
    pub(crate) fn wrapping(
        self,
        key: i64,
        c: impl ExactSizeIterator<Item = i64> + Clone,
        hash: impl Fn(i64) -> i64,
    ) -> i64 {
        self.eval(key, c, hash, i64::wrapping_mul, |value| value)
    }

    /// The value as lm-watermarking computes it: three functions leave the tensor before the key
    /// is multiplied in, so that their product is an unbounded Python integer.
    pub(crate) fn unbounded(
        self,
        key: i64,
        c: impl ExactSizeIterator<Item = i64> + Clone,
        hash: impl Fn(i64) -> i64,
    ) -> i128 {
        let outer = |key, value| i128::from(key) * i128::from(value);
        self.eval(key, c, hash, outer, i128::from)
    }
}
