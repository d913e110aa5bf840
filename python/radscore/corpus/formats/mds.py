"""MosaicML's streaming shards, `.mds`: self-describing, maybe compressed, listed by an index.json.

A shard is a count, the offsets of the samples, its configuration as JSON, and the samples: the
sizes of the columns without a fixed size, then the columns in the order of their names. Only the
wanted columns are decoded; a pickled column is never loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, Problems, reading
from radscore.corpus.format import Known, Preview, Source
from radscore.corpus.readers.ids import read_ids
from radscore.corpus.readers.items import (
    Bytes,
    Decoder,
    ItemFormat,
    ItemReader,
    Leaf,
    beginning,
    check_room,
    decompressed,
    held_shard,
    json_above,
    plain_ids,
    plain_shard,
    read_offsets,
    sampled_items,
)
from radscore.corpus.readers.listing import listed_file, path_in_folder
from radscore.errors import CorpusError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radscore.corpus.base import Reader
    from radscore.corpus.format import Codec, Options
    from radscore.corpus.readers.items import Shard

__all__ = ["FORMAT"]

_BYTE = np.dtype(np.uint8)
#: What an index calls the codecs.
_CODECS: dict[str, Codec] = {
    "zstd": "zstd",
    "gz": "gzip",
    "br": "brotli",
    "bz2": "bz2",
    "snappy": "snappy",
}
#: The dtype codes that arrays of no fixed dtype begin with; those of floats are left out.
_DTYPES: dict[int, np.dtype[Any]] = {
    8: np.dtype("u1"),
    9: np.dtype("i1"),
    16: np.dtype("<u2"),
    17: np.dtype("<i2"),
    32: np.dtype("<u4"),
    33: np.dtype("<i4"),
    64: np.dtype("<u8"),
    65: np.dtype("<i8"),
}
_BY_NAME = {kind.name: kind for kind in _DTYPES.values()}
_MAX_CONFIGURATION = 1 << 22


class MDS(ItemFormat):
    """Shards that describe themselves; the index adds sizes and codecs."""

    name = "mds"
    title = "MosaicML MDS"
    files = "`.mds`; also `.zstd`, `.gz`, `.br`, `.bz2`, `.snappy`"
    content = "a column of `ndarray`s, of text, of `json`, or of `bytes` with `--dtype`"
    documents = "one per sample"
    remarks = (
        "an `index.json` lists the shards, and its sizes and hashes are checked; pickled columns "
        "are not loaded"
    )

    suffixes = (".mds",)
    codecs = ("gzip", "zstd", "brotli", "bz2", "snappy")
    headerless = True
    items = "the samples of shards"
    position_key = "item"

    def needs_index(self, names: set[str]) -> bool:
        """Whether there are shards."""
        return any(".mds" in name for name in names)

    def listed(self, index: Path, content: dict[str, Any]) -> list[Source] | None:
        """The shards, compressed or not."""
        shards = content.get("shards")
        return [_source(index, shard) for shard in shards] if isinstance(shards, list) else None

    def preview(self, source: Source) -> Preview:
        """The names of the columns."""
        leaves = _open(source)[1]
        names = [leaf.name for leaf in leaves]
        inside = partial(json_above, leaves=leaves)
        return Preview(names, str(source.path), holds=lambda name: inside(name) is not None)

    def known(self, source: Source, options: Options) -> Known:  # noqa: ARG002 - the index tells
        """The number of samples."""
        return Known(None, _n_samples(source))

    def notes(self, sources: Sequence[Source], options: Options) -> tuple[str, ...]:  # noqa: ARG002
        """Hashes in the indexes that cannot be checked."""
        names = dict.fromkeys(name for source in sources for name in _hashes(source))
        unknown = [shown(name) for name in names if _hasher(name) is None]
        if not unknown:
            return ()
        more = "; install xxhash to check it" if any("xxh" in name for name in unknown) else ""
        return (f"hashes of the MDS index that are not checked: {', '.join(unknown)}{more}",)

    def sample(self, source: Source, options: Options) -> list[npt.NDArray[Any]]:
        """Some samples; the first of a compressed shard."""
        if source.codec is None:
            return sampled_items(source, *_open(source), options)
        if (found := beginning(source)) is None:
            return []
        data, offsets = found
        header = 8 + 4 * int.from_bytes(data[:4].tobytes(), "little")
        leaves = _leaves(source, data[header : int(offsets[0])])
        return sampled_items(source, held_shard(data, offsets), leaves, options)

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Checks the hashes, and reads the header, and all of a compressed shard."""
        assert options.fields is not None
        _check_hashes(source)
        check_room(source, _size(source, "raw_data"), options)
        shard, leaves = _open(source)
        return ItemReader(source, shard, leaves, options.fields, problems, options.dtype)


