"""Which contexts are among those of another text, and how often they occur there.

After a context that is frequent in text of Alice's kind a model can have learned much of her
watermark, after one that hardly occurs next to nothing. Text without the watermark tells which is
which, without the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.documents import check_width
from radscore.errors import ArgumentError
from radscore.kgrams import KgramCounts, KgramSet

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["OUTSIDE", "Contexts", "Lookup"]

#: Why a position does not count.
OUTSIDE: Final = "positions whose context is not among contexts="
#: Occurrences at which a context's places, all taken together, weigh half of what they can.
_LEARNED: Final = 30.0
_ODD: Final = 0x9E37_79B9_7F4A_7C15


class Lookup:
    """Rows of ids, to be found among others; equal rows count together.

    Parameters
    ----------
    rows : ndarray of uint32, shape (n, k)
    counts : ndarray of uint64, shape (n,), optional
        How often each occurs; once by default.
    """

    def __init__(
        self, rows: npt.NDArray[np.uint32], counts: npt.NDArray[np.uint64] | None = None
    ) -> None:
        times = np.ones(len(rows), dtype=np.uint64) if counts is None else counts
        self._factor = _ODD
        while True:
            names = self._names(rows)
            order = np.argsort(names, kind="stable")
            names, there = names[order], rows[order]
            new = np.ones(len(names), dtype=np.bool_)
            new[1:] = names[1:] != names[:-1]
            others = np.flatnonzero(~new)
            if np.array_equal(there[others], there[others - 1]):
                break  # no two rows have one name
            self._factor = (self._factor * _ODD + 2) % 2**64
        starts = np.flatnonzero(new)
        self._sorted, self._rows = names[starts], there[starts]
        self._counts = np.add.reduceat(times[order], starts) if len(starts) else times

    def _names(self, rows: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
        """A number of 64 bits for each row."""
        names = np.zeros(len(rows), dtype=np.uint64)
        for column in range(rows.shape[1]):
            names = (names ^ rows[:, column]) * np.uint64(self._factor)
            names ^= names >> np.uint64(29)
        return names

    def counts(self, rows: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
        """How often each row occurs among those given, 0 for none; shape (n,)."""
        if not len(self._sorted):
            return np.zeros(len(rows), dtype=np.uint64)
        names = self._names(rows)
        at = np.minimum(np.searchsorted(self._sorted, names), len(self._sorted) - 1)
        same = self._sorted[at] == names
        same &= np.all(self._rows[at] == rows, axis=1)
        return np.where(same, self._counts[at], np.uint64(0))

    def has(self, rows: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Whether each row is among them; shape (n,)."""
        return self.counts(rows) > 0


class Contexts:
    """The contexts of text without the watermark, as a choice of positions that knows no key.

    Parameters
    ----------
    given : KgramSet or KgramCounts
        Of text that does not carry the tested watermark (``watermarked=False``), ideally of
        Alice's kind.
    width : int
        Ids per context.
    min_count : int, optional
        The least number of occurrences, with `KgramCounts` (1).

    Attributes
    ----------
    fingerprint : str
        Of the set.
    counted : bool
        Whether it is known how often each occurs.
    note : str
        What a result says of it.

    Raises
    ------
    ArgumentError
        If the text may carry the watermark, or the width is another.
    """

    def __init__(
        self, given: KgramSet | KgramCounts, width: int, *, min_count: int | None = None
    ) -> None:
        if not isinstance(given, (KgramSet, KgramCounts)):
            raise ArgumentError(
                f"contexts must be a KgramSet or KgramCounts, not {type(given).__name__}"
            )
        if given.origin.may_depend_on_key:
            raise ArgumentError(
                f"contexts is {given.origin.words}, and which contexts watermarked text has "
                "depends on the key; make it from unmarked text (watermarked=False, --unmarked)"
            )
        if given.width != width:
            raise ArgumentError(
                f"contexts holds {given.width}-grams, but contexts here have {width} ids"
            )
        rows: Any
        if isinstance(given, KgramSet):
            if min_count is not None:
                raise ArgumentError(
                    "min_count has no effect with a KgramSet, which was chosen when it was made"
                )
            chosen, rows, counts = given, given.to_numpy(), None
            self.counted = False
        else:
            self.counted = True
            least = 1 if min_count is None else check_width("min_count", min_count, 1, 2**62)
            rows, counts = given.to_numpy()
            rows, counts = rows[counts >= least], counts[counts >= least]
            chosen = given.top(min_count=least)
        self.fingerprint = chosen.fingerprint
        self.note = (
            f"only positions after one of {len(chosen)} contexts count ({chosen.origin.words})"
        )
        self._lookup = Lookup(rows, counts)

    @classmethod
    def of(
        cls, given: KgramSet | KgramCounts | None, width: int, min_count: int | None
    ) -> Contexts | None:
        """The contexts, if any are given."""
        if given is not None:
            return cls(given, width, min_count=min_count)
        if min_count is not None:
            raise ArgumentError("min_count has no effect without contexts=")
        return None

    def counts(self, contexts: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
        """How often each context occurs: 0 outside of the set, 1 in one without counts."""
        return self._lookup.counts(contexts)

    def has(self, contexts: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Whether each context is in the set."""
        return self._lookup.has(contexts)

    def weights(self, contexts: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
        """What a place after each context weighs in matched scores; shape (n,).

        ``2 sqrt(30 n) / (n + 30)`` for n occurrences, at most 1: a model has hardly learned what
        is rare, and a context's places, about as many as its occurrences, say much the same. Found
        on small models (experiments/RESULTS.md). Without counts it is 1.
        """
        if not self.counted:
            return np.ones(len(contexts))
        n = self.counts(contexts).astype(np.float64)
        return np.asarray(2.0 * np.sqrt(_LEARNED * n) / (n + _LEARNED))
