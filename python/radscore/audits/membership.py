"""`test_membership`: does the suspect know these documents better than others like them?

No watermark is needed, but no key was drawn at random either: the p-value rests on the assumption
that both sides come from one distribution.
"""

# ruff: noqa: PT028 - `test_membership` is not one of pytest's

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from radscore.audits.membership_plot import draw
from radscore.audits.membership_sides import drop_copies, drop_repeated, mixed
from radscore.checks import check_choice
from radscore.documents import check_width
from radscore.errors import ArgumentError, TokenError
from radscore.models.loading import as_language_model
from radscore.models.losses import (
    Sentences,
    as_documents,
    cut,
    document_losses,
    zlib_lengths,
)
from radscore.progress import Progress
from radscore.provenance import provenance
from radscore.stats.result import Evidence
from radscore.stats.smirnov import smirnov_test

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from radscore.models.loading import LanguageModel

__all__ = ["MembershipResult", "test_membership"]

Calibration: TypeAlias = Literal["zlib", "none"]
Unit: TypeAlias = Literal["sentence", "document"]

#: Below this p-value the sides are said to differ in something that they should share.
_DIFFERENT: Final = 0.01
_MOST_BINS: Final = 60
#: If even the rarest of all orders is more likely than this, the result says so.
_FEWEST: Final = 1e-6

_ASSUMES: Final = (
    "assumes that members and nonmembers are independent draws from one distribution of texts, so "
    "only training can set them apart; no key was drawn at random, so unlike a watermark's p-value "
    "this one rests on that assumption"
)
_LENGTHS: Final = (
    "documents of the two sides differ in length (p = {p:.2g}): they may not come from one "
    "distribution, in which case the p-value says nothing about training"
)
_RATIOS: Final = (
    "sentences of the two sides compress differently (p = {p:.2g}): they may not come from one "
    "distribution, in which case the p-value says nothing about training"
)
_DEPENDENT: Final = (
    "sentences of one document resemble each other (up to {most} of one document here), so they "
    "are not independent draws and there is no valid p-value; unit='document' counts each document "
    "once"
)
_NO_PVALUE: Final = "none: sentences of one document are not independent draws"
_BOTH: Final = (
    "{n} sentences of the nonmembers are among the members too: they are no fresh text, and hide a "
    "difference"
)
_NO_TEXT: Final = "the model has no tokenizer, so zlib compressed the ids in place of the text"
_FEW: Final = "with {m} and {n} values no p-value can be below {least:.2g}"


