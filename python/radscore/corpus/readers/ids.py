"""Files of bare token ids: what `.npy`, `.bin`, `.ds` and their kin share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    InputOptionError,
    Locations,
    Position,
    Reader,
    even_edges,
    n_shards,
    reading,
)
from radscore.corpus.dtypes import sampled_ranges
from radscore.corpus.format import Format, Known, Scale
from radscore.documents import Documents
from radscore.errors import ArgumentError, line_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus.base import Problems
    from radscore.corpus.format import Options, Source

__all__ = [
    "HEADERLESS_DTYPES",
    "MAX_DOCUMENTS",
    "DocumentEnds",
    "EndsInMemory",
    "IdFormat",
    "TokenLayout",
    "TokenReader",
    "also_cut",
    "batches_of",
    "check_dtype",
    "check_given",
    "dtype_by_end",
    "headerless",
    "map_ids",
    "n_ids",
    "read_ids",
    "sampled",
]

#: What headerless files may hold; little-endian.
HEADERLESS_DTYPES = ("uint16", "uint32", "int32", "int64")
#: Documents of an index that are read at once.
MAX_DOCUMENTS = 1 << 16
# So many bytes are copied rather than mapped; more only if a document is that long.
_MOST_COPIED = 1 << 28


class DocumentEnds(Protocol):
    """Where the documents of a file end, as its index says."""

    n_documents: int

    def ends(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Ends, in tokens, of the documents from `first`, at most `count` of them."""
        ...


