"""Token files of dolma and OLMo: headerless `.npy`, and a table of the documents beside it.

``X.npy`` is no numpy file: bare ids, uint16 unless the tool was told otherwise. The rows of
``X.csv.gz`` are ``start,end,id,src,loc`` of each document, in tokens. The table tells the dtype:
its last end times the bytes of an id is the size of the file.
"""

from __future__ import annotations

import csv
import io
from array import array
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, InputOptionError, damage_named
from radscore.corpus.formats.tokens import BIN_DTYPES, TokenLayout, whole_ids
from radscore.corpus.sources import side_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus.sources import Source

__all__ = ["dolma_layout"]

_BY_SIZE: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}


class _Table:
    """Ends of documents, in memory: 8 bytes a document."""

    def __init__(self, ends: npt.NDArray[np.int64]) -> None:
        self._ends = ends
        self.n_documents = len(ends)

    def ends(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Ends, in tokens, of the documents from `first`, at most `count` of them."""
        return self._ends[first : first + count]


def dolma_layout(source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
    """Where the ids and the documents of a headerless `.npy` lie.

    Raises
    ------
    CorpusError
        If the table is damaged or does not fit the file, or nothing tells the dtype.
    """
    path, table = source.path, side_file(source.path, ".csv.gz")
    if table not in source.sides:
        if dtype is None:
            raise InputOptionError(
                f"{path}: there is no {table.name} to tell the dtype of its ids; give it with "
                f"dtype= ({', '.join(BIN_DTYPES)})"
            )
        return TokenLayout(path, dtype, 0, whole_ids(source, dtype))
    ends = _read_table(table)
    total = int(ends[-1]) if len(ends) else 0
    if total == source.size == 0:  # a shard without a token: any dtype will do
        return TokenLayout(path, dtype or _BY_SIZE[2], 0, 0, ends=_Table(ends), index=table)
    size = source.size // total if total else 0
    if size not in _BY_SIZE or size * total != source.size:
        raise DamagedFileError(
            f"{table}: its last document ends at token {total}, which does not fit the "
            f"{source.size} bytes of {path.name}"
        )
    if dtype is not None and dtype.itemsize != size:
        raise InputOptionError(
            f"{path}: dtype= says {dtype.name}, but {table.name} says {size} bytes an id"
        )
    kind = _BY_SIZE[size] if dtype is None else dtype
    return TokenLayout(path, kind, 0, total, ends=_Table(ends), index=table)


def _read_table(path: Path) -> npt.NDArray[np.int64]:
    """The ends of the documents, which must lie back to back."""
    ends = array("q")
    end = 0
    for number, cells in _rows(path):
        try:
            start, stop = int(cells[0]), int(cells[1])
        except (IndexError, ValueError):
            raise DamagedFileError(f"{path}:{number}: no row of start,end,id,src,loc") from None
        if start != end or stop < start or stop >= 2**62:
            raise DamagedFileError(
                f"{path}:{number}: the document runs from token {start} to {stop}, but the one "
                f"before it ends at {end}"
            )
        ends.append(stop)
        end = stop
    return np.array(ends, dtype=np.int64)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of a packed table."""
    import pyarrow as pa

    with damage_named(path), ExitStack() as stack:
        stream: Any = stack.enter_context(pa.input_stream(str(path), compression="gzip"))
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
        rows = csv.reader(stack.enter_context(text))
        try:
            yield from ((rows.line_num, cells) for cells in rows if cells)
        except csv.Error as error:
            raise DamagedFileError(f"{path}:{rows.line_num}: {error}") from None
