"""Token files of dolma and OLMo: headerless `.npy`, and a table of the documents beside it.

``X.npy`` is not a numpy file but bare ids, uint16 by default. The rows of ``X.csv.gz`` are
``start,end,id,src,loc`` of each document, in tokens. The table tells the dtype: its last end times
the bytes per id is the size of the file.
"""

from __future__ import annotations

import csv
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, reading
from radscore.corpus.compression import Unpacked, codec_of_head
from radscore.corpus.formats import npy
from radscore.corpus.readers.ids import (
    EndsInMemory,
    IdFormat,
    TokenLayout,
    dtype_by_end,
    headerless,
    sampled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus.format import Options, Source

__all__ = ["FORMAT"]

_BY_SIZE: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}
_MAX_ROW = 1 << 20
# Memory must not depend on how many documents are empty.
_MOST_EMPTY = 1 << 24


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
        ends = _read_table(table, source.size + _MOST_EMPTY)
        total = int(ends[-1]) if len(ends) else 0
        told = dtype_by_end(source, table, total, _BY_SIZE, dtype)
        kind = told if dtype is None else dtype
        return TokenLayout(source.path, kind, 0, total, ends=EndsInMemory(ends), index=table)

    def sample(self, source: Source, options: Options) -> list[npt.NDArray[Any]]:
        """From three points of the file; of the table only the end counts."""
        (table,) = self.side_files(source.path)
        if table not in source.sides:
            return super().sample(source, options)
        kind = dtype_by_end(source, table, _last_end(table), _BY_SIZE, options.dtype)
        return sampled(TokenLayout(source.path, kind, 0, source.size // kind.itemsize))


FORMAT = Dolma()


def _read_table(path: Path, most: int) -> npt.NDArray[np.int64]:
    """The ends of the documents, at most so many, which must lie back to back."""
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
        if len(ends) == most:
            raise DamagedFileError(f"{path}: has more than {most} rows, most of them empty")
        ends.append(stop)
        end = stop
    return np.array(ends, dtype=np.int64)


def _last_end(path: Path) -> int:
    """Where the last document of a table ends; the rows before it are not looked at."""
    tail = b""
    with _unpacked(path) as stream:
        while block := stream.read(1 << 20):
            tail = (tail + block)[-(1 << 16) :]
    cells = tail.rstrip().rpartition(b"\n")[2].split(b",")
    try:
        return int(cells[1]) if tail else 0
    except (IndexError, ValueError):
        raise DamagedFileError(f"{path}: the last row is not start,end,id,src,loc") from None


def _unpacked(path: Path) -> Unpacked:
    """A table, which is compressed, or not in spite of its name."""
    with reading(path), path.open("rb") as file:
        head = file.read(16)
    return Unpacked(path, codec_of_head(head))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of a table."""
    with _unpacked(path) as stream:
        rows = csv.reader(_lines(path, stream), strict=True)
        try:
            yield from ((rows.line_num, cells) for cells in rows if cells)
        except csv.Error as error:
            raise DamagedFileError(f"{path}:{rows.line_num}: {error}") from None


def _lines(path: Path, stream: Unpacked) -> Iterator[str]:
    rest = b""
    while block := stream.read(1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > _MAX_ROW:
            raise DamagedFileError(f"{path}: a row is longer than {_MAX_ROW} bytes")
        yield from (f"{line.decode(errors='replace')}\n" for line in lines)
    if rest:
        yield rest.decode(errors="replace")
