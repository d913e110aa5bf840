"""Teacher forcing: a model reads text, and its predictions become weights, batch by batch.

Documents of similar length share a batch, so there is hardly any padding; those longer than the
model's window are read in overlapping pieces. When memory runs out the batch is halved, and a
single document that does not fit is read in segments; nothing that was read is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.documents import check_width
from radscore.errors import ArgumentError
from radscore.models.batching import Counts, Pairs, Piece, batches
from radscore.models.forward import BatchWeights, Forward
from radscore.models.loading import as_references
from radscore.models.passages import Passage, begins_with, prefix_of
from radscore.progress import Progress
from radscore.scoring.contexts import OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from radscore.models.loading import LanguageModel
    from radscore.models.weighting import Weighting
    from radscore.scoring.contexts import Contexts

__all__ = ["Reader"]

_LOGITS_BYTES: Final = 1 << 30
_BATCH_TOKENS: Final = (256, 16_384)
#: Batches' worth of documents that are sorted by length together. Fewer where a batch takes long,
#: since an interrupted run loses up to that many.
_POOL: Final = {"cpu": 4, "cuda": 16}
_REPEATED: Final = "positions whose context came before in the sequence"
_LOST: Final = "messages that the chat template changes or leaves out"
_PAIRS_AT_ONCE: Final = 1 << 20


class Reader:
    """Reads passages with a model, and with references beside it if the weighting needs them.

    Every token goes through each model once, except where pieces of long documents overlap.

    Parameters
    ----------
    model : LanguageModel
        The suspect.
    reference : LanguageModel or sequence of LanguageModel, optional
        The model to compare with; of several, the mean of their probabilities.
    weighting : Weighting
        How predictions become weights.
    limit : int
        Only ids below it can be targets.
    batch_tokens : int, optional
        Tokens per batch, padding included; by default as many as give a gigabyte of logits, but
        256 to 16,384.
    max_length : int, optional
        Longer documents are read in overlapping pieces of this many tokens; by default the models'
        context window.
    markers : bool
        Whether to hand out positions without any weight too, with a single weight of 0.
    translate : ndarray of int64, shape (V,), optional
        The watermark's id of each of the model's, -1 where there is none; by default they share
        their ids.
    contexts : Contexts, optional
        Only after these contexts predictions count; others are not weighed.

    Attributes
    ----------
    counts : Counts
        What was read so far.
    prefix : ndarray of int64
        The special tokens that the model reads before every text.
    max_length : int or None
        The longest piece.
    """

    def __init__(
        self,
        model: LanguageModel,
        reference: LanguageModel | Sequence[LanguageModel] | None,
        weighting: Weighting,
        *,
        limit: int,
        batch_tokens: int | None = None,
        max_length: int | None = None,
        markers: bool = False,
        translate: npt.NDArray[np.int64] | None = None,
        contexts: Contexts | None = None,
    ) -> None:
        references = as_references(reference)
        if weighting.needs_reference and not references:
            raise ArgumentError(f"weighting='{weighting.kind}' needs reference=")
        models = [model, *references] if weighting.needs_reference else [model]
        self.counts = Counts()
        local = [one for one in models if one.forward is None]
        if model.forward is None and len(local) < len(models):
            raise ArgumentError(
                "reference must be on this machine if the model is: of a reference behind an API "
                "only the likeliest tokens are known"
            )
        if 0 < len(local) < len(models) - 1:
            raise ArgumentError(
                "several references must all be on this machine, or all behind an API"
            )
        self.batch_tokens = (
            _default_tokens(local)
            if batch_tokens is None
            else check_width("batch_tokens", batch_tokens, 1, 2**30)
        )
        self.prefix = prefix_of(model)
        self.max_length = _longest(models, max_length, len(self.prefix))
        self._kind = weighting.kind
        self._limit = limit
        self._markers = markers
        self._translate = translate
        self._contexts = contexts
        own_limit = limit if translate is None else None
        make = model.forward or Forward
        self._forward = make(models, weighting, limit=own_limit, locate=self._locate)
        self._pool_tokens = self._forward.pool_tokens or self.batch_tokens * _pool(model)
        self._pool: list[Passage] = []  # what is being read
        self._n_before = 0  # tokens of the documents before it

    def read(
        self, passages: Iterable[Passage], progress: Callable[[Progress], None] | None = None
    ) -> Iterator[Pairs]:
        """Yields the weighted pairs of all passages, in reading order, in portions.

        Parameters
        ----------
        passages : iterable of Passage
            In reading order.
        progress : callable, optional
            Called with a `Progress` after every batch: the tokens of the documents read so far.
            Within documents that are read together, this is an estimate.

        Notes
        -----
        Whenever a portion with ``last`` has been taken, `counts` describes exactly what has been
        handed out.
        """
        pool: list[Passage] = []
        size = 0
        for one in passages:
            pool.append(one)
            size += len(one.ids) + 1
            if size >= self._pool_tokens:
                yield from self._read_pool(pool, progress)
                pool, size = [], 0
        if pool:
            yield from self._read_pool(pool, progress)

    def _read_pool(
        self, pool: list[Passage], progress: Callable[[Progress], None] | None
    ) -> Iterator[Pairs]:
        """Reads some documents, sorted by length; yields their pairs in reading order."""
        counts = self.counts
        pieces: list[Piece] = []
        first = 0
        self._pool = pool
        chosen = None
        if self._contexts is not None:
            chosen = self._contexts.has(np.concatenate([one.contexts for one in pool]))
        for one in pool:
            end = first + len(one.contexts)
            pieces += self._pieces(one, first, None if chosen is None else chosen[first:end])
            first = end
        size = sum(len(piece.ids) for piece in pieces)
        found: list[BatchWeights] = []
        done = 0
        self._forward.prepare(pieces)
        todo = batches(pieces, self.batch_tokens)[::-1]
        while todo:
            batch = todo.pop()
            read = self._forward.batch(batch)
            if read is None:  # out of memory
                if len(batch) > 1:
                    half = (len(batch) + 1) // 2
                    self.batch_tokens = max(1, len(batch[0].ids) * half)
                    todo += [batch[half:], batch[:half]]
                    continue
                read = self._forward.alone(batch[0])
            found.append(read)
            counts.n_forward += len(batch) * len(batch[0].ids)
            counts.n_padding += sum(len(batch[0].ids) - len(piece.ids) for piece in batch)
            done += sum(len(piece.ids) for piece in batch)
            if progress is not None:
                n_tokens = self._n_before + sum(len(one.ids) for one in pool) * done // size
                progress(Progress(n_tokens, None, n_tokens))
        self._n_before += sum(len(one.ids) for one in pool)
        for reason, number in self._forward.lost.items():
            counts.remove(reason, number)
        self._forward.lost.clear()
        yield from self._ordered(pool, found)

    def _pieces(
        self, one: Passage, first: int, chosen: npt.NDArray[np.bool_] | None
    ) -> list[Piece]:
        """A document whole, or in pieces that overlap by a quarter; each position in one of them.

        Every piece begins with the special tokens, the first with the document's own if it has
        them.
        """
        counts, rows = self.counts, one.rows
        counts.n_documents += 1
        counts.n_tokens += one.n_tokens
        counts.remove(_LOST, one.n_lost)
        if not len(one.contexts):
            counts.n_short_documents += 1
        if chosen is not None:
            counts.remove(OUTSIDE, ((rows >= 0) & ~chosen).sum())
            rows = np.where(chosen, rows, -1)
        if not (rows >= 0).any():
            return []
        before = self.prefix
        own = len(before) if begins_with(one.ids, before) else 0
        length = most = len(one.ids) - own
        step = max(1, most)
        if self.max_length is not None and most + len(before) > self.max_length:
            most = self.max_length - len(before)
            step = max(1, most - most // 4)
        pieces = []
        for skipped in range(0, max(length - most, 0) + step, step):
            # both in the document's own positions
            start, end = own + skipped, own + min(skipped + most, length)
            new = start + most - step if skipped else 0  # earlier ones are in the piece before
            wanted = (rows >= new) & (rows < end)
            if self._kind == "prediction":
                wanted = self._first_in(one.contexts, rows, wanted, start if skipped else 0)
            indices = np.flatnonzero(wanted)
            if len(indices):
                last = int(rows[indices].max()) + 1  # nothing after it is needed
                ids = np.concatenate([before, one.ids[start:last]])
                pieces.append(Piece(ids, rows[indices] - start + len(before), indices + first))
                counts.n_scored_positions += len(indices)
            if end == len(one.ids):
                break
        return pieces

    def _first_in(
        self,
        contexts: npt.NDArray[np.uint32],
        rows: npt.NDArray[np.int64],
        wanted: npt.NDArray[np.bool_],
        start: int,
    ) -> npt.NDArray[np.bool_]:
        """The wanted positions whose context is new in what the model attends to."""
        inside = np.flatnonzero((np.maximum.accumulate(rows) >= start) | (start == 0))
        if not len(inside) or not contexts.shape[1]:
            return wanted
        # every position from `start` on, scored or not: a whole context must lie in the piece
        _, firsts = np.unique(contexts[inside], axis=0, return_index=True)
        new = np.zeros_like(wanted)
        new[inside[firsts]] = True
        kept: npt.NDArray[np.bool_] = wanted & new
        self.counts.remove(_REPEATED, (wanted & ~new).sum())
        return kept

    def _locate(self, index: int) -> str:
        """The position behind a context of the pool, in words."""
        number = self.counts.n_documents - len(self._pool)
        for one in self._pool:
            if index < len(one.contexts):
                return f"position {one.rows[index]} of document {number}"
            index -= len(one.contexts)
            number += 1
        raise AssertionError(index)

    def _ordered(self, pool: list[Passage], found: list[BatchWeights]) -> Iterator[Pairs]:
        """The weights of a pool in reading order."""
        none = np.empty(0, np.float32)
        places, base = np.empty(0, np.int64), none if self._kind == "matched" else None
        every = BatchWeights(places, places, none.astype(np.uint32), none, base)
        if found:
            every = BatchWeights.joined(found)
        targets, keep = self._targets(every.ids)
        index = every.indices[every.rows][keep]
        columns: list[Any] = [targets, every.weights]
        columns += [] if every.base is None else [every.base]
        columns = [column[keep] for column in columns]
        contexts = np.concatenate([one.contexts for one in pool])
        if self._markers:
            silent = np.ones(len(contexts), dtype=np.bool_)
            silent[index] = False
            extra = np.flatnonzero(silent)
            index = np.concatenate([index, extra])
            columns = [np.concatenate([one, np.zeros(len(extra), one.dtype)]) for one in columns]
        # by target within a position, whatever the batch: equal inputs give equal files
        order = np.lexsort((columns[0], index))
        index = index[order]
        targets, weights, *probabilities = (column[order] for column in columns)
        self.counts.n_weights += int(np.count_nonzero(weights))
        before = self.counts.n_tokens - sum(one.n_tokens for one in pool)
        starts = before + np.cumsum([0, *(one.n_tokens for one in pool[:-1])])
        occurrences = np.concatenate(
            [one.positions + start for one, start in zip(pool, starts, strict=True)]
        ).astype(np.uint64)
        for part, last in _portions(index):
            yield Pairs(
                contexts[index[part]],
                targets[part],
                weights[part].astype(np.float64),
                occurrences[index[part]],
                last,
                probabilities[0][part].astype(np.float64) if probabilities else None,
            )

    def _targets(
        self, ids: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
        """The ids in the watermark's vocabulary, and which of them have one there."""
        if self._translate is not None:
            translated = self._translate[ids]
            known = (translated >= 0) & (translated < self._limit)
            reason = "predictions that are not a single token of the watermark's tokenizer"
            self.counts.remove(reason, len(ids) - known.sum())
            return np.where(known, translated, 0).astype(np.uint32), known
        known = ids < self._limit
        self.counts.remove("predictions outside of the vocabulary", len(ids) - known.sum())
        return ids, known


