"""The null law of SynthID's scores where bits are independent: a weighted sum of binomials."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.lattice import Lattice, bernoulli_cumulants
from radscore.stats.laws import Cumulants, NullLaw, as_share
from radscore.stats.tails import FloatArray, binomial_log_sf

__all__ = ["SynthIDLaw"]

_SINGLE = 1e-6  # relative rounding of sums of a few single-precision numbers


@dataclass(frozen=True)
class SynthIDLaw(NullLaw):
    """SynthID scores: `sum_d weights[d] * g_d` over the depths, with independent bits g_d.

    With equal weights the sum is binomial over `n * depth` bits. Unequal weights that are whole
    multiples of one unit (such as the usual ones, linear from 10 down to 1) give a law on whole
    numbers, whose tail is exact too. Other weights are rounded to 1/32768 of the largest, and the
    threshold is lowered by the most that the rounding can matter: that tail is conservative.
    `method` says which it is. A sum of floats may miss by rounding the value that it stands for:
    it counts as reached within 1e-12 relative and 1/100 of the unit, or within 1e-6 relative if
    the weights themselves have single precision.

    Parameters
    ----------
    share : Fraction
        Probability that a bit is 1: 1/2, or the mean of Hugging Face's table.
    weights : tuple of float
        One per depth, none negative, not all zero.

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
        object.__setattr__(self, "share", as_share(self.share))
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
        """How the tail is computed, in words for a report."""
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


@lru_cache(maxsize=64)
def _whole_steps(
    weights: tuple[float, ...],
) -> tuple[tuple[int, ...], float, float, float, bool]:
    """The weights as whole multiples of a unit.

    Returns the multiples, the unit, by how much a score can exceed its lattice point, the relative
    rounding of a sum, and whether the multiples are exact up to rounding.
    """
    w = np.array([weight for weight in weights if weight > 0])
    ratios = w / w.max()
    exact, largest = False, 32768
    for start in range(1, 4097, 256):
        m = np.arange(start, start + 256)
        scaled = m[:, None] * ratios
        whole = np.rint(scaled)
        # weights that passed through float32 are off by 1e-7
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
