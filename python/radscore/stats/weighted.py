"""Tests of weighted sums of unit scores, with weights of any sign.

The statistic is `T = sum_u w_u (s_u - mean)` over distinct units, with weights independent of the
key. The p-value is valid whatever the weights are: exact where the law of T is cheap, otherwise by
importance sampling (:mod:`radscore.stats.importance`). Beside it stands the exponential-moment
(Chernoff) bound `min_l exp(K(l) - l T)`, where K sums the units' log moments under the actual
weights: too large by a factor of about `2.5 z` at z standard deviations, it is the p-value only
where there are too many units to draw. The normal and saddlepoint approximations need no draws, but
are not guaranteed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.importance import Draws, n_draws, seed_of
from radscore.stats.laws import BernoulliLaw, NullLaw
from radscore.stats.lists import HardToDrawError
from radscore.stats.moments import TILTS, Grouped, Independent, log_bound, tested
from radscore.stats.result import Evidence
from radscore.stats.stored import Stored, Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.stats.tails import FloatArray

__all__ = ["WeightedResult", "WeightedSum", "weighted_test"]

_SCALES = (1e-100, 1e100)  # so that squares are doubles
_WORDS: Final = (
    f"martingale bound (mixture of {len(TILTS)} exponential moments)",
    "exact (no unit has weight)",
    "importance sampling ({} draws)",
)


@dataclass(frozen=True, repr=False)
class WeightedResult(Evidence):
    """Result of `weighted_test`.

    Attributes
    ----------
    statistic : float
        `T = sum w (s - mean)`.
    log10_pvalue : float
        Valid for any weights; `method` says how it was computed.
    n_units : int
        Units whose weight is not 0.
    variance, zscore : float
        Variance of T under H0, and T over its root.
    log10_normal, log10_saddlepoint : float
        The same by the normal law and by Lugannani and Rice's formula: approximations; NaN if the
        formula gives no probability.
    method : str
        "exact ...", "importance sampling ...", "exponential-moment bound ..." or "martingale bound
        ...".
    tilt : float
        The l at which the bound was taken; 0 if none was needed.
    law : NullLaw
        The law of one unit's score.
    grouped : bool
        Whether units were drawn without replacement within groups.
    sum_weights, sum_squares, largest_weight : float
        `sum w`, `sum w^2` and `max |w|`.
    log10_bound : float
        log10 of a bound that needs no draws: by exponential moments, or the p-value itself where
        that is exact or a bound.
    n_draws : int
        Draws of importance sampling; 0 if the p-value has none.
    seed : str
        Of the draws, in hexadecimal.
    """

    n_units: int
    variance: float
    zscore: float
    log10_normal: float
    log10_saddlepoint: float
    method: str
    tilt: float
    law: NullLaw
    grouped: bool
    sum_weights: float
    sum_squares: float
    largest_weight: float
    log10_bound: float
    n_draws: int = 0
    seed: str = ""


def weighted_test(
    statistic: float,
    weights: npt.ArrayLike,
    law: NullLaw,
    *,
    groups: npt.ArrayLike | None = None,
    list_size: int | None = None,
    vocab_size: int | None = None,
    predictable: bool = False,
    draws: int | None = None,
    seed: str | None = None,
) -> WeightedResult:
    """Tests `T = sum_u w_u (s_u - mean)` against chance, validly for any weights.

    Parameters
    ----------
    statistic : float
        T, already centred.
    weights : array of float, shape (n_units,)
        One per distinct unit, of any sign, independent of the key. Tens of millions are fine.
    law : NullLaw
        The law of one unit's score.
    groups : array of int, shape (n_units,), optional
        Units of one group (context) read one green list, the first `list_size` entries of a
        permutation of `vocab_size`: their scores are drawn without replacement
        (:mod:`radscore.stats.lists`). Without groups all scores are independent.
    list_size, vocab_size : int, optional
        `int(gamma V)` and V, for `groups` only; their ratio must be the law's share.
    predictable : bool
        Whether weights may depend on the key, but each only on scores of earlier units (text that
        carries the tested watermark, with each context at its first occurrence). The number of
        units may depend on those scores too. The p-value is then a bound for martingales, for which
        Hoeffding's theorem 4 bounds the moments of groups with weights of both signs.
    draws : int, optional
        How many draws of importance sampling; by default 400 to 4,000, or none if 400 would take
        more than seconds (10 million green units; fewer, where a score takes several random
        numbers). With 0 the p-value is the exponential-moment bound unless it is exact.
    seed : str, optional
        Of the draws, in hexadecimal: fixed before the statistic is known, by a plan, say. By
        default the SHA-256 of weights, law and groups.

    Returns
    -------
    WeightedResult

    Raises
    ------
    ArgumentError
        If a weight is not finite, the largest is outside 1e-100 to 1e100, shapes differ, or the
        list does not fit the law.

    Notes
    -----
    W. Hoeffding, "Probability inequalities for sums of bounded random variables", 1963, theorem
    4; R. Lugannani and S. Rice, "Saddle point approximation for the distribution of the sum of
    independent random variables", 1980.

    With predictable weights ``exp(l T - K(l))`` is a supermartingale that starts at 1 for every
    fixed l, where K sums the conditional log moments; but l must not be optimised once the weights
    are known. A mixture over 193 values of l fixed beforehand is a supermartingale too, and one
    over its last value is a p-value (J. Ville, 1939; H. Robbins, "Statistical methods related to
    the law of the iterated logarithm", 1970). Compared with the bound at the best l, which is not
    valid here, it costs 1.3 digits at 3 standard deviations, 1.5 at 5, 1.8 at 10, 2.1 at 20 and 2.4
    to 2.7 at 40, if that l is between 2^-18 and 2^6; compared with an exact law, 2.2, 2.6, 3.2, 3.8
    and 4.4. Exact methods do not apply; the approximations are given for orientation.

    Examples
    --------
    >>> from fractions import Fraction
    >>> import numpy as np
    >>> from radscore.stats import BernoulliLaw
    >>> weights = np.linspace(-1.0, 1.0, 2001)
    >>> result = weighted_test(50.0, weights, BernoulliLaw(Fraction(1, 4)))
    >>> result.method
    'importance sampling (4000 draws)'
    >>> print(round(result.log10_pvalue, 1), round(result.log10_saddlepoint, 3))
    -5.4 -5.409
    >>> print(round(result.log10_bound, 3))
    -4.341
    """
    return WeightedSum(
        weights,
        law,
        groups=groups,
        list_size=list_size,
        vocab_size=vocab_size,
        draws=draws,
        seed=seed,
    ).test(statistic, predictable=predictable)


class WeightedSum:
    """The law of T under H0, for any number of statistics with the same weights.

    Parameters
    ----------
    weights, law, groups, list_size, vocab_size, draws, seed
        As for `weighted_test`. Weights and groups may be `Stored` (no weight is 0, and groups
        ascend): then they are read part by part, several times for a p-value.

    Raises
    ------
    ArgumentError
        As `weighted_test`.
    """

    def __init__(
        self,
        weights: npt.ArrayLike | Stored,
        law: NullLaw,
        *,
        groups: npt.ArrayLike | Stored | None = None,
        list_size: int | None = None,
        vocab_size: int | None = None,
        draws: int | None = None,
        seed: str | None = None,
    ) -> None:
        self._asked, self._seed = draws, seed
        self._made: Draws | None = None
        w = weights if isinstance(weights, Stored) else _checked(weights)
        if groups is None:
            if list_size is not None or vocab_size is not None:
                raise ArgumentError("list_size and vocab_size go with groups, which is missing")
            if not isinstance(w, Stored) and not w.all():
                w = w[w != 0.0]
            self._problem = Independent(w, law)
        else:
            self._problem = _grouped(w, law, groups, list_size, vocab_size)
        largest = self._problem.largest_weight
        if largest and not _SCALES[0] <= largest <= _SCALES[1]:
            raise ArgumentError(
                f"the largest weight must be from {_SCALES[0]:g} to {_SCALES[1]:g}, not "
                f"{largest:g}; multiply weights and statistic by a constant"
            )

    @property
    def has_negative(self) -> bool:
        """Whether a weight is negative."""
        return self._problem.least < 0

    def test(self, statistic: float, *, predictable: bool = False) -> WeightedResult:
        """`weighted_test` of a statistic with these weights."""
        statistic = float(statistic)
        if np.isnan(statistic):
            raise ArgumentError("statistic must be a number, not NaN")
        return _run(statistic, self._problem, self._draws, predictable=predictable)

    def _draws(self) -> Draws | None:
        """Draws of T, made once for all statistics; None if they are too many."""
        if self._made is None:
            n = n_draws(self._problem.numbers) if self._asked is None else self._asked
            if n:
                seed = seed_of(*self._problem.content) if self._seed is None else self._seed
                try:
                    self._made = Draws(self._problem, n, seed)
                except HardToDrawError:  # whatever the statistic is
                    self._asked = 0
        return self._made


def _checked(weights: npt.ArrayLike) -> FloatArray:
    w = np.ascontiguousarray(weights, dtype=np.float64)
    if w.ndim != 1:
        raise ArgumentError(f"weights must have one dimension, not {w.ndim}")
    if not np.isfinite(w).all():
        raise ArgumentError(f"weights[{int(np.flatnonzero(~np.isfinite(w))[0])}] is not finite")
    return w


def _grouped(
    w: Weights,
    law: NullLaw,
    groups: npt.ArrayLike | Stored,
    list_size: int | None,
    vocab_size: int | None,
) -> Grouped:
    if list_size is None or vocab_size is None:
        raise ArgumentError("groups need list_size and vocab_size")
    if not isinstance(law, BernoulliLaw):
        raise ArgumentError(f"groups are for green lists (BernoulliLaw), not {law}")
    if not 0 < list_size < vocab_size or law.share * vocab_size != list_size:
        raise ArgumentError(
            f"list_size / vocab_size must be the law's share {law.share}, "
            f"not {list_size} / {vocab_size}"
        )
    if isinstance(w, Stored):
        assert isinstance(groups, Stored)
        return Grouped(w, law, groups, list_size, vocab_size)
    ids = np.asarray(groups)
    if ids.shape != w.shape or not np.issubdtype(ids.dtype, np.integer):
        raise ArgumentError(
            f"groups must be integers of shape {w.shape}, not {ids.dtype} of shape {ids.shape}"
        )
    used = w != 0.0
    kept, ids = w[used], ids[used]
    if (ids[1:] < ids[:-1]).any():
        order = np.argsort(ids, kind="stable")
        kept, ids = kept[order], ids[order]
    return Grouped(kept, law, ids, list_size, vocab_size)


def _run(
    statistic: float,
    problem: Independent,
    make_draws: Callable[[], Draws | None],
    *,
    predictable: bool,
) -> WeightedResult:
    rounding = 1e-12 * problem.sum_absolute * max(1.0, problem.law.mean)

    def exact() -> tuple[float, str] | None:
        found = problem.log_exact(statistic)
        if found is None and statistic > problem.largest + rounding:
            return -np.inf, "exact (more than all scores together can give)"
        return found

    def bound(start: float) -> tuple[float, float, str]:
        log, tilt = log_bound(statistic, problem, start)
        if isinstance(problem, Grouped):
            log_lists, at = problem.log_list_bound(statistic, start)
            if log_lists < log:
                return log_lists, at, "exponential-moment bound (of lists)"
        return log, tilt, problem.bound_method

    found = tested(
        statistic,
        problem,
        exact=exact,
        bound=bound,
        draws=make_draws,
        words=_WORDS,
        rounding=rounding,
        predictable=predictable,
    )
    return WeightedResult(
        n_units=problem.n,
        law=problem.law,
        grouped=isinstance(problem, Grouped),
        sum_weights=problem.sum_weights,
        sum_squares=problem.sum_squares,
        largest_weight=problem.largest_weight,
        **found,
    )
