"""What a Parquet file's footer says of its columns.

Not by pyarrow: it ends the process (`std::terminate`) where the metadata of a column chunk are
encrypted or damaged, be it one that nobody wants. The footer is a struct of Thrift's compact
protocol, see https://github.com/apache/parquet-format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from radscore.corpus.base import DamagedFileError, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.columnar import Path as FieldPath

__all__ = ["Chunk", "Column", "column_at", "columns_of", "is_uneven", "largest_page"]

_DEEPEST = 32
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
#: Encodings that look up a value elsewhere, so that a few bytes may stand for many.
_DICTIONARY = {2, 8}
_DELTA_BYTES = 7
_DATA_PAGES = (0, 3)
#: Fields of a page's header with what it is, if it is one of data: version 1, version 2.
_PAGE_HEADERS = (5, 8)
#: Bytes that hold any page's header, unless it has huge statistics.
_HEADER = 1 << 12
_LARGE = 1 << 28
#: Physical types of variable and of fixed length.
_BYTES = (6, 7)


class Chunk(NamedTuple):
    """What the footer says of the values of one column in one row group; None where it is silent.

    Attributes
    ----------
    n_values, n_bytes : int
        Values, where an empty or missing list counts as one; bytes, encoded but not compressed.
    n_present : int or None
        Values that are not null.
    text_bytes : int or None
        Bytes of text that they stand for.
    looked_up : bool
        Whether all values come from a dictionary, which can be kept as such.
    encrypted : bool
        Whether a key is needed to read it.
    span : range
        Its bytes in the file.
    """

    n_values: int = 0
    n_bytes: int = 0
    n_present: int | None = None
    text_bytes: int | None = None
    looked_up: bool = False
    encrypted: bool = False
    span: range = range(0)


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
    is_text : bool
        Whether that one holds text or bytes rather than numbers.
    chunks : list of Chunk
        That one, by row group.
    rows : list of int
        Rows of each row group.
    encrypted : bool
        Whether a key is needed to read it.
    within : list of Column
        Each of its columns of values by itself, named as in a dotted path.
    """

    name: str
    position: int
    leaves: range
    path: str
    is_text: bool
    chunks: list[Chunk]
    rows: list[int]
    encrypted: bool
    within: list[Column] = field(default_factory=list)

    def n_present(self) -> int | None:
        """Values that are not null, over all row groups; None if the footer does not tell."""
        found = [chunk.n_present for chunk in self.chunks]
        return None if None in found else sum(filter(None, found))


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


def column_at(columns: list[Column], path: FieldPath) -> Column:
    """What of the columns must be read for a field at a path of `columnar.path_to`.

    That is the column or, within a struct, only the columns of its values. Of an element of a list,
    it is the whole list.
    """
    column = next(one for one in columns if one.name == path[0])
    names = [step for step in path if isinstance(step, str)]
    inside = column.within
    if len(names) == len(path):
        dotted = ".".join(names)
        inside = [one for one in inside if f"{one.name}.".startswith(f"{dotted}.")]
    if len(path) == 1 or not inside:
        return column
    # Sizes are those of the largest.
    largest = max(inside, key=lambda one: sum(chunk.n_bytes for chunk in one.chunks))
    leaves = range(inside[0].leaves.start, inside[-1].leaves.stop)
    locked = any(one.encrypted for one in inside)
    return replace(largest, leaves=leaves, encrypted=locked, position=column.position)


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
    rows = [_integer(group[3]) for group in groups]
    at = leaf = 0
    for position in range(_integer(root[5])):
        name = schema[at][4].decode()
        # The leaves below it, each with its path, the level at which it is there, and its type.
        leaves: list[tuple[list[str], int, int | None]] = []
        at = _walk(schema, at, [], 0, leaves)
        span = range(leaf, leaf + len(leaves))
        within = []
        for i, (names, level, kind) in zip(span, leaves, strict=True):
            path = ".".join(names)
            chunks = [
                _chunk(group[1][i], level, n_rows)
                for group, n_rows in zip(groups, rows, strict=True)
            ]
            locked = any(chunk.encrypted for chunk in chunks)
            is_text = kind in _BYTES
            within.append(
                Column(path, position, range(i, i + 1), path, is_text, chunks, rows, locked)
            )
        locked = any(one.encrypted for one in within)
        yield replace(within[0], name=name, leaves=span, encrypted=locked, within=within)
        leaf = span.stop


