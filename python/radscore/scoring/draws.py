"""What a scheme's random function reads, so that draws are compared and not tokens.

Two windows share a random draw if their *units* are equal. What is read before the target is known
is the *seed*: windows of different seeds share no draw, whatever their targets. It is the context
itself or a hash of it. Self-salted seedings, and tables read by a hash of the whole window, have no
seed (`Scheme.seed_kind`); there windows are compared by their units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from radscore.schemes import Scheme

__all__ = ["SeenDraws", "context_draws", "neighbours", "tail_draws", "window_draws"]

#: One row per window; equal rows mean one seed (or unit).
Draws: TypeAlias = npt.NDArray[np.uint32]
Tokens: TypeAlias = npt.NDArray[np.uint32]


def window_draws(windows: Tokens, scheme: Scheme) -> Draws:
    """The seed of each window, or its unit where no seed is known before the target.

    Parameters
    ----------
    windows : ndarray of uint32, shape (n, window_width)
        Token ids, oldest first, the target last.
    scheme : Scheme
        Whose random function reads them.

    Returns
    -------
    ndarray of uint32, shape (n, m)
        The context, or four words of 32 bits.
    """
    if scheme.seed_kind == "context":
        return np.ascontiguousarray(windows[:, :-1], dtype=np.uint32)
    return _in_words(scheme.core.seeds(np.ascontiguousarray(windows, dtype=np.uint32)))


def tail_draws(tails: Tokens, scheme: Scheme) -> Draws:
    """The same for windows of which only the last tokens are known, if these fix it.

    Parameters
    ----------
    tails : ndarray of uint32, shape (n, own + 1)
        The last `own` tokens of a context (at least `scheme.core.least_own`), and the target.
    scheme : Scheme
        Whose random function reads them; its seed is not the context.
    """
    rows = np.ascontiguousarray(tails, dtype=np.uint32)
    return _in_words(scheme.core.seeds_of_tails(rows, rows.shape[1] - 1))


def _in_words(words: npt.NDArray[np.uint64]) -> Draws:
    halves = [words[:, 0] >> 32, words[:, 0], words[:, 1] >> 32, words[:, 1]]
    return np.column_stack([half & 0xFFFF_FFFF for half in halves]).astype(np.uint32)


def context_draws(contexts: Tokens, scheme: Scheme) -> Draws:
    """The seed of each context, for schemes that have one before the target is known."""
    assert scheme.seed_kind != "target"
    return window_draws(np.column_stack([contexts, np.zeros(len(contexts), np.uint32)]), scheme)


def neighbours(draws: Draws, scheme: Scheme) -> list[Draws]:
    """The draws, and those of the seeds one above and below if these can share a draw too."""
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
    """The seeds met so far, in reading order, for schemes that have seeds.

    It grows by one entry per distinct seed.
    """

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._seen: set[bytes] = set()

    def first(self, contexts: Tokens) -> npt.NDArray[np.bool_]:
        """Which contexts share no draw with an earlier one; all of them count as met afterwards.

        Parameters
        ----------
        contexts : ndarray of uint32, shape (n, window_width - 1)
            In reading order.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        draws = context_draws(contexts, self._scheme)
        new = np.empty(len(draws), dtype=np.bool_)
        for i, names in enumerate(zip(*map(_names, neighbours(draws, self._scheme)), strict=True)):
            new[i] = names[0] not in self._seen
            self._seen.update(names)
        return new


def _names(draws: Draws) -> list[Any]:
    rows = np.ascontiguousarray(draws)
    return [row.tobytes() for row in rows]
