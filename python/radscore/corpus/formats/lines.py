"""Plain text: one document per line. Nothing tells such files from documents of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radscore.corpus.base import Problems, Reader, location
from radscore.corpus.compression import CODECS
from radscore.corpus.format import Format, Preview
from radscore.corpus.formats.jsonl import Entry, JsonLinesReader, Lines
from radscore.corpus.formats.txt import FIELD, decoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.format import Options, Record, Source

__all__ = ["FORMAT"]


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
        return Preview([FIELD], str(source.path), {FIELD: ""})

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads nothing yet."""
        assert options.fields is not None
        return _LinesReader(source, options.fields, problems)

    def records(self, source: Source) -> Iterator[Record]:
        """The lines that are not blank."""
        with Lines(source) as stream:
            for number, (line, length) in enumerate(stream.lines(0), start=1):
                record, flaw = _line(stream, line, length)
                if record is not None or flaw is not None:
                    yield location(source.path, number, "line"), record, flaw


FORMAT = TextLines()


def _line(
    stream: Lines, line: bytes | bytearray | None, length: int
) -> tuple[dict[str, str] | None, str | None]:
    """The record of a line, or its flaw; neither if it is blank."""
    if line is None:
        return None, stream.too_long(length)
    if not line or line.isspace():
        return None, None
    text, flaw = decoded(line.removesuffix(b"\r"))
    return (None, flaw) if flaw is not None else ({FIELD: text}, None)


class _LinesReader(JsonLinesReader):
    """Reads lines of text."""

    def entries(self, stream: Lines, byte: int) -> Iterator[Entry]:
        """What each line after a byte holds."""
        for line, length in stream.lines(byte):
            yield 1, length, *_line(stream, line, length)
