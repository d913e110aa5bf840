"""Pairs with gains and probabilities become rows, one per seed: what `MatchedScorer` scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError, TokenError
from radscore.stats.matched import OneWinner

if TYPE_CHECKING:
    from radscore.schemes import Scheme

__all__ = ["PairSums", "SeedRows"]

#: Sums are whole multiples of it, so that they depend neither on order nor on portions.
_UNIT: Final = 2.0**-36
_MOST: Final = 2.0**62
_TARGET_BITS: Final = np.uint64(20)
_TARGET: Final = np.uint64((1 << 20) - 1)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the places of each pair, sorted: whole numbers of `_UNIT`.

    Attributes
    ----------
    pairs : ndarray of uint64, shape (n,)
        The context's number, and in the last 20 bits the target.
    gains, q : ndarray of int64, shape (n,)
    """

    pairs: npt.NDArray[np.uint64]
    gains: npt.NDArray[np.int64]
    q: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        pairs: npt.NDArray[np.uint64],
        gains: npt.NDArray[np.int64],
        q: npt.NDArray[np.int64],
    ) -> _Sums:
        """Adds up what belongs to one pair."""
        order = np.argsort(pairs, kind="stable")
        pairs = pairs[order]
        starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)])
        gains = np.add.reduceat(gains[order], starts) if len(pairs) else gains
        q = np.add.reduceat(q[order], starts) if len(pairs) else q
        return cls(pairs[starts], gains, q)

    @classmethod
    def joined(cls, parts: list[_Sums]) -> _Sums:
        """All of them."""
        columns = ([getattr(one, name) for one in parts] for name in ("pairs", "gains", "q"))
        return cls.of(*(np.concatenate(one) for one in columns))

    def __len__(self) -> int:
        return len(self.pairs)


class PairSums:
    """Pairs as they come in; those of one context add up."""

    def __init__(self, width: int, vocab_size: int) -> None:
        self.width, self.vocab_size = width, vocab_size
        self.n_pairs = 0
        self._numbers: dict[bytes, int] = {}
        self._sums: list[_Sums] = []
        self._new = 0  # pairs added since all were one
        self._whole: tuple[npt.NDArray[np.uint32], _Sums] | None = None

    def add(
        self,
        contexts: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
        gains: npt.NDArray[np.float64],
        q: npt.NDArray[np.float64],
    ) -> None:
        """Takes in pairs; ids and numbers are checked, but for those of contexts and targets."""
        if contexts.shape[1] != self.width:
            raise ArgumentError(
                f"contexts must have {self.width} tokens for this scheme, not {contexts.shape[1]}"
            )
        if targets.min() < 0 or targets.max() >= self.vocab_size:
            bad = targets[(targets < 0) | (targets >= self.vocab_size)][0]
            raise TokenError(f"target {bad} is outside the vocabulary of {self.vocab_size}")
        if contexts.size and (contexts.min() < -1 or contexts.max() > 0xFFFF_FFFF):
            raise TokenError("contexts hold ids that are none")
        rows = contexts.astype(np.uint32)  # -1 and 2^32 - 1 are one padding
        changes = np.concatenate([[True], (rows[1:] != rows[:-1]).any(axis=1)])
        lines = np.flatnonzero(changes)
        numbers = [
            self._numbers.setdefault(row.tobytes(), len(self._numbers)) for row in rows[lines]
        ]
        number = np.array(numbers, dtype=np.uint64)[np.cumsum(changes) - 1]
        scaled = [np.rint(one / _UNIT).astype(np.int64) for one in (gains, q)]
        pairs = (number << _TARGET_BITS) | targets.astype(np.uint64)
        self._sums.append(_Sums.of(pairs, *scaled))
        self.n_pairs += len(targets)
        self._whole = None
        self._new += len(self._sums[-1])
        if self._new > 2 * len(self._sums[0]) and self._new > 1 << 20:
            self._join()

    def _join(self) -> None:
        self._sums = [_Sums.joined(self._sums)] if self._sums else []
        self._new = 0
        if self._sums and len(one := self._sums[0]):
            most = max(float(np.abs(one.gains).max()), float(one.q.max()))
            if most > _MOST / 2:
                raise ArgumentError("gains of one pair add up to more than 2^25")

    def whole(self) -> tuple[npt.NDArray[np.uint32], _Sums]:
        """Contexts in rising order, and sums that name them by their rank."""
        if self._whole is None:
            self._join()
            flat = b"".join(self._numbers)
            contexts = np.frombuffer(flat, dtype=np.uint32).reshape(-1, self.width)
            order = np.lexsort(contexts.T[::-1])
            rank = np.empty(len(order), dtype=np.uint64)
            rank[order] = np.arange(len(order), dtype=np.uint64)
            none = np.empty(0, dtype=np.int64)
            sums = self._sums[0] if self._sums else _Sums(none.astype(np.uint64), none, none)
            named = (rank[sums.pairs >> _TARGET_BITS] << _TARGET_BITS) | (sums.pairs & _TARGET)
            again = np.argsort(named)
            whole = _Sums(named[again], sums.gains[again], sums.q[again])
            self._whole = np.ascontiguousarray(contexts[order]), whole
        return self._whole


