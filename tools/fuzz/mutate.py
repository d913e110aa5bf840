"""What hostile hands, bad disks and bad cables do to bytes."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from random import Random

#: Integers at which arithmetic goes wrong.
_EDGES: Final = (0, 1, -1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40)
_FARTHEST: Final = (*_EDGES, 2**53, 2**60, 2**63 - 1)
_ODD_TEXT: Final = ("", "\0", "\ud83d", "\x1b[2J", "../../x", "a" * 70_000, "null", "1e999", "é")
_ODD_JSON: Final[tuple[Any, ...]] = (
    None, True, False, [], {}, "", "x", [[]], [None], {"": None}, 0, -1, 1.5, -0.0, 2**31, 2**63,
    2**64, 10**400, 1e308, float("nan"), float("inf"), "\0", "\ud800", "-1", "0x10", [1, [2]],
)  # fmt: skip


def mutated(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """`data` after one to four changes; `others` are files from which pieces are taken."""
    if rng.random() < 0.3:
        changed = _changed_json(data, rng)
        if changed is not None:
            return changed
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_CHANGES)(new, rng, others)
    return bytes(new)


def _flip(data: bytearray, rng: Random, _: list[bytes]) -> None:
    if data:
        data[_offset(data, rng)] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: Random, _: list[bytes]) -> None:
    if data:
        data[_offset(data, rng)] = rng.choice((0, 1, 10, 34, 92, 127, 128, 255, rng.randrange(256)))


def _number(data: bytearray, rng: Random, _: list[bytes]) -> None:
    """An integer of 1 to 8 bytes, aligned or not, at the edge of something."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) < size:
        return
    offset = _offset(data, rng) // size * size if rng.random() < 0.7 else _offset(data, rng)
    value = rng.choice(_FARTHEST) + rng.choice((0, 0, 1, -1))
    if rng.random() < 0.3 and offset + size <= len(data):  # a little more, or a lot
        value = int.from_bytes(data[offset : offset + size], "little") * rng.choice(
            (2, 1000, 2**20)
        )
    piece = struct.pack("<Q", value % 2**64)[:size]
    data[offset : offset + size] = piece


def _cut(data: bytearray, rng: Random, _: list[bytes]) -> None:
    del data[_offset(data, rng) :]


def _delete(data: bytearray, rng: Random, _: list[bytes]) -> None:
    offset = _offset(data, rng)
    del data[offset : offset + rng.choice((1, 2, 4, 8, 16, 300))]


def _repeat(data: bytearray, rng: Random, _: list[bytes]) -> None:
    offset = _offset(data, rng)
    piece = data[offset : offset + rng.choice((1, 4, 8, 64, 1000))]
    data[offset:offset] = piece * rng.choice((1, 2, 50))


def _insert(data: bytearray, rng: Random, _: list[bytes]) -> None:
    offset = _offset(data, rng)
    data[offset:offset] = rng.choice(
        (
            b"\0" * 8,
            b"\xff" * 8,
            b"\xff\xfe",
            b"[" * 5000,
            b'"',
            b"\n",
            b"\r\n",
            b"9" * 6000,
            b"\xed\xa0\x80",
        )
    )


def _splice(data: bytearray, rng: Random, others: list[bytes]) -> None:
    other = rng.choice(others) if others else bytes(data)
    start = rng.randrange(len(other) + 1)
    piece = other[start : start + rng.choice((4, 16, 100, 4000))]
    offset = _offset(data, rng)
    data[offset : offset + (len(piece) if rng.random() < 0.7 else 0)] = piece


def _swap(data: bytearray, rng: Random, _: list[bytes]) -> None:
    size = rng.choice((1, 4, 8, 64))
    if len(data) >= 2 * size:
        a, b = sorted(rng.randrange(len(data) - size + 1) for _ in range(2))
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _append(data: bytearray, rng: Random, others: list[bytes]) -> None:
    data += rng.choice(
        (b"\0", b"\0" * 4096, bytes(data), b"x", rng.choice(others) if others else b"")
    )


_CHANGES: Final = (
    *(_flip, _flip, _set, _number, _number, _number),
    *(_cut, _delete, _repeat, _insert, _splice, _swap, _append),
)


def _offset(data: bytearray, rng: Random) -> int:
    """Heads and tails hold what is about the rest: they are met more often."""
    size = len(data)
    if size == 0:
        return 0
    kind = rng.random()
    if kind < 0.3:
        return rng.randrange(min(size, 128))
    if kind < 0.5:
        return size - 1 - rng.randrange(min(size, 512))
    return rng.randrange(size)


def _changed_json(data: bytes, rng: Random) -> bytes | None:
    """One value of a JSON document, or of one of its lines, replaced, taken out, or made deep."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    lines = text.splitlines(keepends=True)
    for number in [None, *([rng.randrange(len(lines))] if lines else [])]:
        try:
            value = json.loads(text if number is None else lines[number])
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, dict | list):
            continue
        if rng.random() < 0.05:
            new = "[" * 100_000 if rng.random() < 0.5 else '{"a":' * 5000 + "1" + "}" * 5000
        else:
            _change(value, rng)
            new = json.dumps(value)
        if number is None:
            return new.encode()
        lines[number] = new + "\n"
        return "".join(lines).encode()
    return None


def _change(value: Any, rng: Random) -> None:
    holders = [value]
    for holder in holders:  # grows as it is read
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [item for item in inner if isinstance(item, dict | list)]
    filled = [holder for holder in holders if holder]
    if not filled:
        return
    holder = rng.choice(filled)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = rng.random()
    if kind < 0.25:
        del holder[key]
    elif kind < 0.35 and isinstance(holder, dict):
        holder[rng.choice(_ODD_TEXT)] = holder.pop(key)
    elif kind < 0.5 and isinstance(holder[key], int):
        holder[key] = rng.choice(_FARTHEST) * rng.choice((1, 1, -1))
    elif kind < 0.6 and isinstance(holder[key], str):
        holder[key] = rng.choice(_ODD_TEXT)
    elif kind < 0.7 and isinstance(holder, list):
        holder += holder * rng.choice((1, 100))
    else:
        holder[key] = rng.choice(_ODD_JSON)
