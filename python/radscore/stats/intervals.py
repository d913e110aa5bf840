"""Confidence limits of the share of green units."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from radscore.errors import ArgumentError
from radscore.stats.result import Result
from radscore.stats.tails import binomial_log_sf

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EffectLimit", "ShareInterval", "effect_limit", "share_interval"]

_ASSUMES = "given the key, units are green independently with one probability"


@dataclass(frozen=True, repr=False)
class ShareInterval(Result):
    """Clopper and Pearson's interval, with its inputs.

    Attributes
    ----------
    low, high : float
        The interval covers the share with at least the confidence level, over texts whose units are
        green independently with one probability (see `share_interval`).
    share : float
        `n_green / n_scored`.
    n_green, n_scored : int
    confidence_level : float
    """

    _derived: ClassVar[Mapping[str, str]] = {"assumes": "confidence_level"}

    low: float
    high: float
    share: float
    n_green: int
    n_scored: int
    confidence_level: float

    @property
    def assumes(self) -> str:
        """The sampling model; `share_interval` says what it does not cover."""
        return _ASSUMES

    def _brief(self) -> str:
        return f"{self.low:.6g} to {self.high:.6g}"


def share_interval(n_green: int, n_scored: int, confidence_level: float = 0.95) -> ShareInterval:
    """Clopper and Pearson's exact two-sided interval of a binomial share, for counts up to 2^53.

    Parameters
    ----------
    n_green, n_scored : int
        `0 <= n_green <= n_scored`, and at least one scored.
    confidence_level : float, default 0.95
        Between 0 and 1.

    Returns
    -------
    ShareInterval

    Raises
    ------
    ArgumentError
        If the counts or the level are outside that range.

    Notes
    -----
    The text is random here, not the key: given the key, each of `n_scored` distinct units is taken
    to be green independently of the others, all with one probability, and the interval covers that
    probability. The p-value has another model: there the text is fixed and the key random. The
    interval does not cover the luck of the key (without a watermark the share is near gamma over
    all keys, not under each one), tokens that depend on each other, other texts from the same
    source, or units with different probabilities (for their mean it is only a fair guide).

    C. Clopper and E. Pearson, "The use of confidence or fiducial limits", 1934. The search starts
    from scipy's inverse of the incomplete beta function and ends with Newton steps on our own
    binomial tail, which is exact for any count.

    Examples
    --------
    >>> share_interval(30, 100)
    ShareInterval
                   low: 0.212406
                  high: 0.399815
                 share: 0.3
               n_green: 30
              n_scored: 100
      confidence_level: 0.95
               assumes: given the key, units are green independently with one probability
    """
    n_green, n_scored = int(n_green), int(n_scored)
    if not 0 <= n_green <= n_scored or not 0 < n_scored <= 1 << 53:
        raise ArgumentError(
            "n_green and n_scored must satisfy 0 <= n_green <= n_scored, 1 <= n_scored <= 2^53, "
            f"not {n_green} and {n_scored}"
        )
    if not 0.0 < confidence_level < 1.0:
        raise ArgumentError(f"confidence_level must lie between 0 and 1, not {confidence_level}")
    tail = (1.0 - confidence_level) / 2.0
    low = _limit(n_green, n_scored, tail, lower=True) if n_green else 0.0
    high = _limit(n_green, n_scored, tail, lower=False) if n_green < n_scored else 1.0
    return ShareInterval(low, high, n_green / n_scored, n_green, n_scored, float(confidence_level))


@dataclass(frozen=True, repr=False)
class EffectLimit(Result):
    """What a count of green units excludes: see `effect_limit`.

    Attributes
    ----------
    high : float
        Upper limit of the units' mean chance to be green.
    effect : float
        The same less the null share, in standard deviations of one unit's score; at least 0.
    confidence_level : float
    """

    _derived: ClassVar[Mapping[str, str]] = {"assumes": "confidence_level"}

    high: float
    effect: float
    confidence_level: float

    @property
    def assumes(self) -> str:
        """The sampling model."""
        return "given the key, units are green independently, each with a chance of its own"

    def _brief(self) -> str:
        return (
            f"green shares above {self.high:.4g} (effects above {self.effect:.3g} standard "
            f"deviations a unit) at {100 * self.confidence_level:g} %, if units are green "
            "independently"
        )


def effect_limit(
    n_green: int, n_scored: int, share: Fraction | float, confidence_level: float = 0.95
) -> EffectLimit:
    """Clopper and Pearson's upper limit of the mean effect: what a negative result excludes.

    Parameters
    ----------
    n_green, n_scored : int
        `0 <= n_green <= n_scored`, and at least one scored.
    share : Fraction or float
        The null share.
    confidence_level : float, default 0.95
        Above 1/2 and below 1.

    Returns
    -------
    EffectLimit

    Raises
    ------
    ArgumentError
        If the counts, the share or the level are outside that range.

    Notes
    -----
    The key is given and the text random: unit u is green with a chance ``g + d_u`` of its own,
    independently of the others. The limit is above the mean of the chances with at least the
    confidence level: among such laws with one mean the binomial has the heaviest lower tail, from
    one below its mean downwards (W. Hoeffding, "On the distribution of the number of successes in
    independent trials", 1956, theorem 5). It does not cover the luck of the key: unmarked text has
    a share near g over all keys, not under each one.

    Examples
    --------
    >>> effect_limit(2520, 10_000, 0.25)
    EffectLimit
                  high: 0.259244
                effect: 0.0213486
      confidence_level: 0.95
               assumes: given the key, units are green independently, each with a chance of its own
    """
    if not 0.5 < confidence_level < 1.0:
        raise ArgumentError(f"confidence_level must lie between 1/2 and 1, not {confidence_level}")
    if not 0 < share < 1:
        raise ArgumentError(f"share must lie strictly between 0 and 1, not {share}")
    high = share_interval(n_green, n_scored, 2.0 * confidence_level - 1.0).high
    g = float(share)
    effect = max(0.0, high - g) / (g * (1.0 - g)) ** 0.5
    return EffectLimit(high, effect, float(confidence_level))


def _limit(green: int, n: int, tail: float, *, lower: bool) -> float:
    """The share q with P(S >= green) = tail (lower end) or P(S <= green) = tail (upper end)."""
    from scipy.special import betaincinv

    if lower:
        s, q = green, float(betaincinv(green, n - green + 1, tail))
    else:  # count the units that are not green; solve for q itself, since 1 - q may have few digits
        s, q = n - green, float(betaincinv(green + 1, n - green, 1.0 - tail))
    successes, trials = np.array([float(s)]), np.array([float(n)])

    def log_tail(share: float) -> float:
        exact = Fraction(share) if lower else 1 - Fraction(share)
        return float(binomial_log_sf(successes, trials, exact)[0])

    for _ in range(3):
        log_p = log_tail(q)
        beside = min(q * (1.0 + 1e-3 / np.sqrt(green + 1.0)), 0.5 * (1.0 + q))
        if not 0.0 < q < beside < 1.0:
            break  # q is the double next to an end
        slope = (log_tail(beside) - log_p) / (beside - q)
        q -= (log_p - float(np.log(tail))) / slope
    return q
