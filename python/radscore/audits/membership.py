"""Without a watermark: does the suspect know these documents better than those like them?"""

# ruff: noqa: PT028 - `test_membership` is no test of pytest's

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from radscore.checks import check_choice
from radscore.documents import check_width
from radscore.errors import ArgumentError, TokenError
from radscore.progress import Progress
from radscore.results import _show, plain_value

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from radscore.models.loading import LanguageModel
    from radscore.models.losses import Sentences

__all__ = ["MembershipResult", "test_membership"]

Calibration: TypeAlias = Literal["zlib", "none"]
Unit: TypeAlias = Literal["sentence", "document"]

#: Below this p-value the sides are said to differ in something that they should share.
_DIFFERENT = 0.01
_MOST_BINS = 60
#: Where even the best of all orders is not rarer than this, it is said.
_FEWEST = 1e-6

_ASSUMES = (
    "assumes that members and non-members are independent draws from one distribution of texts, so "
    "that only training can set them apart; no key was drawn at random, so unlike a watermark's "
    "p-value this one rests on that assumption"
)
_LENGTHS = (
    "documents of the two sides differ in length (p = {p:.2g}): they may not come from one "
    "distribution, and then the p-value says nothing of training"
)
_RATIOS = (
    "sentences of the two sides compress differently (p = {p:.2g}): they may not come from one "
    "distribution, and then the p-value says nothing of training"
)
_DEPENDENT = (
    "sentences of one document resemble each other (up to {most} of one document here), so they "
    "are no independent draws and there is no valid p-value; unit='document' counts each document "
    "once"
)
_NO_PVALUE = "none: sentences of one document are no independent draws"
_BOTH = (
    "{n} sentences of the non-members are also among the members: they are no fresh text, and hide "
    "a difference"
)
_NO_TEXT = "the model has no tokenizer, so the ids in place of the text were compressed by zlib"
_FEW = "with {m} and {n} values no p-value can be below {least:.2g}"


