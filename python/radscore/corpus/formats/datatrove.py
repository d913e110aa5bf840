"""datatrove's `.ds` files (also nanotron's Nanosets): bare ids, an index and a line of metadata.

``X.ds`` holds uint16 or uint32 ids, ``X.ds.index`` the end of each document in tokens (uint64, no
header), ``X.ds.metadata`` three lines: the first ends in ``|<bytes per id>``, the second is the
number of tokens. Both side files are optional. ``X.ds.loss`` is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, reading
from radscore.corpus.readers.ids import (
    IdFormat,
    TokenLayout,
    check_given,
    dtype_by_end,
    headerless,
    n_ids,
    read_ids,
)

if TYPE_CHECKING:
    from pathlib import Path

    from radscore.corpus.format import Source

__all__ = ["FORMAT"]

_BY_SIZE: dict[int, np.dtype[Any]] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}
_END = np.dtype("<u8")


class Datatrove(IdFormat):
    """Ids whose index and metadata lie beside them, or not."""

    name = "datatrove"
    title = "datatrove, nanotron"
    files = "`.ds`"
    content = "uint16 or uint32, by `.ds.metadata` or `.ds.index`, else `--dtype`"
    documents = "by `.ds.index`, else at `--eod`"

    suffixes = (".ds",)
    headerless = True
    side_names = ("{name}.index", "{name}.metadata", "{name}.loss")

    def side_files(self, path: Path) -> tuple[Path, ...]:
        """The index and the metadata; losses are not read."""
        return super().side_files(path)[:2]

    def tells_dtype(self, source: Source) -> bool:
        """If there is a side file."""
        return bool(source.sides)

    def layout(self, source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
        """By the side files, which must fit each other and the file."""
        path = source.path
        index, metadata = self.side_files(path)
        has_index = index in source.sides
        ends, last = _index(index) if has_index else (None, 0)
        if metadata in source.sides:
            kind = _dtype(metadata, source)
            check_given(source, metadata, kind, dtype)
        elif has_index:
            kind = dtype_by_end(source, index, last, _BY_SIZE, dtype)
        else:
            why = f"neither {metadata.name} nor {index.name} tells the dtype; "
            return headerless(source, dtype, why)
        total = n_ids(source, kind)
        if has_index and last != total:
            raise DamagedFileError(
                f"{index}: its last document ends at token {last}, but {path.name} has {total}"
            )
        return TokenLayout(path, kind, 0, total, ends=ends, index=index if has_index else None)


FORMAT = Datatrove()


class _IndexFile:
    """Ends of documents, mapped block by block."""

    def __init__(self, path: Path, n_documents: int) -> None:
        self._path = path
        self.n_documents = n_documents

    def ends(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Ends, in tokens, of the documents from `first`, at most `count` of them."""
        count = min(count, self.n_documents - first)
        found = read_ids(self._path, _END, first * _END.itemsize, count)
        if (found >> np.uint64(62)).any():
            raise DamagedFileError(f"{self._path}: the end of a document is beyond 2^62")
        return found.astype(np.int64)


def _dtype(path: Path, source: Source) -> np.dtype[Any]:
    """The dtype that the metadata tells; its number of ids must fit the file."""
    with reading(path), path.open("rb") as file:
        lines = file.read(1 << 16).splitlines()
    try:
        size, n_tokens = int(lines[0].rpartition(b"|")[2]), int(lines[1])
    except (IndexError, ValueError):
        raise DamagedFileError(
            f"{path}: not the metadata of a .ds file: no line tokenizer|bytes per id followed by "
            "one with the number of ids"
        ) from None
    if size not in _BY_SIZE or n_tokens < 0:
        raise DamagedFileError(f"{path}: says {n_tokens} ids of {size} bytes; ids have 2 or 4")
    if n_tokens * size != source.size:
        raise DamagedFileError(
            f"{path}: says {n_tokens} ids of {size} bytes, but {source.path.name} has "
            f"{source.size} bytes"
        )
    return _BY_SIZE[size]


def _index(path: Path) -> tuple[_IndexFile, int]:
    """The index, and where its last document ends."""
    with reading(path):
        size = path.stat().st_size
    if size % _END.itemsize:
        raise DamagedFileError(
            f"{path}: {size} bytes are not a whole number of {_END.itemsize}-byte ends; "
            "is it cut off?"
        )
    index = _IndexFile(path, size // _END.itemsize)
    return index, int(index.ends(index.n_documents - 1, 1)[0]) if index.n_documents else 0
