"""Tests of weighted sums of unit scores, with weights of any sign.

`T = sum_u w_u (s_u - mean)` over distinct units, the weights independent of the key. Whatever
the weights are, the p-value given here is valid: where the law of T is cheap it is exact, else
it is the exponential-moment (Chernoff) bound `min_l exp(K(l) - l T)` with K the sum over the
actual weights of the units' log moments. The bound is not an approximation, but it is loose: by
a factor of about `2.5 z` at z standard deviations. The normal and the saddle-point approximation
stand beside it; they are sharper, and not guaranteed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.exact import exact_log_sf
from radscore.stats.laws import BernoulliLaw, NullLaw
from radscore.stats.result import result_repr

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.stats.tails import FloatArray

__all__ = ["WeightedResult", "weighted_test"]

_LN10 = 2.302585092994045684
_CHUNK = 1 << 16
_LARGEST_EXPONENT = 600.0
_SCALES = (1e-100, 1e100)  # so that squares are doubles

#: Tilts of the mixture for predictable weights, chosen before any weight is seen: at the scale of
#: weights of about 1 they reach from a few standard deviations of 1e12 units to single ones.
_TILTS = 2.0 ** np.arange(-18.0, 6.0625, 0.125)
#: Every so many are tried first, then those near the best: what is left out enlarges p-values only.
_COARSE = 4

#: K, K' and K'' of T at one point.
Moments: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, repr=False)
class WeightedResult:
    """What a weighted test found; inputs echoed.

    Attributes
    ----------
    statistic : float
        `T = sum w (s - mean)`.
    n_units : int
        Units whose weight is not 0.
    variance, zscore : float
        Variance of T under H0, and T over its root.
    log10_pvalue : float
        Valid at every size; at most 0. `method` says how it was computed.
    log10_normal, log10_saddlepoint : float
        The same by the normal law and by Lugannani and Rice's formula: approximations; NaN
        where the formula gives no probability.
    method : str
        "exact ..." or "exponential-moment bound ...".
    tilt : float
        The l at which the bound was taken; 0 where it was not needed.
    law : NullLaw
        The law of one unit's score.
    grouped : bool
        Whether units were drawn without replacement within groups.
    sum_weights, sum_squares, largest_weight : float
        `sum w`, `sum w^2` and `max |w|`.
    """

    statistic: float
    n_units: int
    variance: float
    zscore: float
    log10_pvalue: float
    log10_normal: float
    log10_saddlepoint: float
    method: str
    tilt: float
    law: NullLaw
    grouped: bool
    sum_weights: float
    sum_squares: float
    largest_weight: float

    @property
    def pvalue(self) -> float:
        """10 to the power of `log10_pvalue`; underflows to 0 where the logarithm does not."""
        return float(10.0**self.log10_pvalue)

    def __repr__(self) -> str:
        return result_repr(self, after={"log10_pvalue": ("pvalue", self.pvalue)})


def weighted_test(
    statistic: float,
    weights: npt.ArrayLike,
    law: NullLaw,
    *,
    groups: npt.ArrayLike | None = None,
    list_size: int | None = None,
    vocab_size: int | None = None,
    predictable: bool = False,
) -> WeightedResult:
    """Test `T = sum_u w_u (s_u - mean)` against chance, validly for any weights.

    Parameters
    ----------
    statistic : float
        T, already centred.
    weights : array of float, shape (n_units,)
        Of any sign, one a distinct unit, independent of the key. Tens of millions are fine.
    law : NullLaw
        The law of one unit's score.
    groups : array of int, shape (n_units,), optional
        Units of the same group (context) read one green list, which is the first `list_size`
        entries of a permutation of `vocab_size`: their scores are drawn without replacement.
        For groups of weights of one sign the moments of independent scores bound the true ones
        (negative association); for groups of both signs Hoeffding's theorem 4 does. Without
        groups all scores are independent.
    list_size, vocab_size : int, optional
        `int(gamma V)` and V; with `groups` only, and then their ratio must be the law's share.
    predictable : bool
        Whether the weights depend on the key after all, but each only on scores of units before
        it (text that carries the tested watermark, each context at its first occurrence). The
        number of units may depend on them too. The p-value is then a bound for martingales.

    Returns
    -------
    WeightedResult

    Raises
    ------
    ArgumentError
        If a weight is not finite, the largest is beyond 1e-100 to 1e100, shapes differ, or the
        list does not fit the law.

    Notes
    -----
    W. Hoeffding, "Probability inequalities for sums of bounded random variables", 1963, theorem
    4; R. Lugannani and S. Rice, "Saddle point approximation for the distribution of the sum of
    independent random variables", 1980.

    With predictable weights ``exp(l T - K(l))`` is a supermartingale from 1 on for every fixed l, K
    being the sum of the conditional log moments; but the best l must not be looked for once the
    weights are known. A mixture over 193 values of l that were fixed beforehand is a
    supermartingale too, and one over its last value is a p-value (J. Ville, 1939; H. Robbins,
    "Statistical methods related to the law of the iterated logarithm", 1970). Against
    the bound with the best l, which is not valid here, it costs 1.3 digits at 3
    standard deviations, 1.5 at 5, 1.8 at 10, 2.1 at 20 and 2.4 to 2.7 at 40, where that l is
    between 2^-18 and 2^6; against an exact law 2.2, 2.6, 3.2, 3.8 and 4.4. Exact methods do not
    apply; the approximations are given, for the eye.

    Examples
    --------
    >>> from fractions import Fraction
    >>> import numpy as np
    >>> from radscore.stats import BernoulliLaw
    >>> weights = np.linspace(-1.0, 1.0, 2001)
    >>> result = weighted_test(50.0, weights, BernoulliLaw(Fraction(1, 4)))
    >>> result.method
    'exponential-moment bound'
    >>> print(round(result.log10_pvalue, 3), round(result.log10_saddlepoint, 3))
    -4.341 -5.409
    """
    w = np.ascontiguousarray(weights, dtype=np.float64)
    if w.ndim != 1:
        raise ArgumentError(f"weights must have one dimension, not {w.ndim}")
    if not np.isfinite(w).all():
        raise ArgumentError(f"weights[{int(np.flatnonzero(~np.isfinite(w))[0])}] is not finite")
    largest = float(np.abs(w).max()) if len(w) else 0.0
    if largest and not _SCALES[0] <= largest <= _SCALES[1]:
        raise ArgumentError(
            f"the largest weight must be from {_SCALES[0]:g} to {_SCALES[1]:g}, not {largest:g}; "
            "multiply weights and statistic by a constant"
        )
    statistic = float(statistic)
    if np.isnan(statistic):
        raise ArgumentError("statistic must be a number, not NaN")
    if groups is None:
        if list_size is not None or vocab_size is not None:
            raise ArgumentError("list_size and vocab_size go with groups, which is missing")
        problem = _Independent(w if w.all() else w[w != 0.0], law)
    else:
        problem = _grouped(w, law, groups, list_size, vocab_size)
    return _run(statistic, problem, grouped=groups is not None, predictable=predictable)


def _grouped(
    w: FloatArray,
    law: NullLaw,
    groups: npt.ArrayLike,
    list_size: int | None,
    vocab_size: int | None,
) -> _Independent:
    ids = np.asarray(groups)
    used = w != 0.0
    if ids.shape != w.shape or not np.issubdtype(ids.dtype, np.integer):
        raise ArgumentError(
            f"groups must be integers of shape {w.shape}, not {ids.dtype} of shape {ids.shape}"
        )
    if list_size is None or vocab_size is None:
        raise ArgumentError("groups need list_size and vocab_size")
    if not isinstance(law, BernoulliLaw):
        raise ArgumentError(f"groups are for green lists (BernoulliLaw), not {law}")
    if not 0 < list_size < vocab_size or law.share * vocab_size != list_size:
        raise ArgumentError(
            f"list_size / vocab_size must be the law's share {law.share}, "
            f"not {list_size} / {vocab_size}"
        )
    _, index, sizes = np.unique(ids[used], return_inverse=True, return_counts=True)
    if len(sizes) and sizes.max() > vocab_size:
        raise ArgumentError(f"a group has {sizes.max()} units, more than vocab_size {vocab_size}")
    return _Grouped(w[used], law, index, list_size, vocab_size)


class _Independent:
    """Moments of T where all scores are independent."""

    def __init__(self, w: FloatArray, law: NullLaw) -> None:
        self.w, self.law = w, law
        self.sum_squares = float(w @ w)
        self.variance = law.variance * self.sum_squares
        self.exact_ok = True
        self._known: dict[float, Moments] = {}
        self.bound_method = "exponential-moment bound"
        low, high = law.bounds
        positive, negative = float(w[w > 0].sum()), float(w[w < 0].sum())
        self.largest = positive * (high - law.mean) if positive else 0.0
        if negative:
            self.largest += negative * (low - law.mean)
        largest = float(np.abs(w).max()) if len(w) else 1.0
        self.limits = (-_LARGEST_EXPONENT / largest, _LARGEST_EXPONENT / largest)

    def bound(self, t: float) -> Moments:
        """K, K', K'' of a law whose exponential moments are at least those of T."""
        if t not in self._known:  # the approximation retraces the bound's steps
            self._known[t] = self._sum(self.w, t)
        return self._known[t]

    def approximate(self, t: float) -> Moments:
        """K, K', K'' to be used for approximations."""
        return self.bound(t)

    def _sum(self, w: FloatArray, t: float) -> Moments:
        k0 = k1 = k2 = 0.0
        for start in range(0, len(w), _CHUNK):
            part = w[start : start + _CHUNK]
            log, first, second = self.law.cumulants(part * t)
            with np.errstate(invalid="ignore"):
                k0 += float(log.sum())
                k1 += float(part @ first)
                k2 += float((part * part) @ second)
        return (k0, k1, k2) if np.isfinite(k0) else (np.inf, np.inf, np.inf)

    def log_exact(self, statistic: float) -> tuple[float, str] | None:
        """The exact `log P(T >= statistic)` and how, where it is cheap."""
        return exact_log_sf(statistic, self.w, self.law) if self.exact_ok else None


