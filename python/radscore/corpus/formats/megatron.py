"""Megatron-LM's, NeMo's and GPT-NeoX's pairs of `.bin` and `.idx`.

The index begins with its magic, a version, the code of a dtype, S sequences and D + 1 document
indices; then int32 lengths of the sequences in tokens, int64 offsets of the sequences in bytes, and
int64 numbers of the sequence that each document begins with; maybe an int8 mode of each sequence, 0
for text and 1 for images. A document may have many sequences, which may lie anywhere in the `.bin`;
bytes that are in no sequence, and images, are not read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

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
    with_others,
)
from radscore.corpus.dtypes import SAMPLE
from radscore.corpus.format import Known, Scale
from radscore.corpus.readers.ids import (
    MAX_DOCUMENTS,
    IdFormat,
    TokenLayout,
    batches_of,
    read_ids,
    sampled,
)
from radscore.documents import Documents
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from radscore.corpus.base import Problems
    from radscore.corpus.format import Options, Source

__all__ = ["FORMAT", "MegatronIndex", "MegatronReader", "megatron_index"]

_MAGIC = b"MMIDIDX\0\0"
_LEGACY = b"TNTIDX\0\0"
_HEADER = 34
#: The dtype codes of index files; there is none for uint32.
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    8: np.dtype("<u2"),
}
# Sequences of which lengths and offsets are read at once.
_MAX_SEQUENCES = 1 << 18
# So many sequences that lie in no order are compared with each other.
_MAX_SORTED = 1 << 24
# So many bytes after the last sequence tell whether they only pad the file.
_PADDING = 1 << 16


class Megatron(IdFormat):
    """Ids in sequences and documents, as an index lists them; named by file, index or prefix."""

    name = "megatron"
    title = "Megatron-LM, NeMo, GPT-NeoX"
    files = "`.bin` with `.idx`"
    content = "ids of the index's dtype; give the `.bin`, the `.idx` or their prefix"
    documents = "by the index; a document may have many sequences"
    remarks = "the index must end where its file does; images of multimodal data are left out"

    suffixes = (".bin",)
    suffix_suffices = False
    side_names = ("{stem}.idx",)

    def recognises(self, path: Path, head: bytes) -> bool:  # noqa: ARG002 - ids may be anything
        """By the index."""
        return self.side_files(path)[0].exists()

    def data_file(self, path: Path) -> Path | None:
        """The `.bin` of an index, or of the prefix by which Megatron's tools name a pair."""
        if os.path.lexists(path):
            return path.with_suffix(".bin") if path.suffix == ".idx" else None
        data, index = (path.with_name(f"{path.name}{suffix}") for suffix in (".bin", ".idx"))
        return data if data.is_file() and index.is_file() else None

    def known(self, source: Source, options: Options) -> Known:  # noqa: ARG002 - the index tells
        """Both, exactly; the lengths of all sequences are added up."""
        index = megatron_index(source)
        return Known(index.n_tokens, index.n_documents)

    def notes(self, sources: Sequence[Source], options: Options) -> tuple[str, ...]:  # noqa: ARG002
        """What is not read (images, and bytes that are in no sequence), and what is read twice.

        Damaged files are left to their readers.
        """
        twice = "; they are read as often as they are listed"
        found: dict[str, list[str]] = {
            "": [],
            "; is this the index of another file?": [],
            twice: [],
        }
        images, gaps, overlaps = found.values()
        for source in sources:
            try:
                index = megatron_index(source)
                if n_images := index.n_images():
                    images.append(
                        f"{index.path}: {n_images} of its {index.n_sequences} sequences are images "
                        "(their mode is not 0) and are not read"
                    )
                if n_shared := index.n_overlapping():
                    overlaps.append(
                        f"{index.path}: {n_shared} of its {index.n_sequences} sequences begin "
                        "within another one, or are listed twice"
                    )
                if index.last_byte() != source.size:
                    rest = source.size - index.extent()[0] * index.dtype.itemsize
                    if rest > 0:
                        gaps.append(
                            f"{index.path}: {rest} of the {source.size} bytes of "
                            f"{source.path.name} are in no sequence and are not read"
                        )
            except CorpusError:
                continue
        return tuple(with_others(notes, end) for end, notes in found.items() if notes)

    def sample(self, source: Source, options: Options) -> list[npt.NDArray[Any]]:  # noqa: ARG002
        """From three points of the file; of a file with images, its first texts."""
        index = megatron_index(source)
        if not index.has_modes:
            n_ids = source.size // index.dtype.itemsize
            return sampled(TokenLayout(source.path, index.dtype, 0, n_ids))
        chunks = MegatronReader(source, SAMPLE).chunks({})
        return [chunk.documents.values[:SAMPLE] for chunk in islice(chunks, 1)]

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:  # noqa: ARG002
        """Reads the index, and maps the ids."""
        return MegatronReader(source, options.batch_tokens)

    def scale(self, source: Source, options: Options) -> Scale | None:  # noqa: ARG002
        """Documents."""
        return Scale("document", megatron_index(source).n_documents)


