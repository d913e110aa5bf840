"""llm.c's `.bin` files, also modded-nanogpt's: 256 int32 of header, then bare ids.

Magic 20240520 with version 1 holds uint16, 20240801 with version 7 uint32; the third word is the
number of ids. There is no index: an end-of-document id precedes each document (50256 in files made
with GPT-2's tokenizer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.corpus.base import DamagedFileError, reading
from radscore.corpus.readers.ids import IdFormat, TokenLayout

if TYPE_CHECKING:
    from pathlib import Path

    from radscore.corpus.format import Source

__all__ = ["FORMAT", "begins_as_llmc"]

_HEADER = 1024
#: Magic and version of the kinds of corpora.
_KINDS: dict[tuple[int, int], np.dtype[Any]] = {
    (20240520, 1): np.dtype("<u2"),
    (20240801, 7): np.dtype("<u4"),
}
#: Magic and version of multiple-choice questions.
_EVALUATION = (20240522, 1)


class LlmC(IdFormat):
    """Ids after a header that tells their width and number."""

    name = "llmc"
    title = "llm.c, modded-nanogpt"
    files = "`.bin` with a header"
    content = "uint16 or uint32, by the magic"
    documents = "at `--eod` (50256 with GPT-2's tokenizer), which precedes each document"
    remarks = "evaluation files (questions) are refused"

    suffixes = (".bin",)
    suffix_suffices = False

    def recognises(self, path: Path, head: bytes) -> bool:  # noqa: ARG002 - the header tells
        """By magic and version."""
        return begins_as_llmc(head)

    def layout(self, source: Source, dtype: np.dtype[Any] | None) -> TokenLayout:  # noqa: ARG002
        """By the header."""
        path = source.path
        with reading(path), path.open("rb") as file:
            head = file.read(_HEADER)
        if len(head) < _HEADER:
            raise DamagedFileError(f"{path}: {len(head)} bytes, less than the header of llm.c")
        magic, version, n_tokens = (int(word) for word in np.frombuffer(head[:12], "<i4"))
        if magic == _EVALUATION[0]:
            raise DamagedFileError(
                f"{path}: holds evaluation questions of llm.c (magic {magic}), not a corpus"
            )
        kind = _KINDS.get((magic, version))
        if kind is None:
            raise DamagedFileError(
                f"{path}: magic {magic} with version {version} is not llm.c's; known are "
                f"{', '.join(f'{m} with {v}' for m, v in _KINDS)}"
            )
        expected = _HEADER + n_tokens * kind.itemsize
        if n_tokens < 0 or expected != source.size:
            raise DamagedFileError(
                f"{path}: the header says {n_tokens} ids of {kind.name}, which is {expected} "
                f"bytes, but the file has {source.size}"
            )
        return TokenLayout(path, kind, _HEADER, n_tokens)


FORMAT = LlmC()


def begins_as_llmc(head: bytes) -> bool:
    """Whether the first 8 bytes of a file are llm.c's."""
    words = (int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little"))
    return words in _KINDS or words == _EVALUATION