class _Grouped(_Independent):
    """Moments of T where the scores of a group are drawn without replacement."""

    def __init__(
        self, w: FloatArray, law: NullLaw, index: npt.NDArray[np.intp], size: int, vocab: int
    ) -> None:
        super().__init__(w, law)
        n_groups = int(index.max()) + 1 if len(index) else 0
        counts = np.bincount(index, minlength=n_groups)
        sums = np.bincount(index, weights=w, minlength=n_groups)
        squares = np.bincount(index, weights=w * w, minlength=n_groups)
        self.variance = law.variance * float(((vocab * squares - sums**2) / (vocab - 1)).sum())
        self.exact_ok = bool((counts <= 1).all())
        mixed = (np.bincount(index, weights=w > 0, minlength=n_groups) % np.maximum(counts, 1)) > 0
        inside = mixed[index]
        self.one_sign, self.mixed = w[~inside], w[inside]
        _, self.index = np.unique(index[inside], return_inverse=True)
        self.sums = sums[mixed]
        self.size, self.vocab = size, vocab
        if len(self.mixed):
            self.bound_method = "exponential-moment bound (Hoeffding's for lists of both signs)"
        # what independent scores lack of the true variance, for the approximations
        self.shrink = self.variance / (law.variance * self.sum_squares) if len(w) else 1.0

    def bound(self, t: float) -> Moments:
        k0, k1, k2 = self._sum(self.one_sign, t)
        if not len(self.mixed):
            return k0, k1, k2
        e = np.expm1(self.mixed * t)
        weighted = self.mixed * (1.0 + e)

        def mean(values: FloatArray) -> FloatArray:
            return np.bincount(self.index, weights=values) / self.vocab

        m0, m1, m2 = mean(e), mean(weighted), mean(self.mixed * weighted)
        ratio = m1 / (1.0 + m0)
        share = self.size / self.vocab
        k0 += float((self.size * np.log1p(m0) - (share * t) * self.sums).sum())
        k1 += float((self.size * ratio - share * self.sums).sum())
        k2 += float((self.size * (m2 / (1.0 + m0) - ratio * ratio)).sum())
        return k0, k1, k2

    def approximate(self, t: float) -> Moments:
        """The independent law's, stretched so that its variance at 0 is the true one."""
        root = np.sqrt(self.shrink)
        k0, k1, k2 = self._sum(self.w, t * root)
        return k0, k1 * root, k2 * self.shrink


