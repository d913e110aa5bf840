"""Columns of lists of ids, or of text: what Parquet, Arrow and data sets share."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    Locations,
    Position,
    Problems,
    Reader,
    location,
    reading,
)
from radscore.corpus.records import (
    Fields,
    NoTokenizerError,
    ValueColumn,
    missing_field,
    needs_tokenizer,
)
from radscore.documents import Documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus.format import Source

__all__ = ["MAX_ROWS", "ColumnReader", "MappedFile", "first_groups", "open_arrow"]

#: Rows of a batch, at most.
MAX_ROWS = 1 << 16
# So many mapped bytes may stay in memory after they were read.
_GIVE_BACK = 1 << 26


class ColumnReader(Reader):
    """Makes chunks of record batches; a subclass reads these."""

    def __init__(self, source: Source, fields: Fields | None, problems: Problems) -> None:
        self._source = source
        self._named = fields
        self._problems = problems

    @property
    def fields(self) -> Fields:
        """The fields to read; a reader without them only tells names."""
        if self._named is None:
            raise AssertionError("a reader of columns without fields")
        return self._named

    def _check_names(self, available: list[str]) -> None:
        for name in self.fields.names:
            if name not in available:
                reason = missing_field(name, available)
                raise DamagedFileError(f"{self._source.path}: {reason}")
            if available.count(name) > 1:
                raise DamagedFileError(f"{self._source.path}: two columns are named {name!r}")

    def _chunk(self, batch: Any, first_row: int, position: Position, bytes_read: int) -> Chunk:
        """The documents of a record batch whose first row is `first_row` of the file."""
        import pyarrow as pa

        columns = [batch.column(name) for name in self.fields.names]
        with reading(self._source.path):
            for column in columns:
                column.validate(full=True)  # or wrong offsets would be read blindly
            columns = [_readable(column) for column in columns]
        numbers = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)
        kept = np.ones(batch.num_rows, dtype=bool)
        for name, column in zip(self.fields.names, columns, strict=True):
            for row, reason in self._flaws(column, name):
                if kept[row]:
                    kept[row] = False
                    where = location(self._source.path, first_row + row, "row")
                    self._problems.record(where, reason)
        if not kept.all():
            mask = pa.array(kept)
            columns = [column.filter(mask) for column in columns]
            numbers = numbers[kept]
        documents = [self._documents(column) for column in columns]
        prompts = None if self.fields.prompt is None else documents[-1]
        locations = Locations(self._source.path, numbers, "row")
        from_text = not pa.types.is_large_list(columns[0].type)
        return Chunk(documents[0], prompts, locations, position, bytes_read, from_text)

    def _flaws(self, column: Any, name: str) -> Iterator[tuple[int, str]]:
        """Rows that cannot be read, and their flaws."""
        import pyarrow as pa

        encoder = self.fields.encoder
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            if encoder is None and len(column):
                raise NoTokenizerError(f"{self._source.path}: {needs_tokenizer(name)}")
            for row in _null_rows(column):
                yield row, f"field {name!r} is null"
            return
        if not (
            pa.types.is_large_list(column.type) and pa.types.is_integer(column.type.value_type)
        ):
            raise DamagedFileError(
                f"{self._source.path}: column {name!r} must hold text or lists of integers, "
                f"not {column.type}"
            )
        for row in _null_rows(column):
            yield row, f"field {name!r} is null"
        if column.flatten().null_count:
            for row, value in enumerate(column):
                if value.is_valid and value.values.null_count:
                    index = value.values.is_null().to_pylist().index(True)
                    yield row, f"token id {index} of field {name!r} is null"

    def _documents(self, column: Any) -> Documents:
        import pyarrow as pa

        if pa.types.is_large_list(column.type):
            if len(column) == 0:
                return Documents(np.empty(0, np.uint32), np.zeros(1, np.int64))
            return Documents.of(column)
        texts = ValueColumn(self.fields.encoder)
        for text in column.to_pylist():
            texts.add(text)
        return texts.documents()


def _null_rows(column: Any) -> npt.NDArray[Any]:
    if not column.null_count:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))


def _readable(column: Any) -> Any:
    """`column` as text or as large lists of integers; unchanged if it is neither."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _readable(column.dictionary_decode())
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    if is_list and pa.types.is_integer(kind.value_type):
        return column.cast(pa.large_list(kind.value_type))
    return column


def first_groups(groups: list[tuple[int, int]], number: int) -> Iterator[tuple[int, int]]:
    """Divides groups of so many bytes and rows into about `number` even shards.

    Gives the first group of each shard but the first, and the rows before it.
    """
    total = max(sum(n_bytes for n_bytes, _ in groups), 1)
    bytes_before = rows_before = shard = 0
    for group, (n_bytes, n_rows) in enumerate(groups):
        at = bytes_before * number // total
        if at > shard:
            yield group, rows_before
            shard = at
        bytes_before += n_bytes
        rows_before += n_rows


class MappedFile:
    """A file, or a range of its bytes, mapped; what was passed leaves the process's memory.

    A page that was given back is read again from the file if it is still in use.
    """

    def __init__(self, path: Path, begin: int, size: int) -> None:
        with reading(path), path.open("rb") as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise DamagedFileError(f"{path}: {error}") from None
        self._range = (begin, size)
        self._passed = 0

    def stream(self) -> Any:
        """The range as a pyarrow file."""
        import pyarrow as pa

        begin, size = self._range
        return pa.BufferReader(pa.py_buffer(self._map).slice(begin, size))

    def passed(self, size: int) -> None:
        """Counts bytes that were read, and gives back their pages now and then."""
        self._passed += size
        if self._passed >= _GIVE_BACK and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._passed = 0


def open_arrow(stream: Any) -> Any:
    """A reader of the file or of the stream format, whichever it is."""
    import pyarrow as pa

    head = stream.read(6)
    stream.seek(0)
    return pa.ipc.open_file(stream) if head == b"ARROW1" else pa.ipc.open_stream(stream)
