"""The matrix of tests: open and closed, supervised or not, every share, filter and membership."""

from __future__ import annotations

import json
import time
from itertools import product
from typing import TYPE_CHECKING, Any

import radscore as rs
from radscore.answers import Answers
from radscore.audits.closed import test_closed
from radscore.audits.membership import test_membership
from radscore.audits.open import test_open
from radscore.models import load_model

from tools.experiments.bob import REFERENCE, SHARES, Bench, Suspect
from tools.experiments.settings import alice

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["DEGREES", "N_ANSWERS", "matrix"]

Ids = Any
N_READ = 128
#: The winner of the weighting study.
TRANSFORM = "roots"
CLOSED_TRANSFORMS = {"plain": None, "counts": "log", "contrast": "difference"}
N_ANSWERS = 2048
ANSWER = 96
#: Shares of the candidate members that Bob trained on.
DEGREES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
N_MEMBERS = 256
#: Numbers of tokens at which the curves test.
CURVE = (2048, 8192, 32768)


def matrix(bench: Bench) -> dict[str, Any]:
    """The test of every cell; saved as they come, so a second run continues."""
    path = bench.cache / "matrix.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def once(name: str, run: Any) -> None:
        if name in found:
            return
        started = time.monotonic()
        result = run()
        found[name] = _kept(result) | {"seconds": round(time.monotonic() - started, 2)}
        path.write_text(json.dumps(found, indent=1))
        print(name, found[name], flush=True)

    for share in SHARES:
        _open(bench, Suspect(share), once)
        _closed(bench, Suspect(share), once)
    _curves(bench, once)
    for degree, (name, who), calibration in product(
        DEGREES, (("rho-0", Suspect(0)), ("reference", REFERENCE)), ("zlib", "none")
    ):
        once(
            f"membership {calibration} {name} d={degree:g}",
            lambda who=who, degree=degree, calibration=calibration: _membership(
                bench, who, degree, calibration
            ),
        )
    return found


def _kept(result: Any) -> dict[str, Any]:
    kept = {"log10_pvalue": float(result.log10_pvalue)}
    score = getattr(result, "score", None)
    if score is not None:
        kept |= {"zscore": float(score.zscore), "n_scored": int(score.n_scored)}
        if score.weighted is not None:
            kept["log10_saddlepoint"] = float(score.weighted.log10_saddlepoint)
    return kept


def _open(bench: Bench, who: Suspect, once: Any) -> None:
    """The open tests: reading recorded watermarked text, and clean text."""
    scheme = alice(bench.recipe)
    texts = {
        "supervised": bench.texts("marked")[: _n_recorded(bench, who.share)],
        "unsupervised": bench.texts("fresh")[:N_READ],
    }
    suspect = bench.suspect(who)
    references = {"base": bench.base(), "matched": bench.suspect(REFERENCE)}
    for setting, rows in texts.items():
        for weighting in ("prediction", "mass", "contrast base", "contrast matched"):
            kind, _, other = weighting.partition(" ")
            once(
                f"open {setting} {weighting} {who.name}",
                lambda rows=rows, kind=kind, other=other, setting=setting: test_open(
                    suspect,
                    list(rows),
                    scheme,
                    reference=references.get(other),
                    weighting=kind,
                    transform=TRANSFORM if kind == "contrast" else None,
                    text_watermarked=setting == "supervised",
                ),
            )


def _n_recorded(bench: Bench, share: int) -> int:
    """How many of Alice's recorded texts are read: those that Bob trained on, at most a tenth."""
    tenth = bench.recipe.n_texts // 10
    return min(round(bench.recipe.n_texts * share / 100), tenth) or tenth


def answers_of(bench: Bench, who: Suspect, number: int = N_ANSWERS) -> Answers:
    """The suspect's answers with their prompts."""
    return Answers(
        rs.Documents.of(list(bench.answers(who, N_ANSWERS, ANSWER)[:number])),
        rs.Documents.of(list(bench.prompts("asked", N_ANSWERS)[:number])),
    )


def filters(bench: Bench) -> dict[str, rs.KgramSet]:
    """Filters: the contexts of what Bob trained on, and of other text by Alice's model."""
    width = bench.recipe.context_width
    texts = {
        "supervised": bench.texts("marked"),
        "unsupervised": bench.texts("again"),
    }
    return {name: kgrams(rows, width, bench.recipe.vocab_size) for name, rows in texts.items()}


def kgrams(rows: npt.NDArray[np.int64], width: int, vocab_size: int) -> rs.KgramSet:
    """All k-grams of marked texts."""
    documents = rs.Documents.of(list(rows))
    return rs.KgramSet.from_documents(documents, width, vocab_size, watermarked=True)


def _closed(bench: Bench, who: Suspect, once: Any) -> None:
    scheme = alice(bench.recipe)
    answers, reference = answers_of(bench, who), answers_of(bench, REFERENCE)
    phis: dict[str, rs.KgramSet | None] = {"no filter": None, **filters(bench)}
    for name, phi in phis.items():
        for weighting in ("plain", "counts", "contrast"):
            once(
                f"closed {name} {weighting} {who.name}",
                lambda phi=phi, weighting=weighting: test_closed(
                    answers,
                    scheme,
                    filter=phi,
                    reference=reference if weighting == "contrast" else None,
                    weighting=weighting,
                    transform=CLOSED_TRANSFORMS[weighting],
                ),
            )


def _curves(bench: Bench, once: Any) -> None:
    """How the evidence grows with the tokens read (10 % model) and answered (100 % model)."""
    scheme = alice(bench.recipe)
    suspect, reference = bench.suspect(Suspect(10)), bench.suspect(REFERENCE)
    length = bench.recipe.length
    for n_tokens in CURVE:
        rows = list(bench.texts("fresh")[: n_tokens // length])
        for weighting in ("prediction", "mass", "contrast"):
            once(
                f"curve open {weighting} {n_tokens}",
                lambda rows=rows, weighting=weighting: test_open(
                    suspect,
                    rows,
                    scheme,
                    reference=reference if weighting == "contrast" else None,
                    weighting=weighting,
                    transform=TRANSFORM if weighting == "contrast" else None,
                ),
            )
        number = n_tokens * 6 // ANSWER
        mine, theirs = answers_of(bench, Suspect(100), number), answers_of(bench, REFERENCE, number)
        for weighting in ("plain", "contrast"):
            once(
                f"curve closed {weighting} {number * ANSWER}",
                lambda mine=mine, theirs=theirs, weighting=weighting: test_closed(
                    mine,
                    scheme,
                    reference=theirs if weighting == "contrast" else None,
                    weighting=weighting,
                    transform=CLOSED_TRANSFORMS[weighting],
                ),
            )


def _membership(bench: Bench, who: Suspect, degree: float, calibration: Any) -> Any:
    """Candidates of which Bob trained on a share `degree`, against texts that nobody trained on.

    All are clean texts by the base model: the test needs no watermark.
    """
    bench.suspect(who)
    suspect = load_model(
        bench.cache / "suspects" / who.name,
        tokenizer=bench.cache / "tokenizer" / "tokenizer.json",
        device="cpu",
    )
    return test_membership(
        suspect,
        list(bench.texts("unmarked")[-N_MEMBERS:]),
        list(bench.texts("spare")),
        unseen=list(bench.texts("fresh")) if degree < 1 else None,
        supervision=degree,
        calibration=calibration,
    )
