"""Headerless ids: a file of nothing else, whose dtype the caller must give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.corpus.base import InputOptionError, reading
from radscore.corpus.formats import llmc, npy
from radscore.corpus.readers.ids import IdFormat, TokenLayout, headerless, read_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.corpus.format import Options, Source

__all__ = ["FORMAT", "HeaderlessFormat"]

# So many ids tell whether they are ids at all.
_SAMPLE = 1 << 16
_MIN_SAMPLE = 8


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

    def notes(self, sources: Sequence[Source], options: Options) -> tuple[str, ...]:
        """Why the dtype may be wrong, by the first ids of the first file."""
        doubt = _doubt(self, sources[0], options)
        return () if doubt is None else (doubt,)


FORMAT = Bin()


def _doubt(kind: HeaderlessFormat, source: Source, options: Options) -> str | None:
    dtype, vocab_size = options.dtype, options.vocab_size
    if dtype is None:
        return None
    layout = kind.layout(source, dtype)
    ids = read_ids(source.path, dtype, 0, min(_SAMPLE, layout.n_tokens))
    even, odd = ids[::2], ids[1::2]
    if len(ids) >= _MIN_SAMPLE and not odd.any() and 2 * np.count_nonzero(even) > len(even):
        return (
            f"{source.path}: every second id is 0, as if ids of twice the size were read as "
            f"dtype={dtype.name!r}"
        )
    if vocab_size is not None and 2 * np.count_nonzero(ids >= vocab_size) > len(ids):
        return (
            f"{source.path}: most ids are outside the vocabulary of {vocab_size}; "
            f"dtype={dtype.name!r} is probably wrong"
        )
    return None
