"""`Progress`: what every `progress=` callback receives."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """How far a long call has come.

    Attributes
    ----------
    done : int
        Work done so far, in the call's own measure: bytes of a corpus, steps of a run, prompts.
    total : int or None
        All of it, in the same measure; None if nobody knows.
    tokens : int
        Tokens read, scored or written so far, including those of an earlier, interrupted call.
    """

    done: int
    total: int | None
    tokens: int
