"""P-values of weighted sums by importance sampling: valid for any number of draws, and tight.

Draws T_1, ..., T_M come from a mixture Q of the null law P of T tilted by fixed l_k: under Q_k the
density is ``exp(l_k T - K(l_k))`` times that of P. Every value of T has the weight

    w(T) = dP/dQ = 1 / sum_k pi_k exp(l_k T - K(l_k)),

and ``p = (w(T_obs) + sum_i w(T_i) 1{T_i >= T_obs}) / (M + 1)`` is at most alpha with probability at
most alpha, for any M: put T_obs at a random place among the draws. The M + 1 values then have the
density ``mean_i w(z_i) prod_j q(z_j)``, and the weights of the values with p <= alpha add up to at
most alpha (M + 1) (M. Harrison, "Conservative hypothesis tests and confidence intervals using
importance sampling", 2012). Large tilts bring draws to wherever T_obs may be, so p has no floor at
1 / (M + 1).

The tilts are ``l_k = z_k / sd`` for z_k of 0 to 40 standard deviations, fixed before T is seen
(where moments end at a pole: about what shifts the mean so far). Draws are exact: each unit is
drawn, equal weights together (binomial and gamma laws). That takes a nanosecond or two for a unit
and a draw, and 50 for SynthID's 30 bits; where it would take longer than seconds there are no
draws, and the exponential-moment bound stays the p-value.

The seed is a hash of what decides the law of T (weights, law, lists), and not of T: so the same
data give the same p-value, and nobody can choose the seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from radscore.errors import ArgumentError
from radscore.stats.laws import BernoulliLaw, DualExponentialLaw, ExponentialLaw
from radscore.stats.stored import in_parts
from radscore.stats.synthid import SynthIDLaw

if TYPE_CHECKING:
    import numpy.typing as npt

    from radscore.stats.laws import NullLaw
    from radscore.stats.stored import Weights
    from radscore.stats.tails import FloatArray

__all__ = [
    "Drawn",
    "Draws",
    "as_limits",
    "draw_independent",
    "draw_scores",
    "n_draws",
    "numbers_of",
    "seed_of",
]

#: Standard deviations to which the tilts shift the mean of T, about.
_REACH: Final = np.array([0, 1, 2, 3, 4.5, 6.5, 9, 12, 15, 18, 21, 24, 27, 31, 35, 40], np.float64)
#: The share of the draws that each tilt has: twice as many where p-values are weighed.
_SHARES: Final = np.where(_REACH < 9.0, 2.0, 1.0) / np.where(_REACH < 9.0, 2.0, 1.0).sum()
_FEWEST, _MOST = 400, 4000
_BUDGET: Final = 1 << 32  # draws of single numbers in all
_BLOCK: Final = 1 << 19  # at once
_EQUAL: Final = 8  # so many units to a weight, and equal weights are drawn together


class Drawn(Protocol):
    """A sum whose log moments are known exactly, and which can be drawn under tilts."""

    @property
    def variance(self) -> float:
        """Of T under H0."""
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """The open interval in which moments can be evaluated."""
        ...

    def bound(self, t: float) -> tuple[float, float, float]:
        """K, K' and K'' at t, or of a law with larger exponential moments."""
        ...

    def draw(
        self, rng: np.random.Generator, tilts: FloatArray, counts: npt.NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """K at each tilt, and so many values of T under each, in order."""
        ...


def n_draws(numbers: float) -> int:
    """How many draws are made of a sum of so many random numbers; 0 if they would take too long."""
    if not numbers:
        return 0
    able = int(_BUDGET / numbers)
    return 0 if able < _FEWEST else min(_MOST, max(_FEWEST, able >> 5))


def numbers_of(law: NullLaw) -> int:
    """How many random numbers a unit takes; 0 if it is not known how to draw its score."""
    if isinstance(law, (BernoulliLaw, ExponentialLaw)):
        return 1
    if isinstance(law, DualExponentialLaw):
        return 2
    return len(law.weights) if isinstance(law, SynthIDLaw) else 0


def seed_of(*content: Any) -> str:
    """SHA-256 of what decides the law of a sum: text, and numbers in memory or in files."""
    digest = hashlib.sha256()
    for one in content:
        if isinstance(one, str):
            digest.update(one.encode() + b"\0")
        else:
            for part in in_parts(one):
                digest.update(np.ascontiguousarray(part).tobytes())
            digest.update(b"\0")
    return digest.hexdigest()


class Draws:
    """Draws of T, which serve for any number of statistics.

    Parameters
    ----------
    problem : Drawn
        What is drawn.
    n : int
        How many draws, at least 1.
    seed : str
        In hexadecimal.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
        T_1, ..., T_n, ascending.
    seed : str
    """

    def __init__(self, problem: Drawn, n: int, seed: str) -> None:
        self.seed = seed
        tilts = _tilts(problem)
        rng = np.random.Generator(np.random.PCG64(int(seed, 16)))
        counts = rng.multinomial(n, _SHARES)
        self._tilts, self._end = tilts, float(_REACH[-1]) * problem.variance**0.5
        self._k, values = problem.draw(rng, tilts, counts)
        self.values: FloatArray = np.sort(values)
        log_weights = self._log_weight(self.values)
        # from each value to the largest
        self._log_sums = np.logaddexp.accumulate(log_weights[::-1])[::-1]

    def _log_weight(self, values: FloatArray) -> FloatArray:
        """``log w(T)``."""
        logs = values[..., None] * self._tilts - self._k
        top = logs.max(axis=-1)
        found: FloatArray = -top - np.log(np.exp(logs - top[..., None]) @ _SHARES)
        return found

    def log_pvalue(self, statistic: float, log_bound: float = 0.0, slack: float = 0.0) -> float:
        """``log p`` of a statistic.

        Parameters
        ----------
        statistic : float
            T_obs.
        log_bound : float
            An upper bound of ``log P(T >= T_obs)``. It is the p-value beyond the last tilt, at c,
            where it is tighter. (As w falls, p(c) is at most w(c), whatever was drawn. So with p at
            least w(c) up to c, and at most w(c) beyond, nothing that is said above changes.)
        slack : float
            Draws that miss the statistic by no more than this reach it.
        """
        floor = float(self._log_weight(np.array([self._end]))[0])
        if statistic > self._end:
            return min(0.0, floor, log_bound)
        log = float(self._log_weight(np.array([statistic]))[0])
        first = int(np.searchsorted(self.values, statistic - slack))
        if first < len(self.values):
            log = float(np.logaddexp(log, self._log_sums[first]))
        return min(0.0, max(floor, log - float(np.log(len(self.values) + 1))))


def _tilts(problem: Drawn) -> FloatArray:
    """``z_k / sd``; where moments end at a pole nearby, about what shifts the mean by z_k sd."""
    root, limit = problem.variance**0.5, problem.limits[1]
    plain: FloatArray = _REACH / root
    if plain[-1] < 0.1 * limit:
        return plain
    x = np.geomspace(0.01, 1000.0, 31)
    grid = np.concatenate([[0.0], limit * x / (1.0 + x)])
    shifts = np.array([problem.bound(float(t))[1] for t in grid])
    found: FloatArray = np.interp(_REACH * root, shifts, grid)
    return found


def draw_independent(
    w: Weights,
    law: NullLaw,
    rng: np.random.Generator,
    tilts: FloatArray,
    counts: npt.NDArray[np.intp],
) -> tuple[FloatArray, FloatArray]:
    """K at each tilt, and values of ``sum w (s - mean)`` under each, for independent scores.

    Parameters
    ----------
    w : ndarray of float64 or Stored, shape (n,)
        The weights.
    law : NullLaw
        The law of one unit's score.
    rng : Generator
        Of random numbers.
    tilts : ndarray of float64, shape (k,)
        Tilts.
    counts : ndarray of int, shape (k,)
        How many values to draw under each.
    """
    k, values = np.zeros(len(tilts)), np.zeros(int(counts.sum()))
    for part in in_parts(w):
        units, start = _Units.of(part, law), 0
        for i, (tilt, count) in enumerate(zip(tilts.tolist(), counts.tolist(), strict=True)):
            k[i] += units.log_moment(tilt)
            step = max(1, _BLOCK // len(units.w))
            for row in range(start, start + count, step):
                rows = slice(row, min(row + step, start + count))
                values[rows] += units.sums(rng, tilt, rows.stop - rows.start)
            start += count
    return k, values


@dataclass(frozen=True)
class _Units:
    """Units of independent scores; `times` counts those of equal weights, None stands for ones."""

    w: FloatArray
    law: NullLaw
    times: npt.NDArray[np.int64] | None

    @classmethod
    def of(cls, w: FloatArray, law: NullLaw) -> _Units:
        distinct, times = np.unique(w, return_counts=True)
        if len(distinct) * _EQUAL <= len(w):
            return cls(distinct, law, times.astype(np.int64))
        return cls(w, law, None)

    def log_moment(self, tilt: float) -> float:
        logs = self.law.cumulants(self.w * tilt)[0]
        return float(logs.sum() if self.times is None else logs @ self.times)

    def sums(self, rng: np.random.Generator, tilt: float, n: int) -> FloatArray:
        """So many values of ``sum w (s - mean)`` under a tilt."""
        law, w = self.law, self.w
        found = np.full(n, -law.mean * float(w.sum() if self.times is None else w @ self.times))
        if isinstance(law, BernoulliLaw):
            found += self._bits(rng, law.mean, tilt, n) @ w
        elif isinstance(law, SynthIDLaw):
            scores = np.zeros((n, len(w)))
            for weight in law.weights:
                scores += weight * self._bits(rng, float(law.share), tilt * weight, n)
            found += scores @ w
        else:
            alpha = law.alpha if isinstance(law, DualExponentialLaw) else 0.0
            for scale in (1.0 - alpha, alpha):
                if scale > 0.0:
                    gains = scale * w / (1.0 - (scale * tilt) * w)
                    found += self._exponentials(rng, n) @ gains
        return found

    def _exponentials(self, rng: np.random.Generator, n: int) -> FloatArray:
        shape = (n, len(self.w))
        if self.times is None:
            return rng.standard_exponential(shape)
        return rng.standard_gamma(np.broadcast_to(self.times, shape).astype(np.float64))

    def _bits(self, rng: np.random.Generator, share: float, tilt: float, n: int) -> FloatArray:
        """Whether each unit is green under a tilt, or how many of equal weights are."""
        from scipy.special import expit, logit

        chances, shape = expit(self.w * tilt + float(logit(share))), (n, len(self.w))
        if self.times is not None:
            return rng.binomial(self.times, chances, shape).astype(np.float64)
        return _below(rng, chances, shape)


def draw_scores(rng: np.random.Generator, law: NullLaw, shape: tuple[int, int]) -> FloatArray:
    """Scores of units under H0.

    Raises
    ------
    ArgumentError
        If it is not known how to draw from the law.
    """
    if isinstance(law, BernoulliLaw):
        return _below(rng, np.array([law.mean]), shape)
    if isinstance(law, SynthIDLaw):
        share = np.array([float(law.share)])
        return sum((w * _below(rng, share, shape) for w in law.weights), np.zeros(shape))
    if isinstance(law, DualExponentialLaw):
        one, two = rng.standard_exponential(shape), rng.standard_exponential(shape)
        return (1.0 - law.alpha) * one + law.alpha * two
    if isinstance(law, ExponentialLaw):
        return rng.standard_exponential(shape)
    raise ArgumentError(f"it is not known how to draw scores of {law}")


def _below(rng: np.random.Generator, chances: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """1 with these chances and 0 otherwise."""
    return (rng.integers(0, 1 << 32, shape, dtype=np.uint32) < as_limits(chances)).astype(
        np.float64
    )


def as_limits(chances: FloatArray) -> npt.NDArray[np.uint32]:
    """Below which a whole number of 32 bits is with these chances, to 2^-33."""
    return np.minimum(np.rint(chances * 2.0**32), 2.0**32 - 1).astype(np.uint32)
