"""numpy's `.npz`: a zip archive of arrays of ids.

Arrays without names (``arr_0``, ``arr_1``, ...), as `np.savez(file, *arrays)` stores them, are all
read, in their order. Otherwise each name is a field, of which one is read.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
    reading,
)
from radscore.corpus.dtypes import SAMPLE
from radscore.corpus.format import Format, Known, Preview
from radscore.corpus.formats.npy import read_header
from radscore.corpus.readers.ids import also_cut
from radscore.corpus.records import missing_field
from radscore.documents import Documents
from radscore.errors import line_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from radscore.corpus.format import Options, Source

__all__ = ["FORMAT"]

_UNNAMED = re.compile(r"arr_(\d+)")
# Deflate makes no more of a byte.
_MOST_PACKED = 1032


class Npz(Format):
    """Arrays of one or two dimensions in an archive."""

    name = "npz"
    title = "archives of numpy arrays"
    files = "`.npz`"
    content = "all of its arrays if they have no names, else the one that `--field` names"
    documents = "one per row, or one per array"
    remarks = (
        "object arrays (pickles) are refused; in a folder with data of other formats, such files "
        "are left out"
    )

    suffixes = (".npz",)
    magic = (b"PK\x03\x04",)
    codec_by_name = True
    takes_any_suffix = True
    gives_way = True
    position_key = "row"

    def has_fields(self, source: Source) -> bool:
        """Whether the arrays have names."""
        with _opened(source) as archive:
            names = _names(archive)
        return any(_UNNAMED.fullmatch(name) is None for name in names)

    def preview(self, source: Source) -> Preview:
        """The names of the arrays."""
        with _opened(source) as archive:
            return Preview(list(_names(archive)), str(source.path))

    def known(self, source: Source, options: Options) -> Known:
        """Both, by the headers of the arrays."""
        rows = tokens = 0
        for _, (count, length), _ in _NpzReader(source, options).arrays():
            rows += count
            tokens += count * length
        return Known(tokens, rows)

    def boundaries(self, source: Source, eod: int | None) -> str | None:  # noqa: ARG002 - always so
        """The shapes of the arrays."""
        return f"the arrays, or their rows{also_cut(eod)}"

    def sample(self, source: Source, options: Options) -> list[npt.NDArray[Any]]:
        """The first ids of the first array."""
        for _, (count, length), file in _NpzReader(source, options).arrays():
            if count and length:
                return [file.take(min(count * length, SAMPLE // 3))]
        return []

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:  # noqa: ARG002
        """Reads the headers of the arrays."""
        reader = _NpzReader(source, options)
        for _ in reader.arrays():
            pass
        return reader


FORMAT = Npz()


@contextmanager
def _opened(source: Source) -> Iterator[zipfile.ZipFile]:
    """An archive; what is wrong with it is damage."""
    try:
        with reading(source.path), zipfile.ZipFile(source.path) as archive:
            yield archive
    except (DamagedFileError, InputOptionError):
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        raise DamagedFileError(f"{source.path}: damaged archive: {line_of(error, 200)}") from None


def _names(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The arrays by name; those without names by their numbers."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            found[info.filename.removesuffix(".npy")] = info
        elif not info.is_dir():
            raise DamagedFileError(
                f"{archive.filename}: not an archive of numpy arrays: it holds {info.filename!r}; "
                "unpack it first"
            )

    def order(name: str) -> tuple[int, str]:
        match = _UNNAMED.fullmatch(name)
        return (int(match[1]) if match else -1, name)

    return {name: found[name] for name in sorted(found, key=order)}


class _Ids:
    """The ids of an array, read one after the other."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], where: str) -> None:
        self._file, self._dtype, self._where = file, dtype, where

    def take(self, count: int) -> npt.NDArray[Any]:
        """The next ids."""
        data = bytearray()
        size = count * self._dtype.itemsize
        while len(data) < size and (block := self._file.read(min(size - len(data), 1 << 24))):
            data += block
        if len(data) < size:
            raise DamagedFileError(f"{self._where}: ends after {len(data)} of {size} bytes")
        ids = np.frombuffer(bytes(data), self._dtype)
        return ids.astype(self._dtype.newbyteorder("="), copy=False)


class _NpzReader(Reader):
    """Reads the arrays row by row; a position counts the rows of all arrays."""

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        self._fields = options.fields
        self._batch_tokens = options.batch_tokens

    def arrays(self) -> Iterator[tuple[str, tuple[int, int], _Ids]]:
        """Name, number and length of the documents, and the ids of each array."""
        path = self._source.path
        with _opened(self._source) as archive:
            names = _names(archive)
            if self._fields is not None and not all(map(_UNNAMED.fullmatch, names)):
                if self._fields.prompt is not None:
                    raise InputOptionError(f"{path}: prompts cannot be read from .npz files")
                if self._fields.main not in names:
                    raise DamagedFileError(f"{path}: {missing_field(self._fields.main, names)}")
                names = {self._fields.main: names[self._fields.main]}
            for name, info in names.items():
                where = f"{path}: array {name!r}"
                if info.file_size > _MOST_PACKED * max(info.compress_size, 1):
                    raise DamagedFileError(f"{where}: says an impossible size, {info.file_size}")
                with archive.open(info) as file:
                    member: Any = file
                    shape, fortran, dtype = read_header(member, where)
                    size = math.prod(shape) * dtype.itemsize
                    if file.tell() + size != info.file_size:
                        raise DamagedFileError(
                            f"{where}: its header says {size} bytes, but it has "
                            f"{info.file_size - file.tell()}"
                        )
                    if fortran and len(shape) == 2 and min(shape) > 1:
                        raise DamagedFileError(
                            f"{where}: stored column by column; save it again from "
                            "np.ascontiguousarray"
                        )
                    n_rows, length = shape if len(shape) == 2 else (min(shape[0], 1), shape[0])
                    yield name, (n_rows if length else 0, length), _Ids(member, dtype, where)

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:  # noqa: ARG002 - it has no edges
        """The documents after `position` (``row`` rows of all arrays)."""
        done, before = position.get("row", 0), 0
        total = max(self._source.size, 1)
        for _, (n_rows, length), ids in self.arrays():
            step = max(self._batch_tokens // max(length, 1), 1)
            for first in range(0, n_rows, step):
                count = min(step, n_rows - first)
                values = ids.take(count * length)
                row = before + first
                if row + count <= done:
                    continue
                begin = max(done - row, 0)
                offsets = np.arange(count - begin + 1, dtype=np.int64) * length
                numbers = np.arange(row + begin, row + count, dtype=np.int64)
                yield Chunk(
                    Documents(values[begin * length :], offsets),
                    None,
                    Locations(self._source.path, numbers, "row"),
                    {"row": row + count},
                    min(row + count, total),
                )
            before += n_rows
