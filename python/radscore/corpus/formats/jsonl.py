"""JSON lines, also compressed: one record a line."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    Position,
    Problems,
    SkipReport,
    Where,
    count_parts,
    damage_named,
    even_edges,
    place,
)
from radscore.corpus.records import Fields, RecordColumns
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from radscore.corpus.sources import Source

__all__ = ["JsonLinesReader", "first_record"]

_BLOCK = 1 << 22
# Where a packed file breaks off, the block that is being unpacked is lost: so a small one.
_PACKED_BLOCK = 1 << 16
#: A longer line is a bad record: what is expected of memory must not depend on the input.
MAX_LINE = 1 << 28


class JsonLinesReader:
    """Reads JSON lines of text or token ids as a stream, never a whole file."""

    #: End-of-document ids inside of a record are not looked for here.
    cuts = False
    #: Lines are bad one by one; a packed file may break off, but has no edges.
    sound = True

    def __init__(self, source: Source, fields: Fields, problems: Problems) -> None:
        self._source = source
        self._fields = fields
        self._problems = problems

    def edges(self, size: int) -> Iterator[Position]:
        """Beginnings of lines (``byte``); to count them, all before would have to be read."""
        path, total, byte = self._source.path, self._source.size, 0
        with damage_named(path), path.open("rb") as file:
            for edge in even_edges(total, count_parts(total, size)):
                if edge <= byte:  # inside of a line that was passed
                    continue
                file.seek(edge - 1)
                while (part := file.readline(_BLOCK)) and not part.endswith(b"\n"):
                    pass
                byte = file.tell()
                if byte >= total:
                    return
                yield {"byte": byte}

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents after `position` (``line`` lines and ``byte`` bytes of unpacked text).

        Without ``line``, lines before it are counted when the place of a line is asked for.
        """
        if self._fields.encoder is None:
            yield from map(self._chunk, self._cuts(position, end))
            return
        # The tokenizer works on all cores, and needs not wait for the next records to be parsed.
        error: BaseException | None = None
        cuts = self._cuts(position, end)
        pending: Future[Chunk] | None = None
        with ThreadPoolExecutor(1, "radscore-tokenizer") as tokenizer:
            while True:
                cut = None
                try:
                    cut = next(cuts, None)
                except CorpusError as raised:  # only after what stands before it
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
        columns = RecordColumns(self._fields)
        with _Stream(self._source) as stream:
            for line, length in stream.lines(byte):
                if end is not None and byte >= stop:
                    break
                number += 1
                flaw = _take(columns, line, number, first=byte == 0)
                byte += length
                if flaw is not None:
                    at = number if before is None else before() + number
                    self._problems.record(place(path, at, "line"), flaw)
                if columns.full:
                    after = _position(number, byte, before)
                    yield _Cut(columns, after, before, stream.tell(), self._problems.take())
                    columns = RecordColumns(self._fields)
            after = _position(number, byte, before)
            yield _Cut(columns, after, before, stop, self._problems.take())

    def _chunk(self, cut: _Cut) -> Chunk:
        columns = cut.columns
        numbers = np.array(columns.numbers, dtype=np.int64)
        where = Where(self._source.path, numbers, "line", cut.before)
        prompts = None if columns.prompt is None else columns.prompt.documents()
        return Chunk(
            columns.main.documents(),
            prompts,
            where,
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
    #: Counts the lines before the first, where they are not known.
    before: Callable[[], int] | None
    bytes_read: int
    skipped: SkipReport


def _position(number: int, byte: int, before: Callable[[], int] | None) -> Position:
    return {"line": number, "byte": byte} if before is None else {"byte": byte}


def _lines(path: Path, stop: int) -> int:
    """Lines in the first `stop` bytes of a file that is not packed."""
    count = 0
    with damage_named(path), path.open("rb", buffering=0) as file:
        while stop and (block := file.read(min(stop, _BLOCK))):
            count += block.count(b"\n")
            stop -= len(block)
    return count


def _take(columns: RecordColumns, line: bytes | None, number: int, *, first: bool) -> str | None:
    """Adds the record of a line, if there is one; or says what is wrong with it."""
    if line is None:
        return f"the line is longer than {MAX_LINE} bytes"
    if not line or line.isspace():
        return None
    record, flaw = parse(line, first=first)
    return columns.add(record, number) if flaw is None else flaw


class _Stream:
    """The unpacked bytes of a file, by lines."""

    def __init__(self, source: Source) -> None:
        self._path = source.path
        self._codec = source.codec
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        import pyarrow as pa

        with damage_named(self._path):
            self._file: BinaryIO = self._stack.enter_context(self._path.open("rb", buffering=0))
            self._stream: Any = self._file
            if self._codec is not None:
                codec: Any = self._codec
                self._stream = pa.CompressedInputStream(self._file, codec)
                self._stack.enter_context(self._stream)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def tell(self) -> int:
        """Bytes of the file itself that were read."""
        return self._file.tell()

    def _skip(self, start: int) -> None:
        if self._codec is None:
            self._file.seek(start)
            return
        while start > 0:
            block = self._stream.read(min(start, _PACKED_BLOCK))
            if not block:
                raise DamagedFileError(f"{self._path}: the file ends before where it was left")
            start -= len(block)

    def lines(self, start: int) -> Iterator[tuple[bytes | None, int]]:
        """Each line after byte `start` without its end (None: too long), and its length with it."""
        with damage_named(self._path):
            self._skip(start)
        size = _BLOCK if self._codec is None else _PACKED_BLOCK
        parts: list[bytes] = []  # of the line that has not ended yet
        length = 0
        while True:
            with damage_named(self._path):
                block = self._stream.read(size)
            if not block:
                break
            begin = 0
            while (end := block.find(b"\n", begin)) >= 0:
                length += end + 1 - begin
                parts.append(block[begin:end])
                yield (b"".join(parts) if length <= MAX_LINE else None), length
                parts, length, begin = [], 0, end + 1
            length += len(block) - begin
            if length <= MAX_LINE:
                parts.append(block[begin:])
            else:
                parts = []
        if length:
            yield (b"".join(parts) if length <= MAX_LINE else None), length


def parse(line: bytes, *, first: bool) -> tuple[Any, str | None]:
    """The record of a line, or what is wrong with it."""
    try:
        text = line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 (byte {error.start} of the line is 0x{line[error.start]:02x})"
    if first and text.lstrip().startswith("["):
        return None, "this is a JSON array; radscore reads JSON lines, one record a line"
    try:
        return json.loads(text), None
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} (column {error.colno})"
    except RecursionError:
        return None, "not a record: the JSON is nested too deeply"
    except ValueError as error:  # integers of thousands of digits
        return None, f"not JSON: {error}"


def first_record(source: Source, limit: int = 1000) -> tuple[dict[str, Any] | None, str]:
    """The first good record among the first `limit` lines of a file, and its place.

    Where there is none: None, and what is wrong with the first line ("" for an empty file).
    """
    first_flaw = ""
    with _Stream(source) as stream:
        for number, (line, _) in enumerate(stream.lines(0), start=1):
            if number > limit:
                break
            if not line or line.isspace():
                continue
            at = place(source.path, number, "line")
            record, flaw = parse(line, first=number == 1)
            if isinstance(record, dict):
                return record, at
            first_flaw = first_flaw or f"{at}: {flaw or 'a record must be a JSON object'}"
    return None, first_flaw
