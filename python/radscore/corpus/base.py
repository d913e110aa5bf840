"""What the readers of all formats share: chunks, places, and what becomes of a bad record."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.documents import Documents
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "NOTHING_SKIPPED",
    "Chunk",
    "DamagedFileError",
    "InputOptionError",
    "OnError",
    "Position",
    "Problems",
    "Reader",
    "SkipReport",
    "Where",
    "count_parts",
    "damage_named",
    "even_edges",
]

OnError: TypeAlias = Literal["raise", "skip"]
#: Where a reader stands in its file: a small JSON-able dict, {} at the start.
Position: TypeAlias = dict[str, int]

_EXAMPLES = 5


class InputOptionError(CorpusError, ArgumentError):
    """Not the data, but what was asked of them is wrong: a path, a field, an option."""


class DamagedFileError(CorpusError):
    """A file cannot be read any further, so what is left of it is lost."""


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns what pyarrow and the system raise about a broken file into one line naming it."""
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, MemoryError, pa.ArrowException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFileError(f"{path}: {reason}") from error


def counted(number: int, what: str) -> str:
    """`1 record`, `2 records`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class SkipReport:
    """What was left out of a corpus because it could not be read (``on_error="skip"``).

    Attributes
    ----------
    count : int
        Records (lines, rows, documents) that were left out.
    files : int
        Files of which the rest, or all, could not be read.
    examples : tuple of str
        The first few of both, as ``file:line: reason``.

    Examples
    --------
    >>> SkipReport(count=2, files=0, examples=("x.jsonl:3: not JSON",)).share(98)
    0.02
    """

    count: int = 0
    files: int = 0
    examples: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.count or self.files)

    def __str__(self) -> str:
        parts = ((self.count, "record"), (self.files, "file"))
        return " and ".join(counted(n, what) for n, what in parts if n) or "nothing"

    def share(self, n_documents: int) -> float:
        """Skipped records as a share of all records, where `n_documents` were read."""
        total = self.count + n_documents
        return self.count / total if total else 0.0

    def plus(self, other: SkipReport) -> SkipReport:
        """Both reports as one; the examples of this one come first."""
        return SkipReport(
            self.count + other.count,
            self.files + other.files,
            (*self.examples, *other.examples)[:_EXAMPLES],
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {"count": self.count, "files": self.files, "examples": list(self.examples)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> SkipReport:
        """The inverse of :meth:`as_dict`."""
        return cls(int(value["count"]), int(value["files"]), tuple(map(str, value["examples"])))


#: What is left out of a corpus where nothing is.
NOTHING_SKIPPED = SkipReport()


class Problems:
    """Raises at the first bad record, or counts the bad ones, as `on_error` says."""

    def __init__(self, on_error: OnError) -> None:
        if on_error not in ("raise", "skip"):
            raise ArgumentError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
        self.on_error = on_error
        self._pending = SkipReport()

    def record(self, place: str, reason: str) -> None:
        """One bad record at `place` (file and line)."""
        line = f"{place}: {reason}"
        if self.on_error == "raise":
            raise CorpusError(line)
        self._pending = self._pending.plus(SkipReport(1, 0, (line,)))

    def file(self, error: CorpusError) -> None:
        """A file that cannot be read any further."""
        if self.on_error == "raise":
            raise error
        self._pending = self._pending.plus(SkipReport(0, 1, (str(error),)))

    def take(self) -> SkipReport:
        """What was counted since the last call."""
        taken, self._pending = self._pending, SkipReport()
        return taken

    def put_back(self, taken: SkipReport) -> None:
        """Counts `taken` again: it belongs to what comes next."""
        self._pending = taken.plus(self._pending)


def place(path: Path, number: int, unit: str) -> str:
    """A place of a file, for a person to read: x.jsonl:17, x.parquet:row 17."""
    return f"{path}:{number}" if unit == "line" else f"{path}:{unit} {number}"


@dataclass(frozen=True, eq=False)
class Where:
    """Which place of which file each document of a batch came from.

    Attributes
    ----------
    path : Path
        The file.
    numbers : ndarray of int64, shape (n_documents,)
        Line number, row, first token or number of each document.
    unit : {"line", "row", "token", "document"}
        What the numbers count: lines from 1; rows, tokens and documents of an index from 0.
    before : callable, optional
        Where the numbers count from the middle of a file only: finds out how many come before.

    Examples
    --------
    >>> from pathlib import Path
    >>> Where(Path("x.jsonl"), np.array([17]), "line").locate(0)
    'x.jsonl:17'
    >>> Where(Path("x.parquet"), np.array([17]), "row").locate(0)
    'x.parquet:row 17'
    """

    path: Path
    numbers: npt.NDArray[np.int64]
    unit: Literal["line", "row", "token", "document"]
    before: Callable[[], int] | None = None

    def locate(self, index: int) -> str:
        """The place of document `index`, for a person to read."""
        before = 0 if self.before is None else self.before()
        return place(self.path, before + int(self.numbers[index]), self.unit)

    def take(self, indices: npt.NDArray[Any]) -> Where:
        """The places of some of the documents."""
        return replace(self, numbers=self.numbers[indices])


@dataclass(frozen=True, eq=False)
class Chunk:
    """What a reader hands on: some documents, and where to go on after them."""

    documents: Documents
    prompts: Documents | None
    where: Where
    position: Position
    #: Bytes of the file read up to here, for the progress bar.
    bytes_read: int
    #: Whether a tokenizer made the ids.
    from_text: bool = False
    skipped: SkipReport = field(default_factory=SkipReport)


class Reader(Protocol):
    """Reads one file; one class a format."""

    #: Whether the reader itself cuts documents after every end-of-document id.
    cuts: bool
    #: Whether what is damaged in a file shows before its first document is read, if at all. Else
    #: it may show in the middle, and what comes after is lost.
    sound: bool

    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents from `position` to `end`, one of its edges (or all), in file order.

        Raises `DamagedFileError` where the file ends too early or is not what it seems.
        """
        ...

    def edges(self, size: int) -> Iterator[Position]:  # noqa: ARG002 - of those that can be cut
        """Where documents begin, about `size` bytes apart; nothing where a file cannot be cut.

        The beginning and the end of the file are not among them. Not for files with a codec.
        """
        return iter(())


def count_parts(n_bytes: int, size: int) -> int:
    """Parts of at most `size` bytes that so many are divided into."""
    return -(-n_bytes // size)


def even_edges(total: int, n_parts: int) -> Iterator[int]:
    """Where parts of about one size meet, between 0 and `total`; each once, ascending."""
    edges = (total * part // n_parts for part in range(1, n_parts))
    return (edge for edge, _ in groupby(edges) if edge)


def keep(chunk: Chunk, kept: npt.NDArray[np.bool_]) -> Chunk:
    """`chunk` with only some of its documents, copied."""
    indices = np.flatnonzero(kept)
    prompts = None if chunk.prompts is None else select(chunk.prompts, indices)
    return replace(
        chunk,
        documents=select(chunk.documents, indices),
        prompts=prompts,
        where=chunk.where.take(indices),
    )


def select(documents: Documents, indices: npt.NDArray[Any]) -> Documents:
    """Some of the documents, copied."""
    lengths = np.diff(documents.offsets)[indices]
    offsets = np.zeros(len(indices) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    parts = [documents[int(i)] for i in indices]
    values = np.concatenate(parts) if parts else documents.values[:0].copy()
    return Documents(values, offsets)


def joined(parts: list[npt.NDArray[Any]]) -> Documents:
    """Documents of one array each."""
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return Documents(np.concatenate(parts) if parts else np.empty(0, np.uint32), offsets)
