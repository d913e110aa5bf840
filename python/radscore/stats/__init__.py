"""Null laws, and the tests, intervals and false discovery rates that build on them.

P-values are computed and reported as log10, which never underflows.
"""

from __future__ import annotations

from radscore.stats.decoys import DecoyResult, decoy_test
from radscore.stats.fdr import FalseDiscoveryResult, false_discovery, holm
from radscore.stats.intervals import ShareInterval, share_interval
from radscore.stats.laws import (
    BernoulliLaw,
    DualExponentialLaw,
    ExponentialLaw,
    NullLaw,
    moment_matched_dual_log10_sf,
)
from radscore.stats.matched import MatchedResult, OneWinner, matched_test
from radscore.stats.residues import ResidueLaw
from radscore.stats.result import Evidence, Result
from radscore.stats.smirnov import SmirnovResult, smirnov_test
from radscore.stats.sums import SumResult, sum_test
from radscore.stats.synthid import SynthIDLaw
from radscore.stats.weighted import WeightedResult, weighted_test

__all__ = [
    "BernoulliLaw",
    "DecoyResult",
    "DualExponentialLaw",
    "Evidence",
    "ExponentialLaw",
    "FalseDiscoveryResult",
    "MatchedResult",
    "NullLaw",
    "OneWinner",
    "ResidueLaw",
    "Result",
    "ShareInterval",
    "SmirnovResult",
    "SumResult",
    "SynthIDLaw",
    "WeightedResult",
    "decoy_test",
    "false_discovery",
    "holm",
    "matched_test",
    "moment_matched_dual_log10_sf",
    "share_interval",
    "smirnov_test",
    "sum_test",
    "weighted_test",
]
