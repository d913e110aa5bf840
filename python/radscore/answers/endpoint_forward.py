"""`EndpointForward`: weights from the lists of likely tokens that an API returns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.models.forward import BatchWeights, Forward
from radscore.models.listed import Listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.models.batching import Piece
    from radscore.models.loading import LanguageModel
    from radscore.models.weighting import Weighting

__all__ = ["EndpointForward", "listed_weights", "looked_up"]


class EndpointForward(Forward):
    """Reads pieces by an API, all of a pool at once; a local reference then reads them in batches.

    Parameters
    ----------
    models : list of LanguageModel
        An `EndpointModel`, and the reference where `weighting` needs one: either kind.
    weighting, limit, locate
        As in `Forward`.
    """

    def __init__(
        self,
        models: list[LanguageModel],
        weighting: Weighting,
        *,
        limit: int | None,
        locate: Callable[[int], str],
    ) -> None:
        suspect: Any
        suspect, *references = models
        local = [one for one in references if one.forward is None]
        super().__init__(local, weighting, limit=limit, locate=locate)
        self._suspect = suspect
        self._remote: Any = references[0] if references and not local else None
        self.pool_tokens = self._suspect.pool_tokens
        self._listed, self._others = Listed.of([]), Listed.of([])
        self._order: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def prepare(self, pieces: list[Piece]) -> None:
        """Asks for all pieces."""
        self._listed = Listed.joined(self._suspect.read(pieces))
        if self._remote is not None:
            self._others = Listed.joined(self._remote.read(pieces))
        for model in (self._suspect, self._remote):
            if model is not None:
                for reason, number in model.lost.items():
                    self.lost[reason] = self.lost.get(reason, 0) + number
                model.lost.clear()
        indices = [piece.indices for piece in pieces] or [np.empty(0, dtype=np.int64)]
        every = np.concatenate(indices)
        self._order = np.full(int(every.max(initial=-1)) + 1, -1, dtype=np.int64)
        self._order[every] = np.arange(len(every))

    def batch(self, pieces: list[Piece]) -> BatchWeights | None:
        """The weights of pieces that were prepared."""
        if self.models:
            return super().batch(pieces)
        indices = np.concatenate([piece.indices for piece in pieces])
        places = self._order[indices]
        listed = _taken(self._listed, places)
        reference = None
        if self._remote is not None:
            reference = looked_up(listed, _taken(self._others, places))
        return self._of_lists(indices, listed, reference)

    def _weigh(
        self,
        logits: list[Any],
        lines: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int64],
    ) -> BatchWeights:
        """Weights from the reference's logits, of shape (lines, columns, V)."""
        import torch

        (flat,) = (one.reshape(-1, one.shape[-1]) for one in logits)
        wanted = torch.from_numpy(lines * logits[0].shape[1] + columns).to(flat.device)
        listed = _taken(self._listed, self._order[indices], below=flat.shape[1])
        sizes = np.diff(listed.offsets)
        q = np.empty(len(listed.ids), dtype=np.float64)
        rows = torch.from_numpy(np.repeat(np.arange(len(wanted)), sizes))
        ids = torch.from_numpy(listed.ids.astype(np.int64))
        step = max(1, (1 << 22) // flat.shape[1])
        for start in range(0, len(wanted), step):
            some = flat[wanted[start : start + step]].float()
            self._check([some], [some], indices[start : start + step])
            first, last = listed.offsets[[start, min(start + step, len(wanted))]]
            here = some.log_softmax(dim=-1)[rows[first:last] - start, ids[first:last]]
            q[first:last] = here.double().cpu().numpy()
        return self._of_lists(indices, listed, q)

    def _of_lists(
        self,
        indices: npt.NDArray[np.int64],
        listed: Listed,
        reference: npt.NDArray[np.float64] | None,
    ) -> BatchWeights:
        how = self._weighting
        if how.kind == "prediction":
            weights = _best(listed, how.top, self._limit)
        elif how.kind == "mass":
            weights = np.exp(listed.logprobs.astype(np.float64))
        elif reference is not None and how.kind == "contrast":
            centred = getattr(how, "centred", False)
            weights = listed_weights(listed, reference, how.transform, centred)
        else:
            raise ArgumentError(f"weighting={how.kind!r} needs all probabilities of the suspect")
        rows = np.repeat(np.arange(len(listed)), np.diff(listed.offsets))
        keep = np.abs(weights) > (how.min_weight if how.kind != "prediction" else 0.0)
        return BatchWeights(indices, rows[keep], listed.ids[keep], weights[keep].astype(np.float32))


def _taken(listed: Listed, places: npt.NDArray[np.int64], below: int = 2**32) -> Listed:
    """The lists of some positions, in that order, without tokens from `below` on."""
    starts, sizes = listed.offsets[places], np.diff(listed.offsets)[places]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
    ids, values = listed.ids[at], listed.logprobs[at]
    inside = ids < below
    if not inside.all():
        offsets = np.concatenate([[0], np.cumsum(inside)])[offsets]
        ids, values = ids[inside], values[inside]
    return Listed(offsets, ids, values)


def _best(listed: Listed, top: int, limit: int | None) -> npt.NDArray[np.float64]:
    """1 for the likeliest tokens of each list, the smaller ids first."""
    rows = np.repeat(np.arange(len(listed)), np.diff(listed.offsets))
    values = listed.logprobs.astype(np.float64)
    if limit is not None:
        values[listed.ids >= limit] = -math.inf
    order = np.lexsort((listed.ids, -values, rows))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - listed.offsets[rows[order]]
    return ((ranks < top) & (values > -math.inf)).astype(np.float64)


def looked_up(listed: Listed, others: Listed) -> npt.NDArray[np.float64]:
    """What another API says of the tokens listed: log-probabilities, aligned with `listed.ids`.

    A token that it does not list is at most as likely as the least that it does, and all such
    tokens together have what the listed ones leave. The least of the two bounds is taken: it does
    not make a token look gained where it was merely not listed.
    """
    rows = np.repeat(np.arange(len(listed)), np.diff(listed.offsets)).astype(np.int64)
    other_rows = np.repeat(np.arange(len(others)), np.diff(others.offsets)).astype(np.int64)
    keys = (other_rows << 32) | others.ids
    order = np.argsort(keys)
    wanted = (rows << 32) | listed.ids
    at = np.searchsorted(keys[order], wanted)
    at = order[np.minimum(at, max(len(order) - 1, 0))] if len(order) else np.zeros(0, np.int64)
    values = np.full(len(wanted), np.nan)
    if len(order):
        found = keys[at] == wanted
        values[found] = others.logprobs[at[found]]
    return values


def listed_weights(
    suspect: Listed,
    reference_logprobs: npt.NDArray[np.float64],
    transform: str,
    centred: bool,
) -> npt.NDArray[np.float64]:
    """Weights of the tokens listed: a function of both models' probabilities.

    Parameters
    ----------
    suspect : Listed
        Lists of the suspect's.
    reference_logprobs : ndarray of float64, shape (n,)
        Aligned with `suspect.ids`; NaN where nothing is known.
    transform : str
        A name in `CONTRASTS`, or "damped_relative".
    centred : bool
        Whether to subtract the mean of each list.

    Returns
    -------
    ndarray of float64, shape (n,)
        0 where nothing is known.
    """
    p = np.exp(suspect.logprobs.astype(np.float64))
    q = np.exp(reference_logprobs)
    weights = (
        (p - q) / (p + q + 1e-2) if transform == "damped_relative" else np.sqrt(p) - np.sqrt(q)
    )
    known = ~np.isnan(weights)
    weights = np.where(known, weights, 0.0)
    if centred:
        rows = np.repeat(np.arange(len(suspect)), np.diff(suspect.offsets))
        sums = np.bincount(rows, weights, minlength=len(suspect))
        counts = np.bincount(rows, known, minlength=len(suspect))
        weights = np.where(known, weights - (sums / np.maximum(counts, 1))[rows], 0.0)
    return weights
