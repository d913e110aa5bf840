"""llm.c's `.bin` files, also modded-nanogpt's: 256 int32 of header, then bare ids.

Magic 20240520 with version 1 holds uint16, 20240801 with version 7 uint32; the third word is the
number of ids. The files have no index: an end-of-document id stands before each document (50256 in
those made with GPT-2's tokenizer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.corpus.base import DamagedFileError, damage_named
from radscore.corpus.formats.tokens import TokenLayout

if TYPE_CHECKING:
    from radscore.corpus.sources import Source

__all__ = ["llmc_layout"]

_HEADER = 1024
_KINDS: dict[tuple[int, int], np.dtype[Any]] = {
    (20240520, 1): np.dtype("<u2"),
    (20240801, 7): np.dtype("<u4"),
}
_EVALUATION = 20240522


def llmc_layout(source: Source) -> TokenLayout:
    """Where the ids of a file of llm.c lie.

    Raises
    ------
    CorpusError
        If it is no such file, holds multiple-choice questions, or is cut.
    """
    path = source.path
    with damage_named(path), path.open("rb") as file:
        head = file.read(_HEADER)
    if len(head) < _HEADER:
        raise DamagedFileError(f"{path}: {len(head)} bytes, shorter than the header of llm.c")
    magic, version, n_tokens = (int(word) for word in np.frombuffer(head[:12], "<i4"))
    if magic == _EVALUATION:
        raise DamagedFileError(
            f"{path}: holds the questions of an evaluation of llm.c (magic {magic}), no corpus"
        )
    dtype = _KINDS.get((magic, version))
    if dtype is None:
        raise DamagedFileError(
            f"{path}: magic {magic} and version {version} are none of llm.c's; known are "
            f"{', '.join(f'{m} with {v}' for m, v in _KINDS)}"
        )
    expected = _HEADER + n_tokens * dtype.itemsize
    if n_tokens < 0 or expected != source.size:
        raise DamagedFileError(
            f"{path}: the header says {n_tokens} ids of {dtype.name}, which is {expected} bytes, "
            f"but the file has {source.size}"
        )
    return TokenLayout(path, dtype, _HEADER, n_tokens)
