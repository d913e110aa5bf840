"""litdata's chunks, ``chunk-R-I[.zstd].bin``, listed by an index.json.

A chunk is a count, the places of the items and the items. Of a chunk made for its TokensLoader the
items are bare ids, which are mapped as they lie. Else an item begins with the sizes of its leaves;
rows of plain values lie as an Arrow file at the end of the chunk instead. Items may be packed one
by one, by frames of many, or the whole chunk at once.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, InputOptionError, Problems, Reader
from radscore.corpus.formats.columns import ArrowReader
from radscore.corpus.formats.items import (
    Bytes,
    ItemReader,
    Leaf,
    Shard,
    held_shard,
    mapped_shard,
    plain_ids,
    read_offsets,
    unpacked,
)
from radscore.corpus.formats.tokens import TokenLayout, TokenReader, map_ids
from radscore.corpus.records import Fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.corpus.sources import Source

__all__ = ["litdata_counts", "litdata_is_bare", "litdata_names", "litdata_reader"]

_ANY = np.dtype(np.uint8)
_ROWS_MAGIC = b"LDARW01\0"
_FRAMES_MAGIC = b"LDFZ01\0\0"
_FRAMES = struct.Struct("<8sHHIII")
_FRAME = struct.Struct("<IIQII")
# Of the library's lists of dtypes, which only grow at their ends, those of integers.
_OF_TORCH: dict[int, np.dtype[Any]] = {
    11: np.dtype("u1"),
    12: np.dtype("i1"),
    13: np.dtype("<i2"),
    14: np.dtype("<i2"),
    15: np.dtype("<i4"),
    16: np.dtype("<i4"),
    17: np.dtype("<i8"),
    18: np.dtype("<i8"),
    20: np.dtype("<u2"),
}
_OF_NUMPY: dict[int, np.dtype[Any]] = {
    0: np.dtype("i1"),
    1: np.dtype("<i2"),
    2: np.dtype("<i4"),
    3: np.dtype("<i8"),
    4: np.dtype("u1"),
    5: np.dtype("<u2"),
    6: np.dtype("<u4"),
    7: np.dtype("<u8"),
}
#: The name of the only leaf of items that are no records.
_ONLY = "item"


def litdata_names(source: Source) -> list[str] | None:
    """The names of an item's leaves; None where an item is one value."""
    _, config = _entry(source)
    try:
        spec = json.loads(config["data_spec"])[1]
        children = spec["children_spec"]
        if any(child["children_spec"] for child in children):
            raise InputOptionError(f"{source.sides[0]}: items in items are not read")
        if not children and spec["type"] is None:
            return None
        if str(spec["type"]).rpartition(".")[2] in ("dict", "OrderedDict", "defaultdict"):
            names = [str(name) for name in json.loads(spec["context"])]
            if len(names) == len(children):
                return names
        return [str(number) for number in range(len(children))]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, InputOptionError):
            raise
        raise DamagedFileError(
            f"{source.sides[0]}: its data_spec does not say what an item holds"
        ) from None


def litdata_counts(source: Source) -> tuple[int | None, int | None]:
    """Tokens and items of a chunk, where the index says them."""
    chunk, _ = _entry(source)
    dim, size = chunk.get("dim"), chunk.get("chunk_size")
    return dim if isinstance(dim, int) else None, size if isinstance(size, int) else None


def litdata_reader(
    source: Source, eod: int | None, batch_tokens: int, fields: Fields | None, problems: Problems
) -> Reader:
    """Reads one chunk.

    Raises
    ------
    CorpusError
        If the chunk is damaged, does not fit its index, or holds neither ids nor text.
    """
    names = litdata_names(source)
    leaves = _leaves(source, [_ONLY] if names is None else names)
    tail = b""
    if source.codec is None and source.size > 20:
        tail = map_ids(source.path, _ANY, source.size - 12, 12).tobytes()
    if tail.endswith(_ROWS_MAGIC):
        if names is None or fields is None:
            raise DamagedFileError(f"{source.path}: rows of which the index names no fields")
        return _RowsReader(source, fields, problems, int.from_bytes(tail[:4], "little"))
    shard = _shard(source)
    if litdata_is_bare(source):
        return _bare_reader(source, shard, leaves[0], eod, batch_tokens)
    wanted = fields if names is not None else Fields(_ONLY, None, None, batch_tokens)
    if wanted is None:
        raise DamagedFileError(f"{source.path}: other items than in the files before")
    return ItemReader(source, shard, leaves, wanted, problems)


