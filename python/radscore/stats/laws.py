"""The null laws: how the summed scores of n units are distributed when only chance is at work.

Under H0 the scores of distinct units are independent draws of a known law, because the key is
random. Everything else in :mod:`radscore.stats` builds on the four laws here. All tails are
logarithms; they do not underflow.

Where the law is exact, and where it errs on the safe side:

- `BernoulliLaw`: the share must be the scheme's true one (`int(gamma V) / V`, or
  `ceil(8191 gamma) / 8191`, or a threshold over 2^31 or 2^64). Exact for units of distinct
  contexts, or of a keyed function of the whole window. Units that share a context draw from one
  permutation without replacement: their sum is smaller than the binomial in the convex order
  (Hoeffding 1963), so the binomial tail is conservative for evidence.
- `ExponentialLaw` (Gumbel-max): exact for continuous uniforms. Uniforms on a grid that lie
  below the continuous ones, `floor(m U) / m` (torch's 24 bits; TextSeal's `h mod 8191` over
  8191; 53 bits), give scores that never exceed those of `U`: conservative for sums and for
  weights above 0. On the grids
  `(w + 1) / (2^24 + 1)` of vLLM and `(h + 0.5) / 2^32` of SGLang the mean of a score lies below
  1 by 4.9e-7 and 8.1e-11 (5.2e-7 where vLLM rounds u to float32): the z-score of n units comes
  out smaller by that times sqrt(n), 0.0005 at a million units.
- `DualExponentialLaw`: the same for `(1 - alpha) Exp + alpha Exp` of two independent keys.
- `SynthIDLaw`: exact for independent bits. Hugging Face's bits of distinct units are different
  entries of one public table, read at a place that the key of the depth shifts; with the table's
  own mean as the share this calibrates on text that does not know the table, and is approximate
  on text that was marked with other keys of the same table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.contour import dual_log_sf
from radscore.stats.lattice import Lattice, bernoulli_cumulants
from radscore.stats.tails import FloatArray, binomial_log_sf, gamma_log_sf, log1pmx

__all__ = [
    "BernoulliLaw",
    "DualExponentialLaw",
    "ExponentialLaw",
    "NullLaw",
    "SynthIDLaw",
    "moment_matched_dual_log10_sf",
]

_LN10 = 2.302585092994045684
_LARGEST = 2.0**53
_SINGLE = 1e-6  # relative rounding of sums of a few single-precision numbers
_DEDUPLICATE = 1000  # pairs, from which on equal ones are computed once

Cumulants = tuple[FloatArray, FloatArray, FloatArray]


class NullLaw(ABC):
    """The law of the sum of n independent scores, one a unit, when there is no watermark."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """Mean of one unit's score."""

    @property
    @abstractmethod
    def variance(self) -> float:
        """Variance of one unit's score."""

    @property
    @abstractmethod
    def method(self) -> str:
        """How the tail is computed, in words."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest score of one unit."""

    @abstractmethod
    def cumulants(self, t: npt.ArrayLike) -> Cumulants:
        """`log E exp(t (score - mean))` of one unit, with its first two derivatives in t.

        Where the expectation is infinite, all three are inf.
        """

    @abstractmethod
    def _log_sf(self, statistic: FloatArray, n: FloatArray) -> FloatArray:
        """`log P(sum of n scores >= statistic)` of checked one-dimensional arrays."""

    @overload
    def log10_sf(self, statistic: float, n: int) -> float: ...
    @overload
    def log10_sf(self, statistic: npt.ArrayLike, n: npt.ArrayLike) -> Any: ...
    def log10_sf(self, statistic: Any, n: Any) -> Any:
        """`log10 P(sum of n scores >= statistic)`, to 1e-9 relative at any depth.

        Parameters
        ----------
        statistic : float or array
            The sum of the scores of `n` units.
        n : int or array of int
            Number of units, 0 to 2^53; broadcast with `statistic`.

        Returns
        -------
        float or ndarray of float64
            At most 0. Near 0 it holds the *relative* precision too: `-1e-20` means that the
            probability of a smaller sum is `2.3e-20`.

        Raises
        ------
        ArgumentError
            If `n` is negative, not whole or too large, or `statistic` is NaN.

        Examples
        --------
        >>> from fractions import Fraction
        >>> law = BernoulliLaw(Fraction(8000, 32000))
        >>> round(law.log10_sf(250_600_000, 10**9), 3)
        -418.741
        """
        s = np.asarray(statistic, dtype=np.float64)
        count = np.asarray(n)
        counts = count.astype(np.float64)
        bad = (counts < 0) | (counts > _LARGEST) | (counts != np.floor(counts))
        if bad.any():
            worst = count[bad].flat[0] if count.ndim else count
            raise ArgumentError(f"n must be whole numbers from 0 to 2^53, not {worst}")
        if np.isnan(s).any():
            raise ArgumentError("statistic must be a number, not NaN")
        s, counts = np.broadcast_arrays(s, counts)
        flat, flat_n = s.ravel(), counts.ravel()
        if flat.size > _DEDUPLICATE:
            pairs, back = np.unique(flat + 1j * flat_n, return_inverse=True)
            log = self._log_sf(pairs.real.copy(), pairs.imag.copy())[back]
        else:
            log = self._log_sf(flat, flat_n)
        result = (log / _LN10 + 0.0).reshape(s.shape)
        return float(result) if result.ndim == 0 else result

    @overload
    def sf(self, statistic: float, n: int) -> float: ...
    @overload
    def sf(self, statistic: npt.ArrayLike, n: npt.ArrayLike) -> Any: ...
    def sf(self, statistic: Any, n: Any) -> Any:
        """`P(sum of n scores >= statistic)`: 10 to the power of `log10_sf`, may underflow to 0.

        Examples
        --------
        >>> from fractions import Fraction
        >>> round(BernoulliLaw(Fraction(1, 2)).sf(3, 4), 12)
        0.3125
        """
        log10 = self.log10_sf(statistic, n)
        if isinstance(log10, float):
            return float(np.exp(log10 * _LN10))
        return np.exp(log10 * _LN10)


