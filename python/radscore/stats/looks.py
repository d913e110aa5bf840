"""A fixed number of looks at a weighted sum whose weights grow from look to look.

Under the rule ``sum`` the weight of a unit grows after its score was seen, so the e-values of
:mod:`radscore.stats.anytime` do not hold. What holds is this. Fix K looks. Given the weights
W_1, ..., W_K, which do not depend on the key, the statistics ``T_k = W_k (s - mean)`` share the
scores s. Their joint law is that of the same statistics under other keys, or under scores that are
drawn: M vectors which are exchangeable with the observed one. Alpha is spent over the looks: with
t_k the share of the information that look k has,

    alpha(t) = 2 - 2 Phi(z_(alpha / 2) / sqrt(t))

up to look k (K. Lan and D. DeMets, "Discrete sequential boundaries for clinical trials", 1983: the
spending function of O'Brien and Fleming's type). Look k rejects the vectors with the largest T_k
among those that no look before has rejected, so many that no more than floor((M + 1) alpha(t_k)) of
the M + 1 are rejected in all. The rule does not know which of them was observed, so that one is
rejected with a probability of at most alpha, whatever M is.

Weights of later looks are not known at earlier ones, and need not be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from radscore.errors import ArgumentError
from radscore.stats.importance import draw_scores
from radscore.stats.result import Result

if TYPE_CHECKING:
    import numpy.typing as npt

    from radscore.stats.laws import NullLaw
    from radscore.stats.tails import FloatArray

__all__ = ["Look", "Looks", "NullScores", "spent"]

_BLOCK = 4096


def spent(alpha: float, information: npt.ArrayLike) -> FloatArray:
    """The level spent up to shares of the information, by O'Brien and Fleming's type of spending.

    Parameters
    ----------
    alpha : float
        The level of all looks together.
    information : array of float
        Shares from 0 to 1.

    Examples
    --------
    >>> spent(0.05, [0.2, 0.6, 1.0]).round(5).tolist()
    [1e-05, 0.0114, 0.05]
    """
    from scipy.stats import norm

    t = np.asarray(information, dtype=np.float64)
    return np.asarray(2.0 * norm.sf(norm.isf(alpha / 2.0) / np.sqrt(t)))


@dataclass(frozen=True, repr=False)
class Look(Result):
    """What one look showed.

    Attributes
    ----------
    number : int
        Of the look, from 1.
    statistic, critical : float
        T_k, and the value above which this look rejects; infinite where the level that is spent so
        far is below 1 / (M + 1).
    level : float
        Spent up to this look.
    rejects : bool
        Whether this look, or one before, rejects.
    """

    _question: ClassVar[str] = "does the key score higher than chance, at a planned look?"

    number: int
    statistic: float
    critical: float
    level: float
    rejects: bool

    @property
    def verdict(self) -> str:
        """Whether there is evidence at the level of all looks, in words."""
        return "evidence at the planned level" if self.rejects else "no evidence so far"

    def _brief(self) -> str:
        return f"look {self.number}: {self.verdict}"


class Looks:
    """The test at up to K looks.

    Parameters
    ----------
    information : sequence of float
        Planned shares of the information at each look, ascending to 1: of the answers that are
        asked for, say. Fixed before the first look; the level is spent by them, whatever the
        weights turn out to be.
    alpha : float
        The level of all looks together.

    Attributes
    ----------
    results : list of Look
        Of the looks so far.

    Raises
    ------
    ArgumentError
        If the shares do not ascend to 1, or alpha is not between 0 and 1.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from radscore.stats import BernoulliLaw
    >>> law, looks = BernoulliLaw(Fraction(1, 2)), Looks([0.5, 1.0], alpha=0.05)
    >>> null = NullScores(law, 999, seed="1")
    >>> looks.look(8.0, null.sums([1.0] * 100)).rejects
    False
    >>> looks.look(30.0, null.sums([2.0] * 100 + [1.0] * 50)).rejects
    True
    """

    def __init__(self, information: npt.ArrayLike, *, alpha: float = 0.01) -> None:
        t = np.asarray(information, dtype=np.float64)
        if t.ndim != 1 or not len(t) or not (np.diff(t, prepend=0.0) > 0).all() or t[-1] != 1.0:
            raise ArgumentError(f"information must ascend from above 0 to 1, not {information!r}")
        if not 0.0 < alpha < 1.0:
            raise ArgumentError(f"alpha must lie between 0 and 1, not {alpha}")
        self._levels = spent(alpha, t)
        self._alive: npt.NDArray[np.bool_] | None = None  # the observed one is the last
        self.results: list[Look] = []

    def look(self, statistic: float, others: npt.ArrayLike) -> Look:
        """The next look.

        Parameters
        ----------
        statistic : float
            T_k, centred.
        others : array of float, shape (M,)
            The same with the same weights under M decoy keys, or drawn scores (`NullScores`): in
            the same order at every look. A test at level alpha needs `1 / (M + 1)` below that.

        Raises
        ------
        ArgumentError
            If all looks were taken, M differs from that of the look before, or a number is not
            finite.
        """
        number = len(self.results) + 1
        values = np.append(np.asarray(others, dtype=np.float64), float(statistic))
        if number > len(self._levels):
            raise ArgumentError(f"all {len(self._levels)} planned looks were taken")
        if self._alive is None:
            self._alive = np.ones(len(values), dtype=np.bool_)
        if values.shape != self._alive.shape:
            raise ArgumentError(
                f"others must be {len(self._alive) - 1} numbers, as before, not {len(values) - 1}"
            )
        if not np.isfinite(values).all():
            raise ArgumentError("statistic and others must be finite")
        level = float(self._levels[number - 1])
        # half an ulp must not cost a rejection
        allowed = int(np.floor(len(values) * level + 1e-9))
        left = allowed - int((~self._alive).sum())
        alive = np.sort(values[self._alive])
        critical = float("inf")
        if left > 0:
            critical = float(alive[-left - 1]) if left < len(alive) else -np.inf
        self._alive &= ~(values > critical)
        result = Look(number, float(statistic), critical, level, not self._alive[-1])
        self.results.append(result)
        return result


class NullScores:
    """M vectors of scores under H0: the same at every look, however many units there are by then.

    They are not kept, but drawn again from the seed for each sum, which takes a nanosecond or two
    for a unit and a vector.

    Parameters
    ----------
    law : NullLaw
        The law of one unit's score; units are independent.
    n : int
        M.
    seed : str
        In hexadecimal: fixed before the scores were seen, by a plan, say.
    """

    def __init__(self, law: NullLaw, n: int, seed: str) -> None:
        self._law, self._n, self._seed = law, n, int(seed, 16)

    def sums(self, weights: npt.ArrayLike) -> FloatArray:
        """``W_k (s - mean)`` for each vector, shape (M,).

        Parameters
        ----------
        weights : array of float, shape (n_units,)
            Units of earlier looks come first, in the same order as there; 0 for those that lost
            their weight.
        """
        w = np.asarray(weights, dtype=np.float64)
        total = np.full(self._n, -self._law.mean * float(w.sum()))
        for block, start in enumerate(range(0, len(w), _BLOCK)):
            part = w[start : start + _BLOCK]
            rng = np.random.Generator(np.random.PCG64([self._seed, block]))
            for row in range(0, self._n, 128):
                rows = min(128, self._n - row)
                # whole blocks, so that a unit has the same scores when others have joined
                scores = draw_scores(rng, self._law, (rows, _BLOCK))
                total[row : row + rows] += scores[:, : len(part)] @ part
        return total
