"""Forward passes: a batch of pieces goes through the models, and sparse weights come out.

Only this module knows how networks are called and what to do when their memory runs out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.errors import ModelError
from radscore.models.memory import out_of_memory, release_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.models.batching import Piece
    from radscore.models.loading import LanguageModel
    from radscore.models.weighting import Weighting

__all__ = ["BatchWeights", "Forward"]

#: Bytes of logits that become weights together: what fits a processor's cache, or fills a GPU.
_SLICE_BYTES: Final = {"cpu": 1 << 22, "cuda": 1 << 28}
_SHORTEST_SEGMENT: Final = 16


@dataclass(frozen=True, eq=False)
class BatchWeights:
    """The weights that a batch of pieces yields.

    Attributes
    ----------
    indices : ndarray of int64, shape (n_positions,)
        `Piece.indices` of all pieces, one after the other.
    rows : ndarray of int64, shape (n_weights,)
        The entry of `indices` that each weight belongs to.
    ids : ndarray of uint32, shape (n_weights,)
        Targets, in the model's vocabulary.
    weights : ndarray of float32, shape (n_weights,)
    base : ndarray of float32, shape (n_weights,), or None
        The reference's probabilities, if the weighting keeps them.
    """

    indices: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]
    base: npt.NDArray[np.float32] | None = None

    @classmethod
    def joined(cls, parts: list[BatchWeights]) -> BatchWeights:
        """Those of several batches, one after the other."""
        before = np.cumsum([0, *(len(part.indices) for part in parts)])
        bases = [part.base for part in parts if part.base is not None]
        return cls(
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.rows + n for part, n in zip(parts, before, strict=False)]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate(bases) if bases else None,
        )


class Forward:
    """Runs the suspect, and the references if there are any, over batches of pieces.

    Each batch is one pass of each model. What comes out depends on a piece alone, not on what
    shares its batch, except for rounding: padding stands on the right, and no causal model looks
    there.

    Parameters
    ----------
    models : list of LanguageModel
        The suspect, and the references where `weighting` needs them.
    weighting : Weighting
    limit : int or None
        Predictions (``"prediction"``) are the best among the ids below it; None: among all.
    locate : callable
        Describes the position behind one of `Piece.indices`, for messages.

    Attributes
    ----------
    pool_tokens : int or None
        How many tokens to read together; None leaves it to the reader.
    lost : dict
        What was left out of the weights, by reason; whoever counts it clears it.
    """

    pool_tokens: int | None = None

    def __init__(
        self,
        models: list[LanguageModel],
        weighting: Weighting,
        *,
        limit: int | None,
        locate: Callable[[int], str],
    ) -> None:
        self.models = models
        self._weighting = weighting
        self._limit = limit if weighting.kind == "prediction" else None
        self._locate = locate
        self.lost: dict[str, int] = {}

    def prepare(self, pieces: list[Piece]) -> None:
        """Takes notice of pieces that `batch` will be given in turn."""

    def batch(self, pieces: list[Piece]) -> BatchWeights | None:
        """The weights of pieces of falling length; None if memory does not suffice."""
        return self._attempt(partial(self._whole, pieces))

    def alone(self, piece: Piece) -> BatchWeights:
        """The weights of a single piece that does not fit: read in segments, ever shorter ones.

        Raises
        ------
        ModelError
            If the shortest segments do not fit either.
        """
        step = length = len(piece.ids)
        while step > _SHORTEST_SEGMENT:
            step = max(_SHORTEST_SEGMENT, (step + 1) // 2)
            found = self._attempt(partial(self._in_segments, piece, step))
            if found is not None:
                return found
        raise ModelError(
            f"too little memory to read one document of {length} tokens with "
            f"{self.models[0].name}; set a smaller max_length to read it in pieces"
        )

    def _attempt(self, read: Callable[[], BatchWeights]) -> BatchWeights | None:
        import torch

        try:
            with torch.inference_mode():
                return read()
        except Exception as error:
            if not out_of_memory(error):
                raise
        release_memory()  # outside of the handler, whose traceback holds the tensors
        return None

    def _whole(self, pieces: list[Piece]) -> BatchWeights:
        longest = len(pieces[0].ids)
        ids = np.empty((len(pieces), longest), dtype=np.int64)
        for line, piece in zip(ids, pieces, strict=True):
            line[: len(piece.ids)] = piece.ids
            line[len(piece.ids) :] = piece.ids[-1]
        lines = np.repeat(np.arange(len(pieces)), [len(piece.columns) for piece in pieces])
        columns = np.concatenate([piece.columns for piece in pieces])
        indices = np.concatenate([piece.indices for piece in pieces])
        needed = np.unique(columns)
        kept = None
        if len(needed) < 0.9 * longest:  # skip the output layer elsewhere
            kept = needed
            columns = np.searchsorted(needed, columns)
        logits = [_logits(model, ids, kept) for model in self.models]
        return self._weigh(logits, lines, columns, indices)

    def _in_segments(self, piece: Piece, step: int) -> BatchWeights:
        import torch

        caches: list[Any] = [None] * len(self.models)
        parts: list[BatchWeights] = []
        for start in range(0, len(piece.ids), step):
            ids = torch.from_numpy(piece.ids[None, start : start + step])
            logits = []
            for i, model in enumerate(self.models):
                name = _cache_name(model)
                given = {"input_ids": ids.to(model.device), "use_cache": True, name: caches[i]}
                out = model.model(**given)
                caches[i] = out[name]
                logits.append(out.logits)
                del out
            here = (piece.columns >= start) & (piece.columns < start + step)
            if here.any():
                columns = piece.columns[here] - start
                zeros = np.zeros_like(columns)
                parts.append(self._weigh(logits, zeros, columns, piece.indices[here]))
        return BatchWeights.joined(parts)  # columns rise, so that is their order

    def _weigh(
        self,
        logits: list[Any],
        lines: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int64],
    ) -> BatchWeights:
        """Turns logits of shape (lines, columns, V) into weights, some positions at a time."""
        import torch

        device = logits[0].device
        width = min(one.shape[-1] for one in logits)
        room = _SLICE_BYTES.get(device.type, _SLICE_BYTES["cuda"])
        step = max(1, room // (4 * width))
        flat = [one.reshape(-1, one.shape[-1]) for one in logits]
        wanted = lines * logits[0].shape[1] + columns
        index = torch.from_numpy(wanted)
        parts: list[tuple[Any, ...]] = []
        for start in range(0, len(index), step):
            chosen: Any = index[start : start + step]
            first, last = int(wanted[start]), int(wanted[start + len(chosen) - 1])
            if last - first == len(chosen) - 1:  # adjacent, as most are: no copy
                some = [one[first : last + 1].to(device, torch.float32) for one in flat]
            else:
                some = [one[chosen.to(one.device)].to(device, torch.float32) for one in flat]
            used = [one[:, :width][:, : self._limit] for one in some]
            self._check(some, used, indices[start : start + len(chosen)])
            rows, ids, weights, base = self._weighting.sparse(*used)
            parts.append((rows + start, ids, weights, base))
        joined: list[Any] = [
            None if column[0] is None else torch.cat(column).cpu().numpy()
            for column in zip(*parts, strict=True)
        ]
        rows, ids, weights, base = joined
        return BatchWeights(indices, rows, ids.astype(np.uint32), weights, base)

    def _check(self, some: list[Any], used: list[Any], indices: npt.NDArray[np.int64]) -> None:
        """Raises unless each model gives a distribution over all tokens, and over those used.

        A logit of -inf is a token that is never predicted. The largest logit is finite exactly
        where the sum of the exponentials is, and takes one pass instead of two.
        """
        import torch

        for model, whole, part in zip(self.models, some, used, strict=True):
            for one in [whole] if part.shape == whole.shape else [whole, part]:
                bad = ~torch.isfinite(one.amax(dim=-1))
                if bool(bad.any()):
                    row = int(bad.nonzero()[0, 0])
                    kind = "NaN" if bool(one[row].isnan().any()) else "infinite"
                    raise ModelError(
                        f"{model.name} gives logits that are {kind} at "
                        f"{self._locate(int(indices[row]))}; its weights are damaged, or too large "
                        "for its dtype (dtype='float32')"
                    )


def _logits(model: LanguageModel, ids: npt.NDArray[np.int64], kept: Any) -> Any:
    """The model's logits at the columns `kept`, all of them if None."""
    import torch

    given = torch.from_numpy(ids).to(model.device)
    if kept is None:
        return model.model(input_ids=given, use_cache=False).logits
    columns = torch.from_numpy(kept)
    if _takes(model, "logits_to_keep"):
        columns = columns.to(model.device)
        return model.model(input_ids=given, use_cache=False, logits_to_keep=columns).logits
    logits = model.model(input_ids=given, use_cache=False).logits
    return logits[:, columns.to(logits.device)]


def _takes(model: LanguageModel, name: str) -> bool:
    """Whether the network's forward pass has such an argument."""
    import inspect

    network = model.model
    if hasattr(network, "get_base_model"):
        network = network.get_base_model()
    return name in inspect.signature(network.forward).parameters


def _cache_name(model: LanguageModel) -> str:
    """What the network calls its cache of keys and values: transformers renamed it."""
    return "cache" if _takes(model, "cache") else "past_key_values"