@dataclass(frozen=True, repr=False, eq=False)
class MembershipResult(Evidence):
    """Result of a membership test.

    Attributes
    ----------
    statistic : float
        The largest difference between the distribution functions of the calibrated loss, members'
        less nonmembers': 0 if members' losses are nowhere lower, 1 if they all are.
    log10_pvalue : float
        log10 of the probability under H0 (to the model, members and nonmembers are alike) of a
        statistic at least as large. NaN if sentences are the units and a document has several.
    method : str
        How the p-value was computed.
    calibration, length, unit : str, int, str
        The rules.
    supervision : float
        The degree d: the share of `members` claimed to have been in the suspect's training.
    n_members, n_nonmembers : int
        Sentences or documents that were compared.
    member_loss, nonmember_loss : float
        Mean losses, in nats per token.
    member_score, nonmember_score : float
        Mean calibrated losses.
    implied_statistic : float
        ``statistic / supervision``, at most 1: how far apart the true members would be if the
        claimed degree is right, since a mixture with a share d of members differs by at most d.
    thresholds : ndarray of float64, shape (n_bins + 1,)
        Edges of the histogram's bins.
    member_counts, nonmember_counts : ndarray of int64, shape (n_bins,)
        The histogram of the calibrated losses of both sides.
    removed : dict
        Documents shorter than a sentence, tokens of unfinished sentences, and copies, by side.
    model : str
        The suspect's fingerprint.
    notes : tuple of str
        What the result assumes, and what speaks against that.
    member_scores, nonmember_scores : ndarray of float64
        The calibrated losses themselves, in the order of the texts; not part of `to_dict`.
    """

    _unsaved: ClassVar[tuple[str, ...]] = ("member_scores", "nonmember_scores")
    _hidden: ClassVar[tuple[str, ...]] = (
        *_unsaved,
        "thresholds",
        "member_counts",
        "nonmember_counts",
    )
    _question: ClassVar[str] = "are the model's losses on the members lower than on the nonmembers?"

    method: str
    calibration: str
    length: int
    unit: str
    supervision: float
    n_members: int
    n_nonmembers: int
    member_loss: float
    nonmember_loss: float
    member_score: float
    nonmember_score: float
    implied_statistic: float
    thresholds: npt.NDArray[np.float64]
    member_counts: npt.NDArray[np.int64]
    nonmember_counts: npt.NDArray[np.int64]
    removed: dict[str, int]
    model: str
    notes: tuple[str, ...]
    member_scores: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    nonmember_scores: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws both histograms into a file; its suffix names the format (.png, .svg, .pdf)."""
        shown = "no p-value"
        if not math.isnan(self.log10_pvalue):
            shown = f"log10 p = {self.log10_pvalue:.2f}"
        calibrated = " / zlib bytes" if self.calibration == "zlib" else ""
        of = "per sentence" if self.unit == "sentence" else "per document, mean over sentences"
        draw(
            path,
            self.thresholds,
            {
                f"nonmembers ({self.n_nonmembers:,})": self.nonmember_counts,
                f"candidate members ({self.n_members:,})": self.member_counts,
            },
            title=f"Kolmogorov-Smirnov, one-sided: {shown}",
            xlabel=f"loss per token{calibrated}, {of}; {self.length} tokens per sentence",
        )


@dataclass(frozen=True, eq=False)
class _Side:
    """One side's sentences, and what was measured of them.

    Attributes
    ----------
    sentences : Sentences
    losses : ndarray of float64, shape (n,)
        The suspect's mean loss on each sentence.
    sizes : ndarray of int64, shape (n, 2)
        Bytes of each sentence, compressed and as text.
    scores : ndarray of float64, shape (n,)
        The calibrated losses.
    """

    sentences: Sentences
    losses: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]

    @property
    def ratios(self) -> npt.NDArray[np.float64]:
        """How far each sentence compresses."""
        return self.sizes[:, 0] / np.maximum(self.sizes[:, 1], 1)

    @property
    def lengths(self) -> npt.NDArray[np.float64]:
        """Tokens of the documents that are compared."""
        counted = np.unique(self.sentences.documents)
        return self.sentences.lengths[counted].astype(np.float64)

    def values(self, unit: str, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """One number per sentence, or their means per document."""
        if unit == "sentence":
            return numbers
        owners, inverse = np.unique(self.sentences.documents, return_inverse=True)
        sums = np.bincount(inverse, weights=numbers, minlength=len(owners))
        return sums / np.bincount(inverse, minlength=len(owners))


def test_membership(
    model: Any,
    members: Any,
    nonmembers: Any,
    *,
    supervision: float = 1.0,
    unseen: Any = None,
    calibration: Calibration = "zlib",
    length: int = 256,
    unit: Unit = "document",
    batch_tokens: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> MembershipResult:
    """Tests whether a model was trained on documents, by its losses; needs no watermark.

    Texts are cut into sentences of `length` tokens. The suspect's mean loss on each, divided by the
    bytes that zlib needs for it and averaged over each document, is compared between the candidate
    members and texts that cannot have been in the training, by the one-sided two-sample
    Kolmogorov-Smirnov test: a model's losses are lower on what it was trained on.

    Parameters
    ----------
    model : LanguageModel, path or transformers model
        The suspect.
    members : Corpus, strings, or anything that `Documents.of` takes
        The candidates: documents that may have been in its training.
    nonmembers : like `members`
        Fresh documents of the same distribution that certainly were not.
    supervision : float
        The degree d: the claimed share of candidates that were in the training. 1: the very
        documents are known; 0.1: one in ten of the documents that could have been used was. The
        p-value does not depend on it (it is valid for any share, and small only for a share that
        is large enough); with `unseen`, the candidates are made to have it.
    unseen : like `members`, optional
        For experiments in which `members` are known to be in the training: further documents that
        are not. As many of them join the candidates as make members a share `supervision` of all
        units; if there are too few, members are left out instead. None of them may be among
        `nonmembers`.
    calibration : {"zlib", "none"}
        Whether losses are divided by compressed lengths.
    length : int
        Tokens of a sentence; the rest of a document is dropped.
    unit : {"document", "sentence"}
        What counts as one draw. Sentences of one document resemble each other: with an intra-class
        correlation of 0.3, a model that knows neither side gets p <= 0.001 in 3.7 % of all cases
        with 10 sentences of each of 100 documents a side, and in 18 % with 40 of each of 50. So
        ``"sentence"`` gives a p-value only if every document is a single sentence.
    batch_tokens : int, optional
        See `radscore.models.document_losses`.
    progress : callable, optional
        Called after each batch with a `radscore.progress.Progress` in sentences.

    Returns
    -------
    MembershipResult

    Raises
    ------
    ArgumentError
        If an argument is not allowed.
    TokenError
        If a side has no sentence, or ids are outside the model's vocabulary.
    ModelError
        If the model cannot read the texts.

    Notes
    -----
    Copies are not draws of their own: a document is left out if earlier documents of its side hold
    more than half of its sentences, token by token (with ``unit="sentence"`` each repeated sentence
    is left out). Copies whose sentences begin elsewhere are not recognised.
    """
    check_choice("calibration", calibration, get_args(Calibration))
    check_choice("unit", unit, get_args(Unit))
    check_width("length", length, 2, 2**31)
    degree = _share("supervision", supervision)
    reader = as_language_model(model)
    inputs = {"members": members, "nonmembers": nonmembers}
    if unseen is not None:
        inputs["unseen"] = unseen
    pieces: dict[str, Sentences] = {}
    for name, texts in inputs.items():
        pieces[name] = cut(as_documents(texts, reader, name), length)
        if not len(pieces[name]):
            raise TokenError(
                f"{name} has no sentence: none of its {len(pieces[name].lengths)} documents has "
                f"{length} tokens (length)"
            )
    most = max(int(np.bincount(one.documents).max()) for one in pieces.values())
    drop = drop_copies if unit == "document" else drop_repeated
    dropped = {}
    for name, whole in pieces.items():
        pieces[name], dropped[name] = drop(whole)
    candidates = pieces["members"]
    if unseen is not None:
        candidates = mixed(candidates, pieces["unseen"], degree, unit)
    fresh = pieces["nonmembers"]
    relays = _relays(progress, len(candidates), len(fresh), length)
    one = _measure(reader, candidates, calibration, batch_tokens, relays[0])
    other = _measure(reader, fresh, calibration, batch_tokens, relays[1])
    x, y = one.values(unit, one.scores), other.values(unit, other.scores)
    test = smirnov_test(x, y)
    clustered = unit == "sentence" and most > 1
    notes = _notes(one, other, unit, calibration, with_text=reader.tokenizer is not None)
    if clustered:
        notes += (_DEPENDENT.format(most=most),)
    copies = (
        "copies among the documents of {}" if unit == "document" else "repeated sentences of {}"
    )
    method = f"one-sided two-sample Kolmogorov-Smirnov, {test.method}"
    if clustered:
        method = _NO_PVALUE
    edges = np.histogram_bin_edges(np.concatenate([x, y]), bins=_bins(len(x) + len(y)))
    return MembershipResult(
        statistic=test.statistic,
        log10_pvalue=math.nan if clustered else test.log10_pvalue,
        method=method,
        calibration=calibration,
        length=length,
        unit=unit,
        supervision=degree,
        n_members=len(x),
        n_nonmembers=len(y),
        member_loss=float(one.losses.mean()),
        nonmember_loss=float(other.losses.mean()),
        member_score=float(x.mean()),
        nonmember_score=float(y.mean()),
        implied_statistic=min(1.0, test.statistic / degree),
        thresholds=edges,
        member_counts=np.histogram(x, edges)[0].astype(np.int64),
        nonmember_counts=np.histogram(y, edges)[0].astype(np.int64),
        removed=_removed(pieces) | _named(copies, dropped),
        model=reader.fingerprint,
        notes=notes,
        member_scores=x,
        nonmember_scores=y,
        provenance=provenance(model=reader.fingerprint),
    )


test_membership.__test__ = False  # type: ignore[attr-defined] # not one of pytest's


def _relays(
    progress: Callable[[Progress], None] | None, n_one: int, n_other: int, length: int
) -> list[Callable[[Progress], None] | None]:
    """Callbacks for the two sides, of which `progress` hears as of one reading."""
    if progress is None:
        return [None, None]

    def relay(before: int) -> Callable[[Progress], None]:
        return lambda side: progress(
            Progress(before + side.done, n_one + n_other, before * length + side.tokens)
        )

    return [relay(0), relay(n_one)]


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise ArgumentError(f"{name} must be a number above 0 and at most 1, not {value!r}")
    return float(value)


def _bins(n: int) -> int:
    return int(min(_MOST_BINS, max(5, math.sqrt(n))))


def _measure(
    model: LanguageModel,
    sentences: Sentences,
    calibration: str,
    batch_tokens: int | None,
    progress: Callable[[Progress], None] | None,
) -> _Side:
    """Reads a side's sentences with the model."""
    losses = document_losses(model, sentences.ids, batch_tokens=batch_tokens, progress=progress)
    sizes = zlib_lengths(sentences, model)
    scores = losses / sizes[:, 0] if calibration == "zlib" else losses
    return _Side(sentences, losses, sizes, scores)


