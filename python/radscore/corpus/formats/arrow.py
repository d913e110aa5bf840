"""Arrow IPC, both the file and the stream format: a column of lists of ids, or of text."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    Position,
    location,
    n_shards,
    reading,
)
from radscore.corpus.format import Format, Known, Preview, Source
from radscore.corpus.readers.columns import (
    ColumnReader,
    MappedFile,
    first_groups,
    holds_in,
    open_arrow,
    rows_of,
)
from radscore.corpus.readers.packed import (
    PackedColumn,
    is_compressed,
    packed_columns,
    unpacked,
)
from radscore.errors import ArgumentError, line_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.base import Problems, Reader
    from radscore.corpus.format import Options, Record

__all__ = ["FORMAT", "Arrow", "ArrowReader"]


class Arrow(Format):
    """Record batches, memory-mapped."""

    name = "arrow"
    title = "Arrow"
    files = "`.arrow`, `.feather`, `.ipc`"
    content = "a column of text, or of lists of integers; batch by batch, file or stream"
    documents = "one per row"

    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")
    magic: ClassVar[tuple[bytes, ...]] = (b"ARROW1", b"\xff\xff\xff\xff", b"FEA1")
    takes_any_suffix = True

    def takes_object(self, value: object) -> bool:
        """Tables of pyarrow, polars and pandas; none of them is imported for that."""
        module = type(value).__module__.partition(".")[0]
        return (module, type(value).__name__) in _TABLES

    def object_source(self, value: Any) -> Source:
        """The table as one of pyarrow."""
        import pyarrow as pa

        kind = type(value).__name__
        try:
            if kind == "DataFrame" and hasattr(value, "to_arrow"):
                table = value.to_arrow()
            elif kind == "DataFrame":
                table = pa.Table.from_pandas(value, preserve_index=False)
            else:
                table = value if kind == "Table" else pa.Table.from_batches([value])
        except (pa.ArrowException, TypeError, ValueError) as error:
            reason = line_of(error, 200)
            raise ArgumentError(f"{kind}: pyarrow makes no table of it: {reason}") from None
        path = Path(f"{kind}({table.num_rows} rows)")
        return Source(path, FORMAT, None, table.nbytes, 0, dataset=table)

    def preview(self, source: Source) -> Preview:
        """The columns of the schema."""
        import pyarrow as pa

        if source.dataset is not None:
            return preview_given(source, source.dataset.schema)
        with reading(source.path):
            if source.size == 0:
                raise DamagedFileError(f"{source.path}: the file is empty")
            with pa.memory_map(str(source.path)) as mapped, open_arrow(mapped) as reader:
                return preview_given(source, reader.schema)

    def known(self, source: Source, options: Options) -> Known:  # noqa: ARG002 - rows are rows
        """The rows of a table in memory."""
        return Known(None, None if source.dataset is None else source.dataset.num_rows)

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Maps the file when the first batch is asked for."""
        if source.dataset is not None:
            return _TableReader(source, options.fields, problems)
        return ArrowReader(source, options.fields, problems)

    def records(self, source: Source) -> Iterator[Record]:
        """All rows, one record batch after the other."""
        import pyarrow as pa

        number = 0
        with ExitStack() as stack:
            stack.enter_context(reading(source.path))
            batches = source.dataset.to_batches() if source.dataset is not None else None
            if batches is None:
                mapped = stack.enter_context(pa.memory_map(str(source.path)))
                reader = open_arrow(mapped)
                if _is_stream(reader):
                    _check_end(source.path, pa.BufferReader(mapped.read_buffer()))
                batches = _in_turn(open_arrow(mapped))
            for batch in batches:
                for row in rows_of(batch):
                    yield location(source.path, number, "row"), row, None
                    number += 1


FORMAT = Arrow()
_TABLES = {
    *(("pyarrow", "Table"), ("pyarrow", "RecordBatch")),
    *(("polars", "DataFrame"), ("pandas", "DataFrame")),
}
#: Said of a data set whose rows lack columns that its table has.
HIDDEN = " (whose format leaves out columns; with_format(None) shows all)"


def names_given(source: Source, names: list[str]) -> list[str]:
    """The columns that `datasets` gives of a folder that it saved; else all of them."""
    state = source.entry if isinstance(source.entry, dict) else {}
    shown = state.get("_format_columns")
    if not isinstance(shown, list) or state.get("_output_all_columns"):
        return list(names)
    return [name for name in names if name in shown]


