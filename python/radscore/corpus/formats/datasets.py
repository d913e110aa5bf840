"""Data sets of the library `datasets`: objects, and the folders that it saves.

A saved folder is read as the Arrow files that its state.json lists, unless a list of indices picks
its rows; the library is needed for neither. Of an object only the wanted columns are read, in its
own order of rows: from its table where the library gives the same values, else as it gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.columnar import checked, path_to, plain, reached
from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    InputOptionError,
    Locations,
    Position,
    Problems,
    Reader,
    even_edges,
    location,
    n_shards,
    reading,
)
from radscore.corpus.format import Known, Preview, Source
from radscore.corpus.formats import arrow
from radscore.corpus.readers.columns import (
    MAX_ROWS,
    ColumnReader,
    MappedFile,
    holds_in,
    open_arrow,
)
from radscore.corpus.readers.listing import listed_file, read_index
from radscore.corpus.records import Fields, RecordColumns, value_of
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.format import Codec, Options, Record

__all__ = ["FORMAT"]

_STATE = "state.json"
_SPLITS = "dataset_dict.json"
_INFO = "dataset_info.json"
#: Formats of objects that are no records.
_FRAMES = ("arrow", "pandas", "polars")


class Datasets(arrow.Arrow):
    """Saved folders and objects; Arrow files as well, so that format="arrow" finds folders too."""

    name = "datasets"
    title = "Hugging Face data sets"
    files = "a folder of `save_to_disk`"
    content = (
        "the Arrow files that `state.json` lists, in its order; a list of picked rows is followed"
    )
    documents = "one per row"
    remarks = "cache files of `map` and other files beside them are not read; splits are named"

    suffixes = ()
    magic = ()
    not_data = frozenset({_STATE, _SPLITS, _INFO})
    data_in_sides = True
    position_key = "row"

    def folder_sources(self, folder: Path, names: set[str]) -> list[Source] | None:
        """The Arrow files in the order of the rows; one source if a list of indices picks rows."""
        if _STATE not in names:
            return self._split_sources(folder, names)
        index = folder / _STATE
        state = read_index(index, required=any(".arrow" in name for name in names))
        if not isinstance(state, dict) or not isinstance(state.get("_data_files"), list):
            return None
        data = _listed(index, state["_data_files"])
        indices = _listed(index, state.get("_indices_data_files") or [])
        state["_folder"] = str(folder)
        if not indices:
            return [Source.of_file(path, arrow.FORMAT, entry=state) for path in data]
        source = Source.of_file(index, self, sides=(*data, *indices), entry=state)
        return [replace(source, size=sum(path.stat().st_size for path in data))]

    def _split_sources(self, folder: Path, names: set[str]) -> list[Source] | None:
        """Those of the splits that a folder lists; other folders beside them are no part of it."""
        if _SPLITS in names:
            index = folder / _SPLITS
            found = read_index(index, required=False)
            if not isinstance(found, dict) or not isinstance(found.get("splits"), list):
                return None
            sources = []
            for split in sorted(map(str, found["splits"])):
                inner = listed_file(index, split)
                some = self.folder_sources(inner, {path.name for path in inner.iterdir()})
                if some is None:
                    raise DamagedFileError(f"{inner}: lists no data files in a {_STATE}")
                sources += some
            return sources
        return None

    def takes_object(self, value: object) -> bool:
        """Objects of the library, which is not imported for that."""
        return type(value).__module__.partition(".")[0] == "datasets"

    def object_source(self, value: Any) -> Source:
        """A `Dataset` or an `IterableDataset`."""
        kind = type(value).__name__
        if kind in ("DatasetDict", "IterableDatasetDict"):
            splits = ", ".join(map(repr, value))
            raise ArgumentError(f"{kind}: holds several data sets; give one of them: {splits}")
        if kind == "Dataset":
            path = Path(f"Dataset({value._fingerprint})")  # noqa: SLF001 - it has no public name
            # nbytes of a table counts its buffers, even if rows are picked from them.
            size = int(value.data.nbytes)
            return Source(path, self, None, size, 0, dataset=value)
        if hasattr(value, "skip") and hasattr(value, "iter"):
            name = getattr(value.info, "dataset_name", None) or "unnamed"
            return Source(Path(f"{kind}({name})"), self, None, 0, 0, dataset=value)
        hint = "; give the data set itself, and field=" if kind.endswith("Column") else ""
        raise ArgumentError(f"a Dataset or IterableDataset can be read, not {kind}{hint}")

    def source(self, path: Path, codec: Codec | None) -> Source:  # noqa: ARG002 - never
        """None of a single file."""
        raise InputOptionError(f"{path}: format 'datasets' is a folder with a state.json")

    def preview(self, source: Source) -> Preview:
        """The names of the columns; of untyped records, those of the first."""
        if source.is_file:
            return arrow.preview_given(source, _SavedReader(source, None, Problems("raise")).schema)
        names = _names_given(source.dataset)
        hidden = names is not None and len(names) < len(source.dataset.column_names)
        where = f"{source.path}{arrow.HIDDEN if hidden else ''}"
        if names is None or source.dataset.features is None:
            first: Any = next(_records_of(source.dataset), {})
            record = dict(first) if isinstance(first, Mapping) else {}
            return Preview(
                names or list(first), where, holds=lambda name: value_of(record, name)[0]
            )
        return Preview(names, where, holds=holds_in(_schema_of(source.dataset), names))

    def known(self, source: Source, options: Options) -> Known:  # noqa: ARG002 - rows are rows
        """The number of rows, except of a stream."""
        return Known(None, _n_rows(source))

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads Arrow tables if the columns are typed, else records."""
        assert options.fields is not None
        dataset = source.dataset
        if source.is_file:
            return _SavedReader(source, options.fields, problems)
        if _is_changed(dataset, _columns_of(dataset, options.fields.names)):
            return _ExamplesReader(source, options.fields, problems)
        if hasattr(dataset, "data"):
            return _TableReader(source, options.fields, problems)
        return _StreamReader(source, options.fields, problems)

    def records(self, source: Source) -> Iterator[Record]:
        """None: prompts and answers are read from files."""
        raise ArgumentError(f"{source.path}: prompts and answers cannot be read from a data set")


