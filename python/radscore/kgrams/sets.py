"""`KgramSet` and `KgramCounts`: which contexts a model may have learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radscore import _core
from radscore.documents import MAX_VOCAB, Documents, DocumentsLike, check_width
from radscore.errors import ArgumentError, StateError, TokenError
from radscore.kgrams.json_files import JSON_SUFFIXES, read_json
from radscore.kgrams.origin import Counted, KgramOrigin

__all__ = ["KgramCounts", "KgramSet"]


def _are_ids(tokens: list[Any]) -> bool:
    return all(isinstance(token, (int, np.integer)) and 0 <= token < 2**32 for token in tokens)


class KgramSet:
    """A set of k-grams over a vocabulary; as a filter, the contexts that are scored.

    Make one with `from_documents`, `from_kgrams`, `load` or :meth:`KgramCounts.top`. Sets of equal
    width and vocabulary combine by ``|`` and ``&``; ``kgram in phi``, ``len(phi)`` and iteration
    (tuples in lexicographic order) work as for a `frozenset`.

    Attributes
    ----------
    origin : KgramOrigin
        How the set was made, which decides what a test may conclude with it as a filter.

    Examples
    --------
    >>> phi = KgramSet.from_documents([[1, 2, 3], [1, 2]], width=2, vocab_size=10)
    >>> len(phi), (1, 2) in phi, (3, 1) in phi
    (2, True, False)
    >>> list(phi & KgramSet.from_kgrams([[1, 2]], vocab_size=10))
    [(1, 2)]
    """

    __slots__ = ("core", "origin")

    def __init__(self, core: _core.KgramSet) -> None:
        self.core = core
        self.origin = KgramOrigin.from_json(core.origin)

    @classmethod
    def from_documents(
        cls,
        documents: DocumentsLike,
        width: int,
        vocab_size: int,
        *,
        top: int | None = None,
        min_count: int = 1,
        watermarked: bool | None = None,
        threads: int | None = None,
    ) -> KgramSet:
        """The k-grams of documents, or the `top` most frequent of them (see `KgramCounts.top`)."""
        counts = KgramCounts(width, vocab_size, watermarked=watermarked)
        counts.add(documents, threads=threads)
        return counts.top(top, min_count=min_count)

    @classmethod
    def from_kgrams(
        cls,
        kgrams: Iterable[Sequence[int]],
        vocab_size: int,
        *,
        width: int | None = None,
        watermarked: bool | None = None,
    ) -> KgramSet:
        """A set of given k-grams, all of one width, which must be given if there may be none.

        `watermarked` says whether they come from text with the watermark that will be tested.
        """
        check_width("vocab_size", vocab_size, 2, MAX_VOCAB)
        origin = KgramOrigin(watermarked).to_json()
        return cls(_core.KgramSet.from_rows(_rows(kgrams, width), vocab_size, origin))

    @classmethod
    def load(cls, path: str | Path, *, vocab_size: int | None = None) -> KgramSet:
        """Loads what `save` wrote, or imports JSON or JSON lines, by the suffix.

        An import needs `vocab_size`; `radscore.kgrams.json_files` describes the formats.

        Raises
        ------
        StateError
            If the file is damaged or of another kind.
        TokenError
            If an entry is not a k-gram of the vocabulary; the message names the line.
        """
        path = Path(path)
        if path.suffix in JSON_SUFFIXES:
            return KgramCounts.load(path, vocab_size=vocab_size).top()
        core = _core.KgramSet.load(path)
        if vocab_size not in (None, core.vocab_size):
            raise StateError(f"{path} is over {core.vocab_size} ids, not {vocab_size}")
        return cls(core)

    def save(self, path: str | Path) -> None:
        """Saves the set (format ``RSKG``, version 3, with a checksum), replacing `path` at once."""
        self.core.save(Path(path))

    @property
    def width(self) -> int:
        """Ids per k-gram."""
        return self.core.width

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return self.core.vocab_size

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the content, in hexadecimal digits."""
        return self.core.fingerprint

    def to_numpy(self) -> npt.NDArray[np.uint32]:
        """The k-grams in lexicographic order, shape (n, width)."""
        return self.core.rows()

    def __len__(self) -> int:
        return len(self.core)

    def __contains__(self, kgram: object) -> bool:
        if not isinstance(kgram, (Sequence, np.ndarray)):
            return False
        ids = list(kgram)
        return _are_ids(ids) and self.core.contains(ids)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (tuple(row) for row in self.to_numpy().tolist())

    def __or__(self, other: KgramSet) -> KgramSet:
        return KgramSet(self.core.union(other.core, self.origin.joined(other.origin).to_json()))

    def __and__(self, other: KgramSet) -> KgramSet:
        # k-grams that both texts have are a selection of either
        origin = KgramOrigin(self.origin.joined(other.origin).watermarked)
        return KgramSet(self.core.intersection(other.core, origin.to_json()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KgramSet) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return (
            f"KgramSet(width={self.width}, vocab_size={self.vocab_size}, n={len(self)}, "
            f"fingerprint='{self.fingerprint}')"
        )


class KgramCounts:
    """How often each k-gram of one width occurs; k-grams never cross documents.

    Parameters
    ----------
    width : int
        Ids per k-gram, 1 to 16.
    vocab_size : int
        Size of the vocabulary, 2 to 2**20.
    watermarked : bool, optional
        Whether the text carries the watermark that will be tested; None is read as yes. A filter
        from unmarked text may be chosen in any way; of watermarked text only all k-grams make a
        valid one.

    Examples
    --------
    >>> counts = KgramCounts(width=2, vocab_size=10)
    >>> counts.add([[1, 2, 1, 2], [2, 1]])
    >>> counts[1, 2], counts.total, len(counts)
    (2, 4, 2)
    >>> list(counts.top(1))
    [(1, 2)]
    """

    __slots__ = ("core",)

    def __init__(self, width: int, vocab_size: int, *, watermarked: bool | None = None) -> None:
        check_width("width", width, 1, 16)
        check_width("vocab_size", vocab_size, 2, MAX_VOCAB)
        self.core = _core.KgramCounts(width, vocab_size)
        self.core.set_origin(KgramOrigin(watermarked).to_json())

    @property
    def origin(self) -> KgramOrigin:
        """From which text, and what was counted ("given" before anything is)."""
        return KgramOrigin.from_json(self.core.origin)

    def _counts_by(self, counted: Counted) -> None:
        """From now on the counts are numbers of `counted`."""
        origin = self.origin
        if len(self) and origin.counted == "given":
            return  # given k-grams stay among them
        if len(self) and origin.counted != counted:
            raise ArgumentError(
                f"per_document must not change: these are counts of {origin.counted}"
            )
        self.core.set_origin(KgramOrigin(origin.watermarked, counted).to_json())

    def add(
        self,
        documents: DocumentsLike,
        *,
        per_document: bool = False,
        threads: int | None = None,
    ) -> None:
        """Counts the k-grams of documents.

        Parameters
        ----------
        documents : Documents, Arrow lists, lists of ids, arrays, tensors
            Anything that `Documents.of` takes.
        per_document : bool
            Count each k-gram once per document, so that counts are numbers of documents; the same
            in every call.
        threads : int, optional
            Worker threads; all cores by default.

        Raises
        ------
        ArgumentError
            If `threads` is not from 1 to 4096.
        TokenError
            If an id is outside the vocabulary, or a count would be 2**64 or more.
        """
        if threads is not None:
            threads = check_width("threads", threads, 1, 4096)
        ragged = Documents.of(documents)
        self._counts_by("documents" if per_document else "occurrences")
        if per_document:
            ragged = _once_per_document(ragged, self.width)
        self.core.add(ragged.values, ragged.offsets, threads)

    def top(self, n: int | None = None, *, min_count: int = 1) -> KgramSet:
        """The `n` most frequent k-grams (None: all) that occur at least `min_count` times.

        Equally frequent k-grams come in lexicographic order.
        """
        if n is not None:
            n = check_width("n", n, 0, 2**62)
        least = check_width("min_count", min_count, 0, 2**62)
        origin = self.origin
        if origin.counted != "given":
            origin = KgramOrigin(origin.watermarked, origin.counted, n, least)
        return KgramSet(self.core.top(n, least, origin.to_json()))

    def to_numpy(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
        """K-grams in lexicographic order, shape (n, width), and their counts."""
        return self.core.rows()

    def save(self, path: str | Path) -> None:
        """Saves the counts (format ``RSKC``, version 3, with a checksum)."""
        self.core.save(Path(path))

    @classmethod
    def load(cls, path: str | Path, *, vocab_size: int | None = None) -> KgramCounts:
        """Loads what `save` wrote, or imports JSON or JSON lines; see :meth:`KgramSet.load`."""
        path = Path(path)
        if path.suffix in JSON_SUFFIXES:
            if vocab_size is None:
                raise ArgumentError(f"vocab_size must be given to import k-grams from {path}")
            kgrams, numbers = read_json(path, vocab_size)
            counts = cls(len(kgrams[0]), vocab_size)
            counts.core.add_rows(_rows(kgrams, counts.width), np.array(numbers, dtype=np.uint64))
            return counts
        core = _core.KgramCounts.load(path)
        counts = cls.__new__(cls)
        counts.core = core
        return counts

    @property
    def width(self) -> int:
        """Ids per k-gram."""
        return self.core.width

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return self.core.vocab_size

    @property
    def total(self) -> int:
        """Sum of all counts."""
        return self.core.total

    def __len__(self) -> int:
        return len(self.core)

    def __getitem__(self, kgram: Sequence[int]) -> int:
        ids = list(kgram)
        return self.core.get(ids) if _are_ids(ids) else 0

    def __repr__(self) -> str:
        return (
            f"KgramCounts(width={self.width}, vocab_size={self.vocab_size}, n={len(self)}, "
            f"total={self.total})"
        )


def _once_per_document(documents: Documents, width: int) -> Documents:
    """The distinct k-grams of each document, as documents of their own."""
    offsets = documents.offsets
    lengths = np.maximum(np.diff(offsets) - (width - 1), 0)
    document = np.repeat(np.arange(len(documents)), lengths)
    first = np.cumsum(lengths) - lengths
    starts = np.arange(len(document)) - first[document] + offsets[document]
    columns = [documents.values[starts + j] for j in range(width)]
    order = np.lexsort((*reversed(columns), document))
    rows = np.column_stack([document, *columns])[order]
    new = np.ones(len(rows), dtype=np.bool_)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    kept = rows[new, 1:].astype(documents.values.dtype)
    return Documents(kept.ravel(), np.arange(len(kept) + 1, dtype=np.int64) * width)


def _rows(kgrams: Any, width: int | None) -> npt.NDArray[np.uint32]:
    """K-grams as a contiguous (n, width) array of ids."""
    try:
        array = np.asarray(kgrams if isinstance(kgrams, np.ndarray) else list(kgrams))
    except (ValueError, TypeError, OverflowError):
        raise TokenError("k-grams must all have the same number of integer ids") from None
    if array.size == 0:
        return np.empty((0, check_width("width", width or 0, 1, 16)), dtype=np.uint32)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise TokenError("k-grams must all have the same number of integer ids")
    if width is not None and array.shape[1] != width:
        raise ArgumentError(f"width is {width}, but the k-grams have {array.shape[1]} ids")
    if array.min() < 0 or array.max() >= 2**32:
        raise TokenError(f"k-grams hold the id {array.min() if array.min() < 0 else array.max()}")
    return np.ascontiguousarray(array, dtype=np.uint32)
