"""Windows of answers: which of them count, and how often each occurs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.documents import padded_left
from radscore.scoring.contexts import Lookup
from radscore.scoring.draws import context_draws, neighbours, tail_draws, window_draws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.documents import Documents
    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme

__all__ = [
    "Kept",
    "Shown",
    "WindowCounts",
    "context_numbers",
    "count_windows",
    "in_filter",
    "kept_windows",
]

Ids: TypeAlias = npt.NDArray[np.int64]
Tokens: TypeAlias = npt.NDArray[np.uint32]
Floats: TypeAlias = npt.NDArray[np.float64]

_MOST_BITS = 62


@dataclass(frozen=True, eq=False)
class Kept:
    """The windows of answers that count, in reading order.

    Attributes
    ----------
    contexts : ndarray of uint32, shape (n, k)
    targets : ndarray of uint32, shape (n,)
    tokens : ndarray of int64, shape (n,)
        The number of each target among all tokens of the answers.
    n_windows, n_excluded, n_filtered : int
        All windows; those whose draw a prompt may have shown; those outside of the filter.
    """

    contexts: Tokens
    targets: Tokens
    tokens: Ids
    n_windows: int
    n_excluded: int
    n_filtered: int

    def only(self, inside: npt.NDArray[np.bool_]) -> Kept:
        """What a filter leaves."""
        return Kept(
            self.contexts[inside],
            self.targets[inside],
            self.tokens[inside],
            self.n_windows,
            self.n_excluded,
            self.n_filtered + int((~inside).sum()),
        )


@dataclass(frozen=True, eq=False)
class WindowCounts:
    """How often distinct windows occur in the suspect's and in a reference's answers.

    Attributes
    ----------
    contexts : ndarray of uint32, shape (n, k)
    targets : ndarray of uint32, shape (n,)
        Distinct windows, in order of first occurrence in the suspect's answers; those that only
        the reference has come last.
    a, n_a : ndarray of float64, shape (n,)
        Occurrences of the window, and of its context, in the suspect's answers.
    b, n_b : ndarray of float64, shape (n,)
        The same in the reference's; 0 without a reference.
    share : ndarray of float64, shape (n,)
        What the target's probability would be if the context were unknown: estimated from ever
        shorter contexts in the reference's answers (the suspect's without a reference).
    """

    contexts: Tokens
    targets: Tokens
    a: Floats
    n_a: Floats
    b: Floats
    n_b: Floats
    share: Floats

    def only(self, inside: npt.NDArray[np.bool_]) -> WindowCounts:
        """What a filter leaves."""
        return WindowCounts(*(getattr(self, one.name)[inside] for one in fields(self)))


def _starts(documents: Documents, width: int) -> Ids:
    """The offset in `values` of each run of `width` tokens within a document."""
    offsets = documents.offsets
    counts = np.maximum(np.diff(offsets) - (width - 1), 0)
    starts = np.repeat(offsets[:-1] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    starts += np.arange(len(starts))
    return starts


def _runs(documents: Documents, width: int) -> tuple[Tokens, Ids]:
    """Every run of `width` tokens within a document, and the document's number."""
    starts = _starts(documents, width)
    rows = np.empty((len(starts), width), dtype=np.uint32)
    for column in range(width):
        rows[:, column] = documents.values[starts + column]
    numbers = np.searchsorted(documents.offsets, starts, side="right") - 1
    return rows, numbers.astype(np.int64)


def _pack(columns: Sequence[tuple[npt.NDArray[Any], int]]) -> tuple[Ids, int]:
    """One integer per row, equal for equal rows and only for those, and the bits that it needs.

    Each column comes with the number of its possible values. If they do not all fit into one
    integer, the columns packed so far are replaced by their rank (a sort).
    """
    ids = np.zeros(len(columns[0][0]) if columns else 0, dtype=np.int64)
    used = 0
    for values, size in columns:
        bits = max(size - 1, 1).bit_length()
        if used + bits > _MOST_BITS:
            distinct, ids = np.unique(ids, return_inverse=True)
            used = max(len(distinct) - 1, 1).bit_length()
        ids = (ids << bits) | values.astype(np.int64)
        used += bits
    return ids, used


def _columns(rows: Tokens, vocab_size: int) -> list[tuple[npt.NDArray[Any], int]]:
    # the padding -1, here 2^32 - 1, is one more id
    columns = (np.minimum(rows[:, column], vocab_size) for column in range(rows.shape[1]))
    return [(column, vocab_size + 1) for column in columns]


