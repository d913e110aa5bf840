"""The readable twin of everything between documents and tally: slow, plain, and the definition.

The compiled core is held to it by property tests. Nothing here is fast, nothing is approximate,
and nothing is shared with the core. The public package never computes with it.
"""

from tests.twin.pipeline import (
    DocumentTally,
    Rules,
    Scorer,
    Tally,
    count_kgrams,
    curve,
    per_document,
    positions,
    top_kgrams,
    windows_of,
)
from tests.twin.schemes import (
    HFKGW,
    SBW,
    AuthorsKGW,
    GumbelMax,
    Keyed,
    LmWatermarking,
    Scheme,
    SGLangGumbel,
    SynthID,
    SynthIDDeepMind,
    TextSeal,
    VLLMDualKeyGumbel,
    VLLMGumbel,
)

__all__ = [
    "HFKGW",
    "SBW",
    "AuthorsKGW",
    "DocumentTally",
    "GumbelMax",
    "Keyed",
    "LmWatermarking",
    "Rules",
    "SGLangGumbel",
    "Scheme",
    "Scorer",
    "SynthID",
    "SynthIDDeepMind",
    "Tally",
    "TextSeal",
    "VLLMDualKeyGumbel",
    "VLLMGumbel",
    "count_kgrams",
    "curve",
    "per_document",
    "positions",
    "top_kgrams",
    "windows_of",
]