def preview_given(source: Source, schema: Any) -> Preview:
    """The preview of a file with these columns."""
    given = names_given(source, schema.names)
    where = f"{source.path}{HIDDEN if len(given) < len(schema.names) else ''}"
    return Preview(given, where, holds=holds_in(schema, given))


def check_given(source: Source, names: list[str]) -> None:
    """Raises if the format that a data set was saved with leaves out or changes wanted columns."""
    state = source.entry if isinstance(source.entry, dict) else {}
    kind, options = state.get("_format_type"), state.get("_format_kwargs")
    hidden = [name for name in names if name not in names_given(source, names)]
    if not hidden and (not options or kind in ("arrow", "pandas", "polars")):
        return
    what = f"changes values ({options})" if not hidden else f"leaves out column {hidden[0]!r}"
    raise DamagedFileError(
        f"{state.get('_folder')}: the data set was saved in format {kind!r}, which {what}; "
        "save it again after with_format(None)"
    )


class ArrowReader(ColumnReader):
    """Reads Arrow IPC, both the file and the stream format, memory-mapped."""

    def edges(self, size: int) -> Iterator[Position]:
        """Record batches (``group``, ``rows`` rows before it), by their sizes in the file."""
        sizes = self._batch_sizes()
        if sizes is None:
            return
        for group, rows in first_groups(sizes, n_shards(self._source.size, size)):
            yield {"group": group, "rows": rows}

    def _batch_sizes(self) -> list[tuple[int, int]] | None:
        """Bytes and rows of each record batch; None if they would have to be decompressed."""
        import pyarrow as pa

        sizes = []
        with self._opened() as (mapped, _, reader), reading(self._source.path):
            for message in _batch_messages(mapped.stream(), reader):
                # Everything before a batch of a compressed stream would have to be decompressed.
                if _is_stream(reader) and is_compressed(message):
                    return None
                no_columns = pa.ipc.read_record_batch(message, pa.schema([]))
                sizes.append((message.body.size, no_columns.num_rows))
        return sizes

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents after `position`.

        That is record batch ``group``, ``rows`` rows before it, and ``row`` rows of the batch.
        """
        with self._opened() as (mapped, stream, reader):
            check_given(self._source, self._tops(reader.schema))
            self._check_names(reader.schema.names, reader.schema)
            first, base = position.get("group", 0), position.get("rows", 0)
            for group, batch in self._batches(mapped, stream, reader, first):
                if end is not None and group == end["group"]:
                    return
                if group < first:
                    mapped.passed(batch.get_total_buffer_size())
                    continue
                start = position.get("row", 0) if group == first else 0
                if isinstance(batch, list):
                    self._check_room(batch, base, start)
                    n_rows, pieces = len(batch[0].valid), self._unpacked(batch, start)
                else:
                    n_rows, pieces = batch.num_rows, self._pieces(batch, start)
                done = self._bytes()[0] + stream.tell()
                for row, columns, _ in pieces:
                    last = row + len(columns[0])
                    after = {"group": group, "rows": base, "row": last}
                    if last == n_rows:
                        after = {"group": group + 1, "rows": base + last}
                    yield self._chunk(columns, base + row, after, done)
                    mapped.passed(sum(column.nbytes for column in columns))
                base += n_rows
            if end is None and _is_stream(reader):
                with reading(self._source.path):
                    _check_end(self._source.path, mapped.stream())

    def _unpacked(
        self, columns: list[PackedColumn], start: int
    ) -> Iterator[tuple[int, list[Any], int]]:
        """As `_pieces`, of a batch that is decompressed piece by piece."""
        found = unpacked(columns, start, self.fields.batch_tokens)
        while True:
            with reading(self._source.path):
                piece = next(found, None)
            if piece is None:
                return
            yield *piece, 0

    def _check_room(self, columns: list[PackedColumn], base: int, start: int) -> None:
        """Raises where a row, once it is decompressed, takes more memory than there is."""
        if (room := self.fields.room) is None:
            return
        for name, column in zip(self.fields.names, columns, strict=True):
            sizes = np.diff(column.offsets[start:]) * column.item.itemsize
            if not len(sizes):
                continue
            row = int(sizes.argmax())
            where = location(self._source.path, base + start + row, "row")
            flaw = room.flaw_of_text if column.is_text else room.flaw_of_ids
            if found := flaw(int(sizes[row]), f"{where}: field {name!r}"):
                raise DamagedFileError(found)

    @contextmanager
    def _opened(self) -> Iterator[tuple[MappedFile, Any, Any]]:
        """The file as it is mapped, as pyarrow sees it, and its reader."""
        path = self._source.path
        if self._source.size == 0:
            raise DamagedFileError(f"{path}: the file is empty")
        mapped = MappedFile(path, *self._bytes())
        with ExitStack() as stack:
            with reading(path):
                stream = stack.enter_context(mapped.stream())
                reader = stack.enter_context(open_arrow(stream))
                assert reader.schema.names is not None  # they may not be UTF-8
            yield mapped, stream, reader

    def _bytes(self) -> tuple[int, int]:
        """First byte and size of the Arrow file."""
        return 0, self._source.size

    def _batches(
        self, mapped: MappedFile, stream: Any, reader: Any, first: int
    ) -> Iterator[tuple[int, Any]]:
        """Record batches and their numbers: of a file from `first`, of a stream all.

        Of a large compressed batch its packed columns. What is compressed is not read in place, so
        only the wanted columns are then.
        """
        import pyarrow as pa

        schema, path = reader.schema, self._source.path
        names = self._tops(schema)
        with reading(path):
            messages = _batch_messages(mapped.stream(), reader)
            message = next(messages, None)
            packed = None
            if message is not None and is_compressed(message):
                packed = self._packed(message, schema)
                reader = open_arrow(stream, names)
        if packed is not None and not any(map(pa.types.is_dictionary, schema.types)):
            yield from self._large_batches(message, messages, schema, first)
            return
        if not _is_stream(reader):
            for group in range(first, reader.num_record_batches):
                with reading(path):
                    batch = reader.get_batch(group)
                yield group, batch
            return
        for group in count():
            try:
                with reading(path):
                    batch = reader.read_next_batch()
            except StopIteration:
                return
            yield group, batch

    def _packed(self, message: Any, schema: Any) -> list[PackedColumn] | None:
        """The wanted columns of a large compressed batch, if no field is within one."""
        names = self.fields.names
        if any(name not in schema.names for name in names):
            return None
        return packed_columns(message, schema, names)

    def _large_batches(
        self, message: Any, messages: Iterator[Any], schema: Any, first: int
    ) -> Iterator[tuple[int, Any]]:
        """The batches of a compressed file from `first`: packed columns where they are large."""
        import pyarrow as pa

        group = 0
        while message is not None:
            if group >= first:
                with reading(self._source.path):
                    made: Any = self._packed(message, schema)
                    if made is None:
                        made = pa.ipc.read_record_batch(message, schema)
                yield group, made
            with reading(self._source.path):
                message = next(messages, None)
            group += 1


class _TableReader(ColumnReader):
    """Reads a table in memory."""

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:  # noqa: ARG002 - it has no edges
        """The rows after `position` (``row`` rows)."""
        table, start, base = self._source.dataset, position.get("row", 0), 0
        self._check_names(table.schema.names, table.schema)
        for batch in table.to_batches():
            if base + batch.num_rows > start:
                for row, columns, _ in self._pieces(batch, max(start - base, 0)):
                    after = base + row + len(columns[0])
                    done = self._source.size * after // table.num_rows
                    yield self._chunk(columns, base + row, {"row": after}, done)
            base += batch.num_rows


def _in_turn(reader: Any) -> Iterator[Any]:
    """The record batches of a file or of a stream."""
    if _is_stream(reader):
        return iter(reader)
    return (reader.get_batch(group) for group in range(reader.num_record_batches))


def _is_stream(reader: Any) -> bool:
    """Whether record batches can only be read one after the other."""
    return not hasattr(reader, "num_record_batches")


def _check_end(path: Path, stream: Any) -> None:
    """Raises if a stream is followed by anything but zeros: pyarrow stops reading there."""
    import pyarrow as pa

    for _ in pa.ipc.MessageReader.open_stream(stream):
        pass
    at = stream.tell()
    while block := stream.read(1 << 16):
        if block.strip(b"\0"):
            raise DamagedFileError(
                f"{path}: the stream ends at byte {at}, but the file goes on (several streams in "
                "one file?)"
            )


def _batch_messages(stream: Any, reader: Any) -> Iterator[Any]:
    """The messages of record batches, without those of dictionaries; decompresses nothing."""
    import pyarrow as pa

    if not _is_stream(reader):
        stream.seek(8)  # a file is a stream between magic and footer
    messages = pa.ipc.MessageReader.open_stream(stream)
    batches = (message for message in messages if message.type == "record batch")
    return islice(batches, None if _is_stream(reader) else reader.num_record_batches)
