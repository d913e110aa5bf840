"""Columns of lists of ids, or of text: what Parquet, Arrow and data sets share."""

from __future__ import annotations

import json
import mmap
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.columnar import Path as FieldPath
from radscore.columnar import checked, holds_ids, holds_text, path_to, plain, reached, weights
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
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from radscore.corpus.format import Source
    from radscore.corpus.room import Room

__all__ = [
    "MAX_ROWS",
    "ColumnReader",
    "MappedFile",
    "first_groups",
    "holds_in",
    "open_arrow",
    "rows_of",
]

#: Rows of a batch, at most.
MAX_ROWS = 1 << 16
_ROWS_AT_ONCE = 1 << 10
#: Features of `datasets` whose values are stored as they are; it decodes all others.
_STORED_AS_IS = ("Value", "ClassLabel", "Sequence", "List", "LargeList")
_FEATHER_1 = b"FEA1"
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

    def _check_names(self, available: list[str], schema: Any = None) -> None:
        """Raises unless each wanted column is there, once, and is what it is stored as."""
        path = self._source.path
        features = {} if schema is None else _features(schema.metadata or {})
        for name in self.fields.names:
            top = name if schema is None else self._path(name, schema)[0]
            if top not in available:
                raise DamagedFileError(f"{path}: {missing_field(name, available)}")
            if available.count(top) > 1:
                raise DamagedFileError(f"{path}: two columns are named {top!r}")
            feature = features.get(top)
            kind = feature.get("_type", "Value") if isinstance(feature, dict) else "Value"
            if kind not in _STORED_AS_IS:
                raise DamagedFileError(
                    f"{path}: column {top!r} holds {kind} of the library datasets; load it with "
                    "that library and give the data set itself"
                )

    def _path(self, name: str, schema: Any) -> FieldPath:
        """Where a wanted field is."""
        found = path_to(name, schema)
        if found is None:
            raise DamagedFileError(f"{self._source.path}: {missing_field(name, schema.names)}")
        return found

    def _tops(self, schema: Any) -> list[str]:
        """The columns that hold the wanted fields, each once."""
        paths = [self._path(name, schema) for name in self.fields.names]
        return list(dict.fromkeys(str(path[0]) for path in paths))

    def _pieces(self, batch: Any, start: int = 0) -> Iterator[tuple[int, list[Any], int]]:
        """A record batch from row `start` in pieces of about `batch_tokens` tokens.

        Gives the first row of each, its columns as large lists of integers or large binary, and
        its tokens (about). A batch without rows is one piece.
        """
        path, room = self._source.path, self.fields.batch_tokens
        with reading(path):
            names = self.fields.names
            found = [reached(batch, self._path(name, batch.schema)) for name in names]
            columns = [checked(column) for column in found]
        for name, column in zip(names, found, strict=True):
            if not holds_text(column.type) and not holds_ids(column.type):
                raise DamagedFileError(
                    f"{path}: column {name!r} must hold text or lists of integers, "
                    f"not {column.type}"
                )
        for first in range(start, max(batch.num_rows, 1), MAX_ROWS):
            with reading(path):
                some = [column.slice(first, MAX_ROWS) for column in columns]
                ends = np.cumsum(sum(weights(column) for column in some))
            row = before = 0
            while row < len(ends) or not batch.num_rows:
                end = max(int(np.searchsorted(ends, before + room, side="right")), row + 1)
                with reading(path):
                    made = [plain(column.slice(row, end - row)) for column in some]
                after = int(ends[min(end, len(ends)) - 1]) if len(ends) else 0
                yield first + row, made, after - before
                if not batch.num_rows:
                    return
                row, before = end, after

    def _chunk(
        self, columns: list[Any], first_row: int, position: Position, bytes_read: int
    ) -> Chunk:
        """The documents of a piece whose first row is `first_row` of the file."""
        import pyarrow as pa

        columns = [_text_if_valid(column) for column in columns]
        n_rows = len(columns[0])
        numbers = np.arange(first_row, first_row + n_rows, dtype=np.int64)
        kept = np.ones(n_rows, dtype=bool)
        for name, column in zip(self.fields.names, columns, strict=True):
            for row, reason in sorted(self._flaws(column, name)):
                if kept[row]:
                    kept[row] = False
                    where = location(self._source.path, first_row + row, "row")
                    self._problems.record(where, reason)
        if not kept.all():
            mask = pa.array(kept)
            columns = [_text_if_valid(column.filter(mask)) for column in columns]
            numbers = numbers[kept]
        documents = [self._documents(column) for column in columns]
        prompts = None if self.fields.prompt is None else documents[-1]
        locations = Locations(self._source.path, numbers, "row")
        from_text = not pa.types.is_large_list(columns[0].type)
        return Chunk(documents[0], prompts, locations, position, bytes_read, from_text)

    def _flaws(self, column: Any, name: str) -> Iterator[tuple[int, str]]:
        """Rows that cannot be read, and their flaws."""
        import pyarrow as pa

        is_text = not pa.types.is_large_list(column.type)
        if is_text and self.fields.encoder is None and len(column):
            raise NoTokenizerError(f"{self._source.path}: {needs_tokenizer(name)}")
        for row in _null_rows(column):
            yield row, f"field {name!r} is null"
        if self.fields.room is not None:
            yield from _too_large(column, name, self.fields.room)
        if is_text:
            if not pa.types.is_large_string(column.type):
                yield from _not_text(column, name)
        elif column.flatten().null_count:
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
        texts = ValueColumn(self.fields.encoder, room=self.fields.room)
        for text in column.to_pylist():
            texts.add(text)
        return texts.documents()


