"""Whether a record fits the memory: the one place that decides it.

A record is held whole, and several times over while it becomes token ids. What it will take is
estimated from its size before it is read any further, with factors that were measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

__all__ = ["By", "Room", "RoomError"]

_MIB: Final = 1 << 20
#: What a limit leaves for a record, whatever it is, and which share of the rest.
_LEAST: Final = 96 * _MIB
_SHARE: Final = 4

# Bytes that a record takes, by byte of
#: a line or a file of text: itself, a copy of its text, and its ids, of which the last record's
#: are still in use;
_OF_LINE: Final = 7
#: a text in a column: its buffers, itself and its ids;
_OF_TEXT: Final = 6
#: a page of texts, of which one is decoded at once;
_OF_PAGE: Final = 3
#: ids in a column: as they are stored, and as they are handed on;
_OF_IDS: Final = 3
#: and by character of a text that `tokenizers`, the fast path, or another library takes at once.
_OF_CHARACTER: Final = {"reference": 160, "fast": 40, "function": 40}
#: Bytes of an id of a text: of this one, and of the last.
_OF_ID: Final = 12
#: What turns text into ids.
By: TypeAlias = Literal["reference", "fast", "function"]


class RoomError(Exception):
    """A text takes more memory on its way to ids than there is for it; the message is its flaw."""


@dataclass(frozen=True)
class Room:
    """The memory that one record may take while it is read.

    Attributes
    ----------
    n_bytes : int
        How much that is.

    Examples
    --------
    >>> room = Room.within(128 << 20)
    >>> room.n_bytes >> 20, room.flaw(100 << 20)
    (128, None)
    >>> print(room.flaw(479_000_000, "the text"))  # doctest: +NORMALIZE_WHITESPACE
    the text takes about 479 MB of memory, and there are 134 MB for one; give memory='2GiB' or
    more, or leave it out with on_error='skip'
    """

    n_bytes: int

    @classmethod
    def within(cls, memory: int) -> Self:
        """What a memory limit leaves for a record."""
        return cls(_LEAST + memory // _SHARE)

    @property
    def line(self) -> int:
        """Bytes of the longest line, or text file."""
        return self.n_bytes // _OF_LINE

    def flaw(self, need: int, what: str = "the record") -> str | None:
        """The flaw of a record that takes so many bytes; None if it fits."""
        if need <= self.n_bytes:
            return None
        return (
            f"{what} takes about {need / 1e6:,.0f} MB of memory, and there are "
            f"{self.n_bytes / 1e6:,.0f} MB for one; give memory={_limit(need)!r} or more, or leave "
            "it out with on_error='skip'"
        )

    def flaw_of_line(self, length: int, what: str = "the line") -> str | None:
        """The flaw of a line, or of a text file, of so many bytes."""
        return self.flaw(_OF_LINE * length, what)

    def flaw_of_text(self, size: int, what: str = "the text") -> str | None:
        """The flaw of a text of so many bytes in a column."""
        return self.flaw(_OF_TEXT * size, what)

    def flaw_of_page(self, size: int, n_values: int, what: str = "the page") -> str | None:
        """The flaw of a page of Parquet with so many bytes of text, and values; 0 if unknown."""
        return self.flaw((_OF_TEXT if n_values == 1 else _OF_PAGE) * size, what)

    def flaw_of_ids(self, size: int, what: str = "the list") -> str | None:
        """The flaw of a list of ids of so many bytes in a column."""
        return self.flaw(_OF_IDS * size, what)

    def flaw_of_encoding(self, n_characters: int, by: By) -> str | None:
        """The flaw of a text that a tokenizer takes at once."""
        what = f"the text, of which {n_characters:,} characters are tokenised at once,"
        return self.flaw(_OF_CHARACTER[by] * n_characters, what)

    def flaw_of_ids_of(self, text: str, n_ids: int) -> str | None:
        """The flaw of a text whose first ids are already so many; its characters make no more."""
        size = text.__sizeof__()
        if size + _OF_ID * n_ids <= self.n_bytes:
            return None
        return self.flaw(size + _OF_ID * max(len(text), n_ids), "the text")

    def check(self, flaw: str | None) -> None:
        """Raises `RoomError` with a flaw, if there is one."""
        if flaw is not None:
            raise RoomError(flaw)


def _limit(need: int) -> str:
    """The memory limit that leaves so much for a record."""
    n_mib = -(-_SHARE * (need - _LEAST) // _MIB)
    if n_mib > 512:
        return f"{-(-n_mib // 1024)}GiB"
    return f"{-(-n_mib // 128) * 128}MiB"