def _entry(source: Source) -> tuple[dict[str, Any], dict[str, Any]]:
    if source.entry is None:
        raise InputOptionError(
            f"{source.path}: format 'litdata' needs the index.json that lists this chunk beside it"
        )
    chunk, config = source.entry
    return chunk, config


def litdata_is_bare(source: Source) -> bool:
    """Whether the items are ids and nothing else, not even their size."""
    chunk, config = _entry(source)
    if "item_loader" in config:
        return bool(config["item_loader"] == "TokensLoader")
    return chunk.get("dim") is not None  # what other loaders leave empty


def _leaves(source: Source, names: list[str]) -> tuple[Leaf, ...]:
    formats = _entry(source)[1].get("data_format")
    if not isinstance(formats, list) or len(formats) != len(names):
        raise DamagedFileError(f"{source.sides[0]}: its data_format does not fit its data_spec")
    pairs = zip(names, formats, strict=True)
    return tuple(Leaf(name, None, _decoder(str(kind)), str(kind)) for name, kind in pairs)


def _decoder(kind: str) -> Any:
    name, _, code = kind.partition(":")
    if name == "str":
        return "text"
    if name == "tensor":
        return _with_shape(">", _OF_TORCH)
    if name == "numpy":
        return _with_shape("<", _OF_NUMPY)
    tables = {"no_header_tensor": _OF_TORCH, "no_header_numpy": _OF_NUMPY}
    dtype = tables.get(name, {}).get(int(code) if code.isdigit() else -1)
    return None if dtype is None else plain_ids(dtype)


