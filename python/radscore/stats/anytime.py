"""Evidence that may be looked at as often as one likes: e-values of plain sums.

Under H0 the scores of distinct units are independent draws of a law with log moments
``K(t) = log E exp(t (s - mean))``. So for every fixed t

    exp(t (S_n - n mean) - n K(t))

is a martingale that starts at 1, whatever decides which unit comes next, as long as that is not its
own score; and so is a mixture over values of t that were fixed beforehand:

    E(S, n) = sum_k pi_k exp(t_k (S - n mean) - n K(t_k)).

It reaches 1 / alpha at any time with probability at most alpha (J. Ville, 1939): reject at the
first look with E >= 1 / alpha, look as often as you like, and stop when you like. It needs the sum
and the number of distinct units alone: a new unit is one factor, and a repetition none.

The values t_k are those at which a unit's mean score is ``d_k = .0016 * 2^(k / 2)`` standard
deviations above its null mean, k = 0 to 18: for green lists with gamma = 1/2, where
``exp(t (S - n mean) - n K(t)) = (p/g)^S ((1-p)/(1-g))^(n-S)``, these are the shares
``p_k = g + .0008 * 2^(k / 2)``. Their weights are half-normal around the effect d that was planned
for, ``d_k exp(-d_k^2 / 2 d^2)``, and a twentieth is spread evenly over all, so that an effect far
larger than planned is found too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from radscore.errors import ArgumentError
from radscore.stats.laws import BernoulliLaw, NullLaw
from radscore.stats.result import Result, power_of_ten, verdict
from radscore.stats.tails import LN10, binomial_deviation

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from radscore.stats.tails import FloatArray

__all__ = ["EFFECT", "AnytimeResult", "EProcess", "UnitsOfLists", "anytime_test"]

#: The effect that is planned for where none is given, in standard deviations of one unit's score.
EFFECT: Final = 0.1
_EFFECTS: Final = 0.0016 * 2.0 ** (np.arange(19) / 2.0)
_LISTS: Final = "; units of one list are taken as independent (see the notes of anytime_test)"
_EVEN: Final = 0.05  # of the weights, spread evenly


@dataclass(frozen=True, repr=False)
class AnytimeResult(Result):
    """Result of `anytime_test`.

    Attributes
    ----------
    log10_evalue : float
        log10 of E at the last look: by so much the text has multiplied a stake on the watermark.
    log10_pvalue : float
        log10 of one over the largest E of all looks; at most 0. Valid however often one looks.
    n_scored : int
        Distinct units at the last look.
    n_looks : int
        Looks that the p-value takes into account.
    effect : float
        The effect that was planned for, in standard deviations of one unit's score.
    method : str
        What E is, and what limits it.
    """

    _derived: ClassVar[Mapping[str, str]] = {"evalue": "log10_evalue", "pvalue": "log10_evalue"}

    log10_evalue: float
    log10_pvalue: float
    n_scored: int
    n_looks: int
    effect: float
    method: str

    @property
    def evalue(self) -> float:
        """10 to the power of `log10_evalue`; infinite where that is beyond a float."""
        return float(10.0**self.log10_evalue) if self.log10_evalue < 308 else float("inf")

    @property
    def pvalue(self) -> float:
        """10 to the power of `log10_pvalue`; underflows to 0 where the logarithm does not."""
        return float(10.0**self.log10_pvalue)

    def _brief(self) -> str:
        return (
            f"e-value {power_of_ten(self.log10_evalue, 3)}; p-value "
            f"{power_of_ten(self.log10_pvalue, 3)} however often one looks: "
            f"{verdict(self.log10_pvalue)}"
        )


class EProcess:
    """E as a function of a sum and its number of units.

    Parameters
    ----------
    law : NullLaw
        The law of one unit's score.
    effect : float
        The effect d that is planned for, in standard deviations of one unit's score: fixed before
        the data are seen.

    Raises
    ------
    ArgumentError
        If the effect is not above 0.

    Examples
    --------
    >>> from fractions import Fraction
    >>> process = EProcess(BernoulliLaw(Fraction(1, 4)))
    >>> process.log10([250, 300, 400], [1000, 1000, 1000]).round(3).tolist()
    [-0.511, 2.309, 21.165]
    """

    def __init__(self, law: NullLaw, effect: float = EFFECT) -> None:
        if not 0.0 < effect < np.inf:
            raise ArgumentError(f"effect must be a number above 0, not {effect}")
        self.law, self.effect = law, float(effect)
        root = law.variance**0.5
        effects = _EFFECTS[_EFFECTS * root < 0.999 * (law.bounds[1] - law.mean)]
        log_prior = np.log(effects) - 0.5 * (effects / effect) ** 2
        prior = np.exp(log_prior - log_prior.max())
        #: The weight of each tilt; they add up to 1.
        self.weights: FloatArray = (1 - _EVEN) * prior / prior.sum() + _EVEN / len(effects)
        #: The tilts t_k.
        self.tilts: FloatArray = _tilts(law, effects * root)
        self._k = law.cumulants(self.tilts)[0]

    def log10(self, statistic: npt.ArrayLike, n_scored: npt.ArrayLike) -> Any:
        """log10 E after so many units with such a sum; arrays are broadcast.

        Raises
        ------
        ArgumentError
            If a number of units is negative, or a sum is not finite.
        """
        s, n = np.broadcast_arrays(
            np.asarray(statistic, dtype=np.float64), np.asarray(n_scored, dtype=np.float64)
        )
        if not (np.isfinite(s).all() and np.isfinite(n).all() and (n >= 0).all()):
            raise ArgumentError("sums must be finite, and numbers of units not negative")
        if isinstance(self.law, BernoulliLaw):
            excess = binomial_deviation(s.ravel(), n.ravel(), self.law.share).reshape(s.shape)
        else:
            excess = s - n * self.law.mean
        gain, cost = self.tilts * excess[..., None], self._k * n[..., None]
        # rounding must not make E larger than it is
        logs = gain - cost - 1e-13 * (np.abs(gain) + cost)
        log = _log_mean(logs, self.weights) / LN10 + 0.0
        return float(log) if s.ndim == 0 else log


def _tilts(law: NullLaw, shifts: FloatArray) -> FloatArray:
    """Where the mean score exceeds its null mean by the shifts, by bisection."""
    low, high = np.zeros_like(shifts), np.full_like(shifts, 1.0)
    for _ in range(200):
        first = law.cumulants(high)[1]
        short = np.isfinite(first) & (first < shifts)
        if not short.any():
            break
        high[short] *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        first = law.cumulants(middle)[1]
        below = np.isfinite(first) & (first < shifts)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def _log_mean(logs: FloatArray, weights: FloatArray) -> FloatArray:
    """``log sum weights exp(logs)`` over the last axis."""
    top = logs.max(axis=-1, keepdims=True)
    total: FloatArray = np.log(np.exp(logs - top) @ weights) + top[..., 0]
    return total


def anytime_test(
    statistic: npt.ArrayLike,
    n_scored: npt.ArrayLike,
    law: NullLaw,
    *,
    effect: float = EFFECT,
    lists: bool = False,
) -> AnytimeResult:
    """Tests a sum of scores so that it may be looked at again after more units.

    Parameters
    ----------
    statistic : float or array of float, shape (n_looks,)
        The sum of the scores of distinct units at each look so far.
    n_scored : int or array of int, shape (n_looks,)
        Distinct units at each look, ascending: those of a look are among those of the next.
    law : NullLaw
        The law of one unit's score.
    effect : float
        The effect that is planned for, in standard deviations of one unit's score, chosen before
        the data were seen. (Text marked with gamma = 1/4 and 35 % green units has 0.23; if 5 % of a
        corpus are such text, it has 0.012.)
    lists : bool
        Whether units of one context are drawn without replacement, for `method`; see below.

    Returns
    -------
    AnytimeResult

    Raises
    ------
    ArgumentError
        If shapes differ, there is no look, numbers of units descend, or `effect` is not above 0.

    Notes
    -----
    J. Ville, "Étude critique de la notion de collectif", 1939; H. Robbins, "Statistical methods
    related to the law of the iterated logarithm", 1970. Of all numbers of units at which E may be
    looked at, only those that were looked at count.

    Where units are drawn without replacement (tokens of one green list), the sum is smaller in the
    convex order (W. Hoeffding, 1963), so at any one look E is an e-value as well. It is no
    martingale between looks, though: a list that showed few green tokens has more left. In small
    lists that were enumerated to the end, E reached 1 / alpha with a probability of at most alpha
    for every alpha up to 1/2 (at .98 it was .985, with lists of two tokens). `UnitsOfLists`
    follows the lists, and has no such limit.

    Examples
    --------
    >>> from fractions import Fraction
    >>> anytime_test([60, 131, 205], [200, 400, 600], BernoulliLaw(Fraction(1, 4)))
    AnytimeResult
      log10_evalue: 4.53866
            evalue: 34567.1
            pvalue: 2.89292e-05
      log10_pvalue: -4.53866
          n_scored: 600
           n_looks: 3
            effect: 0.1
            method: mixture of likelihood ratios
    """
    s, n = np.atleast_1d(np.asarray(statistic)), np.atleast_1d(np.asarray(n_scored))
    if s.ndim != 1 or s.shape != n.shape or not len(s):
        raise ArgumentError(
            f"statistic and n_scored must have one number for each look, not shapes {s.shape} and "
            f"{n.shape}"
        )
    if (n[1:] < n[:-1]).any():
        raise ArgumentError("n_scored must not descend from look to look")
    logs = EProcess(law, effect).log10(s, n)
    return AnytimeResult(
        log10_evalue=float(logs[-1]),
        log10_pvalue=min(0.0, -float(logs.max())) + 0.0,
        n_scored=int(n[-1]),
        n_looks=len(s),
        effect=float(effect),
        method=f"mixture of likelihood ratios{_LISTS if lists else ''}",
    )


class UnitsOfLists:
    """E of green units that are drawn without replacement from lists, chosen as one likes.

    The first `list_size` entries of a permutation of `vocab_size` tokens are green in one context.
    After some tokens of a list were seen, the next one is green with probability (green tokens
    left) / (tokens left): that share, and not gamma, is each factor's null share. So it may depend
    on everything seen which unit is next, as when prompts are chosen after answers were scored.

    Parameters
    ----------
    list_size, vocab_size : int
        `int(gamma V)` and V.
    effect : float
        As for `EProcess`.

    Examples
    --------
    >>> process = UnitsOfLists(list_size=25, vocab_size=100)
    >>> process.add([7, 7, 9, 7], [True, True, False, True])
    >>> round(process.log10_evalue, 4)
    0.1672
    """

    def __init__(self, list_size: int, vocab_size: int, effect: float = EFFECT) -> None:
        from fractions import Fraction

        if not 0 < list_size < vocab_size:
            raise ArgumentError(
                f"list_size must be from 1 to vocab_size - 1, not {list_size} of {vocab_size}"
            )
        self.size, self.vocab = int(list_size), int(vocab_size)
        process = EProcess(BernoulliLaw(Fraction(self.size, self.vocab)), effect)
        self._tilts, self._weights = process.tilts, process.weights
        self._logs: FloatArray = np.zeros_like(self._tilts)
        self._seen: dict[Any, tuple[int, int]] = {}
        self.n_scored, self.log10_largest = 0, 0.0

    def add(self, groups: npt.ArrayLike, green: npt.ArrayLike) -> None:
        """Takes distinct units in the order in which they were looked at.

        Parameters
        ----------
        groups : array, shape (n,)
            Name of the list (context) of each.
        green : array of bool, shape (n,)
            Whether it is green.

        Raises
        ------
        ArgumentError
            If shapes differ, or a list has more tokens, or green ones, than there can be.
        """
        names, found = np.asarray(groups), np.asarray(green, dtype=np.bool_)
        if names.ndim != 1 or names.shape != found.shape:
            raise ArgumentError(
                f"groups and green must have one shape (n,), not {names.shape} and {found.shape}"
            )
        for name, is_green in zip(names.tolist(), found.tolist(), strict=True):
            seen, greens = self._seen.get(name, (0, 0))
            left, green_left = self.vocab - seen, self.size - greens
            if not (green_left if is_green else left - green_left):
                raise ArgumentError(f"list {name!r} has more units than there are tokens")
            share = green_left / left
            # a factor's mean over the next score is 1
            log_norm = np.log1p(share * np.expm1(self._tilts))
            self._logs = self._logs + (self._tilts if is_green else 0.0) - log_norm
            self._seen[name] = seen + 1, greens + is_green
            self.n_scored += 1
            self.log10_largest = max(self.log10_largest, self.log10_evalue)

    @property
    def log10_evalue(self) -> float:
        """log10 E after what was added."""
        return float(_log_mean(self._logs, self._weights)) / LN10

    @property
    def log10_pvalue(self) -> float:
        """log10 of one over the largest E so far: a p-value however often one looks."""
        return -self.log10_largest + 0.0
