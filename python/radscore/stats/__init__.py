"""From statistics to evidence: null laws, tests, false discoveries.

Everything is computed and reported as log10 of a p-value, which never underflows.
"""

from __future__ import annotations

from radscore.stats.decoys import DecoyResult, decoy_test
from radscore.stats.fdr import FalseDiscoveryResult, false_discovery
from radscore.stats.intervals import ShareInterval, share_interval
from radscore.stats.laws import (
    BernoulliLaw,
    DualExponentialLaw,
    ExponentialLaw,
    NullLaw,
    SynthIDLaw,
    moment_matched_dual_log10_sf,
)
from radscore.stats.residues import ResidueLaw
from radscore.stats.smirnov import SmirnovResult, smirnov_test
from radscore.stats.sums import SumResult, sum_test
from radscore.stats.weighted import WeightedResult, weighted_test

__all__ = [
    "BernoulliLaw",
    "DecoyResult",
    "DualExponentialLaw",
    "ExponentialLaw",
    "FalseDiscoveryResult",
    "NullLaw",
    "ResidueLaw",
    "ShareInterval",
    "SmirnovResult",
    "SumResult",
    "SynthIDLaw",
    "WeightedResult",
    "decoy_test",
    "false_discovery",
    "moment_matched_dual_log10_sf",
    "share_interval",
    "smirnov_test",
    "sum_test",
    "weighted_test",
]
