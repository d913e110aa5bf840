"""Data sets of the library `datasets`: objects, and saved folders whose rows a list picks.

A folder without such a list is read as the Arrow files that its state.json names; the library is
needed for neither. Of an object only the wanted columns are read, in its own order of rows.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    Position,
    Problems,
    Reader,
    Where,
    count_parts,
    damage_named,
    even_edges,
    place,
)
from radscore.corpus.formats.columns import MAX_ROWS, ColumnReader, MappedFile, open_arrow
from radscore.corpus.records import Fields, RecordColumns
from radscore.corpus.sources import Source
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["dataset_names", "dataset_reader", "dataset_rows", "object_source"]


def object_source(dataset: Any) -> Source:
    """A source of a `Dataset` or `IterableDataset`.

    Raises
    ------
    ArgumentError
        If it is neither of them.
    """
    kind = type(dataset).__name__
    if kind in ("DatasetDict", "IterableDatasetDict"):
        splits = ", ".join(map(repr, dataset))
        raise ArgumentError(f"a {kind} holds several data sets; give one of them: {splits}")
    if kind == "Dataset":
        path = Path(f"Dataset({dataset._fingerprint})")  # noqa: SLF001 - it has no public name
        # nbytes of a table is that of its buffers, also where rows are picked of them.
        return Source(path, "datasets", None, int(dataset.data.nbytes), 0, (), dataset)
    if hasattr(dataset, "skip") and hasattr(dataset, "iter"):
        name = getattr(dataset.info, "dataset_name", None) or "unnamed"
        return Source(Path(f"{kind}({name})"), "datasets", None, 0, 0, (), dataset)
    raise ArgumentError(f"a Dataset or IterableDataset can be read, not {kind}")


def dataset_names(source: Source) -> list[str]:
    """The names of the columns."""
    if isinstance(source.entry, dict):
        return _SavedReader(source, None, Problems("raise")).names
    names = source.entry.column_names
    if names is None:  # as a generator's: its first record tells
        record = next(iter(source.entry), None)
        names = [] if record is None else list(record)
    return list(names)


def dataset_rows(source: Source) -> int | None:
    """How many rows there are, where that is known without reading."""
    if isinstance(source.entry, dict):
        return _SavedReader(source, None, Problems("raise")).n_rows
    if not hasattr(source.entry, "__len__"):
        return None
    n_rows: int = len(source.entry)
    return n_rows


def dataset_reader(source: Source, fields: Fields, problems: Problems) -> Reader:
    """Reads a data set, by Arrow tables where its columns are typed."""
    if isinstance(source.entry, dict):
        return _SavedReader(source, fields, problems)
    if hasattr(source.entry, "data"):
        return _TableReader(source, fields, problems)
    if source.entry.features is not None:
        return _StreamReader(source, fields, problems)
    return _ExamplesReader(source, fields, problems)


class _TableReader(ColumnReader):
    """Reads a `Dataset`: slices of its table, mapped where the library maps it."""

    def edges(self, size: int) -> Iterator[Position]:
        """Rows (``row``)."""
        return _even_rows(self._source, len(self._source.entry), size)

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The rows after `position` (``row`` rows)."""
        dataset, fields = self._source.entry, self.fields
        self._check_names(list(dataset.column_names))
        wanted = dataset.select_columns(fields.names).with_format("arrow")
        n_rows, start = len(wanted), position.get("row", 0)
        last = n_rows if end is None else end["row"]
        step = _rows_a_batch(fields, int(wanted.data.nbytes), len(wanted.data))
        while start < last:
            with damage_named(self._source.path):
                table = wanted[start : min(start + step, last)]
            for batch in table.to_batches():
                after = start + batch.num_rows
                done = self._source.size * after // n_rows
                yield self._chunk(batch, start, {"row": after}, done)
                start = after


class _StreamReader(ColumnReader):
    """Reads an `IterableDataset` whose columns are typed."""

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:  # noqa: ARG002 - it has no edges
        """The rows after `position` (``row`` rows)."""
        dataset, fields = self._source.entry, self.fields
        self._check_names(list(dataset.column_names or dataset.features))
        start = position.get("row", 0)
        wanted = dataset.select_columns(fields.names).skip(start).with_format("arrow")
        for table in wanted.iter(batch_size=_ROWS):
            for batch in table.to_batches():
                after = start + batch.num_rows
                yield self._chunk(batch, start, {"row": after}, 0)
                start = after


