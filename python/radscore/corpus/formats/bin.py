"""Headerless ids: a file of nothing else, whose dtype the caller must give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.corpus.base import InputOptionError, reading
from radscore.corpus.formats import llmc, npy
from radscore.corpus.readers.ids import IdFormat, TokenLayout, headerless

if TYPE_CHECKING:
    import numpy as np

    from radscore.corpus.format import Source

__all__ = ["FORMAT", "HeaderlessFormat"]


class HeaderlessFormat(IdFormat):
    """Ids and nothing else, in the file and beside it."""

    headerless = True
    always_checked = True

    def layout(self, source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
        """All of the file, unless it begins with the header of another format."""
        path = source.path
        with reading(path), path.open("rb") as file:
            head = file.read(8)
        for kind, header, found in (
            (npy.FORMAT, "a numpy header", head.startswith(npy.MAGIC)),
            (llmc.FORMAT, "the 1024-byte header of llm.c", llmc.begins_as_llmc(head)),
        ):
            if found:
                raise InputOptionError(f"{path}: has {header}; read it with format={kind.name!r}")
        return headerless(source, dtype)


class Bin(HeaderlessFormat):
    """Headerless ids of any dtype."""

    name = "bin"
    title = "headerless ids"
    files = "`.bin`"
    content = "ids of `--dtype` uint16, uint32, int32 or int64, little-endian"
    documents = "at `--eod`; otherwise one per file"

    suffixes = (".bin",)
    takes_any_suffix = True

    def tells_dtype(self, source: Source) -> bool:  # noqa: ARG002 - always so
        """No."""
        return False


FORMAT = Bin()
