"""JSON lines, also compressed: one record per line."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    Locations,
    Position,
    Problems,
    Reader,
    SkipReport,
    even_edges,
    location,
    n_shards,
    reading,
)
from radscore.corpus.compression import BY_MEMBER, CODECS, Unpacked
from radscore.corpus.format import Format, Preview
from radscore.corpus.readers.long_values import LONG, Wanted, parse
from radscore.corpus.records import Fields, RecordColumns
from radscore.corpus.text.failures import flaw_of_bytes
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from radscore.corpus.format import Options, Record, Source
    from radscore.corpus.room import Room

__all__ = ["FORMAT", "MAX_LINE", "Entry", "JsonLinesReader", "Lines"]

_BLOCK = 1 << 22
# Small, since a cut-off file loses the block that is being decompressed.
_COMPRESSED_BLOCK = 1 << 16
#: A longer line is a bad record: memory must not depend on the input.
MAX_LINE = 1 << 28
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SHORT = 1 << 10
_ARRAY = (
    "this is a JSON array; radscore reads JSON lines, one record per line: convert it with "
    "jq -c '.[]'"
)
_PRETTY = "a record must stand on one line: convert the file with jq -c ."
# Lines that are searched for the first good record.
_PREVIEW_LINES = 1000
_SKETCH = Wanted.of((), None)
# Where a sample begins, the rest of a line of at most this length is skipped.
_MAX_SKIPPED = 1 << 24


#: How many lines and bytes a record takes, the record if there is one, and its flaw.
Entry: TypeAlias = tuple[int, int, Any, str | None]


class JsonLines(Format):
    """Lines of JSON objects."""

    name = "jsonl"
    title = "JSON lines"
    files = "`.jsonl`, `.ndjson`, `.json`; also `.gz`, `.zst`, `.bz2`, `.xz`, `.lz4`, `.br`"
    content = "a field with text, or with a list of ids"
    documents = "one per line"
    remarks = "a broken line is named; `--on-error skip` counts it and continues"

    suffixes = (".jsonl", ".ndjson", ".json")
    magic = (b"{",)
    codecs = CODECS
    # JSON that lies beside data sets and tokenizers.
    not_data = frozenset(
        {
            "config.json",
            "dataset_dict.json",
            "dataset_info.json",
            "dataset_infos.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        }
    )
    takes_any_suffix = True

    def preview(self, source: Source) -> Preview:
        """The first good record among the first lines, else what is wrong with the first."""
        first_flaw = ""
        with Lines(source) as stream:
            for number, (line, _) in enumerate(stream.lines(0), start=1):
                if number > _PREVIEW_LINES:
                    break
                if not line or line.isspace():
                    continue
                where = location(source.path, number, "line")
                record, flaw = _parse(line, first=number == 1, wanted=_SKETCH)
                if isinstance(record, dict):
                    return Preview(list(record), where, record)
                reason = flaw or "a record must be a JSON object"
                first_flaw = first_flaw or f"{where}: {reason}"
        return Preview(None, first_flaw)

    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """Reads nothing yet."""
        assert options.fields is not None
        return JsonLinesReader(source, options.fields, problems)

    def records(self, source: Source) -> Iterator[Record]:
        """The record of every line that is not blank."""
        with Lines(source) as stream:
            for number, (line, length) in enumerate(stream.lines(0), start=1):
                where = location(source.path, number, "line")
                if line is None:
                    yield where, None, stream.too_long(length)
                elif line and not line.isspace():
                    yield where, *_parse(line, first=number == 1)

    def positions(self, source: Source, options: Options, shares: list[float]) -> list[Position]:
        """Beginnings of lines; the beginning only of a compressed file."""
        if source.codec is not None:
            return super().positions(source, options, shares)
        return [_line_after(source, int(share * source.size)) for share in shares]


FORMAT = JsonLines()


def _line_after(source: Source, byte: int) -> Position:
    """The beginning of the first line after a byte."""
    if byte == 0:
        return {}
    with reading(source.path), source.path.open("rb") as file:
        file.seek(byte)
        rest = file.readline(_MAX_SKIPPED)
    return {"line": 1, "byte": byte + len(rest)} if rest.endswith(b"\n") else {}


class JsonLinesReader(Reader):
    """Reads JSON lines of text or token ids as a stream, never a whole file.

    Subclasses read other records that stand on lines: they override `entries`.
    """

    #: Lines are bad one by one; a compressed file may be cut off, but has no edges.
    fails_early = True

    def __init__(self, source: Source, fields: Fields, problems: Problems) -> None:
        self._source = source
        self.fields = fields
        self._problems = problems
        self._wanted = Wanted.of(fields.names, fields.room)

    def edges(self, size: int) -> Iterator[Position]:
        """Beginnings of lines (``byte``), not counted: that would read all lines before them."""
        path, total, byte = self._source.path, self._source.size, 0
        with reading(path), path.open("rb") as file:
            for edge in even_edges(total, n_shards(total, size)):
                if edge <= byte:  # inside a line that has been passed
                    continue
                file.seek(edge - 1)
                while (block := file.readline(_BLOCK)) and not block.endswith(b"\n"):
                    pass
                byte = file.tell()
                if byte >= total:
                    return
                yield {"byte": byte}

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents after `position` (``line`` lines and ``byte`` uncompressed bytes).

        Without ``line``, the lines before it are counted when a location is asked for.
        """
        if self.fields.encoder is None:
            yield from map(self._chunk, self._cuts(position, end))
            return
        # The tokenizer uses all cores, and need not wait for the next records to be parsed.
        error: BaseException | None = None
        cuts = self._cuts(position, end)
        pending: Future[Chunk] | None = None
        with ThreadPoolExecutor(1, "radscore-tokenizer") as tokenizer:
            while True:
                cut = None
                try:
                    cut = next(cuts, None)
                except CorpusError as raised:  # raised after the records before it
                    error = raised
                if pending is not None:
                    after = self._problems.take()
                    yield pending.result()
                    self._problems.put_back(after)
                if error is not None:
                    raise error
                if cut is None:
                    return
                pending = tokenizer.submit(self._chunk, cut)

    def _cuts(self, position: Position, end: Position | None) -> Iterator[_Cut]:
        """The records from `position` to `end`, in batches."""
        path, byte = self._source.path, position.get("byte", 0)
        stop = self._source.size if end is None else end["byte"]
        number, before = position.get("line", 0), None
        if byte and "line" not in position:
            before = cache(partial(_lines, path, byte))
        columns = RecordColumns(self.fields)
        damage: DamagedFileError | None = None
        with Lines(self._source, self.fields.room) as stream:
            entries = self.entries(stream, byte)
            while True:
                try:
                    n_lines, length, record, bad = next(entries)
                except StopIteration:
                    break
                except DamagedFileError as error:  # raised after the records before it
                    damage = error
                    break
                if end is not None and byte >= stop:
                    break
                first = number + 1
                number += n_lines
                byte += length
                flaw = bad
                if record is not None and bad is None:
                    flaw = columns.add(record, first)
                if flaw is not None:
                    at = first if before is None else before() + first
                    self._problems.record(location(path, at, "line"), flaw)
                if columns.full:
                    after = _position(number, byte, before)
                    yield _Cut(columns, after, before, stream.tell(), self._problems.take())
                    columns = RecordColumns(self.fields)
            after = _position(number, byte, before)
            yield _Cut(columns, after, before, stop, self._problems.take())
        if damage is not None:
            raise damage

    def entries(self, stream: Lines, byte: int) -> Iterator[Entry]:
        """What each line after a byte holds."""
        for line, length in stream.lines(byte):
            if line is None:
                yield 1, length, None, stream.too_long(length)
            elif not line or line.isspace():
                yield 1, length, None, None
            else:
                record, flaw = _parse(line, first=byte == 0, wanted=self._wanted)
                if record is None and flaw is None:
                    flaw = "a record must be a JSON object, not null"
                del line  # which may be huge
                yield 1, length, record, flaw
                del record
            byte += length

    def _chunk(self, cut: _Cut) -> Chunk:
        columns = cut.columns
        numbers = np.array(columns.numbers, dtype=np.int64)
        locations = Locations(self._source.path, numbers, "line", cut.before)
        prompts = None if columns.prompt is None else columns.prompt.documents()
        return Chunk(
            columns.main.documents(),
            prompts,
            locations,
            cut.position,
            cut.bytes_read,
            columns.main.from_text,
            cut.skipped,
        )