def _prompt_windows(
    prompts: Documents, k: int, padding: int | None, *, with_target: bool
) -> tuple[Tokens, Ids]:
    """Every window that a prompt may hold, and its prompt's number.

    The target is the prompt's own or, if it does not matter, 0. Padded contexts are included
    wherever their own tokens are: marked text may begin anywhere in a prompt.
    """
    found = []
    for own in range(k if padding is None else 0, k + 1):
        rows, owners = _tails(prompts, own, with_target=with_target)
        left = np.full((len(rows), k - own), (padding or 0) % 2**32, dtype=np.uint32)
        found.append((np.hstack([left, rows]), owners))
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def _tails(prompts: Documents, own: int, *, with_target: bool) -> tuple[Tokens, Ids]:
    """Every run of `own` tokens and a target (0 if it does not matter), and its prompt."""
    if own + with_target:
        rows, owners = _runs(prompts, own + with_target)
    else:
        owners = np.flatnonzero(np.diff(prompts.offsets))
        rows = np.empty((len(owners), 0), dtype=np.uint32)
    target = np.zeros((len(rows), 0 if with_target else 1), dtype=np.uint32)
    return np.hstack([rows, target]), owners


def _among(
    mine: Sequence[tuple[npt.NDArray[Any], int]], others: Sequence[tuple[npt.NDArray[Any], int]]
) -> npt.NDArray[np.bool_]:
    """Which rows are among the others, found by sorting those, which is faster than hashing."""
    n_mine = len(mine[0][0])
    both = [
        (np.concatenate([one, other]), size)
        for (one, size), (other, _) in zip(mine, others, strict=True)
    ]
    both = [(one, min(size, int(one.max(initial=0)) + 1)) for one, size in both]
    ids, _ = _pack(both)
    known = np.sort(ids[n_mine:])
    if not len(known):
        return np.zeros(n_mine, dtype=np.bool_)
    at = np.minimum(np.searchsorted(known, ids[:n_mine]), len(known) - 1)
    return np.asarray(known[at] == ids[:n_mine])


def _starts_of(ordered: Ids) -> Ids:
    """The indices at which runs of equal values start."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _spread(sums: Any, starts: Ids, n: int) -> Any:
    """Each run's value, repeated over the run."""
    return np.repeat(sums, np.diff(np.append(starts, n)))


class Shown:
    """The draws that prompts may have shown.

    Parameters
    ----------
    prompts : Documents
    scheme : Scheme
        Says how wide a window is and what its random function reads: its seed, or its unit if the
        scheme has no seed without the target.
    any_prompt : bool
        Whether any prompt's draws exclude a window, not only those of the answer's own prompt.
    """

    def __init__(self, prompts: Documents, scheme: Scheme, *, any_prompt: bool = False) -> None:
        k, padding = scheme.window_width - 1, _padding(scheme)
        with_target = scheme.seed_kind == "target"
        before, owners = _prompt_windows(prompts, k, padding, with_target=with_target)
        near = neighbours(window_draws(before, scheme), scheme)
        owners = np.tile(owners, len(near))
        # marked text may begin anywhere in a prompt, after a context that is not in it
        for own in range(scheme.core.least_own, k):
            tails, more = _tails(prompts, own, with_target=with_target)
            near.append(tail_draws(tails, scheme))
            owners = np.concatenate([owners, more])
        self._scheme = scheme
        self._n_prompts = None if any_prompt else len(prompts)
        self._columns = self._with_owners(_draw_columns(scheme, np.concatenate(near)), owners)

    def _with_owners(
        self, columns: list[tuple[npt.NDArray[Any], int]], owners: Ids
    ) -> list[tuple[npt.NDArray[Any], int]]:
        # first, to keep lookups close together
        return columns if self._n_prompts is None else [(owners, self._n_prompts), *columns]

    def has(self, windows: Tokens, owners: Ids) -> npt.NDArray[np.bool_]:
        """Which windows share a draw with a prompt; `owners`: the numbers of their answers."""
        draws = _draw_columns(self._scheme, window_draws(windows, self._scheme))
        return _among(self._with_owners(draws, owners), self._columns)


def _padding(scheme: Scheme) -> int | None:
    """What stands before an answer; None if contexts reach into the prompt, or need be whole."""
    return None if scheme.reaches_prompt else scheme.padding


def kept_windows(
    documents: Documents,
    scheme: Scheme,
    *,
    prompts: Documents | None = None,
    any_prompt: bool = False,
) -> Kept:
    """The windows whose draw no prompt can have shown.

    Costs one sort of the windows that the prompts hold.

    Parameters
    ----------
    documents, prompts : Documents
        Answers, and the prompt of each.
    scheme : Scheme
        See `Shown`. A window is excluded if a prompt has its seed; its unit, if the scheme has no
        seed without the target.
    any_prompt : bool
        Whether any prompt's seeds exclude, not only those of the answer's own prompt.

    Notes
    -----
    If contexts never reach into the prompt, the scheme's padding precedes each document and every
    token ends a window; -1 becomes 2^32 - 1.
    """
    width, padding = scheme.window_width, _padding(scheme)
    if padding is not None:
        documents = padded_left(documents, width - 1, padding % 2**32)
    rows, numbers = _runs(documents, width)
    tokens = _starts(documents, width) + width - 1 - int(documents.offsets[0])
    if padding is not None:
        tokens -= (numbers + 1) * (width - 1)
    keep = np.ones(len(rows), dtype=np.bool_)
    if prompts is not None and (width > 1 or scheme.seed_kind == "target"):
        keep = ~Shown(prompts, scheme, any_prompt=any_prompt).has(rows, numbers)
    return Kept(
        contexts=rows[keep, :-1],
        targets=rows[keep, -1],
        tokens=tokens[keep],
        n_windows=len(rows),
        n_excluded=int(len(keep) - keep.sum()),
        n_filtered=0,
    )


