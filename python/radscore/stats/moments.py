"""Exponential moments of weighted sums, and the bounds and approximations that follow from them.

`T = sum_u w_u (s_u - mean)` has the log moments ``K(l) = log E exp(l T)``. `Independent` and
`Grouped` evaluate K and its derivatives for independent scores and for scores drawn without
replacement; `log_bound`, `log_mixture` and `log_saddlepoint` turn them into tails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.exact import MOST_UNITS, equal_log_sf, exact_log_sf
from radscore.stats.importance import draw_independent, numbers_of
from radscore.stats.lists import HardToDrawError, Lists
from radscore.stats.stored import Ids, Stored, Weights, groups_in_parts, in_parts
from radscore.stats.tails import LN10

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from radscore.stats.importance import Draws
    from radscore.stats.laws import NullLaw
    from radscore.stats.tails import FloatArray

__all__ = [
    "TILTS",
    "Grouped",
    "Independent",
    "Moments",
    "Problem",
    "log_bound",
    "log_mixture",
    "log_saddlepoint",
    "tested",
]

_LARGEST_EXPONENT = 600.0

#: Tilts of the mixture for predictable weights, fixed before any weight is seen: for weights of
#: about 1 they reach from a few standard deviations of 1e12 units to those of single units.
TILTS: Final = 2.0 ** np.arange(-18.0, 6.0625, 0.125)
#: Every so many are tried first, then those near the best; leaving terms out only enlarges p-values
_COARSE = 4

#: K, K' and K'' of T at one point.
Moments: TypeAlias = tuple[float, float, float]


class Problem(Protocol):
    """A sum whose log moments are known or bounded between two limits."""

    @property
    def variance(self) -> float:
        """Of T under H0."""
        ...

    @property
    def largest(self) -> float:
        """The largest value that T can take."""
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """The open interval in which moments can be evaluated."""
        ...

    def bound(self, t: float) -> Moments:
        """K, K', K'' of a law whose exponential moments are at least those of T."""
        ...

    def approximate(self, t: float) -> Moments:
        """K, K', K'' for approximations."""
        ...


