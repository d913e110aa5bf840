"""Tests of matched scores: what the watermark would have done, correlated with what a model does.

The statistic is `T = sum_c sum_v w(c, v) (P(v | c) - q(c, v))` over contexts with distinct seeds,
where P is the distribution into which the key turns q. Under H0 neither w nor q depends on the key,
and the mean of P over keys is q: T has mean 0, and its parts are independent.

With Gumbel-max a single token v has P = 1, and it is v with probability q(c, v), so the log moments
of T are known exactly: ``K(l) = sum_c [log sum_v q exp(l w) - l sum_v q w]`` (with two keys, one
such sum for each share). With a tournament each depth adds ``sum_v b_v g_v`` to T, where
``b = P (w - sum P w)`` comes from the depths before and ``sum b = 0``: T is a martingale, and its
exponential moments are bounded by those of its variation ``V = sum b^2 / 4`` over all depths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.moments import TILTS, Moments, log_bound, log_mixture, log_saddlepoint
from radscore.stats.result import Evidence
from radscore.stats.tails import LN10

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.stats.tails import FloatArray

__all__ = ["MatchedResult", "OneWinner", "matched_test", "varied_test"]

_CHUNK: Final = 1 << 20
_LARGEST_EXPONENT: Final = 600.0
#: How the variation may exceed what was expected: twice as far at a time, each step at this price.
_EXPECTED: Final = 0.9


@dataclass(frozen=True, repr=False)
class MatchedResult(Evidence):
    """Result of `matched_test` and `varied_test`.

    Attributes
    ----------
    statistic : float
        ``T = sum w (P - q)``.
    log10_pvalue : float
        Valid for any w and q that do not depend on the key; `method` says how it was computed.
    n_units, n_seeds : int
        Pairs of a context and a token, and contexts with a seed of their own.
    variance, zscore : float
        Variance of T under H0 (with a tournament, its variation), and T over its root.
    log10_normal, log10_saddlepoint : float
        The same by the normal law and by Lugannani and Rice's formula: approximations; NaN if the
        formula gives no probability.
    method : str
        "exponential-moment bound ..." or "martingale bound ...".
    tilt : float
        The l at which the bound was taken; 0 if none was needed.
    """

    n_units: int
    n_seeds: int
    variance: float
    zscore: float
    log10_normal: float
    log10_saddlepoint: float
    method: str
    tilt: float


class OneWinner:
    """Moments of T where one token of each row wins, with probability q.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_rows + 1,)
        Where each row begins; no row is empty.
    q, w : ndarray of float64, shape (n,)
        Probabilities, which add up to 1 in each row, and weights.
    shares : sequence of float
        How often each of several keys is used; each has a winner of its own.

    Attributes
    ----------
    mean, variance : float
        Of ``sum w P`` under H0.
    largest : float
        The largest value that T can take.
    limits : (float, float)
        The tilts at which moments can be evaluated.
    """

    def __init__(
        self,
        offsets: npt.NDArray[np.int64],
        q: FloatArray,
        w: FloatArray,
        shares: Sequence[float] = (1.0,),
    ) -> None:
        self._offsets, self._q, self._w = offsets, q, w
        self._shares = [share for share in shares if share > 0.0]
        self._known: dict[float, Moments] = {}
        starts = offsets[:-1]
        means = np.add.reduceat(q * w, starts) if len(starts) else np.empty(0)
        squares = np.add.reduceat(q * w * w, starts) if len(starts) else np.empty(0)
        self.n_rows = len(starts)
        self.mean = float(means.sum())
        each = float(np.maximum(squares - means * means, 0.0).sum())
        self.variance = each * sum(share * share for share in self._shares)
        most = np.maximum.reduceat(np.where(q > 0, w, -np.inf), starts) if len(starts) else means
        self.largest = float((most - means).sum())
        largest = float(np.abs(w).max()) if len(w) else 1.0
        limit = _LARGEST_EXPONENT / largest if largest else np.inf
        self.limits = (-limit, limit)

    def bound(self, t: float) -> Moments:
        """K, K' and K'' of T at t."""
        if t not in self._known:
            parts = [self._at(t * share) for share in self._shares]
            pairs = list(zip(parts, self._shares, strict=True))
            self._known[t] = (
                sum(part[0] for part in parts) - t * self.mean,
                sum(share * part[1] for part, share in pairs) - self.mean,
                sum(share * share * part[2] for part, share in pairs),
            )
        return self._known[t]

    def approximate(self, t: float) -> Moments:
        """The same: they are exact."""
        return self.bound(t)

    def _at(self, t: float) -> Moments:
        """``sum log sum q exp(t w)`` over rows, with its derivatives."""
        k0 = k1 = k2 = 0.0
        row, n = 0, self.n_rows
        while row < n:
            wanted = self._offsets[row] + _CHUNK
            end = max(int(np.searchsorted(self._offsets, wanted, side="right")) - 1, row + 1)
            start, stop = self._offsets[row], self._offsets[end]
            w, starts = self._w[start:stop], self._offsets[row:end] - start
            x = t * w
            top = np.maximum.reduceat(x, starts)
            weighed = self._q[start:stop] * np.exp(
                x - np.repeat(top, np.diff(self._offsets[row : end + 1]))
            )
            m0 = np.add.reduceat(weighed, starts)
            weighed *= w
            m1 = np.add.reduceat(weighed, starts) / m0
            weighed *= w
            m2 = np.add.reduceat(weighed, starts) / m0
            k0 += float((np.log(m0) + top).sum())
            k1 += float(m1.sum())
            k2 += float(np.maximum(m2 - m1 * m1, 0.0).sum())
            row = end
        return k0, k1, k2


