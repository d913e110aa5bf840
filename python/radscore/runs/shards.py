"""Shards: stretches of a corpus, each of a size that one worker reads in one go.

Files of ids without an index are cut anywhere, even inside documents: a shard also reads a few
tokens before and after its own, so that every window has its context and every document its
length. Other files are cut where their readers know that documents begin: JSON lines between
lines, Parquet between row groups, Arrow between record batches, MDS and litdata between items,
files with an index between documents. So are files of ids whose documents must be seen whole:
where the end-of-document id is outside the vocabulary, and so is dropped, and where bad records
are skipped. A compressed stream is one shard.

Neighbouring small files share a shard, as many as fit its size, so the number of shards depends
on the size of a corpus rather than on the number of its files.

Of a damaged file everything after the damage is skipped, and counted as one file. Where damage can
surface in the middle of a file (Parquet, Arrow, data sets, indexes, compressed items), later shards
of it would still be read, and the result would depend on the cuts. So where bad records are skipped
these files are not cut.
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
from radscore.corpus.checks import any_ends, check_ids
from radscore.documents import Documents
from radscore.doubts import IdDoubt
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus import Corpus
    from radscore.corpus.format import Source

__all__ = ["SHARD_BYTES", "Shard", "ShardReading", "Slice", "cut_shards", "slices_of"]

#: Bytes of files that make up one shard.
SHARD_BYTES = 256_000_000


@dataclass(frozen=True)
class Shard:
    """A stretch of one file, or several whole files in a row.

    Attributes
    ----------
    source : int
        Index of the file in the corpus, or of the first of several.
    start : dict
        Position at which its reader begins; {} for the beginning.
    end : dict or None
        Position at which its reader stops; None for the end of the file.
    tokens : bool
        Whether it is cut by tokens, so that documents may begin before it and end after it.
    n_sources : int
        Number of files.
    """

    source: int
    start: Position = field(default_factory=dict)
    end: Position | None = None
    tokens: bool = False
    n_sources: int = 1

    @property
    def sources(self) -> range:
        """Indices of its files."""
        return range(self.source, self.source + self.n_sources)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values; `Shard(**values)` is the same shard."""
        return asdict(self)


#: Tokens of a slice: far fewer than fit any memory, and enough to share among threads.
_SLICE = 1 << 20


@dataclass(frozen=True, eq=False)
class Slice:
    """Some documents, of which only the windows that end in a range of tokens count.

    Attributes
    ----------
    documents, prompts : Documents
        The documents, possibly cut at either end, and a prompt for each.
    tokens : tuple of int, optional
        The range, counted from the first token of `documents`; None for all. What lies around it
        completes contexts and shows how long a document is.
    """

    documents: Documents
    prompts: Documents | None = None
    tokens: tuple[int, int] | None = None


def cut_shards(corpus: Corpus, shard_bytes: int = SHARD_BYTES) -> list[Shard]:
    """The shards of a corpus, in reading order. Only headers and indexes are read."""
    shards: list[Shard] = []
    skip = corpus.settings["on_error"] == "skip"
    room = -1  # bytes that still fit the last shard; -1 if it is closed
    for number, source in enumerate(corpus.sources):
        if source.size == 0 and not source.is_file:  # an object of unknown size
            shards.append(Shard(number))
            room = -1
        elif source.size <= room:
            shards[-1] = replace(shards[-1], n_sources=shards[-1].n_sources + 1)
            room -= source.size
        elif source.size <= shard_bytes:
            shards.append(Shard(number))
            room = shard_bytes - source.size
        else:
            shards.extend(_cut(corpus, number, source, shard_bytes, skip=skip))
            room = -1
    return shards


def _cut(
    corpus: Corpus, number: int, source: Source, shard_bytes: int, *, skip: bool
) -> list[Shard]:
    if source.codec is not None:
        return [Shard(number)]
    try:
        reader = source.format.open(source, corpus.options, Problems("raise"))
        total = reader.n_tokens
        if total is not None and not (skip or _drops_ends(corpus.options)):
            tokens = [0, *even_edges(total, n_shards(source.size, shard_bytes)), total]
            return [
                Shard(number, {"token": first}, {"token": last}, tokens=True)
                for first, last in pairwise(tokens)
            ]
        edges = [] if skip and not reader.fails_early else list(reader.edges(shard_bytes))
    except DamagedFileError:
        if not skip:
            raise
        edges = []  # reading it will count the damage
    bounds = zip([{}, *edges], [*edges, None], strict=True)
    return [Shard(number, start, end) for start, end in bounds]