class Independent:
    """Moments of T if all scores are independent.

    Each evaluation passes over all weights once, and those of `bound` are remembered.

    Attributes
    ----------
    n : int
        Number of weights.
    variance : float
        Of T under H0.
    least, most, largest_weight : float
        The least and the largest weight, and the largest `|w|`.
    sum_weights, sum_absolute, sum_squares : float
        `sum w`, `sum |w|` and `sum w^2`.
    largest : float
        The largest value that T can take.
    """

    def __init__(self, w: Weights, law: NullLaw) -> None:
        self.law, self.n, self._w = law, len(w), w
        self.sum_weights = self.sum_absolute = self.sum_squares = positive = negative = 0.0
        self.least, self.most, self._equal = np.inf, -np.inf, True
        first: float | None = None
        for part in in_parts(w):
            self.sum_weights += float(part.sum())
            self.sum_absolute += float(np.abs(part).sum())
            self.sum_squares += float(part @ part)
            positive += float(part[part > 0].sum())
            negative += float(part[part < 0].sum())
            self.least = min(self.least, float(part.min()))
            self.most = max(self.most, float(part.max()))
            first = float(part[0]) if first is None else first
            self._equal = self._equal and bool((part == first).all())
        self.largest_weight = max(abs(self.least), abs(self.most)) if self.n else 0.0
        self.variance = law.variance * self.sum_squares
        self.exact_ok = True
        self._known: dict[float, Moments] = {}
        self.bound_method = "exponential-moment bound"
        low, high = law.bounds
        self.largest = positive * (high - law.mean) if positive else 0.0
        if negative:
            self.largest += negative * (low - law.mean)
        largest = self.largest_weight if self.n else 1.0
        self.limits = self._limits(_LARGEST_EXPONENT / largest)

    def _limits(self, reach: float) -> tuple[float, float]:
        """The open interval of t in which the moments are finite, or as far as floats reach."""
        low, high = -reach, reach
        if np.isfinite(self.law.bounds[1]) or not self.n:
            return low, high
        # a score's moments end at the pole of its law, at 1 for e = -log(1 - u)
        scale = max(1.0 - getattr(self.law, "alpha", 0.0), getattr(self.law, "alpha", 1.0))
        if self.most > 0:
            high = 1.0 / (scale * self.most)
        if self.least < 0:
            low = 1.0 / (scale * self.least)
        return low, high

    def bound(self, t: float) -> Moments:
        """K, K', K'' of a law whose exponential moments are at least those of T."""
        if t not in self._known:  # the approximation retraces the bound's steps
            self._known[t] = self._bound(t)
        return self._known[t]

    def _bound(self, t: float) -> Moments:
        return self._sum(t)

    def approximate(self, t: float) -> Moments:
        """K, K', K'' for approximations."""
        return self.bound(t)

    def _sum(self, t: float) -> Moments:
        return _total(self._of(part, t) for part in in_parts(self._w))

    def _of(self, part: FloatArray, t: float) -> Moments:
        log, first, second = self.law.cumulants(part * t)
        with np.errstate(invalid="ignore"):
            return float(log.sum()), float(part @ first), float((part * part) @ second)

    @property
    def numbers(self) -> float:
        """Random numbers that one draw of T takes; 0 if it is not known how to draw it."""
        return float(numbers_of(self.law) * self.n)

    @property
    def content(self) -> tuple[Any, ...]:
        """What decides the law of T, for a hash."""
        return repr(self.law), self._w

    def draw(
        self, rng: np.random.Generator, tilts: FloatArray, counts: npt.NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """The exact K at each tilt, and so many values of T under each."""
        return draw_independent(self._w, self.law, rng, tilts, counts)

    def log_exact(self, statistic: float) -> tuple[float, str] | None:
        """The exact `log P(T >= statistic)` and how it was computed, where that is cheap."""
        if not (self.exact_ok and self.n):
            return None
        if self._equal:
            return equal_log_sf(statistic, self.most, self.n, self.law)
        if self.n > MOST_UNITS:
            return None
        return exact_log_sf(statistic, next(in_parts(self._w)), self.law)


class Grouped(Independent):
    """Moments of T if the scores of each group are drawn without replacement.

    Parameters
    ----------
    w : ndarray of float64 or Stored, shape (n,)
        The weights.
    law : NullLaw
        Of one score.
    groups : ndarray of int or Stored, shape (n,)
        The group of each unit, ascending.
    size, vocab : int
        So many of so many are drawn for a group.

    Raises
    ------
    ArgumentError
        If a group has more units than there are tokens.
    """

    def __init__(
        self, w: Weights, law: NullLaw, groups: Ids | Stored, size: int, vocab: int
    ) -> None:
        super().__init__(w, law)
        self._groups, self.size, self.vocab = groups, size, vocab
        spread = self._numbers = 0.0
        self._mixed = False
        for part, index in groups_in_parts(w, groups):
            counts = np.bincount(index)
            if counts.max() > vocab:
                raise ArgumentError(
                    f"a group has {counts.max()} units, more than vocab_size {vocab}"
                )
            sums = np.bincount(index, weights=part)
            squares = np.bincount(index, weights=part * part)
            spread += float(((vocab * squares - sums**2) / (vocab - 1)).sum())
            self.exact_ok = self.exact_ok and bool((counts <= 1).all())
            self._mixed = self._mixed or bool(_mixed(part, index).any())
            # lists are proposed until they are accepted
            self._numbers += float((counts / np.sqrt(np.maximum(1 - counts / vocab, 1e-4))).sum())
        self.variance = law.variance * spread
        if self._mixed:
            self.bound_method = "exponential-moment bound (Hoeffding's for lists of both signs)"
        # the true variance over that of independent scores, for the approximations
        self.shrink = self.variance / (law.variance * self.sum_squares) if self.n else 1.0
        self._kept = None if isinstance(w, Stored) else list(self._split())

    def _split(self) -> Iterator[tuple[FloatArray, FloatArray, npt.NDArray[np.intp], FloatArray]]:
        """Weights of groups of one sign; those of others, their groups, and these groups' sums."""
        for part, index in groups_in_parts(self._w, self._groups):
            mixed = _mixed(part, index)
            inside = mixed[index]
            renamed = (np.cumsum(mixed, dtype=np.intp) - 1)[index[inside]]
            sums: FloatArray = np.bincount(index, weights=part).astype(np.float64)[mixed]
            yield part[~inside], part[inside], renamed, sums

    def _bound(self, t: float) -> Moments:
        """As for independent scores; groups of both signs are bounded by Hoeffding's theorem 4."""
        parts = self._split() if self._kept is None else self._kept
        return _total(self._of_groups(*part, t) for part in parts)

    def _of_groups(
        self,
        one_sign: FloatArray,
        mixed: FloatArray,
        index: npt.NDArray[np.intp],
        sums: FloatArray,
        t: float,
    ) -> Moments:
        k0, k1, k2 = self._of(one_sign, t)
        if not len(mixed):
            return k0, k1, k2
        e = np.expm1(mixed * t)
        weighted = mixed * (1.0 + e)

        def mean(values: FloatArray) -> FloatArray:
            return np.bincount(index, weights=values) / self.vocab

        m0, m1, m2 = mean(e), mean(weighted), mean(mixed * weighted)
        ratio = m1 / (1.0 + m0)
        share = self.size / self.vocab
        k0 += float((self.size * np.log1p(m0) - (share * t) * sums).sum())
        k1 += float((self.size * ratio - share * sums).sum())
        k2 += float((self.size * (m2 / (1.0 + m0) - ratio * ratio)).sum())
        return k0, k1, k2

    @property
    def numbers(self) -> float:
        """Random numbers that one draw of T takes."""
        return self._numbers

    @property
    def content(self) -> tuple[Any, ...]:
        """What decides the law of T, for a hash."""
        if self.exact_ok:  # no two units of one list
            return super().content
        return *super().content, f"{self.size}/{self.vocab}", self._groups

    def draw(
        self, rng: np.random.Generator, tilts: FloatArray, counts: npt.NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """The exact K at each tilt, and so many values of T under each."""
        if self.exact_ok:
            return super().draw(rng, tilts, counts)
        k, values = np.zeros(len(tilts)), np.zeros(int(counts.sum()))
        for part, index in groups_in_parts(self._w, self._groups):
            lists, start = Lists(part, index, self.size, self.vocab), 0
            for i, (tilt, count) in enumerate(zip(tilts.tolist(), counts.tolist(), strict=True)):
                moment = lists.log_moment(tilt)
                if not np.isfinite(moment):
                    raise HardToDrawError
                k[i] += moment
                values[start : start + count] += lists.draw(rng, tilt, count)
                start += count
        return k, values

    def log_list_bound(self, statistic: float, tilt0: float) -> tuple[float, float]:
        """As `log_bound`, by the exact moments at about the best l; 0 if they are not tighter."""
        if self.exact_ok or statistic <= 0:
            return 0.0, 0.0
        t, _ = _solve(self.approximate, statistic, tilt0, self.limits)
        log, slack = -t * statistic, 1e-13 * abs(t * statistic)
        for part, index in groups_in_parts(self._w, self._groups):
            lists = Lists(part, index, self.size, self.vocab)
            moment = lists.log_moment(t)
            log, slack = log + moment, slack + lists.rounding + 1e-13 * abs(moment)
        return (min(0.0, log + slack), t) if np.isfinite(log) else (0.0, 0.0)

    def approximate(self, t: float) -> Moments:
        """Those of the independent law, stretched so that its variance at 0 is the true one."""
        root = np.sqrt(self.shrink)
        k0, k1, k2 = self._sum(t * root)
        return k0, k1 * root, k2 * self.shrink


def _mixed(part: FloatArray, index: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Which groups have weights of both signs."""
    mixed: npt.NDArray[np.bool_]
    mixed = np.bincount(index, weights=part > 0) % np.maximum(np.bincount(index), 1) > 0
    return mixed


def _total(parts: Iterable[Moments]) -> Moments:
    k0 = k1 = k2 = 0.0
    for part in parts:
        k0, k1, k2 = k0 + part[0], k1 + part[1], k2 + part[2]
    return (k0, k1, k2) if np.isfinite(k0) else (np.inf, np.inf, np.inf)


def _solve(
    moments: Callable[[float], Moments], target: float, start: float, limits: tuple[float, float]
) -> tuple[float, Moments]:
    """The t with K'(t) near target, by Newton steps inside a shrinking bracket.

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


def log_bound(statistic: float, problem: Problem, tilt0: float) -> tuple[float, float]:
    """The exponential-moment bound of `log P(T >= statistic)`, and the l at which it is least."""
    if statistic <= 0:
        return 0.0, 0.0
    t, (k0, _, _) = _solve(problem.bound, statistic, tilt0, problem.limits)
    if not np.isfinite(k0):
        return 0.0, 0.0
    # rounding must not make the bound smaller than it is
    slack = 1e-13 * (abs(k0) + abs(t * statistic))
    return min(0.0, k0 - t * statistic + slack), t


def log_mixture(statistic: float, problem: Problem) -> tuple[float, float]:
    """The log of one over the mixture of ``exp(l T - K(l))``, and the l that contributes most."""
    if statistic <= 0:
        return 0.0, 0.0
    limit = problem.limits[1]
    logs = np.full(len(TILTS), -np.inf)

    def term(i: int) -> float:
        t = float(TILTS[i])
        k0 = problem.bound(t)[0]
        # rounding must not make the bound smaller than it is
        return t * statistic - k0 - 1e-13 * (abs(k0) + abs(t * statistic))

    for i in range(0, len(TILTS), _COARSE):
        if TILTS[i] < limit:
            logs[i] = term(i)
            if logs[i] < logs.max() - 40:  # concave in t: the rest adds nothing
                break
    best = int(logs.argmax())
    for i in range(max(0, best - 3 * _COARSE), min(len(TILTS), best + 3 * _COARSE + 1)):
        if i % _COARSE and TILTS[i] < limit:
            logs[i] = term(i)
    best = int(logs.argmax())
    if not logs[best] > 0:
        return 0.0, 0.0
    log_sum = logs[best] + np.log(np.exp(logs - logs[best]).sum())
    return min(0.0, float(np.log(len(TILTS)) - log_sum)), float(TILTS[best])


def log_saddlepoint(statistic: float, problem: Problem, tilt0: float) -> float:
    """`log P(T >= statistic)` by Lugannani and Rice's formula; NaN if it gives no probability."""
    from scipy.special import erfcx, log_ndtr

    t, (k0, _, k2) = _solve(problem.approximate, statistic, tilt0, problem.limits)
    r = float(np.sign(t) * np.sqrt(max(0.0, 2.0 * (t * statistic - k0))))
    u = t * np.sqrt(k2)
    normal = float(log_ndtr(-statistic / np.sqrt(problem.variance)))
    if abs(r) < 1e-3 or not np.isfinite(u) or u == 0:
        return normal  # both terms of the correction cancel, and hardly matter here
    # P(T >= t) ~ phi(|r|) (Mills(|r|) + 1/|u| - 1/|r|), and its complement below the mean
    mills = float(np.sqrt(np.pi / 2.0) * erfcx(abs(r) / np.sqrt(2.0)))
    tail = mills + 1.0 / abs(u) - 1.0 / abs(r)
    if tail <= 0:
        return normal
    log_tail = -0.5 * r * r - 0.5 * np.log(2.0 * np.pi) + np.log(tail)
    if log_tail >= 0:
        return float("nan")  # no probability: one weight dominates, and the formula fails
    return log_tail if r > 0 else float(np.log1p(-np.exp(log_tail)))


def tested(
    statistic: float,
    problem: Problem,
    *,
    exact: Callable[[], tuple[float, str] | None],
    bound: Callable[[float], tuple[float, float, str]],
    draws: Callable[[], Draws | None],
    words: tuple[str, str, str],
    rounding: float,
    predictable: bool,
) -> dict[str, Any]:
    """What the results of all weighted tests say: the p-value, and the approximations beside it.

    Parameters
    ----------
    statistic : float
        T.
    problem : Problem
        Its moments.
    exact : callable
        ``log P(T >= statistic)`` and how it was computed, if that is cheap; this and what follows
        are used unless weights are predictable or nothing is random.
    bound : callable
        Otherwise: from the tilt at which to begin to a bound of it, its tilt and how it is called.
    draws : callable
        Draws of T, which then give the p-value; None if there are none.
    words : (str, str, str)
        What the mixture for predictable weights is called, a T that is no random variable, and
        so many draws (``{}``).
    rounding : float
        By how much T may exceed what it can be.
    predictable : bool
        See `radscore.stats.weighted_test`.
    """
    from scipy.special import log_ndtr

    root, tilt = float(np.sqrt(problem.variance)), 0.0
    log_upper: float | None = None
    drawn: Draws | None = None
    if root == 0.0:  # nothing is random: T is 0
        log_p = log_normal = log_saddle = 0.0 if statistic <= rounding else -np.inf
        zscore, method = 0.0 if log_p == 0.0 else np.inf, words[1]
    else:
        zscore = statistic / root
        log_normal = float(log_ndtr(-zscore))
        start = statistic / problem.variance
        beyond = statistic > problem.largest + rounding
        log_saddle = -np.inf if beyond else log_saddlepoint(statistic, problem, start)
        if predictable:
            (log_p, tilt), method = log_mixture(statistic, problem), words[0]
        elif (found := exact()) is not None:
            log_p, method = found
        else:
            log_upper, tilt, method = bound(start)
            log_p, drawn = log_upper, draws()
            if drawn is not None:
                log_p = drawn.log_pvalue(statistic, log_upper, rounding)
                method = words[2].format(len(drawn.values))
    return {
        "statistic": statistic,
        "log10_pvalue": log_p / LN10 + 0.0,
        "variance": problem.variance,
        "zscore": zscore,
        "log10_normal": log_normal / LN10 + 0.0,
        "log10_saddlepoint": log_saddle / LN10 + 0.0,
        "method": method,
        "tilt": tilt,
        "log10_bound": (log_p if log_upper is None else log_upper) / LN10 + 0.0,
        "n_draws": 0 if drawn is None else len(drawn.values),
        "seed": "" if drawn is None else drawn.seed,
    }
