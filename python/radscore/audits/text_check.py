"""Whether a text that is to be read without the watermark really has none, as far as it matters.

A model that reads text continues what it read: after "the cat sat" it repeats what came after
"the cat sat" before. Where a few documents carry the watermark and repeat themselves, a suspect
that knows nothing of the key predicts marked tokens. The watermark in the whole text may be far
too faint to be seen then; so what is tested is what such a suspect would score. `TextCheck` plays
that suspect itself: induction heads over counts, without any model, which after the last one to
sixteen tokens predict what followed them at the latest places before, in the same document. A head
that needs many tokens is silent in most text, so each is tested on its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.documents import Documents
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.models.batching import Pairs
    from radscore.schemes import Scheme

__all__ = ["TextCheck", "TextCheckResult", "continued"]

#: Places before that are looked back to.
_LATEST: Final = 4
#: Tokens that a head needs, beside as many as a context has.
_HEADS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
#: log10 of the levels of heads that need few tokens or many, where nobody has said that the text is
#: clean, and where somebody has.
_LEVELS: Final = ((math.log10(0.05), -2.0), (-3.0, -3.0))
_FEW: Final = 2
#: log10 of a p-value of the text itself at which it is called watermarked, whatever copies it.
_MARKED: Final = -4.0
#: False discovery rates at which a document is called so, in the same two cases.
_DOCUMENTS: Final = (0.05, 0.001)


@dataclass(frozen=True)
class TextCheckResult:
    """What a text shows of the watermark.

    Attributes
    ----------
    log10_pvalue : float
        Of the watermark in the text, each unit once; NaN where nothing could be scored.
    heads : dict of int to float
        log10 of what each induction head scores, by the tokens that it needs; those that predict
        nothing are missing. An approximation (Lugannani and Rice's), not corrected for the number
        of heads: it is there to be missed by no suspect, not to accuse a text.
    n_documents : int
        Documents with a scored unit.
    found : tuple of int
        Those that carry the watermark, at false discovery rates of 5 % and of 0.1 %.
    context_width : int
        Tokens of a context.
    """

    log10_pvalue: float
    heads: dict[int, float]
    n_documents: int
    found: tuple[int, int]
    context_width: int

    @property
    def copied_log10_pvalue(self) -> float:
        """The least of what the heads score, NaN without any."""
        return min(self.heads.values(), default=math.nan)

    @property
    def n_documents_marked(self) -> int:
        """Documents that carry the watermark, at a false discovery rate of 5 %."""
        return self.found[0]

    def is_marked(self, *, vouched: bool) -> bool:
        """Whether a suspect that knows nothing of the key might be found by this text."""
        few, many = _LEVELS[vouched]
        usual = {*range(_FEW + 1), self.context_width}
        copied = any(log10 <= (few if n in usual else many) for n, log10 in self.heads.items())
        return copied or self.found[vouched] > 0 or self.log10_pvalue < _MARKED

    def notes(self, *, vouched: bool) -> list[str]:
        """What a result says of it."""
        notes = []
        if self.is_marked(vouched=vouched):
            way_out = (
                ""
                if vouched
                else (", or text_watermarked=False (--text-unmarked) if you know that it does not")
            )
            notes.append(
                "there is no valid p-value: the text may carry the watermark (log10 p of the text "
                f"{self.log10_pvalue:.1f}, of a model that merely continues what it reads "
                f"{self.copied_log10_pvalue:.1f}); read other text, or say text_watermarked=True "
                f"(--text-watermarked) if it does{way_out}"
            )
        if self.n_documents_marked:
            notes.append(
                "documents of the text that look marked (false discovery rate 5 %): "
                f"{self.n_documents_marked} of {self.n_documents}"
            )
        return notes


class TextCheck:
    """Takes documents, or places of reading; `result` tells what they show of the watermark.

    Parameters
    ----------
    scheme : Scheme
        The watermark and its key.
    threads : int, optional
        Threads of the scoring.
    """

    def __init__(self, scheme: Scheme, *, threads: int | None = None) -> None:
        self._scheme = scheme
        self._threads = threads
        self._size = scheme.vocab_size
        self._width = scheme.window_width - 1
        self._texts: list[npt.NDArray[np.uint32]] = []
        self._open: list[npt.NDArray[np.uint32]] = []  # a text whose end was not seen yet
        self._last: tuple[int, npt.NDArray[np.uint32]] | None = None

    def add(self, tokens: npt.NDArray[Any]) -> None:
        """One document; ids that the scheme does not know cut it."""
        cuts = np.flatnonzero(tokens >= self._size)
        parts = np.split(tokens, cuts) if len(cuts) else [tokens]
        parts = [part[1:] if i else part for i, part in enumerate(parts)]
        self._texts += [part.astype(np.uint32) for part in parts if len(part)]

    def places(self, pairs: Pairs) -> None:
        """The text as far as a file of predictions tells it: places next to each other."""
        if not self._width or not len(pairs):
            return
        numbers, at = np.unique(pairs.occurrences, return_index=True)
        numbers = numbers.astype(np.int64)
        contexts = pairs.contexts[at][:, pairs.contexts.shape[1] - self._width :]
        follows = np.zeros(len(numbers), dtype=np.bool_)
        follows[1:] = (np.diff(numbers) == 1) & np.all(contexts[1:, :-1] == contexts[:-1, 1:], 1)
        if self._last is not None:
            number, context = self._last
            follows[0] = numbers[0] == number + 1 and np.array_equal(contexts[0, :-1], context[1:])
        for start, end in _runs(follows):
            if follows[start]:
                self._open.append(contexts[start:end, -1])
            else:
                self._close()
                self._open += [contexts[start], contexts[start + 1 : end, -1]]
        self._last = int(numbers[-1]), contexts[-1]

    def _close(self) -> None:
        if self._open:
            self.add(np.concatenate(self._open))
            self._open = []

    def result(self, *, copies: bool) -> TextCheckResult:
        """What was seen; with what copies would score, or without."""
        self._close()
        self._last = None
        texts = Documents.of(self._texts)
        scorer = Scorer(self._scheme, threads=self._threads)
        scorer.add(texts)
        if not scorer.tally().n_scored:
            return TextCheckResult(math.nan, {}, 0, (0, 0), self._width)
        from radscore.scoring.per_document import score_documents

        documents = score_documents(texts, self._scheme, threads=self._threads)
        few, most = (documents.false_discovery(level).n_rejected for level in _DOCUMENTS)
        lengths = sorted({*_HEADS, max(self._width, 1)}) if copies else []
        heads = {length: self._head(length) for length in lengths}
        return TextCheckResult(
            log10_pvalue=scorer.result().log10_pvalue,
            heads={length: log10 for length, log10 in heads.items() if not math.isnan(log10)},
            n_documents=int((documents.n_scored > 0).sum()),
            found=(int(few), int(most)),
            context_width=self._width,
        )

    def _head(self, length: int) -> float:
        """The log10 p-value of what continues the last `length` tokens."""
        scheme = self._scheme
        if getattr(scheme, "method", None) == "weighted_mean":  # weights go with plain means
            scheme = replace(scheme, method="mean")  # type: ignore[call-arg]
        scorer = Scorer(scheme, combine="sum", threads=self._threads)
        for tokens in self._texts:
            places, targets, weights = continued(tokens, length, self._width)
            if len(places):
                columns = [tokens[places - back] for back in reversed(range(self._width))]
                contexts = np.column_stack([*columns, targets])[:, :-1]
                scorer.add_pairs(contexts, targets, weights)
        if not scorer.tally().n_scored:
            return math.nan
        weighted = scorer.result().weighted
        if weighted is None:
            return math.nan
        approximate = weighted.log10_saddlepoint
        return weighted.log10_pvalue if math.isnan(approximate) else approximate


def continued(
    tokens: npt.NDArray[np.uint32], length: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32], npt.NDArray[np.float64]]:
    """What followed the last `length` tokens at the latest places before, in one document.

    Parameters
    ----------
    tokens : ndarray of uint32, shape (n,)
        The document.
    length : int
        Tokens that must have stood there before.
    width : int
        Places with fewer tokens up to them are left out.

    Returns
    -------
    places, targets, weights : ndarray, shape (m,)
        The position of the last token that was read, what is predicted after it, and how much of
        the prediction that is; the weights of a place add up to 1.
    """
    ends = np.arange(length - 1, len(tokens), dtype=np.int64)
    none = np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0)
    if len(ends) < 2:
        return none
    rows = np.column_stack([tokens[ends - back] for back in range(length)])
    _, names = np.unique(rows, axis=0, return_inverse=True)
    order = np.argsort(names.ravel(), kind="stable")
    named = names.ravel()[order]
    parts = []
    for lag in range(1, min(_LATEST, len(order) - 1) + 1):
        same = np.flatnonzero(named[lag:] == named[:-lag])
        parts.append((ends[order[same + lag]], ends[order[same]] + 1))
    places = np.concatenate([here for here, _ in parts])
    following = np.concatenate([there for _, there in parts])
    keep = places >= width - 1
    places, following = places[keep], following[keep]
    shares = np.bincount(places, minlength=1)
    return places, tokens[following], 1.0 / shares[places]


def _runs(follows: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of places that go on from one another."""
    starts = np.flatnonzero(~follows)
    if not len(starts) or starts[0] != 0:
        starts = np.concatenate([[0], starts])
    yield from zip(starts.tolist(), [*starts[1:].tolist(), len(follows)], strict=True)