def _chunk(chunk: dict[int, Any], level: int, n_rows: int) -> Chunk:
    """What is told of a column chunk whose values are there at a definition level."""
    about = chunk.get(3)
    if 8 in chunk or about is None:
        return Chunk(encrypted=True)
    n_values, n_bytes = _integer(about.get(5, 0)), _integer(about.get(6, 0))
    sizes = about.get(16, {})
    told = _present(n_values, n_rows, level, about.get(12, {}).get(3), sizes)
    present = told.pop() if len(told) == 1 else None
    text_bytes = sizes.get(1)
    encodings = set(map(_integer, about.get(2, ())))
    if _DELTA_BYTES in encodings:  # what is told are the parts that texts do not share
        text_bytes = None
    elif text_bytes is not None or not encodings & _DICTIONARY:
        text_bytes = max(_integer(text_bytes or 0), n_bytes)  # pyarrow may tell too few
    pages = about.get(13, ())
    data = {_integer(one[2]) for one in pages if one.get(1, 0) in _DATA_PAGES}
    looked_up = bool(data) and data <= _DICTIONARY
    first = _integer(about.get(11) or about[9])
    span = range(first, first + _integer(about.get(7, 0)))
    return Chunk(n_values, n_bytes, present, text_bytes, looked_up, span=span)


def _present(
    n_values: int, n_rows: int, level: int, nulls: Any, sizes: dict[int, Any]
) -> set[int | None]:
    """How many values are there, by all that tells; with None if it contradicts itself."""
    found: set[int | None] = set()
    if nulls is not None:
        found.add(n_values - _integer(nulls))
    for levels in filter(None, (sizes.get(2), sizes.get(3))):
        if sum(map(_integer, levels)) != n_values:
            found.add(None)
    if sizes.get(2) and sizes[2][0] != n_rows:
        found.add(None)
    if sizes.get(3) and len(sizes[3]) == level + 1:
        found.add(sizes[3][-1])
    return {one if one is not None and 0 <= one <= n_values else None for one in found}


def is_uneven(path: Path, chunk: Chunk) -> bool:
    """Whether some pages of a large chunk stand for far more values than the others."""
    if chunk.n_values < _LARGE // 16:
        return False
    counts = [page.n_values for page in _pages(path, chunk) if page.n_values is not None]
    # The last one is what is left.
    return len(counts) > 2 and max(counts) > max(8 * min(counts[:-1]), _LARGE // 128)


def largest_page(path: Path, chunk: Chunk) -> tuple[int, int, int]:
    """Bytes of the largest page of a chunk, uncompressed, its values, and those before it.

    No value takes more than its page, of whatever encoding, or the page of its dictionary.
    """
    largest = inside = before = n_values = 0
    for page in _pages(path, chunk):
        if page.size > largest:
            largest, inside, before = page.size, page.n_values or 0, n_values
        n_values += page.n_values or 0
    return largest, inside, before


class _Page(NamedTuple):
    """What a page's header says: bytes, uncompressed, and values, if it holds data."""

    size: int
    n_values: int | None


def _pages(path: Path, chunk: Chunk) -> Iterator[_Page]:
    """The pages of a chunk, as far as their headers can be read."""
    with reading(path), path.open("rb") as file:
        at = chunk.span.start
        while at < chunk.span.stop:
            file.seek(at)
            thrift = _Thrift(file.read(_HEADER))
            try:
                page = thrift.struct()
                counts = [_integer(page[n][1]) for n in _PAGE_HEADERS if n in page]
                found = _Page(_integer(page[2]), counts[0] if counts else None)
                at += thrift.at + max(_integer(page[3]), 0)
            except (IndexError, KeyError, TypeError, ValueError):
                break  # pyarrow will say what is wrong
            yield found


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not an integer")
    return value


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
        self.at = 0

    def _varint(self) -> int:
        data, at, value, shift = self._data, self.at, 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                self.at = at
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
        while (byte := self._data[self.at]) != 0:
            self.at += 1
            delta = byte >> 4
            number = number + delta if delta else self._integer()
            kind = byte & 15
            fields[number] = kind == _TRUE if kind <= _FALSE else self._value(kind, depth)
        self.at += 1
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
        begin = self.at
        self.at += size
        if self.at > len(self._data):
            raise IndexError("beyond the end")
        return self._data[begin : self.at]
