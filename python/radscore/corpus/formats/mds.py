"""MosaicML's streaming shards, `.mds`: self-describing, also packed, listed by an index.json.

A shard is a count, the places of the samples, its configuration as JSON, and the samples: the
sizes of the columns that have no fixed one, then the columns in the order of their names. Only the
wanted columns are looked at; a pickled one is never loaded.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, InputOptionError, Problems, damage_named
from radscore.corpus.formats.items import (
    Bytes,
    ItemReader,
    Leaf,
    held_shard,
    mapped_shard,
    plain_ids,
    read_offsets,
    unpacked,
)
from radscore.corpus.formats.tokens import BIN_DTYPES, map_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.corpus.formats.items import Shard
    from radscore.corpus.records import Fields
    from radscore.corpus.sources import Source

__all__ = ["mds_names", "mds_reader", "mds_samples"]

_ANY = np.dtype(np.uint8)
#: The codes that arrays of no fixed dtype begin with; those of floats are left out.
_CODES: dict[int, np.dtype[Any]] = {
    8: np.dtype("u1"),
    9: np.dtype("i1"),
    16: np.dtype("<u2"),
    17: np.dtype("<i2"),
    32: np.dtype("<u4"),
    33: np.dtype("<i4"),
    64: np.dtype("<u8"),
    65: np.dtype("<i8"),
}
_NAMES = {kind.name: kind for kind in _CODES.values()}
_MOST_CONFIGURATION = 1 << 22


def mds_names(source: Source) -> list[str]:
    """The names of a shard's columns."""
    return [leaf.name for leaf in _open(source, None)[1]]


def mds_samples(source: Source) -> int | None:
    """How many samples the index says that a shard has."""
    samples = source.entry.get("samples") if isinstance(source.entry, dict) else None
    return samples if isinstance(samples, int) else None


def mds_reader(
    source: Source, dtype: np.dtype[Any] | None, fields: Fields, problems: Problems
) -> ItemReader:
    """Reads one shard.

    Raises
    ------
    CorpusError
        If the shard is damaged, does not fit its index, or holds neither ids nor text.
    """
    shard, leaves = _open(source, dtype)
    for leaf in leaves:
        if leaf.name in fields.names and leaf.encoding == "bytes" and dtype is None:
            raise InputOptionError(
                f"{source.path}: field {leaf.name!r} is stored as bytes, so nothing tells the "
                f"dtype of its ids; give it with dtype= ({', '.join(BIN_DTYPES)})"
            )
    return ItemReader(source, shard, leaves, fields, problems)


def _open(source: Source, dtype: np.dtype[Any] | None) -> tuple[Shard, tuple[Leaf, ...]]:
    path = source.path
    size = source.size
    raw = source.entry["raw_data"].get("bytes") if isinstance(source.entry, dict) else None
    if raw is not None and not (isinstance(raw, int) and 0 <= raw < 2**32):
        raise DamagedFileError(f"{source.sides[0]}: says {raw!r} bytes of {path.name}")
    data: Bytes | None = None
    if source.codec is not None:
        data = unpacked(source, map_ids(path, _ANY, 0, size), raw)
        size = len(data)
    elif raw is not None and raw != size:
        raise DamagedFileError(
            f"{path}: has {size} bytes, but {source.sides[0].name} says {raw}: is it cut?"
        )
    head = _part(source, data, 0, min(8, size))
    count = int.from_bytes(head[:4].tobytes(), "little")
    begin = 8 + 4 * count
    if len(head) < 8 or begin > size:
        raise DamagedFileError(f"{path}: says {count} samples, which {size} bytes cannot hold")
    end = int.from_bytes(head[4:8].tobytes(), "little")
    if not begin < end <= min(size, begin + _MOST_CONFIGURATION):
        raise DamagedFileError(f"{path}: no MDS shard: its first sample begins at byte {end}")
    leaves = _leaves(source, _part(source, data, begin, end), dtype)
    offsets = read_offsets(path, _part(source, data, 0, begin), size, end - begin)
    samples = mds_samples(source)
    if samples is not None and samples != count:
        raise DamagedFileError(
            f"{path}: has {count} samples, but {source.sides[0].name} says {samples}"
        )
    return (mapped_shard(path, offsets) if data is None else held_shard(data, offsets)), leaves


def _part(source: Source, data: Bytes | None, begin: int, end: int) -> Bytes:
    if data is not None:
        return data[begin:end]
    with damage_named(source.path):
        return map_ids(source.path, _ANY, begin, end - begin)


def _leaves(source: Source, text: Bytes, dtype: np.dtype[Any] | None) -> tuple[Leaf, ...]:
    try:
        found = json.loads(text.tobytes())
        names, encodings = found["column_names"], found["column_encodings"]
        sizes = found["column_sizes"]
        columns = list(zip(names, encodings, sizes, strict=True))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedFileError(f"{source.path}: its configuration is no JSON of columns") from None
    for name, encoding, size in columns:
        sized = size is None or (isinstance(size, int) and 0 <= size < 2**32)
        if not (isinstance(name, str) and isinstance(encoding, str) and sized):
            raise DamagedFileError(f"{source.path}: its configuration has a column {name!r}")
    return tuple(
        # The tools take a size of 0 for none, too.
        Leaf(name, size or None, _decoder(encoding, dtype), encoding)
        for name, encoding, size in columns
    )


def _decoder(encoding: str, dtype: np.dtype[Any] | None) -> Any:
    """How the values of a column are read; None where they are neither ids nor text."""
    if encoding == "str":
        return "text"
    if encoding == "bytes":
        return plain_ids(dtype or np.dtype(np.int64))
    parts = encoding.split(":")
    if parts[0] != "ndarray" or len(parts) > 3 or (len(parts) > 1 and parts[1] not in _NAMES):
        return None
    if len(parts) == 3:
        return plain_ids(_NAMES[parts[1]])
    return _array(_NAMES[parts[1]] if len(parts) == 2 else None)


def _array(
    fixed: np.dtype[Any] | None,
) -> Callable[[Bytes], tuple[npt.NDArray[Any] | None, str | None]]:
    """Reads arrays that begin with their shape, and with their dtype where none is `fixed`."""

    def decode(data: Bytes) -> tuple[npt.NDArray[Any] | None, str | None]:
        kind, rest = fixed, data
        if kind is None:
            kind = _CODES.get(int(data[0])) if len(data) else None
            rest = data[1:]
        if kind is None or len(rest) == 0:
            return None, "an array of no integers" if len(data) else "an array without a header"
        dimensions, width = int(rest[0]) >> 2, 1 << (int(rest[0]) & 3)
        end = 1 + dimensions * width
        shape = np.frombuffer(
            rest[1:end].tobytes()[: dimensions * width // width * width], f"<u{width}"
        )
        values = rest[end:].tobytes()
        if len(shape) != dimensions or math.prod(shape.tolist()) * kind.itemsize != len(values):
            return None, f"an array of shape {shape.tolist()} in {len(values)} bytes"
        if math.prod(shape.tolist()) != max(shape.tolist(), default=0):
            return None, f"an array of shape {shape.tolist()}; token ids have one dimension"
        ids = np.frombuffer(values, kind)
        # Arrays of several dtypes may lie in one column, so they get a common one.
        return (ids if fixed is not None else _common(ids)), None

    return decode


def _common(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if ids.dtype.itemsize == 8 and ids.dtype.kind == "u" and len(ids):
        ids = np.minimum(ids, np.uint64(2**63 - 1))
    return ids.astype(np.int64)
