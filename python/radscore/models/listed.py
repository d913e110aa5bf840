"""The likeliest tokens at each position, as far as a model behind an API tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

__all__ = ["Listed"]


@dataclass(frozen=True, eq=False, repr=False)
class Listed:
    """Lists of tokens with their log-probabilities, one list per position.

    An API lists the N likeliest tokens, usually with the one that stands there; what it does not
    list has at most the least probability listed. A list is empty where nothing is known.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_positions + 1,)
        Where each position's list begins; the last is the number of all tokens listed.
    ids : ndarray of uint32, shape (n,)
        Tokens; distinct within a list.
    logprobs : ndarray of float32, shape (n,)
        Their natural log-probabilities, at most 0; -inf for a probability of 0.

    Raises
    ------
    ArgumentError
        If shapes do not fit, or a log-probability is NaN or positive by more than 1e-3.
    """

    offsets: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint32]
    logprobs: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets", np.ascontiguousarray(self.offsets, dtype=np.int64))
        object.__setattr__(self, "ids", np.ascontiguousarray(self.ids, dtype=np.uint32))
        logprobs = np.ascontiguousarray(self.logprobs, dtype=np.float32)
        fits = self.offsets.ndim == 1 and len(self.offsets) and self.offsets[0] == 0
        if not fits or self.offsets[-1] != len(self.ids) or (np.diff(self.offsets) < 0).any():
            raise ArgumentError("offsets must rise from 0 to the number of tokens listed")
        if logprobs.shape != self.ids.shape or self.ids.ndim != 1:
            raise ArgumentError(
                f"there are {self.ids.shape} tokens, but {logprobs.shape} log-probabilities"
            )
        if not (logprobs <= 1e-3).all():  # NaN too
            raise ArgumentError("log-probabilities must be numbers of at most 0")
        object.__setattr__(self, "logprobs", np.minimum(logprobs, np.float32(0)))

    @classmethod
    def of(cls, rows: Iterable[dict[int, float]]) -> Listed:
        """From one dictionary of log-probabilities by token per position."""
        rows = list(rows)
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        ids = np.fromiter((token for row in rows for token in row), np.uint32)
        values = np.fromiter((value for row in rows for value in row.values()), np.float32)
        return cls(offsets, ids, values)

    @classmethod
    def joined(cls, parts: Iterable[Listed]) -> Listed:
        """All positions of several, one after the other."""
        parts = list(parts)
        sizes = np.concatenate([[0], *(np.diff(one.offsets) for one in parts)])
        empty = [cls.of([])]
        return cls(
            np.cumsum(sizes, dtype=np.int64),
            np.concatenate([one.ids for one in parts or empty]),
            np.concatenate([one.logprobs for one in parts or empty]),
        )

    def positions(self, start: int, end: int) -> Listed:
        """The lists of positions `start` to `end`."""
        offsets = self.offsets[start : end + 1]
        part = slice(offsets[0], offsets[-1])
        return Listed(offsets - offsets[0], self.ids[part], self.logprobs[part])

    def __len__(self) -> int:
        """Positions."""
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> dict[int, float]:
        """The list of one position."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        part = slice(self.offsets[position], self.offsets[position + 1])
        return dict(zip(self.ids[part].tolist(), self.logprobs[part].tolist(), strict=True))

    def __repr__(self) -> str:
        return f"Listed(n_positions={len(self)}, n_tokens={len(self.ids)})"
