"""Work units: stretches of a corpus of a size that one worker reads at one go.

Files of ids without an index are cut anywhere, in the middle of documents too: a unit reads some
tokens before and after its own, so that every window has its context and every document its length.
All other files are cut where their readers say that documents begin: JSON lines between lines,
Parquet between row groups, Arrow between record batches, shards between items, files with an index
between documents. So are files of ids whose documents must be looked at as a whole: where the
end-of-document id is none of the vocabulary and so is taken out, and where bad records are skipped.
What is packed as a whole is one unit.

Small files that follow one another are one unit, as many as are no larger than a unit together: the
number of units depends on the size of a corpus, hardly on the number of its files.

Of a file that is damaged, what comes after the damage is skipped, and counted as one file. Where
damage may show in the middle of a file (Parquet, Arrow, data sets, indexes, items that are packed),
units after it would be read all the same, and the result would depend on how the file is cut. So
where bad records are skipped, these files are not cut.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import (
    NOTHING_SKIPPED,
    DamagedFileError,
    Position,
    Problems,
    SkipReport,
    even_edges,
    n_shards,
)
from radscore.corpus.checks import check_ids
from radscore.doubts import IdDoubt
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus import Corpus
    from radscore.corpus.format import Source
    from radscore.documents import Documents

__all__ = ["Part", "WorkUnit", "cut_units", "read_unit"]

#: Bytes of files that are one unit.
UNIT_BYTES = 256_000_000


@dataclass(frozen=True)
class WorkUnit:
    """A stretch of one file, or several whole files.

    Attributes
    ----------
    source : int
        Which file of the corpus, or the first of several.
    start : dict
        Where its reader begins; {} for the beginning.
    end : dict or None
        Where its reader stops; None for the end of the file.
    tokens : bool
        Whether it is cut by tokens, so that documents may begin before it and end after it.
    n_sources : int
        How many files it holds, one after the other.
    """

    source: int
    start: Position = field(default_factory=dict)
    end: Position | None = None
    tokens: bool = False
    n_sources: int = 1

    @property
    def sources(self) -> range:
        """The numbers of its files."""
        return range(self.source, self.source + self.n_sources)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Part:
    """Documents of a unit, of which only the windows with targets in a range of tokens count."""

    documents: Documents
    prompts: Documents | None = None
    #: The range, counted from the first token; None for all.
    span: tuple[int, int] | None = None


def cut_units(corpus: Corpus, unit_bytes: int = UNIT_BYTES) -> list[WorkUnit]:
    """The units of a corpus, in reading order."""
    units: list[WorkUnit] = []
    skip = corpus.settings["on_error"] == "skip"
    room = -1  # bytes that the last unit may still take; -1 where it is closed
    for number, source in enumerate(corpus.sources):
        if source.size == 0 and not source.is_file:  # an object that tells no size
            units.append(WorkUnit(number))
            room = -1
        elif source.size <= room:
            units[-1] = replace(units[-1], n_sources=units[-1].n_sources + 1)
            room -= source.size
        elif source.size <= unit_bytes:
            units.append(WorkUnit(number))
            room = unit_bytes - source.size
        else:
            units.extend(_cut(corpus, number, source, unit_bytes, skip=skip))
            room = -1
    return units


def _cut(
    corpus: Corpus, number: int, source: Source, unit_bytes: int, *, skip: bool
) -> list[WorkUnit]:
    if source.codec is not None:
        return [WorkUnit(number)]
    try:
        reader = source.format.open(source, corpus.options, Problems("raise"))
        total = reader.n_tokens
        if total is not None and not (skip or _outside(corpus.options)):
            tokens = [0, *even_edges(total, n_shards(source.size, unit_bytes)), total]
            return [
                WorkUnit(number, {"token": first}, {"token": last}, tokens=True)
                for first, last in pairwise(tokens)
            ]
        edges = [] if skip and not reader.fails_early else list(reader.edges(unit_bytes))
    except DamagedFileError:
        if not skip:
            raise
        edges = []  # its reader will count it
    bounds = zip([{}, *edges], [*edges, None], strict=True)
    return [WorkUnit(number, start, end) for start, end in bounds]


class UnitReading:
    """Reads a unit part by part; `skipped` and `doubt` tell of what was read so far."""

    def __init__(self, corpus: Corpus, unit: WorkUnit, reach: int) -> None:
        self.skipped: SkipReport = NOTHING_SKIPPED
        self.doubt = IdDoubt(corpus.options.vocab_size)
        self._corpus = corpus
        self._unit = unit
        self._reach = reach

    def __iter__(self) -> Iterator[Part]:
        return self._tokens() if self._unit.tokens else self._documents()

    def _documents(self) -> Iterator[Part]:
        corpus, unit = self._corpus, self._unit
        problems = Problems(corpus.settings["on_error"])
        for number in unit.sources:
            source = corpus.sources[number]
            for chunk in corpus.checked_chunks(source, unit.start, problems, end=unit.end):
                self.skipped = self.skipped.plus(chunk.skipped)
                if len(chunk.documents):
                    self.doubt.take(chunk.documents)
                    yield Part(chunk.documents, chunk.prompts)
            self.skipped = self.skipped.plus(problems.take())

    def _tokens(self) -> Iterator[Part]:
        corpus, unit = self._corpus, self._unit
        source, options = corpus.sources[unit.source], corpus.options
        problems = Problems("raise")
        reader = source.format.open(source, options, problems)
        if reader.n_tokens is None or unit.end is None:
            raise CorpusError(f"{source.path} is no longer a file of ids")
        end = unit.end["token"]
        for first in range(unit.start["token"], end, options.batch_tokens):
            last = min(first + options.batch_tokens, end)
            chunk, before = reader.read_range(first, last, self._reach)
            check_ids(chunk, options.vocab_size, problems)
            documents, span = chunk.documents, (before, before + last - first)
            self.doubt.take(documents, last - first)
            yield Part(documents, None, span)


def read_unit(corpus: Corpus, unit: WorkUnit, reach: int) -> UnitReading:
    """The parts of a unit; `reach` tokens before and after a stretch are read with it."""
    return UnitReading(corpus, unit, reach)


def _outside(options: Any) -> bool:
    """Whether the end-of-document id is none of the vocabulary, and so is taken out."""
    return (
        options.eod is not None
        and options.vocab_size is not None
        and options.eod >= options.vocab_size
    )