FORMAT = Datasets()


def _listed(index: Path, entries: Any) -> list[Path]:
    if not isinstance(entries, list):
        raise DamagedFileError(f"{index}: has no list of files")
    names = (entry.get("filename") if isinstance(entry, dict) else None for entry in entries)
    return [listed_file(index, name) for name in names]


def _n_rows(source: Source) -> int | None:
    """How many rows there are, if that is known without reading."""
    if source.is_file:
        return _SavedReader(source, None, Problems("raise")).n_rows
    if not hasattr(source.dataset, "__len__"):
        return None
    n_rows: int = len(source.dataset)
    return n_rows


#: Rows that are asked of a data set at once.
_STREAM_ROWS = 1000


def _names_given(dataset: Any) -> list[str] | None:
    """The columns that the rows of a data set have; None if only the rows themselves tell."""
    if getattr(dataset, "_format_type", None) == "custom" or dataset.column_names is None:
        return None
    shown = getattr(dataset, "_format_columns", None)
    names = list(dataset.column_names)
    if shown is None or dataset._output_all_columns:  # noqa: SLF001 - nothing else tells
        return names
    return [name for name in names if name in shown]


def _schema_of(dataset: Any) -> Any:
    """The columns of a typed data set, without what the library says of them."""
    return dataset.features.arrow_schema.remove_metadata()


def _columns_of(dataset: Any, names: list[str]) -> list[str]:
    """The columns that hold some fields, if that is known."""
    if dataset.features is None:
        return names
    paths = [path_to(name, _schema_of(dataset)) for name in names]
    return [name if path is None else str(path[0]) for name, path in zip(names, paths, strict=True)]


def _is_changed(dataset: Any, names: list[str]) -> bool:
    """Whether the library makes other values of the columns than its tables hold, or untyped ones.

    That is by a transform, by options of its format such as dtype, or by decoding a column.
    """
    if dataset.features is None or getattr(dataset, "_format_kwargs", None):
        return True
    custom = getattr(dataset, "_format_type", None) == "custom"
    return custom or any(_decodes(dataset.features.get(name)) for name in names)


def _decodes(feature: Any) -> bool:
    if hasattr(feature, "feature"):  # a list of them
        return _decodes(feature.feature)
    return hasattr(feature, "decode_example") and bool(getattr(feature, "decode", True))