class _Varied:
    """Moments of a sum whose exponential moments are at most those of a normal law."""

    limits = (-np.inf, np.inf)

    def __init__(self, variance: float) -> None:
        self.variance = variance

    def bound(self, t: float) -> Moments:
        """K, K' and K'' of the normal law."""
        return 0.5 * t * t * self.variance, t * self.variance, self.variance

    def approximate(self, t: float) -> Moments:
        """The same."""
        return self.bound(t)


def matched_test(
    statistic: float, problem: OneWinner, *, n_units: int, predictable: bool = False
) -> MatchedResult:
    """Tests ``T = sum w (P - q)`` where one token of each row wins (Gumbel-max).

    Parameters
    ----------
    statistic : float
        T.
    problem : OneWinner
        Its moments, which are the same for all keys.
    n_units : int
        Pairs, for the result.
    predictable : bool
        Whether q and w of a row may depend on the key, as far as earlier rows have read it; see
        `weighted_test`.

    Returns
    -------
    MatchedResult

    Examples
    --------
    >>> import numpy as np
    >>> offsets = np.arange(0, 2001, 2)
    >>> q, w = np.tile([0.9, 0.1], 1000), np.tile([0.0, 1.0], 1000)
    >>> result = matched_test(40.0, OneWinner(offsets, q, w), n_units=2000)
    >>> round(result.zscore, 3), round(result.log10_pvalue, 3)
    (4.216, -3.506)
    """
    from scipy.special import log_ndtr

    if not np.isfinite(statistic):
        raise ArgumentError(f"statistic must be a finite number, not {statistic}")
    root = float(np.sqrt(problem.variance))
    rounding = 1e-9 * max(1.0, abs(problem.mean))
    tilt, method = 0.0, "exponential-moment bound (matched scores)"
    if root == 0.0:
        log_p = log_normal = log_saddle = 0.0 if statistic <= rounding else -np.inf
        zscore, method = 0.0 if log_p == 0.0 else np.inf, "exact (no weight depends on the key)"
    else:
        zscore = statistic / root
        log_normal = float(log_ndtr(-zscore))
        start = statistic / problem.variance
        beyond = statistic > problem.largest + rounding
        log_saddle = -np.inf if beyond else log_saddlepoint(statistic, problem, start)
        if predictable:
            method = f"martingale bound (matched scores, mixture of {len(TILTS)} moments)"
            log_p, tilt = log_mixture(statistic, problem)
        else:
            log_p, tilt = log_bound(min(statistic, problem.largest), problem, start)
    return MatchedResult(
        statistic=statistic,
        log10_pvalue=log_p / LN10 + 0.0,
        n_units=n_units,
        n_seeds=problem.n_rows,
        variance=problem.variance,
        zscore=zscore,
        log10_normal=log_normal / LN10 + 0.0,
        log10_saddlepoint=log_saddle / LN10 + 0.0,
        method=method,
        tilt=tilt,
    )


def varied_test(
    statistic: float,
    variation: float,
    expected: float,
    *,
    n_units: int,
    n_seeds: int,
    predictable: bool = False,
) -> MatchedResult:
    """Tests T where it is a martingale over the depths of tournaments.

    Parameters
    ----------
    statistic, variation : float
        T, and the sum of ``b^2 / 4`` under the tested key.
    expected : float
        About the most that the variation should be, fixed without the tested key (not used with
        predictable weights). P-values are
        sharpest where the variation is just below.
    n_units, n_seeds : int
        For the result.
    predictable : bool
        As in `matched_test`.

    Returns
    -------
    MatchedResult

    Notes
    -----
    For any l, ``exp(l T - l^2 V / 2)`` is a supermartingale (Hoeffding's lemma, depth by depth), so
    ``P(T >= t and V <= v) <= exp(-t^2 / 2v)`` (D. Freedman, "On tail probabilities for
    martingales", 1975). It is taken at v = expected with nine tenths of the level, and at twice,
    four times, ... that with a half of the rest each.

    Examples
    --------
    >>> result = varied_test(30.0, 24.9, 25.0, n_units=1000, n_seeds=10)
    >>> round(result.zscore, 3), round(result.log10_pvalue, 3)
    (6.012, -7.771)
    """
    from scipy.special import log_ndtr

    if not (np.isfinite(statistic) and 0.0 <= variation < np.inf and 0.0 <= expected < np.inf):
        raise ArgumentError("statistic, variation and expected must be finite numbers")
    tilt, method = 0.0, "martingale bound (matched scores)"
    if variation == 0.0 or (expected == 0.0 and not predictable):
        log_p = log_normal = 0.0
        zscore, method = 0.0, "exact (no weight depends on the key)"
    else:
        zscore = statistic / float(np.sqrt(variation))
        log_normal = float(log_ndtr(-zscore))
        if predictable:
            method = f"martingale bound (matched scores, mixture of {len(TILTS)} moments)"
            log_p, tilt = log_mixture(statistic, _Varied(variation))
        else:
            steps = 0 if variation <= expected else int(np.ceil(np.log2(variation / expected)))
            level = expected * 2.0**steps
            price = _EXPECTED if not steps else (1.0 - _EXPECTED) * 0.5**steps
            log_p = 0.0
            if statistic > 0:
                tilt = statistic / level
                log_p = min(0.0, -0.5 * statistic * tilt - float(np.log(price)))
    return MatchedResult(
        statistic=statistic,
        log10_pvalue=log_p / LN10 + 0.0,
        n_units=n_units,
        n_seeds=n_seeds,
        variance=variation,
        zscore=zscore,
        log10_normal=log_normal / LN10 + 0.0,
        log10_saddlepoint=float("nan"),
        method=method,
        tilt=tilt,
    )
