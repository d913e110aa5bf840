"""Windows of answers, which of them count, and how often each occurs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.documents import Documents
    from radscore.kgrams import KgramSet

__all__ = ["Counts", "Kept", "count_windows", "kept_windows"]

Ids: TypeAlias = npt.NDArray[np.int64]
Tokens: TypeAlias = npt.NDArray[np.uint32]
Floats: TypeAlias = npt.NDArray[np.float64]

_MOST_BITS = 62


@dataclass(frozen=True, eq=False)
class Kept:
    """The windows of some answers that count, in reading order.

    Attributes
    ----------
    contexts : ndarray of uint32, shape (n, k)
    targets : ndarray of uint32, shape (n,)
    n_windows, n_excluded, n_filtered : int
        All windows; those whose context is in a prompt; those outside of the filter.
    """

    contexts: Tokens
    targets: Tokens
    n_windows: int
    n_excluded: int
    n_filtered: int


@dataclass(frozen=True, eq=False)
class Counts:
    """How often distinct windows occur in the suspect's and in a reference's answers.

    Attributes
    ----------
    contexts : ndarray of uint32, shape (n, k)
    targets : ndarray of uint32, shape (n,)
        Distinct windows, by their first occurrence in the suspect's answers; those that only the
        reference has come last.
    a, n_a : ndarray of float64, shape (n,)
        Occurrences of the window, and of its context, in the suspect's answers.
    b, n_b : ndarray of float64, shape (n,)
        The same in the reference's; 0 without one.
    share : ndarray of float64, shape (n,)
        What the target's probability would be if nothing were known of the context: from shorter
        and shorter contexts of the reference's answers (of the suspect's without a reference).
    """

    contexts: Tokens
    targets: Tokens
    a: Floats
    n_a: Floats
    b: Floats
    n_b: Floats
    share: Floats


def _starts(documents: Documents, width: int) -> Ids:
    """Where in `values` each run of `width` tokens of one document starts."""
    offsets = documents.offsets
    counts = np.maximum(np.diff(offsets) - (width - 1), 0)
    starts = np.repeat(offsets[:-1] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    starts += np.arange(len(starts))
    return starts


def _runs(documents: Documents, width: int) -> tuple[Tokens, Ids]:
    """Every run of `width` tokens of one document, and the document's number."""
    starts = _starts(documents, width)
    rows = np.empty((len(starts), width), dtype=np.uint32)
    for column in range(width):
        rows[:, column] = documents.values[starts + column]
    numbers = np.searchsorted(documents.offsets, starts, side="right") - 1
    return rows, numbers.astype(np.int64)


def _pack(rows: Tokens, vocab_size: int) -> Ids:
    """One integer a row, equal for equal rows and only for those."""
    bits = max(int(vocab_size - 1).bit_length(), 1)
    ids = np.zeros(len(rows), dtype=np.int64)
    used = 0
    for column in range(rows.shape[1]):
        if used + bits > _MOST_BITS:
            distinct, ids = np.unique(ids, return_inverse=True)
            used = max(len(distinct) - 1, 1).bit_length()
        ids = (ids << bits) | rows[:, column].astype(np.int64)
        used += bits
    return ids


def _joint_ids(blocks: Sequence[Tokens], vocab_size: int) -> list[Ids]:
    """Numbers from 0 for the rows of all blocks, equal for equal rows."""
    packed = _pack(np.concatenate(blocks), vocab_size)
    _, dense = np.unique(packed, return_inverse=True)
    cuts = np.cumsum([len(block) for block in blocks])[:-1]
    return np.split(dense.astype(np.int64).reshape(-1), cuts)


