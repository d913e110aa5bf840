"""Checks and cuts that every format's documents go through."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import Chunk, Problems, keep, select
from radscore.corpus.dtypes import SAMPLE, doubt_of_dtype
from radscore.corpus.records import MAX_ID
from radscore.documents import Documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.text.failures import Failures

__all__ = ["any_ends", "check_ids", "cut_after", "without"]


def check_ids(
    chunk: Chunk, limit: int | None, problems: Problems, failures: Failures | None = None
) -> Chunk:
    """`chunk` without documents that have an id outside the vocabulary; every id is checked.

    Documents that a tokenizer failed on have such an id, and `failures` knows why.
    """
    kept = np.ones(len(chunk.documents), dtype=bool)
    hint = ""
    for documents, name in ((chunk.documents, ""), (chunk.prompts, " of the prompt")):
        if documents is None or _in_range(documents, limit):
            continue
        for document in _offenders(documents, limit):
            if kept[document]:
                kept[document] = False
                ids = documents[document]
                reason = None if failures is None else failures.reason(ids)
                if reason is None:
                    hint = hint or _hint(chunk, limit)
                    reason = f"{_bad_id(ids, name, limit)}{hint}"
                problems.record(chunk.locations.locate(document), reason)
    return chunk if kept.all() else keep(chunk, kept)


def _bad_id(ids: npt.NDArray[Any], name: str, limit: int | None) -> str:
    top = MAX_ID + 1 if limit is None else limit
    position = int(np.flatnonzero((ids < 0) | (ids >= top))[0])
    size = "" if limit is None else f" of {limit}"
    bad = int(ids[position])
    return f"token id {bad} at position {position}{name} is outside the vocabulary{size}"


def _hint(chunk: Chunk, limit: int | None) -> str:
    if chunk.from_text:
        return "; is this the tokenizer of the scheme?"
    if chunk.locations.kind not in ("token", "document"):
        return ""
    doubt = doubt_of_dtype(chunk.documents.values[: SAMPLE // 3], limit)
    return "; is the dtype right?" if doubt is None else f"; is the dtype right? {doubt}"


def _in_range(documents: Documents, limit: int | None) -> bool:
    top = MAX_ID + 1 if limit is None else limit
    dtype = documents.values.dtype
    if dtype.kind == "u" and np.iinfo(dtype).max < top:
        return True  # whatever they are
    low, high = documents.id_range
    return low >= 0 and high < top


def _offenders(documents: Documents, limit: int | None) -> Iterator[int]:
    """Indices of the documents with an id outside the vocabulary."""
    top = MAX_ID + 1 if limit is None else limit
    first, last = int(documents.offsets[0]), int(documents.offsets[-1])
    used = documents.values[first:last]
    bad = np.flatnonzero((used < 0) | (used >= top)) + first
    owners = np.searchsorted(documents.offsets, bad, side="right") - 1
    return (int(owner) for owner in np.unique(owners))


def cut_after(chunk: Chunk, eod: int) -> Chunk:
    """The documents of `chunk`, cut after each `eod` as well; the ids are not copied."""
    documents = chunk.documents
    first, last = int(documents.offsets[0]), int(documents.offsets[-1])
    ends = np.flatnonzero(documents.values[first:last] == eod) + (first + 1)
    new = np.setdiff1d(ends, documents.offsets)
    if len(new) == 0:
        return chunk
    # Equal offsets (empty documents) must stay, so the new cuts are inserted, not united.
    owners = np.searchsorted(documents.offsets, new, side="right") - 1
    offsets = np.insert(documents.offsets, owners + 1, new)
    parents = np.insert(np.arange(len(documents)), owners + 1, owners)
    locations = chunk.locations.take(parents)
    prompts = None if chunk.prompts is None else select(chunk.prompts, parents)
    cut = Documents(documents.values, offsets)
    return replace(chunk, documents=cut, prompts=prompts, locations=locations)


def any_ends(documents: Documents, eod: int) -> bool:
    """Whether a document ends with `eod`."""
    full = documents.offsets[1:][np.diff(documents.offsets) > 0]
    return bool((documents.values[full - 1] == eod).any())


def without(documents: Documents, eod: int) -> Documents:
    """The documents without any `eod`, copied."""
    first, last = int(documents.offsets[0]), int(documents.offsets[-1])
    used = documents.values[first:last]
    kept = used != eod
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(kept)))
    return Documents(used[kept], before[documents.offsets - first])