def holds_in(schema: Any, given: list[str]) -> Callable[[str], bool]:
    """Whether a name leads into one of the columns that are given."""

    def holds(name: str) -> bool:
        path = path_to(name, schema)
        return path is not None and path[0] in given

    return holds


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What `datasets` says of the columns of a file that it wrote."""
    try:
        found = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _null_rows(column: Any) -> npt.NDArray[Any]:
    if not column.null_count:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))


def _too_large(column: Any, name: str, room: Room) -> Iterator[tuple[int, str]]:
    """Rows that take more memory than there is for one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_text = not pa.types.is_large_list(column.type)
    flaw = room.flaw_of_text if is_text else room.flaw_of_ids
    if flaw(column.nbytes) is None:
        return
    sizes = pc.binary_length(column) if is_text else pc.list_value_length(column)
    item = 1 if is_text else column.type.value_type.bit_width // 8
    for row, size in enumerate(sizes.to_pylist()):
        if (found := flaw(item * (size or 0), f"field {name!r}")) is not None:
            yield row, found


def _text_if_valid(column: Any) -> Any:
    """Large binary as text, if all of it is UTF-8; else unchanged, as are lists."""
    import pyarrow as pa

    if pa.types.is_large_list(column.type):
        return column
    with suppress(pa.ArrowInvalid):
        return column.cast(pa.large_string())
    return column


def _not_text(column: Any, name: str) -> Iterator[tuple[int, str]]:
    """The rows of a binary column that are not UTF-8."""
    for row, value in enumerate(column.to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError as error:
            bad = f"byte {error.start} is 0x{value[error.start]:02x}"
            yield row, f"field {name!r} is not UTF-8 ({bad})"


def rows_of(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a record batch as records: text as str, ids as lists, anything else as it is.

    Raises `pyarrow.ArrowInvalid` if an offset or a length of the batch lies.
    """
    columns = [checked(column) for column in batch.columns]
    for first in range(0, batch.num_rows, _ROWS_AT_ONCE):
        values = [_values(column.slice(first, _ROWS_AT_ONCE)) for column in columns]
        for row in zip(*values, strict=True):
            yield dict(zip(batch.schema.names, row, strict=True))


def _values(column: Any) -> list[Any]:
    if holds_text(column.type) or holds_ids(column.type):
        column = _text_if_valid(plain(column))
    values: list[Any] = column.to_pylist()
    return values


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


def open_arrow(stream: Any, names: Sequence[str] | None = None) -> Any:
    """A reader of the file or of the stream format, whichever it is.

    With `names`, only these columns are read (and decompressed), but no longer in place.
    """
    import pyarrow as pa

    stream.seek(0)
    head = stream.read(6)
    stream.seek(0)
    if head.startswith(_FEATHER_1):
        raise pa.ArrowInvalid(
            "a Feather file of version 1, which is not read: write it again, by "
            "pyarrow.feather.write_feather(pyarrow.feather.read_table(old), new)"
        )
    open_ = pa.ipc.open_file if head == b"ARROW1" else pa.ipc.open_stream
    reader = open_(stream)
    wanted = [i for i, name in enumerate(reader.schema.names) if name in (names or ())]
    if not wanted:
        return reader
    stream.seek(0)
    return open_(stream, options=pa.ipc.IpcReadOptions(included_fields=wanted))
