"""Texts and tokenizers that do not go together.

A text that a tokenizer fails on becomes a document of ids that no vocabulary has, so that the check
of every id finds it, whatever the format, and can say why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.corpus.room import RoomError
from radscore.errors import line_of

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Failures", "failed", "failure_of", "flaw_of_bytes", "flaw_of_text"]

#: Larger than every token id.
_MARK: Final = 2**32 - 1
_MOST_REASONS: Final = 1000


def flaw_of_bytes(error: UnicodeDecodeError, of: str = "") -> str:
    """The flaw of bytes that are no text; `of` says what the offset is counted in."""
    return f"not UTF-8 (byte {error.start}{of} is 0x{error.object[error.start]:02x})"


def flaw_of_text(text: str) -> str | None:
    """The flaw of a text that no tokenizer can read; None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"not valid text: it contains a lone surrogate (\\u{ord(text[error.start]):04x})"
    return None


def failure_of(error: BaseException) -> str:
    """Why a tokenizer failed on a text, in a line; raises `error` again if it means to stop.

    Tokenizers written in Rust panic where their regular expression gives up, and a panic is not an
    `Exception`.
    """
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)):
        raise error
    if isinstance(error, RoomError):
        return str(error)
    return f"the tokenizer fails on this text: {line_of(error, 200)}"


def failed(ids: npt.NDArray[Any]) -> bool:
    """Whether ids stand for a text that a tokenizer failed on."""
    return bool(len(ids)) and int(ids[0]) == _MARK


class Failures:
    """Why a tokenizer failed on which text.

    Examples
    --------
    >>> failures = Failures()
    >>> failures.reason(failures.document(ValueError("too long")))
    'the tokenizer fails on this text: too long'
    >>> failures.reason(np.array([5], dtype=np.uint32)) is None
    True
    """

    def __init__(self) -> None:
        self._reasons: list[str] = []

    def document(self, error: BaseException) -> npt.NDArray[np.uint32]:
        """What stands for the ids of a text that the tokenizer failed on with `error`."""
        if len(self._reasons) < _MOST_REASONS:
            self._reasons.append(failure_of(error))
        return np.array([_MARK, len(self._reasons) - 1], dtype=np.uint32)

    def reason(self, ids: npt.NDArray[Any]) -> str | None:
        """Why a document could not be made; None if it is one."""
        if not failed(ids):
            return None
        known = len(ids) > 1 and int(ids[1]) < len(self._reasons)
        return self._reasons[int(ids[1])] if known else "the tokenizer fails on this text"
