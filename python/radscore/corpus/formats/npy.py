"""numpy's `.npy` of one document, or of one document per row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.corpus.base import DamagedFileError, InputOptionError, reading
from radscore.corpus.readers.ids import IdFormat, TokenLayout, also_cut, headerless, one_line

if TYPE_CHECKING:
    from radscore.corpus.format import Source

__all__ = ["FORMAT", "MAGIC", "has_header"]

MAGIC = b"\x93NUMPY"
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Npy(IdFormat):
    """Arrays of one or two dimensions; also headerless ids under this name, with a dtype."""

    name = "npy"
    title = "numpy arrays"
    files = "`.npy`"
    content = "integers of one or two dimensions, memory-mapped"
    documents = "one per row, or one per file"
    remarks = "object arrays (pickles) are refused"

    suffixes = (".npy",)
    magic = (MAGIC,)
    takes_any_suffix = True

    def takes_dtype(self, source: Source) -> bool:
        """Only if there is no header."""
        return not has_header(source)

    def boundaries(self, source: Source, eod: int | None) -> str | None:  # noqa: ARG002 - always so
        """The shape of the array."""
        return f"the rows of the array, or all of it{also_cut(eod)}"

    def layout(self, source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
        """By the header."""
        if has_header(source):
            return _layout(source, dtype)
        return headerless(source, dtype, "has no numpy header, so it is a headerless file; ")


FORMAT = Npy()


def has_header(source: Source) -> bool:
    """Whether a file begins as numpy's do."""
    with reading(source.path), source.path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _layout(source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
    path = source.path
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADER_READERS:
                raise DamagedFileError(f"{path}: numpy format version {version} holds no token ids")
            shape, fortran, kind = _HEADER_READERS[version](file)
            offset = file.tell()
    except (OSError, ValueError, EOFError) as error:
        raise DamagedFileError(f"{path}: damaged numpy header: {one_line(error)}") from None
    if kind.hasobject:
        raise DamagedFileError(f"{path}: holds pickled Python objects, which are never loaded")
    if kind.kind not in "iu":
        raise DamagedFileError(f"{path}: holds {kind}, not integers")
    if dtype is not None and kind.newbyteorder("=") != dtype:
        raise InputOptionError(f"{path}: its header says {kind.name}, but dtype= says {dtype.name}")
    if len(shape) not in (1, 2) or min(shape) < 0:
        raise DamagedFileError(f"{path}: shape {shape}; token ids have one or two dimensions")
    n_tokens = math.prod(shape)
    if offset + n_tokens * kind.itemsize != source.size:
        raise DamagedFileError(
            f"{path}: the header says shape {shape} of {kind.name}, which is "
            f"{offset + n_tokens * kind.itemsize} bytes, but the file has {source.size}"
        )
    row = int(shape[1]) if len(shape) == 2 else None
    if row == 0:
        n_tokens = 0
    return TokenLayout(path, kind, offset, n_tokens, row, fortran=fortran and row is not None)
