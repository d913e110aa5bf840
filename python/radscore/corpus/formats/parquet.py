"""Parquet: a column of lists of ids, or of text."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from radscore.columnar import holds_ids, path_to, type_at
from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    Position,
    Problems,
    location,
    n_shards,
    reading,
)
from radscore.corpus.format import Format, Known, Preview, Scale
from radscore.corpus.readers.columns import ColumnReader, first_groups, holds_in, rows_of
from radscore.corpus.readers.footer import Column, column_at, columns_of, is_uneven, largest_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.base import Reader
    from radscore.corpus.format import Options, Record, Source

__all__ = ["FORMAT"]

_BUFFER = 1 << 20
#: What is decoded at once: small, so that neighbours far above the average fit, and as fast.
_TOKENS = 1 << 17
_MANY_ROWS = 1 << 12
#: Where a few bytes may stand for texts of any length.
_FEW_ROWS = 1 << 6
#: Bytes of text to decode at once there.
_EXPANDED = 1 << 26
#: Where a few rows may hold nearly all values.
_UNEVEN_ROWS = 1 << 4


class Parquet(Format):
    """Rows in groups; sizes and counts are in the footer."""

    name = "parquet"
    title = "Parquet"
    files = "`.parquet`, `.pq`"
    content = "a column of text, or of lists of integers; page by page"
    documents = "one per row"

    suffixes = (".parquet", ".pq")
    magic = (b"PAR1",)
    takes_any_suffix = True

    def preview(self, source: Source) -> Preview:
        """The columns of the schema."""
        import pyarrow.parquet as pq

        with reading(source.path):
            schema = pq.read_schema(source.path)
        return Preview(list(schema.names), str(source.path), holds=holds_in(schema, schema.names))

    def known(self, source: Source, options: Options) -> Known:
        """Rows, and ids if the footer tells how many values are there."""
        assert options.fields is not None
        reader = ParquetReader(source, options.fields, Problems("raise"))
        with reader.opened() as (file, (column, *_)):
            path = path_to(options.fields.main, file.schema_arrow)
        assert path is not None
        told = all(isinstance(step, str) for step in path)  # not of one element of a list
        told = told and holds_ids(type_at(path, file.schema_arrow))
        return Known(column.n_present() if told else None, sum(column.rows))

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads the footer when the first batch is asked for."""
        return ParquetReader(source, options.fields, problems)

    def records(self, source: Source) -> Iterator[Record]:
        """All rows, without encrypted columns."""
        with ParquetReader(source, None, Problems("raise")).opened() as (file, columns):
            leaves = [leaf for column in columns if not column.encrypted for leaf in column.leaves]
            number = 0
            with reading(source.path):
                groups = list(range(file.metadata.num_row_groups))
                for batch in file.reader.iter_batches(_MANY_ROWS, groups, leaves, False):
                    for row in rows_of(batch):
                        yield location(source.path, number, "row"), row, None
                        number += 1

    def scale(self, source: Source, options: Options) -> Scale | None:  # noqa: ARG002
        """Row groups."""
        import pyarrow.parquet as pq

        with reading(source.path):
            return Scale("group", pq.read_metadata(source.path).num_row_groups, rest={"row": 0})


FORMAT = Parquet()