@dataclass(frozen=True)
class BernoulliLaw(NullLaw):
    """Green counts: a unit is green with probability `share`.

    `P(S >= s) = I_share(s, n - s + 1)`, the regularised incomplete beta function; 1 at s = 0.

    Parameters
    ----------
    share : Fraction
        The scheme's true green share, strictly between 0 and 1. A float is taken at its exact
        binary value, which is rarely what a scheme has.

    Raises
    ------
    ArgumentError
        If the share is not between 0 and 1.

    Examples
    --------
    >>> from fractions import Fraction
    >>> law = BernoulliLaw(Fraction(8000, 32000))
    >>> round(law.log10_sf(300, 1000), 6)
    -3.713116
    >>> law.log10_sf(0, 1000)
    0.0
    """

    share: Fraction

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", _share(self.share))

    @property
    def mean(self) -> float:
        """The share."""
        return float(self.share)

    @property
    def variance(self) -> float:
        """`share (1 - share)`."""
        return float(self.share * (1 - self.share))

    @property
    def method(self) -> str:
        """How the tail is computed, in words."""
        return "exact binomial tail"

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest score of one unit."""
        return 0.0, 1.0

    def cumulants(self, t: npt.ArrayLike) -> Cumulants:
        """`log E exp(t (score - mean))` with its first two derivatives, any t."""
        x = np.asarray(t, dtype=np.float64)
        return bernoulli_cumulants(x, float(self.share), float(1 - self.share))

    def _log_sf(self, statistic: FloatArray, n: FloatArray) -> FloatArray:
        return binomial_log_sf(np.ceil(statistic), n, self.share)


@dataclass(frozen=True)
class ExponentialLaw(NullLaw):
    """Gumbel-max scores: `-log(1 - u)` of a uniform u, so that the sum is Gamma(n, 1).

    Examples
    --------
    >>> round(ExponentialLaw().log10_sf(1_100, 1_000), 6)
    -2.974971
    """

    @property
    def mean(self) -> float:
        """1."""
        return 1.0

    @property
    def variance(self) -> float:
        """1."""
        return 1.0

    @property
    def method(self) -> str:
        """How the tail is computed, in words."""
        return "exact gamma tail"

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest score of one unit."""
        return 0.0, float("inf")

    def cumulants(self, t: npt.ArrayLike) -> Cumulants:
        """`log E exp(t (score - 1))` with its first two derivatives; inf from t = 1 on."""
        return _exponential_cumulants(np.asarray(t, dtype=np.float64), 1.0)

    def _log_sf(self, statistic: FloatArray, n: FloatArray) -> FloatArray:
        return gamma_log_sf(statistic, n)