def _solve(
    moments: Callable[[float], Moments], target: float, start: float, limits: tuple[float, float]
) -> tuple[float, Moments]:
    """The t with K'(t) near target, by Newton's steps kept inside a shrinking bracket.

    K' increases. K(t) - t target is flat at its minimum, so a rough solution suffices; any t
    gives a valid bound.
    """
    low, high = (0.0, limits[1]) if target > 0 else (limits[0], 0.0)
    t = min(max(start, 0.999 * low), 0.999 * high)
    value = moments(t)
    for _ in range(60):
        k0, k1, k2 = value
        if np.isfinite(k0):
            gap = target - k1
            if abs(gap) <= 1e-5 * np.sqrt(max(k2, 0.0)) or abs(gap) <= 1e-12 * abs(target):
                break
            low, high = (t, high) if gap > 0 else (low, t)
            following = t + gap / k2 if k2 > 0 else np.inf
        else:
            low, high = (low, t) if t > 0 else (t, high)
            following = np.inf
        if not low < following < high:
            following = 0.5 * (low + high)
        if following == t or high - low <= 1e-12 * max(abs(low), abs(high)):
            break
        t = following
        value = moments(t)
    return t, value


def _limits(problem: _Independent) -> tuple[float, float]:
    """The open interval of t where the moments of T are finite, or as far as floats go."""
    low, high = problem.limits
    if np.isfinite(problem.law.bounds[1]) or not len(problem.w):
        return low, high
    # a score's moments end at the pole of its law, at 1 for e = -log(1 - u)
    scale = max(1.0 - getattr(problem.law, "alpha", 0.0), getattr(problem.law, "alpha", 1.0))
    w_max, w_min = float(problem.w.max()), float(problem.w.min())
    if w_max > 0:
        high = 1.0 / (scale * w_max)
    if w_min < 0:
        low = 1.0 / (scale * w_min)
    return low, high


