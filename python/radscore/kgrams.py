"""Sets and counts of k-grams: which contexts a model may have learned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from radscore import _core
from radscore.documents import MAX_VOCAB, Documents, DocumentsLike, check_width
from radscore.errors import ArgumentError, StateError, TokenError

__all__ = ["Counted", "KgramCounts", "KgramOrigin", "KgramSet"]

Counted: TypeAlias = Literal["given", "occurrences", "documents"]

_JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}


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


def _are_ids(tokens: list[Any]) -> bool:
    return all(isinstance(token, (int, np.integer)) and 0 <= token < 2**32 for token in tokens)


@dataclass(frozen=True)
class KgramOrigin:
    """How a set of k-grams was made, which decides what a test may conclude with it as a filter.

    Attributes
    ----------
    watermarked : bool or None
        Whether the text carries the watermark that will be tested; None where nobody said, which
        tests read as yes.
    counted : {"given", "occurrences", "documents"}
        What the counts are numbers of; "given" where the k-grams were listed, not counted.
    top : int or None
        Only so many, the most frequent, were kept.
    min_count : int
        The least count that was kept.
    """

    watermarked: bool | None = None
    counted: Counted = "given"
    top: int | None = None
    min_count: int = 1

    def __post_init__(self) -> None:
        flags = self.watermarked is None or isinstance(self.watermarked, bool)
        counts = [self.min_count, *([] if self.top is None else [self.top])]
        if (
            not flags
            or self.counted not in get_args(Counted)
            or any(type(count) is not int or not 0 <= count < 2**63 for count in counts)
        ):
            raise StateError(f"a k-gram set says of its making what makes no sense: {asdict(self)}")

    @property
    def is_whole(self) -> bool:
        """Whether the set holds every k-gram of its text, so that nothing was chosen."""
        return self.counted != "given" and self.top is None and self.min_count <= 1

    @property
    def may_depend_on_key(self) -> bool:
        """Whether the text carries the tested watermark, or nobody said that it does not."""
        return self.watermarked is not False

    @property
    def words(self) -> str:
        """For a person: ``all k-grams in 3 or more documents, of unmarked text``."""
        text = {True: "watermarked text", False: "unmarked text", None: "text of unknown marking"}
        if self.counted == "given":
            return f"a given list, from {text[self.watermarked]}"
        which = "all k-grams" if self.top is None else f"the {self.top} most frequent k-grams"
        if self.is_whole or (self.top is not None and self.min_count <= 1):
            how = "" if self.is_whole else f", counted by {self.counted}"
        else:
            how = f" with {self.min_count} or more occurrences"
            if self.counted == "documents":
                how = f" in {self.min_count} or more documents"
        return f"{which}{how}, of {text[self.watermarked]}"

    def joined(self, other: KgramOrigin) -> KgramOrigin:
        """Of k-grams that two sets gave."""
        both = {self.watermarked, other.watermarked}
        watermarked = False if both == {False} else (True if True in both else None)
        if self.is_whole and other.is_whole:
            return KgramOrigin(watermarked, self.counted, self.top, self.min_count)
        return KgramOrigin(watermarked)

    def to_json(self) -> str:
        """As files hold it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> KgramOrigin:
        """What `to_json` gave.

        Raises
        ------
        StateError
            If it is anything else.
        """
        if not text:
            return cls()
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            raise StateError("the origin of a k-gram set is damaged") from None


