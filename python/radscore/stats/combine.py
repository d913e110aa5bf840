"""Several tests in one: what may be combined under one key, and how.

Tests under one key share its draws, so their p-values depend on each other in ways that nobody
knows: open and closed tests of one model, a test of its corpus, batches with common units. Valid
whatever they share are:

- *pooled weights*, the strongest: one weighted test over the union of their units, with the weight
  ``w = sum_j c_j w^(j) / sigma_j`` of a unit, where w^(j) are the weights of test j (0 for units
  that it lacks), sigma_j is the standard deviation of its sum, and the c_j were fixed beforehand
  (`PooledUnits`);
- the *mean of e-values* (`mean_evalue`; V. Vovk and R. Wang, "E-values: calibration, combination
  and applications", 2021);
- Bonferroni's and Holm's corrections (`radscore.stats.holm`).

Independent draws, and so *products of e-values* (`product_evalue`), are only what batches without a
common unit have, and tests under keys that were drawn independently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.tails import LN10
from radscore.stats.weighted import WeightedResult, WeightedSum

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from radscore.stats.laws import NullLaw
    from radscore.stats.tails import FloatArray

__all__ = ["PooledUnits", "mean_evalue", "product_evalue"]


def mean_evalue(log10_evalues: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """log10 of the weighted mean of e-values: an e-value, whatever they have in common.

    Parameters
    ----------
    log10_evalues : array of float, shape (n,)
        Of each test; -inf stands for 0.
    weights : array of float, shape (n,), optional
        Fixed before the data are seen, not negative; they are brought to a sum of 1. Equal by
        default.

    Raises
    ------
    ArgumentError
        If there is no e-value, one is NaN, or weights do not fit.

    Examples
    --------
    >>> round(mean_evalue([2.0, -1.0, 5.0]), 4)
    4.5233
    """
    logs = _logs(log10_evalues)
    shares = np.ones(len(logs)) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != logs.shape or not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise ArgumentError(f"weights must be {len(logs)} numbers, none negative")
    if not shares.sum() > 0:
        raise ArgumentError("weights must not all be 0")
    top = float(logs[shares > 0].max())
    if np.isinf(top):
        return top
    kept = shares > 0
    mean = np.exp((logs[kept] - top) * LN10) @ (shares[kept] / shares.sum())
    return top + float(np.log10(mean))


def product_evalue(log10_evalues: npt.ArrayLike) -> float:
    """log10 of the product of e-values of batches that have no unit in common.

    For text that arrives this is rarely needed: the e-value of all its distinct units
    (`radscore.stats.anytime_test`) takes common units into account and is the larger one.

    Parameters
    ----------
    log10_evalues : array of float, shape (n,)
        Of each batch.

    Raises
    ------
    ArgumentError
        If there is no e-value, or one is NaN.

    Examples
    --------
    >>> product_evalue([2.0, -1.0, 5.0])
    6.0
    """
    logs = _logs(log10_evalues)
    return -np.inf if np.isneginf(logs).any() else float(logs.sum())


def _logs(log10_evalues: npt.ArrayLike) -> FloatArray:
    logs = np.asarray(log10_evalues, dtype=np.float64)
    if logs.ndim != 1 or not len(logs) or np.isnan(logs).any():
        raise ArgumentError("log10_evalues must be one number for each test, none of them NaN")
    return logs


class PooledUnits:
    """One weighted test over the units of several tests under one key.

    Parameters
    ----------
    law : NullLaw
        The law of one unit's score.
    shares : iterable of float
        c_j for each test, fixed beforehand and none negative: how much each is trusted.
    list_size, vocab_size : int, optional
        As for `radscore.stats.weighted_test`, if units of one context are drawn without
        replacement.

    Notes
    -----
    With a `Scorer` the same is one scorer with ``combine="sum"`` to which the windows of all tests
    are added, with weights times ``c_j / sigma_j``; sigma_j is known from a scorer of each test.

    Examples
    --------
    Two tests that share a unit:

    >>> from fractions import Fraction
    >>> from radscore.stats import BernoulliLaw
    >>> pooled = PooledUnits(BernoulliLaw(Fraction(1, 2)), shares=[1.0, 1.0])
    >>> pooled.add(0, units=["a", "b"], weights=[1.0, 1.0], scores=[1, 0])
    >>> pooled.add(1, units=["b", "c"], weights=[0.5, 2.0], scores=[0, 1])
    >>> result = pooled.test()
    >>> result.n_units, round(result.statistic, 4)
    (3, 0.7276)
    """

    def __init__(
        self,
        law: NullLaw,
        shares: Iterable[float],
        *,
        list_size: int | None = None,
        vocab_size: int | None = None,
    ) -> None:
        self._law, self._shares = law, [float(share) for share in shares]
        self._shape = list_size, vocab_size
        if not self._shares or not all(0 <= share < np.inf for share in self._shares):
            raise ArgumentError("shares must be finite and not negative, one for each test")
        self._weights: list[dict[Hashable, float]] = [{} for _ in self._shares]
        self._scores: dict[Hashable, float] = {}
        self._groups: dict[Hashable, int] = {}

    def add(
        self,
        test: int,
        units: Iterable[Hashable],
        weights: npt.ArrayLike,
        scores: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
    ) -> None:
        """Takes distinct units of one of the tests.

        Parameters
        ----------
        test : int
            Its number, from 0.
        units : iterable
            Names that are the same in every test: the windows' tokens, say.
        weights : array of float, shape (n,)
            Independent of the key.
        scores : array of float, shape (n,)
            The score of each unit under the key.
        groups : array of int, shape (n,), optional
            The list of each unit, for `list_size`; the same in every test.

        Raises
        ------
        ArgumentError
            If shapes differ, a weight is not finite, a unit comes twice in a test, or has two
            scores.
        """
        names = list(units)
        w, s = np.asarray(weights, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if not w.shape == s.shape == (len(names),):
            raise ArgumentError(
                f"units, weights and scores must have one length, not {len(names)}, {w.shape} and "
                f"{s.shape}"
            )
        if not np.isfinite(w).all():
            raise ArgumentError("weights must be finite")
        own = self._weights[test]
        for name, weight, score in zip(names, w.tolist(), s.tolist(), strict=True):
            if name in own:
                raise ArgumentError(f"unit {name!r} comes twice in test {test}")
            if self._scores.setdefault(name, score) != score:
                raise ArgumentError(
                    f"unit {name!r} has the scores {self._scores[name]:g} and {score:g}: tests "
                    "are pooled under one key"
                )
            own[name] = weight
        if groups is not None:
            self._groups.update(zip(names, np.asarray(groups).tolist(), strict=True))

    def test(self, *, draws: int | None = None, seed: str | None = None) -> WeightedResult:
        """The weighted test of all units; see `radscore.stats.weighted_test`."""
        pooled: dict[Hashable, float] = {}
        for share, own in zip(self._shares, self._weights, strict=True):
            root = (self._law.variance * sum(weight * weight for weight in own.values())) ** 0.5
            if root > 0.0:
                for name, weight in own.items():
                    pooled[name] = pooled.get(name, 0.0) + share * weight / root
        w = np.array(list(pooled.values()))
        scores = np.array([self._scores[name] for name in pooled])
        statistic = float(w @ (scores - self._law.mean)) if len(w) else 0.0
        size, vocab = self._shape
        return WeightedSum(
            w,
            self._law,
            groups=None if size is None else np.array([self._groups[name] for name in pooled]),
            list_size=size,
            vocab_size=vocab,
            draws=draws,
            seed=seed,
        ).test(statistic)
