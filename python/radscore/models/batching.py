"""What goes through a model at once, what comes out, and what was counted on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Counts", "Pairs", "Piece", "batches"]

_MOST_PADDING: Final = 1 / 16


@dataclass(frozen=True, eq=False)
class Pairs:
    """Weighted (context, target) pairs in reading order.

    Attributes
    ----------
    contexts : ndarray of uint32, shape (n, k)
    targets : ndarray of uint32, shape (n,)
    weights : ndarray of float64, shape (n,)
        A place without any weight can be there with one weight of 0, as a sign that it was read.
    occurrences : ndarray of uint64, shape (n,)
        The number of the context's last token among all that were read: pairs of one place share
        it, and it never decreases.
    """

    contexts: npt.NDArray[np.uint32]
    targets: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float64]
    occurrences: npt.NDArray[np.uint64]
    #: Whether it is the last portion of some documents: all that were counted are handed on then.
    last: bool = True

    def __len__(self) -> int:
        return len(self.targets)


@dataclass
class Counts:
    """What was read so far, and what of it was not scored."""

    n_documents: int = 0
    n_short_documents: int = 0
    n_tokens: int = 0
    n_scored_places: int = 0
    n_weights: int = 0
    #: Tokens that went through the model, those of padding included, and these alone.
    n_forward: int = 0
    n_padding: int = 0
    removed: dict[str, int] = field(default_factory=dict)

    def remove(self, reason: str, number: int) -> None:
        """Counts what was left out."""
        if number:
            self.removed[reason] = self.removed.get(reason, 0) + int(number)


@dataclass(frozen=True, eq=False)
class Piece:
    """What goes through the model at once: a document, or a part of one with what precedes it.

    `columns` are the positions of `ids` whose predictions are wanted, and `places` the numbers of
    the pool's places that they belong to.
    """

    ids: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]


def batches(pieces: list[Piece], batch_tokens: int) -> list[list[Piece]]:
    """The pieces, longest first, in batches of at most so many tokens, padding included.

    A batch also ends where one more piece would make padding a sixteenth of it.
    """
    made: list[list[Piece]] = []
    current: list[Piece] = []
    used = 0
    for piece in sorted(pieces, key=lambda one: -len(one.ids)):
        if current:
            longest = len(current[0].ids)
            size = longest * (len(current) + 1)
            padding = size - used - len(piece.ids)
            if size > batch_tokens or padding > _MOST_PADDING * size:
                made.append(current)
                current, used = [], 0
        current.append(piece)
        used += len(piece.ids)
    if current:
        made.append(current)
    return made
