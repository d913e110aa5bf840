"""radscore: which corpora and models carry a watermark, with p-values that hold."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radscore._core import __version__

if TYPE_CHECKING:
    from radscore import (
        answers,
        audits,
        corpus,
        errors,
        evidence,
        kernels,
        models,
        results,
        schemes,
        scoring,
        stats,
    )
    from radscore.answers import EndpointModel, ask, open_answers
    from radscore.api import score, score_documents
    from radscore.audits.closed import test_closed
    from radscore.audits.membership import test_membership
    from radscore.audits.open import test_open
    from radscore.audits.radioactivity import radioactivity
    from radscore.corpus import Corpus, inspect_corpus, open_corpus
    from radscore.documents import Documents
    from radscore.errors import RadscoreError
    from radscore.evidence import Audit
    from radscore.kgrams import KgramCounts, KgramSet
    from radscore.rehearsal.rehearse import rehearse
    from radscore.results import DocumentScores, ModelResult, ScoreResult
    from radscore.runs.planning import plan_corpus
    from radscore.schemes import (
        KGW,
        SBW,
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
    from radscore.scoring import Scorer, score_positions

__all__ = [  # noqa: RUF022 - grouped by use
    "__version__",
    # data
    "Corpus",
    "Documents",
    "inspect_corpus",
    "open_corpus",
    "plan_corpus",
    # schemes and keys
    "GumbelMax",
    "KGW",
    "Key",
    "Keyed",
    "SBW",
    "SGLangGumbel",
    "Scheme",
    "SynthID",
    "SynthIDDeepMind",
    "TextSeal",
    "VLLMDualKeyGumbel",
    "VLLMGumbel",
    # scoring
    "KgramCounts",
    "KgramSet",
    "Scorer",
    "score",
    "score_documents",
    "score_positions",
    # models
    "Audit",
    "EndpointModel",
    "ask",
    "open_answers",
    "radioactivity",
    "rehearse",
    "test_closed",
    "test_membership",
    "test_open",
    # results and errors
    "DocumentScores",
    "ModelResult",
    "RadscoreError",
    "ScoreResult",
    # submodules with the rest
    "answers",
    "audits",
    "corpus",
    "errors",
    "evidence",
    "kernels",
    "models",
    "results",
    "schemes",
    "scoring",
    "stats",
]

#: Where each name lives. All are imported when first asked for: `import radscore` must be quick.
_HOMES = {
    "answers": ("EndpointModel", "ask", "open_answers"),
    "api": ("score", "score_documents"),
    "audits.closed": ("test_closed",),
    "audits.membership": ("test_membership",),
    "audits.open": ("test_open",),
    "audits.radioactivity": ("radioactivity",),
    "corpus": ("Corpus", "inspect_corpus", "open_corpus"),
    "documents": ("Documents",),
    "errors": ("RadscoreError",),
    "evidence": ("Audit",),
    "kgrams": ("KgramCounts", "KgramSet"),
    "results": ("DocumentScores", "ModelResult", "ScoreResult"),
    "rehearsal.rehearse": ("rehearse",),
    "runs.planning": ("plan_corpus",),
    "schemes": (
        *("GumbelMax", "KGW", "Key", "Keyed", "SBW", "SGLangGumbel", "Scheme", "SynthID"),
        *("SynthIDDeepMind", "TextSeal", "VLLMDualKeyGumbel", "VLLMGumbel"),
    ),
    "scoring": ("Scorer", "score_positions"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        found = getattr(import_module(f"radscore.{_HOME_OF[name]}"), name)
    elif name in __all__:
        found = import_module(f"radscore.{name}")
    else:
        raise AttributeError(f"module 'radscore' has no attribute {name!r}")
    globals()[name] = found  # found at once from now on
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