@dataclass(frozen=True, eq=False)
class SeedRows:
    """One row per seed: tokens, probabilities that add up to 1, and gains.

    Attributes
    ----------
    n_keyless, n_overlapping : int
        Contexts that were left out: their draws do not depend on the key; they share some draws
        with another one.
    n_left_out : int
        Pairs of these, and those with a probability of 0.
    """

    contexts: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.uint32]
    q: npt.NDArray[np.float64]
    gains: npt.NDArray[np.float64]
    problem: OneWinner
    n_keyless: int
    n_overlapping: int
    n_left_out: int

    @classmethod
    def of(cls, pairs: PairSums, scheme: Scheme) -> SeedRows:
        """The rows of a scheme's seeds."""
        contexts, sums = pairs.whole()
        number = (sums.pairs >> _TARGET_BITS).astype(np.int64)
        heads, n_keyless = _seeds(contexts, scheme)
        inside = heads[number] >= 0
        n_left_out = int((~inside).sum())
        if (heads != np.arange(len(contexts))).any():
            named = sums.pairs[inside] & _TARGET
            named |= heads[number[inside]].astype(np.uint64) << _TARGET_BITS
            sums = _Sums.of(named, sums.gains[inside], sums.q[inside])
            number = (sums.pairs >> _TARGET_BITS).astype(np.int64)
        # tokens that are not possible never win
        mass = np.bincount(number, weights=sums.q, minlength=len(contexts))
        kept = sums.q > 0
        n_left_out += int((~kept).sum())
        number = number[kept]
        rows, counts = np.unique(number, return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        q = sums.q[kept] / mass[number]
        gains = sums.gains[kept].astype(np.float64) * _UNIT
        return cls(
            contexts=np.ascontiguousarray(contexts[rows]),
            offsets=offsets,
            tokens=(sums.pairs[kept] & _TARGET).astype(np.uint32),
            q=q,
            gains=gains,
            problem=OneWinner(offsets, q, gains, scheme.key_shares),
            n_keyless=n_keyless,
            n_overlapping=int((heads < 0).sum()) - n_keyless,
            n_left_out=n_left_out,
        )

    def excess(self, scheme: Scheme, threads: int | None) -> float:
        """What a key makes of the rows, weighed, less its mean over keys."""
        rows = (self.offsets, self.tokens, self.q)
        weighed = scheme.core.matched(self.contexts, rows, self.gains, 0.0, threads=threads)
        return weighed - self.problem.mean


def _seeds(contexts: npt.NDArray[np.uint32], scheme: Scheme) -> tuple[npt.NDArray[np.int64], int]:
    """The first context with the same draws as each, and how many do not depend on the key.

    It is -1 for these, and for those that share some draws with another one that is kept.
    """
    n = len(contexts)
    heads = np.arange(n)
    if scheme.seed_kind in {"context", "target"} or not n:
        return heads, 0
    windows = np.column_stack([contexts, np.zeros(n, dtype=np.uint32)])
    seeds = scheme.core.seeds(windows)
    columns = [*seeds.T]
    if not scheme.units_are_windows:  # whose units at one target are equal share all draws
        columns += [*scheme.core.units(windows).T]
    order = np.lexsort((heads, *columns[::-1]))
    changes = np.zeros(n, dtype=np.bool_)
    changes[0] = True
    for column in columns:
        changes[1:] |= column[order[1:]] != column[order[:-1]]
    first = order[changes]  # of each group of equal draws, by seed
    heads[order] = first[np.cumsum(changes) - 1]
    high, low = seeds[first].T
    reach = 1 if scheme.core.seeds_reach_neighbours else 0
    close = np.flatnonzero((high[1:] == high[:-1]) & (low[1:] - low[:-1] <= reach)) + 1
    dropped: set[int] = set()
    for at in close.tolist():
        before = at - 1
        while before in dropped:
            before -= 1
        if int(low[at]) - int(low[before]) <= reach:
            dropped.add(at)
    heads[np.isin(heads, first[sorted(dropped)])] = -1
    keyless = scheme.core.keyless(windows)
    heads[keyless] = -1
    return heads, int(keyless.sum())
