"""Work units: stretches of a corpus of a size that one worker reads at one go.

Files of ids are cut anywhere, in the middle of documents too: a unit reads some tokens before and
after its own, so that every window has its context and every document its length. Files with an
index are cut between documents, Parquet files between row groups, and all others are one unit each.
So is every file where bad records are skipped (a document is then kept or left out as a whole), and
every file of ids whose end-of-document id is none of the vocabulary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.corpus._base import NOTHING_SKIPPED, Problems, SkipReport, damage_named, select
from radscore.corpus.checks import check_ids
from radscore.corpus.formats import reader_of
from radscore.corpus.reading import Corpus
from radscore.corpus.tokens import TokenReader
from radscore.documents import Documents
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.sources import Source

__all__ = ["Part", "WorkUnit", "cut_units", "read_unit"]

#: Bytes of a file that are one unit.
UNIT_BYTES = 256_000_000


@dataclass(frozen=True)
class WorkUnit:
    """A stretch of one file.

    Attributes
    ----------
    source : int
        Which file of the corpus.
    start : dict
        Where its reader begins; {} for the beginning.
    first, last : int or None
        For files of ids: its tokens. For others: the first row or document after it, or None.
    tokens : bool
        Whether it is cut by tokens.
    """

    source: int
    start: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    tokens: bool = False

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
    for number, source in enumerate(corpus.sources):
        if source.size <= unit_bytes or corpus.settings["on_error"] == "skip":
            units.append(WorkUnit(number))
        else:
            units.extend(_cut(corpus, number, source, unit_bytes))
    return units


def _cut(corpus: Corpus, number: int, source: Source, unit_bytes: int) -> Iterator[WorkUnit]:
    count = -(-source.size // unit_bytes)
    if source.format == "parquet":
        yield from _row_groups(number, source, unit_bytes)
        return
    reader = reader_of(source, corpus.options, Problems("raise"))
    if not isinstance(reader, TokenReader) or reader.held or _outside(corpus.options):
        yield WorkUnit(number)
        return
    layout = reader.layout
    total = layout.n_tokens if layout.ends is None else layout.ends.n_documents
    edges = [total * i // count for i in range(count + 1)]
    for first, last in pairwise(edges):
        if first == last:
            continue
        if layout.ends is None:
            yield WorkUnit(number, {}, first, last, tokens=True)
        else:
            yield WorkUnit(number, {"document": first} if first else {}, first, last)


def _row_groups(number: int, source: Source, unit_bytes: int) -> Iterator[WorkUnit]:
    import pyarrow.parquet as pq

    with damage_named(source.path):
        metadata = pq.read_metadata(source.path)
    group, rows, size, row = 0, 0, 0, 0
    start: dict[str, int] = {}
    for index in range(metadata.num_row_groups):
        if size and size + metadata.row_group(index).total_byte_size > unit_bytes:
            yield WorkUnit(number, start, row, rows)
            group, row, size = index, rows, 0
            start = {"group": group, "row": 0}
        size += metadata.row_group(index).total_byte_size
        rows += metadata.row_group(index).num_rows
    yield WorkUnit(number, start, row, None)


class UnitReading:
    """Reads a unit part by part; `skipped` tells what was left out so far."""

    def __init__(self, corpus: Corpus, unit: WorkUnit, reach: int) -> None:
        self.skipped: SkipReport = NOTHING_SKIPPED
        self._corpus = corpus
        self._unit = unit
        self._reach = reach

    def __iter__(self) -> Iterator[Part]:
        return self._tokens() if self._unit.tokens else self._documents()

    def _documents(self) -> Iterator[Part]:
        corpus, unit = self._corpus, self._unit
        source = corpus.sources[unit.source]
        problems = Problems(corpus.settings["on_error"])
        alone = Corpus([source], corpus.options, corpus.settings["on_error"])
        for chunk in alone.checked_chunks(source, dict(unit.start), problems):
            self.skipped = self.skipped.plus(chunk.skipped)
            documents, prompts = chunk.documents, chunk.prompts
            ours = len(documents)
            if unit.last is not None:
                ours = int(np.searchsorted(chunk.where.numbers, unit.last))
            if ours < len(documents):
                documents = Documents(documents.values, documents.offsets[: ours + 1])
                prompts = None if prompts is None else select(prompts, np.arange(ours))
            if ours:
                yield Part(documents, prompts)
            if unit.last is not None and ours < len(chunk.documents):
                return
        self.skipped = self.skipped.plus(problems.take())

    def _tokens(self) -> Iterator[Part]:
        corpus, unit = self._corpus, self._unit
        source, options = corpus.sources[unit.source], corpus.options
        problems = Problems("raise")
        reader = reader_of(source, options, problems)
        if not isinstance(reader, TokenReader) or unit.first is None or unit.last is None:
            raise CorpusError(f"{source.path} is not a file of ids any more")
        for first in range(unit.first, unit.last, options.batch_tokens):
            last = min(first + options.batch_tokens, unit.last)
            chunk, before = reader.stretch(first, last, self._reach)
            check_ids(chunk, options.vocab_size, problems)
            documents, span = chunk.documents, (before, before + last - first)
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