def _removed(pieces: dict[str, Sentences]) -> dict[str, int]:
    short = {name: one.n_short for name, one in pieces.items()}
    dropped = {name: one.n_dropped for name, one in pieces.items()}
    return _named("short documents of {}", short) | _named(
        "tokens of unfinished sentences of {}", dropped
    )


def _named(reason: str, numbers: dict[str, int]) -> dict[str, int]:
    return {reason.format(name): number for name, number in numbers.items() if number}


def _notes(
    one: _Side, other: _Side, unit: str, calibration: str, *, with_text: bool
) -> tuple[str, ...]:
    """What the result assumes, and what in the texts speaks against it."""
    notes = [_ASSUMES]
    lengths = _difference(one.lengths, other.lengths)
    if lengths < _DIFFERENT:
        notes.append(_LENGTHS.format(p=lengths))
    ratios = _difference(one.values(unit, one.ratios), other.values(unit, other.ratios))
    if ratios < _DIFFERENT:
        notes.append(_RATIOS.format(p=ratios))
    known = {row.tobytes() for row in one.sentences.ids}
    if both := sum(row.tobytes() in known for row in other.sentences.ids):
        notes.append(_BOTH.format(n=both))
    if calibration == "zlib" and not with_text:
        notes.append(_NO_TEXT)
    m, n = (len(side.values(unit, side.losses)) for side in (one, other))
    least = math.exp(math.lgamma(m + 1) + math.lgamma(n + 1) - math.lgamma(m + n + 1))
    if least > _FEWEST:
        notes.append(_FEW.format(m=m, n=n, least=least))
    return tuple(notes)


def _difference(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Two-sided p-value for a difference of two samples."""
    sides = (smirnov_test(x, y).pvalue, smirnov_test(y, x).pvalue)
    return min(1.0, 2 * min(sides))