FORMAT = Megatron()


@dataclass(frozen=True)
class MegatronIndex:
    """What an index says of its `.bin`; its arrays stay in the file and are mapped when read."""

    path: Path
    dtype: np.dtype[Any]
    n_sequences: int
    n_documents: int
    has_modes: bool

    def is_image(self, first: int, last: int) -> npt.NDArray[np.bool_]:
        """Whether each of some sequences is something else than text."""
        if not self.has_modes:
            return np.zeros(last - first, dtype=bool)
        before = _HEADER + 12 * self.n_sequences + 8 * (self.n_documents + 1)
        modes = read_ids(self.path, np.dtype("i1"), before + first, last - first)
        return modes.astype(np.bool_)

    def n_images(self) -> int:
        """Sequences that are not text; reads all modes."""
        if not self.has_modes:
            return 0
        return sum(int(self.is_image(*block).sum()) for block in self._blocks())

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """All sequences, block by block."""
        for first in range(0, self.n_sequences, _MAX_SEQUENCES):
            yield first, min(first + _MAX_SEQUENCES, self.n_sequences)

    def lengths(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Tokens of each of some sequences."""
        found = read_ids(self.path, np.dtype("<i4"), _HEADER + 4 * first, last - first)
        return found.astype(np.int64)

    def offsets(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """First byte of each of some sequences."""
        before = _HEADER + 4 * self.n_sequences
        return read_ids(self.path, np.dtype("<i8"), before + 8 * first, last - first).astype(
            np.int64
        )

    def firsts(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Number of the first sequence of some documents; the documents end with one more."""
        before = _HEADER + 12 * self.n_sequences
        return read_ids(self.path, np.dtype("<i8"), before + 8 * first, last - first).astype(
            np.int64
        )

    @property
    def n_tokens(self) -> int:
        """Tokens of all texts; reads the lengths of all sequences."""
        return sum(
            int(self.lengths(*block)[~self.is_image(*block)].sum()) for block in self._blocks()
        )

    def extent(self) -> tuple[int, int]:
        """Values of all sequences, also of images, and the byte after the one that ends last."""
        n_tokens, end = 0, 0
        for first, last in self._blocks():
            lengths = self.lengths(first, last)
            n_tokens += int(lengths.sum())
            end = max(end, int((self.offsets(first, last) + lengths * self.dtype.itemsize).max()))
        return n_tokens, end

    def n_overlapping(self) -> int:
        """Sequences that begin before one ends that begins no later."""
        end, ordered = 0, True
        for first, last in self._blocks():
            starts = self.offsets(first, last)
            ends = starts + self.lengths(first, last) * self.dtype.itemsize
            before = np.concatenate(([end], ends[:-1]))
            if (starts < before).any():
                ordered = False
                break
            end = int(ends[-1])
        if ordered or self.n_sequences > _MAX_SORTED:
            return 0
        starts = self.offsets(0, self.n_sequences)
        ends = starts + self.lengths(0, self.n_sequences) * self.dtype.itemsize
        some = np.flatnonzero(ends > starts)
        order = some[np.argsort(starts[some], kind="stable")]
        furthest = np.maximum.accumulate(ends[order])
        return int((starts[order][1:] < furthest[:-1]).sum())

    def last_byte(self) -> int:
        """The byte after the sequence that the index lists last; usually the end of the file."""
        if self.n_sequences == 0:
            return 0
        last = self.n_sequences - 1, self.n_sequences
        return int(self.offsets(*last)[0]) + int(self.lengths(*last)[0]) * self.dtype.itemsize


def megatron_index(source: Source) -> MegatronIndex:
    """Reads the header of an index and checks it against the sizes of both files.

    Raises
    ------
    CorpusError
        If there is no index, it is damaged, holds no integers, or belongs to another file.
    """
    path = FORMAT.side_files(source.path)[0]
    if path not in source.sides:
        raise InputOptionError(f"{source.path}: format 'megatron' needs {path.name} beside it")
    with reading(path), path.open("rb") as file:
        head = file.read(_HEADER)
        size = file.seek(0, 2)
    if not head.startswith(_MAGIC):
        old = " (the TNTIDX format used until 2020 is not supported)"
        raise DamagedFileError(
            f"{path}: not a Megatron index{old if head.startswith(_LEGACY) else ''}; to read "
            f"{source.path.name} without it give format='bin'"
        )
    if len(head) < _HEADER:
        raise DamagedFileError(f"{path}: cut off inside its header, after {len(head)} bytes")
    version = int.from_bytes(head[9:17], "little")
    if version != 1:
        raise DamagedFileError(f"{path}: index version {version}; only version 1 is supported")
    dtype = _DTYPES.get(head[17])
    if dtype is None:
        raise DamagedFileError(
            f"{path}: dtype code {head[17]} is not an integer type; known are "
            f"{', '.join(f'{code} ({kind.name})' for code, kind in _DTYPES.items())}"
        )
    sequences, indices = (int.from_bytes(head[i : i + 8], "little") for i in (18, 26))
    expected = _HEADER + 12 * sequences + 8 * indices
    if size not in (expected, expected + sequences) or indices < 1:
        raise DamagedFileError(
            f"{path}: its header says {sequences} sequences and {indices} document indices, which "
            f"is {expected} bytes, but it has {size}; is it cut off?"
        )
    has_modes = size != expected
    index = MegatronIndex(path, dtype, sequences, indices - 1, has_modes)
    _check_ends(index, source)
    return index


def _check_ends(index: MegatronIndex, source: Source) -> None:
    """Raises if the index ends outside its file. Readers check every sequence."""
    total = index.n_sequences
    firsts = index.firsts(0, 1), index.firsts(index.n_documents, index.n_documents + 1)
    if firsts[0][0] != 0 or firsts[1][0] != total:
        raise DamagedFileError(
            f"{index.path}: its documents run from sequence {firsts[0][0]} to {firsts[1][0]}, but "
            f"there are {total}"
        )
    end = index.last_byte()
    if end > source.size or (end < source.size and _is_of_another(index, source)):
        raise DamagedFileError(
            f"{index.path}: its last sequence ends at byte {end}, but {source.path.name} has "
            f"{source.size}; is this the index of another file?"
        )


def _is_of_another(index: MegatronIndex, source: Source) -> bool:
    """Whether a file holds more than its index lists, as if its ids were of another size.

    Zeros after the last sequence only pad the file.
    """
    n_tokens, end = index.extent()
    sizes = {kind.itemsize for kind in _DTYPES.values()} - {index.dtype.itemsize}
    if n_tokens and not any(n_tokens * size == source.size for size in sizes):
        return False
    rest = min(source.size - end, _PADDING)
    return rest > 0 and bool(read_ids(source.path, np.dtype(np.uint8), end, rest).any())


class MegatronReader(Reader):
    """Reads the documents of an index; only sequences that do not lie back to back are copied."""

    def __init__(self, source: Source, batch_tokens: int) -> None:
        self._source = source
        self._index = megatron_index(source)
        self._batch_tokens = batch_tokens

    def edges(self, size: int) -> Iterator[Position]:
        """Documents (``document``)."""
        documents = even_edges(self._index.n_documents, n_shards(self._source.size, size))
        return ({"document": document} for document in documents)

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents after `position` (``document`` documents)."""
        index, path = self._index, self._source.path
        first = position.get("document", 0)
        n_documents = index.n_documents if end is None else end["document"]
        while first < n_documents:
            last = min(first + MAX_DOCUMENTS, n_documents)
            firsts = index.firsts(first, last + 1)
            self._check_order(firsts, first)
            # Few enough sequences; a document is never cut.
            few = int(np.searchsorted(firsts, firsts[0] + _MAX_SEQUENCES, side="right")) - 1
            firsts = firsts[: max(few, 1) + 1]
            begin = int(firsts[0])
            lengths = index.lengths(begin, int(firsts[-1]))
            starts = index.offsets(begin, int(firsts[-1]))
            self._check_sequences(lengths, starts, begin)
            lengths[index.is_image(begin, int(firsts[-1]))] = 0
            ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
            offsets = ends[firsts - begin]
            for low, high in batches_of(offsets[1:], 0, self._batch_tokens):
                used = slice(int(firsts[low]) - begin, int(firsts[high]) - begin)
                values, byte = self._values(lengths[used], starts[used])
                documents = Documents(values, offsets[low : high + 1] - offsets[low])
                numbers = np.arange(first + low, first + high, dtype=np.int64)
                locations = Locations(path, numbers, "document")
                yield Chunk(documents, None, locations, {"document": first + high}, byte)
            first += len(firsts) - 1

    def _check_order(self, firsts: npt.NDArray[np.int64], document: int) -> None:
        wrong = np.flatnonzero((firsts[1:] < firsts[:-1]) | (firsts[1:] > self._index.n_sequences))
        if len(wrong):
            i = int(wrong[0])
            raise DamagedFileError(
                f"{self._index.path}: document {document + i} runs from sequence {firsts[i]} to "
                f"{firsts[i + 1]} of {self._index.n_sequences}"
            )

    def _check_sequences(
        self, lengths: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], sequence: int
    ) -> None:
        size, total = self._index.dtype.itemsize, self._source.size
        wrong = np.flatnonzero(
            (lengths < 0) | (starts < 0) | (starts > total - lengths * size) | (starts % size != 0)
        )
        if len(wrong):
            i = int(wrong[0])
            raise DamagedFileError(
                f"{self._index.path}: sequence {sequence + i} has {lengths[i]} tokens from byte "
                f"{starts[i]}, but {self._source.path.name} has {total} bytes"
            )

    def _values(
        self, lengths: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[Any], int]:
        """The ids of some sequences one after the other, and the byte after the last."""
        dtype = self._index.dtype
        some = np.flatnonzero(lengths)
        if len(some) == 0:
            return np.empty(0, dtype), 0
        starts, stops = starts[some], starts[some] + lengths[some] * dtype.itemsize
        breaks = np.flatnonzero(starts[1:] != stops[:-1]) + 1
        runs = []
        for low, high in zip([0, *breaks], [*breaks, len(some)], strict=True):
            begin, end = int(starts[low]), int(stops[high - 1])
            runs.append(read_ids(self._source.path, dtype, begin, (end - begin) // dtype.itemsize))
        return (runs[0] if len(runs) == 1 else np.concatenate(runs)), int(stops[-1])
