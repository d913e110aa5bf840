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
        A position without any weight may appear with a single weight of 0, to show that it was
        read.
    occurrences : ndarray of uint64, shape (n,)
        The number of the context's last token among all tokens read: the pairs of one position
        share it, and it never decreases.
    last : bool
        Whether this portion completes the documents read so far: `Counts` then describes exactly
        what has been handed out.
    base : ndarray of float64, shape (n,), optional
        The reference's probability of each target; None if it is not known. If it is, a position's
        pairs are the tokens that were kept there, those of weight 0 too.
    """

    contexts: npt.NDArray[np.uint32]
    targets: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float64]
    occurrences: npt.NDArray[np.uint64]
    last: bool = True
    base: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass
class Counts:
    """What was read so far, and what of it was not scored.

    Attributes
    ----------
    n_documents, n_short_documents : int
        Documents read, and those among them without a single whole context.
    n_tokens : int
        In the watermark's vocabulary.
    n_scored_positions, n_weights : int
        Positions whose predictions count, and the weights other than 0 that they have.
    n_forward, n_padding : int
        Tokens that went through the model, padding included, and padding alone.
    removed : dict
        What was left out, by reason.
    """

    n_documents: int = 0
    n_short_documents: int = 0
    n_tokens: int = 0
    n_scored_positions: int = 0
    n_weights: int = 0
    n_forward: int = 0
    n_padding: int = 0
    removed: dict[str, int] = field(default_factory=dict)

    def remove(self, reason: str, number: int) -> None:
        """Counts what was left out."""
        if number:
            self.removed[reason] = self.removed.get(reason, 0) + int(number)


@dataclass(frozen=True, eq=False)
class Piece:
    """What goes through the model as one row: a document, or part of one and what precedes it.

    Attributes
    ----------
    ids : ndarray of int64
        What the model reads.
    columns : ndarray of int64, shape (n,)
        The positions in `ids` whose predictions are wanted, in rising order.
    indices : ndarray of int64, shape (n,)
        The context that each belongs to, numbered through the documents that are read together.
    """

    ids: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]


def batches(pieces: list[Piece], batch_tokens: int) -> list[list[Piece]]:
    """Packs pieces, longest first, into batches of at most `batch_tokens`, padding included.

    A batch also ends before a piece that would raise its share of padding above a sixteenth.
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
