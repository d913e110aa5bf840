"""The files of single documents: one row for each, and the records of those that were selected.

Records are read once more, and matched by their locations: so a row has the values of its own
record, whatever was skipped.
"""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.cli.exits import UsageError
from radscore.cli.output import finite
from radscore.corpus.base import location
from radscore.corpus.format import Format
from radscore.corpus.records import missing_field, value_of
from radscore.corpus.remote import named
from radscore.errors import CorpusError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from radscore.corpus import Corpus
    from radscore.corpus.format import Source

__all__ = [
    "CHUNK",
    "COLUMNS",
    "KINDS",
    "RECORD_FILES",
    "ROW_FILES",
    "Wanted",
    "check_records",
    "has_records",
    "kept_columns",
    "row_numbers",
    "selected",
    "wanted_of",
    "write_records",
    "write_rows",
]

KINDS = ("line", "row", "token", "document")
ROW_FILES, RECORD_FILES = (".parquet", ".jsonl", ".csv"), (".parquet", ".jsonl")
#: The columns that every row has; the score is `n_green` or `score`.
COLUMNS = (
    *("index", "source", "row", "location", "n_tokens", "n_scored", "n_green", "score"),
    *("statistic", "zscore", "pvalue", "log10_pvalue", "qvalue", "n_shared", "n_common", "copy_of"),
)
_ID = "id"
#: Rows at a time.
CHUNK = 1 << 16
_AT_ONCE = 1 << 12


@dataclass(frozen=True)
class Wanted:
    """What to write about single documents.

    Attributes
    ----------
    rows : str or None
        The file of rows.
    id_field : str or None
        The field that becomes column ``id``.
    keep : tuple of str
        Further fields that become columns of their own names.
    select, out : str or None
        "found" or "clean", and the file for their records.
    level : float
        The false discovery rate up to which a document is found.
    force : bool
        Whether to replace these files.
    """

    rows: str | None
    id_field: str | None
    keep: tuple[str, ...]
    select: str | None
    out: str | None
    level: float
    force: bool


def wanted_of(args: argparse.Namespace, level: float) -> Wanted:
    """What the options ask for; refuses what cannot be."""
    keep = tuple(name.strip() for name in (args.keep or "").split(",") if name.strip())
    if args.per_document is None:
        for name, given in (("--id-field", args.id_field), ("--keep", args.keep)):
            if given is not None:
                raise UsageError(f"{name} has no effect without --per-document")
    else:
        check_suffix("--per-document", args.per_document, ROW_FILES)
    if (args.select is None) != (args.out is None):
        raise UsageError("--select and --out go together: which documents, and where to")
    if args.out is not None:
        check_suffix("--out", args.out, RECORD_FILES)
    if taken := [name for name in keep if name in (*COLUMNS, _ID)]:
        raise UsageError(
            f"--keep: the rows have a column {taken[0]!r} of their own"
            + ("" if taken[0] in COLUMNS else "; give --id-field id")
        )
    return Wanted(args.per_document, args.id_field, keep, args.select, args.out, level, args.force)


def check_records(wanted: Wanted, corpus: Corpus) -> None:
    """Raises if fields are wanted of files that have none to read again, or not these."""
    if wanted.keep or wanted.id_field is not None:
        for source in corpus.sources:
            if not has_records(source):
                name = "--id-field" if wanted.id_field is not None else "--keep"
                raise UsageError(
                    f"{name} needs records with fields, but {source.path} is of format "
                    f"{source.format.name}; join by source and row instead"
                )
        _check_fields(wanted, corpus)


def _check_fields(wanted: Wanted, corpus: Corpus) -> None:
    """Raises if the first records lack a field that is wanted; later it would cost the scoring."""
    missing = set(_fields(wanted).values())
    every = (record for source in corpus.sources for record in source.format.records(source))
    found: dict[str, Any] = {}
    for _, record, _ in islice(every, CHUNK):
        if isinstance(record, dict):
            found = record
            missing = {name for name in missing if not value_of(record, name)[0]}
        if not missing:
            return
    if found:
        raise _no_field(wanted, next(n for n in _fields(wanted).values() if n in missing), found)


