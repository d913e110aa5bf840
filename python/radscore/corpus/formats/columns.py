"""Parquet and Arrow IPC: columns of lists of ids, or of text."""

from __future__ import annotations

import mmap
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    InputOptionError,
    Position,
    Problems,
    Reader,
    Where,
    count_parts,
    damage_named,
)
from radscore.corpus.records import Fields, ValueColumn, flaw_without_encoder, missing_field
from radscore.documents import Documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus.sources import Source

__all__ = [
    "MAX_ROWS",
    "ArrowReader",
    "ColumnReader",
    "MappedFile",
    "ParquetReader",
    "column_names",
    "open_arrow",
    "parquet_counts",
]

MAX_ROWS = 1 << 16
_BUFFER = 1 << 20
# Mapped bytes that may stay in memory after they were read.
_GIVE_BACK = 1 << 26


class _NoTokenizerError(DamagedFileError, InputOptionError):
    """A file cannot be read, because a tokenizer is missing."""


class ColumnReader(Reader):
    """From record batches to chunks; what Parquet, Arrow files and data sets share."""

    #: End-of-document ids inside of a row are not looked for here.
    cuts = False
    sound = False

    def __init__(self, source: Source, fields: Fields | None, problems: Problems) -> None:
        self._source = source
        self._named = fields
        self._problems = problems

    @property
    def fields(self) -> Fields:
        """The fields to read; a reader without is for looking at names only."""
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
        with damage_named(self._source.path):
            for column in columns:
                column.validate(full=True)  # offsets that lie would be read blindly
            columns = [_readable(column) for column in columns]
        numbers = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)
        kept = np.ones(batch.num_rows, dtype=bool)
        for name, column in zip(self.fields.names, columns, strict=True):
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
        prompts = None if self.fields.prompt is None else documents[-1]
        where = Where(self._source.path, numbers, "row")
        from_text = not pa.types.is_large_list(columns[0].type)
        return Chunk(documents[0], prompts, where, position, bytes_read, from_text)

    def _flaws(self, column: Any, name: str) -> Iterator[tuple[int, str]]:
        """Rows that cannot be read, and why."""
        import pyarrow as pa

        encoder = self.fields.encoder
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
        texts = ValueColumn(self.fields.encoder)
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


def _first_of_each(groups: list[tuple[int, int]], n_parts: int) -> Iterator[tuple[int, int]]:
    """Divides groups of so many bytes and rows evenly: where parts meet, and the rows before."""
    total = max(sum(n_bytes for n_bytes, _ in groups), 1)
    bytes_before = rows_before = part = 0
    for group, (n_bytes, n_rows) in enumerate(groups):
        at = bytes_before * n_parts // total
        if at > part:
            yield group, rows_before
            part = at
        bytes_before += n_bytes
        rows_before += n_rows


class ParquetReader(ColumnReader):
    """Reads one row group after the other, and only the columns it needs."""

    def edges(self, size: int) -> Iterator[Position]:
        """Row groups (``group``), by their shares of what the file holds unpacked."""
        import pyarrow.parquet as pq

        with damage_named(self._source.path):
            metadata = pq.read_metadata(self._source.path)
        groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
        sizes = [(group.total_byte_size, group.num_rows) for group in groups]
        n_parts = count_parts(self._source.size, size)
        return ({"group": group, "row": 0} for group, _ in _first_of_each(sizes, n_parts))

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents after `position` (``row`` rows of row group ``group``)."""
        import pyarrow.parquet as pq

        path = self._source.path
        with ExitStack() as stack:
            with damage_named(path):
                # Pages one after the other, not all of a row group before its first row.
                file = stack.enter_context(
                    pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
                )
            self._check_names(file.schema_arrow.names)
            metadata = file.metadata
            base = 0
            bytes_read = 0
            for group in range(metadata.num_row_groups if end is None else end["group"]):
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
                columns=self.fields.names,
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
        wanted = tuple(self.fields.names)
        size = sum(
            metadata.column(i).total_uncompressed_size
            for i in range(metadata.num_columns)
            if metadata.column(i).path_in_schema.split(".")[0] in wanted
        )
        rows = self.fields.batch_tokens * 4 * max(metadata.num_rows, 1) // max(size, 1)
        return int(min(max(rows, 1), MAX_ROWS))


class ArrowReader(ColumnReader):
    """Reads Arrow IPC, both the file and the stream format, memory-mapped."""

    def edges(self, size: int) -> Iterator[Position]:
        """Record batches (``group``, ``rows`` rows before it), by their packed sizes."""
        import pyarrow as pa

        sizes = []
        with self._opened() as (mapped, _, reader), damage_named(self._source.path):
            for message in _batch_messages(mapped.stream(), reader):
                # To come to a batch of a packed stream, all before it must be unpacked.
                if _is_stream(reader) and _is_packed(message):
                    return
                no_columns = pa.ipc.read_record_batch(message, pa.schema([]))
                sizes.append((message.body.size, no_columns.num_rows))
        for group, rows in _first_of_each(sizes, count_parts(self._source.size, size)):
            yield {"group": group, "rows": rows}

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents after `position` (record batch ``group``, ``rows`` rows before it)."""
        with self._opened() as (mapped, stream, reader):
            self._check_names(reader.schema.names)
            first, base = position.get("group", 0), position.get("rows", 0)
            for group, batch in self._batches(reader, first):
                if end is not None and group == end["group"]:
                    return
                if group >= first:
                    after = {"group": group + 1, "rows": base + batch.num_rows}
                    yield self._chunk(batch, base, after, self._bytes()[0] + stream.tell())
                    base = after["rows"]
                mapped.passed(batch.get_total_buffer_size())

    @contextmanager
    def _opened(self) -> Iterator[tuple[MappedFile, Any, Any]]:
        """The file as it is mapped, as pyarrow's, and its reader."""
        path = self._source.path
        if self._source.size == 0:
            raise DamagedFileError(f"{path}: the file is empty")
        mapped = MappedFile(path, *self._bytes())
        with ExitStack() as stack:
            with damage_named(path):
                stream = stack.enter_context(mapped.stream())
                reader = stack.enter_context(open_arrow(stream))
            yield mapped, stream, reader

    def _bytes(self) -> tuple[int, int]:
        """First byte and size of the Arrow file."""
        return 0, self._source.size

    def _batches(self, reader: Any, first: int) -> Iterator[tuple[int, Any]]:
        """Record batches and their numbers: of a file from `first`, of a stream all."""
        if not _is_stream(reader):
            for group in range(first, reader.num_record_batches):
                with damage_named(self._source.path):
                    batch = reader.get_batch(group)
                yield group, batch
            return
        for group in count():
            try:
                with damage_named(self._source.path):
                    batch = reader.read_next_batch()
            except StopIteration:
                return
            yield group, batch


