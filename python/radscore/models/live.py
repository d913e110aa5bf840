"""Live predictions: a model reads a text, and its weighted pairs come out as it reads."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore._core import __version__
from radscore.documents import MAX_VOCAB, Documents, check_width
from radscore.doubts import IdDoubt, doubt_of_tokenizer
from radscore.errors import ArgumentError
from radscore.models.alignment import (
    Alignment,
    check_same_tokenizer,
    same_vocabulary,
    vocabulary_hash,
)
from radscore.models.loading import as_language_model, as_references
from radscore.models.passages import gathered, kind_of, passages
from radscore.models.predictions import Header, Totals
from radscore.models.teacher_forcing import Reader
from radscore.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from radscore.models.batching import Counts, Pairs
    from radscore.models.loading import LanguageModel
    from radscore.models.passages import Passage
    from radscore.models.weighting import Weighting
    from radscore.scoring.contexts import Contexts

__all__ = ["Reading"]

_AS_TEXT: Final = (
    "text_watermarked=True is not valid with an endpoint that takes text and not token ids: at "
    "which positions its tokens are the text's depends on the tokens that follow a context, and in "
    "text with the tested watermark these depend on the key; read text without the watermark "
    "(text_watermarked=False)"
)
_NOT_ALIGNED: Final = (
    "text_watermarked=True is not valid with tokenizer=, a watermark's tokenizer that is not the "
    "model's: at which positions both cut the text depends on the tokens that follow a context, "
    "and in text with the tested watermark these depend on the key; read text without the "
    "watermark (text_watermarked=False), or test the model's answers (test_closed)"
)


class Reading:
    """A model reading a text: iterating yields its weighted pairs, in reading order, once.

    Parameters
    ----------
    model : anything that `as_language_model` takes
        The suspect.
    reference : the same, or a sequence of such, optional
        What to compare with: of several models, the mean of their probabilities.
    documents : Corpus, strings, chats, or anything that `Documents.of` takes
        What to read; see `passages`. With `tokenizer`, strings or ids of that tokenizer.
    context_width : int
        Tokens in a context: `window_width - 1` of the scheme.
    weighting : Weighting
        How predictions become weights.
    text_watermarked : bool
        Whether the text carries the tested watermark.
    vocab_size : int, optional
        Targets are below it; by default everything that the model can predict.
    tokenizer : transformers tokenizer, optional
        The watermark's, if it is not the model's. Not with `text_watermarked`.
    batch_tokens, max_length, contexts
        As in `Reader`.
    shard : tuple of two int, optional
        Which of how many equal parts of the text to read, from 1: every n-th document from the i-th
        on. Not with `text_watermarked`.
    progress : callable, optional
        Called with a `Progress` after every batch: bytes of a corpus, else documents.
    on_document : callable, optional
        Called with each document's tokens (the watermark's) before it is read.

    Attributes
    ----------
    header : Header
    n_ids : int
        The ids of all contexts are below it.
    """

    def __init__(
        self,
        model: Any,
        documents: Any,
        *,
        context_width: int,
        weighting: Weighting,
        reference: Any = None,
        text_watermarked: bool = False,
        vocab_size: int | None = None,
        tokenizer: Any = None,
        batch_tokens: int | None = None,
        max_length: int | None = None,
        contexts: Contexts | None = None,
        shard: tuple[int, int] | None = None,
        progress: Callable[[Progress], None] | None = None,
        on_document: Callable[[Any], None] | None = None,
    ) -> None:
        check_width("context_width", context_width, 0, 64)
        suspect = as_language_model(model)
        others = as_references(reference)
        for one in others:
            check_same_tokenizer(suspect, one)
        vocabulary = _Vocabulary(suspect, others, tokenizer)
        own, limit = vocabulary.alignment, vocabulary.size
        if own is not None and text_watermarked:
            raise ArgumentError(_NOT_ALIGNED)
        if shard is not None:
            shard = _checked_shard(shard, text_watermarked=text_watermarked)
        if text_watermarked and not suspect.reads_ids:
            raise ArgumentError(_AS_TEXT)
        if vocab_size is not None:
            limit = min(limit, check_width("vocab_size", vocab_size, 2, MAX_VOCAB))
        self._reader = Reader(
            suspect,
            others or None,
            weighting,
            limit=limit,
            batch_tokens=batch_tokens,
            max_length=max_length,
            markers=True,  # they show what was read
            translate=None if own is None else own.translate,
            contexts=contexts,
        )
        words = vocabulary.tokenizer
        self.header = Header(
            model=suspect.fingerprint,
            reference=", ".join(one.fingerprint for one in others) or None,
            tokenizer=None if words is None else vocabulary_hash(words),
            weighting=weighting,
            vocab_size=limit,
            least_vocab_size=min(vocabulary.least, limit),
            context_width=context_width,
            text_watermarked=bool(text_watermarked),
            aligned=own is not None,
            max_length=self._reader.max_length,
            prefix=tuple(self._reader.prefix.tolist()),
            radscore=__version__,
            shard=shard,
            contexts=None if contexts is None else contexts.fingerprint,
        )
        self.n_ids = suspect.vocab_size if own is None else vocabulary.size
        self._suspect = suspect
        self._meter = _Meter(documents, shard)
        self._passages: Iterator[Passage] = (
            passages(self._meter.documents, suspect, context_width, shard)
            if own is None
            else own.passages(self._meter.documents, context_width, shard)
        )
        if suspect.at_end:
            self._passages = map(_only_last, self._passages)
        self._alignment = own
        self._contexts = contexts
        self._doubt = IdDoubt(limit)
        self._doubt_of_tokenizer = None
        if suspect.tokenizer is not None:
            self._doubt_of_tokenizer = doubt_of_tokenizer(
                len(suspect.tokenizer), suspect.vocab_size
            )
        self._progress, self._on_document = progress, on_document
        self._hash = hashlib.sha256()
        self._n_skipped = 0  # tokens that the model would have read

    @property
    def counts(self) -> Counts:
        """What was read so far."""
        return self._reader.counts

    @property
    def totals(self) -> Totals:
        """What was read in all, once a portion with ``last`` has been taken."""
        counts = self.counts
        removed, notes = dict(counts.removed), tuple[str, ...]()
        if self._alignment is not None:
            removed |= self._alignment.removed
            notes = self._alignment.notes()
        doubts = (self._doubt_of_tokenizer, self._doubt.note)
        notes += tuple(note for note in doubts if note is not None)
        notes += () if self._contexts is None else (self._contexts.note,)
        notes += self._suspect.notes
        return Totals(
            text=self._digest,
            complete=True,
            n_documents=counts.n_documents,
            n_short_documents=counts.n_short_documents,
            n_tokens=counts.n_tokens,
            n_scored_positions=counts.n_scored_positions,
            n_weights=counts.n_weights,
            removed=removed,
            notes=notes,
            usage=self._suspect.spent,
        )

    @property
    def _digest(self) -> str:
        return self._hash.hexdigest()

    def skip(self, totals: Totals) -> bool:
        """Continues after the documents that `totals` describes; they do not reach the model.

        Returns whether they are indeed the text's first ones, or all of it if `totals` is complete.
        """
        for _ in range(totals.n_documents):
            one = next(self._passages, None)
            if one is None:
                break
            self._n_skipped += len(self._take(one).ids)
        more = totals.complete and next(self._passages, None) is not None
        mine = self.counts
        for name in ("n_documents", "n_short_documents", "n_tokens", "n_scored_positions"):
            setattr(mine, name, getattr(totals, name))
        mine.n_weights = totals.n_weights
        self._suspect.spent_before(totals.usage)
        again = {} if self._alignment is None else self._alignment.removed
        mine.removed = {why: n for why, n in totals.removed.items() if why not in again}
        return self._digest == totals.text and not more

    def _take(self, one: Passage) -> Passage:
        """Notes what is read."""
        self._hash.update(len(one.tokens).to_bytes(8, "little"))
        self._hash.update(np.asarray(one.tokens, dtype="<u4").tobytes())
        if len(one.tokens):
            self._doubt.take(Documents.of(one.tokens))
        self._meter.passage(one)
        if self._on_document is not None:
            self._on_document(one.tokens)
        return one

    def __iter__(self) -> Iterator[Pairs]:
        show = None if self._progress is None else self._show
        return self._reader.read(map(self._take, self._passages), show)

    def _show(self, read: Progress) -> None:
        assert self._progress is not None
        n_tokens = self._n_skipped + read.tokens
        self._progress(Progress(self._meter.done(n_tokens), self._meter.total, n_tokens))


def _checked_shard(shard: Any, *, text_watermarked: bool) -> tuple[int, int]:
    """The shard, if it is one."""
    try:
        number, of = shard
    except (TypeError, ValueError):
        raise ArgumentError(f"shard must be two numbers (i, n), not {shard!r}") from None
    of = check_width("shard: n", of, 1, 2**31)
    number = check_width("shard: i", number, 1, of)
    if text_watermarked:
        raise ArgumentError(
            "shard= has no valid test with text_watermarked=True: such text must be read in the "
            "order in which it was written; split it into files that follow one another instead"
        )
    return number, of


def _only_last(one: Passage) -> Passage:
    """A passage of which only the last position is read."""
    rows = np.full_like(one.rows, -1)
    rows[-1:] = one.rows[-1:]
    return replace(one, rows=rows)


class _Vocabulary:
    """The vocabulary that contexts and targets are in: the watermark's, or else the model's.

    Attributes
    ----------
    alignment : Alignment or None
        If the two have different tokenizers.
    tokenizer : transformers tokenizer or None
    size, least : int
        See `Header`.
    """

    def __init__(
        self, suspect: LanguageModel, others: tuple[LanguageModel, ...], given: Any
    ) -> None:
        self.alignment = None
        self.tokenizer = suspect.tokenizer
        self.size = min(one.vocab_size for one in (suspect, *others))
        if given is not None and not same_vocabulary(given, suspect.tokenizer):
            self.alignment, self.tokenizer = Alignment(suspect, given), given
            self.size, self.least = len(given), given.vocab_size
        elif self.tokenizer is None:
            self.least = -(-9 * self.size // 10)
        else:
            self.least = min(self.tokenizer.vocab_size, self.size)


class _Meter:
    """How much of a text some tokens are: bytes of a corpus, else documents.

    Documents are read by length, not in order, so what is done is interpolated from the number of
    tokens that went through the model.

    Attributes
    ----------
    documents : Corpus-like, strings, chats or Documents
        The text, which must be read from here.
    total : int or None
        All of it.
    """

    def __init__(self, documents: Any, shard: tuple[int, int] | None = None) -> None:
        number, self._n_shards = (1, 1) if shard is None else shard
        self._tokens, self._work = [0], [0]
        self._is_corpus = hasattr(documents, "batches")
        if self._is_corpus:
            self.documents: Any = _Metered(documents, self)
            self.total: int | None = getattr(documents, "total_bytes", None)
            return
        documents = gathered(documents)
        kind = kind_of(documents)
        self.documents = Documents.of(documents) if kind == "ids" else documents
        single = isinstance(documents, str) or (
            isinstance(documents, (list, tuple))
            and kind == "chat"
            and isinstance(documents[0], dict)
        )
        total = 1 if single else len(self.documents)
        self.total = len(range(number - 1, total, self._n_shards))

    def passage(self, one: Passage) -> None:
        """Notes a document, unless it comes from a corpus, whose batches are noted instead."""
        if not self._is_corpus:
            self.add(len(one.ids), 1)

    def add(self, n_tokens: int, work: int) -> None:
        """Notes the next part of the text."""
        self._tokens.append(self._tokens[-1] + n_tokens)
        self._work.append(self._work[-1] + work)

    def done(self, n_tokens: int) -> int:
        """About how much of the text `n_tokens` of the shard are."""
        if self._is_corpus:  # all of whose tokens were noted
            n_tokens *= self._n_shards
        after = bisect_right(self._tokens, n_tokens)
        if after == len(self._tokens):
            return self._work[-1]
        low, high = self._tokens[after - 1], self._tokens[after]
        start, end = self._work[after - 1], self._work[after]
        return start + (end - start) * (n_tokens - low) // (high - low)


class _Metered:
    """A corpus whose batches a meter notes as they are read."""

    def __init__(self, corpus: Any, meter: _Meter) -> None:
        self._corpus, self._meter = corpus, meter
        self.batches = corpus.batches

    def __iter__(self) -> Iterator[Any]:
        for batch in self._corpus:
            prompts = 0 if batch.prompts is None else batch.prompts.n_tokens
            self._meter.add(batch.documents.n_tokens + prompts, batch.n_bytes)
            yield batch
