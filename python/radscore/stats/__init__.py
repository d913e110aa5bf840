"""Null laws, and the tests, intervals and false discovery rates that build on them.

P-values are computed and reported as log10, which never underflows.
"""

from __future__ import annotations

from radscore.stats.anytime import AnytimeResult, EProcess, UnitsOfLists, anytime_test
from radscore.stats.combine import PooledUnits, mean_evalue, product_evalue
from radscore.stats.decoys import DecoyResult, decoy_test
from radscore.stats.fdr import FalseDiscoveryResult, false_discovery, holm
from radscore.stats.intervals import EffectLimit, ShareInterval, effect_limit, share_interval
from radscore.stats.laws import (
    BernoulliLaw,
    DualExponentialLaw,
    ExponentialLaw,
    NullLaw,
    moment_matched_dual_log10_sf,
)
from radscore.stats.looks import Look, Looks, NullScores
from radscore.stats.matched import MatchedResult, OneWinner, matched_test
from radscore.stats.residues import ResidueLaw
from radscore.stats.result import Evidence, Result
from radscore.stats.smirnov import SmirnovResult, smirnov_test
from radscore.stats.sums import SumResult, sum_test
from radscore.stats.synthid import SynthIDLaw
from radscore.stats.weighted import WeightedResult, weighted_test

__all__ = [
    "AnytimeResult",
    "BernoulliLaw",
    "DecoyResult",
    "DualExponentialLaw",
    "EProcess",
    "EffectLimit",
    "Evidence",
    "ExponentialLaw",
    "FalseDiscoveryResult",
    "Look",
    "Looks",
    "MatchedResult",
    "NullLaw",
    "NullScores",
    "OneWinner",
    "PooledUnits",
    "ResidueLaw",
    "Result",
    "ShareInterval",
    "SmirnovResult",
    "SumResult",
    "SynthIDLaw",
    "UnitsOfLists",
    "WeightedResult",
    "anytime_test",
    "decoy_test",
    "effect_limit",
    "false_discovery",
    "holm",
    "matched_test",
    "mean_evalue",
    "moment_matched_dual_log10_sf",
    "product_evalue",
    "share_interval",
    "smirnov_test",
    "sum_test",
    "weighted_test",
]