FORMAT = MDS()


def _source(index: Path, shard: Any) -> Source:
    """The shard that an entry of the index lists."""
    if not isinstance(shard, dict) or not isinstance(shard.get("raw_data"), dict):
        raise CorpusError(f"{index}: damaged index: a shard is {shown(shard)}")
    if shard.get("format") != "mds" or shard.get("version") != 2:
        raise CorpusError(
            f"{index}: a shard of format {shown(shard.get('format'))} and version "
            f"{shown(shard.get('version'))}; only mds of version 2 is supported"
        )
    name, packed = shard["raw_data"].get("basename"), shard.get("zip_data")
    if not path_in_folder(index, name).exists() and isinstance(packed, dict):
        path = path_in_folder(index, packed.get("basename"))
        codec = str(shard.get("compression")).partition(":")[0]
        if path.exists():
            if codec not in _CODECS:
                raise CorpusError(f"{index}: unknown compression {shown(codec)}")
            return Source.of_file(path, FORMAT, _CODECS[codec], sides=(index,), entry=shard)
    return Source.of_file(listed_file(index, name), FORMAT, sides=(index,), entry=shard)


def _entry(source: Source) -> dict[str, Any]:
    return source.entry if isinstance(source.entry, dict) else {}


def _n_samples(source: Source) -> int | None:
    """The number of samples that the index says a shard has."""
    samples = _entry(source).get("samples")
    return samples if type(samples) is int and 0 <= samples < 2**32 else None


def _size(source: Source, key: str) -> int | None:
    """The size of a shard that its index says, if it does: of `raw_data` or of `zip_data`."""
    told = _entry(source).get(key)
    size = told.get("bytes") if isinstance(told, dict) else None
    if size is not None and not (type(size) is int and 0 <= size < 2**32):
        raise DamagedFileError(f"{source.sides[0]}: says {shown(size)} bytes of {source.path.name}")
    return size


def _open(source: Source) -> tuple[Shard, tuple[Leaf, ...]]:
    """The samples and the columns of a shard, checked against its index."""
    path = source.path
    size = source.size
    raw = _size(source, "raw_data")
    own = raw if source.codec is None else _size(source, "zip_data")
    if own is not None and own != size:
        raise DamagedFileError(
            f"{path}: has {size} bytes, but {source.sides[0].name} says {own}; is it cut off?"
        )
    data: Bytes | None = None
    if source.codec is not None:
        data = decompressed(source, None, raw)
        size = len(data)
    head = _slice(source, data, 0, min(8, size))
    count = int.from_bytes(head[:4].tobytes(), "little")
    begin = 8 + 4 * count
    if len(head) < 8 or begin > size:
        raise DamagedFileError(f"{path}: says {count} samples, which {size} bytes cannot hold")
    end = int.from_bytes(head[4:8].tobytes(), "little")
    if not begin < end <= min(size, begin + _MAX_CONFIGURATION):
        raise DamagedFileError(f"{path}: not an MDS shard: its first sample begins at byte {end}")
    leaves = _leaves(source, _slice(source, data, begin, end))
    offsets = read_offsets(path, _slice(source, data, 0, begin), size, end - begin)
    samples = _entry(source).get("samples", count)
    if samples != count:
        raise DamagedFileError(
            f"{path}: has {count} samples, but {source.sides[0].name} says {shown(samples)}"
        )
    return (plain_shard(path, offsets) if data is None else held_shard(data, offsets)), leaves


# ---- hashes ------------------------------------------------------------------------------------


def _hashes(source: Source) -> dict[str, str]:
    """The hashes of a file that its index says, by algorithm."""
    told = _entry(source).get("raw_data" if source.codec is None else "zip_data")
    found = told.get("hashes") if isinstance(told, dict) else None
    if not isinstance(found, dict):
        return {}
    return {str(name): str(value) for name, value in found.items()}


def _hasher(name: str) -> Any:
    """What computes a hash, as the library takes it: from hashlib, or from xxhash."""
    if name in hashlib.algorithms_available and not name.startswith("shake"):
        return lambda: hashlib.new(name, usedforsecurity=False)
    if not name.startswith("xxh"):
        return None
    try:
        import xxhash
    except ImportError:
        return None
    return getattr(xxhash, name, None) if name in xxhash.algorithms_available else None


