"""Token files of dolma and OLMo: headerless `.npy`, and a table of the documents beside it.

``X.npy`` is not a numpy file but bare ids, uint16 by default. The rows of ``X.csv.gz`` are
``start,end,id,src,loc`` of each document, in tokens. The table tells the dtype: its last end times
the bytes per id is the size of the file.
"""

from __future__ import annotations

import csv
import io
from array import array
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, reading
from radscore.corpus.formats import npy
from radscore.corpus.readers.ids import (
    EndsInMemory,
    IdFormat,
    TokenLayout,
    dtype_by_end,
    headerless,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus.format import Source

__all__ = ["FORMAT"]

_BY_SIZE: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}


class Dolma(IdFormat):
    """Headerless ids with a table of the documents."""

    name = "dolma"
    title = "dolma, OLMo"
    files = "headerless `.npy` with `.csv.gz`"
    content = "ids of the width that the table's last end tells"
    documents = "by the table"
    remarks = "without a table: `--dtype` and `--eod`"

    suffixes = (".npy",)
    suffix_suffices = False
    headerless = True
    side_names = ("{stem}.csv.gz",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """By the table, if it is not a numpy file after all."""
        return not head.startswith(npy.MAGIC) and self.side_files(path)[0].exists()

    def tells_dtype(self, source: Source) -> bool:
        """If there is a table."""
        return bool(source.sides)

    def layout(self, source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
        """By the table, which must fit the file."""
        (table,) = self.side_files(source.path)
        if table not in source.sides:
            return headerless(source, dtype, f"there is no {table.name}; ")
        ends = _read_table(table)
        total = int(ends[-1]) if len(ends) else 0
        told = dtype_by_end(source, table, total, _BY_SIZE, dtype)
        kind = told if dtype is None else dtype
        return TokenLayout(source.path, kind, 0, total, ends=EndsInMemory(ends), index=table)


FORMAT = Dolma()


def _read_table(path: Path) -> npt.NDArray[np.int64]:
    """The ends of the documents, which must lie back to back."""
    ends = array("q")
    end = 0
    for number, cells in _rows(path):
        try:
            start, stop = int(cells[0]), int(cells[1])
        except (IndexError, ValueError):
            raise DamagedFileError(f"{path}:{number}: not a row start,end,id,src,loc") from None
        if start != end or stop < start or stop >= 2**62:
            raise DamagedFileError(
                f"{path}:{number}: the document runs from token {start} to {stop}, but the one "
                f"before it ends at {end}"
            )
        ends.append(stop)
        end = stop
    return np.array(ends, dtype=np.int64)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of a compressed table."""
    import pyarrow as pa

    with reading(path), ExitStack() as stack:
        stream: Any = stack.enter_context(pa.input_stream(str(path), compression="gzip"))
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
        rows = csv.reader(stack.enter_context(text))
        try:
            yield from ((rows.line_num, cells) for cells in rows if cells)
        except csv.Error as error:
            raise DamagedFileError(f"{path}:{rows.line_num}: {error}") from None
