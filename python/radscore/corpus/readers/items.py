"""Shards of items: a count, the offsets of the items, the items; MDS and litdata have them."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    InputOptionError,
    Locations,
    Position,
    Problems,
    Reader,
    even_edges,
    location,
    n_shards,
)
from radscore.corpus.compression import unpack
from radscore.corpus.dtypes import SAMPLE
from radscore.corpus.format import Format, Source
from radscore.corpus.readers.ids import HEADERLESS_DTYPES, also_cut, read_ids
from radscore.corpus.readers.listing import read_index
from radscore.corpus.records import (
    Fields,
    NoTokenizerError,
    ValueColumn,
    missing_field,
    needs_tokenizer,
    read_value,
    value_of,
)
from radscore.corpus.text.failures import flaw_of_bytes, flaw_of_text
from radscore.errors import line_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from radscore.corpus.format import Codec, Options
    from radscore.corpus.text.tokenizer import Encoder
    from radscore.documents import Documents

__all__ = [
    "Bytes",
    "Decoder",
    "ItemFormat",
    "ItemReader",
    "Leaf",
    "Shard",
    "beginning",
    "check_room",
    "decompressed",
    "held_shard",
    "json_above",
    "plain_ids",
    "plain_shard",
    "read_offsets",
    "sampled_items",
]

_INDEX = "index.json"
# An item may not decompress to more: memory must not depend on the input.
MAX_BYTES = 1 << 28
# So much of a file, and so many of its last items, are enough for a sample.
_BEGINNING = 1 << 18
_SAMPLED = 8
# Offsets have 32 bits.
_MAX_SHARD = 1 << 32

Bytes: TypeAlias = npt.NDArray[np.uint8]
#: Makes ids (or text) of the bytes of a value, or says what is wrong with them.
Decoder: TypeAlias = Callable[[Bytes], tuple[npt.NDArray[Any] | str | None, str | None]]


class ItemFormat(Format):
    """Files of items that the `index.json` of their folder lists."""

    codec_by_name = True
    not_data = frozenset({_INDEX})
    #: What its items are called, for the boundaries of documents.
    items: ClassVar[str]

    @abstractmethod
    def listed(self, index: Path, content: dict[str, Any]) -> list[Source] | None:
        """The sources that an index lists; None if it is not an index of this format.

        Raises
        ------
        CorpusError
            If it is damaged, or lists files that are not there.
        """

    @abstractmethod
    def needs_index(self, names: set[str]) -> bool:
        """Whether the files of a folder show that its index should be of this format."""

    def folder_sources(self, folder: Path, names: set[str]) -> list[Source] | None:
        """The files that the index lists."""
        if _INDEX not in names:
            return None
        index = folder / _INDEX
        content = read_index(index, required=self.needs_index(names))
        return self.listed(index, content) if isinstance(content, dict) else None

    def source(self, path: Path, codec: Codec | None) -> Source:
        """The file as the index beside it lists it, or by itself."""
        return self.listed_source(path) or super().source(path, codec)

    def listed_source(self, path: Path) -> Source | None:
        """The file as the index beside it lists it; None if there is no such index."""
        try:
            index, now = path.with_name(_INDEX).stat(), path.stat()
        except OSError:
            return None
        found = _listing(self, path.parent, index.st_size, index.st_mtime_ns).get(path)
        return found and replace(found, size=now.st_size, mtime_ns=now.st_mtime_ns)

    def boundaries(self, source: Source, eod: int | None) -> str | None:  # noqa: ARG002 - always so
        """The items."""
        return f"{self.items}{also_cut(eod)}"


@lru_cache(maxsize=4)
def _listing(kind: ItemFormat, folder: Path, *_stamp: int) -> dict[Path, Source]:
    """The files that an index lists; it is read once for all of them."""
    return {source.path: source for source in kind.folder_sources(folder, {_INDEX}) or ()}


@dataclass(frozen=True)
class Leaf:
    """One column of the items.

    Attributes
    ----------
    name : str
        Its name.
    size : int or None
        Bytes of a value, if all have the same number, which then is not stored.
    decode : "str", "bytes", "json", function or None
        How its bytes become text or ids; None if it holds neither. Nothing tells what "bytes" are:
        ids if there is a dtype, else text.
    encoding : str
        What the file calls that, for messages.
    parts : int
        How many values, each with a size of its own, lie back to back in it.
    """

    name: str
    size: int | None
    decode: Decoder | Literal["str", "bytes", "json"] | None
    encoding: str
    parts: int = 1


@dataclass(frozen=True)
class Shard:
    """The items of one file, read when they are asked for.

    Attributes
    ----------
    offsets : ndarray of int64, shape (n_items + 1,)
        First byte of each item, and the end of the last.
    read : function
        The bytes of the items from one to another.
    compressed : bool
        Whether each item must be decompressed by itself.
    plain : bool
        Whether the items lie in the file as they are, so that reading one cannot fail.
    """

    offsets: npt.NDArray[np.int64]
    read: Callable[[int, int], Bytes]
    compressed: bool = False
    plain: bool = False


def plain_shard(path: Path, offsets: npt.NDArray[np.int64]) -> Shard:
    """The items of an uncompressed file; each batch maps its own range of it."""

    def read(first: int, last: int) -> Bytes:
        begin, end = int(offsets[first]), int(offsets[last])
        return read_ids(path, np.dtype(np.uint8), begin, end - begin)

    return Shard(offsets, read, plain=True)


def held_shard(data: Bytes, offsets: npt.NDArray[np.int64]) -> Shard:
    """The items of a file that was decompressed into memory."""
    return Shard(offsets, lambda first, last: data[offsets[first] : offsets[last]])


def read_offsets(path: Path, data: Bytes, end: int, first: int) -> npt.NDArray[np.int64]:
    """The offsets of the items, by the count that `data` begins with.

    `first` bytes lie between the offsets and the first item; the last item ends at `end`.
    """
    count = int.from_bytes(data[:4].tobytes(), "little")
    header = 8 + 4 * count
    if len(data) < min(8, end) or header > end:
        raise DamagedFileError(f"{path}: says {count} items, which {end} bytes cannot hold")
    found = np.frombuffer(data[4:header].tobytes(), "<u4").astype(np.int64)
    if len(found) != count + 1:
        raise DamagedFileError(f"{path}: cut off inside its header")
    if found[0] != header + first or found[-1] != end or (np.diff(found) < 0).any():
        raise DamagedFileError(
            f"{path}: its {count} items run from byte {found[0]} to {found[-1]} rather than from "
            f"{header + first} to {end}"
        )
    return found


def decompressed(source: Source, data: Bytes | None, size: int | None) -> Bytes:
    """A file, or some bytes of it, decompressed; to `size` bytes, if that is known."""
    path, limit = source.path, MAX_BYTES if size is None else size
    if limit > _MAX_SHARD:
        raise DamagedFileError(f"{path}: its index says {limit} bytes; offsets have 32 bits")
    found = unpack(path, source.codec or "zstd", limit, data)
    if len(found) > limit or (size is not None and len(found) != size):
        more = "more than " if len(found) > limit else ""
        raise DamagedFileError(
            f"{path}: decompresses to {more}{min(len(found), limit)} bytes, not to {limit}"
        )
    return np.frombuffer(found, dtype=np.uint8)


def check_room(source: Source, size: Any, options: Options) -> None:
    """Raises if a file that is compressed as a whole takes more memory than there is."""
    room = None if options.fields is None else options.fields.room
    if source.codec is not None and room is not None and type(size) is int:
        flaw = room.flaw(size, f"{source.path}: decompressed, the file")
        if flaw is not None:
            raise DamagedFileError(flaw)


def beginning(source: Source) -> tuple[Bytes, npt.NDArray[np.int64]] | None:
    """The beginning of a compressed file, and the offsets of the items in it, for a sample.

    None if that cannot be decompressed by itself, or has no whole item.
    """
    assert source.codec is not None
    if source.codec == "snappy":
        return None
    data = np.frombuffer(unpack(source.path, source.codec, _BEGINNING), np.uint8)
    header = 8 + 4 * int.from_bytes(data[:4].tobytes(), "little")
    if len(data) < header:
        return None
    offsets = np.frombuffer(data[4:header].tobytes(), "<u4").astype(np.int64)
    offsets = offsets[offsets <= len(data)]
    fits = len(offsets) > 1 and offsets[0] >= header and (np.diff(offsets) >= 0).all()
    return (data, offsets) if fits else None


def sampled_items(
    source: Source, shard: Shard, leaves: tuple[Leaf, ...], options: Options
) -> list[npt.NDArray[Any]]:
    """Ids of some items, if nothing but their bytes tells what they are."""
    fields = options.fields or Fields(leaves[0].name, None, None, options.batch_tokens)
    leaf = next((leaf for leaf in leaves if leaf.name == fields.main), None)
    if leaf is None or not (callable(leaf.decode) or (leaf.decode == "bytes" and options.dtype)):
        return []
    wanted = replace(fields, prompt=None)
    reader = ItemReader(source, shard, leaves, wanted, Problems("skip"), options.dtype)
    return reader.sample()


class ItemReader(Reader):
    """Reads the wanted columns of the items of a shard, batch by batch."""

    def __init__(  # noqa: PLR0917 - made by the formats only
        self,
        source: Source,
        shard: Shard,
        leaves: tuple[Leaf, ...],
        wanted: Fields,
        problems: Problems,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        self._source = source
        self._shard = shard
        self._leaves = leaves
        self._fields = wanted
        self._problems = problems
        self._columns = [self._column(name) for name in wanted.names]
        self._decoders = [
            self._decoder(name, leaves[column], dtype)
            for name, column in zip(wanted.names, self._columns, strict=True)
        ]
        self.fails_early = shard.plain

    def _column(self, name: str) -> int:
        path, names = self._source.path, [leaf.name for leaf in self._leaves]
        if name not in names and (above := json_above(name, self._leaves)) is not None:
            return names.index(above)
        if name not in names:
            raise DamagedFileError(f"{path}: {missing_field(name, names)}")
        leaf = self._leaves[names.index(name)]
        if leaf.decode is None:
            raise DamagedFileError(
                f"{path}: field {name!r} is stored as {leaf.encoding!r}, which is neither text "
                "nor token ids"
            )
        if leaf.decode == "str" and self._fields.encoder is None:
            raise NoTokenizerError(f"{path}: {needs_tokenizer(name)}")
        return names.index(name)

    def _decoder(self, name: str, leaf: Leaf, dtype: np.dtype[Any] | None) -> Decoder:
        if callable(leaf.decode):
            return leaf.decode
        encoder = self._fields.encoder
        if leaf.decode == "json":
            return partial(_from_json, leaf.name, name, encoder)
        if leaf.decode == "bytes" and dtype is not None:
            return plain_ids(dtype)
        if encoder is None:
            dtypes = ", ".join(HEADERLESS_DTYPES)
            raise InputOptionError(
                f"{self._source.path}: field {leaf.name!r} is stored as bytes, so nothing tells "
                f"the dtype of its ids; give it with dtype= ({dtypes}), or give a tokenizer "
                "(tokenizer=) if it is text"
            )
        return _text

    def edges(self, size: int) -> Iterator[Position]:
        """Items (``item``)."""
        offsets, count = self._shard.offsets, len(self._shard.offsets) - 1
        begin, end = int(offsets[0]), int(offsets[-1])
        number = n_shards(self._source.size, size)
        bytes_at = [begin + at for at in even_edges(end - begin, number)]
        for item in np.unique(np.searchsorted(offsets, bytes_at)).tolist():
            if 0 < item < count:
                yield {"item": item}

    def sample(self) -> list[npt.NDArray[Any]]:
        """Ids of the first items, of some in the middle, and of the last."""
        offsets, size = self._shard.offsets, SAMPLE // 3
        count = len(offsets) - 1
        found = []
        for first in sorted({0, count // 2, max(count - _SAMPLED, 0)}) if count else ():
            last = int(np.searchsorted(offsets, offsets[first] + 8 * size, side="right")) - 1
            last = min(max(last, first + 1), count)
            if offsets[last] - offsets[first] <= _BEGINNING:
                found.append(self._chunk(first, last).documents.values[:size])
        return found

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
        columns: list[list[npt.NDArray[Any] | str]] = [[] for _ in self._columns]
        numbers = []
        for row, (begin, end) in enumerate(pairwise(bounds.tolist()), start=first):
            item = data[begin:end]
            if self._shard.compressed:
                item = decompressed(self._source, item, None)
            values, flaw = self._values(item)
            if flaw is not None:
                self._problems.record(location(path, row, "row"), flaw)
                continue
            for column, value in zip(columns, values, strict=True):
                column.append(value)
            numbers.append(row)
        documents = [self._documents(column) for column in columns]
        locations = Locations(path, np.array(numbers, dtype=np.int64), "row")
        from_text = any(isinstance(value, str) for value in columns[0])
        prompts = None if self._fields.prompt is None else documents[-1]
        # Offsets in what was decompressed, as a share of the file.
        end = self._source.size * int(offsets[last]) // max(int(offsets[-1]), 1)
        return Chunk(documents[0], prompts, locations, {"item": last}, end, from_text)

    def _values(self, item: Bytes) -> tuple[list[Any], str | None]:
        """The wanted values of an item, or its flaw."""
        varying = sum(leaf.parts for leaf in self._leaves if leaf.size is None)
        start = 4 * varying
        if len(item) < start:
            return [], "the item is shorter than the sizes it begins with"
        sizes = iter(np.frombuffer(item[:start].tobytes(), "<u4").tolist())
        spans = []
        for leaf in self._leaves:
            size = sum(islice(sizes, leaf.parts)) if leaf.size is None else leaf.size
            spans.append((start, start + size))
            start += size
        if start != len(item):
            return [], f"its fields add up to {start} bytes, but the item has {len(item)}"
        values = []
        room = self._fields.room
        for column, decode in zip(self._columns, self._decoders, strict=True):
            begin, end = spans[column]
            what = f"field {self._leaves[column].name!r}"
            if room is not None and (flaw := room.flaw_of_text(end - begin, what)) is not None:
                return [], flaw
            value, flaw = decode(item[begin:end])
            if flaw is not None:
                return [], f"field {self._leaves[column].name!r}: {flaw}"
            values.append(value)
        return values, None

    def _documents(self, values: list[Any]) -> Documents:
        column = ValueColumn(self._fields.encoder, room=self._fields.room)
        for value in values:
            column.add(value)
        return column.documents()


def _text(data: Bytes) -> tuple[str | None, str | None]:
    try:
        text = data.tobytes().decode()
    except UnicodeDecodeError as error:
        return None, flaw_of_bytes(error)
    return text, flaw_of_text(text)


def json_above(name: str, leaves: Sequence[Leaf]) -> str | None:
    """The column of JSON that a dotted path leads into, the one with the longest name."""
    names = [leaf.name for leaf in leaves if leaf.decode == "json"]
    return max((one for one in names if name.startswith(f"{one}.")), key=len, default=None)


def _from_json(
    column: str, name: str, encoder: Encoder | None, data: Bytes
) -> tuple[npt.NDArray[Any] | str | None, str | None]:
    try:
        value = json.loads(data.tobytes())
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {line_of(error, 200)}"
    if name != column:
        found, value = value_of({column: value}, name)
        if not found:
            return None, f"there is no {name.removeprefix(column + '.')!r} in it"
    item, flaw = read_value(value, name, encoder)
    # The name is in front of every flaw.
    return item, None if flaw is None else flaw.replace(f"field {name!r} ", "it ", 1)


def plain_ids(dtype: np.dtype[Any]) -> Decoder:
    """Decodes bytes that hold nothing but ids."""

    def decode(data: Bytes) -> tuple[npt.NDArray[Any] | None, str | None]:
        if len(data) % dtype.itemsize:
            return None, f"{len(data)} bytes are not a whole number of {dtype.name} ids"
        return np.frombuffer(data.tobytes(), dtype), None

    return decode