def _log_bound(statistic: float, problem: _Independent, tilt0: float) -> tuple[float, float]:
    if statistic <= 0:
        return 0.0, 0.0
    t, (k0, _, _) = _solve(problem.bound, statistic, tilt0, _limits(problem))
    if not np.isfinite(k0):
        return 0.0, 0.0
    # rounding must not make the bound smaller than it is
    slack = 1e-13 * (abs(k0) + abs(t * statistic))
    return min(0.0, k0 - t * statistic + slack), t


def _log_mixture(statistic: float, problem: _Independent) -> tuple[float, float]:
    """One over the mixture of ``exp(l T - K(l))``, and the l that contributes most."""
    if statistic <= 0:
        return 0.0, 0.0
    limit = _limits(problem)[1]
    logs = np.full(len(_TILTS), -np.inf)

    def term(i: int) -> float:
        t = float(_TILTS[i])
        k0 = problem.bound(t)[0]
        # rounding must not make the bound smaller than it is
        return t * statistic - k0 - 1e-13 * (abs(k0) + abs(t * statistic))

    for i in range(0, len(_TILTS), _COARSE):
        if _TILTS[i] < limit:
            logs[i] = term(i)
            if logs[i] < logs.max() - 40:  # concave in t: what follows adds nothing
                break
    best = int(logs.argmax())
    for i in range(max(0, best - 3 * _COARSE), min(len(_TILTS), best + 3 * _COARSE + 1)):
        if i % _COARSE and _TILTS[i] < limit:
            logs[i] = term(i)
    best = int(logs.argmax())
    if not logs[best] > 0:
        return 0.0, 0.0
    log_sum = logs[best] + np.log(np.exp(logs - logs[best]).sum())
    return min(0.0, float(np.log(len(_TILTS)) - log_sum)), float(_TILTS[best])