def _portions(index: npt.NDArray[Any]) -> Iterator[tuple[slice, bool]]:
    """Slices of about a million pairs that keep equal indices together, and whether it is the last.

    There is always at least one, possibly empty.
    """
    start, last = 0, False
    while not last:
        end = start + _PAIRS_AT_ONCE
        if end < len(index):
            end = int(np.searchsorted(index, index[end], side="right"))
        last = end >= len(index)
        yield slice(start, end), last
        start = end


def _pool(model: LanguageModel) -> int:
    return _POOL.get(str(model.device.type), _POOL["cuda"])


def _default_tokens(models: list[LanguageModel]) -> int:
    low, high = _BATCH_TOKENS
    if not models:
        return high
    import torch

    size = max(
        model.vocab_size * torch.empty(0, dtype=model.dtype).element_size() for model in models
    )
    return int(min(max(_LOGITS_BYTES // (size * len(models)), low), high))


def _longest(models: list[LanguageModel], asked: int | None, prefix: int) -> int | None:
    """Tokens that all models can attend to."""
    limits = [model.max_length for model in models if model.max_length is not None]
    if asked is not None:
        check_width("max_length", asked, prefix + 2, 2**30)
        if limits and asked > min(limits):
            raise ArgumentError(
                f"max_length must be at most the {min(limits)} tokens of the model's context "
                f"window, not {asked}"
            )
        return asked
    return min(limits) if limits else None
