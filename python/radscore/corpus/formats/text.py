"""Plain text: one document per file, or per line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from radscore.corpus.base import Chunk, Locations, Position, Problems, Reader, location
from radscore.corpus.compression import CODECS
from radscore.corpus.format import Format, Known, Preview
from radscore.corpus.formats.jsonl import MAX_LINE, TOO_LONG, Entry, JsonLinesReader, Lines
from radscore.corpus.records import Fields, RecordColumns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.format import Options, Record, Source

__all__ = ["FORMATS"]

#: What the only field is called.
_FIELD = "text"
_BOM = b"\xef\xbb\xbf"


class Text(Format):
    """Files that are one document each."""

    name = "text"
    title = "plain text"
    files = "`.txt`; also packed as `jsonl` may be"
    content = "the whole file, as UTF-8"
    documents = "one per file; one per line with `--format lines`"
    remarks = "in a folder with data of other formats, such files are left out"

    suffixes = (".txt",)
    codecs = CODECS
    gives_way = True
    # Text that lies beside data sets and tokenizers.
    not_data = frozenset(
        {"LICENSE.txt", "README.txt", "license.txt", "merges.txt", "readme.txt", "requirements.txt",
         "vocab.txt"}
    )  # fmt: skip

    def preview(self, source: Source) -> Preview:
        """Its only field."""
        return Preview([_FIELD], str(source.path), {_FIELD: ""})

    def known(self, source: Source, options: Options) -> Known:  # noqa: ARG002 - whatever they are
        """One document."""
        return Known(None, 1)

    def boundaries(self, source: Source, eod: int | None) -> str | None:  # noqa: ARG002
        """The end of the file."""
        return "each text file is one document (format 'lines': each line)"

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads nothing yet."""
        assert options.fields is not None
        return _FileReader(source, options.fields, problems)

    def records(self, source: Source) -> Iterator[Record]:
        """The file as one record."""
        text, flaw = _whole(source)
        yield str(source.path), {_FIELD: text}, flaw


class TextLines(Format):
    """Files with a document per line."""

    name = "lines"
    title = "lines of text"
    files = "`.txt`, with `--format lines`; also packed as `jsonl` may be"
    content = "each line, as UTF-8"
    documents = "one per line"
    remarks = "blank lines are no documents"

    suffixes = (".txt",)
    suffix_suffices = False
    codecs = CODECS
    gives_way = True

    def preview(self, source: Source) -> Preview:
        """Its only field."""
        return Preview([_FIELD], str(source.path), {_FIELD: ""})

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads nothing yet."""
        assert options.fields is not None
        return _LinesReader(source, options.fields, problems)

    def records(self, source: Source) -> Iterator[Record]:
        """The lines that are not blank."""
        with Lines(source) as stream:
            for number, (line, _) in enumerate(stream.lines(0), start=1):
                record, flaw = _line(line)
                if record is not None or flaw is not None:
                    yield location(source.path, number, "line"), record, flaw


FORMATS = (Text(), TextLines())


def _decoded(data: bytes) -> tuple[str, str | None]:
    """The text of some bytes, or its flaw."""
    try:
        return data.removeprefix(_BOM).decode(), None
    except UnicodeDecodeError as error:
        return "", f"not UTF-8 (byte {error.start} is 0x{data[error.start]:02x})"


def _line(line: bytes | None) -> tuple[dict[str, str] | None, str | None]:
    """The record of a line, or its flaw; neither if it is blank."""
    if line is None:
        return None, TOO_LONG
    if not line or line.isspace():
        return None, None
    text, flaw = _decoded(line.removesuffix(b"\r"))
    return (None, flaw) if flaw is not None else ({_FIELD: text}, None)


def _whole(source: Source) -> tuple[str, str | None]:
    """The text of a file, or its flaw."""
    parts, size = [], 0
    with Lines(source) as stream:
        while block := stream.read(1 << 20):
            size += len(block)
            if size > MAX_LINE:
                return "", (
                    f"the text is longer than {MAX_LINE} bytes, too long for one document; format "
                    "'lines' reads one per line"
                )
            parts.append(block)
    return _decoded(b"".join(parts))


class _LinesReader(JsonLinesReader):
    """Reads lines of text."""

    def entries(self, stream: Lines, byte: int) -> Iterator[Entry]:
        """What each line after a byte holds."""
        for line, length in stream.lines(byte):
            yield 1, length, *_line(line)


class _FileReader(Reader):
    """Reads a file as one document."""

    fails_early = True

    def __init__(self, source: Source, fields: Fields, problems: Problems) -> None:
        self._source, self._fields, self._problems = source, fields, problems

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:  # noqa: ARG002 - it has no edges
        """The document, unless `position` is behind it (``document``)."""
        if position.get("document", 0):
            return
        columns = RecordColumns(self._fields)
        text, flaw = _whole(self._source)
        if flaw is None:
            flaw = columns.add({_FIELD: text}, 0)
        if flaw is not None:
            self._problems.record(str(self._source.path), flaw)
        locations = Locations(self._source.path, np.array(columns.numbers, np.int64), "document")
        prompts = None if columns.prompt is None else columns.prompt.documents()
        yield Chunk(
            columns.main.documents(),
            prompts,
            locations,
            {"document": 1},
            self._source.size,
            from_text=True,
        )
