"""`EndpointForward`: weights from the lists of likely tokens that an API returns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.answers.places import mean_lists
from radscore.errors import ArgumentError
from radscore.models.forward import BatchWeights, Forward
from radscore.models.listed import Listed
from radscore.models.listed_weights import listed_weights, looked_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.models.batching import Piece
    from radscore.models.loading import LanguageModel
    from radscore.models.weighting import Weighting

__all__ = ["EndpointForward"]

_CELLS_AT_ONCE: Final = 1 << 22
_TINY: Final = 1e-9


class EndpointForward(Forward):
    """Reads pieces by an API, all of a pool at once; a local reference then reads them in batches.

    Parameters
    ----------
    models : list of LanguageModel
        An `EndpointModel`, and the references where `weighting` needs them: all of them of this
        kind, or none.
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
        self._remote: list[Any] = [] if local else references
        self.pool_tokens = self._suspect.pool_tokens
        self._listed, self._others = Listed.of([]), Listed.of([])
        self._order: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def prepare(self, pieces: list[Piece]) -> None:
        """Asks for all pieces."""
        self._listed = Listed.joined(self._suspect.read(pieces))
        if self._remote:
            found = [Listed.joined(one.read(pieces)) for one in self._remote]
            self._others = mean_lists(found)
        for model in (self._suspect, *self._remote):
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
        if not self._remote:
            return self._of_lists(indices, listed, None, None)
        return self._of_lists(indices, listed, *looked_up(listed, _taken(self._others, places)))

    def _weigh(
        self,
        logits: list[Any],
        lines: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int64],
    ) -> BatchWeights:
        """Weights from the references' logits, of shape (lines, columns, V)."""
        import torch

        flat = [one.reshape(-1, one.shape[-1]) for one in logits]
        width = min(one.shape[1] for one in flat)
        wanted = torch.from_numpy(lines * logits[0].shape[1] + columns)
        listed = _taken(self._listed, self._order[indices], below=width)
        step = max(1, _CELLS_AT_ONCE // width)
        parts = []
        for start in range(0, len(wanted), step):
            end = min(start + step, len(wanted))
            several = [one[wanted[start:end].to(one.device)].float() for one in flat]
            self._check(several, several, indices[start:end])
            some = _mean([one.to(flat[0].device)[:, :width] for one in several])
            here = listed.positions(start, end)
            if self._weighting.kind == "matched":
                parts.append(self._of_all(indices[start:end], here, some))
            else:
                rows, ids = (
                    torch.from_numpy(_rows_of(here)),
                    torch.from_numpy(here.ids.astype("i8")),
                )
                known = some.log_softmax(dim=-1)[rows, ids].double().cpu().numpy()
                parts.append(self._of_lists(indices[start:end], here, known, None))
        return BatchWeights.joined(parts)

    def _of_lists(
        self,
        indices: npt.NDArray[np.int64],
        listed: Listed,
        reference: npt.NDArray[np.float64] | None,
        least: npt.NDArray[np.float64] | None,
    ) -> BatchWeights:
        """Weights of the tokens listed."""
        how = self._weighting
        if how.kind == "prediction":
            weights = _best(listed, how.top, self._limit)
        elif how.kind == "mass":
            weights = np.exp(listed.logprobs.astype(np.float64))
        elif reference is not None and how.kind == "contrast":
            weights = listed_weights(
                listed, reference, least=least, transform=how.transform, centred=how.centred
            )
        else:
            raise ArgumentError(
                f"weighting={how.kind!r} needs a reference on this machine: of one behind an API "
                "only the likeliest tokens are known"
            )
        keep = np.abs(weights) > (0.0 if how.kind == "prediction" else how.min_weight)
        rows, ids = _rows_of(listed)[keep], listed.ids[keep]
        return BatchWeights(indices, rows, ids, weights[keep].astype(np.float32))

    def _of_all(self, indices: npt.NDArray[np.int64], listed: Listed, logits: Any) -> BatchWeights:
        """Weights of all tokens: what the suspect does not list is guessed from the reference."""
        guessed = _completed(listed, logits.log_softmax(dim=-1).double())
        rows, ids, weights, base = self._weighting.sparse(guessed.float(), logits)
        known = np.diff(listed.offsets)[rows.cpu().numpy()] > 0
        rows, ids, weights, base = (one.cpu().numpy()[known] for one in (rows, ids, weights, base))
        return BatchWeights(indices, rows, ids.astype(np.uint32), weights, base)


def _mean(logits: list[Any]) -> Any:
    """The logits of the mean of several models' probabilities; a single one's as they are."""
    if len(logits) == 1:
        return logits[0]
    return (sum(one.softmax(dim=-1) for one in logits) / len(logits)).log()


def _completed(listed: Listed, reference: Any) -> Any:
    """The suspect's log-probabilities of all tokens, shape (n, V).

    Those not listed share what is left as they do in the reference, but none has more than the
    least that is listed.
    """
    import torch

    rows, ids = torch.from_numpy(_rows_of(listed)), torch.from_numpy(listed.ids.astype("i8"))
    rows, ids = rows.to(reference.device), ids.to(reference.device)
    values = torch.from_numpy(listed.logprobs.astype("f8")).to(reference.device)
    n = len(reference)
    zeros = torch.zeros(n, dtype=torch.float64, device=reference.device)
    mine = zeros.index_add(0, rows, values.exp())
    theirs = zeros.index_add(0, rows, reference[rows, ids].exp())
    share = ((1.0 - mine).clamp(min=_TINY) / (1.0 - theirs).clamp(min=_TINY)).log()
    least = zeros.scatter_reduce(0, rows, values, "amin")
    made = torch.minimum(reference + share[:, None], least[:, None])
    made[rows, ids] = values
    return made


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
    rows = _rows_of(listed)
    values = listed.logprobs.astype(np.float64)
    if limit is not None:
        values[listed.ids >= limit] = -math.inf
    order = np.lexsort((listed.ids, -values, rows))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - listed.offsets[rows[order]]
    return ((ranks < top) & (values > -math.inf)).astype(np.float64)


def _rows_of(listed: Listed) -> npt.NDArray[np.int64]:
    """The position of each token listed."""
    return np.repeat(np.arange(len(listed), dtype=np.int64), np.diff(listed.offsets))
