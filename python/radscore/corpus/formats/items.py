"""Shards of items: a count, the places of the items, the items; MDS and litdata have them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    InputOptionError,
    Position,
    Problems,
    Where,
    count_parts,
    damage_named,
    even_edges,
    joined,
    place,
)
from radscore.corpus.formats.tokens import map_ids
from radscore.corpus.records import Fields, Item, ValueColumn, flaw_without_encoder
from radscore.corpus.text.tokenizer import flaw_of_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from radscore.corpus.sources import Source
    from radscore.documents import Documents

__all__ = ["Bytes", "ItemReader", "Leaf", "Shard", "read_offsets", "unpacked"]

Bytes = npt.NDArray[np.uint8]
# A packed item may not grow beyond: what is expected of memory must not depend on the input.
MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Leaf:
    """One column of the items: its bytes become ids or text."""

    name: str
    #: Bytes of a value, where all have the same number and so none is stored.
    size: int | None
    #: Text, or the function that makes ids of the bytes; None: a column of another kind.
    decode: Callable[[Bytes], tuple[npt.NDArray[Any] | None, str | None]] | str | None
    encoding: str


@dataclass(frozen=True)
class Shard:
    """The items of one file, read when they are asked for."""

    #: First byte of each item, and the end of the last.
    offsets: npt.NDArray[np.int64]
    #: The bytes of the items from one to another.
    read: Callable[[int, int], Bytes]
    #: Whether the bytes of an item that was read must be unpacked one by one.
    packed: bool = False
    #: Whether the items lie in the file as they are, so that reading one cannot fail.
    plain: bool = False


def read_offsets(path: Path, data: Bytes, end: int, first: int) -> npt.NDArray[np.int64]:
    """The places of the items, by the count that `data` begins with.

    `first` bytes lie between the places and the first item; the last item ends at `end`.
    """
    count = int.from_bytes(data[:4].tobytes(), "little")
    header = 8 + 4 * count
    if len(data) < min(8, end) or header > end:
        raise DamagedFileError(f"{path}: says {count} items, which {end} bytes cannot hold")
    found = np.frombuffer(data[4:header].tobytes(), "<u4").astype(np.int64)
    if len(found) != count + 1:
        raise DamagedFileError(f"{path}: cut inside of its header")
    if found[0] != header + first or found[-1] != end or (np.diff(found) < 0).any():
        raise DamagedFileError(
            f"{path}: its {count} items run from byte {found[0]} to {found[-1]}, but they should "
            f"from {header + first} to {end}"
        )
    return found


def unpacked(source: Source, data: Bytes, size: int | None) -> Bytes:
    """Packed bytes unpacked; to `size` bytes, where that is known."""
    import pyarrow as pa

    path, codec = source.path, source.codec or "zstd"
    held: Any = data
    buffer = pa.py_buffer(held)
    limit = MOST_BYTES if size is None else size
    with damage_named(path):
        if codec == "snappy":
            if size is None or size > MOST_BYTES:
                raise DamagedFileError(f"{path}: its index does not say how large it is unpacked")
            found = pa.Codec("snappy").decompress(buffer, size, asbytes=True)
        else:
            with pa.CompressedInputStream(pa.BufferReader(buffer), codec) as stream:
                found = stream.read(limit + 1)
    if len(found) > limit or (size is not None and len(found) != size):
        more = "more than " if len(found) > limit else ""
        raise DamagedFileError(
            f"{path}: unpacks to {more}{min(len(found), limit)} bytes, not to {limit}"
        )
    return np.frombuffer(found, dtype=np.uint8)


class ItemReader:
    """Reads the wanted columns of the items of a shard, batch by batch."""

    #: End-of-document ids inside of an item are not looked for here.
    cuts = False

    def __init__(
        self,
        source: Source,
        shard: Shard,
        leaves: tuple[Leaf, ...],
        wanted: Fields,
        problems: Problems,
    ) -> None:
        self._source = source
        self._shard = shard
        self._leaves = leaves
        self._fields = wanted
        self._problems = problems
        self._columns = [self._column(name) for name in wanted.names]
        self.sound = shard.plain

    def _column(self, name: str) -> int:
        names = [leaf.name for leaf in self._leaves]
        if name not in names:
            raise DamagedFileError(
                f"{self._source.path}: no field {name!r}; there is: {', '.join(names)}"
            )
        leaf = self._leaves[names.index(name)]
        if leaf.decode is None:
            raise DamagedFileError(
                f"{self._source.path}: field {name!r} is stored as {leaf.encoding!r}, which is "
                "neither text nor token ids"
            )
        if leaf.decode == "text" and self._fields.encoder is None:
            raise _NoTokenizerError(f"{self._source.path}: {flaw_without_encoder(name)}")
        return names.index(name)

    def edges(self, size: int) -> Iterator[Position]:
        """Items (``item``)."""
        offsets, count = self._shard.offsets, len(self._shard.offsets) - 1
        begin, end = int(offsets[0]), int(offsets[-1])
        places = [
            begin + at for at in even_edges(end - begin, count_parts(self._source.size, size))
        ]
        for item in np.unique(np.searchsorted(offsets, places)).tolist():
            if 0 < item < count:
                yield {"item": item}

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The items after `position` (``item`` items)."""
        offsets = self._shard.offsets
        count = len(offsets) - 1 if end is None else end["item"]
        first = position.get("item", 0)
        while first < count:
            room = offsets[first] + 4 * self._fields.batch_tokens
            last = max(int(np.searchsorted(offsets, room, side="right")) - 1, first + 1)
            last = min(last, count)
            yield self._chunk(first, last)
            first = last

    def _chunk(self, first: int, last: int) -> Chunk:
        offsets, path = self._shard.offsets, self._source.path
        data = self._shard.read(first, last)
        bounds = offsets[first : last + 1] - offsets[first]
        columns: list[list[Item | npt.NDArray[Any]]] = [[] for _ in self._columns]
        numbers = []
        for row, (begin, end) in enumerate(pairwise(bounds.tolist()), start=first):
            item = data[begin:end]
            if self._shard.packed:
                item = unpacked(self._source, item, None)
            values, flaw = self._values(item)
            if flaw is not None:
                self._problems.record(place(path, row, "row"), flaw)
                continue
            for column, value in zip(columns, values, strict=True):
                column.append(value)
            numbers.append(row)
        documents = [self._documents(column) for column in columns]
        where = Where(path, np.array(numbers, dtype=np.int64), "row")
        from_text = self._leaves[self._columns[0]].decode == "text"
        prompts = None if self._fields.prompt is None else documents[-1]
        # Places in what was unpacked, as a share of the file.
        end = self._source.size * int(offsets[last]) // max(int(offsets[-1]), 1)
        return Chunk(documents[0], prompts, where, {"item": last}, end, from_text)

    def _values(self, item: Bytes) -> tuple[list[Any], str | None]:
        """The wanted values of an item, or what is wrong with it."""
        varying = sum(leaf.size is None for leaf in self._leaves)
        start = 4 * varying
        if len(item) < start:
            return [], "the item is shorter than the sizes that it begins with"
        sizes = iter(np.frombuffer(item[:start].tobytes(), "<u4").tolist())
        spans = []
        for leaf in self._leaves:
            size = next(sizes) if leaf.size is None else leaf.size
            spans.append((start, start + size))
            start += size
        if start != len(item):
            return [], f"its fields add up to {start} bytes, but the item has {len(item)}"
        values = []
        for column in self._columns:
            leaf, (begin, end) = self._leaves[column], spans[column]
            value, flaw = _decoded(leaf, item[begin:end])
            if flaw is not None:
                return [], f"field {leaf.name!r}: {flaw}"
            values.append(value)
        return values, None

    def _documents(self, values: list[Any]) -> Documents:
        if values and isinstance(values[0], str):
            texts = ValueColumn(self._fields.encoder)
            for text in values:
                texts.add(text)
            return texts.documents()
        return joined(values)