class ParquetReader(ColumnReader):
    """Reads one row group after the other, and only the columns it needs."""

    def edges(self, size: int) -> Iterator[Position]:
        """Row groups (``group``), by their uncompressed sizes."""
        import pyarrow.parquet as pq

        with reading(self._source.path):
            metadata = pq.read_metadata(self._source.path)
        groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
        sizes = [(group.total_byte_size, group.num_rows) for group in groups]
        number = n_shards(self._source.size, size)
        return ({"group": group, "row": 0} for group, _ in first_groups(sizes, number))

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents after `position` (``row`` rows of row group ``group``)."""
        with self.opened() as (file, columns):
            metadata = file.metadata
            base = 0
            bytes_read = 0
            for group in range(metadata.num_row_groups if end is None else end["group"]):
                n_rows = metadata.row_group(group).num_rows
                start = position.get("row", 0) if group == position.get("group", 0) else 0
                share = self._source.size * (group + 1) // metadata.num_row_groups
                if group >= position.get("group", 0):
                    for row, made in self._joined(self._rows(file, columns, group, start), start):
                        after = {"group": group, "row": row + len(made[0])}
                        bytes_read = share if after["row"] == n_rows else bytes_read
                        yield self._chunk(made, base + row, after, bytes_read)
                base += n_rows

    @contextmanager
    def opened(self) -> Iterator[tuple[Any, list[Column]]]:
        """The file, and its wanted columns (all, without fields)."""
        import pyarrow.parquet as pq

        path = self._source.path
        columns = every = columns_of(path)
        names = [column.name for column in every]
        if self._named is not None:
            schema = None
            if any(name not in names for name in self.fields.names):
                with reading(path):
                    schema = pq.read_schema(path)
            self._check_names(names, schema)
            columns = [
                column_at(every, (name,) if schema is None else self._path(name, schema))
                for name in self.fields.names
            ]
            for column in columns:
                if column.encrypted:
                    raise DamagedFileError(
                        f"{path}: column {column.name!r} is encrypted; decrypt the file first"
                    )
        looked_up = [
            column.path
            for column in columns
            if column.is_text
            and column.path == column.name
            and all(chunk.looked_up for chunk in column.chunks)
        ]
        with ExitStack() as stack:
            with reading(path):
                # Page by page, not all of a row group before its first row.
                file = stack.enter_context(
                    pq.ParquetFile(
                        path, pre_buffer=False, buffer_size=_BUFFER, read_dictionary=looked_up
                    )
                )
                schema = file.schema_arrow
                n_leaves, n_groups = file.metadata.num_columns, file.metadata.num_row_groups
            told = [(column.leaves.stop, len(column.chunks)) for column in every[-1:]]
            if schema.names != names or told not in ([], [(n_leaves, n_groups)]):
                raise DamagedFileError(f"{path}: its footer is damaged")
            if self._named is not None:
                self._check_names(schema.names, schema)
            yield file, columns

    def _rows(
        self, file: Any, columns: list[Column], group: int, start: int
    ) -> Iterator[tuple[int, list[Any], int]]:
        """The rows of one row group from row `start` in small pieces, as `_pieces` gives them."""
        path = self._source.path
        n_rows = file.metadata.row_group(group).num_rows
        leaves = sorted({leaf for column in columns for leaf in column.leaves})
        step = min(_rows_a_batch(column, group, self.fields.batch_tokens) for column in columns)
        if any(is_uneven(path, column.chunks[group]) for column in columns if not column.is_text):
            step = min(step, _UNEVEN_ROWS)
        for column in columns:
            step = min(step, self._rows_that_fit(column, group))
        with reading(path):
            # Not by names: a dot in one is taken for a path.
            batches = file.reader.iter_batches(step, [group], leaves, False)
        row = 0
        while True:
            with reading(path):
                batch = next(batches, None)
            if batch is None:
                break
            if row + batch.num_rows > start and batch.num_rows:
                for first, made, weight in self._pieces(batch, max(start - row, 0)):
                    yield row + first, made, weight
            row += batch.num_rows
        if row != n_rows:
            raise DamagedFileError(f"{path}: row group {group} has {row} rows, not {n_rows}")

    def _rows_that_fit(self, column: Column, group: int) -> int:
        """Rows of a column to decode at once, by its largest page.

        Raises `DamagedFileError` where one of them may take more memory than there is.
        """
        path, chunk, room = self._source.path, column.chunks[group], self.fields.room
        large = room is not None and room.flaw_of_page(chunk.n_bytes, 1) is not None
        if column.is_text and (large or chunk.text_bytes is None):
            size, n_values, before = largest_page(path, chunk)
            where = location(path, sum(column.rows[:group]) + before, "row")
            what = f"{where}: a page of column {column.name!r}"
            flaw = None if room is None else room.flaw_of_page(size, n_values, what)
            at_once = _EXPANDED if room is None else min(_EXPANDED, room.n_bytes // 8)
            most = max(at_once // max(size, 1), 1)
        else:
            n_rows, most = max(column.rows[group], 1), _MANY_ROWS
            what = f"{path}: an average row of column {column.name!r} in row group {group}"
            size = 0 if column.is_text else 8 * chunk.n_values // n_rows
            flaw = None if room is None else room.flaw_of_ids(size, what)
        if flaw is not None:
            raise DamagedFileError(flaw)
        return most

    def _joined(
        self, pieces: Iterator[tuple[int, list[Any], int]], start: int
    ) -> Iterator[tuple[int, list[Any]]]:
        """Pieces joined until they have about `batch_tokens` tokens."""
        held: list[list[Any]] = []
        total = 0
        for row, made, weight in pieces:
            if held and total + weight > self.fields.batch_tokens:
                yield start, _concatenated(held)
                held, total, start = [], 0, row
            held.append(made)
            total += weight
        if held:
            yield start, _concatenated(held)


def _concatenated(pieces: list[list[Any]]) -> list[Any]:
    import pyarrow as pa

    if len(pieces) == 1:
        return pieces[0]
    return [pa.concat_arrays(list(parts)) for parts in zip(*pieces, strict=True)]


def _rows_a_batch(column: Column, group: int, batch_tokens: int) -> int:
    """Rows to decode at once, by how many values the file has or stands for, not by its bytes."""
    n_rows = max(column.rows[group], 1)
    if column.is_text:
        n_bytes = column.chunks[group].text_bytes
        if n_bytes is None:
            return _FEW_ROWS
        tokens = n_bytes // 4
    else:
        tokens = column.chunks[group].n_values
    return max(min(min(batch_tokens, _TOKENS) * n_rows // max(tokens, 1), _MANY_ROWS), 1)