def _records_of(dataset: Any, first: int = 0, last: int | None = None) -> Iterator[Any]:
    """The rows of a data set as the library gives them: mappings, unless a transform is odd."""
    if not hasattr(dataset, "data"):
        formatting = getattr(dataset, "_formatting", None)
        if formatting is not None and formatting.format_type in _FRAMES:
            dataset = dataset.with_format(None)
        # Not `skip`, which some data sets lack.
        yield from islice(iter(dataset), first, last)
        return
    if dataset._format_type in _FRAMES:  # noqa: SLF001 - their options change no values
        dataset = dataset.with_format(None)
    for start in range(first, len(dataset) if last is None else last, _STREAM_ROWS):
        rows = range(len(dataset))[start:last][:_STREAM_ROWS]
        columns = dataset[rows.start : rows.stop]
        lengths = (
            {len(values) for values in columns.values()} if isinstance(columns, Mapping) else ()
        )
        if lengths != {len(rows)}:
            raise InputOptionError(
                "the transform of a data set must give a dictionary with one value per row; use "
                "map() instead, or with_format(None) to read what the data set holds without it"
            )
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


class _TableReader(ColumnReader):
    """Reads a `Dataset`: slices of its table, which are mapped if the library maps it."""

    def edges(self, size: int) -> Iterator[Position]:
        """Rows (``row``)."""
        return _even_rows(self._source, len(self._source.dataset), size)

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The rows after `position` (``row`` rows)."""
        dataset, fields = self._source.dataset, self.fields
        schema = _schema_of(dataset)
        self._check_names(_names_given(dataset) or [], schema)
        wanted = dataset.select_columns(self._tops(schema)).with_format("arrow")
        n_rows, start = len(wanted), position.get("row", 0)
        last = n_rows if end is None else end["row"]
        step = _rows_a_batch(fields, int(wanted.data.nbytes), len(wanted.data))
        while start < last:
            with reading(self._source.path):
                table = wanted[start : min(start + step, last)]
            for batch in table.to_batches():
                for row, columns, _ in self._pieces(batch):
                    after = start + row + len(columns[0])
                    done = self._source.size * after // n_rows
                    yield self._chunk(columns, start + row, {"row": after}, done)
                start += batch.num_rows


class _StreamReader(ColumnReader):
    """Reads an `IterableDataset` whose columns are typed."""

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:  # noqa: ARG002 - it has no edges
        """The rows after `position` (``row`` rows)."""
        dataset = self._source.dataset
        schema = _schema_of(dataset)
        self._check_names(list(dataset.column_names or dataset.features), schema)
        start = position.get("row", 0)
        wanted = dataset.select_columns(self._tops(schema)).skip(start).with_format("arrow")
        for table in wanted.iter(batch_size=_STREAM_ROWS):
            for batch in table.to_batches():
                for row, columns, _ in self._pieces(batch):
                    after = start + row + len(columns[0])
                    yield self._chunk(columns, start + row, {"row": after}, 0)
                start += batch.num_rows


class _ExamplesReader(Reader):
    """Reads the rows of a data set one by one, as the library gives them."""

    def __init__(self, source: Source, fields: Fields, problems: Problems) -> None:
        self._source = source
        self._fields = fields
        self._problems = problems

    def edges(self, size: int) -> Iterator[Position]:
        """Rows (``row``), unless it is a stream."""
        n_rows = _n_rows(self._source)
        return iter(()) if n_rows is None else _even_rows(self._source, n_rows, size)

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The records after `position` (``row`` records)."""
        columns = RecordColumns(self._fields)
        number = position.get("row", 0)
        last = None if end is None else end["row"]
        for record in _records_of(self._source.dataset, number, last):
            flaw: str | None = f"a row must be a dictionary, not {type(record).__name__}"
            if isinstance(record, Mapping):
                flaw = columns.add({name: _plain(value) for name, value in record.items()}, number)
            if flaw is not None:
                self._problems.record(location(self._source.path, number, "row"), flaw)
            number += 1
            if columns.full:
                yield self._chunk(columns, number)
                columns = RecordColumns(self._fields)
        yield self._chunk(columns, number)

    def _chunk(self, columns: RecordColumns, number: int) -> Chunk:
        numbers = np.array(columns.numbers, dtype=np.int64)
        locations = Locations(self._source.path, numbers, "row")
        prompts = None if columns.prompt is None else columns.prompt.documents()
        documents, from_text = columns.main.documents(), columns.main.from_text
        return Chunk(documents, prompts, locations, {"row": number}, 0, from_text)


