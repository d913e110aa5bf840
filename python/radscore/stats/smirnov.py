"""The one-sided two-sample Kolmogorov-Smirnov test, with p-values as logarithms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.result import Evidence
from radscore.stats.tails import LN10

__all__ = ["SmirnovResult", "smirnov_test"]

#: Steps of the recursion over all paths: about a second.
_MOST_STEPS = 2e7


@dataclass(frozen=True, repr=False)
class SmirnovResult(Evidence):
    """Result of `smirnov_test`.

    Attributes
    ----------
    statistic : float
        The largest ``F(t) - G(t)`` of the two empirical distribution functions, at least 0.
    log10_pvalue : float
        0 if `statistic` is 0.
    location : float
        A point t where the largest difference is reached.
    method : str
        Whether the p-value is exact, or approximated for large samples.
    n_first, n_second : int
        Sizes of the samples.
    """

    location: float
    method: str
    n_first: int
    n_second: int


def smirnov_test(first: npt.ArrayLike, second: npt.ArrayLike) -> SmirnovResult:
    """Tests whether the values of the first sample are smaller than those of the second.

    Under H0 all values are independent draws from one distribution. The p-value is exact for
    samples of equal size, and for unequal sizes up to about 4,500 values each; ties can only make
    it larger than necessary.

    Parameters
    ----------
    first, second : array_like of float
        The samples, at least one value each.

    Returns
    -------
    SmirnovResult

    Raises
    ------
    ArgumentError
        If a sample is empty or holds a value that is not finite.

    Notes
    -----
    The same test as ``scipy.stats.ks_2samp(first, second, alternative="greater")``, whose p-values
    end at 1e-308. Equal sizes: Gnedenko and Korolyuk (1951). Unequal sizes with a product of at
    most 2e7: a walk over all orders of the pooled sample, stopped at the boundary. Larger samples:
    Hodges (1958), equation 5.3, which was at most 0.2 % too small between 0.22 and 1e-3 (sizes from
    50 and 400,001 to 4,400 and 4,700) and increasingly too large below.

    Examples
    --------
    >>> result = smirnov_test(range(100), range(1000, 1100))
    >>> result.statistic, round(result.log10_pvalue, 4)
    (1.0, -58.9569)
    """
    x, y = _sample("first", first), _sample("second", second)
    m, n = len(x), len(y)
    points = np.concatenate([x, y])
    below_x = np.searchsorted(x, points, side="right")
    below_y = np.searchsorted(y, points, side="right")
    excess = below_x * n - below_y * m  # integers: F - G is this over m n
    best = int(excess.argmax())
    reached = max(int(excess[best]), 0)
    log, method = _log_tail(reached, m, n)
    return SmirnovResult(
        statistic=reached / (m * n),
        log10_pvalue=min(log, 0.0) / LN10,
        location=float(points[best]),
        method=method,
        n_first=m,
        n_second=n,
    )


def _sample(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ArgumentError(f"{name} must be a one-dimensional sample of at least one value")
    if not np.isfinite(array).all():
        raise ArgumentError(f"{name} must hold finite numbers only")
    return np.sort(array)


def _log_tail(reached: int, m: int, n: int) -> tuple[float, str]:
    """Logarithm of P(max of F - G >= reached / (m n))."""
    if reached <= 0:
        return 0.0, "exact"
    if m == n:
        h = reached // n
        return float(_log_choose(2 * n, n + h) - _log_choose(2 * n, n)), "exact (equal sizes)"
    if m * n <= _MOST_STEPS:
        return _walk(reached, m, n), "exact (all orders of the pooled sample)"
    # without its second term the expansion would be too large
    large, small = max(m, n), min(m, n)
    d = reached / (m * n)
    z = math.sqrt(m * n / (m + n)) * d
    second = 2 * z * (large + 2 * small) / math.sqrt(large * small * (large + small)) / 3
    return -2 * z**2 - second, "approximate (Hodges' expansion for large samples)"


def _log_choose(n: int, k: int) -> float:
    from scipy.special import gammaln

    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _walk(reached: int, m: int, n: int) -> float:
    """Adds up the probabilities of all orders at their first step beyond the boundary.

    An order of the pooled sample is a path from (0, 0) to (m, n). All are equally likely: from
    (i, j) the next value belongs to the first sample with probability (m - i) / (m + n - i - j).
    Nothing is subtracted, so small probabilities are as precise as large ones.
    """
    alive = np.full(m + 1, -np.inf)  # by i; j is the step less i
    alive[0] = 0.0
    stopped = -np.inf
    index = np.arange(m + 1)
    with np.errstate(divide="ignore"):
        for step in range(m + n):
            low, high = max(0, step - n), min(m, step)
            i = index[low : high + 1]
            here = alive[low : high + 1]
            left = math.log(m + n - step)
            right = here + np.log(m - i) - left
            up = here + np.log(n - (step - i)) - left
            after = np.full(m + 2, -np.inf)
            after[low : high + 1] = up
            after[low + 1 : high + 2] = np.logaddexp(after[low + 1 : high + 2], right)
            after = after[:-1]
            beyond = index * n - (step + 1 - index) * m >= reached
            beyond &= index <= step + 1
            if beyond.any():
                out = after[beyond]
                top = out.max()
                if top > -np.inf:
                    stopped = np.logaddexp(stopped, top + np.log(np.exp(out - top).sum()))
                after[beyond] = -np.inf
            alive = after
    return float(stopped)
