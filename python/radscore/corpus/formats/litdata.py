"""litdata's chunks, ``chunk-R-I[.zstd].bin``, listed by an index.json.

A chunk is a count, the offsets of the items and the items. In a chunk made for litdata's
TokensLoader the items are bare ids, which are mapped. Otherwise an item begins with the sizes of
its leaves; rows of plain values lie as an Arrow file at the end of the chunk instead. Items may be
compressed one by one, in frames of many, or as a whole chunk.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, InputOptionError, Problems, Reader
from radscore.corpus.dtypes import SAMPLE
from radscore.corpus.format import Known, Preview, Scale, Source
from radscore.corpus.formats.arrow import ArrowReader
from radscore.corpus.readers.ids import EndsInMemory, TokenLayout, TokenReader, read_ids, sampled
from radscore.corpus.readers.items import (
    Bytes,
    Decoder,
    ItemFormat,
    ItemReader,
    Leaf,
    Shard,
    beginning,
    check_room,
    decompressed,
    held_shard,
    plain_ids,
    plain_shard,
    read_offsets,
    sampled_items,
)
from radscore.corpus.readers.listing import listed_file
from radscore.corpus.records import Fields
from radscore.errors import CorpusError, shown

if TYPE_CHECKING:
    from pathlib import Path

    from radscore.corpus.format import Codec, Options

__all__ = ["FORMAT"]

_BYTE = np.dtype(np.uint8)
#: What the library calls text.
_TEXT = frozenset({"str", "text"})
_ROWS_MAGIC = b"LDARW01\0"
_FRAMES_MAGIC = b"LDFZ01\0\0"
#: As numpy has them.
_MOST_DIMENSIONS = 64
_FRAMES = struct.Struct("<8sHHIII")
_FRAME = struct.Struct("<IIQII")
# The integers in the library's lists of dtypes, which only grow at their ends.
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
#: The name of the only value of items that are not records, and what it is if it may be text.
_ALONE = "(item)"
_ONLY = {"str": "text", "json": "text", "bytes": "tokens"}


class Litdata(ItemFormat):
    """Chunks of bare ids, or of records; only the index says which."""

    name = "litdata"
    title = "litdata"
    files = "`chunk-*.bin`, listed by `index.json`"
    content = (
        "bare ids, tensors, arrays, lists of integers, text or rows, or `bytes` with `--dtype`; "
        "compressed in any of litdata's ways"
    )
    documents = "one per item"

    suffixes = (".bin",)
    suffix_suffices = False
    codecs = ("zstd",)
    items = "the items of chunks"

    def recognises(self, path: Path, head: bytes) -> bool:  # noqa: ARG002 - ids may be anything
        """By the index."""
        return self.listed_source(path) is not None

    def needs_index(self, names: set[str]) -> bool:
        """Whether there are chunks."""
        return any(name.startswith("chunk-") and name.endswith(".bin") for name in names)

    def listed(self, index: Path, content: dict[str, Any]) -> list[Source] | None:
        """The chunks."""
        chunks, config = content.get("chunks"), content.get("config")
        if not isinstance(chunks, list) or not isinstance(config, dict):
            return None
        if config.get("item_loader") == "ParquetLoader":
            return None  # the chunks are Parquet files, and are read as such
        return [_source(index, chunk, config) for chunk in chunks]

    def has_fields(self, source: Source) -> bool:
        """Whether an item has several leaves, or may be text."""
        return _has_fields(source)

    def preview(self, source: Source) -> Preview:
        """The names of an item's leaves."""
        return Preview([leaf.name for leaf in _leaves(source)], str(source.path))

    def known(self, source: Source, options: Options) -> Known:  # noqa: ARG002 - the index tells
        """What the index says."""
        return _counts(source)

    def scale(self, source: Source, options: Options) -> Scale | None:  # noqa: ARG002
        """Items; none of a compressed chunk."""
        items = _counts(source).n_documents
        if items is None or source.codec is not None:
            return None
        return Scale("document" if _is_bare(source) else "item", items)

    def sample(self, source: Source, options: Options) -> list[npt.NDArray[Any]]:
        """Some items; the first of a chunk that is compressed as a whole."""
        leaves = _leaves(source)
        if source.codec is not None:
            found = beginning(source)
            shard = None if found is None else held_shard(*found)
        elif _rows_size(source) is not None:
            return []
        elif _is_bare(source) and (dtype := _headerless_dtype(leaves[0].encoding)) is not None:
            return sampled(_layout(source, _shard(source), dtype))
        else:
            shard = _shard(source)
        if shard is None:
            return []
        if _is_bare(source) and (dtype := _headerless_dtype(leaves[0].encoding)) is not None:
            data = shard.read(0, len(shard.offsets) - 1).tobytes()
            return [np.frombuffer(data[: len(data) // 8 * 8], dtype)[: SAMPLE // 3]]
        return sampled_items(source, shard, leaves, options)

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads the header, and all of a chunk that is compressed as a whole."""
        fields, leaves, has_fields = options.fields, _leaves(source), _has_fields(source)
        rows = _rows_size(source)
        if rows is not None:
            if not has_fields or fields is None:
                raise DamagedFileError(f"{source.path}: holds rows, but the index names no fields")
            return _RowsReader(source, fields, problems, rows)
        check_room(source, _entry(source)[0].get("chunk_bytes"), options)
        shard = _shard(source)
        if _is_bare(source):
            return _bare_reader(source, shard, leaves[0], options)
        wanted = fields if has_fields else Fields(_ALONE, None, None, options.batch_tokens)
        if wanted is None:
            raise DamagedFileError(f"{source.path}: holds other items than the files before it")
        return ItemReader(source, shard, leaves, wanted, problems, options.dtype)


FORMAT = Litdata()


def _source(index: Path, chunk: Any, config: dict[str, Any]) -> Source:
    """The chunk that an entry of the index lists."""
    if not isinstance(chunk, dict):
        raise CorpusError(f"{index}: damaged index: a chunk is {shown(chunk)}")
    if config.get("encryption"):
        raise InputOptionError(f"{index}: the chunks are encrypted; write them without encryption")
    path = listed_file(index, chunk.get("filename"))
    whole = config.get("compression_level") in (None, "", "chunk") and config.get("compression")
    name = str(config.get("compression")).partition(":")[0]
    # Rows of plain values are compressed inside the file, so its name decides.
    codec: Codec | None = "zstd" if whole and f".{name}" in path.suffixes[:-1] else None
    if codec is not None and name != "zstd":
        raise CorpusError(f"{index}: unknown compression {shown(name)}")
    return Source.of_file(path, FORMAT, codec, sides=(index,), entry=(chunk, config))


def _leaves(source: Source) -> tuple[Leaf, ...]:
    """What an item holds; one leaf if it is a single value, or a list of integers."""
    config = _entry(source)[1]
    index = source.sides[0]
    try:
        spec = json.loads(config["data_spec"])[1]
        children = spec["children_spec"]
        context = str(spec["type"]).rpartition(".")[2]
        counts = [_count(child, index) for child in children]
        formats = config.get("data_format")
        if not isinstance(formats, list) or len(formats) != (sum(counts) if spec["type"] else 1):
            raise DamagedFileError(f"{index}: its data_format does not fit its data_spec")
        if spec["type"] is None:
            decode = _decoder(str(formats[0]))
            name = _ONLY.get(decode, _ALONE) if isinstance(decode, str) else _ALONE
            return (Leaf(name, None, decode, str(formats[0])),)
        names = [str(number) for number in range(len(children))]
        if context in ("dict", "OrderedDict", "defaultdict"):
            told = [str(name) for name in json.loads(spec["context"])]
            names = told if len(told) == len(names) else names
        elif context in ("list", "tuple") and set(formats) == {"int"} and set(counts) == {1}:
            return (Leaf(_ALONE, None, plain_ids(np.dtype("<i8")), "int", len(formats)),)
    except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, CorpusError):
            raise
        raise DamagedFileError(f"{index}: its data_spec does not say what an item holds") from None
    leaves, at = [], 0
    for name, child, count in zip(names, children, counts, strict=True):
        kinds = [str(kind) for kind in formats[at : at + count]]
        at += count
        if child["type"] is None:
            leaves.append(Leaf(name, None, _decoder(kinds[0]), kinds[0]))
        elif set(kinds) <= {"int"}:
            leaves.append(Leaf(name, None, plain_ids(np.dtype("<i8")), "int", count))
        else:
            raise InputOptionError(f"{index}: nested items are not supported")
    return tuple(leaves)


def _count(spec: dict[str, Any], index: Path) -> int:
    """How many values a leaf, or a list of leaves, has."""
    children = spec["children_spec"]
    if any(child["type"] is not None for child in children):
        raise InputOptionError(f"{index}: nested items are not supported")
    return 1 if spec["type"] is None else len(children)


def _has_fields(source: Source) -> bool:
    leaves = _leaves(source)
    return len(leaves) != 1 or leaves[0].name != _ALONE


def _counts(source: Source) -> Known:
    """Tokens and items of a chunk, if the index says them; both are checked when it is read."""
    chunk, _ = _entry(source)
    dim, size = (
        value if type(value) is int and 0 <= value < 2**62 else None
        for value in (chunk.get("dim"), chunk.get("chunk_size"))
    )
    return Known(dim if _is_bare(source) else None, size)


def _entry(source: Source) -> tuple[dict[str, Any], dict[str, Any]]:
    if source.entry is None:
        raise InputOptionError(
            f"{source.path}: format 'litdata' needs the index.json that lists this chunk beside it"
        )
    chunk, config = source.entry
    return chunk, config


def _is_bare(source: Source) -> bool:
    """Whether an item is ids and nothing else, not even its size."""
    chunk, config = _entry(source)
    if "item_loader" in config:
        return bool(config["item_loader"] == "TokensLoader")
    return chunk.get("dim") is not None  # other loaders leave it empty


def _decoder(kind: str) -> Any:
    """What decodes the values of a leaf; None if they are neither ids nor text."""
    name = kind.partition(":")[0]
    if name in _TEXT:
        return "str"
    if name in ("bytes", "json"):
        return name
    if name == "tensor":
        return _with_shape(">", _OF_TORCH)
    if name == "numpy":
        return _with_shape("<", _OF_NUMPY)
    dtype = _headerless_dtype(kind)
    return None if dtype is None else plain_ids(dtype)


def _headerless_dtype(kind: str) -> np.dtype[Any] | None:
    """The dtype of values that are stored as their bytes alone."""
    name, _, code = kind.partition(":")
    tables = {"no_header_tensor": _OF_TORCH, "no_header_numpy": _OF_NUMPY}
    return tables.get(name, {}).get(int(code) if code.isdecimal() and len(code) < 9 else -1)


def _with_shape(order: str, dtypes: dict[int, np.dtype[Any]]) -> Decoder:
    """Decodes arrays of any rank, of which one dimension may be larger than 1."""

    def decode(data: Bytes) -> tuple[npt.NDArray[Any] | None, str | None]:
        words = np.frombuffer(data[: len(data) // 4 * 4].tobytes(), f"{order}u4")
        if len(words) < 2 or len(words) < 2 + int(words[1]):
            return None, "an array that is cut off inside its header"
        dtype, rank = dtypes.get(int(words[0])), int(words[1])
        if rank > _MOST_DIMENSIONS:  # whose product would take forever
            return None, f"an array of {rank} dimensions; token ids have one"
        shape = words[2 : 2 + rank].tolist()
        values = data[8 + 4 * rank :].tobytes()
        if dtype is None:
            return None, "not an array of integers"
        if math.prod(shape) != max(shape, default=1):
            return None, f"an array of shape {shape}; token ids have one dimension"
        if math.prod(shape) * dtype.itemsize != len(values):
            return None, f"an array of shape {shape} in {len(values)} bytes"
        return np.frombuffer(values, dtype).astype(np.int64), None

    return decode


def _shard(source: Source) -> Shard:
    """The items of a chunk, however they are compressed."""
    path, (chunk, config) = source.path, _entry(source)
    size = chunk.get("chunk_bytes")
    items = chunk.get("chunk_size")
    if type(size) is not int or not 0 <= size < 2**32:  # offsets have 32 bits
        raise DamagedFileError(f"{source.sides[0]}: says {shown(size)} bytes of {path.name}")
    if type(items) is int and 8 + 4 * items == source.size - size:
        size = source.size  # until 2024 the library left out the header
    if source.codec is not None:
        data = decompressed(source, None, size)
        shard = held_shard(data, read_offsets(path, data, len(data), 0))
    else:
        if source.size != size:
            raise DamagedFileError(
                f"{path}: has {source.size} bytes, but {source.sides[0].name} says {size}; is it "
                "cut off?"
            )
        head = read_ids(path, _BYTE, 0, min(_FRAMES.size, size))
        if head[:8].tobytes() == _FRAMES_MAGIC:
            shard = _framed(source, head.tobytes())
        else:
            count = int.from_bytes(head[:4].tobytes(), "little")
            data = read_ids(path, _BYTE, 0, min(8 + 4 * count, size))
            shard = plain_shard(path, read_offsets(path, data, size, 0))
            if config.get("compression_level") == "sample" and config.get("compression"):
                shard = Shard(shard.offsets, shard.read, compressed=True)
    count = len(shard.offsets) - 1
    if items != count:
        _refuse_count(source, count, items)
    return shard


def _refuse_count(source: Source, count: int, said: Any) -> NoReturn:
    raise DamagedFileError(
        f"{source.path}: has {count} items, but {source.sides[0].name} says {shown(said)}"
    )


@dataclass(frozen=True)
class _Frame:
    """Items `first` to `last`, compressed together: `packed` bytes from `begin`, to `size`."""

    first: int
    last: int
    begin: int
    packed: int
    size: int


def _framed(source: Source, head: bytes) -> Shard:
    """Items in frames; reading some decompresses only their frames."""
    path = source.path
    if len(head) < _FRAMES.size:
        raise DamagedFileError(f"{path}: cut off inside its header")
    _, version, _, count, _, n_frames = _FRAMES.unpack(head)
    start = _FRAMES.size + 4 * (count + 1)
    end = start + _FRAME.size * n_frames
    if version != 1 or end > source.size:
        raise DamagedFileError(
            f"{path}: frames of version {version}, {count} items in {n_frames}: the file is cut "
            "off, or not of version 1"
        )
    data = read_ids(path, _BYTE, 0, end).tobytes()
    offsets = np.frombuffer(data[_FRAMES.size : start], "<u4").astype(np.int64)
    frames: list[_Frame] = []
    item = 0
    for entry in range(start, end, _FRAME.size):
        first, items, begin, packed, size = _FRAME.unpack_from(data, entry)
        fits = first == item and items > 0 and first + items <= count
        if not fits or begin < end or begin + packed > source.size:
            raise DamagedFileError(f"{path}: its table of frames is damaged at frame {len(frames)}")
        frames.append(_Frame(first, first + items, begin, packed, size))
        item = first + items
    sizes = [int(offsets[frame.last] - offsets[frame.first]) for frame in frames]
    if item != count or offsets[0] != 0 or [frame.size for frame in frames] != sizes:
        raise DamagedFileError(f"{path}: its table of frames does not fit its {count} items")
    if (np.diff(offsets) < 0).any():
        raise DamagedFileError(f"{path}: the offsets of its items decrease")

    def read(first: int, last: int) -> Bytes:
        inside = [frame for frame in frames if frame.last > first and frame.first < last]
        blocks = [
            decompressed(source, read_ids(path, _BYTE, frame.begin, frame.packed), frame.size)
            for frame in inside
        ]
        data = np.concatenate(blocks) if blocks else np.empty(0, np.uint8)
        begin = int(offsets[inside[0].first]) if inside else 0
        return data[offsets[first] - begin : offsets[last] - begin]

    return Shard(offsets, read)


def _rows_size(source: Source) -> int | None:
    """Bytes of the Arrow file at the end of a chunk; None if there is none."""
    if source.codec is not None or source.size <= 20:
        return None
    tail = read_ids(source.path, _BYTE, source.size - 12, 12).tobytes()
    return int.from_bytes(tail[:4], "little") if tail.endswith(_ROWS_MAGIC) else None


def _bare_reader(source: Source, shard: Shard, leaf: Leaf, options: Options) -> Reader:
    """Reads the items as documents of a file of ids."""
    dtype = _headerless_dtype(leaf.encoding)
    if dtype is None:
        raise DamagedFileError(f"{source.path}: its items are {leaf.encoding!r}, not token ids")
    layout = _layout(source, shard, dtype)
    held = None if source.codec is None else (shard.read(0, len(shard.offsets) - 1), source.size)
    return TokenReader(layout, options.eod, options.batch_tokens, held)


def _layout(source: Source, shard: Shard, dtype: np.dtype[Any]) -> TokenLayout:
    """Where the ids of a chunk of bare ids lie."""
    offsets = shard.offsets
    wrong = np.flatnonzero((offsets - offsets[0]) % dtype.itemsize)
    if len(wrong):
        raise DamagedFileError(
            f"{source.path}: item {int(wrong[0]) - 1} is not a whole number of {dtype.name} ids"
        )
    total = int(offsets[-1] - offsets[0]) // dtype.itemsize
    dim = _counts(source).n_tokens
    if dim not in (None, total):
        raise DamagedFileError(
            f"{source.path}: holds {total} ids, but {source.sides[0].name} says {dim}"
        )
    ends = EndsInMemory((offsets[1:] - offsets[0]) // dtype.itemsize)
    return TokenLayout(source.path, dtype, int(offsets[0]), total, ends=ends, index=source.path)


class _RowsReader(ArrowReader):
    """Reads the Arrow file at the end of a chunk."""

    def __init__(self, source: Source, fields: Fields, problems: Problems, size: int) -> None:
        super().__init__(source, fields, problems)
        self._size = size
        if not 0 < size <= source.size - 12:
            raise DamagedFileError(
                f"{source.path}: its rows should have {size} bytes; is it cut off?"
            )
        said = _entry(source)[0].get("chunk_size")
        count = sum(rows for _, rows in self._batch_sizes() or ())
        if said != count:
            _refuse_count(source, count, said)

    def _bytes(self) -> tuple[int, int]:
        return self._source.size - 12 - self._size, self._size
