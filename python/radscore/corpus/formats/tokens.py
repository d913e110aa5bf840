"""Bare token ids: numpy's `.npy` and headerless files, memory-mapped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    InputOptionError,
    Position,
    Where,
    count_parts,
    damage_named,
    even_edges,
)
from radscore.corpus.sources import LLM_C_HEADERS
from radscore.documents import Documents
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus.sources import Source

__all__ = [
    "BIN_DTYPES",
    "Ends",
    "TokenLayout",
    "TokenReader",
    "batches_of",
    "is_headerless",
    "map_ids",
    "token_layout",
    "whole_ids",
]

#: What headerless files may hold; little-endian.
BIN_DTYPES = ("uint16", "uint32", "int32", "int64")
_NPY_MAGIC = b"\x93NUMPY"
# As many ids tell whether they are ids at all.
_SAMPLE = 1 << 16
_FEWEST = 8
#: Documents of an index that are looked at together.
MOST_DOCUMENTS = 1 << 16
#: The end-of-document id that nanoGPT's scripts write, GPT-2's, and the only dtype they use.
NANOGPT = ("<u2", 50_256)


class Ends(Protocol):
    """Where the documents of a file end, by an index."""

    n_documents: int

    def ends(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Ends, in tokens, of the documents from `first`, at most `count` of them."""
        ...


@dataclass(frozen=True)
class TokenLayout:
    """Where the ids of a file lie: `n_tokens` of `dtype` after `offset` bytes, in rows or not."""

    path: Path
    dtype: np.dtype[Any]
    offset: int
    n_tokens: int
    row: int | None = None
    fortran: bool = False
    #: Where an index says that documents end, and the file that says it.
    ends: Ends | None = None
    index: Path | None = None


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
    """Whether a dtype that the caller gives may matter to a file: nothing in it tells it."""
    if source.format != "npy":
        return source.format in ("bin", "datatrove", "dolma", "nanogpt", "mds", "litdata")
    with damage_named(source.path), source.path.open("rb") as file:
        return not file.read(len(_NPY_MAGIC)).startswith(_NPY_MAGIC)


