"""A sample of a corpus from many points in it, to estimate what is in the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from radscore.documents import Documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.base import Position
    from radscore.corpus.corpus import Corpus
    from radscore.corpus.format import Source

__all__ = ["Piece", "Sample", "sample_corpus"]

# Points of a corpus that a sample is read from, and tokens from each at least.
_MAX_POINTS = 64
_MIN_TOKENS = 1024


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive documents of one file.

    Attributes
    ----------
    documents : Documents
        The documents; the last one may be cut.
    n_ends : int
        How many of them end in the piece.
    n_bytes : int
        Bytes of the file that were read for it.
    end : dict
        Where its reader would continue.
    ended : bool
        Whether one of them ends with the end-of-document id.
    """

    documents: Documents
    n_ends: int
    n_bytes: int
    end: Position
    ended: bool


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
        """Bytes of the files that were read for them; 0 of streams, which tell no bytes."""
        return sum(piece.n_bytes for piece in self.pieces)


def sample_corpus(corpus: Corpus, n_tokens: int) -> Sample:
    """About `n_tokens` tokens, from points spread evenly over the bytes of all files.

    A corpus that is no larger is read whole. Files that can be read from their beginning only
    (compressed text, Arrow streams) give more tokens from there.
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
    n_points = min(max(n_tokens // _MIN_TOKENS, 1), _MAX_POINTS)
    end: tuple[Source, tuple[int, ...]] | None = None
    for source, position, points in _spread(corpus, n_points):
        if end is not None and end[0] is source and _order(position) < end[1]:
            continue  # the piece before reaches beyond it
        for piece in _pieces(corpus, source, position, -(-n_tokens * points // n_points)):
            pieces.append(piece)
            end = source, _order(piece.end)
    return Sample(tuple(pieces), whole=False, seconds=time.perf_counter() - start)


def _order(position: Position) -> tuple[int, ...]:
    """A key that sorts the positions of one file."""
    return (position["byte"],) if "byte" in position else tuple(position.values())


def _spread(corpus: Corpus, n_points: int) -> Iterator[tuple[Source, Position, int]]:
    """Files, positions in them, and for how many of the points each stands."""
    sizes = np.array([max(source.size, 1) for source in corpus.sources], dtype=np.float64)
    ends = np.cumsum(sizes)
    points = (np.arange(n_points) + 0.5) / n_points * ends[-1]
    owners = np.searchsorted(ends, points)
    for owner in np.unique(owners):
        source = corpus.sources[int(owner)]
        begin = ends[owner] - sizes[owner]
        shares = ((points[owners == owner] - begin) / sizes[owner]).tolist()
        # The first point of a file is its beginning, so that a single point is not its middle.
        shares[0] = 0.0
        found = source.format.positions(source, corpus.options, shares)
        positions = dict.fromkeys(tuple(position.items()) for position in found)
        for items in positions:
            yield source, dict(items), len(shares) // len(positions)


def _pieces(corpus: Corpus, source: Source, position: Position, room: int) -> Iterator[Piece]:
    """Documents after a position until there is no room; of bare ids the last one is cut."""
    records = source.format.has_fields(source)
    before = position.get("byte", 0)
    last = position.get("token", 0) + room
    for chunk in corpus.chunks_from(source, position, min(max(room, 1), 1 << 20), room):
        documents = chunk.documents
        cut = chunk.position.get("token") == last
        if not records and documents.n_tokens > room:
            documents, cut = _first_tokens(documents, room), True
        after = chunk.bytes_read
        if source.codec is None:  # positions in bytes are those of the file
            after = chunk.position.get("byte", after)
        if len(documents):
            yield Piece(
                documents, len(documents) - cut, after - before, chunk.position, chunk.ended
            )
        before = after
        room -= documents.n_tokens
        if room <= 0:
            return


def _first_tokens(documents: Documents, room: int) -> Documents:
    """The first `room` tokens; the last document is cut."""
    end = int(documents.offsets[0]) + room
    count = int(np.searchsorted(documents.offsets, end, side="left"))
    offsets = documents.offsets[: count + 1].copy()
    offsets[-1] = end
    return Documents(documents.values, offsets)
