"""Plain text: one document per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from radscore.corpus.base import Chunk, Locations, Position, Problems, Reader
from radscore.corpus.compression import CODECS
from radscore.corpus.format import Format, Known, Preview
from radscore.corpus.formats.jsonl import MAX_LINE, Lines
from radscore.corpus.records import Fields, RecordColumns
from radscore.corpus.text.failures import flaw_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.format import Options, Record, Source
    from radscore.corpus.room import Room

__all__ = ["FIELD", "FORMAT", "decoded"]

#: What the only field is called.
FIELD = "text"
_BOM = b"\xef\xbb\xbf"


class Text(Format):
    """Files that are one document each."""

    name = "txt"
    title = "plain text"
    files = "`.txt`; also packed as `jsonl` may be"
    content = "the whole file, as UTF-8"
    documents = "one per file; one per line with `--format lines`"
    remarks = "in a folder with data of other formats, such files are left out"

    suffixes = (".txt",)
    codecs = CODECS
    gives_way = True

    def preview(self, source: Source) -> Preview:
        """Its only field."""
        return Preview([FIELD], str(source.path), {FIELD: ""})

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
        yield str(source.path), {FIELD: text}, flaw


FORMAT = Text()


def decoded(data: bytes | bytearray) -> tuple[str, str | None]:
    """The text of some bytes, or its flaw."""
    try:
        return data.removeprefix(_BOM).decode(), None
    except UnicodeDecodeError as error:
        return "", flaw_of_bytes(error)


def _whole(source: Source, room: Room | None = None) -> tuple[str, str | None]:
    """The text of a file, or its flaw."""
    parts, size = [], 0
    with Lines(source, room) as stream:
        while block := stream.read(1 << 20):
            size += len(block)
            if size <= stream.most:
                parts.append(block)
                continue
            parts.clear()
            if size > MAX_LINE:  # that is enough to know
                break
        if size > stream.most:
            flaw = stream.too_long(size, "the text")
            return "", f"{flaw} (format 'lines' reads one document per line)"
    return decoded(b"".join(parts))


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
        text, flaw = _whole(self._source, self._fields.room)
        if flaw is None:
            flaw = columns.add({FIELD: text}, 0)
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