class _ExamplesReader(Reader):
    """Reads an `IterableDataset` of records that are typed nowhere, one by one."""

    cuts = False
    sound = False

    def __init__(self, source: Source, fields: Fields, problems: Problems) -> None:
        self._source = source
        self._fields = fields
        self._problems = problems

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:  # noqa: ARG002 - it has no edges
        """The records after `position` (``row`` records)."""
        columns = RecordColumns(self._fields)
        number = position.get("row", 0)
        # Not `skip`, which some sources of records lack.
        for record in islice(iter(self._source.entry), number, None):
            values = {name: _plain(value) for name, value in record.items()}
            flaw = columns.add(values, number)
            if flaw is not None:
                self._problems.record(place(self._source.path, number, "row"), flaw)
            number += 1
            if columns.full:
                yield self._chunk(columns, number)
                columns = RecordColumns(self._fields)
        yield self._chunk(columns, number)

    def _chunk(self, columns: RecordColumns, number: int) -> Chunk:
        where = Where(self._source.path, np.array(columns.numbers, dtype=np.int64), "row")
        prompts = None if columns.prompt is None else columns.prompt.documents()
        documents, from_text = columns.main.documents(), columns.main.from_text
        return Chunk(documents, prompts, where, {"row": number}, 0, from_text)


_ROWS = 1000


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _rows_a_batch(fields: Fields, size: int, n_rows: int) -> int:
    """About `batch_tokens` tokens of rows, by the size of all."""
    return int(min(max(fields.batch_tokens * 4 * max(n_rows, 1) // max(size, 1), 1), MAX_ROWS))


def _even_rows(source: Source, n_rows: int, size: int) -> Iterator[Position]:
    return ({"row": row} for row in even_edges(n_rows, count_parts(source.size, size)))


class _SavedReader(ColumnReader):
    """Reads the rows that the list of a saved folder picks, in its order."""

    def __init__(self, source: Source, fields: Fields | None, problems: Problems) -> None:
        super().__init__(source, fields, problems)
        n_indices = len(source.entry.get("_indices_data_files") or [])
        data, indices = source.sides[:-n_indices], source.sides[-n_indices:]
        self._stack = ExitStack()
        self._batches = [batch for path in data for batch in self._read(path)]
        if not self._batches:
            raise DamagedFileError(f"{source.path}: its data files hold no rows")
        self.names = list(self._batches[0].schema.names)
        ends = np.cumsum([batch.num_rows for batch in self._batches])
        self._starts = np.concatenate((np.zeros(1, np.int64), ends))
        self._indices = [batch for path in indices for batch in self._read(path)]
        self.n_rows: int = sum(batch.num_rows for batch in self._indices)

    def _read(self, path: Path) -> list[Any]:
        """The record batches of a file; their values stay in it."""
        with damage_named(path):
            mapped = MappedFile(path, 0, path.stat().st_size)
            stream = self._stack.enter_context(mapped.stream())
            reader = self._stack.enter_context(open_arrow(stream))
            if hasattr(reader, "num_record_batches"):
                return [reader.get_batch(i) for i in range(reader.num_record_batches)]
            return list(reader)

    def edges(self, size: int) -> Iterator[Position]:
        """Rows (``row``)."""
        return _even_rows(self._source, self.n_rows, size)

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The rows after `position` (``row`` rows)."""
        self._check_names(self.names)
        n_rows, start = int(self._starts[-1]), position.get("row", 0)
        last = self.n_rows if end is None else end["row"]
        size = sum(batch.select(self.fields.names).nbytes for batch in self._batches)
        step = _rows_a_batch(self.fields, size, n_rows)
        base = 0
        for indices in self._indices:
            rows = self._rows(indices)[: max(last - base, 0)]
            while start < base + len(rows):
                part = rows[start - base :][:step]
                after = {"row": start + len(part)}
                done = self._source.size * after["row"] // self.n_rows
                yield self._chunk(self._take(part), start, after, done)
                start = after["row"]
            base += len(rows)

    def _rows(self, indices: Any) -> npt.NDArray[np.int64]:
        import pyarrow as pa

        column = indices.column(0)
        if not pa.types.is_integer(column.type) or column.null_count:
            raise DamagedFileError(f"{self._source.sides[-1]}: holds no list of rows")
        rows: npt.NDArray[Any] = column.to_numpy()
        total = int(self._starts[-1])
        wrong = np.flatnonzero((rows < 0) | (rows >= total))
        if len(wrong):
            raise DamagedFileError(
                f"{self._source.sides[-1]}: picks row {rows[wrong[0]]} of {total}"
            )
        return rows.astype(np.int64)

    def _take(self, rows: npt.NDArray[np.int64]) -> Any:
        """Some rows, in their order: of one record batch after the other, then put in order."""
        import pyarrow as pa

        owners = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(owners, kind="stable")
        parts = []
        for owner in np.unique(owners):
            inside = rows[order[owners[order] == owner]] - self._starts[owner]
            batch = self._batches[int(owner)].select(self.fields.names)
            parts.append(batch.take(pa.array(inside)))
        back = np.empty(len(rows), dtype=np.int64)
        back[order] = np.arange(len(rows))
        with damage_named(self._source.path):
            table = pa.Table.from_batches(parts).combine_chunks()
        rows_in_order: Any = pa.array(back)
        return table.to_batches()[0].take(rows_in_order)
