"""Values separated by commas, with a line of names at the top."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from radscore.corpus.base import DamagedFileError, Problems, Reader, location
from radscore.corpus.compression import CODECS
from radscore.corpus.format import Format, Preview
from radscore.corpus.formats.jsonl import Entry, JsonLinesReader, Lines
from radscore.corpus.text.failures import flaw_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.base import Position
    from radscore.corpus.format import Options, Record, Source
    from radscore.corpus.records import Fields

__all__ = ["FORMAT", "Csv"]

_BOM: Final = "\ufeff"
#: Characters of a value; a quote that is never closed would swallow the rest of the file.
_MOST: Final = 1 << 24
#: A list of ids, as pandas writes it; no text is only that.
_IDS: Final = re.compile(r"\s*\[[\s0-9,]*\]\s*")


class Csv(Format):
    """Values separated by commas."""

    name = "csv"
    title = "comma-separated values"
    files = "`.csv`; also packed as `jsonl` may be"
    content = "a column of text, or of lists of ids such as `[5, 6]`"
    documents = "one per row"
    remarks = "the first line names the columns; values with line ends are quoted"

    suffixes = (".csv",)
    codecs = CODECS
    gives_way = True
    delimiter: ClassVar[str] = ","

    def preview(self, source: Source) -> Preview:
        """The names in the first line, and the first row."""
        for where, record, flaw in self.records(source):
            if flaw is None:
                values = {name: _value(text) for name, text in record.items()}
                return Preview(list(record), where, values)
        with Lines(source) as stream:
            names = _Rows(stream, 0, self.delimiter).header(source)
        return Preview(names or None, location(source.path, 1, "line") if names else "")

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads nothing yet."""
        assert options.fields is not None
        return _CsvReader(source, options.fields, problems, self.delimiter)

    def records(self, source: Source) -> Iterator[Record]:
        """The rows, as names and texts."""
        with Lines(source) as stream:
            rows = _Rows(stream, 0, self.delimiter)
            names = rows.header(source)
            line = 1 + rows.n_lines
            for n_lines, _, row, bad in rows:
                if row or bad is not None:
                    record = dict(zip(names, row, strict=False))
                    where = location(source.path, line, "line")
                    yield where, record, bad or _wrong_number(row, names)
                line += n_lines


FORMAT = Csv()


def _wrong_number(row: list[str], names: list[str]) -> str | None:
    if len(row) == len(names):
        return None
    return f"the row has {len(row)} values, but the first line names {len(names)} columns"


def _value(text: str) -> Any:
    """A value: text, or a list of ids."""
    if not _IDS.fullmatch(text):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


class _Rows:
    """The rows from a byte on: lines and bytes that each takes, its values, and its flaw."""

    def __init__(self, stream: Lines, byte: int, delimiter: str) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), _MOST))
        self._stream, self._lines = stream, stream.lines(byte)
        self._rows = csv.reader(self._Feed(self), delimiter=delimiter, strict=True)
        self._first = byte == 0
        self.n_lines = self.n_bytes = 0

    class _Feed:
        """Hands on lines one by one, and goes on after one that cannot be read."""

        def __init__(self, rows: _Rows) -> None:
            self._of = rows

        def __iter__(self) -> Iterator[str]:
            return self

        def __next__(self) -> str:
            return self._of.next_line()

    def next_line(self) -> str:
        """One line as text."""
        line, length = next(self._lines)
        first = self._first and self.n_lines == 0
        self.n_lines, self.n_bytes = self.n_lines + 1, self.n_bytes + length
        if line is None:
            raise csv.Error(self._stream.too_long(length))
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise csv.Error(flaw_of_bytes(error, " of the line")) from None
        return f"{text.removeprefix(_BOM) if first else text}\n"

    def header(self, source: Source) -> list[str]:
        """The names in the first line."""
        for _, _, row, flaw in self:
            if flaw is not None:
                raise DamagedFileError(f"{location(source.path, 1, 'line')}: {flaw}")
            return row
        return []

    def __iter__(self) -> Iterator[tuple[int, int, list[str], str | None]]:
        while True:
            n_lines, n_bytes = self.n_lines, self.n_bytes
            row: list[str] = []
            flaw = None
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                flaw = str(error)
                if "unexpected end of data" in flaw:
                    flaw = "a quote is never closed: the rest of the file is lost"
            self._first = self._first and not self.n_lines
            yield self.n_lines - n_lines, self.n_bytes - n_bytes, row, flaw


class _CsvReader(JsonLinesReader):
    """Reads a table as a stream. It has no edges: a line may be within a quoted value."""

    def __init__(self, source: Source, fields: Fields, problems: Problems, delimiter: str) -> None:
        super().__init__(source, fields, problems)
        self._of, self._delimiter = source, delimiter

    def edges(self, size: int) -> Iterator[Position]:  # noqa: ARG002
        """None."""
        return iter(())

    def entries(self, stream: Lines, byte: int) -> Iterator[Entry]:
        """What each row holds."""
        with Lines(self._of) as other:
            head = _Rows(other, 0, self._delimiter)
            names = head.header(self._of)
        for name in self.fields.names:
            if names.count(name) > 1:
                raise DamagedFileError(f"{self._of.path}: two columns are named {name!r}")
        if byte == 0:
            yield head.n_lines, head.n_bytes, None, None
            byte = head.n_bytes
        if byte == 0:  # an empty file
            return
        for n_lines, length, row, bad in _Rows(stream, byte, self._delimiter):
            if not row and bad is None:
                yield n_lines, length, None, None
                continue
            record = dict(zip(names, row, strict=False))
            for name in self.fields.names:
                if name in record:
                    record[name] = _value(record[name])
            yield n_lines, length, record, bad or _wrong_number(row, names)
