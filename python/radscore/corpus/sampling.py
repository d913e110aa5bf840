"""Pieces of a corpus from many places of it, to estimate from what is in the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from radscore.corpus.base import Position, damage_named
from radscore.corpus.formats.tokens import token_layout
from radscore.corpus.registry import has_fields
from radscore.corpus.sources import BARE, Source
from radscore.documents import Documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.corpus import Corpus, Options

__all__ = ["Piece", "Sample", "sample_corpus"]

# Places of a corpus that a sample is read from, and tokens of each at least.
_MOST_PLACES = 64
_FEWEST_TOKENS = 1024


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive documents of one file."""

    documents: Documents
    #: Documents that end in it.
    n_ends: int
    n_bytes: int
    #: Where its reader goes on.
    end: Position


@dataclass(frozen=True, eq=False)
class Sample:
    """What was read of a corpus.

    Attributes
    ----------
    pieces : tuple of Piece
        In the order of the corpus.
    whole : bool
        Whether they are all of it.
    seconds : float
        How long reading took, the tokenizer included.
    """

    pieces: tuple[Piece, ...]
    whole: bool
    seconds: float

    @property
    def n_tokens(self) -> int:
        """Tokens of all pieces."""
        return sum(piece.documents.n_tokens for piece in self.pieces)

    @property
    def n_documents(self) -> int:
        """Documents that end in the pieces."""
        return sum(piece.n_ends for piece in self.pieces)

    @property
    def n_bytes(self) -> int:
        """Bytes of the files that were read for them, where places in bytes are known."""
        return sum(piece.n_bytes for piece in self.pieces)


def sample_corpus(corpus: Corpus, n_tokens: int) -> Sample:
    """About `n_tokens` tokens, from places that lie evenly over the bytes of all files.

    A corpus that is no larger is read in whole. Files that can only be read from their beginning
    (packed text, streams of Arrow) give more from there.
    """
    start = time.perf_counter()
    known = corpus.known().n_tokens
    size = corpus.total_bytes if known is None else known
    if 0 < size <= n_tokens:
        pieces = [
            piece for source in corpus.sources for piece in _pieces(corpus, source, {}, 2**62)
        ]
        return Sample(tuple(pieces), whole=True, seconds=time.perf_counter() - start)
    pieces = []
    n_places = min(max(n_tokens // _FEWEST_TOKENS, 1), _MOST_PLACES)
    end: tuple[Source, tuple[int, ...]] | None = None
    for source, position, places in _spread(corpus, n_places):
        if end is not None and end[0] is source and _order(position) < end[1]:
            continue  # what was read last reaches beyond
        for piece in _pieces(corpus, source, position, -(-n_tokens * places // n_places)):
            pieces.append(piece)
            end = source, _order(piece.end)
    return Sample(tuple(pieces), whole=False, seconds=time.perf_counter() - start)


def _order(position: Position) -> tuple[int, ...]:
    """By which the positions of one file are in order."""
    return (position["byte"],) if "byte" in position else tuple(position.values())


def _spread(corpus: Corpus, n_places: int) -> Iterator[tuple[Source, Position, int]]:
    """Files, places in them, and how many of the places each stands for."""
    sizes = np.array([max(source.size, 1) for source in corpus.sources], dtype=np.float64)
    ends = np.cumsum(sizes)
    points = (np.arange(n_places) + 0.5) / n_places * ends[-1]
    owners = np.searchsorted(ends, points)
    for owner in np.unique(owners):
        source = corpus.sources[int(owner)]
        begin = ends[owner] - sizes[owner]
        shares = ((points[owners == owner] - begin) / sizes[owner]).tolist()
        # The first place of a file is its beginning, so that one place is not only its middle.
        shares[0] = 0.0
        positions = _positions(source, corpus.options, shares)
        for position in positions:
            yield source, position, len(shares) // len(positions)


def _positions(source: Source, options: Options, shares: list[float]) -> list[Position]:
    """Places where a reader of a file can begin, about where the shares of it end; each once."""
    found: list[Position]
    count = _counted(source, options)
    if source.format == "jsonl" and source.codec is None:
        found = [_line(source, int(share * source.size)) for share in shares]
    elif count is None:
        found = [{}]
    else:
        name, total, step = count
        rest = {"row": 0} if name == "group" else {}
        found = [{name: int(share * total) // step * step, **rest} for share in shares]
    return [dict(items) for items in dict.fromkeys(tuple(one.items()) for one in found)]


def _counted(source: Source, options: Options) -> tuple[str, int, int] | None:
    """What a reader's position counts, how many there are, and in which steps one can begin."""
    kind = source.format
    if kind == "megatron":
        from radscore.corpus.formats.megatron import megatron_index

        return "document", megatron_index(source).n_documents, 1
    if kind in BARE:
        layout = token_layout(source, options.dtype)
        if layout.ends is not None:
            return "document", layout.ends.n_documents, 1
        return "token", layout.n_tokens, layout.row or 1
    if kind == "litdata":
        from radscore.corpus.formats.litdata import litdata_counts, litdata_is_bare

        items = litdata_counts(source)[1]
        if items is None or source.codec is not None:
            return None
        return "document" if litdata_is_bare(source) else "item", items, 1
    if kind == "mds":
        from radscore.corpus.formats.mds import mds_samples

        samples = mds_samples(source)
        return None if samples is None else ("item", samples, 1)
    if kind == "parquet":
        import pyarrow.parquet as pq

        with damage_named(source.path):
            return "group", pq.read_metadata(source.path).num_row_groups, 1
    if kind == "datasets":
        from radscore.corpus.formats.datasets import dataset_rows

        rows = dataset_rows(source)
        return None if rows is None else ("row", rows, 1)
    return None


def _line(source: Source, byte: int) -> Position:
    """The beginning of the first line after a byte."""
    if byte == 0:
        return {}
    with damage_named(source.path), source.path.open("rb") as file:
        file.seek(byte)
        rest = file.readline(1 << 24)
    return {"line": 1, "byte": byte + len(rest)} if rest.endswith(b"\n") else {}


def _pieces(corpus: Corpus, source: Source, position: Position, room: int) -> Iterator[Piece]:
    """Documents after a position until there is no room; of bare ids the last one is cut."""
    records = has_fields(source)
    plain = source.format == "jsonl" and source.codec is None
    before = position.get("byte", 0)
    last = position.get("token", 0) + room
    for chunk in corpus.chunks_from(source, position, min(max(room, 1), 1 << 20), room):
        documents = chunk.documents
        cut = chunk.position.get("token") == last
        if not records and documents.n_tokens > room:
            documents, cut = _first_tokens(documents, room), True
        after = chunk.position["byte"] if plain else chunk.bytes_read
        if len(documents):
            yield Piece(documents, len(documents) - cut, after - before, chunk.position)
        before = after
        room -= documents.n_tokens
        if room <= 0:
            return


def _first_tokens(documents: Documents, room: int) -> Documents:
    """The first `room` tokens, the last of these documents cut."""
    end = int(documents.offsets[0]) + room
    count = int(np.searchsorted(documents.offsets, end, side="left"))
    offsets = documents.offsets[: count + 1].copy()
    offsets[-1] = end
    return Documents(documents.values, offsets)
