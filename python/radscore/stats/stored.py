"""Weights of units, in memory or in files, a part at a time.

Sums go part by part in either case, so that they are the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.stats.tails import FloatArray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PART", "Stored", "Weights", "groups_in_parts", "in_parts"]

#: Weights that are worked on at once.
PART: Final = 1 << 16
Ids: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Stored:
    """Numbers in a file, one after the other.

    Attributes
    ----------
    path : Path
        The file, which must outlive this.
    n : int
        How many there are.
    dtype : {"f8", "u8"}
        What they are.
    """

    path: Path
    n: int
    dtype: str = "f8"

    def __len__(self) -> int:
        return self.n

    def read(self, start: int, end: int) -> npt.NDArray[Any]:
        """The numbers of a range."""
        return np.fromfile(self.path, self.dtype, min(end, self.n) - start, offset=8 * start)


Weights: TypeAlias = FloatArray | Stored


def in_parts(weights: Weights) -> Iterator[FloatArray]:
    """The weights, `PART` at a time."""
    for start in range(0, len(weights), PART):
        yield _part(weights, start, start + PART)


def _part(values: FloatArray | Ids | Stored, start: int, end: int) -> npt.NDArray[Any]:
    return values.read(start, end) if isinstance(values, Stored) else values[start:end]


def groups_in_parts(
    weights: Weights, ids: Ids | Stored
) -> Iterator[tuple[FloatArray, npt.NDArray[np.intp]]]:
    """Weights and the numbers of their groups within the part, whole groups at a time.

    Parameters
    ----------
    weights : ndarray of float64 or Stored, shape (n,)
        Of all units.
    ids : ndarray of int or Stored, shape (n,)
        The group of each, ascending.
    """
    start, n = 0, len(weights)
    while start < n:
        size = PART
        while True:
            part = _part(ids, start, start + size)
            if start + size >= n or part[-1] != part[0]:
                break
            size *= 2  # a group that fills the part
        if start + size < n:
            part = part[: int(np.searchsorted(part, part[-1]))]
        index = np.cumsum(np.diff(part, prepend=part[0]) != 0)
        yield _part(weights, start, start + len(part)), index
        start += len(part)