def kept_windows(
    documents: Documents,
    width: int,
    vocab_size: int,
    *,
    prompts: Documents | None = None,
    any_prompt: bool = False,
    phi: KgramSet | None = None,
) -> Kept:
    """The windows of `width` tokens that neither a prompt excludes nor the filter removes.

    Parameters
    ----------
    documents, prompts : Documents
        Answers, and the prompt of each.
    width, vocab_size : int
        Tokens of a window; all ids are below `vocab_size`.
    any_prompt : bool
        Whether a context of any prompt is excluded, not only one of the answer's own.
    phi : KgramSet, optional
        The filter.
    """
    rows, numbers = _runs(documents, width)
    contexts, targets = rows[:, :-1], rows[:, -1]
    keep = np.ones(len(rows), dtype=np.bool_)
    k = width - 1
    n_excluded = n_filtered = 0
    if prompts is not None and k:
        before, owners = _runs(prompts, k)
        mine, theirs = _joint_ids([contexts, before], vocab_size)
        if not any_prompt:
            n_ids = int(max(mine.max(initial=0), theirs.max(initial=0))) + 1
            mine, theirs = numbers * n_ids + mine, owners * n_ids + theirs
        keep = ~np.isin(mine, theirs)
        n_excluded = int(len(keep) - keep.sum())
    if phi is not None:
        mine, allowed = _joint_ids([contexts, phi.to_numpy()], vocab_size)
        inside = np.isin(mine, allowed)
        n_filtered = int((keep & ~inside).sum())
        keep &= inside
    return Kept(
        contexts=contexts[keep],
        targets=targets[keep],
        n_windows=len(rows),
        n_excluded=n_excluded,
        n_filtered=n_filtered,
    )


def count_windows(
    suspect: Kept, reference: Kept | None, vocab_size: int, *, backoff: float = 1.0
) -> Counts:
    """Groups the windows of both by context and target.

    Parameters
    ----------
    suspect, reference : Kept
        Their windows; no reference is one that has said nothing.
    vocab_size : int
        All ids are below it.
    backoff : float
        Weight, in occurrences, of what shorter contexts say about a target, in `Counts.share`.
    """
    nothing = Kept(suspect.contexts[:0], suspect.targets[:0], 0, 0, 0)
    other = reference or nothing
    n_mine = len(suspect.targets)
    contexts = np.concatenate([suspect.contexts, other.contexts])
    targets = np.concatenate([suspect.targets, other.targets])
    (ids,) = _joint_ids([contexts], vocab_size)
    pairs = _pairs(ids, targets, vocab_size)
    _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")  # by first occurrence, the suspect's first
    first = first[order]
    n_contexts = int(ids.max(initial=-1)) + 1
    a = np.bincount(inverse[:n_mine], minlength=len(first))[order]
    b = np.bincount(inverse[n_mine:], minlength=len(first))[order]
    n_a = np.bincount(ids[:n_mine], minlength=n_contexts)[ids[first]]
    n_b = np.bincount(ids[n_mine:], minlength=n_contexts)[ids[first]]
    source = slice(n_mine, None) if reference is not None else slice(0, n_mine)
    share = _share(contexts, targets, first, source=source, sizes=(vocab_size, backoff))
    return Counts(
        contexts=contexts[first],
        targets=targets[first],
        a=a.astype(np.float64),
        n_a=n_a.astype(np.float64),
        b=b.astype(np.float64),
        n_b=n_b.astype(np.float64),
        share=share,
    )


def _pairs(ids: Ids, targets: Tokens, vocab_size: int) -> Ids:
    bits = max(int(vocab_size - 1).bit_length(), 1)
    return (ids << bits) | targets.astype(np.int64)


def _share(
    contexts: Tokens,
    targets: Tokens,
    first: Ids,
    *,
    source: slice,
    sizes: tuple[int, float],
) -> Floats:
    """Probability of each distinct window's target by contexts that are shorter by one or more.

    From no context on, one token more at a time: `(count + backoff * before) / (n + backoff)`.
    """
    vocab_size, backoff = sizes
    share = np.full(len(first), 1.0 / vocab_size)
    for length in range(contexts.shape[1]):
        tails = contexts[:, contexts.shape[1] - length :]
        ids = _joint_ids([tails], vocab_size)[0] if length else np.zeros(len(targets), np.int64)
        pairs = _pairs(ids, targets, vocab_size)
        distinct, counts = np.unique(pairs[source], return_counts=True)
        wanted = pairs[first]
        place = np.minimum(np.searchsorted(distinct, wanted), max(len(distinct) - 1, 0))
        found = np.zeros(len(first))
        if len(distinct):
            hit = distinct[place] == wanted
            found[hit] = counts[place[hit]]
        n_ids = int(ids.max(initial=-1)) + 1
        total = np.bincount(ids[source], minlength=n_ids)[ids[first]]
        share = (found + backoff * share) / (total + backoff)
    return share