class ShardReading:
    """Reads a shard slice by slice.

    Parameters
    ----------
    corpus, shard
        What to read.
    reach : int
        Tokens to read around a range of tokens: as many as the longest context, or the first
        position that counts, can need.

    Attributes
    ----------
    skipped : SkipReport
        Records left out so far.
    doubt : IdDoubt
        What the ids so far say about the vocabulary.
    """

    def __init__(self, corpus: Corpus, shard: Shard, reach: int) -> None:
        self.skipped: SkipReport = NOTHING_SKIPPED
        self.doubt = IdDoubt(corpus.options.vocab_size, corpus.options.eod)
        self._corpus = corpus
        self._shard = shard
        self._reach = reach

    def __iter__(self) -> Iterator[Slice]:
        return self._tokens() if self._shard.tokens else self._documents()

    def _documents(self) -> Iterator[Slice]:
        corpus, shard = self._corpus, self._shard
        problems = Problems(corpus.settings["on_error"])
        for number in shard.sources:
            source = corpus.sources[number]
            for chunk in corpus.checked_chunks(source, shard.start, problems, end=shard.end):
                self.skipped = self.skipped.plus(chunk.skipped)
                if len(chunk.documents):
                    self.doubt.take(chunk.documents, ended=chunk.ended)
                    yield from slices_of(chunk.documents, chunk.prompts, self._reach)
            self.skipped = self.skipped.plus(problems.take())

    def _tokens(self) -> Iterator[Slice]:
        corpus, shard = self._corpus, self._shard
        source, options = corpus.sources[shard.source], corpus.options
        problems = Problems("raise")
        reader = source.format.open(source, options, problems)
        if reader.n_tokens is None or shard.end is None:
            raise CorpusError(f"{source.path} is no longer a file of ids")
        end = shard.end["token"]
        for first in range(shard.start["token"], end, options.batch_tokens):
            last = min(first + options.batch_tokens, end)
            chunk, before = reader.read_range(first, last, self._reach)
            check_ids(chunk, options.vocab_size, problems)
            documents = chunk.documents
            ended = options.eod is not None and any_ends(documents, options.eod)
            self.doubt.take(documents, last - first, ended=ended)
            yield Slice(documents, None, (before, before + last - first))


def slices_of(documents: Documents, prompts: Documents | None, reach: int) -> Iterator[Slice]:
    """Documents in slices; long ones are cut, with what each piece needs around its own tokens."""
    if documents.n_tokens <= 2 * _SLICE:
        yield Slice(documents, prompts)
        return
    first = 0
    while first < len(documents):
        begin = documents.offsets[first]
        last = int(documents.offsets.searchsorted(begin + _SLICE, side="right")) - 1
        last = min(max(last, first + 1), len(documents))
        some = _some(documents, first, last)
        asked = None if prompts is None else _some(prompts, first, last)
        yield from [Slice(some, asked)] if some.n_tokens <= _SLICE else _cut_one(some, asked, reach)
        first = last


def _cut_one(document: Documents, prompt: Documents | None, reach: int) -> Iterator[Slice]:
    """One long document in pieces."""
    ids = document[0]
    for first in range(0, len(ids), _SLICE):
        last = min(first + _SLICE, len(ids))
        before = min(reach, first)
        piece = ids[first - before : last + reach]
        yield Slice(Documents(piece, [0, len(piece)]), prompt, (before, before + last - first))


def _some(documents: Documents, first: int, last: int) -> Documents:
    """The documents from the first up to, but without, the last."""
    return Documents(documents.values, documents.offsets[first : last + 1])


def _drops_ends(options: Any) -> bool:
    """Whether the end-of-document id is outside the vocabulary, and so is dropped."""
    return (
        options.eod is not None
        and options.vocab_size is not None
        and options.eod >= options.vocab_size
    )
