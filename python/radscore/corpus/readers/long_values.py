"""Records of JSON with very long values, read piece by piece.

As Python lists, each number would take 40 bytes; and a text with a single emoji takes four bytes
per character, of which there would be two copies.
"""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.corpus.readers.skim import SkimError, Skimmed, skim
from radscore.corpus.records import MAX_ID, OddList

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from radscore.corpus.room import Room

__all__ = ["LONG", "Wanted", "parse"]

#: Lines from this length on may hold such lists.
LONG: Final = 1 << 22
#: Bytes of a value that is worth it.
_LONG_VALUE: Final = 1 << 20
#: Bytes of a value that are parsed at once.
_PIECE: Final = 1 << 18
#: A key and the start of its value. In a string every quote is escaped, so none of it is in one.
_KEY: Final = re.compile(rb'(?<!\\)"\s*:\s*(?=[\["])')
#: What a flat list without strings is made of.
_FLAT: Final = re.compile(rb"[\s\w,.+-]*+\]")
#: The rest of a string.
_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_EMPTY: Final = np.empty(0, np.uint32)
#: Characters for which Python takes four and two bytes each.
_ASTRAL: Final = re.compile("[\U00010000-\U0010ffff]")
_BEYOND_LATIN: Final = re.compile("[\u0100-\uffff]")
#: Bytes of an object, a list, half a string, and a value in them with its place there.
_WEIGHTS: Final = ((b"{", 240), (b"[", 100), (b'"', 30), (b",", 40), (b":", 40))
#: From so many bytes on, no objects are made of values that nobody wants.
_HEAVY: Final = 1 << 26
_DEEPEST: Final = 8
#: Stands for a value: JSON has no such number.
_MARK: Final = b"-Infinity"


class _FlawError(Exception):
    """What is wrong with a line."""


@dataclass(frozen=True)
class Wanted:
    """The fields that are read of a record, and the memory it may take.

    Attributes
    ----------
    names : tuple of (str, bytes)
        The fields, and how JSON writes them; none for a sketch of all.
    keys : frozenset of bytes
        Keys whose values may be, or hold, one of the fields.
    room : Room or None
        The memory, if it is limited.
    """

    names: tuple[tuple[str, bytes], ...]
    keys: frozenset[bytes]
    room: Room | None

    @classmethod
    def of(cls, names: Sequence[str], room: Room | None) -> Wanted:
        """What is wanted of records with these fields."""
        keys = set()
        for name in names:
            parts = name.split(".")
            for first, last in combinations(range(len(parts) + 1), 2):
                keys.add(".".join(parts[first:last]).encode("utf-8", "surrogatepass"))
        written = tuple((name, json.dumps(name).encode()) for name in names)
        return cls(written, frozenset(keys), room)

    def repeated(self, text: str | bytes | bytearray) -> str | None:
        """The flaw of an object that has a field twice: libraries differ in which they take.

        Only one that has the key twice, at whatever depth, is parsed again.
        """
        for name, key in self.names:
            if (text.count(key.decode()) if isinstance(text, str) else text.count(key)) > 1:
                pairs = json.loads(text, object_pairs_hook=list)
                if [one for one, _ in pairs].count(name) > 1:
                    return f"field {name!r} occurs twice in the record"
        return None

    def skimmed(self, text: str, values: Iterator[Any], used: int) -> Any:
        """The record of some JSON; of values that are not wanted, no objects are made."""
        found = skim(text)
        if found is None or not found.is_object:
            return []
        record: dict[str, Any] = {}
        for key, part, inside in _parts(found, text, values):
            name = json.loads(key)
            if not self.names:
                record[name] = _sketch(part, inside)
                continue
            if not self.takes(name.encode("utf-8", "surrogatepass")):
                record.setdefault(name, None)
                continue
            if name in record:
                raise _FlawError(f"field {name!r} occurs twice in the record")
            need = used + _weight(part.encode("utf-8", "surrogatepass"))
            if self.room is not None and (flaw := self.room.flaw(need, f"field {name!r}")):
                raise _FlawError(flaw)
            record[name] = _loaded(part, inside)
        return record

    def takes(self, key: bytes) -> bool:
        """Whether the value of a key, as it stands in the file, is worth keeping."""
        return not self.names or key in self.keys or b"\\" in key


def parse(line: bytes | bytearray, wanted: Wanted | None = None) -> tuple[Any, str | None]:
    """The record of a line, its long lists of ids as arrays; or its flaw.

    Other long lists of numbers, which no field of ids can hold, are an `OddList`. Long values that
    are not wanted are empty; where the others would take too much, all that are not wanted are
    None.

    Examples
    --------
    >>> record, _ = parse(b'{"a": [' + b"7, " * 400_000 + b'8], "b": [1]}')
    >>> record["a"].shape, record["b"]
    ((400001,), [1])
    """
    values: list[Any] = []
    parts: list[bytes | bytearray] = []
    room = None if wanted is None else wanted.room
    done = 0
    try:
        for found in _KEY.finditer(line):
            start = found.end() + 1
            is_list = line[start - 1 : start] == b"["
            if start < done or not (rest := (_FLAT if is_list else _STRING).match(line, start)):
                continue
            end = rest.end() - 1
            if end - start >= _LONG_VALUE:
                keep = wanted is None
                if wanted is not None and wanted.names:
                    keep = wanted.takes(_key_before(line, found.start()))
                read = _list if is_list else partial(_string, room=room)
                values.append(read(line, start, end, keep=keep))
                parts.append(line[done : start - 1])
                done = end + 1
        parts.append(line[done:])
    except _FlawError as flaw:
        return None, str(flaw)
    if not values or any(_MARK in part for part in parts):
        text, waiting = line.decode(), iter(())
        parts = [line]
    else:
        try:
            text, waiting = _MARK.join(parts).decode(), iter(values)
        except UnicodeDecodeError:
            line.decode()  # raises the same, with its offset in the line
            raise
    weight = sum(map(_weight, parts))
    parts.clear()
    if weight < _HEAVY or wanted is None:
        record = _loaded(text, waiting)
        if wanted is not None and isinstance(record, dict):
            return record, wanted.repeated(text)
        return record, None
    try:
        return wanted.skimmed(text, waiting, len(line)), None
    except (_FlawError, SkimError) as flaw:
        return None, str(flaw)


