"""Cuts a long text so that the ids of the segments are those of the whole.

`tokenizers` needs over 100 bytes for each token of a text, all at once. Most tokenizers work from
word to word, so that a text can be cut between two words. Whether this one does is tried at each
cut: the text around it must have the ids of what comes before and of what comes after.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

__all__ = ["segments"]

#: Characters on either side of a cut that are encoded to try it.
_AROUND: Final = 1024
_TRIES: Final = 16
#: Where words end, most usual first: before a space or an end of line, after a full stop.
_CUTS: Final = (
    re.compile(r"(?<=\w)(?=[ \n]\w)"),
    re.compile(r"(?<=[^\s\w])(?=\s\w)|(?<=[.!?。！？、，])(?=\w)"),
)


def segments(
    text: str, size: int, encode: Callable[[Sequence[str]], list[npt.NDArray[np.uint32]]]
) -> Iterator[str]:
    """The text in segments of about `size` characters; more where it cannot be cut.

    Examples
    --------
    >>> def words(texts):
    ...     return [np.array([len(word) for word in text.split()], np.uint32) for text in texts]
    >>> list(segments("one and one is two", 5, words))
    ['one and', ' one is', ' two']
    """
    start = 0
    while len(text) - start > 2 * size:
        cut = _cut(text, start, size, encode)
        if cut is None:
            break
        yield text[start:cut]
        start = cut
    yield text[start:]


def _cut(text: str, start: int, size: int, encode: Callable[[Sequence[str]], Any]) -> int | None:
    """A place behind `size` characters after `start` where the text can be cut."""
    for pattern in _CUTS:
        for found in islice(pattern.finditer(text, start + size, start + 2 * size), _TRIES):
            cut = found.start()
            before, after = text[max(cut - _AROUND, start) : cut], text[cut : cut + _AROUND]
            whole, left, right = encode([before + after, before, after])
            if np.array_equal(whole, np.concatenate([left, right])):
                return cut
    return None
