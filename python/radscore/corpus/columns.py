"""Parquet and Arrow IPC: columns of lists of ids, or of text."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus._base import (
    Chunk,
    DamagedFileError,
    InputOptionError,
    Position,
    Problems,
    Where,
    damage_named,
)
from radscore.corpus.records import Fields, ValueColumn, flaw_without_encoder, missing_field
from radscore.documents import Documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.sources import Source

__all__ = ["ArrowReader", "ParquetReader", "column_names"]

_MAX_ROWS = 1 << 16


class _NoTokenizerError(DamagedFileError, InputOptionError):
    """A file cannot be read, because a tokenizer is missing."""


class _ColumnReader:
    """From record batches to chunks; what Parquet and Arrow files share."""

    def __init__(self, source: Source, fields: Fields, problems: Problems) -> None:
        self._source = source
        self._fields = fields
        self._problems = problems

    def _check_names(self, available: list[str]) -> None:
        for name in self._fields.names:
            if name not in available:
                reason = missing_field(name, available)
                raise DamagedFileError(f"{self._source.path}: {reason}")
            if available.count(name) > 1:
                raise DamagedFileError(f"{self._source.path}: two columns are named {name!r}")

    def _chunk(self, batch: Any, first_row: int, position: Position, bytes_read: int) -> Chunk:
        """The documents of a record batch whose first row is `first_row` of the file."""
        import pyarrow as pa

        columns = [batch.column(name) for name in self._fields.names]
        with damage_named(self._source.path):
            for column in columns:
                column.validate(full=True)  # offsets that lie would be read blindly
            columns = [_readable(column) for column in columns]
        numbers = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)
        kept = np.ones(batch.num_rows, dtype=bool)
        for name, column in zip(self._fields.names, columns, strict=True):
            for row, reason in self._flaws(column, name):
                if kept[row]:
                    kept[row] = False
                    place = f"{self._source.path}:row {first_row + row}"
                    self._problems.record(place, reason)
        if not kept.all():
            mask = pa.array(kept)
            columns = [column.filter(mask) for column in columns]
            numbers = numbers[kept]
        documents = [self._documents(column) for column in columns]
        prompts = None if self._fields.prompt is None else documents[-1]
        where = Where(self._source.path, numbers, "row")
        from_text = not pa.types.is_large_list(columns[0].type)
        return Chunk(documents[0], prompts, where, position, bytes_read, from_text)

    def _flaws(self, column: Any, name: str) -> Iterator[tuple[int, str]]:
        """Rows that cannot be read, and why."""
        import pyarrow as pa

        encoder = self._fields.encoder
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            if encoder is None and len(column):
                raise _NoTokenizerError(f"{self._source.path}: {flaw_without_encoder(name)}")
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
        texts = ValueColumn(self._fields.encoder)
        for text in column.to_pylist():
            texts.add(text)
        return texts.documents()


def _null_rows(column: Any) -> npt.NDArray[Any]:
    if not column.null_count:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))


def _readable(column: Any) -> Any:
    """`column` as text or as large lists of integers; as it is where it is neither."""
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


class ParquetReader(_ColumnReader):
    """Reads one row group after the other, and only the columns it needs."""

    def chunks(self, position: Position) -> Iterator[Chunk]:
        """The documents after `position` (``row`` rows of row group ``group``)."""
        import pyarrow.parquet as pq

        path = self._source.path
        with ExitStack() as stack:
            with damage_named(path):
                file = stack.enter_context(pq.ParquetFile(path))
            self._check_names(file.schema_arrow.names)
            metadata = file.metadata
            base = 0
            bytes_read = 0
            for group in range(metadata.num_row_groups):
                n_rows = metadata.row_group(group).num_rows
                start = position.get("row", 0) if group == position.get("group", 0) else 0
                share = self._source.size * (group + 1) // metadata.num_row_groups
                if group >= position.get("group", 0):
                    for batch, row in self._batches(file, group, start):
                        after = {"group": group, "row": row + batch.num_rows}
                        bytes_read = share if after["row"] == n_rows else bytes_read
                        yield self._chunk(batch, base + row, after, bytes_read)
                base += n_rows

    def _batches(self, file: Any, group: int, start: int) -> Iterator[tuple[Any, int]]:
        """Record batches of one row group after its first `start` rows, and their first rows."""
        path = self._source.path
        n_rows = file.metadata.row_group(group).num_rows
        with damage_named(path):
            batches = file.iter_batches(
                batch_size=self._rows_a_batch(file, group),
                row_groups=[group],
                columns=self._fields.names,
            )
        row = 0
        while True:
            with damage_named(path):
                batch = next(batches, None)
            if batch is None:
                break
            end = row + batch.num_rows
            if end > start:
                cut = max(start - row, 0)
                yield batch.slice(cut), row + cut
            row = end
        if row != n_rows:
            raise DamagedFileError(f"{path}: row group {group} has {row} rows, not {n_rows}")

    def _rows_a_batch(self, file: Any, group: int) -> int:
        """About `batch_tokens` tokens of rows, by the sizes that the file states."""
        metadata = file.metadata.row_group(group)
        wanted = tuple(self._fields.names)
        size = sum(
            metadata.column(i).total_uncompressed_size
            for i in range(metadata.num_columns)
            if metadata.column(i).path_in_schema.split(".")[0] in wanted
        )
        rows = self._fields.batch_tokens * 4 * max(metadata.num_rows, 1) // max(size, 1)
        return int(min(max(rows, 1), _MAX_ROWS))


class ArrowReader(_ColumnReader):
    """Reads Arrow IPC, both the file and the stream format, memory-mapped."""

    def chunks(self, position: Position) -> Iterator[Chunk]:
        """The documents after `position` (record batch ``group``, ``rows`` rows before it)."""
        import pyarrow as pa

        path = self._source.path
        if self._source.size == 0:
            raise DamagedFileError(f"{path}: the file is empty")
        with ExitStack() as stack:
            with damage_named(path):
                mapped = stack.enter_context(pa.memory_map(str(path)))
                reader = stack.enter_context(open_arrow(mapped))
            self._check_names(reader.schema.names)
            first, base = position.get("group", 0), position.get("rows", 0)
            for group, batch in enumerate(self._batches(reader)):
                if group >= first:
                    after = {"group": group + 1, "rows": base + batch.num_rows}
                    yield self._chunk(batch, base, after, mapped.tell())
                    base = after["rows"]

    def _batches(self, reader: Any) -> Iterator[Any]:
        if hasattr(reader, "num_record_batches"):
            for group in range(reader.num_record_batches):
                with damage_named(self._source.path):
                    batch = reader.get_batch(group)
                yield batch
            return
        while True:
            try:
                with damage_named(self._source.path):
                    batch = reader.read_next_batch()
            except StopIteration:
                return
            yield batch


def open_arrow(mapped: Any) -> Any:
    """A reader of the file or of the stream format, whichever it is."""
    import pyarrow as pa

    head = mapped.read(6)
    mapped.seek(0)
    return pa.ipc.open_file(mapped) if head == b"ARROW1" else pa.ipc.open_stream(mapped)


def column_names(source: Source) -> list[str]:
    """The names of a file's columns.

    Raises
    ------
    DamagedFileError
        If it is not a Parquet or Arrow file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with damage_named(source.path):
        if source.format == "parquet":
            return list(pq.read_schema(source.path).names)
        if source.size == 0:
            raise DamagedFileError(f"{source.path}: the file is empty")
        with pa.memory_map(str(source.path)) as mapped, open_arrow(mapped) as reader:
            return list(reader.schema.names)
