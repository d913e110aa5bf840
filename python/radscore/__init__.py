"""radscore: which corpora and models carry a watermark, with p-values that hold."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radscore._core import __version__
from radscore.api import score
from radscore.audits.radioactivity import RadioactivityReport, radioactivity
from radscore.documents import Documents
from radscore.errors import (
    ArgumentError,
    CorpusError,
    ModelError,
    RadscoreError,
    SchemeError,
    StateError,
    StorageError,
    TokenError,
)
from radscore.kernels import available_kernels, kernel, set_kernel
from radscore.kgrams import KgramCounts, KgramSet
from radscore.results import CurvePoint, DocumentScores, ModelResult, Positions, ScoreResult
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
from radscore.scoring.evidence import decoy_test
from radscore.scoring.per_document import score_documents, score_positions
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from radscore import answers, corpus, models, stats
    from radscore.answers import ask, open_answers
    from radscore.audits.closed import test_closed
    from radscore.audits.membership import test_membership
    from radscore.audits.open import test_open
    from radscore.corpus import Corpus, inspect_corpus, open_corpus
    from radscore.runs.planning import plan_corpus

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
    "ModelResult",
    "Positions",
    "RadioactivityReport",
    "RadscoreError",
    "SGLangGumbel",
    "Scheme",
    "SchemeError",
    "ScoreResult",
    "Scorer",
    "StateError",
    "StorageError",
    "SynthID",
    "SynthIDDeepMind",
    "TextSeal",
    "TokenError",
    "VLLMDualKeyGumbel",
    "VLLMGumbel",
    "__version__",
    "answers",
    "ask",
    "available_kernels",
    "corpus",
    "decoy_test",
    "inspect_corpus",
    "kernel",
    "models",
    "open_answers",
    "open_corpus",
    "plan_corpus",
    "radioactivity",
    "score",
    "score_documents",
    "score_positions",
    "set_kernel",
    "stats",
    "test_closed",
    "test_membership",
    "test_open",
]

#: Imported when they are first asked for, since `import radscore` must be quick.
_LATER = {
    "Corpus": "radscore.corpus",
    "ask": "radscore.answers",
    "inspect_corpus": "radscore.corpus",
    "open_answers": "radscore.answers",
    "open_corpus": "radscore.corpus",
    "plan_corpus": "radscore.runs.planning",
    "test_closed": "radscore.audits.closed",
    "test_membership": "radscore.audits.membership",
    "test_open": "radscore.audits.open",
}


def __getattr__(name: str) -> Any:
    if name in ("answers", "corpus", "models", "stats"):
        return import_module(f"radscore.{name}")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'radscore' has no attribute {name!r}")
