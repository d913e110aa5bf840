"""Tests of windows counted by residue: SynthID with a sampling table."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radscore.stats.residues import ResidueLaw
from radscore.stats.sums import SumResult
from radscore.stats.tails import LN10
from radscore.stats.weighted import WeightedResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore import _core
    from radscore.schemes import Scheme

__all__ = ["counted_test", "weighed_test"]

_LARGEST = 2.0**53
#: So many laws are kept: decoy keys share the counts, and so the law.
_KEPT = 4
_laws: dict[bytes, ResidueLaw] = {}


def counted_test(tally: _core.Tally, scheme: Scheme) -> SumResult:
    """The test of distinct windows against the law of their sum over random keys.

    Parameters
    ----------
    tally : Tally
        With at least one scored window.
    scheme : Scheme
        One that counts residues: SynthID with a table whose size is a power of two.
    """
    counts = tally.residue_counts
    steps, table = _shape(scheme)
    assert counts is not None
    law = _law(counts, table, steps, lambda: ResidueLaw.of_counts(counts, table, steps))
    total = sum(step * ones for step, ones in zip(steps, tally.depth_counts, strict=True))
    scale = sum(steps)
    return SumResult(
        statistic=total / scale,
        log10_pvalue=law.log10_sf(total),
        n_scored=tally.n_scored,
        expected=law.mean / scale,
        zscore=_zscore(total - law.mean, law),
        method=law.method,
        law=scheme.null_law,
    )


def weighed_test(
    statistic: float,
    weights: npt.NDArray[np.float64],
    residues: npt.NDArray[np.uint64],
    scheme: Scheme,
) -> WeightedResult:
    """The test of windows whose weights add up by residue.

    Parameters
    ----------
    statistic : float
        ``sum w (s - share)``, where s is a window's mean g-value.
    weights : ndarray of float64, shape (n,)
        Sum of the weights of each residue.
    residues : ndarray of uint64, shape (n,)
        All different.
    scheme : Scheme
        With equal weights of its depths.
    """
    from scipy.special import log_ndtr

    steps, table = _shape(scheme)
    depth = len(steps)
    absolute = float(np.abs(weights).sum())
    whole = absolute < _LARGEST and bool((weights == np.rint(weights)).all())
    if whole:
        counts = np.zeros(len(table), dtype=np.int64)
        counts[residues.astype(np.intp)] = weights.astype(np.int64)
        law = _law(counts, table, steps, lambda: ResidueLaw.of_counts(counts, table, steps))
        total: float = round(depth * statistic + law.mean)
    else:
        both = np.column_stack([weights, residues.astype(np.float64)])
        law = _law(
            both, table, steps, lambda: ResidueLaw.of_weights(weights, residues, table, depth)
        )
        # a sum that misses the statistic by rounding counts as reaching it
        total = depth * (statistic - 1e-12 * absolute)
    variance = law.variance / depth**2
    zscore = _zscore(depth * statistic, law)
    log10_pvalue = law.log10_sf(total)
    return WeightedResult(
        statistic=statistic,
        log10_pvalue=log10_pvalue,
        n_units=len(weights),
        variance=variance,
        zscore=zscore,
        log10_normal=float(log_ndtr(-zscore)) / LN10 + 0.0,
        log10_saddlepoint=float("nan"),
        method=law.method,
        tilt=0.0,
        law=scheme.null_law,
        grouped=False,
        sum_weights=float(weights.sum()),
        sum_squares=float(weights @ weights),
        largest_weight=float(np.abs(weights).max()) if len(weights) else 0.0,
        log10_bound=log10_pvalue,
    )


def _shape(scheme: Scheme) -> tuple[tuple[int, ...], npt.NDArray[np.bool_]]:
    table = scheme.core.sampling_table
    assert table is not None
    return scheme.steps, table


def _zscore(excess: float, law: ResidueLaw) -> float:
    spread = law.variance**0.5
    return excess / spread if spread else 0.0


def _law(
    content: npt.NDArray[np.generic],
    table: npt.NDArray[np.bool_],
    steps: tuple[int, ...],
    make: Callable[[], ResidueLaw],
) -> ResidueLaw:
    """The law of these counts under this table, from the last few if it is among them."""
    digest = hashlib.blake2b(f"{content.dtype}{steps}".encode())
    digest.update(np.packbits(table).tobytes())
    digest.update(np.ascontiguousarray(content).tobytes())
    name = digest.digest()
    law = _laws.pop(name, None) or make()
    _laws[name] = law
    while len(_laws) > _KEPT:
        _laws.pop(next(iter(_laws)), None)
    return law
