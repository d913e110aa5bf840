"""`Documents`: ragged token ids, which every other part of radscore reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.columnar import checked, holds_ids, plain
from radscore.errors import ArgumentError, TokenError, line_of, shown, some_of

__all__ = ["MAX_VOCAB", "Documents", "DocumentsLike", "IntArray", "opened"]

#: The largest vocabulary that windows are packed for.
MAX_VOCAB = 1 << 20

IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
#: Whatever :meth:`Documents.of` takes.
DocumentsLike: TypeAlias = Any


class Documents:
    """Token ids of many documents, back to back.

    Parameters
    ----------
    values : ndarray of int, shape (n_tokens,)
        The token ids of all documents, one after the other; any integer dtype. Never copied.
    offsets : ndarray of int64, shape (n_documents + 1,)
        Document ``i`` is ``values[offsets[i]:offsets[i + 1]]``. The first offset may be above 0 and
        the last below ``len(values)``, as in a slice of an Arrow array.

    Raises
    ------
    TokenError
        If ``values`` is not a contiguous one-dimensional integer array, or the offsets decrease
        or point outside it.

    Examples
    --------
    >>> import numpy as np
    >>> docs = Documents(np.array([5, 6, 7, 8], dtype=np.uint16), np.array([0, 3, 4]))
    >>> len(docs), docs.n_tokens, docs[0].tolist()
    (2, 4, [5, 6, 7])
    """

    __slots__ = ("_range", "offsets", "values")

    values: IntArray
    offsets: npt.NDArray[np.int64]

    def __init__(self, values: IntArray, offsets: npt.ArrayLike) -> None:
        if not isinstance(values, np.ndarray):
            raise TokenError(
                f"values must be a numpy array, not {type(values).__name__}; "
                "use Documents.of() for other containers"
            )
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise TokenError(
                f"values must be a 1-D array of integers, not {values.ndim}-D {values.dtype}"
            )
        if not values.dtype.isnative or not values.flags.c_contiguous:
            raise TokenError("values must be contiguous and in native byte order; copy it first")
        starts = np.asarray(offsets)
        if starts.ndim != 1 or len(starts) == 0 or not np.issubdtype(starts.dtype, np.integer):
            raise TokenError("offsets must be a 1-D integer array of n_documents + 1 entries")
        starts = np.ascontiguousarray(starts, dtype=np.int64)
        if starts[0] < 0 or starts[-1] > len(values):
            raise TokenError(
                f"offsets run from {starts[0]} to {starts[-1]}, outside the {len(values)} values"
            )
        falls = np.flatnonzero(starts[1:] < starts[:-1])
        if len(falls):
            raise TokenError(f"offsets decrease after document {falls[0]}")
        self.values = values
        self.offsets = starts
        self._range: tuple[int, int] | None = None

    @classmethod
    def of(cls, documents: DocumentsLike, name: str = "documents") -> Documents:
        """Documents from any of the usual containers, without a copy where possible.

        Parameters
        ----------
        documents : Documents, Arrow list array, sequence, series, ndarray, tensor or iterator
            `Documents` are returned as they are. A (chunked) Arrow list or large-list array of
            integers and a two-dimensional array or CPU tensor are read in place. A one-dimensional
            array, tensor or series of ints, or a flat list of ints, is one document. A sequence,
            series or iterator of documents (lists, arrays, tensors, encodings) is copied once, into
            one array. Of what a tokenizer returns, the ``input_ids`` are read, without those that
            the ``attention_mask`` leaves out.
        name : str
            The argument, for messages.

        Raises
        ------
        TokenError
            If an entry is not an integer, an entry is null, or a tensor is not on the CPU.

        Examples
        --------
        >>> Documents.of([[1, 2, 3], [], [4]])
        Documents(n_documents=3, n_tokens=4, dtype=int64)
        """
        documents = opened(documents, name)
        if isinstance(documents, Documents):
            return documents
        if _module(documents) == "pyarrow":
            return cls._of_arrow(documents, name)
        if isinstance(documents, np.ma.MaskedArray):
            raise TokenError("masked arrays are refused: fill or drop the masked token ids first")
        if isinstance(documents, np.ndarray) and documents.dtype != object:
            return cls._of_array(documents)
        return cls._of_sequence(list(documents), name)

    @classmethod
    def _of_array(cls, array: IntArray) -> Documents:
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        if array.ndim == 1:
            return cls(array if len(array) else array.astype(np.int64), np.array([0, len(array)]))
        if array.ndim == 2:
            rows, columns = array.shape
            return cls(array.reshape(-1), np.arange(rows + 1, dtype=np.int64) * columns)
        raise TokenError(f"an array of documents has 1 or 2 dimensions, not {array.ndim}")

    @classmethod
    def _of_sequence(cls, documents: list[Any], name: str) -> Documents:
        if len(documents) and isinstance(documents[0], (int, np.integer)):
            return cls._of_array(_ids(documents, name))
        parts = [_ids(document, f"{name}[{i}]") for i, document in enumerate(documents)]
        lengths = [len(part) for part in parts]
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        full = [part for part in parts if len(part)]
        values = np.concatenate(full) if full else np.empty(0, dtype=np.int64)
        if not np.issubdtype(values.dtype, np.integer):  # uint64 beside int64
            if any(int(part.max()) > np.iinfo(np.int64).max for part in full):
                raise TokenError("a token id is beyond 2^63")
            values = np.concatenate([part.astype(np.int64) for part in full])
        return cls(values, offsets)

    @classmethod
    def _of_arrow(cls, array: Any, name: str) -> Documents:
        import pyarrow as pa

        if isinstance(array, pa.ChunkedArray):
            if array.num_chunks != 1:
                array = array.combine_chunks()
            if isinstance(array, pa.ChunkedArray):
                array = array.chunk(0)
        kind = array.type
        try:
            array = plain(checked(array))
        except pa.ArrowInvalid as error:
            raise TokenError(f"{name}: {line_of(error)}") from None
        if not holds_ids(kind):
            raise TokenError(
                f"{name}: an Arrow array of documents holds lists of integers, not {kind}"
            )
        if array.null_count:
            index = array.is_null().to_pylist().index(True)
            raise TokenError(f"{name}[{index}] is null")
        if array.values.null_count and array.flatten().null_count:
            raise TokenError(f"{name}: a token id is null")
        offsets = array.offsets.to_numpy(zero_copy_only=False)
        values = array.values
        if values.null_count:  # nulls outside of this slice only
            values = array.flatten()
            offsets = offsets - offsets[0]
        return cls(values.to_numpy(zero_copy_only=True), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> int:
        """Number of token ids in all documents together."""
        return int(self.offsets[-1] - self.offsets[0])

    def __getitem__(self, index: int) -> IntArray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        index %= len(self)
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[IntArray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return (
            f"Documents(n_documents={len(self)}, n_tokens={self.n_tokens}, "
            f"dtype={self.values.dtype})"
        )

    @property
    def id_range(self) -> tuple[int, int]:
        """Smallest and largest token id, (0, -1) without any; computed once."""
        if self._range is None:
            used = self.values[self.offsets[0] : self.offsets[-1]]
            self._range = (int(used.min()), int(used.max())) if len(used) else (0, -1)
        return self._range

    def check_vocab(self, vocab_size: int) -> None:
        """Raises `TokenError`, naming document and position, unless all ids are in the vocabulary.

        The ids are read once, however often it is called.
        """
        low, high = self.id_range
        if low >= 0 and high < vocab_size:
            return
        first = int(self.offsets[0])
        used = self.values[first : self.offsets[-1]]
        bad = first + int(np.flatnonzero((used < 0) | (used >= vocab_size))[0])
        document = int(np.searchsorted(self.offsets, bad, side="right")) - 1
        raise TokenError(
            f"token id {int(self.values[bad])} at position {bad - int(self.offsets[document])} of "
            f"document {document} is outside the vocabulary of {vocab_size}"
        )


_FRAMES = ("DataFrame", "LazyFrame", "Table", "RecordBatch")


def opened(documents: Any, name: str = "documents") -> Any:
    """`documents` as `Documents`, an Arrow or numpy array, or a list or tuple of documents.

    Raises
    ------
    TokenError
        If it is none of these, and cannot be made one; the message says what to give instead.
    """
    if isinstance(documents, np.ndarray) and documents.ndim == 0:
        raise TokenError(f"{name} is a single value, not documents: {shown(documents.item())}")
    if isinstance(documents, (Documents, list, tuple, np.ndarray)):
        return documents
    module, kind = _module(documents), type(documents).__name__
    if kind in _FRAMES and hasattr(documents, "columns"):
        raise TokenError(f"{name} is a {kind}; give one of its columns: {_names(documents)}")
    if isinstance(documents, (str, bytes, bytearray)) or hasattr(documents, "__fspath__"):
        raise TokenError(
            f"{name} is a {kind}: give a list of documents, or open files with "
            "radscore.open_corpus(paths)"
        )
    if is_data_set(documents):
        raise TokenError(f"{name} is a {kind}; open it with radscore.open_corpus(..., field=)")
    if module == "pyarrow":
        return opened(documents.as_py(), name) if hasattr(documents, "as_py") else documents
    if module in ("pandas", "polars"):
        return documents.to_list() if hasattr(documents, "to_list") else list(documents)
    if module == "torch":
        nested = getattr(documents, "is_nested", False)
        return list(documents.unbind()) if nested else _tensor_to_numpy(documents, name)
    if hasattr(documents, "keys"):
        return _encodings(documents, name)
    if isinstance(documents, (set, frozenset)):
        raise TokenError(f"{name} is a {kind}, which has no order; give a list")
    if isinstance(documents, Iterable):
        array = None if isinstance(documents, Sequence) else _array(documents)
        return list(documents) if array is None else array
    raise TokenError(
        f"{name} must be token ids (lists, arrays, series, Arrow lists, Documents), not {kind}"
    )


def is_data_set(value: Any) -> bool:
    """Whether a value is one of the library `datasets`, and not one of its columns."""
    return hasattr(value, "with_format") and hasattr(value, "column_names")


def _module(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _names(table: Any) -> str:
    columns = table.column_names if hasattr(table, "column_names") else table.columns
    return some_of(map(repr, columns))


def _array(value: Any) -> npt.NDArray[Any] | None:
    """An array of another library; None if it is none."""
    if not (hasattr(value, "__array__") and hasattr(value, "dtype")):
        return None
    return np.asarray(value)


def _encodings(value: Any, name: str) -> Any:
    """The documents in what a tokenizer returned: without padding."""
    if "input_ids" not in value:
        keys = some_of(map(repr, value))
        raise TokenError(
            f"{name} is a {type(value).__name__} without 'input_ids'; its keys: {keys}"
        )
    ids = opened(value["input_ids"], f"{name}['input_ids']")
    if "attention_mask" not in value:
        return ids
    whole = Documents.of(ids)
    kept = Documents.of(value["attention_mask"])
    if not np.array_equal(np.diff(whole.offsets), np.diff(kept.offsets)):
        raise TokenError(f"{name}: 'attention_mask' has another shape than 'input_ids'")
    return [one[np.asarray(read, dtype=np.bool_)] for one, read in zip(whole, kept, strict=True)]


def _tensor_to_numpy(tensor: Any, name: str) -> IntArray:
    if not hasattr(tensor, "detach"):
        raise TokenError(f"{name} must be token ids, not {type(tensor).__name__}")
    if tensor.device.type != "cpu":
        raise TokenError(f"the tensor is on {tensor.device}; move it with .cpu() first")
    try:
        array: IntArray = tensor.numpy(force=True)
    except (TypeError, RuntimeError) as error:  # bfloat16 and other types that numpy lacks
        raise TokenError(f"a tensor of token ids holds {tensor.dtype}: {error}") from None
    return array


def _ids(document: Any, name: str) -> IntArray:
    """The ids of a document, whose name is for messages."""
    if not isinstance(document, (list, np.ndarray)):
        document = _single(document, name)
    if isinstance(document, np.ndarray) and document.dtype == object:
        document = document.tolist()
    try:
        ids = np.asarray(document)
    except (ValueError, OverflowError, TypeError) as error:
        raise TokenError(f"{name} is not a list of token ids: {error}") from None
    if isinstance(document, (list, tuple)) and bool in set(map(type, document)):
        raise TokenError(f"{name} holds bool, not integers")
    if ids.ndim != 1:
        raise TokenError(f"{name} is not a list of token ids but {ids.ndim}-D")
    if len(ids) and ids.dtype == object and all(isinstance(one, int) for one in ids.tolist()):
        raise TokenError(f"{name} holds a token id beyond 2^63")
    if len(ids) and not np.issubdtype(ids.dtype, np.integer):
        raise TokenError(f"{name} holds {ids.dtype}, not integers")
    return ids


def is_missing(value: Any) -> bool:
    """Whether a value is one that stands for none: None, NaN or pandas' NA."""
    nan = isinstance(value, float) and math.isnan(value)
    return value is None or nan or type(value).__name__ == "NAType"