@dataclass(frozen=True)
class _Cut:
    """Records that make a chunk, and what was left out among them."""

    columns: RecordColumns
    position: Position
    #: Counts the lines before the first, if they are not known.
    before: Callable[[], int] | None
    bytes_read: int
    skipped: SkipReport


def _position(number: int, byte: int, before: Callable[[], int] | None) -> Position:
    return {"line": number, "byte": byte} if before is None else {"byte": byte}


def _lines(path: Path, stop: int) -> int:
    """Lines in the first `stop` bytes of an uncompressed file."""
    count = 0
    with reading(path), path.open("rb", buffering=0) as file:
        while stop and (block := file.read(min(stop, _BLOCK))):
            count += block.count(b"\n")
            stop -= len(block)
    return count


class Lines(Unpacked):
    """The uncompressed bytes of a file, by lines; `room` limits how long these may be."""

    def __init__(self, source: Source, room: Room | None = None) -> None:
        super().__init__(source.path, source.codec)
        self._room = room
        self.most = MAX_LINE if room is None else min(MAX_LINE, room.line)

    def too_long(self, length: int, what: str = "the line") -> str:
        """The flaw of a line of more than `most` bytes."""
        flaw = None if self._room is None else self._room.flaw_of_line(length, what)
        return flaw or f"{what} is longer than {MAX_LINE} bytes"

    def _skip(self, start: int) -> None:
        if self._codec is None:
            self.seek(start)
            return
        while start > 0:
            block = self.read(min(start, _COMPRESSED_BLOCK))
            if not block:
                raise DamagedFileError(
                    f"{self._path}: the file ends before the point to continue from"
                )
            start -= len(block)

    def lines(self, start: int) -> Iterator[tuple[bytes | bytearray | None, int]]:
        """Each line after byte `start` without its end (None: too long), and its length with it."""
        self._skip(start)
        size = _COMPRESSED_BLOCK
        if self._codec in BY_MEMBER:  # nothing is lost
            size *= 4
        elif self._codec is None:
            size = _BLOCK
        begun: list[bytearray] = []  # the line that has not ended yet, if it spans blocks
        length = 0
        while True:
            block = self.read(size)
            if not block:
                break
            begin = 0
            while (end := block.find(b"\n", begin)) >= 0:
                length += end + 1 - begin
                yield self._line(begun, block[begin:end], length), length
                length, begin = 0, end + 1
            length += len(block) - begin
            if length > self.most:
                begun.clear()
            elif begun:
                begun[0] += block[begin:]
            else:
                begun.append(bytearray(block[begin:]))
        if length:
            yield self._line(begun, b"", length), length

    def _line(self, begun: list[bytearray], rest: bytes, length: int) -> bytes | bytearray | None:
        """A line of what has begun, which is taken away, and the rest; None if it is too long."""
        if length > self.most:
            return None
        if not begun:
            return rest
        line = begun.pop()
        line += rest
        return line


