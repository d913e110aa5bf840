"""The plain test: a sum of unit scores against its null law."""

from __future__ import annotations

from dataclasses import dataclass

from radscore.errors import ArgumentError
from radscore.stats.intervals import ShareInterval, share_interval
from radscore.stats.laws import BernoulliLaw, NullLaw
from radscore.stats.result import result_repr

__all__ = ["SumResult", "sum_test"]


@dataclass(frozen=True, repr=False)
class SumResult:
    """What the plain test found; inputs echoed.

    Attributes
    ----------
    statistic : float
        Sum of the scores of distinct units.
    n_scored : int
    expected : float
        The statistic's mean under H0.
    zscore : float
        Distance from it in standard deviations; a summary, the p-value does not use it.
    log10_pvalue : float
        log10 of the probability under H0 of a sum at least as large.
    method : str
        How it was computed.
    law : NullLaw
    """

    statistic: float
    n_scored: int
    expected: float
    zscore: float
    log10_pvalue: float
    method: str
    law: NullLaw

    def interval(self, confidence_level: float = 0.95) -> ShareInterval | None:
        """Interval of the green share, given the key and were units green independently.

        None for other laws and where n_scored is 0; see `share_interval` for what it covers.
        """
        if not isinstance(self.law, BernoulliLaw) or not self.n_scored:
            return None
        return share_interval(int(self.statistic), self.n_scored, confidence_level)

    @property
    def pvalue(self) -> float:
        """10 to the power of `log10_pvalue`; underflows to 0 where the logarithm does not."""
        return float(10.0**self.log10_pvalue)

    def __repr__(self) -> str:
        after: dict[str, tuple[str, object]] = {"log10_pvalue": ("pvalue", self.pvalue)}
        interval = self.interval()
        if interval is not None:
            level = 100 * interval.confidence_level
            text = (
                f"share {interval.low:.10g} to {interval.high:.10g} ({level:g} %, given the key, "
                "were units green independently)"
            )
            after["law"] = ("interval", text)
        return result_repr(self, after=after)


def sum_test(statistic: float, n_scored: int, law: NullLaw) -> SumResult:
    """Test a sum of the scores of `n_scored` distinct units against its null law.

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
        If `n_scored` is negative, or more are green than scored.

    Examples
    --------
    >>> from fractions import Fraction
    >>> result = sum_test(300, 1000, BernoulliLaw(Fraction(8000, 32000)))
    >>> print(round(result.log10_pvalue, 6), round(result.interval().low, 4))
    -3.713116 0.2717
    """
    if n_scored != int(n_scored):
        raise ArgumentError(f"n_scored must be a whole number, not {n_scored}")
    n_scored = int(n_scored)
    log10_pvalue = law.log10_sf(statistic, n_scored)
    expected = n_scored * law.mean
    spread = (n_scored * law.variance) ** 0.5
    if isinstance(law, BernoulliLaw) and statistic != int(statistic):
        raise ArgumentError(f"a number of green units is whole, not {statistic}")
    if isinstance(law, BernoulliLaw) and not 0 <= statistic <= n_scored:
        raise ArgumentError(f"n_green must be from 0 to n_scored={n_scored}, not {statistic}")
    return SumResult(
        statistic=statistic,
        n_scored=n_scored,
        expected=expected,
        zscore=(statistic - expected) / spread if spread else 0.0,
        log10_pvalue=log10_pvalue,
        method=law.method,
        law=law,
    )
