"""Records of JSON with very long values, read piece by piece.

As Python lists, each number would take 40 bytes; and a text with a single emoji takes four bytes
per character, of which there would be two copies.
"""

from __future__ import annotations

import json
import re
from array import array
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.corpus.records import MAX_ID, OddList

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["LONG", "parse"]

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
#: Stands for a value: JSON has no such number.
_MARK: Final = b"-Infinity"


class _FlawError(Exception):
    """What is wrong with a line."""


def parse(line: bytes | bytearray) -> tuple[Any, str | None]:
    """The record of a line, its long lists of ids as arrays; or its flaw.

    Other long lists of numbers, which no field of ids can hold, are an `OddList`.

    Examples
    --------
    >>> record, _ = parse(b'{"a": [' + b"7, " * 400_000 + b'8], "b": [1]}')
    >>> record["a"].shape, record["b"]
    ((400001,), [1])
    """
    values: list[Any] = []
    kept: list[bytes | bytearray] = []
    done = 0
    try:
        for found in _KEY.finditer(line):
            start = found.end() + 1
            is_list = line[start - 1 : start] == b"["
            if start < done or not (rest := (_FLAT if is_list else _STRING).match(line, start)):
                continue
            end = rest.end() - 1
            if end - start >= _LONG_VALUE:
                values.append((_list if is_list else _string)(line, start, end))
                kept.append(line[done : start - 1])
                done = end + 1
    except _FlawError as flaw:
        return None, str(flaw)
    kept.append(line[done:])
    if not values or any(_MARK in part for part in kept):
        return json.loads(line.decode()), None
    waiting = iter(values)
    try:
        text = _MARK.join(kept).decode()
    except UnicodeDecodeError:
        line.decode()  # raises the same, with its offset in the line
        raise
    return json.loads(text, parse_constant=lambda name: _constant(name, waiting)), None


def _constant(name: str, waiting: Iterator[Any]) -> Any:
    """What the name of a number that JSON lacks stands for."""
    return next(waiting) if name.encode() == _MARK else float(name)


def _list(line: bytes | bytearray, start: int, end: int) -> npt.NDArray[np.uint32] | OddList:
    """The flat list between two offsets, parsed piece by piece."""
    ids = np.empty(line.count(b",", start, end) + 1, dtype=np.uint32)
    n_done = 0
    odd: OddList | None = None
    while start <= end:
        stop = line.find(b",", min(start + _PIECE, end), end)
        stop = end if stop < 0 else stop
        values = _values(line[start:stop], start)
        if odd is None:
            odd = _into(ids[n_done : n_done + len(values)], values, n_done)
        n_done += len(values)
        start = stop + 1
    return ids if odd is None else odd


def _string(line: bytes | bytearray, start: int, end: int) -> str:
    """The string between two offsets."""
    made = bytearray()
    while start < end:
        # Behind a space is no escape and no character begun.
        stop = line.find(b" ", min(start + _PIECE, end), end) + 1 or end
        try:
            part = json.loads(f'"{line[start:stop].decode()}"')
        except json.JSONDecodeError as error:
            raise _FlawError(f"not JSON: {error.msg} (column {start + error.pos})") from None
        made += part.encode("utf-8", "surrogatepass")
        start = stop
    return made.decode("utf-8", "surrogatepass")


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