def _is_stream(reader: Any) -> bool:
    """Whether record batches can only be read one after the other."""
    return not hasattr(reader, "num_record_batches")


def _batch_messages(stream: Any, reader: Any) -> Iterator[Any]:
    """The messages of record batches, which unpacks nothing; dictionaries are others."""
    import pyarrow as pa

    if not _is_stream(reader):
        stream.seek(8)  # a file is a stream between its magic and its footer
    messages = pa.ipc.MessageReader.open_stream(stream)
    batches = (message for message in messages if message.type == "record batch")
    return islice(batches, None if _is_stream(reader) else reader.num_record_batches)


def _is_packed(message: Any) -> bool:
    """Whether the message of a record batch names a codec, which pyarrow does not tell."""
    data = message.metadata.to_pybytes()  # a flatbuffer, which pyarrow has verified

    def field(table: int, number: int) -> int:
        """Where a field of a table begins, counted from the table; 0 where it is not set."""
        entries = table - int.from_bytes(data[table : table + 4], "little", signed=True)
        entry = entries + 4 + 2 * number
        end = entries + int.from_bytes(data[entries : entries + 2], "little")
        return int.from_bytes(data[entry : entry + 2], "little") if entry < end else 0

    root = int.from_bytes(data[:4], "little")
    header = root + field(root, 2)  # Message.header, a RecordBatch
    batch = header + int.from_bytes(data[header : header + 4], "little")
    return field(batch, 3) != 0  # RecordBatch.compression


class MappedFile:
    """A file, or a part of it, mapped; what was passed leaves the memory of this process.

    A page that is given back is read anew from the file if somebody still looks at it.
    """

    def __init__(self, path: Path, begin: int, size: int) -> None:
        with damage_named(path), path.open("rb") as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise DamagedFileError(f"{path}: {error}") from None
        self._range = (begin, size)
        self._passed = 0

    def stream(self) -> Any:
        """The part as a file of pyarrow's."""
        import pyarrow as pa

        begin, size = self._range
        return pa.BufferReader(pa.py_buffer(self._map).slice(begin, size))

    def passed(self, size: int) -> None:
        """Counts bytes that were read."""
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


def column_names(source: Source) -> list[str]:
    """The names of a file's columns.

    Raises
    ------
    DamagedFileError
        If it is not what its format says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.format == "mds":
        from radscore.corpus.formats.mds import mds_names

        return mds_names(source)
    if source.format == "datasets":
        from radscore.corpus.formats.datasets import dataset_names

        return dataset_names(source)
    if source.format == "litdata":
        from radscore.corpus.formats.litdata import litdata_names

        return litdata_names(source) or []
    with damage_named(source.path):
        if source.format == "parquet":
            return list(pq.read_schema(source.path).names)
        if source.size == 0:
            raise DamagedFileError(f"{source.path}: the file is empty")
        with pa.memory_map(str(source.path)) as mapped, open_arrow(mapped) as reader:
            return list(reader.schema.names)


def parquet_counts(source: Source, name: str) -> tuple[int | None, int]:
    """Token ids and rows of a Parquet file, by its footer; None where it does not tell the ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with damage_named(source.path):
        metadata = pq.read_metadata(source.path)
        kind = pq.read_schema(source.path).field(name).type
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not nested and not pa.types.is_fixed_size_list(kind):
        return None, metadata.num_rows
    n_tokens = 0
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        for column in (group.column(i) for i in range(metadata.num_columns)):
            if column.path_in_schema.split(".")[0] != name:
                continue
            found: Any = column.statistics
            if found is None or not found.has_null_count:
                return None, metadata.num_rows
            # An empty list and a missing one count as a value that is null.
            n_tokens += column.num_values - found.null_count
    return n_tokens, metadata.num_rows
