"""The result of one look, from the files that an audit keeps: when run, and when verified."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.answers import Answers, open_answers
from radscore.audits.closed import test_closed
from radscore.audits.open import test_open
from radscore.errors import StateError, line_of
from radscore.evidence.drawing import seed_of
from radscore.files import drafted
from radscore.kgrams import KgramSet
from radscore.models.listed import Listed
from radscore.scoring.anytime import with_anytime

if TYPE_CHECKING:
    from pathlib import Path

    from radscore.evidence.plan import Plan
    from radscore.schemes import Scheme

__all__ = [
    "PREDICTIONS",
    "answers_of",
    "head_hash",
    "load_lists",
    "log10_pvalue",
    "reaches",
    "save_lists",
    "score_answers",
    "score_predictions",
]

PREDICTIONS: Final = "predictions.arrow"
#: What depends on time or place, is for display, or lets weak keys be guessed.
_LEFT_OUT: Final = frozenset(
    (
        "provenance",
        "version",
        "curve",
        "fingerprint",
        "model",
        "reference",
        "unfiltered",
        "filtered",
    )
)


def head_hash(path: Path, size: int) -> str:
    """The SHA-256 of the first bytes of a file."""
    found, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while left and (piece := file.read(min(left, 1 << 20))):
            found.update(piece)
            left -= len(piece)
    if left:
        raise StateError(f"{path}: shorter than the {size:,} bytes that the log names")
    return found.hexdigest()


def answers_of(journal: Path, size: int, tokenizer: Path, scratch: Path) -> Answers:
    """The answers in the first bytes of a journal."""
    part = scratch / "answers-of-one-look.jsonl"
    with drafted(part) as temporary, journal.open("rb") as file:
        temporary.write_bytes(file.read(size))
    try:
        return open_answers(part, tokenizer=tokenizer)
    finally:
        part.unlink(missing_ok=True)


def save_lists(path: Path, lists: Listed) -> None:
    """Keeps what a reference expects at every token of some answers."""
    with drafted(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, offsets=lists.offsets, ids=lists.ids, logprobs=lists.logprobs)


def load_lists(path: Path) -> Listed:
    """What `save_lists` kept.

    Raises
    ------
    StateError
        If the file does not hold such lists.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return Listed(found["offsets"], found["ids"], found["logprobs"])
    except Exception as error:  # noqa: BLE001 - whatever a damaged archive raises
        raise StateError(f"{path}: not a reference's lists: {line_of(error)}") from None


def score_answers(
    plan: Plan,
    scheme: Scheme,
    answers: Answers,
    lists: list[Listed],
    phi: Path | None,
    *,
    sources: tuple[str, ...],
) -> dict[str, Any]:
    """The planned test of answers, JSON-able; `sources` is what the decoys' seed is made of."""
    test = plan.content["test"]
    reference = None
    if lists:
        reference = Answers(answers.documents, answers.prompts, listed=Listed.joined(lists))
    result = test_closed(
        answers,
        scheme,
        filter=None if phi is None else KgramSet.load(phi),
        reference=reference,
        weighting=test["weighting"],
        decoys=plan.content["decoys"]["number"],
        decoy_seed=_decoy_seed(plan, sources),
    )
    if test["anytime"] is not None:
        result = result.replace(score=with_anytime(result.score, scheme, test["anytime"]))
    return _kept(result)


def log10_pvalue(result: dict[str, Any]) -> float | None:
    """That by which a look is decided: of the e-value, where one was planned."""
    e = result["score"].get("anytime")
    found: float | None = (e or result)["log10_pvalue"]
    return found


def reaches(result: dict[str, Any], level: float) -> bool:
    """Whether a look's result reaches its level."""
    log10 = log10_pvalue(result)
    return log10 is not None and log10 <= math.log10(level) + 1e-14


def score_predictions(
    plan: Plan, scheme: Scheme, path: Path, sources: tuple[str, ...]
) -> dict[str, Any]:
    """The planned test of a reading, JSON-able."""
    result = test_open(
        None,
        None,
        scheme,
        from_file=path,
        decoys=plan.content["decoys"]["number"],
        decoy_seed=_decoy_seed(plan, sources),
    )
    return _kept(result)


def _decoy_seed(plan: Plan, sources: tuple[str, ...]) -> int:
    return int(seed_of("decoys", plan.sha256, *sources)[:16], 16)


def _kept(result: Any) -> dict[str, Any]:
    """A result without what is not evidence, or tells of the key."""
    found: dict[str, Any] = _without(result.to_dict())
    return found


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(one) for name, one in value.items() if name not in _LEFT_OUT}
    return [_without(one) for one in value] if isinstance(value, list) else value