@dataclass(frozen=True, repr=False, eq=False)
class MembershipResult:
    """Result of a membership test.

    Attributes
    ----------
    statistic : float
        The largest difference of the two distribution functions of the calibrated loss, members'
        less non-members': 0 where members' losses are not lower anywhere, 1 where they all are.
    log10_pvalue : float
        Probability under H0 (members and non-members are alike to the model) of a statistic at
        least as large. NaN for sentences as units where a document has several.
    method : str
        How the p-value was computed.
    calibration, length, unit : str, int, str
        The rules.
    supervision : float
        The degree d: the share of `members` that was in the suspect's training, as claimed.
    n_members, n_nonmembers : int
        Sentences, or documents, that were compared.
    member_loss, nonmember_loss : float
        Mean losses, in nats a token.
    member_score, nonmember_score : float
        Mean calibrated losses.
    implied_statistic : float
        ``statistic / supervision``, at most 1: how far apart the true members would be, if the
        claimed degree is right; a mixture with a share d of members can differ by d at most.
    thresholds : ndarray of float64, shape (n_bins + 1,)
        Edges of the histogram's bins.
    member_counts, nonmember_counts : ndarray of int64, shape (n_bins,)
        The histogram of the calibrated losses of both sides.
    removed : dict
        Documents shorter than a sentence, tokens of unfinished ones, and copies, by side.
    model : str
        The suspect's fingerprint.
    notes : tuple of str
        What the result assumes, and what speaks against that.
    member_scores, nonmember_scores : ndarray of float64
        The calibrated losses themselves, in the order of the texts.
    """

    statistic: float
    log10_pvalue: float
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

    @property
    def pvalue(self) -> float:
        """10 to the power of `log10_pvalue`."""
        return float(10.0**self.log10_pvalue)

    def to_dict(self) -> dict[str, Any]:
        """All fields but the single losses, ready for JSON (NaN as None)."""
        names = [f.name for f in fields(self) if not f.name.endswith("_scores")]
        values = {name: getattr(self, name) for name in names}
        return plain_value(values | {"pvalue": self.pvalue})  # type: ignore[no-any-return]

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws both histograms into a file; its name tells the format (.png, .svg, .pdf)."""
        from radscore.audits.membership_plot import draw

        draw(self, path)

    def __repr__(self) -> str:
        hidden = ("notes", "thresholds")
        shown = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in hidden and not f.name.endswith(("_scores", "_counts"))
        }
        shown["pvalue"] = self.pvalue
        width = max(map(len, shown))
        lines = [f"{name:>{width}}: {_show(value)}" for name, value in shown.items()]
        lines += [f"{'note':>{width}}: {note}" for note in self.notes]
        return "\n".join([f"{type(self).__name__}:", *lines])


@dataclass(frozen=True, eq=False)
class _Side:
    """One side's sentences, and what was measured of them."""

    sentences: Sentences
    losses: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]

    @property
    def ratios(self) -> npt.NDArray[np.float64]:
        return self.sizes[:, 0] / np.maximum(self.sizes[:, 1], 1)

    @property
    def lengths(self) -> npt.NDArray[np.float64]:
        """Tokens of the documents that are compared."""
        counted = np.unique(self.sentences.documents)
        return self.sentences.lengths[counted].astype(np.float64)

    def values(self, unit: str, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """One number a sentence, or their mean over each document."""
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
    """Tests whether a model was trained on documents, by its losses: no watermark is needed.

    Texts are cut into sentences of `length` tokens. The suspect's mean loss on each, divided by
    the bytes that zlib needs for it and averaged over each document, is compared between the
    candidate members and texts that cannot have been in the training, by the one-sided two-sample
    test of Kolmogorov and Smirnov: a model's losses are lower on what it was trained on.

    Parameters
    ----------
    model : LanguageModel, path or transformers model
        The suspect.
    members : corpus, strings, or anything that `Documents.of` takes
        The candidates: documents that may have been in its training.
    nonmembers : the same
        Fresh documents of the same distribution that were certainly not.
    supervision : float
        The degree d: of the candidates, the share that was in the training, as is claimed. 1:
        the very documents are known; 0.1: one in ten of those that could have been used was. The
        p-value does not depend on it (it is valid whatever the share is, and small only if the
        share is large enough); with `unseen` the candidates are made to have it.
    unseen : the same as members, optional
        For experiments, in which `members` are known to be in the training: further documents
        that were not. So many of them join the candidates that members are the share
        `supervision` of all units; where they do not suffice, members are left out instead. None
        of them may be among `nonmembers`.
    calibration : {"zlib", "none"}
        Whether losses are divided by compressed lengths.
    length : int
        Tokens of a sentence; what remains of a document is dropped.
    unit : {"document", "sentence"}
        What counts as one draw. Sentences of one document resemble each other: with an
        intra-class correlation of 0.3 and a model that knows neither side, p <= 0.001 comes in
        3.7 % of all cases for 10 sentences of each of 100 documents a side, in 18 % for 40 of each
        of 50. So ``"sentence"`` gives a p-value only where every document is a single sentence.
    batch_tokens : int, optional
        See `radscore.models.document_losses`.
    progress : callable, optional
        Called with a `Progress` after every batch: sentences read, and their tokens.

    Returns
    -------
    MembershipResult

    Raises
    ------
    ArgumentError
        If an argument is not allowed.
    TokenError
        If a side has no sentence, or ids are outside of the model's vocabulary.
    ModelError
        If the model cannot be read with.

    Notes
    -----
    Copies are not draws of their own: a document more than half of whose sentences earlier
    documents of its side hold, token by token, is left out (with ``unit="sentence"`` each repeated
    sentence is). Copies whose sentences begin elsewhere are not recognised.
    """
    from radscore.models.loading import as_language_model
    from radscore.models.losses import as_documents, cut
    from radscore.stats.smirnov import smirnov_test

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
    drop = _drop_copies if unit == "document" else _drop_repeated
    dropped = {name: drop(pieces, name) for name in pieces}
    candidates = pieces["members"]
    if unseen is not None:
        candidates = mixed(candidates, pieces["unseen"], degree, unit)
    others = pieces["nonmembers"]
    total = len(candidates) + len(others)
    one = _measure(reader, candidates, calibration, batch_tokens, _within(progress, 0, total))
    after = _within(progress, len(candidates), total, candidates.ids.size)
    other = _measure(reader, others, calibration, batch_tokens, after)
    x, y = one.values(unit, one.scores), other.values(unit, other.scores)
    test = smirnov_test(x, y)
    clustered = unit == "sentence" and most > 1
    notes = _notes(one, other, unit, calibration, with_text=reader.tokenizer is not None)
    if clustered:
        notes += (_DEPENDENT.format(most=most),)
    copies = (
        "copies among the documents of {}" if unit == "document" else "repeated sentences of {}"
    )
    edges = np.histogram_bin_edges(np.concatenate([x, y]), bins=_bins(len(x) + len(y)))
    return MembershipResult(
        statistic=test.statistic,
        log10_pvalue=math.nan if clustered else test.log10_pvalue,
        method=_NO_PVALUE
        if clustered
        else f"one-sided two-sample Kolmogorov-Smirnov, {test.method}",
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
    )


# pytest takes it for a test, by its name.
test_membership.__test__ = False  # type: ignore[attr-defined]


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise ArgumentError(f"{name} must be a number above 0 and at most 1, not {value!r}")
    return float(value)


def _bins(n: int) -> int:
    return int(min(_MOST_BINS, max(5, math.sqrt(n))))


def mixed(members: Sentences, unseen: Sentences, degree: float, unit: str) -> Sentences:
    """Sentences of which a share `degree` of the units are members, the first of both sides.

    Documents keep together in numbering; nothing is drawn at random, so shuffle before if order
    means something.
    """
    from radscore.models.losses import Sentences

    own, others = _unit_numbers(members, unit), _unit_numbers(unseen, unit)
    n, n_unseen = int(own[-1]) + 1, int(others[-1]) + 1
    wanted = round(n * (1 - degree) / degree)
    if wanted > n_unseen:
        wanted = n_unseen
        n = min(n, round(wanted * degree / (1 - degree)))
        if n == 0:
            least = math.ceil((1 - degree) / degree)
            raise ArgumentError(
                f"unseen has {n_unseen} {unit}s, too few for supervision={degree:g}: a single "
                f"member needs {least}"
            )
    first, second = own < n, others < wanted
    shift = len(members.lengths)
    return Sentences(
        np.concatenate([members.ids[first], unseen.ids[second]]),
        np.concatenate([members.documents[first], unseen.documents[second] + shift]),
        np.concatenate([members.lengths, unseen.lengths]),
        members.n_short + unseen.n_short,
        members.n_dropped + unseen.n_dropped,
    )


def _unit_numbers(sentences: Sentences, unit: str) -> npt.NDArray[np.int64]:
    """Which unit each sentence belongs to, from 0."""
    if unit == "sentence":
        return np.arange(len(sentences))
    return np.unique(sentences.documents, return_inverse=True)[1]


def _within(
    progress: Callable[[Progress], None] | None, done: int, total: int, tokens: int = 0
) -> Callable[[Progress], None]:
    """Shows the progress of a part of all the reading."""

    def show(part: Progress) -> None:
        if progress is not None:
            progress(Progress(done + part.done, total, tokens + part.tokens))

    return show


def _measure(
    model: LanguageModel,
    sentences: Sentences,
    calibration: str,
    batch_tokens: int | None,
    progress: Callable[[Progress], None],
) -> _Side:
    from radscore.models.losses import document_losses, zlib_lengths

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


def _drop_repeated(pieces: dict[str, Sentences], name: str) -> int:
    """Keeps the first of equal sentences of a side: copies are not draws of their own."""
    ids = pieces[name].ids
    first = np.sort(np.unique(ids, axis=0, return_index=True)[1])
    pieces[name] = replace(pieces[name], ids=ids[first], documents=pieces[name].documents[first])
    return len(ids) - len(first)


def _drop_copies(pieces: dict[str, Sentences], name: str) -> int:
    """Drops documents more than half of whose sentences earlier documents of the side hold."""
    one = pieces[name]
    seen: set[bytes] = set()
    kept = np.zeros(len(one), dtype=np.bool_)
    starts = np.flatnonzero(np.diff(one.documents, prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(one)], strict=True):
        own = [row.tobytes() for row in one.ids[first:last]]
        if 2 * sum(sentence in seen for sentence in own) <= len(own):
            kept[first:last] = True
            seen.update(own)
    dropped = len(starts) - int(kept[starts].sum())
    if dropped:
        pieces[name] = replace(one, ids=one.ids[kept], documents=one.documents[kept])
    return dropped


def _notes(
    one: _Side, other: _Side, unit: str, calibration: str, *, with_text: bool
) -> tuple[str, ...]:
    """What the result assumes, and what of the texts speaks against it."""
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
    """p-value of any difference of two samples."""
    from radscore.stats.smirnov import smirnov_test

    sides = (smirnov_test(x, y).pvalue, smirnov_test(y, x).pvalue)
    return min(1.0, 2 * min(sides))