def _with_shape(
    order: str, dtypes: dict[int, np.dtype[Any]]
) -> Callable[[Bytes], tuple[npt.NDArray[Any] | None, str | None]]:
    """Reads arrays of several dimensions, of which one may be larger than 1."""

    def decode(data: Bytes) -> tuple[npt.NDArray[Any] | None, str | None]:
        words = np.frombuffer(data[: len(data) // 4 * 4].tobytes(), f"{order}u4")
        if len(words) < 2 or len(words) < 2 + int(words[1]):
            return None, "an array that is cut inside of its header"
        dtype, rank = dtypes.get(int(words[0])), int(words[1])
        shape = words[2 : 2 + rank].tolist()
        values = data[8 + 4 * rank :].tobytes()
        if dtype is None:
            return None, "an array of no integers"
        if math.prod(shape) != max(shape, default=1):
            return None, f"an array of shape {shape}; token ids have one dimension"
        if math.prod(shape) * dtype.itemsize != len(values):
            return None, f"an array of shape {shape} in {len(values)} bytes"
        return np.frombuffer(values, dtype).astype(np.int64), None

    return decode


def _shard(source: Source) -> Shard:
    """The items of a chunk, however they are packed."""
    path, (chunk, config) = source.path, _entry(source)
    size = chunk.get("chunk_bytes")
    if not isinstance(size, int) or size < 0:
        raise DamagedFileError(f"{source.sides[0]}: says {size!r} bytes of {path.name}")
    if source.codec is not None:
        data = unpacked(source, map_ids(path, _ANY, 0, source.size), size)
        shard = held_shard(data, read_offsets(path, data, len(data), 0))
    else:
        if source.size != size:
            raise DamagedFileError(
                f"{path}: has {source.size} bytes, but {source.sides[0].name} says {size}: is it "
                "cut?"
            )
        head = map_ids(path, _ANY, 0, min(_FRAMES.size, size))
        if head[:8].tobytes() == _FRAMES_MAGIC:
            shard = _framed(source, head.tobytes())
        else:
            count = int.from_bytes(head[:4].tobytes(), "little")
            data = map_ids(path, _ANY, 0, min(8 + 4 * count, size))
            shard = mapped_shard(path, read_offsets(path, data, size, 0))
            if config.get("compression_level") == "sample" and config.get("compression"):
                shard = Shard(shard.offsets, shard.read, packed=True)
    count = len(shard.offsets) - 1
    if chunk.get("chunk_size") != count:
        raise DamagedFileError(
            f"{path}: has {count} items, but {source.sides[0].name} says "
            f"{chunk.get('chunk_size')!r}"
        )
    return shard


@dataclass(frozen=True)
class _Frame:
    """Items that are packed together."""

    first: int
    last: int
    begin: int
    packed: int
    size: int


def _framed(source: Source, head: bytes) -> Shard:
    path = source.path
    if len(head) < _FRAMES.size:
        raise DamagedFileError(f"{path}: cut inside of its header")
    _, version, _, count, _, n_frames = _FRAMES.unpack(head)
    start = _FRAMES.size + 4 * (count + 1)
    end = start + _FRAME.size * n_frames
    if version != 1 or end > source.size:
        raise DamagedFileError(
            f"{path}: frames of version {version}, {count} items in {n_frames}; only version 1 is "
            "read, or the file is cut"
        )
    data = map_ids(path, _ANY, 0, end).tobytes()
    offsets = np.frombuffer(data[_FRAMES.size : start], "<u4").astype(np.int64)
    frames: list[_Frame] = []
    item = 0
    for place in range(start, end, _FRAME.size):
        first, items, begin, packed, size = _FRAME.unpack_from(data, place)
        fits = first == item and items > 0 and first + items <= count
        if not fits or begin < end or begin + packed > source.size:
            raise DamagedFileError(f"{path}: its table of frames is damaged at frame {len(frames)}")
        frames.append(_Frame(first, first + items, begin, packed, size))
        item = first + items
    sizes = [int(offsets[frame.last] - offsets[frame.first]) for frame in frames]
    if item != count or offsets[0] != 0 or [frame.size for frame in frames] != sizes:
        raise DamagedFileError(f"{path}: its table of frames does not fit its {count} items")
    if (np.diff(offsets) < 0).any():
        raise DamagedFileError(f"{path}: the places of its items decrease")

    def read(first: int, last: int) -> Bytes:
        inside = [frame for frame in frames if frame.last > first and frame.first < last]
        parts = [
            unpacked(source, map_ids(path, _ANY, frame.begin, frame.packed), frame.size)
            for frame in inside
        ]
        data = np.concatenate(parts) if parts else np.empty(0, np.uint8)
        begin = int(offsets[inside[0].first]) if inside else 0
        return data[offsets[first] - begin : offsets[last] - begin]

    return Shard(offsets, read)


class _Places:
    """The items as documents of a file of ids."""

    def __init__(self, offsets: npt.NDArray[np.int64], size: int) -> None:
        self._ends: npt.NDArray[np.int64] = (offsets[1:] - offsets[0]) // size
        self.n_documents = len(self._ends)

    def ends(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Ends, in tokens, of the documents from `first`, at most `count` of them."""
        return self._ends[first : first + count]


def _bare_reader(
    source: Source, shard: Shard, leaf: Leaf, eod: int | None, batch_tokens: int
) -> Reader:
    tables = {"no_header_tensor": _OF_TORCH, "no_header_numpy": _OF_NUMPY}
    name, _, code = leaf.encoding.partition(":")
    dtype = tables.get(name, {}).get(int(code) if code.isdigit() else -1)
    if dtype is None:
        raise DamagedFileError(f"{source.path}: its items are {leaf.encoding!r}, not token ids")
    offsets = shard.offsets
    wrong = np.flatnonzero((offsets - offsets[0]) % dtype.itemsize)
    if len(wrong):
        raise DamagedFileError(
            f"{source.path}: item {int(wrong[0]) - 1} is no whole number of {dtype.name} ids"
        )
    total = int(offsets[-1] - offsets[0]) // dtype.itemsize
    places = _Places(offsets, dtype.itemsize)
    layout = TokenLayout(source.path, dtype, int(offsets[0]), total, ends=places, index=source.path)
    held = None if source.codec is None else (shard.read(0, len(offsets) - 1), source.size)
    return TokenReader(layout, eod, batch_tokens, held)


class _RowsReader(ArrowReader):
    """Reads the Arrow file at the end of a chunk."""

    def __init__(self, source: Source, fields: Fields, problems: Problems, size: int) -> None:
        super().__init__(source, fields, problems)
        self._size = size
        if not 0 < size <= source.size - 12:
            raise DamagedFileError(f"{source.path}: its rows should have {size} bytes: is it cut?")

    def _bytes(self) -> tuple[int, int]:
        return self._source.size - 12 - self._size, self._size