class KgramSet:
    """A set of k-grams over a vocabulary; as a filter, the contexts that are scored.

    Make one with `from_documents`, `from_kgrams`, `load` or :meth:`KgramCounts.top`. Sets of equal
    width and vocabulary are combined by ``|`` and ``&``; ``kgram in phi``, ``len(phi)`` and
    iteration (tuples in lexicographic order) work as for a `frozenset`. `origin` says how the set
    was made: what a test may conclude with it as a filter depends on that.

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
        #: How the set was made: a `KgramOrigin`.
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
        """A set of given k-grams, all of one width (say which if there may be none).

        `watermarked` says whether they come from text with the watermark that will be tested.
        """
        check_width("vocab_size", vocab_size, 2, MAX_VOCAB)
        origin = KgramOrigin(watermarked).to_json()
        return cls(_core.KgramSet.from_rows(_rows(kgrams, width), vocab_size, origin))

    @classmethod
    def load(cls, path: str | Path, *, vocab_size: int | None = None) -> KgramSet:
        """Loads what `save` wrote, or imports JSON or JSON lines (by the suffix).

        JSON: a list of k-grams (lists of ids), or an object ``{"12,7": count}`` whose keys are ids
        separated by commas, in brackets or not. JSON lines: on each line a k-gram, or an object
        with the field ``kgram`` (and ``count``). An import needs `vocab_size`.

        Raises
        ------
        StateError
            If the file is damaged or of another kind.
        TokenError
            If an entry is no k-gram of the vocabulary; the message names the line.
        """
        path = Path(path)
        if path.suffix in _JSON_SUFFIXES:
            return KgramCounts.load(path, vocab_size=vocab_size).top()
        core = _core.KgramSet.load(path)
        if vocab_size not in (None, core.vocab_size):
            raise StateError(f"{path} is over {core.vocab_size} ids, not {vocab_size}")
        return cls(core)

    def save(self, path: str | Path) -> None:
        """Saves the set (format ``RSKG``, version 2, with a checksum), replacing `path` at once."""
        self.core.save(Path(path))

    @property
    def width(self) -> int:
        """Number of ids in a k-gram."""
        return self.core.width

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return self.core.vocab_size

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the content."""
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
        # what both texts have is a choice
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
    """How often each k-gram of a width occurs; k-grams never cross documents.

    Parameters
    ----------
    width : int
        Ids in a k-gram, 1 to 16.
    vocab_size : int
        Size of the vocabulary, 2 to 2**20.
    watermarked : bool, optional
        Whether the text carries the watermark that will be tested. A filter from unmarked text
        may be chosen in any way; of watermarked text only all k-grams make a valid one. None is
        read as yes.

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
        """From which text, and what the counts are numbers of ("given" before any is counted)."""
        return KgramOrigin.from_json(self.core.origin)

    def _counts_by(self, counted: Counted) -> None:
        """From now on the counts are numbers of `counted`."""
        origin = self.origin
        if len(self) and origin.counted == "given":
            return  # what was given stays among them
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
        """Counts the k-grams of documents (anything `Documents.of` takes), in parallel.

        Parameters
        ----------
        documents : Documents, Arrow lists, lists of ids, arrays, tensors
            What to count; in parallel.
        per_document : bool
            Count each k-gram once a document, so that the counts are numbers of documents; the
            same in every call.
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
            ragged = _once_a_document(ragged, self.width)
        self.core.add(ragged.values, ragged.offsets, threads)

    def top(self, n: int | None = None, *, min_count: int = 1) -> KgramSet:
        """The `n` most frequent k-grams (all where None) that occur at least `min_count` times.

        Of equally frequent k-grams those come first whose ids come first in lexicographic order.
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
        """Saves the counts (format ``RSKC``, version 2, with a checksum)."""
        self.core.save(Path(path))

    @classmethod
    def load(cls, path: str | Path, *, vocab_size: int | None = None) -> KgramCounts:
        """Loads what `save` wrote, or imports JSON or JSON lines; see :meth:`KgramSet.load`."""
        path = Path(path)
        if path.suffix in _JSON_SUFFIXES:
            if vocab_size is None:
                raise ArgumentError(f"vocab_size must be given to import k-grams from {path}")
            return _import_json(path, vocab_size)
        core = _core.KgramCounts.load(path)
        counts = cls.__new__(cls)
        counts.core = core
        return counts

    @property
    def width(self) -> int:
        """Number of ids in a k-gram."""
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


def _once_a_document(documents: Documents, width: int) -> Documents:
    """The distinct k-grams of each document, each as a document of its own."""
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


def _import_json(path: Path, vocab_size: int) -> KgramCounts:
    """Counts from JSON or JSON lines; a k-gram without a count occurs once."""
    width = 0
    kgrams: list[list[int]] = []
    counts: list[int] = []
    for place, kgram, count in _json_entries(path):
        width = width or len(kgram)
        if len(kgram) != width or not width:
            raise TokenError(f"{place}: a k-gram of {len(kgram)} ids among {width}-grams")
        if not all(type(token) is int and 0 <= token < vocab_size for token in kgram):
            raise TokenError(f"{place}: {kgram} are not ids of a vocabulary of {vocab_size}")
        if type(count) is not int or not 0 <= count < 2**63:
            raise TokenError(f"{place}: the count {count!r} is not an integer from 0 on")
        kgrams.append(kgram)
        counts.append(count)
    if not kgrams:
        raise TokenError(f"{path} holds no k-grams")
    result = KgramCounts(width, vocab_size)
    result.core.add_rows(_rows(kgrams, width), np.array(counts, dtype=np.uint64))
    return result


def _json_entries(path: Path) -> Iterator[tuple[str, list[Any], Any]]:
    """Place, k-gram and count of each entry of a JSON or JSON-lines file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StateError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"cannot read {path}: {error}") from None
    if path.suffix == ".json":
        content = _parse(text, str(path))
        if isinstance(content, Mapping):
            for key, count in content.items():
                place = f"{path}: key {key!r}"
                yield place, _parse(f"[{str(key).strip('()[] ,')}]", place), count
            return
        if not isinstance(content, list):
            raise TokenError(f"{path} must hold a list or an object of k-grams")
        for index, kgram in enumerate(content):
            yield f"{path}: entry {index}", _a_list(kgram, f"{path}: entry {index}"), 1
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        entry = _parse(line, place)
        if isinstance(entry, Mapping):
            yield place, _a_list(entry.get("kgram"), place), entry.get("count", 1)
        else:
            yield place, _a_list(entry, place), 1


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenError(f"{place}: not JSON: {error}") from None


def _a_list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise TokenError(f"{place}: not a list of ids: {value!r:.60}")
    return value