def _check_hashes(source: Source) -> None:
    """Raises if a file has another hash than its index says."""
    try:
        now = source.path.stat()
        side = source.sides[0].stat().st_mtime_ns if source.sides else 0
    except OSError as error:
        raise DamagedFileError(f"{source.path}: {error.strerror}") from None
    _check_hashes_of(source, now.st_size, now.st_mtime_ns, side)


@lru_cache(maxsize=1 << 12)  # a shard may be opened for each of its parts
def _check_hashes_of(source: Source, *_stamp: int) -> None:
    wanted = {name: value for name, value in _hashes(source).items() if _hasher(name) is not None}
    hashers = {name: _hasher(name)() for name in wanted}
    if not hashers:
        return
    with reading(source.path), source.path.open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            for hasher in hashers.values():
                hasher.update(block)
    for name, hasher in hashers.items():
        if hasher.hexdigest() != wanted[name].lower():
            raise DamagedFileError(
                f"{source.path}: its {name} is {hasher.hexdigest()}, but {source.sides[0].name} "
                f"says {shown(wanted[name])}; the file was damaged or changed"
            )


def _slice(source: Source, data: Bytes | None, begin: int, end: int) -> Bytes:
    """Bytes of what was decompressed, or of the file."""
    if data is not None:
        return data[begin:end]
    with reading(source.path):
        return read_ids(source.path, _BYTE, begin, end - begin)


def _leaves(source: Source, text: Bytes) -> tuple[Leaf, ...]:
    """The columns, by the configuration of the shard."""
    try:
        found = json.loads(text.tobytes())
        names, encodings = found["column_names"], found["column_encodings"]
        sizes = found["column_sizes"]
        columns = list(zip(names, encodings, sizes, strict=True))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedFileError(f"{source.path}: its configuration is not JSON of columns") from None
    for name, encoding, size in columns:
        sized = size is None or (isinstance(size, int) and 0 <= size < 2**32)
        if not (isinstance(name, str) and isinstance(encoding, str) and sized):
            raise DamagedFileError(f"{source.path}: its configuration has a column {name!r}")
    return tuple(
        # The tools take a size of 0 for none, too.
        Leaf(name, size or None, _decoder(encoding), encoding)
        for name, encoding, size in columns
    )


def _decoder(encoding: str) -> Any:
    """What decodes the values of a column; None if they are neither ids nor text."""
    if encoding in ("str", "bytes", "json"):
        return encoding
    kind, *rest = encoding.split(":")
    if kind != "ndarray" or len(rest) > 2 or (rest and rest[0] not in _BY_NAME):
        return None
    if len(rest) == 2:  # the shape is fixed, too
        return plain_ids(_BY_NAME[rest[0]])
    return _array(_BY_NAME[rest[0]] if rest else None)


def _array(fixed: np.dtype[Any] | None) -> Decoder:
    """Decodes arrays that begin with their shape, and with their dtype if none is `fixed`."""

    def decode(data: Bytes) -> tuple[npt.NDArray[Any] | None, str | None]:
        kind, rest = fixed, data
        if kind is None:
            kind = _DTYPES.get(int(data[0])) if len(data) else None
            rest = data[1:]
        if kind is None or len(rest) == 0:
            return None, "not an array of integers" if len(data) else "an array without a header"
        dimensions, width = int(rest[0]) >> 2, 1 << (int(rest[0]) & 3)
        end = 1 + dimensions * width
        sizes = rest[1:end].tobytes()
        shape = np.frombuffer(sizes[: len(sizes) // width * width], f"<u{width}")
        values = rest[end:].tobytes()
        if len(shape) != dimensions or math.prod(shape.tolist()) * kind.itemsize != len(values):
            return None, f"an array of shape {shape.tolist()} in {len(values)} bytes"
        if math.prod(shape.tolist()) != max(shape.tolist(), default=0):
            return None, f"an array of shape {shape.tolist()}; token ids have one dimension"
        ids = np.frombuffer(values, kind)
        # A column may hold arrays of several dtypes, so they get a common one.
        return (ids if fixed is not None else _common(ids)), None

    return decode


def _common(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if ids.dtype.itemsize == 8 and ids.dtype.kind == "u" and len(ids):
        ids = np.minimum(ids, np.uint64(2**63 - 1))
    return ids.astype(np.int64)