class EndsInMemory:
    """The ends of all documents, 8 bytes each."""

    def __init__(self, ends: npt.NDArray[np.int64]) -> None:
        self._ends = ends
        self.n_documents = len(ends)

    def ends(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Ends, in tokens, of the documents from `first`, at most `count` of them."""
        return self._ends[first : first + count]


@dataclass(frozen=True)
class TokenLayout:
    """Where the ids of a file lie: `n_tokens` of `dtype` from byte `offset`.

    Attributes
    ----------
    row : int or None
        Tokens of a row; documents end with rows.
    fortran : bool
        Whether the rows lie in the file column by column.
    ends : DocumentEnds or None
        Where an index says that documents end.
    index : Path or None
        The file that says it, for messages.
    """

    path: Path
    dtype: np.dtype[Any]
    offset: int
    n_tokens: int
    row: int | None = None
    fortran: bool = False
    ends: DocumentEnds | None = None
    index: Path | None = None


class TokenReader(Reader):
    """Cuts a file of ids into batches at the ends of documents, as they lie there.

    Documents end where an index says so. Without an index a document ends after every `eod`, which
    stays its last token, at the end of a row, and at the end of the file. Each batch reads its own
    range of the file, so memory is freed with the batch; a document of a quarter of a gigabyte or
    more is mapped.
    """

    def __init__(
        self,
        layout: TokenLayout,
        eod: int | None,
        batch_tokens: int,
        unpacked: tuple[npt.NDArray[Any], int] | None = None,
    ) -> None:
        self.layout = layout
        self._eod = _check_eod(eod, layout.dtype)
        self._batch_tokens = batch_tokens
        # The bytes of ids that were decompressed, and the size of their file.
        values, self._size = (None, 0) if unpacked is None else unpacked
        self._held = None if values is None else np.frombuffer(values.tobytes(), layout.dtype)
        bare = layout.ends is None
        # An index may turn out to be damaged in its middle; bare ids can be cut anywhere.
        self.cuts_at_eod = self.fails_early = bare
        self.n_tokens = layout.n_tokens if bare else None

    def _map(self, start: int, stop: int) -> npt.NDArray[Any]:
        return _map(self.layout, start, stop) if self._held is None else self._held[start:stop]

    def edges(self, size: int) -> Iterator[Position]:
        """Ends of documents (``token``), or documents of an index (``document``)."""
        layout, last = self.layout, 0
        number = n_shards(self._bytes(layout.n_tokens), size)
        if layout.ends is not None:
            for document in even_edges(layout.ends.n_documents, number):
                yield {"document": document}
            return
        for token in even_edges(layout.n_tokens, number):
            if token > last:  # not inside a document that has been passed
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
            locations = (
                Locations(layout.path, starts, "token")
                if layout.row is None
                else Locations(layout.path, starts // layout.row, "row")
            )
            documents = Documents(_native(ids[: stop - start]), offsets)
            yield Chunk(documents, None, locations, {"token": stop}, self._bytes(stop))
            start = stop

    def read_range(self, first: int, last: int, reach: int) -> tuple[Chunk, int]:
        """The tokens `first` to `last`, and up to `reach` on either side."""
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
        locations = Locations(layout.path, edges[:-1], "token")
        documents = Documents(_native(ids), edges - lower)
        chunk = Chunk(documents, None, locations, {"token": last}, self._bytes(last))
        return chunk, first - lower

    def _indexed(self, index: DocumentEnds, first: int, n_documents: int) -> Iterator[Chunk]:
        path = self.layout.path
        start = int(index.ends(first - 1, 1)[0]) if 0 < first <= index.n_documents else 0
        while first < n_documents:
            block = index.ends(first, min(MAX_DOCUMENTS, n_documents - first))
            self._check_ends(block, first, start)
            for low, high in batches_of(block, start, self._batch_tokens):
                stop = int(block[high - 1])
                ends = block[low:high] - start
                offsets = np.concatenate((np.zeros(1, np.int64), ends))
                numbers = np.arange(first + low, first + high, dtype=np.int64)
                documents = Documents(_native(self._map(start, stop)), offsets)
                locations = Locations(path, numbers, "document")
                position = {"document": first + high}
                yield Chunk(documents, None, locations, position, self._bytes(stop))
                start = stop
            first += len(block)

    def _check_ends(self, ends: npt.NDArray[np.int64], first: int, start: int) -> None:
        """Raises unless the documents of an index lie back to back in the file."""
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
        """Bytes of the file up to a token."""
        if self._held is not None:
            return self._size * token // max(self.layout.n_tokens, 1)
        return self.layout.offset + token * self.layout.dtype.itemsize

    def _batch(self, start: int, total: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Ids from `start`, and the end of at least one document in them; one ends at `total`."""
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
            lower, stop = stop, min(stop + self._batch_tokens, total)  # inside a long document


class IdFormat(Format):
    """Files of nothing but ids. A subclass says where they lie, and the rest follows.

    Documents end where a side index says so, else at an end-of-document id, else with the file.
    """

    codec_by_name = True

    def layout(self, source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
        """Where the ids lie, by the header and the index, held against the file's size.

        Raises
        ------
        CorpusError
            If the file or its index is damaged, they do not fit each other, or nothing tells the
            dtype.
        """
        raise NotImplementedError

    def has_fields(self, source: Source) -> bool:  # noqa: ARG002 - there are no records
        """No."""
        return False

    def known(self, source: Source, options: Options) -> Known:
        """Both, exactly."""
        layout = self.layout(source, options.dtype)
        if layout.ends is not None:
            return Known(layout.n_tokens, layout.ends.n_documents)
        rows = layout.n_tokens // layout.row if layout.row else min(layout.n_tokens, 1)
        return Known(layout.n_tokens, rows)

    def boundaries(self, source: Source, eod: int | None) -> str | None:
        """The first of the side files, which is an index, or the end-of-document id."""
        if self.side_names and self.side_files(source.path)[0] in source.sides:
            return f"side index {self.side_names[0].rpartition('}')[2]}{also_cut(eod)}"
        if eod is None:
            return "none known; each file is one document (see --eod)"
        return f"end-of-document id {eod}"

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:  # noqa: ARG002
        """Reads the header and the index."""
        layout = self.layout(source, options.dtype)
        return TokenReader(layout, options.eod, options.batch_tokens)

    def sample(self, source: Source, options: Options) -> list[npt.NDArray[Any]]:
        """From the beginning, the middle and the end."""
        return sampled(self.layout(source, options.dtype))

    def scale(self, source: Source, options: Options) -> Scale | None:
        """Documents of the index, or tokens."""
        layout = self.layout(source, options.dtype)
        if layout.ends is not None:
            return Scale("document", layout.ends.n_documents)
        return Scale("token", layout.n_tokens, layout.row or 1)


def also_cut(eod: int | None) -> str:
    """What an end-of-document id adds to the boundaries that an index tells."""
    return "" if eod is None else f", and cut after id {eod}"


def check_dtype(dtype: Any) -> np.dtype[Any] | None:
    """`dtype` if headerless files may hold it, little-endian."""
    if dtype is None:
        return None
    try:
        found: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        found = None
    if (
        found is None
        or found.newbyteorder("=").name not in HEADERLESS_DTYPES
        or found.str[0] == ">"
    ):
        raise ArgumentError(f"dtype must be one of {', '.join(HEADERLESS_DTYPES)}, not {dtype!r}")
    return found


def headerless(source: Source, dtype: np.dtype[Any] | None, why: str = "") -> TokenLayout:
    """The layout of a file of ids and nothing else; `why` says why its dtype must be given."""
    if dtype is None:
        raise InputOptionError(
            f"{source.path}: {why}give the dtype of its ids with dtype= "
            f"({', '.join(HEADERLESS_DTYPES)})"
        )
    return TokenLayout(source.path, dtype, 0, n_ids(source, dtype))


def dtype_by_end(
    source: Source,
    index: Path,
    end: int,
    by_size: dict[int, np.dtype[Any]],
    given: np.dtype[Any] | None,
) -> np.dtype[Any]:
    """The dtype of a headerless file whose last document ends at token `end`, as its index says.

    Raises
    ------
    CorpusError
        If that does not fit the size of the file, or the dtype that was given.
    """
    if end == source.size == 0:  # without a token any dtype will do
        return given or by_size[2]
    size = source.size // end if end else 0
    if size not in by_size or size * end != source.size:
        raise DamagedFileError(
            f"{index}: its last document ends at token {end}, which does not fit the "
            f"{source.size} bytes of {source.path.name}"
        )
    check_given(source, index, by_size[size], given)
    return by_size[size]


def check_given(
    source: Source, teller: Path, told: np.dtype[Any], given: np.dtype[Any] | None
) -> None:
    """Raises `InputOptionError` if the dtype given is not as wide as a side file tells."""
    if given is not None and given.itemsize != told.itemsize:
        raise InputOptionError(
            f"{source.path}: dtype= says {given.name}, but {teller.name} says {told.itemsize} "
            "bytes per id"
        )


def n_ids(source: Source, dtype: np.dtype[Any]) -> int:
    """How many ids of `dtype` a headerless file holds."""
    if source.size % dtype.itemsize:
        raise DamagedFileError(
            f"{source.path}: {source.size} bytes are not a whole number of {dtype.name} ids; "
            "is the file cut off, or the dtype wrong?"
        )
    return source.size // dtype.itemsize


def batches_of(
    ends: npt.NDArray[np.int64], start: int, batch_tokens: int
) -> Iterator[tuple[int, int]]:
    """Ranges of documents of about `batch_tokens` tokens; the first document begins at `start`."""
    low = 0
    while low < len(ends):
        high = max(int(np.searchsorted(ends, start + batch_tokens, side="right")), low + 1)
        yield low, high
        low, start = high, int(ends[high - 1])


def sampled(layout: TokenLayout) -> list[npt.NDArray[Any]]:
    """Ids from the beginning, the middle and the end of a file."""
    ranges = sampled_ranges(layout.n_tokens)
    return [_native(_map(replace(layout, fortran=False), at, at + n)) for at, n in ranges]


def read_ids(path: Path, dtype: np.dtype[Any], offset: int, count: int) -> npt.NDArray[Any]:
    """`count` values from byte `offset` of a file, copied, or mapped if they are very many.

    A mapping would end the process if the file became shorter, and saves no time.
    """
    size = count * dtype.itemsize
    if size > _MOST_COPIED:
        return map_ids(path, dtype, offset, count)
    data = np.empty(size, dtype=np.uint8)
    done = 0
    with reading(path), path.open("rb", buffering=0) as file:
        file.seek(offset)
        while done < size:
            got = file.readinto(data[done:])  # type: ignore[arg-type]
            if not got:
                end = file.seek(0, 2)
                raise DamagedFileError(
                    f"{path}: ends at byte {end}, {offset + size - end} bytes too early; has it "
                    "become shorter?"
                )
            done += got
    return data.view(dtype)


def map_ids(path: Path, dtype: np.dtype[Any], offset: int, count: int) -> npt.NDArray[Any]:
    """`count` values from byte `offset` of a file, mapped; the mapping ends with the array."""
    if count == 0:
        return np.empty(0, dtype=dtype)
    try:
        with reading(path):
            mapped = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=count)
    except ValueError as error:  # the file has become shorter
        raise DamagedFileError(f"{path}: {line_of(error, 200)}") from None
    ids: npt.NDArray[Any] = mapped.view(np.ndarray)
    return ids


def _check_eod(eod: int | None, dtype: np.dtype[Any]) -> int | None:
    """`eod` if an id of the dtype can have this value."""
    if eod is None:
        return None
    bounds = np.iinfo(dtype)
    if not 0 <= eod <= bounds.max:
        raise ArgumentError(f"eod must be from 0 to {bounds.max} for {dtype.name} ids, not {eod}")
    return int(eod)


def _map(layout: TokenLayout, start: int, stop: int) -> npt.NDArray[Any]:
    """The ids from `start` to `stop`."""
    size = layout.dtype.itemsize
    if not layout.fortran or layout.row is None:
        return read_ids(layout.path, layout.dtype, layout.offset + start * size, stop - start)
    # Column order: documents are not contiguous in the file, so they are copied.
    ids = map_ids(layout.path, layout.dtype, layout.offset, layout.n_tokens)
    first, last = start // layout.row, -(-stop // layout.row)
    rows = ids.reshape(layout.row, -1).T[first:last]
    return np.ascontiguousarray(rows).reshape(-1)[start - first * layout.row :][: stop - start]


def _native(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The ids in native byte order and aligned, copied only if they are not."""
    return np.require(ids, dtype=ids.dtype.newbyteorder("="), requirements=["C", "A"])
