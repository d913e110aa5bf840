"""What every reader shares: documents in chunks, their locations, and bad records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.documents import Documents
from radscore.errors import ArgumentError, CorpusError, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = [
    "NOTHING_SKIPPED",
    "Chunk",
    "DamagedFileError",
    "InputOptionError",
    "Kind",
    "Locations",
    "OnError",
    "Position",
    "Problems",
    "Reader",
    "SkipReport",
    "counted",
    "even_edges",
    "joined",
    "keep",
    "location",
    "n_shards",
    "reading",
    "select",
]

OnError: TypeAlias = Literal["raise", "skip"]
#: How far a reader has got in its file: a small JSON-able dict, {} at the beginning.
Position: TypeAlias = dict[str, int]
#: What a location counts: lines from 1; rows, tokens and documents from 0.
Kind: TypeAlias = Literal["line", "row", "token", "document"]

_MAX_EXAMPLES = 5


class InputOptionError(CorpusError, ArgumentError):
    """The request is wrong rather than the data: a path, a field or an option."""


class DamagedFileError(CorpusError):
    """A file cannot be read any further; the rest of it is lost."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what pyarrow and the system raise while reading `path` into one line naming it."""
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, MemoryError, pa.ArrowException) as error:
        raise DamagedFileError(f"{path}: {line_of(error, 1000)}") from error
    except UnicodeDecodeError:
        raise DamagedFileError(f"{path}: a name or a text in it is not UTF-8") from None


