"""Several tests at once: false-discovery control over documents, Holm's correction over keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.result import Result

if TYPE_CHECKING:
    from radscore.stats.tails import FloatArray

__all__ = ["FalseDiscoveryResult", "false_discovery", "holm"]


@dataclass(frozen=True, repr=False, eq=False)
class FalseDiscoveryResult(Result):
    """q-values of Benjamini and Hochberg, and what is rejected.

    Attributes
    ----------
    level : float
        The false discovery rate asked for.
    n_tests, n_rejected : int
        p-values given, and those rejected at the level.
    log10_threshold : float
        The largest rejected log10 p-value; -inf if nothing is rejected.
    log10_pvalues, log10_qvalues : ndarray of float64
        As given, and adjusted; NaN where no p-value was given.
    rejected : ndarray of bool
        Where the q-value is at most the level.
    """

    level: float
    n_tests: int
    n_rejected: int
    log10_threshold: float
    log10_pvalues: FloatArray
    log10_qvalues: FloatArray
    rejected: npt.NDArray[np.bool_]

    @property
    def qvalues(self) -> FloatArray:
        """10 to the power of `log10_qvalues`; underflows to 0 where the logarithm does not."""
        return np.asarray(10.0**self.log10_qvalues)


def false_discovery(log10_pvalues: npt.ArrayLike, level: float = 0.05) -> FalseDiscoveryResult:
    """Benjamini and Hochberg's procedure on log10 p-values, which may be beyond any float.

    Parameters
    ----------
    log10_pvalues : array of float, shape (n_documents,)
        At most 0. NaN stands for a document without a test: it is not counted, and stays NaN.
    level : float, default 0.05
        Between 0 and 1: the expected share of false discoveries among all discoveries.

    Returns
    -------
    FalseDiscoveryResult

    Raises
    ------
    ArgumentError
        If a value is above 0, or the level is not between 0 and 1.

    Notes
    -----
    Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", 1995; the same numbers
    as `scipy.stats.false_discovery_control`. Valid for independent and for positively dependent
    documents, as an expectation over keys: where documents share units, most keys find nothing
    false, while an unlucky one finds many documents at once (`score_documents` limits that).

    Examples
    --------
    >>> result = false_discovery([-2000.0, -3.0, -0.2, -1.0])
    >>> result.n_rejected, result.log10_qvalues.round(3).tolist()
    (2, [-1999.398, -2.699, -0.2, -0.875])
    """
    log10_p, order = _ordered(log10_pvalues)
    if not 0.0 < level < 1.0:
        raise ArgumentError(f"level must lie between 0 and 1, not {level}")
    m = len(order)
    adjusted = log10_p[order] + np.log10(m / np.arange(1, m + 1))
    adjusted = np.minimum.accumulate(adjusted[::-1])[::-1]
    log10_q = np.full_like(log10_p, np.nan)
    log10_q[order] = np.minimum(adjusted, 0.0)
    # half an ulp in the logarithm must not turn "equal to the level" into "above it"
    rejected = np.zeros(len(log10_p), dtype=np.bool_)
    rejected[order] = log10_q[order] <= np.log10(level) + 1e-14
    return FalseDiscoveryResult(
        level=float(level),
        n_tests=m,
        n_rejected=int(rejected.sum()),
        log10_threshold=float(log10_p[rejected].max()) if rejected.any() else -np.inf,
        log10_pvalues=log10_p,
        log10_qvalues=log10_q,
        rejected=rejected,
    )


def holm(log10_pvalues: npt.ArrayLike) -> FloatArray:
    """Holm's correction: log10 p-values that hold for all of several tests together.

    Whatever the tests have in common, the smallest adjusted p-value of a true null is at most
    alpha with probability alpha.

    Parameters
    ----------
    log10_pvalues : array of float, shape (n_tests,)
        At most 0. NaN stands for a test without a p-value: it is not counted, and stays NaN.

    Raises
    ------
    ArgumentError
        If a value is above 0.

    Notes
    -----
    S. Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Examples
    --------
    >>> holm([-2000.0, -0.1, -2.0]).round(3).tolist()
    [-1999.523, -0.1, -1.699]
    """
    log10_p, order = _ordered(log10_pvalues)
    m = len(order)
    adjusted = np.maximum.accumulate(log10_p[order] + np.log10(np.arange(m, 0, -1)))
    found = np.full_like(log10_p, np.nan)
    found[order] = np.minimum(adjusted, 0.0)
    return found


def _ordered(log10_pvalues: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """The values, and the places of those that are not NaN, smallest first."""
    log10_p = np.array(log10_pvalues, dtype=np.float64)
    if log10_p.ndim != 1:
        raise ArgumentError(f"log10_pvalues must have one dimension, not {log10_p.ndim}")
    tested = np.flatnonzero(~np.isnan(log10_p))
    if (log10_p[tested] > 0).any():
        worst = tested[np.argmax(log10_p[tested])]
        raise ArgumentError(f"log10_pvalues[{worst}] is {log10_p[worst]}, above 0")
    return log10_p, tested[np.argsort(log10_p[tested], kind="stable")]
