"""radscore: which corpora and models carry a watermark, with p-values that hold."""

from __future__ import annotations

from radscore._core import __version__
from radscore.corpus import Corpus, inspect_corpus, open_corpus
from radscore.documents import Documents
from radscore.errors import (
    ArgumentError,
    CorpusError,
    ModelError,
    RadscoreError,
    SchemeError,
    StateError,
    TokenError,
)
from radscore.kgrams import KgramCounts, KgramSet
from radscore.per_document import score_documents, score_positions
from radscore.results import CurvePoint, DocumentScores, Positions, ScoreResult
from radscore.schemes import (
    KGW,
    SBW,
    SCHEMES,
    GumbelMax,
    Key,
    Keyed,
    Scheme,
    SGLangGumbel,
    SynthID,
    SynthIDDeepMind,
    TextSeal,
    VLLMDualKeyGumbel,
    VLLMGumbel,
)
from radscore.scoring import Scorer, decoy_test, score

__all__ = [
    "KGW",
    "SBW",
    "SCHEMES",
    "ArgumentError",
    "Corpus",
    "CorpusError",
    "CurvePoint",
    "DocumentScores",
    "Documents",
    "GumbelMax",
    "Key",
    "Keyed",
    "KgramCounts",
    "KgramSet",
    "ModelError",
    "Positions",
    "RadscoreError",
    "SGLangGumbel",
    "Scheme",
    "SchemeError",
    "ScoreResult",
    "Scorer",
    "StateError",
    "SynthID",
    "SynthIDDeepMind",
    "TextSeal",
    "TokenError",
    "VLLMDualKeyGumbel",
    "VLLMGumbel",
    "__version__",
    "decoy_test",
    "inspect_corpus",
    "open_corpus",
    "score",
    "score_documents",
    "score_positions",
]
