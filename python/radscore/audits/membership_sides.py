"""Which sentences a membership test compares: candidates are mixed, and copies dropped."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.models.losses import Sentences

__all__ = ["drop_copies", "drop_repeated", "mixed"]


def mixed(members: Sentences, unseen: Sentences, degree: float, unit: str) -> Sentences:
    """Sentences with a share `degree` of members among the units, the first of both sides.

    Documents stay together. Nothing is drawn at random, so shuffle beforehand if the order matters.
    """
    own, others = _unit_numbers(members, unit), _unit_numbers(unseen, unit)
    n, n_unseen = int(own[-1]) + 1, int(others[-1]) + 1
    wanted = round(n * (1 - degree) / degree)
    if wanted > n_unseen:
        wanted = n_unseen
        n = min(n, round(wanted * degree / (1 - degree)))
        if n == 0:
            least = math.ceil((1 - degree) / degree)
            raise ArgumentError(
                f"unseen has {n_unseen} {unit}s, too few for supervision={degree:g}: a single "
                f"member needs {least}"
            )
    first, second = own < n, others < wanted
    shift = len(members.lengths)
    return Sentences(
        np.concatenate([members.ids[first], unseen.ids[second]]),
        np.concatenate([members.documents[first], unseen.documents[second] + shift]),
        np.concatenate([members.lengths, unseen.lengths]),
        members.n_short + unseen.n_short,
        members.n_dropped + unseen.n_dropped,
    )


def _unit_numbers(sentences: Sentences, unit: str) -> npt.NDArray[np.int64]:
    """Which unit each sentence belongs to, from 0."""
    if unit == "sentence":
        return np.arange(len(sentences))
    return np.unique(sentences.documents, return_inverse=True)[1]


def drop_repeated(sentences: Sentences) -> tuple[Sentences, int]:
    """The first of equal sentences of a side, and how many were dropped."""
    ids = sentences.ids
    first = np.sort(np.unique(ids, axis=0, return_index=True)[1])
    kept = replace(sentences, ids=ids[first], documents=sentences.documents[first])
    return kept, len(ids) - len(first)


def drop_copies(sentences: Sentences) -> tuple[Sentences, int]:
    """The documents of which earlier ones hold at most half, and how many were dropped."""
    ids, documents = sentences.ids, sentences.documents
    seen: set[bytes] = set()
    kept = np.zeros(len(ids), dtype=np.bool_)
    starts = np.flatnonzero(np.diff(documents, prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(ids)], strict=True):
        own = [row.tobytes() for row in ids[first:last]]
        if 2 * sum(sentence in seen for sentence in own) <= len(own):
            kept[first:last] = True
            seen.update(own)
    dropped = len(starts) - int(kept[starts].sum())
    return replace(sentences, ids=ids[kept], documents=documents[kept]), dropped
