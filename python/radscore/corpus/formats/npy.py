"""numpy's `.npy` of one document, or of one document per row."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from radscore.corpus.base import DamagedFileError, InputOptionError, reading
from radscore.corpus.readers.ids import IdFormat, TokenLayout, also_cut, headerless
from radscore.errors import line_of, shown

if TYPE_CHECKING:
    from radscore.corpus.format import Source

__all__ = ["FORMAT", "MAGIC", "has_header", "read_header"]

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
    content = "integers of one or two dimensions"
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


def read_header(file: BinaryIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether column by column, and dtype of the array of ids that a file begins with.

    Raises
    ------
    DamagedFileError
        If the header is damaged, or it is not one of integers of one or two dimensions.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = _HEADER_READERS.get(version)
        with warnings.catch_warnings():  # of headers by Python 2
            warnings.simplefilter("ignore")
            shape, fortran, kind = ((), False, np.dtype("V")) if read is None else read(file)
    except Exception as error:  # noqa: BLE001 - whatever the parser of Python's literals raises
        raise DamagedFileError(f"{where}: damaged numpy header: {line_of(error, 200)}") from None
    if read is None:
        raise DamagedFileError(f"{where}: numpy format version {version} holds no token ids")
    if kind.hasobject:
        raise DamagedFileError(f"{where}: holds pickled Python objects, which are never loaded")
    if kind.kind not in "iu":
        raise DamagedFileError(f"{where}: holds {kind}, not integers")
    if len(shape) not in (1, 2) or min(shape) < 0:
        raise DamagedFileError(
            f"{where}: shape {shown(shape)}; token ids have one or two dimensions"
        )
    if max(shape) >= 2**62:
        raise DamagedFileError(f"{where}: shape {shown(shape)}, beyond the size of any file")
    return shape, fortran, kind


def _layout(source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
    path = source.path
    with reading(path), path.open("rb") as file:
        shape, fortran, kind = read_header(file, str(path))
        offset = file.tell()
    if dtype is not None and kind.newbyteorder("=") != dtype:
        raise InputOptionError(f"{path}: its header says {kind.name}, but dtype= says {dtype.name}")
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
