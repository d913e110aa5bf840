"""What a Parquet file's footer says of its columns.

Not by pyarrow: it ends the process (`std::terminate`) where the metadata of a column chunk are
encrypted or damaged, be it one that nobody wants. The footer is a struct of Thrift's compact
protocol, see https://github.com/apache/parquet-format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import DamagedFileError, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Column", "columns_of"]

_DEEPEST = 32
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
#: Encodings that look up a value elsewhere, so that a few bytes may stand for many.
_DICTIONARY = {2, 8}
_DELTA_BYTES = 7
_DATA_PAGES = (0, 3)
#: Physical types of variable and of fixed length.
_BYTES = (6, 7)


@dataclass(frozen=True)
class Column:
    """One column at the top of the schema.

    Attributes
    ----------
    name : str
    position : int
        Its place in the schema.
    leaves : range
        Its columns of values, as pyarrow counts them.
    path : str
        The path of the first of them.
    top_level : int
        Its definition level where a value is there.
    chunks : list of dict
        The metadata of that one, by row group; Thrift's numbers of fields are the keys.
    rows : list of int
        Rows of each row group.
    is_text : bool
        Whether it holds text or bytes rather than numbers.
    encrypted : bool
        Whether a key is needed to read it.
    """

    name: str
    position: int
    leaves: range
    path: str
    top_level: int
    chunks: list[dict[int, Any]]
    rows: list[int]
    is_text: bool
    encrypted: bool

    def n_values(self, group: int) -> int:
        """Values in a row group; an empty or missing list counts as one."""
        return int(self.chunks[group].get(5, 0))

    def n_present(self) -> int | None:
        """Values that are not null, over all row groups; None if the footer does not tell."""
        total = 0
        for chunk in self.chunks:
            levels = chunk.get(16, {}).get(3)
            nulls = chunk.get(12, {}).get(3)
            if levels and len(levels) == self.top_level + 1:
                total += levels[-1]
            elif nulls is not None:
                total += chunk.get(5, 0) - nulls
            else:
                return None
        return int(total)

    def text_bytes(self, group: int) -> int | None:
        """Bytes of text in a row group; None if they may be any number."""
        chunk = self.chunks[group]
        told = chunk.get(16, {}).get(1)
        if told is not None:
            return int(told)
        if _DELTA_BYTES in chunk.get(2, ()) or _DICTIONARY & set(chunk.get(2, ())):
            return None
        return int(chunk.get(6, 0))

    @property
    def all_looked_up(self) -> bool:
        """Whether all values come from a dictionary, which can be kept as such."""
        kinds = [stats for chunk in self.chunks for stats in chunk.get(13, ({},))]
        data = [stats.get(2) for stats in kinds if stats.get(1, 0) in _DATA_PAGES]
        return bool(self.chunks) and all(encoding in _DICTIONARY for encoding in data)


def columns_of(path: Path) -> list[Column]:
    """The columns of a Parquet file, in the order of its schema.

    Raises
    ------
    DamagedFileError
        If the file has no footer that can be read, or an encrypted one.
    """
    data = _footer(path)
    try:
        return list(_columns(_Thrift(data).struct()))
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise DamagedFileError(f"{path}: its footer is damaged") from None


def _footer(path: Path) -> bytes:
    with reading(path), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        tail = file.read(8)
        if tail[4:] == b"PARE":
            raise DamagedFileError(f"{path}: its footer is encrypted; decrypt the file first")
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or length + 12 > size:
            raise DamagedFileError(f"{path}: not a whole Parquet file, its footer is missing")
        file.seek(size - 8 - length)
        return file.read(length)


def _columns(footer: dict[int, Any]) -> Iterator[Column]:
    root, *schema = footer[2]
    groups = footer.get(4, [])
    rows = [group[3] for group in groups]
    at = leaf = 0
    for position in range(root[5]):
        name = schema[at][4].decode()
        # The leaves below it, each with its path and the level at which it is there.
        leaves: list[tuple[list[str], int, int | None]] = []
        at = _walk(schema, at, [], 0, leaves)
        chunks = [group[1][leaf].get(3, {}) for group in groups]
        span = range(leaf, leaf + len(leaves))
        locked = any(8 in group[1][i] or 3 not in group[1][i] for group in groups for i in span)
        names, level, kind = leaves[0] if leaves else ([name], 0, None)
        is_text = kind in _BYTES
        yield Column(name, position, span, ".".join(names), level, chunks, rows, is_text, locked)
        leaf = span.stop


def _walk(
    schema: list[dict[int, Any]],
    at: int,
    above: list[str],
    level: int,
    leaves: list[tuple[list[str], int, int | None]],
) -> int:
    """Adds the leaves below an element of the schema; returns where the next one is."""
    element = schema[at]
    names = [*above, element[4].decode()]
    level += element.get(3, 0) != 0  # optional or repeated
    at += 1
    if not element.get(5):
        leaves.append((names, level, element.get(1)))
    for _ in range(element.get(5, 0)):
        at = _walk(schema, at, names, level, leaves)
    return at


class _Thrift:
    """Reads structs of the compact protocol as dictionaries by number of field."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _varint(self) -> int:
        data, at, value, shift = self._data, self._at, 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                self._at = at
                return value
            shift += 7

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of a struct."""
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while (byte := self._data[self._at]) != 0:
            self._at += 1
            delta = byte >> 4
            number = number + delta if delta else self._integer()
            kind = byte & 15
            fields[number] = kind == _TRUE if kind <= _FALSE else self._value(kind, depth)
        self._at += 1
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if _BYTE < kind < _DOUBLE:
            return self._integer()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            head = self._bytes(1)[0]
            size = head >> 4
            size = self._varint() if size == 15 else size
            return [self._value(head & 15, depth + 1) for _ in range(size)]
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._bytes(1)[0]
        if kind == _MAP and (size := self._varint()):
            kinds = self._bytes(1)[0]
            for _ in range(size):
                self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1)
            return None
        raise ValueError(f"no type {kind}")

    def _bytes(self, size: int) -> bytes:
        begin = self._at
        self._at += size
        if self._at > len(self._data):
            raise IndexError("beyond the end")
        return self._data[begin : self._at]