class _NoTokenizerError(DamagedFileError, InputOptionError):
    """A file cannot be read, because a tokenizer is missing."""


def _decoded(leaf: Leaf, data: Bytes) -> tuple[Any, str | None]:
    if leaf.decode != "text":
        assert callable(leaf.decode)
        return leaf.decode(data)
    try:
        text = data.tobytes().decode()
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x})"
    return text, flaw_of_text(text)


def plain_ids(
    dtype: np.dtype[Any],
) -> Callable[[Bytes], tuple[npt.NDArray[Any] | None, str | None]]:
    """Reads bytes that hold nothing but ids."""

    def decode(data: Bytes) -> tuple[npt.NDArray[Any] | None, str | None]:
        if len(data) % dtype.itemsize:
            return None, f"{len(data)} bytes are no whole number of {dtype.name} ids"
        return np.frombuffer(data.tobytes(), dtype), None

    return decode


def mapped_shard(path: Path, offsets: npt.NDArray[np.int64]) -> Shard:
    """The items of a file that is not packed: each batch maps its own part of it."""

    def read(first: int, last: int) -> Bytes:
        begin, end = int(offsets[first]), int(offsets[last])
        return map_ids(path, np.dtype(np.uint8), begin, end - begin)

    return Shard(offsets, read, plain=True)


def held_shard(data: Bytes, offsets: npt.NDArray[np.int64]) -> Shard:
    """The items of a file that was unpacked into memory."""
    return Shard(offsets, lambda first, last: data[offsets[first] : offsets[last]])