@dataclass(frozen=True)
class DualExponentialLaw(NullLaw):
    """Scores under two keys, `(1 - alpha) e_A + alpha e_B` with independent Exp(1) scores.

    The sum over n units is `(1 - alpha) G1 + alpha G2` with independent Gamma(n, 1); its tail is
    computed exactly, by integration of its moment-generating function. vLLM's detector reports
    a gamma law of the same mean and variance instead: `moment_matched_dual_log10_sf`.

    Parameters
    ----------
    alpha : float
        Weight of the second key, 0 to 1.

    Raises
    ------
    ArgumentError
        If alpha is outside 0 to 1.

    Examples
    --------
    >>> round(DualExponentialLaw(0.1).log10_sf(1_100, 1_000), 6)
    -3.446203
    """

    alpha: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _alpha(self.alpha))

    @property
    def mean(self) -> float:
        """1."""
        return 1.0

    @property
    def variance(self) -> float:
        """`(1 - alpha)^2 + alpha^2`."""
        return (1.0 - self.alpha) ** 2 + self.alpha**2

    @property
    def method(self) -> str:
        """How the tail is computed, in words."""
        return "exact tail of two scaled gammas"

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest score of one unit."""
        return 0.0, float("inf")

    def cumulants(self, t: npt.ArrayLike) -> Cumulants:
        """`log E exp(t (score - 1))` with its first two derivatives; inf beyond the pole."""
        x = np.asarray(t, dtype=np.float64)
        one = _exponential_cumulants(x, 1.0 - self.alpha)
        two = _exponential_cumulants(x, self.alpha)
        return one[0] + two[0], one[1] + two[1], one[2] + two[2]

    def _log_sf(self, statistic: FloatArray, n: FloatArray) -> FloatArray:
        return dual_log_sf(statistic, n, self.alpha)


@dataclass(frozen=True)
class SynthIDLaw(NullLaw):
    """SynthID scores: `sum_d weights[d] * g_d` over the depths, g_d independent bits.

    Equal weights make a binomial of `n * depth` bits. Unequal ones that are whole multiples of
    one unit (the field's weights, linear from 10 down to 1, are) make a law on whole numbers
    whose tail is exact too. Other weights are rounded to 1/32768 of the largest, and the
    threshold is lowered by the most that this can matter, so that the tail is conservative;
    `method` says which. A sum of floats may miss the value it stands for by rounding: within
    1e-12 relative, and 1/100 of the unit, it counts as reached; within 1e-6 relative where the
    weights themselves are of single precision.

    Parameters
    ----------
    share : Fraction
        Probability that a bit is 1: 1/2, or the mean of Hugging Face's table.
    weights : tuple of float
        One a depth, not negative, not all zero.

    Raises
    ------
    ArgumentError
        If the share is not between 0 and 1, or a weight is negative or not finite.

    Examples
    --------
    >>> from fractions import Fraction
    >>> law = SynthIDLaw(Fraction(1, 2), weights=(10.0, 7.0, 4.0, 1.0))
    >>> round(law.log10_sf(1250, 100), 6)
    -1.995953
    >>> SynthIDLaw(Fraction(1, 2), weights=(0.25,) * 4).method
    'exact binomial tail over all depths'
    """

    share: Fraction
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", _share(self.share))
        weights = tuple(float(w) for w in self.weights)
        if not weights or max(weights) <= 0 or any(not 0 <= w < np.inf for w in weights):
            raise ArgumentError(
                f"weights must be finite, not negative and not all zero, not {weights}"
            )
        object.__setattr__(self, "weights", weights)

    @property
    def mean(self) -> float:
        """`share * sum(weights)`."""
        return float(self.share * sum(Fraction(w) for w in self.weights))

    @property
    def variance(self) -> float:
        """`share (1 - share) sum(weights^2)`."""
        squares = sum(Fraction(w) ** 2 for w in self.weights)
        return float(self.share * (1 - self.share) * squares)

    @property
    def method(self) -> str:
        """How the tail is computed, in words."""
        steps, _, _, _, exact = self._steps
        if set(steps) == {1}:
            return "exact binomial tail over all depths"
        if exact:
            return "exact tail of the weighted bits"
        return "conservative tail of the weighted bits, weights rounded to 1/32768 of the largest"

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest score of one unit."""
        return 0.0, float(sum(Fraction(w) for w in self.weights))

    def cumulants(self, t: npt.ArrayLike) -> Cumulants:
        """`log E exp(t (score - mean))` with its first two derivatives, any t."""
        x = np.asarray(t, dtype=np.float64)
        total: list[FloatArray] = [np.zeros_like(x) for _ in range(3)]
        for w in self.weights:
            for order, part in enumerate(
                bernoulli_cumulants(w * x, float(self.share), float(1 - self.share))
            ):
                total[order] += w**order * part
        return total[0], total[1], total[2]

    @cached_property
    def _steps(self) -> tuple[tuple[int, ...], float, float, float, bool]:
        return _whole_steps(self.weights)

    def _log_sf(self, statistic: FloatArray, n: FloatArray) -> FloatArray:
        steps, unit, over, rounding, _ = self._steps
        x = statistic / unit
        slack = np.abs(x) * rounding
        if rounding < _SINGLE:
            slack = np.minimum(slack, 0.01)
        slack += n * (over / unit)
        index = np.ceil(x - slack)
        if set(steps) == {1}:
            return binomial_log_sf(index, n * len(steps), self.share)
        return Lattice(steps, self.share).log_sf(index, n)


def moment_matched_dual_log10_sf(statistic: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> Any:
    """The approximate p-value that vLLM's dual-key detector reports, as log10; not exact.

    The law of `(1 - alpha) G1 + alpha G2` is replaced by a gamma law of the same mean and
    variance: shape `n / v`, scale `v`, `v = (1 - alpha)^2 + alpha^2`. Use it to reproduce their
    numbers; `DualExponentialLaw` is exact.

    Parameters
    ----------
    statistic : float or array
        The sum of the scores of `n` units.
    n : int or array of int
        Number of units; broadcast with `statistic`.
    alpha : float
        Weight of the second key, 0 to 1.

    Raises
    ------
    ArgumentError
        If alpha is outside 0 to 1 or `n` is negative.

    Examples
    --------
    >>> round(moment_matched_dual_log10_sf(1_100, 1_000, 0.1), 6)
    -3.45908
    """
    alpha = _alpha(alpha)
    v = (1.0 - alpha) ** 2 + alpha**2
    s, count = np.broadcast_arrays(
        np.asarray(statistic, dtype=np.float64), np.asarray(n, dtype=np.float64)
    )
    if not (count >= 0).all():
        raise ArgumentError("n must not be negative")
    result = (gamma_log_sf(s.ravel() / v, count.ravel() / v) / _LN10 + 0.0).reshape(s.shape)
    return float(result) if result.ndim == 0 else result


def _exponential_cumulants(t: FloatArray, scale: float) -> Cumulants:
    x = scale * t
    with np.errstate(all="ignore"):
        rest = 1.0 - x
        log, first, second = -log1pmx(-x), scale * x / rest, scale * scale / (rest * rest)
    infinite = x >= 1.0
    return tuple(np.where(infinite, np.inf, part) for part in (log, first, second))  # type: ignore[return-value]


@lru_cache(maxsize=64)
def _whole_steps(
    weights: tuple[float, ...],
) -> tuple[tuple[int, ...], float, float, float, bool]:
    """Whole multiples of a unit that the weights are.

    Returns the multiples, the unit, by how much a score can exceed its place on the lattice, the
    relative rounding of a sum, and whether the multiples are exact up to rounding.
    """
    w = np.array([weight for weight in weights if weight > 0])
    ratios = w / w.max()
    exact, largest = False, 32768
    for start in range(1, 4097, 256):
        m = np.arange(start, start + 256)
        scaled = m[:, None] * ratios
        whole = np.rint(scaled)
        # weights that went through float32 are off by 1e-7
        fits = ((np.abs(scaled - whole) <= 3e-7 * m[:, None]) & (whole > 0)).all(axis=1)
        if fits.any():
            exact, largest = True, int(m[np.argmax(fits)])
            break
    steps = np.maximum(np.rint(largest * ratios), 1.0)
    unit = float(w @ steps / (steps @ steps))
    off = w - steps * unit
    rounding = 1e-12 if np.abs(off).max() < 1e-12 * w.max() or not exact else _SINGLE
    over = float(np.maximum(off, 0.0).sum())
    return tuple(int(k) for k in steps), unit, over, rounding, exact


def _share(value: Any) -> Fraction:
    try:
        share = Fraction(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"share must be a Fraction, not {value!r}") from None
    if not 0 < share < 1:
        raise ArgumentError(f"share must lie strictly between 0 and 1, not {value}")
    return share


def _alpha(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(f"alpha must be from 0 to 1, not {value}")
    return float(value)