def counted(number: int, noun: str) -> str:
    """`1 record`, `2 records`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def with_others(notes: Sequence[str], end: str = "") -> str:
    """The first of several notes of one kind, and in how many files more it is so."""
    more = f" (and so in {counted(len(notes) - 1, 'more file')})" if notes[1:] else ""
    return f"{notes[0]}{more}{end}"


# ---- bad records -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SkipReport:
    """What was left out of a corpus because it could not be read (``on_error="skip"``).

    Attributes
    ----------
    count : int
        Records (lines, rows, documents) left out.
    files : int
        Files that could not be read to their end, or at all.
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
        counts = ((self.count, "record"), (self.files, "file"))
        return " and ".join(counted(n, noun) for n, noun in counts if n) or "nothing"

    def share(self, n_documents: int) -> float:
        """Skipped records as a share of all records, if `n_documents` were read."""
        total = self.count + n_documents
        return self.count / total if total else 0.0

    def plus(self, other: SkipReport) -> SkipReport:
        """Both reports as one; the examples of this one come first."""
        return SkipReport(
            self.count + other.count,
            self.files + other.files,
            (*self.examples, *other.examples)[:_MAX_EXAMPLES],
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {"count": self.count, "files": self.files, "examples": list(self.examples)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> SkipReport:
        """The inverse of :meth:`to_dict`."""
        return cls(int(value["count"]), int(value["files"]), tuple(map(str, value["examples"])))


#: The report of a corpus of which nothing was left out.
NOTHING_SKIPPED = SkipReport()


class Problems:
    """Raises at the first bad record, or counts bad records, as `on_error` says."""

    def __init__(self, on_error: OnError) -> None:
        if on_error not in ("raise", "skip"):
            raise ArgumentError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
        self.on_error = on_error
        self._pending = SkipReport()

    def record(self, where: str, reason: str) -> None:
        """A bad record at a location (file and line)."""
        line = f"{where}: {reason}"
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
        """Counts `taken` again, before what was counted since."""
        self._pending = taken.plus(self._pending)


# ---- locations ---------------------------------------------------------------------------------


def location(path: Path | str, number: int, kind: str) -> str:
    """A location in a file as people read it: x.jsonl:17, x.parquet:row 17."""
    return f"{path}:{number}" if kind == "line" else f"{path}:{kind} {number}"


@dataclass(frozen=True, eq=False)
class Locations:
    """Where in which file each document of a batch came from.

    Attributes
    ----------
    path : Path
        The file.
    numbers : ndarray of int64, shape (n_documents,)
        Line number, row, first token or number of each document.
    kind : {"line", "row", "token", "document"}
        What the numbers count: lines from 1; rows, tokens and documents from 0.
    before : callable, optional
        Counts what comes before, if the numbers count from the middle of a file only. Called when
        a location is asked for, as it may read the file up to there.

    Examples
    --------
    >>> from pathlib import Path
    >>> Locations(Path("x.jsonl"), np.array([17]), "line").locate(0)
    'x.jsonl:17'
    >>> Locations(Path("x.parquet"), np.array([17]), "row").locate(0)
    'x.parquet:row 17'
    """

    path: Path
    numbers: npt.NDArray[np.int64]
    kind: Kind
    before: Callable[[], int] | None = None

    def locate(self, index: int) -> str:
        """The location of document `index`, as people read it."""
        before = 0 if self.before is None else self.before()
        return location(self.path, before + int(self.numbers[index]), self.kind)

    def take(self, indices: npt.NDArray[Any]) -> Locations:
        """The locations of some of the documents."""
        return replace(self, numbers=self.numbers[indices])


# ---- readers -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Chunk:
    """What a reader hands on: some whole documents, and where to continue after them."""

    documents: Documents
    prompts: Documents | None
    locations: Locations
    position: Position
    #: Bytes of the file read up to here, for the progress bar.
    bytes_read: int
    #: Whether a tokenizer made the ids.
    from_text: bool = False
    skipped: SkipReport = field(default_factory=SkipReport)
    #: Whether a document ends with the end-of-document id; set when it has been cut.
    ended: bool = False


class Reader(ABC):
    """Reads one file; made by :meth:`~radscore.corpus.format.Format.open`."""

    #: Whether the reader itself cuts documents after every end-of-document id.
    cuts_at_eod: bool = False
    #: Whether damage to a file shows before its first document is read, if at all. Otherwise it
    #: may show in the middle, and what comes after is lost.
    fails_early: bool = False
    #: How many tokens a file has that can be cut between any two of them: `read_range` is there,
    #: and `end` may be any ``{"token": n}``. None if it can be cut at its `edges` only.
    n_tokens: int | None = None

    @abstractmethod
    def chunks(self, position: Position, end: Position | None = None) -> Iterator[Chunk]:
        """The documents from `position` to `end`, one of the edges (default: all), in file order.

        Raises `DamagedFileError` if the file ends too early or is not what it claims to be.
        """

    def edges(self, size: int) -> Iterator[Position]:  # noqa: ARG002 - for files that can be cut
        """Positions where documents begin, about `size` bytes apart; none in an uncuttable file.

        The beginning and the end of the file are not among them. Not for compressed files.
        """
        return iter(())

    def read_range(self, first: int, last: int, reach: int) -> tuple[Chunk, int]:
        """The tokens `first` to `last`, and up to `reach` on either side.

        Documents that begin or end outside are cut there. The second value is how many of the
        tokens come before `first`. Only where `n_tokens` is known.
        """
        raise NotImplementedError


def n_shards(n_bytes: int, size: int) -> int:
    """How many shards of at most `size` bytes so many bytes make."""
    return -(-n_bytes // size)


def even_edges(total: int, number: int) -> Iterator[int]:
    """Where `number` shards of about one size meet, between 0 and `total`; ascending, distinct."""
    edges = (total * shard // number for shard in range(1, number))
    return (edge for edge, _ in groupby(edges) if edge)


def keep(chunk: Chunk, kept: npt.NDArray[np.bool_]) -> Chunk:
    """`chunk` with only some of its documents, copied."""
    indices = np.flatnonzero(kept)
    prompts = None if chunk.prompts is None else select(chunk.prompts, indices)
    return replace(
        chunk,
        documents=select(chunk.documents, indices),
        prompts=prompts,
        locations=chunk.locations.take(indices),
    )


def select(documents: Documents, indices: npt.NDArray[Any]) -> Documents:
    """Some of the documents, copied."""
    lengths = np.diff(documents.offsets)[indices]
    offsets = np.zeros(len(indices) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    chosen = [documents[int(i)] for i in indices]
    values = np.concatenate(chosen) if chosen else documents.values[:0].copy()
    return Documents(values, offsets)


def joined(arrays: list[npt.NDArray[Any]]) -> Documents:
    """One document per array."""
    offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    if len(arrays) == 1:  # which may be huge
        return Documents(np.ascontiguousarray(arrays[0]), offsets)
    return Documents(np.concatenate(arrays) if arrays else np.empty(0, np.uint32), offsets)