def _plain(value: Any) -> Any:
    """A value, with arrays and tensors as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)) and any(hasattr(one, "tolist") for one in value[:1]):
        return [_plain(one) for one in value]
    return list(value) if isinstance(value, tuple) else value


def _rows_a_batch(fields: Fields, size: int, n_rows: int) -> int:
    """Rows of about `batch_tokens` tokens, by the size of all."""
    return int(min(max(fields.batch_tokens * 4 * max(n_rows, 1) // max(size, 1), 1), MAX_ROWS))


def _even_rows(source: Source, n_rows: int, size: int) -> Iterator[Position]:
    return ({"row": row} for row in even_edges(n_rows, n_shards(source.size, size)))


class _SavedReader(ColumnReader):
    """Reads the rows that the list of a saved folder picks, in the order of the list."""

    def __init__(self, source: Source, fields: Fields | None, problems: Problems) -> None:
        super().__init__(source, fields, problems)
        n_indices = len(source.entry.get("_indices_data_files") or [])
        data, indices = source.sides[:-n_indices], source.sides[-n_indices:]
        self._stack = ExitStack()
        self._batches = [batch for path in data for batch in self._read(path)]
        if not self._batches:
            raise DamagedFileError(f"{source.path}: its data files hold no rows")
        self.schema = self._batches[0].schema
        ends = np.cumsum([batch.num_rows for batch in self._batches])
        self._starts = np.concatenate((np.zeros(1, np.int64), ends))
        self._indices = [batch for path in indices for batch in self._read(path)]
        self.n_rows: int = sum(batch.num_rows for batch in self._indices)
        # The batches that rows were taken from, once they are checked.
        self._wanted: dict[int, Any] = {}

    def _read(self, path: Path) -> list[Any]:
        """The record batches of a file; their values stay in it."""
        with reading(path):
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
        tops = self._tops(self.schema)
        arrow.check_given(self._source, tops)
        for batch in self._batches:
            if batch is self._batches[0] or batch.schema != self._batches[0].schema:
                self._check_names(batch.schema.names, batch.schema)
        n_rows, start = int(self._starts[-1]), position.get("row", 0)
        last = self.n_rows if end is None else end["row"]
        size = sum(batch.select(tops).nbytes for batch in self._batches)
        step = _rows_a_batch(self.fields, size, n_rows)
        base = 0
        for indices in self._indices:
            rows = self._rows(indices)[: max(last - base, 0)]
            while start < base + len(rows):
                part = rows[start - base :][:step]
                after = {"row": start + len(part)}
                done = self._source.size * after["row"] // self.n_rows
                for row, columns, _ in self._pieces(self._take(part)):
                    end_ = {"row": start + row + len(columns[0])}
                    yield self._chunk(columns, start + row, end_, done)
                start = after["row"]
            base += len(rows)

    def _rows(self, indices: Any) -> npt.NDArray[np.int64]:
        import pyarrow as pa

        if not indices.num_columns:
            raise DamagedFileError(f"{self._source.sides[-1]}: does not hold a list of rows")
        with reading(self._source.sides[-1]):
            column = checked(indices.column(0))
        if not pa.types.is_integer(column.type) or column.null_count:
            raise DamagedFileError(f"{self._source.sides[-1]}: does not hold a list of rows")
        rows: npt.NDArray[Any] = column.to_numpy()
        total = int(self._starts[-1])
        wrong = np.flatnonzero((rows < 0) | (rows >= total))
        if len(wrong):
            raise DamagedFileError(
                f"{self._source.sides[-1]}: picks row {rows[wrong[0]]} of {total}"
            )
        return rows.astype(np.int64)

    def _checked(self, owner: int) -> Any:
        """The wanted columns of a record batch; those that cannot be taken from, made plain."""
        import pyarrow as pa

        if owner not in self._wanted:
            batch = self._batches[owner]
            with reading(self._source.path):
                paths = [self._path(name, batch.schema) for name in self.fields.names]
                columns = [checked(reached(batch, path)) for path in paths]
                columns = [one if _can_take(one.type) else plain(one) for one in columns]
            self._wanted[owner] = pa.record_batch(columns, names=self.fields.names)
        return self._wanted[owner]

    def _take(self, rows: npt.NDArray[np.int64]) -> Any:
        """Some rows: taken from one record batch after the other, then put in order."""
        import pyarrow as pa

        owners = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(owners, kind="stable")
        parts = []
        for owner in np.unique(owners):
            inside = rows[order[owners[order] == owner]] - self._starts[owner]
            batch = self._checked(int(owner))
            with reading(self._source.path):
                parts.append(batch.take(pa.array(inside)))
        back = np.empty(len(rows), dtype=np.int64)
        back[order] = np.arange(len(rows))
        with reading(self._source.path):
            table = pa.Table.from_batches(parts).combine_chunks()
        rows_in_order: Any = pa.array(back)
        return table.to_batches()[0].take(rows_in_order)


def _can_take(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        ((types.is_list(kind) or types.is_large_list(kind)) and types.is_integer(kind.value_type))
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )
