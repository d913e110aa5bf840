"""Exact tails of weighted sums, where they are cheap.

Three ways: equal weights reduce to the plain law, few Bernoulli units are enumerated, and weights
that are whole multiples of a unit over a short range are convolved.
"""

from __future__ import annotations

import numpy as np

from radscore.stats.laws import BernoulliLaw, DualExponentialLaw, ExponentialLaw, NullLaw
from radscore.stats.tails import LN10, FloatArray, log_complement

__all__ = ["MOST_UNITS", "equal_log_sf", "exact_log_sf"]

_ENUMERATED_UNITS = 16
_CONVOLVED_LENGTH = 20_000
#: No sum of more unequal weights is exact.
MOST_UNITS = _CONVOLVED_LENGTH
_CONVOLVED_WEIGHTS = 64
_SMALLEST = 1e-280  # below it sums of products of shares are not trusted


def exact_log_sf(statistic: float, w: FloatArray, law: NullLaw) -> tuple[float, str] | None:
    """`log P(sum w (s - mean) >= statistic)` for independent scores, and how; None if it is costly.

    A sum that misses the statistic by no more than rounding counts as reaching it.

    Parameters
    ----------
    statistic : float
        Centred, as in :func:`radscore.stats.weighted_test`.
    w : ndarray of float64, shape (n_units,)
        None is 0.
    law : NullLaw
        The law of one unit's score.
    """
    if len(w) == 0:
        return None
    if (w == w[0]).all():
        return equal_log_sf(statistic, float(w[0]), len(w), law)
    if not isinstance(law, BernoulliLaw):
        return None
    slack = 1e-12 * float(np.abs(w).sum())
    threshold = statistic + law.mean * float(w.sum()) - slack
    found = _enumerated(threshold, w, law) if len(w) <= _ENUMERATED_UNITS else None
    return found if found is not None else _convolved(threshold, w, law)


def equal_log_sf(statistic: float, weight: float, n: int, law: NullLaw) -> tuple[float, str] | None:
    """`exact_log_sf` of `n` equal weights."""
    total = statistic / weight + n * law.mean
    slack = 1e-12 * max(n, abs(total))
    if isinstance(law, BernoulliLaw):
        if weight > 0:
            count = np.ceil(total - min(slack, 0.01))
            log10 = law.log10_sf(count, n)
        else:  # at most this many green is at least that many red
            count = np.floor(total + min(slack, 0.01))
            log10 = BernoulliLaw(1 - law.share).log10_sf(n - count, n)
        return log10 * LN10, "exact binomial tail (equal weights)"
    if isinstance(law, (ExponentialLaw, DualExponentialLaw)):
        log = np.array([law.log10_sf(total, n) * LN10])
        if weight < 0:
            if total > 0 and log[0] > -1e-300:
                return None  # the lower tail is too small to tell from the upper one
            log = log_complement(log)
        return float(log[0]), "exact gamma tail (equal weights)"
    return None


def _enumerated(threshold: float, w: FloatArray, law: BernoulliLaw) -> tuple[float, str] | None:
    """All 2^n outcomes."""
    sums, chances = np.zeros(1), np.ones(1)
    share, rest = float(law.share), float(1 - law.share)
    for weight in w:
        sums = np.concatenate([sums, sums + weight])
        chances = np.concatenate([rest * chances, share * chances])
    return _log_of(chances[sums >= threshold], "exact (all outcomes)", sums.max() < threshold)


def _convolved(threshold: float, w: FloatArray, law: BernoulliLaw) -> tuple[float, str] | None:
    """Binomial laws convolved, for whole multiples of a unit over a short range."""
    unit = float(np.abs(w).min())
    whole = np.rint(w / unit)
    if (whole * unit != w).any() or np.abs(whole).sum() > _CONVOLVED_LENGTH:
        return None
    from scipy.stats import binom

    values, counts = np.unique(whole.astype(int), return_counts=True)
    if len(values) > _CONVOLVED_WEIGHTS:
        return None
    pmf = np.ones(1)
    lowest = 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        stretched = np.zeros(abs(value) * count + 1)
        stretched[:: abs(value)] = binom.pmf(np.arange(count + 1), count, law.mean)
        # no Fourier transform: its errors are absolute
        pmf = np.convolve(pmf, stretched[::-1] if value < 0 else stretched)
        lowest += min(value, 0) * count
    sums = (np.arange(len(pmf)) + lowest) * unit
    return _log_of(pmf[sums >= threshold], "exact (convolution)", sums[-1] < threshold)


def _log_of(chances: FloatArray, how: str, nothing: bool) -> tuple[float, str] | None:
    if nothing:
        return -np.inf, how
    total = float(np.sort(chances).sum())
    if total < _SMALLEST:
        return None
    return min(0.0, float(np.log(total))), how
