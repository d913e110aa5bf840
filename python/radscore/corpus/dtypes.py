"""Signs that ids are read as another type than they were written as.

Nothing tells the type of bare ids, and an index or a header may be wrong. But ids that are read in
halves have zeros between them, two that are read as one are beyond any vocabulary, and swapped
bytes show in which of the two has few values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import with_others
from radscore.documents import MAX_VOCAB
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from radscore.corpus.format import Options, Source

__all__ = ["SAMPLE", "doubt_of_dtype", "notes_of_dtypes", "sampled_ranges"]

#: So many ids of a file tell whether they are ids at all: from its beginning, middle and end.
SAMPLE = 3 << 12
_MIN_SAMPLE = 8
#: Fewer different ids may lie anywhere.
_MIN_DIFFERENT = 64
_TYPES = ("<u2", "<u4", "<i8", ">u2", ">u4", ">i8")


def notes_of_dtypes(sources: Sequence[Source], options: Options) -> tuple[str, ...]:
    """Why the dtypes of files may be wrong, by a sample of the ids of each.

    Files that cannot be read are left to their readers.
    """
    found: dict[str, list[str]] = {}
    for source in sources:
        try:
            pieces = source.format.sample(source, options)
        except CorpusError:
            continue
        doubts = (doubt_of_dtype(piece, options.vocab_size) for piece in pieces)
        doubt = next((doubt for doubt in doubts if doubt is not None), None)
        if doubt is not None:
            # Those that differ in their suggestions only are of one kind.
            found.setdefault(doubt.partition(";")[0], []).append(f"{source.path}: {doubt}")
    return tuple(map(with_others, found.values()))


def sampled_ranges(n_ids: int) -> Iterable[tuple[int, int]]:
    """First id and number of ids of the ranges that are looked at."""
    size = SAMPLE // 3
    if n_ids <= SAMPLE:
        return [(0, n_ids)]
    # On a multiple of 8, as are all patterns.
    return [(0, size), (n_ids // 16 * 8, size), ((n_ids - size) // 8 * 8, size)]


def doubt_of_dtype(ids: npt.NDArray[Any], vocab_size: int | None = None) -> str | None:
    """Why consecutive ids may have been written as another type; None if nothing speaks for it.

    Examples
    --------
    >>> ids = np.arange(1, 100, dtype="<u4")
    >>> doubt_of_dtype(ids)
    >>> doubt_of_dtype(ids.view("<u2"))
    "every second id is 0, as if ids of twice the size were read as dtype='uint16'"
    """
    if len(ids) < _MIN_SAMPLE or ids.dtype.kind not in "iu":
        return None
    size, name = ids.dtype.itemsize, ids.dtype.name
    many_zeros = 2 * np.count_nonzero(ids) <= len(ids) + 1
    for times, words in ((8, "8 times"), (4, "4 times"), (2, "twice")):
        if many_zeros and size * times <= 8 and _has_gaps(ids, times):
            all_but = f" (and {times - 1} of {times})" if times > 2 else ""
            return (
                f"every second id is 0{all_but}, as if ids of {words} the size were read as "
                f"dtype={name!r}"
            )
    if size * 2 <= 8 and _has_small_halves(ids):
        return f"every second id is small, as if ids of twice the size were read as dtype={name!r}"
    limit = vocab_size or MAX_VOCAB
    inside = ids.min() >= 0 and ids.max() < limit
    beyond = ids[:0] if inside else ids[(ids < 0) | (ids >= limit)]
    most = 2 * len(beyond) > len(ids)
    # Fewer may be padding, which is one id.
    if most or (10 * len(beyond) > len(ids) and len(np.unique(beyond)) >= _MIN_DIFFERENT):
        outside = (
            f"outside the vocabulary of {vocab_size}"
            if vocab_size
            else f"not from 0 to {MAX_VOCAB - 1}, so beyond any vocabulary"
        )
        share = "most" if most else "many"
        return f"{share} ids are {outside}; dtype={name!r} is probably wrong{_better(ids, limit)}"
    if size == 2 and _is_swapped(ids):
        return (
            f"the bytes of the ids are swapped, as if big-endian ids were read as dtype={name!r}; "
            f"{_SWAP}"
        )
    return None


_SWAP = "radscore reads little-endian ids: swap the bytes of the file first"


def _has_gaps(ids: npt.NDArray[Any], times: int) -> bool:
    """Whether only one of so many ids, always at the same place, is ever anything but 0."""
    columns = ids[: len(ids) // times * times].reshape(-1, times) != 0
    counts = np.count_nonzero(columns, axis=0)
    rows = len(columns)
    return rows * times >= _MIN_SAMPLE and np.count_nonzero(counts) == 1 and 2 * counts.max() > rows


def _has_small_halves(ids: npt.NDArray[Any]) -> bool:
    """Whether every second id is but the upper half of an id of a large vocabulary."""
    pairs = ids[: len(ids) // 2 * 2].reshape(-1, 2)
    most = (MAX_VOCAB - 1) >> 8 * ids.dtype.itemsize
    if len(pairs) < _MIN_DIFFERENT or most == 0:
        return False
    largest = pairs[:, 0].max(), pairs[:, 1].max()
    for upper, lower in ((1, 0), (0, 1)):
        # Also if the bytes are swapped.
        unit = 256 if largest[upper] > most else 1
        if largest[upper] > most * unit or pairs[:, upper].min() < 0:
            continue
        large = pairs[:, lower][pairs[:, lower] > most]
        if not (pairs[:, upper] % unit).any() and len(np.unique(large)) >= _MIN_DIFFERENT:
            return True
    return False


def _better(ids: npt.NDArray[Any], limit: int) -> str:
    """The types as which all ids would be inside the vocabulary."""
    data = np.ascontiguousarray(ids).astype(ids.dtype.newbyteorder("<"), copy=False).tobytes()
    fit = []
    for kind in map(np.dtype, _TYPES):
        other = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
        inside = len(other) and other.min() >= 0 and other.max() < limit
        if inside and doubt_of_dtype(other.astype(kind.newbyteorder("="))) is None:
            fit.append(kind)
    if not fit:
        return ""
    if fit[0].str[0] == ">":
        return f": they are big-endian {fit[0].name}; {_SWAP}"
    return f"; as {fit[0].name} all of them are inside"


def _is_swapped(ids: npt.NDArray[Any]) -> bool:
    """Whether the lower byte, not the upper, has the fewer values."""
    lower, upper = (np.flatnonzero(np.bincount(half)) for half in (ids & 0xFF, ids >> 8 & 0xFF))
    few = len(lower) < len(upper) and 5 * (int(lower[-1]) + 1) <= 4 * (int(upper[-1]) + 1)
    return few and len(np.unique(ids)) >= _MIN_DIFFERENT