def in_filter(
    contexts: Tokens, scheme: Scheme, phi: KgramSet, *, by_seed: bool
) -> npt.NDArray[np.bool_]:
    """Which contexts are in the filter: the context itself, or any with the same seed."""
    mine, theirs = contexts, phi.to_numpy()
    if by_seed:
        mine, theirs = context_draws(mine, scheme), context_draws(theirs, scheme)
    return Lookup(theirs).has(mine)


def context_numbers(contexts: Tokens, vocab_size: int) -> Ids:
    """A number for each context, from 0: equal contexts have equal ones."""
    if not contexts.shape[1]:
        return np.zeros(len(contexts), dtype=np.int64)
    packed, _ = _pack(_columns(contexts, vocab_size))
    return np.unique(packed, return_inverse=True)[1].astype(np.int64)


def _draw_columns(
    scheme: Scheme, draws: npt.NDArray[np.uint32]
) -> list[tuple[npt.NDArray[Any], int]]:
    """The columns of seeds, with the number of possible values of each."""
    if scheme.seed_kind == "context":
        return _columns(draws, scheme.vocab_size)
    return [(draws[:, column], 1 << 32) for column in range(draws.shape[1])]


def count_windows(
    suspect: Kept, reference: Kept | None, vocab_size: int, *, backoff: float = 1.0
) -> WindowCounts:
    """Groups the windows of both by context and target, by sorting them.

    Parameters
    ----------
    suspect, reference : Kept
        Their windows; None is a reference that has said nothing.
    vocab_size : int
        All ids are below it.
    backoff : float
        Weight, in occurrences, of what shorter contexts say in `WindowCounts.share`.
    """
    n_mine = len(suspect.targets)
    contexts, targets = suspect.contexts, suspect.targets
    if reference is not None:
        contexts = np.concatenate([contexts, reference.contexts])
        targets = np.concatenate([targets, reference.targets])
    if not len(targets):
        none = np.empty(0)
        return WindowCounts(contexts, targets, none, none, none, none, none)
    ids, bits = np.zeros(len(targets), dtype=np.int64), 0
    if contexts.shape[1]:
        ids, bits = _pack(_columns(contexts, vocab_size))
    shift = max(vocab_size - 1, 1).bit_length()
    if bits + shift > _MOST_BITS:
        ids = np.unique(ids, return_inverse=True)[1]
    pairs = (ids << shift) | targets.astype(np.int64)
    order = np.argsort(pairs)
    ordered = pairs[order]
    starts = _starts_of(ordered)
    first = np.minimum.reduceat(order, starts)
    a = np.add.reduceat((order < n_mine).astype(np.int64), starts)
    b = np.diff(np.append(starts, len(pairs))) - a
    runs = _starts_of(ordered[starts] >> shift)  # one per context
    n_a, n_b = (_spread(np.add.reduceat(one, runs), runs, len(one)) for one in (a, b))
    rank = np.argsort(first)  # the suspect's come first
    first = first[rank]
    a, n_a, b, n_b = (one[rank].astype(np.float64) for one in (a, n_a, b, n_b))
    contexts, targets = contexts[first], targets[first]
    share = _share(contexts, targets, a if reference is None else b, vocab_size, backoff)
    return WindowCounts(contexts, targets, a, n_a, b, n_b, share)


def _share(
    contexts: Tokens, targets: Tokens, said: Floats, vocab_size: int, backoff: float
) -> Floats:
    """Probability of each distinct window's target, judged by shorter contexts alone.

    Starts without any context and adds a token at a time: `(count + backoff * before) / (n +
    backoff)`.
    """
    share = np.full(len(targets), 1.0 / vocab_size)
    shift = max(vocab_size - 1, 1).bit_length()
    for length in range(contexts.shape[1]):
        tails = contexts[:, contexts.shape[1] - length :]
        ids = np.zeros(len(targets), dtype=np.int64)
        if length:
            ids, bits = _pack(_columns(tails, vocab_size))
            if bits + shift > _MOST_BITS:
                ids = np.unique(ids, return_inverse=True)[1]
        pairs = (ids << shift) | targets.astype(np.int64)
        order = np.argsort(pairs)
        ordered, times = pairs[order], said[order]
        found, total = np.empty(len(pairs)), np.empty(len(pairs))
        for values, keys in ((found, ordered), (total, ordered >> shift)):
            starts = _starts_of(keys)
            values[order] = _spread(np.add.reduceat(times, starts), starts, len(keys))
        share = (found + backoff * share) / (total + backoff)
    return share
