"""Parquet: a column of lists of ids, or of text."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import Chunk, DamagedFileError, Position, location, n_shards, reading
from radscore.corpus.format import Format, Known, Preview, Scale
from radscore.corpus.readers.columns import MAX_ROWS, ColumnReader, first_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.base import Problems, Reader
    from radscore.corpus.format import Options, Record, Source

__all__ = ["FORMAT"]

_BUFFER = 1 << 20


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
            return Preview(list(pq.read_schema(source.path).names), str(source.path))

    def known(self, source: Source, options: Options) -> Known:
        """Rows, and ids if the footer has statistics of the column."""
        assert options.fields is not None
        return Known(*_counts(source, options.fields.main))

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads the footer when the first batch is asked for."""
        return ParquetReader(source, options.fields, problems)

    def records(self, source: Source) -> Iterator[Record]:
        """All rows, held in memory."""
        import pyarrow.parquet as pq

        with reading(source.path):
            rows = pq.read_table(source.path).to_pylist()
        for number, row in enumerate(rows):
            yield location(source.path, number, "row"), row, None

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
        import pyarrow.parquet as pq

        path = self._source.path
        with ExitStack() as stack:
            with reading(path):
                # Page by page, not all of a row group before its first row.
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
        with reading(path):
            batches = file.iter_batches(
                batch_size=self._rows_a_batch(file, group),
                row_groups=[group],
                columns=self.fields.names,
            )
        row = 0
        while True:
            with reading(path):
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


def _counts(source: Source, name: str) -> tuple[int | None, int]:
    """Token ids of a column, and rows, by the footer; None if it does not tell the ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(source.path):
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