def _parse(
    line: bytes | bytearray, *, first: bool, wanted: Wanted | None = None
) -> tuple[Any, str | None]:
    """The record of a line, or its flaw; of long ones only the wanted values."""
    if line.startswith(_BOM):  # also where files were joined
        line = bytes(line[len(_BOM) :])
    try:
        if len(line) >= LONG:
            record, flaw = parse(line, wanted)
        else:
            record, flaw = json.loads(line.decode()), None
            if wanted is not None and isinstance(record, dict):
                flaw = wanted.repeated(line)
    except UnicodeDecodeError as error:
        if line.startswith(_UTF16):
            return None, "not UTF-8: the file seems to be UTF-16; convert it to UTF-8"
        return None, flaw_of_bytes(error, " of the line")
    except json.JSONDecodeError as error:
        record, flaw = None, f"not JSON: {error.msg} (column {error.colno})"
    except RecursionError:
        return None, "not a record: the JSON is nested too deeply"
    except ValueError as error:  # integers of thousands of digits
        return None, f"not JSON: {error}"
    if first and line[:_SHORT].lstrip().startswith(b"["):
        return None, _ARRAY
    if flaw is not None and first and line[:_SHORT].strip() == b"{":
        return None, f"{flaw}; {_PRETTY}"
    return record, flaw
