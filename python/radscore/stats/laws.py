"""The null laws: the distribution of the summed scores of n units when there is no watermark.

Under H0 the scores of distinct units are independent draws of a known law, because the key is
random. Everything else in :mod:`radscore.stats` builds on these laws (and on
`radscore.stats.synthid.SynthIDLaw`). All tails are logarithms, so they never underflow.

Where each law is exact, and where it errs on the safe side:

- `BernoulliLaw`: the share must be the scheme's true one (`int(gamma V) / V`, or
  `ceil(8191 gamma) / 8191`, or a threshold over 2^31 or 2^64). Exact for units of distinct
  contexts, or of a keyed function of the whole window. Units that share a context are drawn from
  one permutation without replacement; their sum is smaller in the convex order than the binomial
  (W. Hoeffding, 1963), so the binomial tail is conservative for evidence.
- `ExponentialLaw` (Gumbel-max): exact for continuous uniforms. Uniforms on a grid below the
  continuous ones, `floor(m U) / m` (torch's 24 bits; TextSeal's `h mod 8191` over 8191; 53 bits),
  give scores that never exceed those of `U`: conservative for sums and for positive weights. On
  the grids `(w + 1) / (2^24 + 1)` of vLLM and `(h + 0.5) / 2^32` of SGLang the mean score is below
  1 by 4.9e-7 and 8.1e-11 (5.2e-7 where vLLM rounds u to float32), which makes the z-score of n
  units smaller by that times sqrt(n): 0.0005 for a million units.
- `DualExponentialLaw`: the same for `(1 - alpha) Exp + alpha Exp` of two independent keys.
- `SynthIDLaw`: exact for independent bits. With Hugging Face's sampling table the bits of distinct
  units are different entries of one public table, read at a place that the key of the depth
  shifts. With the table's own mean as the share the law is calibrated on text that does not know
  the table, and approximate on text that was marked with other keys of the same table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.contour import dual_log_sf
from radscore.stats.lattice import bernoulli_cumulants
from radscore.stats.tails import LN10, FloatArray, binomial_log_sf, gamma_log_sf, log1pmx

__all__ = [
    "BernoulliLaw",
    "Cumulants",
    "DualExponentialLaw",
    "ExponentialLaw",
    "NullLaw",
    "as_share",
    "moment_matched_dual_log10_sf",
]

_LARGEST = 2.0**53
_DEDUPLICATE = 1000  # from so many pairs on, equal ones are computed once

#: K, K' and K'' at each point.
Cumulants = tuple[FloatArray, FloatArray, FloatArray]


class NullLaw(ABC):
    """The law of the sum of n independent unit scores when there is no watermark."""

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
        """How the tail is computed, in words for a report."""

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
        """`log10 P(sum of n scores >= statistic)`, accurate to 1e-9 relative at any depth.

        Parameters
        ----------
        statistic : float or array
            The sum of the scores of `n` units.
        n : int or array of int
            Number of units, 0 to 2^53; broadcast with `statistic`.

        Returns
        -------
        float or ndarray of float64
            At most 0. The *relative* precision holds near 0 as well: `-1e-20` means that a
            smaller sum has probability `2.3e-20`.

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
        result = (log / LN10 + 0.0).reshape(s.shape)
        return float(result) if result.ndim == 0 else result

    @overload
    def sf(self, statistic: float, n: int) -> float: ...
    @overload
    def sf(self, statistic: npt.ArrayLike, n: npt.ArrayLike) -> Any: ...
    def sf(self, statistic: Any, n: Any) -> Any:
        """`P(sum of n scores >= statistic)`; underflows to 0 where `log10_sf` does not.

        Examples
        --------
        >>> from fractions import Fraction
        >>> round(BernoulliLaw(Fraction(1, 2)).sf(3, 4), 12)
        0.3125
        """
        log10 = self.log10_sf(statistic, n)
        if isinstance(log10, float):
            return float(np.exp(log10 * LN10))
        return np.exp(log10 * LN10)


@dataclass(frozen=True)
class BernoulliLaw(NullLaw):
    """Green counts: a unit is green with probability `share`.

    `P(S >= s) = I_share(s, n - s + 1)`, the regularised incomplete beta function; 1 at s = 0.

    Parameters
    ----------
    share : Fraction
        The scheme's true green share, strictly between 0 and 1. A float stands for its exact binary
        value, which is rarely the share of a scheme.

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
        object.__setattr__(self, "share", as_share(self.share))

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
        """How the tail is computed, in words for a report."""
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
    """Gumbel-max scores: `-log(1 - u)` of a uniform u; their sum is Gamma(n, 1).

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
        """How the tail is computed, in words for a report."""
        return "exact gamma tail"

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest score of one unit."""
        return 0.0, float("inf")

    def cumulants(self, t: npt.ArrayLike) -> Cumulants:
        """`log E exp(t (score - 1))` with its first two derivatives; inf for t >= 1."""
        return _exponential_cumulants(np.asarray(t, dtype=np.float64), 1.0)

    def _log_sf(self, statistic: FloatArray, n: FloatArray) -> FloatArray:
        return gamma_log_sf(statistic, n)


@dataclass(frozen=True)
class DualExponentialLaw(NullLaw):
    """Scores under two keys, `(1 - alpha) e_A + alpha e_B` with independent Exp(1) scores.

    The sum over n units is `(1 - alpha) G1 + alpha G2` with independent Gamma(n, 1) variables; its
    tail is exact, by inversion of the moment-generating function. vLLM's detector reports a gamma
    law of the same mean and variance instead: `moment_matched_dual_log10_sf`.

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
        """How the tail is computed, in words for a report."""
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


def moment_matched_dual_log10_sf(statistic: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> Any:
    """log10 of the approximate p-value that vLLM's dual-key detector reports.

    The law of `(1 - alpha) G1 + alpha G2` is replaced by a gamma law of the same mean and
    variance: shape `n / v`, scale `v`, with `v = (1 - alpha)^2 + alpha^2`. Use it to reproduce
    vLLM's numbers; `DualExponentialLaw` is exact.

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
    result = (gamma_log_sf(s.ravel() / v, count.ravel() / v) / LN10 + 0.0).reshape(s.shape)
    return float(result) if result.ndim == 0 else result


def _exponential_cumulants(t: FloatArray, scale: float) -> Cumulants:
    x = scale * t
    with np.errstate(all="ignore"):
        rest = 1.0 - x
        log, first, second = -log1pmx(-x), scale * x / rest, scale * scale / (rest * rest)
    infinite = x >= 1.0
    return tuple(np.where(infinite, np.inf, part) for part in (log, first, second))  # type: ignore[return-value]


def as_share(value: Any) -> Fraction:
    """The value as an exact share, or an `ArgumentError` unless it is between 0 and 1."""
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