def _parts(
    found: Skimmed, text: str, values: Iterator[Any]
) -> Iterator[tuple[str, str, Iterator[Any]]]:
    """The members of a value: key, text, and what its marks stand for."""
    mark = _MARK.decode()
    for key, (start, end) in found.members:
        inside = [next(values, None) for _ in range(text.count(mark, start, end))]
        yield key, text[start:end], iter(inside)


def _sketch(text: str, values: Iterator[Any], depth: int = 0) -> Any:
    """A value that shows where text and ids are: of large lists, the first elements."""
    if len(text) < _LONG_VALUE:
        return _loaded(text, values)
    found = skim(text)
    if found is None or depth == _DEEPEST:
        return None
    parts = _parts(found, text, values)
    if found.is_object:
        return {json.loads(key): _sketch(part, inside, depth + 1) for key, part, inside in parts}
    return [_sketch(part, inside, depth + 1) for _, part, inside in parts]


def _loaded(text: str, values: Iterator[Any]) -> Any:
    """The value of a text of JSON in which marks stand for values, or of one without marks."""
    if _MARK.decode() not in text:
        return json.loads(text)
    return json.loads(text, parse_constant=lambda name: _constant(name, values))


def _key_before(line: bytes | bytearray, end: int) -> bytes:
    """The key that ends at an offset, as it is written; with a backslash if it has any escape."""
    begin = line.rfind(b'"', 0, end) + 1
    if line[max(begin - 2, 0) : begin - 1] == b"\\":
        begin -= 2
    return bytes(line[begin:end])


def _weight(part: bytes | bytearray) -> int:
    """About how many bytes the objects of Python take that are made of some JSON, at most."""
    text = len(part) * (1 if part.isascii() else 4)
    return text + sum(size * part.count(mark) for mark, size in _WEIGHTS)


def _constant(name: str, waiting: Iterator[Any]) -> Any:
    """What the name of a number that JSON lacks stands for."""
    found = float(name)
    return next(waiting, found) if name.encode() == _MARK else found


def _list(
    line: bytes | bytearray, start: int, end: int, *, keep: bool
) -> npt.NDArray[np.uint32] | OddList:
    """The flat list between two offsets, parsed piece by piece."""
    ids = np.empty(line.count(b",", start, end) + 1 if keep else 0, dtype=np.uint32)
    n_done = 0
    odd: OddList | None = None
    while start <= end:
        stop = line.find(b",", min(start + _PIECE, end), end)
        stop = end if stop < 0 else stop
        values = _values(line[start:stop], start)
        if odd is None and keep:
            odd = _into(ids[n_done : n_done + len(values)], values, n_done)
        n_done += len(values)
        start = stop + 1
    if not keep:
        return _EMPTY
    return ids if odd is None else odd


def _string(line: bytes | bytearray, start: int, end: int, *, keep: bool, room: Room | None) -> str:
    """The string between two offsets."""
    made = bytearray()
    length, width = 0, 1
    while start < end:
        # Behind a space is no escape and no character begun.
        stop = line.find(b" ", min(start + _PIECE, end), end) + 1 or end
        try:
            part = json.loads(f'"{line[start:stop].decode()}"')
        except json.JSONDecodeError as error:
            raise _FlawError(f"not JSON: {error.msg} (column {start + error.pos})") from None
        start = stop
        if not keep:
            continue
        made += part.encode("utf-8", "surrogatepass")
        if room is not None:
            length, width = length + len(part), max(width, _width(part))
            if flaw := room.flaw(len(line) + len(made) + width * length, "the text"):
                raise _FlawError(flaw)
    if not keep:
        return ""
    return made.decode("utf-8", "surrogatepass")


def _width(text: str) -> int:
    """Bytes of a character of a string."""
    if text.isascii():
        return 1
    return 4 if _ASTRAL.search(text) else 2 if _BEYOND_LATIN.search(text) else 1


def _values(piece: bytes | bytearray, start: int) -> list[Any]:
    """The values of a piece that begins at byte `start`."""
    try:
        values: list[Any] = json.loads(b"[" + piece + b"]")
    except json.JSONDecodeError as error:
        raise _FlawError(f"not JSON: {error.msg} (column {start + error.pos})") from None
    except ValueError as error:  # integers of thousands of digits
        raise _FlawError(f"not JSON: {error}") from None
    if not values:
        raise _FlawError(f"not JSON: a comma without a value (column {start + 1})")
    return values


def _into(ids: npt.NDArray[np.uint32], values: list[Any], n_before: int) -> OddList | None:
    """Fills in the values, or returns the first that is not an id."""
    if not set(map(type, values)) - {int}:
        try:
            found = np.frombuffer(array("q", values), dtype=np.int64)
        except OverflowError:
            found = np.array([-1])
        if found.min() >= 0 and found.max() <= MAX_ID:
            ids[:] = found
            return None
    for i, value in enumerate(values):
        if type(value) is not int or not 0 <= value <= MAX_ID:
            return OddList(n_before + i, value)
    return None
