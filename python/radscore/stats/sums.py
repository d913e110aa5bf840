"""The plain test: a sum of unit scores against its null law."""

from __future__ import annotations

from dataclasses import dataclass

from radscore.errors import ArgumentError
from radscore.stats.laws import BernoulliLaw, NullLaw
from radscore.stats.result import Evidence

__all__ = ["SumResult", "sum_test"]


@dataclass(frozen=True, repr=False)
class SumResult(Evidence):
    """Result of `sum_test`.

    Attributes
    ----------
    statistic : float
        Sum of the scores of distinct units.
    log10_pvalue : float
        log10 of the probability under H0 of a sum at least as large.
    n_scored : int
        Distinct units.
    expected : float
        The statistic's mean under H0.
    zscore : float
        Distance from that mean in standard deviations; a summary, not used for the p-value.
    method : str
        How the p-value was computed.
    law : NullLaw
        The law of the sum under H0.
    """

    n_scored: int
    expected: float
    zscore: float
    method: str
    law: NullLaw


def sum_test(statistic: float, n_scored: int, law: NullLaw) -> SumResult:
    """Tests a sum of the scores of `n_scored` distinct units against its null law.

    Parameters
    ----------
    statistic : float
        The sum: green units, or Gumbel or SynthID scores.
    n_scored : int
        Distinct units, at least 0.
    law : NullLaw
        The law of the sum under H0.

    Returns
    -------
    SumResult

    Raises
    ------
    ArgumentError
        If `n_scored` is negative, or more units are green than were scored.

    Examples
    --------
    >>> from fractions import Fraction
    >>> sum_test(300, 1000, BernoulliLaw(Fraction(8000, 32000)))
    SumResult
         statistic: 300
            pvalue: 0.00019359
      log10_pvalue: -3.71312
          n_scored: 1,000
          expected: 250
            zscore: 3.65148
            method: exact binomial tail
               law: BernoulliLaw(share=Fraction(1, 4))
    """
    if n_scored != int(n_scored):
        raise ArgumentError(f"n_scored must be a whole number, not {n_scored}")
    n_scored = int(n_scored)
    log10_pvalue = law.log10_sf(statistic, n_scored)
    expected = n_scored * law.mean
    spread = (n_scored * law.variance) ** 0.5
    if isinstance(law, BernoulliLaw) and statistic != int(statistic):
        raise ArgumentError(f"a number of green units must be whole, not {statistic}")
    if isinstance(law, BernoulliLaw) and not 0 <= statistic <= n_scored:
        raise ArgumentError(f"n_green must be from 0 to n_scored={n_scored}, not {statistic}")
    return SumResult(
        statistic=statistic,
        log10_pvalue=log10_pvalue,
        n_scored=n_scored,
        expected=expected,
        zscore=(statistic - expected) / spread if spread else 0.0,
        method=law.method,
        law=law,
    )