def _log_saddlepoint(statistic: float, problem: _Independent, tilt0: float) -> float:
    from scipy.special import erfcx, log_ndtr

    t, (k0, _, k2) = _solve(problem.approximate, statistic, tilt0, _limits(problem))
    r = float(np.sign(t) * np.sqrt(max(0.0, 2.0 * (t * statistic - k0))))
    u = t * np.sqrt(k2)
    normal = float(log_ndtr(-statistic / np.sqrt(problem.variance)))
    if abs(r) < 1e-3 or not np.isfinite(u) or u == 0:
        return normal  # both terms of the correction cancel; here they hardly matter
    # P(T >= t) ~ phi(|r|) (Mills(|r|) + 1/|u| - 1/|r|), and its complement below the mean
    mills = float(np.sqrt(np.pi / 2.0) * erfcx(abs(r) / np.sqrt(2.0)))
    tail = mills + 1.0 / abs(u) - 1.0 / abs(r)
    if tail <= 0:
        return normal
    log_tail = -0.5 * r * r - 0.5 * np.log(2.0 * np.pi) + np.log(tail)
    if log_tail >= 0:
        return float("nan")  # no probability: one weight dominates, the formula does not hold
    return log_tail if r > 0 else float(np.log1p(-np.exp(log_tail)))


def _run(
    statistic: float, problem: _Independent, *, grouped: bool, predictable: bool
) -> WeightedResult:
    from scipy.special import log_ndtr

    w = problem.w
    root = float(np.sqrt(problem.variance))
    rounding = 1e-12 * float(np.abs(w).sum()) * max(1.0, problem.law.mean)
    method, tilt = problem.bound_method, 0.0
    if root == 0.0:
        # nothing is random: T is 0
        log_p = log_normal = log_saddle = 0.0 if statistic <= rounding else -np.inf
        method, zscore = "exact (no unit has weight)", 0.0 if log_p == 0.0 else np.inf
    else:
        zscore = statistic / root
        log_normal = float(log_ndtr(-zscore))
        start = statistic / problem.variance
        beyond = statistic > problem.largest + rounding
        log_saddle = -np.inf if beyond else _log_saddlepoint(statistic, problem, start)
        found = None if predictable else problem.log_exact(statistic)
        if predictable:
            method = f"martingale bound (mixture of {len(_TILTS)} exponential moments)"
            log_p, tilt = _log_mixture(statistic, problem)
        elif found is not None:
            log_p, method = found
        elif beyond:
            log_p, method = -np.inf, "exact (more than all scores together can give)"
        else:
            log_p, tilt = _log_bound(statistic, problem, start)
    return WeightedResult(
        statistic=statistic,
        n_units=len(w),
        variance=problem.variance,
        zscore=zscore,
        log10_pvalue=log_p / _LN10 + 0.0,
        log10_normal=log_normal / _LN10 + 0.0,
        log10_saddlepoint=log_saddle / _LN10 + 0.0,
        method=method,
        tilt=tilt,
        law=problem.law,
        grouped=grouped,
        sum_weights=float(w.sum()),
        sum_squares=problem.sum_squares,
        largest_weight=float(np.abs(w).max()) if len(w) else 0.0,
    )
