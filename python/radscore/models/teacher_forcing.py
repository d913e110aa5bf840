"""Teacher forcing: a model reads text, and its predictions become weights, batch by batch.

Documents of equal or similar length share a batch, so that hardly anything is padded; those
beyond the model's window are read in overlapping pieces. Padding stands on the right and no causal
model looks there, so a document's weights do not depend on what else is in its batch, but for the
rounding of floats. When memory runs out the batch is halved, and a single document is read in
segments; what was read is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.documents import check_width
from radscore.errors import ArgumentError, ModelError
from radscore.models.batching import Counts, Pairs, Piece, batches
from radscore.models.texts import Passage, begins_with, prefix_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from radscore.models.loading import LanguageModel
    from radscore.models.weighting import Weighting

__all__ = ["Counts", "Pairs", "Piece", "Reader", "batches"]

_LOGITS_BYTES: Final = 1 << 30
_BATCH_TOKENS: Final = (256, 16_384)
#: Documents are put together by length within so many batches, whatever the machine: less where
#: a batch takes long, since an interrupted run loses up to so many.
_POOL: Final = {"cpu": 4, "cuda": 16}
_REPEATED: Final = "places whose context came before in the sequence"
_LOST: Final = "messages that the chat template changes or leaves out"
_PAIRS_AT_ONCE: Final = 1 << 20
#: Logits that become weights together: what stays in a processor's cache, or fills a GPU.
_SLICE_BYTES: Final = {"cpu": 1 << 22, "cuda": 1 << 28}
_SHORTEST_SEGMENT: Final = 16


class Reader:
    """Reads passages with a model, and a reference beside it where the weighting needs one.

    Parameters
    ----------
    model, reference : LanguageModel
        The suspect, and the model to compare with (or None).
    weighting : Weighting
        How predictions become weights.
    limit : int
        Only ids below it can be targets.
    batch_tokens : int, optional
        Tokens of a batch, padding included; by default as many as give a gigabyte of logits, from
        256 to 16,384.
    max_length : int, optional
        Longer documents are read in overlapping pieces of so many tokens; by default the models'
        own context window.
    markers : bool
        Whether places without any weight are handed on too, with one weight of 0.
    translate : ndarray of int64, shape (V,), optional
        The watermark's id of each of the model's, -1 where there is none; by default they share
        their ids.

    Attributes
    ----------
    counts : Counts
        What was read so far.
    """

    def __init__(
        self,
        model: LanguageModel,
        reference: LanguageModel | None,
        weighting: Weighting,
        *,
        limit: int,
        batch_tokens: int | None = None,
        max_length: int | None = None,
        markers: bool = False,
        translate: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if weighting.needs_reference and reference is None:
            raise ArgumentError("weighting='contrast' needs reference=")
        self.weighting = weighting
        self.models = [model]
        if reference is not None and weighting.needs_reference:
            self.models.append(reference)
        self.counts = Counts()
        self.batch_tokens = (
            _default_tokens(self.models)
            if batch_tokens is None
            else check_width("batch_tokens", batch_tokens, 1, 2**30)
        )
        kind = str(model.device.type)
        self._pool_tokens = _POOL.get(kind, _POOL["cuda"]) * self.batch_tokens
        #: The special tokens that the model reads before every text.
        self.prefix = prefix_of(model)
        self.max_length = _longest(self.models, max_length, len(self.prefix))
        self._limit = limit
        self._markers = markers
        self._translate = translate
        self._pool: list[Passage] = []  # what is being read

    def read(
        self, passages: Iterable[Passage], progress: Callable[[Counts], None] | None = None
    ) -> Iterator[Pairs]:
        """The weighted pairs of all passages, in reading order, in portions.

        Parameters
        ----------
        passages : iterable of Passage
            In reading order.
        progress : callable, optional
            Called with `counts` after every batch.

        Notes
        -----
        `counts` is that of everything handed on whenever a portion with ``last`` has been taken.
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
        self, pool: list[Passage], progress: Callable[[Counts], None] | None
    ) -> Iterator[Pairs]:
        """Reads some documents, by length; gives their pairs in reading order."""
        pieces: list[Piece] = []
        first = 0
        self._pool = pool
        for one in pool:
            pieces += self._pieces(one, first)
            first += len(one.contexts)
        found: list[tuple[npt.NDArray[Any], ...]] = []
        todo = batches(pieces, self.batch_tokens)[::-1]
        while todo:
            batch = todo.pop()
            read = self._try(batch)
            if read is None:  # out of memory
                if len(batch) > 1:
                    half = (len(batch) + 1) // 2
                    self.batch_tokens = max(1, len(batch[0].ids) * half)
                    todo += [batch[half:], batch[:half]]
                    continue
                read = self._in_segments(batch[0])
            found.append(read)
            self.counts.n_forward += len(batch) * len(batch[0].ids)
            self.counts.n_padding += sum(len(batch[0].ids) - len(piece.ids) for piece in batch)
            if progress is not None:
                progress(self.counts)
        yield from self._ordered(pool, found)

    def _pieces(self, one: Passage, first: int) -> list[Piece]:
        """A document whole, or in pieces that overlap by a quarter; each place in one of them.

        Every piece begins with the special tokens: the document's own in the first, if it has them.
        """
        counts, rows = self.counts, one.rows
        counts.n_documents += 1
        counts.n_tokens += one.n_tokens
        counts.remove(_LOST, one.n_lost)
        if not len(one.contexts):
            counts.n_short_documents += 1
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
            fresh = start + most - step if skipped else 0  # what precedes was read before
            wanted = (rows >= fresh) & (rows < end)
            if self.weighting.kind == "prediction":
                wanted = self._first_in(one.contexts, rows, wanted, start if skipped else 0)
            chosen = np.flatnonzero(wanted)
            if len(chosen):
                last = int(rows[chosen].max()) + 1  # nothing after it is needed
                ids = np.concatenate([before, one.ids[start:last]])
                pieces.append(Piece(ids, rows[chosen] - start + len(before), chosen + first))
                counts.n_scored_places += len(chosen)
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
        """Places whose context occurs there for the first time in what the model attends to."""
        place = np.flatnonzero((np.maximum.accumulate(rows) >= start) | (start == 0))
        if not len(place) or not contexts.shape[1]:
            return wanted
        # every place from `start` on, scored or not: a whole context must lie within the piece
        _, firsts = np.unique(contexts[place], axis=0, return_index=True)
        new = np.zeros_like(wanted)
        new[place[firsts]] = True
        kept: npt.NDArray[np.bool_] = wanted & new
        self.counts.remove(_REPEATED, (wanted & ~new).sum())
        return kept

    def _try(self, batch: list[Piece]) -> tuple[npt.NDArray[Any], ...] | None:
        """The weights of a batch; None where memory does not suffice."""
        import torch

        failed = False
        try:
            with torch.inference_mode():
                return self._forward(batch)
        except (torch.OutOfMemoryError, MemoryError):
            failed = True
        except RuntimeError as error:
            if not _is_memory(error):
                raise
            failed = True
        # outside of the handler, so that the frames with their tensors are gone
        if failed and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _forward(self, batch: list[Piece]) -> tuple[npt.NDArray[Any], ...]:
        """One pass over a batch: places, and the rows, ids and weights of what counts there."""
        import torch

        longest = len(batch[0].ids)
        ids = np.empty((len(batch), longest), dtype=np.int64)
        for line, piece in zip(ids, batch, strict=True):
            line[: len(piece.ids)] = piece.ids
            line[len(piece.ids) :] = piece.ids[-1]
        lines = np.repeat(np.arange(len(batch)), [len(piece.columns) for piece in batch])
        columns = np.concatenate([piece.columns for piece in batch])
        places = np.concatenate([piece.places for piece in batch])
        needed = np.unique(columns)
        options: dict[str, Any] = {}
        if len(needed) < 0.9 * longest:  # the output layer is skipped elsewhere
            options["logits_to_keep"] = needed
            columns = np.searchsorted(needed, columns)
        logits = []
        for model in self.models:
            given = torch.from_numpy(ids).to(model.device)
            logits.append(_logits(model, given, options))
        return (places, *self._weights(logits, lines, columns, places))

    def _weights(
        self,
        logits: list[Any],
        lines: npt.NDArray[Any],
        columns: npt.NDArray[Any],
        places: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[Any], ...]:
        """Rows (numbers of places of this batch), ids and weights; a slice of places at a time."""
        import torch

        device = logits[0].device
        width = min(one.shape[-1] for one in logits)
        room = _SLICE_BYTES.get(device.type, _SLICE_BYTES["cuda"])
        step = max(1, room // (4 * width))
        flat = [one.reshape(-1, one.shape[-1]) for one in logits]
        wanted = lines * logits[0].shape[1] + columns
        index = torch.from_numpy(wanted)
        parts: list[tuple[Any, Any, Any]] = []
        for start in range(0, len(index), step):
            chosen: Any = index[start : start + step]
            first, last = int(wanted[start]), int(wanted[start + len(chosen) - 1])
            if last - first == len(chosen) - 1:  # one after the other, as most are: no copy
                some = [one[first : last + 1].to(device, torch.float32) for one in flat]
            else:
                some = [one[chosen.to(one.device)].to(device, torch.float32) for one in flat]
            used = [one[:, :width] for one in some]
            if self.weighting.kind == "prediction" and self._translate is None:
                used = [one[:, : self._limit] for one in used]
            self._check(some, used, places[start : start + len(chosen)])
            rows, ids, weights = self.weighting.sparse(*used)
            parts.append((rows + start, ids, weights))
        rows, ids, weights = (
            torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)
        )
        return rows, ids.astype(np.uint32), weights

    def _check(self, some: list[Any], used: list[Any], places: npt.NDArray[np.int64]) -> None:
        """Raises where a model gives no distribution over the tokens, or over those that count.

        -inf is a token that is never predicted. The largest logit is finite where the sum of the
        exponentials is, and takes one pass instead of two.
        """
        import torch

        for model, whole, part in zip(self.models, some, used, strict=True):
            for one in [whole] if part.shape == whole.shape else [whole, part]:
                bad = ~torch.isfinite(one.amax(dim=-1))
                if bool(bad.any()):
                    row = int(bad.nonzero()[0, 0])
                    what = one[row]
                    kind = "NaN" if bool(what.isnan().any()) else "infinite"
                    raise ModelError(
                        f"{model.name} gives logits that are {kind} at {self._where(places[row])}; "
                        "its weights are damaged, or too large for its dtype (dtype='float32')"
                    )

    def _where(self, place: int) -> str:
        """A place of the pool in words, for messages."""
        number = self.counts.n_documents - len(self._pool)
        for one in self._pool:
            if place < len(one.contexts):
                return f"position {one.rows[place]} of document {number}"
            place -= len(one.contexts)
            number += 1
        raise AssertionError(place)

    def _in_segments(self, piece: Piece) -> tuple[npt.NDArray[Any], ...]:
        """A single document that does not fit, a part after the other."""
        import torch

        length = len(piece.ids)
        step = length
        while step > _SHORTEST_SEGMENT:
            step = max(_SHORTEST_SEGMENT, (step + 1) // 2)
            try:
                with torch.inference_mode():
                    return self._segments(piece, step)
            except (torch.OutOfMemoryError, MemoryError):
                pass
            except RuntimeError as error:
                if not _is_memory(error):
                    raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        raise ModelError(
            f"there is too little memory to read one document of {length} tokens with "
            f"{self.models[0].name}; a smaller max_length reads it in pieces"
        )

    def _segments(self, piece: Piece, step: int) -> tuple[npt.NDArray[Any], ...]:
        import torch

        kept: list[Any] = [None] * len(self.models)
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        for start in range(0, len(piece.ids), step):
            ids = torch.from_numpy(piece.ids[None, start : start + step])
            logits = []
            for i, model in enumerate(self.models):
                name = _kept(model)
                given = {"input_ids": ids.to(model.device), "use_cache": True, name: kept[i]}
                out = model.model(**given)
                kept[i] = out[name]
                logits.append(out.logits)
                del out
            here = (piece.columns >= start) & (piece.columns < start + step)
            if here.any():
                columns = piece.columns[here] - start
                rows, targets, weights = self._weights(
                    logits, np.zeros_like(columns), columns, piece.places[here]
                )
                parts.append((rows + np.flatnonzero(here)[0], targets, weights))
        columns3 = (np.concatenate(column) for column in zip(*parts, strict=True))
        return (piece.places, *columns3)

    def _ordered(
        self, pool: list[Passage], found: list[tuple[npt.NDArray[Any], ...]]
    ) -> Iterator[Pairs]:
        """The weights of a pool in reading order."""
        n_places = sum(len(one.contexts) for one in pool)
        place = np.concatenate([places[rows] for places, rows, *_ in found] or [np.empty(0, int)])
        targets = np.concatenate([ids for *_, ids, _ in found] or [np.empty(0, np.uint32)])
        weights = np.concatenate([w for *_, w in found] or [np.empty(0, np.float32)])
        targets, keep = self._targets(targets)
        place, targets, weights = place[keep], targets[keep], weights[keep]
        if self._markers:
            silent = np.ones(n_places, dtype=np.bool_)
            silent[place] = False
            extra = np.flatnonzero(silent)
            place = np.concatenate([place, extra])
            targets = np.concatenate([targets, np.zeros(len(extra), np.uint32)])
            weights = np.concatenate([weights, np.zeros(len(extra), np.float32)])
        # within a place by target, whatever the batch: equal inputs, equal files
        order = np.lexsort((targets, place))
        place, targets, weights = place[order], targets[order], weights[order]
        self.counts.n_weights += int(np.count_nonzero(weights))
        tokens = sum(one.n_tokens for one in pool)
        base = self.counts.n_tokens - tokens
        contexts, numbers = [], []
        for one in pool:
            contexts.append(one.contexts)
            numbers.append(one.places + base)
            base += one.n_tokens
        all_contexts = np.concatenate(contexts)
        all_numbers = np.concatenate(numbers).astype(np.uint64)
        start, last = 0, False
        while not last:
            end = start + _PAIRS_AT_ONCE
            last = end >= len(place)
            if not last:  # a place's pairs stay together
                end = int(np.searchsorted(place, place[end], side="right"))
            part = slice(start, end)
            last = last or end >= len(place)
            yield Pairs(
                all_contexts[place[part]],
                targets[part],
                weights[part].astype(np.float64),
                all_numbers[place[part]],
                last,
            )
            start = end

    def _targets(
        self, ids: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
        """The ids in the watermark's vocabulary, and which have one there."""
        if self._translate is not None:
            translated = self._translate[ids]
            known = (translated >= 0) & (translated < self._limit)
            reason = "predictions that are no single token of the watermark's tokenizer"
            self.counts.remove(reason, len(ids) - known.sum())
            return np.where(known, translated, 0).astype(np.uint32), known
        known = ids < self._limit
        self.counts.remove("predictions outside of the vocabulary", len(ids) - known.sum())
        return ids, known


def _logits(model: LanguageModel, ids: Any, options: dict[str, Any]) -> Any:
    """The model's logits, where `options` say."""
    import torch

    given = dict(options)
    if "logits_to_keep" in given:
        if not _takes(model, "logits_to_keep"):
            logits = model.model(input_ids=ids, use_cache=False).logits
            return logits[:, torch.from_numpy(given["logits_to_keep"]).to(logits.device)]
        given["logits_to_keep"] = torch.from_numpy(given["logits_to_keep"]).to(model.device)
    return model.model(input_ids=ids, use_cache=False, **given).logits


def _takes(model: LanguageModel, name: str) -> bool:
    """Whether the network's forward pass has such an argument."""
    import inspect

    network = model.model
    if hasattr(network, "get_base_model"):
        network = network.get_base_model()
    return name in inspect.signature(network.forward).parameters


def _kept(model: LanguageModel) -> str:
    """What the network calls the keys and values of what was read: transformers renamed it."""
    return "cache" if _takes(model, "cache") else "past_key_values"


def _default_tokens(models: list[Any]) -> int:
    import torch

    size = max(
        model.vocab_size * torch.empty(0, dtype=model.dtype).element_size() for model in models
    )
    low, high = _BATCH_TOKENS
    return int(min(max(_LOGITS_BYTES // (size * len(models)), low), high))


def _longest(models: list[Any], asked: int | None, prefix: int) -> int | None:
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


def _is_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory on a device that has no error of its own for it."""
    text = str(error).lower()
    return "can't allocate memory" in text or "out of memory" in text
