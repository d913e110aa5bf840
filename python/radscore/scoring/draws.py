"""What a scheme's random function reads, so that draws and not tokens are compared.

Two windows share a random draw when their *units* are equal. Before the target is known there is
the *seed*: windows of different seeds share no draw, whatever their targets are. It is the context
itself, or a hash of it; self-salted seedings and tables that a hash of the whole window reads have
none (`Scheme.seed_kind`), and there windows are compared by their units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from radscore.schemes import Scheme

__all__ = ["SeenDraws", "context_draws", "neighbours", "tail_draws", "window_draws"]

#: One row a window; equal rows, one seed (or unit).
Draws: TypeAlias = npt.NDArray[np.uint32]
Tokens: TypeAlias = npt.NDArray[np.uint32]


def window_draws(scheme: Scheme, windows: Tokens) -> Draws:
    """The seed of each window, or its unit where no seed is known before the target.

    Parameters
    ----------
    scheme : Scheme
        What reads them.
    windows : ndarray of uint32, shape (n, window_width)
        Token ids, oldest first, the target last.

    Returns
    -------
    ndarray of uint32, shape (n, m)
        The context, or four words of 32 bits.
    """
    if scheme.seed_kind == "context":
        return np.ascontiguousarray(windows[:, :-1], dtype=np.uint32)
    return _in_words(scheme.core.seeds(np.ascontiguousarray(windows, dtype=np.uint32)))


def tail_draws(scheme: Scheme, tails: Tokens) -> Draws:
    """The same of windows of which only the last tokens are known, as far as these fix it.

    Parameters
    ----------
    scheme : Scheme
        What reads them; its seed is not the context.
    tails : ndarray of uint32, shape (n, own + 1)
        The last `own` tokens of a context, from `scheme.core.least_own` on, and the target.
    """
    rows = np.ascontiguousarray(tails, dtype=np.uint32)
    return _in_words(scheme.core.seeds_of_tails(rows, rows.shape[1] - 1))


def _in_words(words: npt.NDArray[np.uint64]) -> Draws:
    halves = [words[:, 0] >> 32, words[:, 0], words[:, 1] >> 32, words[:, 1]]
    return np.column_stack([half & 0xFFFF_FFFF for half in halves]).astype(np.uint32)


def context_draws(scheme: Scheme, contexts: Tokens) -> Draws:
    """The seed of each context; not for schemes that have none before the target is known."""
    assert scheme.seed_kind != "target"
    return window_draws(scheme, np.column_stack([contexts, np.zeros(len(contexts), np.uint32)]))


def neighbours(scheme: Scheme, draws: Draws) -> list[Draws]:
    """The draws, and beside them those of seeds one above and below that can share a draw too."""
    if not scheme.core.seeds_reach_neighbours:
        return [draws]
    seeds = (draws[:, 2].astype(np.uint64) << np.uint64(32)) | draws[:, 3]
    found = [draws]
    for other in (seeds + np.uint64(1), seeds - np.uint64(1)):
        near = draws.copy()
        near[:, 2], near[:, 3] = other >> np.uint64(32), other & np.uint64(0xFFFF_FFFF)
        found.append(near)
    return found


class SeenDraws:
    """The seeds that were met so far, in reading order; for schemes that have seeds."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._seen: set[bytes] = set()

    def first(self, contexts: Tokens) -> npt.NDArray[np.bool_]:
        """Which contexts, one after the other, share no draw with one before; they are met now.

        Parameters
        ----------
        contexts : ndarray of uint32, shape (n, window_width - 1)
            In reading order.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        draws = context_draws(self._scheme, contexts)
        new = np.empty(len(draws), dtype=np.bool_)
        for i, names in enumerate(zip(*map(_names, neighbours(self._scheme, draws)), strict=True)):
            new[i] = names[0] not in self._seen
            self._seen.update(names)
        return new


def _names(draws: Draws) -> list[Any]:
    rows = np.ascontiguousarray(draws)
    return [row.tobytes() for row in rows]
