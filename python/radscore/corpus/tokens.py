"""Bare token ids: numpy's `.npy` and headerless files, memory-mapped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus._base import (
    Chunk,
    DamagedFileError,
    InputOptionError,
    Position,
    Where,
    damage_named,
)
from radscore.documents import Documents
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus.sources import Source

__all__ = ["BIN_DTYPES", "TokenLayout", "TokenReader", "token_layout"]

#: What headerless files may hold; little-endian.
BIN_DTYPES = ("uint16", "uint32", "int32")
_NPY_MAGIC = b"\x93NUMPY"
# As many ids tell whether they are ids at all.
_SAMPLE = 1 << 16
_FEWEST = 8
# llm.c and its descendants: 256 int32 of header, which would be read as tokens.
_LLM_C_MAGIC = (20240520, 20240801, 20240522)


@dataclass(frozen=True)
class TokenLayout:
    """Where the ids of a file lie: `n_tokens` of `dtype` after `offset` bytes, in rows or not."""

    path: Path
    dtype: np.dtype[Any]
    offset: int
    n_tokens: int
    row: int | None
    fortran: bool = False


def check_dtype(dtype: Any) -> np.dtype[Any] | None:
    """`dtype` if it is one that headerless files may hold, little-endian."""
    if dtype is None:
        return None
    try:
        found: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.newbyteorder("=").name not in BIN_DTYPES or found.str[0] == ">":
        raise ArgumentError(f"dtype must be one of {', '.join(BIN_DTYPES)}, not {dtype!r}")
    return found


def is_headerless(source: Source) -> bool:
    """Whether nothing in a file tells the dtype of its ids."""
    if source.format != "npy":
        return source.format == "bin"
    with damage_named(source.path), source.path.open("rb") as file:
        return not file.read(len(_NPY_MAGIC)).startswith(_NPY_MAGIC)


def token_layout(source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
    """Reads a file's header, where it has one, and holds it against the file's size.

    Raises
    ------
    CorpusError
        If the file is damaged, holds no integers, or its dtype is not known.
    """
    path = source.path
    with damage_named(path), path.open("rb") as file:
        head = file.read(8)
    if source.format == "npy" and head.startswith(_NPY_MAGIC):
        return _npy_layout(source, dtype)
    if dtype is None:
        what = "has no numpy header, so is a headerless file" if source.format == "npy" else ""
        raise InputOptionError(
            f"{path}: {what + '; ' if what else ''}"
            f"give the dtype of its ids with dtype= ({', '.join(BIN_DTYPES)})"
        )
    if head.startswith(_NPY_MAGIC):
        raise InputOptionError(f"{path}: has a numpy header; read it with format='npy'")
    words = np.frombuffer(head, dtype="<i4") if len(head) == 8 else (0, 0)
    if words[0] in _LLM_C_MAGIC and words[1] in (1, 7):
        raise CorpusError(f"{path}: has the 1024-byte header of llm.c, which is not read yet")
    if source.size % dtype.itemsize:
        raise DamagedFileError(
            f"{path}: {source.size} bytes are no whole number of {dtype.name} ids: "
            "is the file cut, or the dtype wrong?"
        )
    return TokenLayout(path, dtype, 0, source.size // dtype.itemsize, None)


def doubt_of(source: Source, dtype: np.dtype[Any] | None, vocab_size: int | None) -> str | None:
    """Why the dtype that was given for a headerless file may be wrong; by its first ids."""
    if dtype is None:
        return None
    ids = _map(token_layout(source, dtype))[:_SAMPLE]
    even, odd = ids[::2], ids[1::2]
    if len(ids) >= _FEWEST and not odd.any() and 2 * np.count_nonzero(even) > len(even):
        return (
            f"{source.path}: every second id is 0, as where ids of twice the size are read as "
            f"dtype={dtype.name!r}"
        )
    if vocab_size is not None and 2 * np.count_nonzero(ids >= vocab_size) > len(ids):
        return (
            f"{source.path}: most ids are outside of the vocabulary of {vocab_size}: "
            f"dtype={dtype.name!r} is hardly what the file holds"
        )
    return None


def _npy_layout(source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
    path = source.path
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise DamagedFileError(f"{path}: numpy format version {version} holds no token ids")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, kind = read(file)
            offset = file.tell()
    except (OSError, ValueError, EOFError) as error:
        raise DamagedFileError(f"{path}: damaged numpy header: {_one_line(error)}") from None
    if kind.hasobject:
        raise DamagedFileError(f"{path}: holds pickled Python objects, which are never loaded")
    if kind.kind not in "iu":
        raise DamagedFileError(f"{path}: holds {kind}, not integers")
    if dtype is not None and kind.newbyteorder("=") != dtype:
        raise InputOptionError(f"{path}: its header says {kind.name}, but dtype= says {dtype.name}")
    if len(shape) not in (1, 2) or min(shape) < 0:
        raise DamagedFileError(f"{path}: shape {shape}; token ids have one or two dimensions")
    n_tokens = math.prod(shape)
    if offset + n_tokens * kind.itemsize != source.size:
        raise DamagedFileError(
            f"{path}: the header says shape {shape} of {kind.name}, which is "
            f"{offset + n_tokens * kind.itemsize} bytes, but the file has {source.size}"
        )
    row = int(shape[1]) if len(shape) == 2 else None
    if row == 0:
        n_tokens = 0
    return TokenLayout(path, kind, offset, n_tokens, row, fortran=fortran and row is not None)


def _one_line(error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return first if len(first) <= 200 else f"{first[:197]}..."


class TokenReader:
    """Cuts a file of ids into batches at the ends of documents, without copying.

    A document ends after every `eod` (which so is its last token), at the end of a row, and at
    the end of the file. Only files in foreign byte order or column order are copied, batch by
    batch.
    """

    def __init__(
        self, source: Source, dtype: np.dtype[Any] | None, eod: int | None, batch_tokens: int
    ) -> None:
        self._layout = token_layout(source, dtype)
        self._eod = check_eod(eod, self._layout)
        self._batch_tokens = batch_tokens

    def chunks(self, position: Position) -> Iterator[Chunk]:
        """The documents after `position` (``token`` tokens)."""
        layout = self._layout
        ids = _map(layout)
        start = position.get("token", 0)
        while start < layout.n_tokens:
            ends = self._ends(ids, start)
            stop = int(ends[-1])
            values = np.ascontiguousarray(ids[start:stop], dtype=layout.dtype.newbyteorder("="))
            offsets = np.concatenate((np.zeros(1, np.int64), ends - start))
            starts = offsets[:-1] + start
            where = (
                Where(layout.path, starts, "token")
                if layout.row is None
                else Where(layout.path, starts // layout.row, "row")
            )
            bytes_read = layout.offset + stop * layout.dtype.itemsize
            yield Chunk(Documents(values, offsets), None, where, {"token": stop}, bytes_read)
            start = stop

    def _ends(self, ids: npt.NDArray[Any], start: int) -> npt.NDArray[np.int64]:
        """Ends of the documents of one batch, at least one; searched no further than needed."""
        layout, total = self._layout, self._layout.n_tokens
        if self._eod is None and layout.row is None:
            return np.array([total], dtype=np.int64)
        while True:
            stop = min(start + self._batch_tokens, total)
            found = []
            if self._eod is not None:
                found.append(np.flatnonzero(ids[start:stop] == self._eod) + (start + 1))
            if layout.row is not None:
                first = start // layout.row + 1
                found.append(np.arange(first, stop // layout.row + 1, dtype=np.int64) * layout.row)
            if stop == total:
                found.append(np.array([total], dtype=np.int64))
            ends = np.unique(np.concatenate(found)).astype(np.int64, copy=False)
            if len(ends):
                return ends
            start = stop  # inside of a long document


def check_eod(eod: int | None, layout: TokenLayout) -> int | None:
    """`eod` if the ids of a file can take this value."""
    if eod is None:
        return None
    bounds = np.iinfo(layout.dtype)
    if not 0 <= eod <= bounds.max:
        raise ArgumentError(
            f"eod must be from 0 to {bounds.max} for {layout.dtype.name} ids, not {eod}"
        )
    return int(eod)


def _map(layout: TokenLayout) -> npt.NDArray[Any]:
    if layout.n_tokens == 0:
        return np.empty(0, dtype=layout.dtype)
    with damage_named(layout.path):
        mapped = np.memmap(
            layout.path, dtype=layout.dtype, mode="r", offset=layout.offset, shape=layout.n_tokens
        )
    ids: npt.NDArray[Any] = mapped.view(np.ndarray)
    if layout.fortran and layout.row is not None:
        # Column order: documents are not contiguous in the file, so they are laid out anew.
        return np.ascontiguousarray(ids.reshape(layout.row, -1).T).reshape(-1)
    return ids