def token_layout(source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
    """Reads a file's header and index, where it has them, and holds them against its size.

    Raises
    ------
    CorpusError
        If the file is damaged, holds no integers, or its dtype is not known.
    """
    if source.format == "datatrove":
        from radscore.corpus.formats.datatrove import datatrove_layout

        return datatrove_layout(source, dtype)
    if source.format == "dolma":
        from radscore.corpus.formats.dolma import dolma_layout

        return dolma_layout(source, dtype)
    if source.format == "llmc":
        from radscore.corpus.formats.llmc import llmc_layout

        return llmc_layout(source)
    path = source.path
    with damage_named(path), path.open("rb") as file:
        head = file.read(8)
    if source.format == "npy" and head.startswith(_NPY_MAGIC):
        return _npy_layout(source, dtype)
    if source.format == "nanogpt" and dtype is None:
        dtype = np.dtype(NANOGPT[0])
    if dtype is None:
        what = "has no numpy header, so is a headerless file" if source.format == "npy" else ""
        raise InputOptionError(
            f"{path}: {what + '; ' if what else ''}"
            f"give the dtype of its ids with dtype= ({', '.join(BIN_DTYPES)})"
        )
    if head.startswith(_NPY_MAGIC):
        raise InputOptionError(f"{path}: has a numpy header; read it with format='npy'")
    words = (int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little"))
    if words in LLM_C_HEADERS:
        raise InputOptionError(
            f"{path}: has the 1024-byte header of llm.c; read it with format='llmc'"
        )
    return TokenLayout(path, dtype, 0, whole_ids(source, dtype))


def whole_ids(source: Source, dtype: np.dtype[Any]) -> int:
    """How many ids of `dtype` a headerless file holds."""
    if source.size % dtype.itemsize:
        raise DamagedFileError(
            f"{source.path}: {source.size} bytes are no whole number of {dtype.name} ids: "
            "is the file cut, or the dtype wrong?"
        )
    return source.size // dtype.itemsize


def doubt_of(source: Source, dtype: np.dtype[Any] | None, vocab_size: int | None) -> str | None:
    """Why the dtype that was given for a headerless file may be wrong; by its first ids."""
    if dtype is None:
        return None
    layout = token_layout(source, dtype)
    ids = _map(layout, 0, min(_SAMPLE, layout.n_tokens))
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

    Documents end where an index says so. Without one, a document ends after every `eod` (which
    so is its last token), at the end of a row, and at the end of the file. Each batch maps its
    own part of the file, so that what was read leaves the memory with its batch. Only files in
    foreign byte order or column order are copied, batch by batch.
    """

    def __init__(
        self,
        layout: TokenLayout,
        eod: int | None,
        batch_tokens: int,
        held: tuple[npt.NDArray[Any], int] | None = None,
    ) -> None:
        self.layout = layout
        self._eod = check_eod(eod, layout.dtype)
        self._batch_tokens = batch_tokens
        # The bytes of ids that were unpacked, and the size of their file.
        values, self._size = (None, 0) if held is None else held
        self._held = None if values is None else np.frombuffer(values.tobytes(), layout.dtype)
        #: Whether no index divides the ids: then it can be cut anywhere.
        self.bare = layout.ends is None
        #: Whether the documents are already cut after every end-of-document id.
        self.cuts = self.bare
        #: An index may turn out to be damaged.
        self.sound = self.bare

    def _map(self, start: int, stop: int) -> npt.NDArray[Any]:
        return _map(self.layout, start, stop) if self._held is None else self._held[start:stop]

    def edges(self, size: int) -> Iterator[Position]:
        """Ends of documents (``token``), or documents of an index (``document``)."""
        layout, last = self.layout, 0
        n_parts = count_parts(self._bytes(layout.n_tokens), size)
        if layout.ends is not None:
            for document in even_edges(layout.ends.n_documents, n_parts):
                yield {"document": document}
            return
        for token in even_edges(layout.n_tokens, n_parts):
            if token > last:  # not inside of a document that was passed
                last = int(self._batch(token - 1, layout.n_tokens)[1][0])
                if last < layout.n_tokens:
                    yield {"token": last}

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents after `position` (``token`` tokens, or ``document`` of an index)."""
        layout = self.layout
        if layout.ends is not None:
            n_documents = layout.ends.n_documents if end is None else end["document"]
            yield from self._indexed(layout.ends, position.get("document", 0), n_documents)
            return
        start, total = position.get("token", 0), layout.n_tokens if end is None else end["token"]
        while start < total:
            ids, ends = self._batch(start, total)
            stop = int(ends[-1])
            offsets = np.concatenate((np.zeros(1, np.int64), ends - start))
            starts = offsets[:-1] + start
            where = (
                Where(layout.path, starts, "token")
                if layout.row is None
                else Where(layout.path, starts // layout.row, "row")
            )
            documents = Documents(_native(ids[: stop - start]), offsets)
            yield Chunk(documents, None, where, {"token": stop}, self._bytes(stop))
            start = stop

    def stretch(self, first: int, last: int, reach: int) -> tuple[Chunk, int]:
        """The tokens `first` to `last`, wherever documents end, and up to `reach` around them.

        The second value is how many tokens stand before `first`. Documents that begin or end
        outside are cut there.
        """
        layout = self.layout
        lower, upper = max(first - reach, 0), min(last + reach, layout.n_tokens)
        ids = self._map(lower, upper)
        cuts = [np.array([lower, upper], dtype=np.int64)]
        if self._eod is not None:
            cuts.append(np.flatnonzero(ids == self._eod) + (lower + 1))
        if layout.row is not None:
            row = layout.row
            cuts.append(np.arange(-(-lower // row), upper // row + 1, dtype=np.int64) * row)
        edges = np.unique(np.concatenate(cuts)).astype(np.int64, copy=False)
        where = Where(layout.path, edges[:-1], "token")
        documents = Documents(_native(ids), edges - lower)
        chunk = Chunk(documents, None, where, {"token": last}, self._bytes(last))
        return chunk, first - lower

    def _indexed(self, index: Ends, first: int, n_documents: int) -> Iterator[Chunk]:
        path = self.layout.path
        start = int(index.ends(first - 1, 1)[0]) if 0 < first <= index.n_documents else 0
        while first < n_documents:
            block = index.ends(first, min(MOST_DOCUMENTS, n_documents - first))
            self._check_ends(block, first, start)
            for low, high in batches_of(block, start, self._batch_tokens):
                stop = int(block[high - 1])
                ends = block[low:high] - start
                offsets = np.concatenate((np.zeros(1, np.int64), ends))
                numbers = np.arange(first + low, first + high, dtype=np.int64)
                documents = Documents(_native(self._map(start, stop)), offsets)
                where = Where(path, numbers, "document")
                position = {"document": first + high}
                yield Chunk(documents, None, where, position, self._bytes(stop))
                start = stop
            first += len(block)

    def _check_ends(self, ends: npt.NDArray[np.int64], first: int, start: int) -> None:
        """Raises unless the documents of an index lie one after the other in the file."""
        before = np.concatenate((np.array([start], np.int64), ends[:-1]))
        wrong = np.flatnonzero((ends < before) | (ends > self.layout.n_tokens))
        if len(wrong):
            number = int(wrong[0])
            raise DamagedFileError(
                f"{self.layout.index}: document {first + number} runs from token "
                f"{before[number]} to {ends[number]}, but {self.layout.path.name} has "
                f"{self.layout.n_tokens} tokens"
            )

    def _bytes(self, token: int) -> int:
        if self._held is not None:
            return self._size * token // max(self.layout.n_tokens, 1)
        return self.layout.offset + token * self.layout.dtype.itemsize

    def _batch(self, start: int, total: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Ids from `start`, and the ends of at least one document in them; one ends at `total`."""
        layout = self.layout
        if self._eod is None and layout.row is None:
            return self._map(start, total), np.array([total], dtype=np.int64)
        lower, stop = start, min(start + self._batch_tokens, total)
        while True:
            ids = self._map(lower, stop)
            found = []
            if self._eod is not None:
                found.append(np.flatnonzero(ids == self._eod) + (lower + 1))
            if layout.row is not None:
                first = lower // layout.row + 1
                found.append(np.arange(first, stop // layout.row + 1, dtype=np.int64) * layout.row)
            if stop == total:
                found.append(np.array([total], dtype=np.int64))
            ends = np.unique(np.concatenate(found)).astype(np.int64, copy=False)
            if len(ends):
                return (ids if lower == start else self._map(start, int(ends[-1]))), ends
            lower, stop = stop, min(stop + self._batch_tokens, total)  # inside of a long document


def batches_of(
    ends: npt.NDArray[np.int64], start: int, batch_tokens: int
) -> Iterator[tuple[int, int]]:
    """Ranges of documents of about `batch_tokens` tokens, where the first begins at `start`."""
    low = 0
    while low < len(ends):
        high = max(int(np.searchsorted(ends, start + batch_tokens, side="right")), low + 1)
        yield low, high
        low, start = high, int(ends[high - 1])


def check_eod(eod: int | None, dtype: np.dtype[Any]) -> int | None:
    """`eod` if ids of a dtype can take this value."""
    if eod is None:
        return None
    bounds = np.iinfo(dtype)
    if not 0 <= eod <= bounds.max:
        raise ArgumentError(f"eod must be from 0 to {bounds.max} for {dtype.name} ids, not {eod}")
    return int(eod)


def map_ids(path: Path, dtype: np.dtype[Any], offset: int, count: int) -> npt.NDArray[Any]:
    """`count` values after `offset` bytes of a file, mapped; the mapping ends with the array."""
    if count == 0:
        return np.empty(0, dtype=dtype)
    try:
        with damage_named(path):
            mapped = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=count)
    except ValueError as error:  # the file has become shorter
        raise DamagedFileError(f"{path}: {_one_line(error)}") from None
    ids: npt.NDArray[Any] = mapped.view(np.ndarray)
    return ids


def _map(layout: TokenLayout, start: int, stop: int) -> npt.NDArray[Any]:
    """The ids from `start` to `stop`."""
    size = layout.dtype.itemsize
    if not layout.fortran or layout.row is None:
        return map_ids(layout.path, layout.dtype, layout.offset + start * size, stop - start)
    # Column order: documents are not contiguous in the file, so they are laid out anew.
    ids = map_ids(layout.path, layout.dtype, layout.offset, layout.n_tokens)
    first, last = start // layout.row, -(-stop // layout.row)
    rows = ids.reshape(layout.row, -1).T[first:last]
    return np.ascontiguousarray(rows).reshape(-1)[start - first * layout.row :][: stop - start]


def _native(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The ids in native byte order and aligned, copied only where they are not."""
    return np.require(ids, dtype=ids.dtype.newbyteorder("="), requirements=["C", "A"])
