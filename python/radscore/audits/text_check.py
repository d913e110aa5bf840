"""Whether text that should be without the watermark is, as far as a test of a model is concerned.

A model continues what it reads: after "the cat sat" it repeats what came after "the cat sat"
before. If a few documents carry the watermark and repeat themselves, a suspect that knows nothing
of the key predicts marked tokens, though the watermark in the whole text may be far too faint to
see. So the check asks what such a suspect would score, and plays it: induction heads over counts,
without any model, predict after the last one to sixteen tokens what followed them at their latest
earlier positions in the same document. A head that needs many tokens is silent in most text, so
each is tested on its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.documents import Documents
from radscore.scoring.per_document import score_documents
from radscore.scoring.scorer import Scorer
from radscore.stats.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.models.batching import Pairs
    from radscore.schemes import Scheme
    from radscore.scoring.contexts import Lookup

__all__ = ["TextCheck", "TextCheckResult", "continued"]

#: How many earlier positions a head looks back to.
_LATEST: Final = 4
#: Tokens that the heads need; one more needs as many as a context has.
_HEADS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
#: log10 of the levels for heads that need few tokens and for those that need many, if nobody
#: vouches for the text and if somebody does.
_LEVELS: Final = ((math.log10(0.05), -2.0), (-3.0, -3.0))
_FEW: Final = 2
#: Text with a smaller log10 p-value of its own is called watermarked, whatever copies it.
_MARKED: Final = -4.0
#: False discovery rates at which a document is called watermarked, in the same two cases.
_DOCUMENTS: Final = (0.05, 0.001)


@dataclass(frozen=True, repr=False)
class TextCheckResult(Result):
    """What a text shows of the watermark.

    Attributes
    ----------
    log10_pvalue : float
        Of the watermark in the text, each unit once; NaN if nothing could be scored.
    heads : dict of int to float
        log10 p-value of what each induction head predicts, by the tokens that it needs; heads that
        predict nothing are missing. An approximation (Lugannani and Rice's), not corrected for the
        number of heads: its purpose is to protect every suspect, not to accuse a text.
    n_documents : int
        Documents with a scored unit.
    found : tuple of int
        Documents that carry the watermark, at false discovery rates of 5 % and of 0.1 %.
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
        """The smallest of the heads; NaN if there is none."""
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
        """What the result of a test says of its text."""
        notes = []
        if self.is_marked(vouched=vouched):
            vouch = ", or text_watermarked=False (--text-unmarked) if you know that it does not"
            notes.append(
                "there is no valid p-value: the text may carry the watermark (log10 p of the text "
                f"{self.log10_pvalue:.1f}, of a model that merely continues what it reads "
                f"{self.copied_log10_pvalue:.1f}); read other text, or say text_watermarked=True "
                f"(--text-watermarked) if it does{'' if vouched else vouch}"
            )
        if self.n_documents_marked:
            notes.append(
                "documents of the text that look marked (false discovery rate 5 %): "
                f"{self.n_documents_marked} of {self.n_documents}"
            )
        return notes


class TextCheck:
    """Takes documents, or what a file of predictions tells of them; `result` says what they show.

    All tokens are held until then.

    Parameters
    ----------
    scheme : Scheme
        The watermark and its key.
    threads : int, optional
        Worker threads of the scoring; all cores by default.
    """

    def __init__(self, scheme: Scheme, *, threads: int | None = None) -> None:
        self._scheme = scheme
        self._threads = threads
        self._size = scheme.vocab_size
        self._width = scheme.window_width - 1
        self._texts: list[npt.NDArray[np.uint32]] = []
        self._open: list[npt.NDArray[np.uint32]] = []  # a text whose end has not been seen
        self._last: tuple[int, npt.NDArray[np.uint32]] | None = None

    def add(self, tokens: npt.NDArray[Any]) -> None:
        """Takes one document, cut at ids outside the scheme's vocabulary."""
        cuts = np.flatnonzero(tokens >= self._size)
        segments = np.split(tokens, cuts) if len(cuts) else [tokens]
        segments = [one[1:] if i else one for i, one in enumerate(segments)]
        self._texts += [one.astype(np.uint32) for one in segments if len(one)]

    def add_pairs(self, pairs: Pairs) -> None:
        """Takes the text as far as pairs tell it: contexts at consecutive positions."""
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

    def result(
        self,
        *,
        copies: bool,
        among: Lookup | None = None,
        damping: dict[str, float] | None = None,
    ) -> TextCheckResult:
        """What the text shows; with `copies` also what a suspect that continues it would score.

        With `among`, that suspect is scored after these contexts alone, and with `damping` (of a
        `Scorer`) its weights are made smaller, as those of the tested one are.
        """
        self._close()
        self._last = None
        texts = Documents.of(self._texts)
        scorer = Scorer(self._scheme, threads=self._threads)
        scorer.add(texts)
        if not scorer.tally().n_scored:
            return TextCheckResult(math.nan, {}, 0, (0, 0), self._width)
        documents = score_documents(texts, self._scheme, threads=self._threads)
        few, most = (documents.false_discovery(level).n_rejected for level in _DOCUMENTS)
        lengths = sorted({*_HEADS, max(self._width, 1)}) if copies else []
        heads = {length: self._head(length, among, damping or {}) for length in lengths}
        return TextCheckResult(
            log10_pvalue=scorer.result().log10_pvalue,
            heads={length: log10 for length, log10 in heads.items() if not math.isnan(log10)},
            n_documents=int((documents.n_scored > 0).sum()),
            found=(int(few), int(most)),
            context_width=self._width,
        )

    def _head(self, length: int, among: Lookup | None, damping: dict[str, float]) -> float:
        """log10 p-value of what continues the last `length` tokens; NaN if nothing does."""
        scheme = self._scheme
        if getattr(scheme, "method", None) == "weighted_mean":  # weights need plain means
            scheme = replace(scheme, method="mean")  # type: ignore[call-arg]
        options: dict[str, Any] = {**damping}
        scorer = Scorer(scheme, combine="sum", threads=self._threads, **options)
        for tokens in self._texts:
            positions, targets, weights = continued(tokens, length, self._width)
            contexts = _tails(tokens, positions, self._width)
            if among is not None:
                kept = among.has(contexts)
                contexts, targets, weights = contexts[kept], targets[kept], weights[kept]
            scorer.add_pairs(contexts, targets, weights)
        if not scorer.tally().n_scored:
            return math.nan
        weighted = scorer.result(draws=0).weighted  # its approximation is enough
        if weighted is None:
            return math.nan
        approximate = weighted.log10_saddlepoint
        return weighted.log10_pvalue if math.isnan(approximate) else approximate


def continued(
    tokens: npt.NDArray[np.uint32], length: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32], npt.NDArray[np.float64]]:
    """What followed the last `length` tokens at their latest earlier positions in a document.

    Parameters
    ----------
    tokens : ndarray of uint32, shape (n,)
        The document.
    length : int
        How many tokens must recur.
    width : int
        Positions with fewer tokens up to them are left out.

    Returns
    -------
    positions, targets, weights : ndarray, shape (m,)
        The position of the last token read, what is predicted after it, and the share of the
        prediction; the weights of a position add up to 1.
    """
    ends = np.arange(length - 1, len(tokens), dtype=np.int64)
    none = np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0)
    if len(ends) < 2:
        return none
    _, names = np.unique(_tails(tokens, ends, length), axis=0, return_inverse=True)
    order = np.argsort(names.ravel(), kind="stable")
    named = names.ravel()[order]
    parts = []
    for lag in range(1, min(_LATEST, len(order) - 1) + 1):
        same = np.flatnonzero(named[lag:] == named[:-lag])
        parts.append((ends[order[same + lag]], ends[order[same]] + 1))
    positions = np.concatenate([here for here, _ in parts])
    following = np.concatenate([there for _, there in parts])
    keep = positions >= width - 1
    positions, following = positions[keep], following[keep]
    shares = np.bincount(positions, minlength=1)
    return positions, tokens[following], 1.0 / shares[positions]


def _tails(
    tokens: npt.NDArray[np.uint32], ends: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.uint32]:
    """The last `length` tokens up to each position, shape (n, length)."""
    return np.asarray(tokens[ends[:, None] - np.arange(length - 1, -1, -1)])


def _runs(follows: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of positions that follow one another."""
    starts = np.flatnonzero(~follows)
    if not len(starts) or starts[0] != 0:
        starts = np.concatenate([[0], starts])
    yield from zip(starts.tolist(), [*starts[1:].tolist(), len(follows)], strict=True)
