"""Tests of matched scores: what the watermark would have done, correlated with what a model does.

The statistic is `T = sum_c sum_v w(c, v) (P(v | c) - q(c, v))` over contexts with distinct seeds,
where P is the distribution into which the key turns q. Under H0 neither w nor q depends on the key,
and the mean of P over keys is q: T has mean 0, and its parts are independent.

With Gumbel-max a single token v has P = 1, and it is v with probability q(c, v), so the log moments
of T are known exactly: ``K(l) = sum_c [log sum_v q exp(l w) - l sum_v q w]`` (with two keys, one
such sum for each share). They bound those of any other rule whose mean is q, by Jensen's inequality
(``exp(l sum P w) <= sum P exp(l w)``): of tournaments too, whose P comes near a single token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.importance import Draws, n_draws, seed_of
from radscore.stats.moments import TILTS, Moments, log_bound, tested
from radscore.stats.result import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from radscore.stats.tails import FloatArray

__all__ = ["MatchedResult", "OneWinner", "matched_test"]

_CHUNK: Final = 1 << 20
_DRAWN: Final = 1 << 19
_LARGEST_EXPONENT: Final = 600.0
_BOUND: Final = "exponential-moment bound (matched scores)"
_WORDS: Final = (
    f"martingale bound (matched scores, mixture of {len(TILTS)} moments)",
    "exact (no weight depends on the key)",
    "importance sampling (matched scores, {} draws)",
)


@dataclass(frozen=True, repr=False)
class MatchedResult(Evidence):
    """Result of `matched_test`.

    Attributes
    ----------
    statistic : float
        ``T = sum w (P - q)``.
    log10_pvalue : float
        Valid for any w and q that do not depend on the key; `method` says how it was computed.
    n_units, n_seeds : int
        Pairs of a context and a token, and contexts with a seed of their own.
    variance, zscore : float
        Variance of T under H0 (with a tournament, at most that), and T over its root.
    log10_normal, log10_saddlepoint : float
        The same by the normal law and by Lugannani and Rice's formula: approximations; NaN if the
        formula gives no probability.
    method : str
        "importance sampling ...", "exponential-moment bound ..." or "martingale bound ...".
    tilt : float
        The l at which the bound was taken; 0 if none was needed.
    log10_bound : float
        The exponential-moment bound, or the p-value itself where that is exact or a bound.
    n_draws, seed : int, str
        Of importance sampling, as in `WeightedResult`.
    """

    n_units: int
    n_seeds: int
    variance: float
    zscore: float
    log10_normal: float
    log10_saddlepoint: float
    method: str
    tilt: float
    log10_bound: float
    n_draws: int = 0
    seed: str = ""


class OneWinner:
    """Moments of T where one token of each row wins, with probability q.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_rows + 1,)
        Where each row begins; no row is empty.
    q, w : ndarray of float64, shape (n,)
        Probabilities above 0, which add up to 1 in each row, and weights.
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
        self._drawn: dict[int, Draws] = {}
        starts = offsets[:-1]
        means = np.add.reduceat(q * w, starts) if len(starts) else np.empty(0)
        squares = np.add.reduceat(q * w * w, starts) if len(starts) else np.empty(0)
        self.n_rows = len(starts)
        self.mean = float(means.sum())
        each = float(np.maximum(squares - means * means, 0.0).sum())
        self.variance = each * sum(share * share for share in self._shares)
        most = np.maximum.reduceat(w, starts) if len(starts) else means
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

    @property
    def numbers(self) -> float:
        """Random numbers that one draw of T takes."""
        return float(len(self._w) * len(self._shares))

    @property
    def content(self) -> tuple[Any, ...]:
        """What decides the law of T, for a hash."""
        return f"one winner {self._shares}", self._offsets, self._q, self._w

    def draws(self, n: int) -> Draws:
        """So many draws of T, made once for all statistics; their seed is a hash of the rows."""
        if n not in self._drawn:
            self._drawn[n] = Draws(self, n, seed_of(*self.content))
        return self._drawn[n]

    def draw(
        self, rng: np.random.Generator, tilts: FloatArray, counts: npt.NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """K at each tilt, and so many values of T under each."""
        k = np.array([self.bound(float(tilt))[0] for tilt in tilts])
        values = np.full(int(counts.sum()), -self.mean)
        for row, end in self._chunks(_DRAWN):
            start = 0
            for tilt, count in zip(tilts.tolist(), counts.tolist(), strict=True):
                for share in self._shares:
                    values[start : start + count] += share * self._winners(
                        rng, tilt * share, int(count), row, end
                    )
                start += count
        return k, values

    def _winners(
        self, rng: np.random.Generator, tilt: float, n: int, row: int, end: int
    ) -> FloatArray:
        """``sum w P`` over some rows, so many times, under a tilt."""
        start, stop = self._offsets[row], self._offsets[end]
        w, starts = self._w[start:stop], self._offsets[row:end] - start
        lengths = np.diff(self._offsets[row : end + 1])
        x = tilt * w
        chances = self._q[start:stop] * np.exp(
            x - np.repeat(np.maximum.reduceat(x, starts), lengths)
        )
        chances /= np.repeat(np.add.reduceat(chances, starts), lengths)
        before = np.cumsum(chances) - chances
        before -= np.repeat(before[starts], lengths)
        # the winner is the last token before which there is less than u
        gains = np.diff(w, prepend=0.0)
        gains[starts] = w[starts]
        before[starts] = -1.0
        of_row = np.repeat(np.arange(end - row), lengths)
        found = np.empty(n)
        step = max(1, _DRAWN // len(w))
        for one in range(0, n, step):
            u = rng.random((min(step, n - one), end - row))
            found[one : one + step] = (u[:, of_row] >= before).astype(np.float64) @ gains
        return found

    def _chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """Ranges of rows with about so many tokens."""
        row, n = 0, self.n_rows
        while row < n:
            wanted = self._offsets[row] + size
            end = max(int(np.searchsorted(self._offsets, wanted, side="right")) - 1, row + 1)
            yield row, end
            row = end

    def _at(self, t: float) -> Moments:
        """``sum log sum q exp(t w)`` over rows, with its derivatives."""
        k0 = k1 = k2 = 0.0
        for row, end in self._chunks(_CHUNK):
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
        return k0, k1, k2


def matched_test(
    statistic: float,
    problem: OneWinner,
    *,
    n_units: int,
    predictable: bool = False,
    draws: int | None = None,
) -> MatchedResult:
    """Tests ``T = sum w (P - q)`` where P leaves one token of each row, or has q for its mean.

    Parameters
    ----------
    statistic : float
        T.
    problem : OneWinner
        The moments, which are the same for all keys.
    n_units : int
        Pairs, for the result.
    predictable : bool
        Whether q and w of a row may depend on the key, as far as earlier rows have read it; see
        `weighted_test`.
    draws : int, optional
        How many draws of importance sampling; by default as for `weighted_test`. With 0 the
        p-value is the exponential-moment bound: needed where the rule's mean is q but no single
        token wins, since the law of T is another one then.

    Returns
    -------
    MatchedResult

    Examples
    --------
    >>> import numpy as np
    >>> offsets = np.arange(0, 2001, 2)
    >>> q, w = np.tile([0.9, 0.1], 1000), np.tile([0.0, 1.0], 1000)
    >>> result = matched_test(40.0, OneWinner(offsets, q, w), n_units=2000)
    >>> round(result.zscore, 3), round(result.log10_bound, 3), round(result.log10_pvalue, 1)
    (4.216, -3.478, -4.5)
    """
    if not np.isfinite(statistic):
        raise ArgumentError(f"statistic must be a finite number, not {statistic}")

    def bound(start: float) -> tuple[float, float, str]:
        return *log_bound(min(statistic, problem.largest), problem, start), _BOUND

    def drawn() -> Draws | None:
        n = n_draws(problem.numbers) if draws is None else draws
        return problem.draws(n) if n else None

    found = tested(
        statistic,
        problem,
        exact=lambda: None,
        bound=bound,
        draws=drawn,
        words=_WORDS,
        rounding=1e-9 * max(1.0, abs(problem.mean)),
        predictable=predictable,
    )
    return MatchedResult(n_units=n_units, n_seeds=problem.n_rows, **found)