def _fields(wanted: Wanted) -> dict[str, str]:
    """The fields that rows keep, by the names of their columns."""
    own_id = {} if wanted.id_field is None else {_ID: wanted.id_field}
    return own_id | {name: name for name in wanted.keep}


def _no_field(wanted: Wanted, name: str, record: dict[str, Any]) -> UsageError:
    option = "--id-field" if name == wanted.id_field else "--keep"
    return UsageError(f"{option}: {missing_field(name, record)}")


def _or(names: tuple[str, ...]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def check_suffix(option: str, path: str, suffixes: tuple[str, ...]) -> None:
    """Raises unless the name says which format is meant."""
    if Path(path).suffix not in suffixes:
        raise UsageError(f"{option} must end in {_or(suffixes)}, not {path}")


def has_records(source: Source) -> bool:
    """Whether the documents of a file are records that can be read again as they are."""
    kind = type(source.format)
    return source.format.has_fields(source) and kind.records is not Format.records


def records_at(corpus: Corpus, rows: npt.NDArray[Any]) -> Iterator[dict[str, Any]]:
    """The records that these rows of documents, in reading order, stand for.

    Raises
    ------
    CorpusError
        If one is not found any more.
    """
    for number in np.unique(rows["source"]).tolist():
        source = corpus.sources[number]
        records = source.format.records(source)
        for row in rows[rows["source"] == number]:
            where = location(source.path, int(row["number"]), KINDS[row["kind"]])
            record = next((one for at, one, _ in records if at == where), None)
            if not isinstance(record, dict):
                raise CorpusError(f"{where}: the record is not there any more; was it changed?")
            yield record


def kept_columns(
    corpus: Corpus, rows: npt.NDArray[Any], wanted: Wanted
) -> Iterator[dict[str, list[Any]]]:
    """The values of the fields that rows keep, as many at a time as are asked for by `send`."""
    fields = _fields(wanted)
    seen = dict.fromkeys(fields.values(), False)
    records = records_at(corpus, rows)
    n_left = len(rows)
    while n_left:
        columns: dict[str, list[Any]] = {name: [] for name in fields}
        record: dict[str, Any] = {}
        for record in (next(records) for _ in range(min(n_left, CHUNK))):
            for column, name in fields.items():
                there, value = value_of(record, name)
                seen[name] |= there
                columns[column].append(value)
        n_left -= len(next(iter(columns.values())))
        if missing := [name for name, there in seen.items() if not there]:
            raise _no_field(wanted, missing[0], record)
        yield columns


# ---- rows ------------------------------------------------------------------------------------


def write_rows(path: Path, suffix: str, chunks: Iterable[dict[str, Any]], made: Any) -> None:
    """Writes columns, some rows at a time; Parquet also says what made them."""
    if suffix == ".parquet":
        _write_tables(path, (_table_of(columns, made) for columns in chunks))
    elif suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            for columns in chunks:
                for row in _rows_of(columns):
                    file.write(_line(dict(zip(columns, row, strict=True))))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            for i, columns in enumerate(chunks):
                if i == 0:
                    writer.writerow(columns)
                writer.writerows(map(_cells, _rows_of(columns)))


def _table_of(columns: dict[str, Any], made: Any) -> Any:
    import pyarrow as pa

    table = pa.table({name: _array(name, column) for name, column in columns.items()})
    return table.replace_schema_metadata({"radscore.provenance": json.dumps(made)})


def _array(name: str, values: Any) -> Any:
    import pyarrow as pa

    try:
        array = pa.array(values, from_pandas=isinstance(values, np.ndarray))  # NaN is null
    except (pa.ArrowException, OverflowError):
        raise _mixed(name) from None
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _mixed(name: str) -> UsageError:
    return UsageError(f"field {name!r} holds values of several types; write a .jsonl file instead")


def _write_tables(path: Path, tables: Iterable[Any]) -> None:
    import pyarrow.parquet as pq

    writer = schema = None
    try:
        for table in tables:
            if writer is None:
                schema = table.schema
                writer = pq.ParquetWriter(path, schema)
            writer.write_table(table if table.schema == schema else _fitted(table, schema))
    finally:
        if writer is not None:
            writer.close()


def _fitted(table: Any, schema: Any) -> Any:
    """A table with the columns and types of those before it."""
    import pyarrow as pa

    new = [name for name in table.column_names if name not in schema.names]
    if new:
        raise UsageError(f"field {new[0]!r} is not in all records; write a .jsonl file instead")
    columns = []
    for field in schema:
        try:
            columns.append(
                table[field.name].cast(field.type)
                if field.name in table.column_names
                else pa.nulls(len(table), field.type)
            )
        except pa.ArrowException:
            raise _mixed(field.name) from None
    return pa.table(columns, schema=schema)


def _rows_of(columns: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    lists = (c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values())
    return zip(*lists, strict=True)


def _line(record: dict[str, Any]) -> str:
    """A line of JSON that every reader accepts; NaN is null."""
    try:
        text = json.dumps(record, ensure_ascii=False, default=_plain, allow_nan=False)
    except ValueError:
        record = finite(record)
        text = json.dumps(record, ensure_ascii=False, default=_plain)
    try:
        text.encode()
    except UnicodeEncodeError:  # halves of surrogate pairs
        text = json.dumps(record, default=_plain)
    return text + "\n"


def _plain(value: Any) -> Any:
    """What JSON can hold instead of a value that only Arrow can."""
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return str(value)


def _cells(row: tuple[Any, ...]) -> list[Any]:
    kinds = (dict, list)
    return [_line({"": v})[5:-2] if isinstance(v, kinds) else v for v in row]


# ---- records ---------------------------------------------------------------------------------


def selected(
    corpus: Corpus, rows: npt.NDArray[Any], chosen: npt.NDArray[np.bool_], again: Callable[[], Any]
) -> Iterator[list[dict[str, Any]]]:
    """The records of chosen documents, some at a time; their ids, where files hold no records."""
    some: list[dict[str, Any]] = []
    for record in _records(corpus, rows, chosen, again):
        some.append(record)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _records(
    corpus: Corpus, rows: npt.NDArray[Any], chosen: npt.NDArray[np.bool_], again: Callable[[], Any]
) -> Iterator[dict[str, Any]]:
    if all(map(has_records, corpus.sources)):
        yield from records_at(corpus, rows[chosen])
        return
    first = 0
    for batch in again():
        for i in np.flatnonzero(chosen[first : first + len(batch.documents)]).tolist():
            source = named(corpus.sources[rows["source"][first + i]].path)
            row = row_numbers(rows[first + i : first + i + 1])[0]
            ids = batch.documents[i].tolist()
            yield {"source": source, "row": int(row), "input_ids": ids}
        first += len(batch.documents)


def row_numbers(rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Numbers of records in their files, from 0; first tokens, in files of tokens."""
    numbers: npt.NDArray[np.int64] = rows["number"] - (rows["kind"] == KINDS.index("line"))
    return numbers


def write_records(
    path: Path, suffix: str, chunks: Iterable[list[dict[str, Any]]], like: Any
) -> int:
    """Writes records, and returns how many; Parquet with the types of the file `like`, if any."""
    total = 0

    def counted() -> Iterator[list[dict[str, Any]]]:
        nonlocal total
        for records in chunks:
            total += len(records)
            yield records

    if suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            for records in counted():
                file.writelines(map(_line, records))
        return total
    import pyarrow as pa

    schema = None if like is None else _schema(like)

    def tables() -> Iterator[Any]:
        if schema is not None:
            for records in counted():
                yield _like(records, schema)
            if not total:
                yield schema.empty_table()
            return
        for records in counted():
            names = list(dict.fromkeys(name for record in records for name in record))
            columns = {name: [one.get(name) for one in records] for name in names}
            yield pa.table({name: _array(name, column) for name, column in columns.items()})
        if not total:
            yield pa.table({})

    _write_tables(path, tables())
    return total


def _like(records: list[dict[str, Any]], schema: Any) -> Any:
    """Records as a table with the types of the file that they came from."""
    import pyarrow as pa

    try:
        return pa.Table.from_pylist(records, schema=schema)
    except (pa.ArrowException, OverflowError):
        raise UsageError(
            "the Parquet files have columns of different types; write a .jsonl file instead"
        ) from None


def _schema(like: Path) -> Any:
    """The types of a Parquet file."""
    import pyarrow.parquet as pq

    return pq.read_schema(like)