def _single(document: Any, name: str) -> Any:
    """One document as a list or an array."""
    if is_missing(document):
        raise TokenError(f"{name} is missing ({document})")
    if isinstance(document, (bytes, bytearray)):
        raise TokenError(f"{name} is bytes, not token ids: decode them to text first")
    if isinstance(document, str):
        raise TokenError(f"{name} is text, not token ids: give tokenizer=, or tokenise it first")
    if _module(document) == "torch":
        return _tensor_to_numpy(document, name)
    if _module(document) == "pyarrow":
        return _single(document.as_py(), name) if hasattr(document, "as_py") else document.tolist()
    if hasattr(document, "keys") and "input_ids" in document:
        return _encodings({key: [document[key]] for key in document}, name)[0]
    if hasattr(document, "ids"):  # an encoding of the library tokenizers
        return document.ids
    if isinstance(document, (set, frozenset, dict)):
        raise TokenError(f"{name} is a {type(document).__name__}, not a list of token ids")
    if isinstance(document, Iterable) and _array(document) is None:
        return document if isinstance(document, Sequence) else list(document)
    return document


def padded_left(documents: Documents, width: int, padding: int) -> Documents:
    """A copy of the documents, as uint32, with `width` times `padding` before each."""
    lengths = np.diff(documents.offsets)
    offsets = width * np.arange(len(documents) + 1)
    offsets[1:] += np.cumsum(lengths)
    values = np.full(offsets[-1], padding, dtype=np.uint32)
    before = np.repeat(width * np.arange(1, len(documents) + 1), lengths)
    own = documents.values[documents.offsets[0] : documents.offsets[-1]]
    values[before + np.arange(len(own))] = own
    return Documents(values, offsets)


def check_width(name: str, value: int, low: int, high: int) -> int:
    """`value` if it is an integer from `low` to `high`, else an `ArgumentError` naming it."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise ArgumentError(f"{name} must be an integer, not {shown(value)}")
    if not low <= value <= high:
        raise ArgumentError(f"{name} must be from {low} to {high}, not {shown(value)}")
    return int(value)
