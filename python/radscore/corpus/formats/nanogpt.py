"""nanoGPT's `train.bin`: headerless uint16 ids with GPT-2's end-of-document id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.corpus.formats.bin import HeaderlessFormat

if TYPE_CHECKING:
    from radscore.corpus.format import Source
    from radscore.corpus.readers.ids import TokenLayout

__all__ = ["FORMAT"]


class NanoGPT(HeaderlessFormat):
    """Headerless ids with the defaults of nanoGPT's scripts; it must be named."""

    name = "nanogpt"
    title = "nanoGPT"
    files = "`train.bin`"
    content = "with `--format nanogpt`: uint16"
    documents = "at id 50256, or `--eod`"
    remarks = "nothing tells such a file from other ids"

    suffixes = (".bin",)
    suffix_suffices = False
    eod = 50_256

    def layout(self, source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:
        """All of the file, of uint16 unless another dtype is given."""
        return super().layout(source, np.dtype("<u2") if dtype is None else dtype)


FORMAT = NanoGPT()
