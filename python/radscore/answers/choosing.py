"""`choose_prompts`: prompts that end in contexts which are frequent in unmarked text.

What a model can have learned of a watermark, it has learned where contexts came again. Which those
are, unmarked text of the same kind tells; the choice depends on no key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.documents import MAX_VOCAB, Documents, check_width
from radscore.errors import CorpusError
from radscore.kgrams import KgramCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.kgrams import KgramSet

__all__ = ["Prompt", "choose_prompts"]

#: Further contexts that are looked at, since not every one occurs where a prompt can end.
_SPARE: Final = 2
#: Places that are kept of a context, for each prompt wanted: some are no whole text.
_PLACES: Final = 3


@dataclass(frozen=True)
class Prompt:
    """A beginning of a document.

    Attributes
    ----------
    text : str
    tokens : tuple of int
        The same as token ids: what the tokenizer makes of the text.
    count : int
        How often the context that ends it occurs.
    """

    text: str
    tokens: tuple[int, ...]
    count: int


def choose_prompts(
    documents: Any,
    tokenizer: Any,
    *,
    context_width: int,
    number: int = 1000,
    length: int = 32,
    per_context: int = 1,
    min_count: int = 2,
    seed: int = 0,
    threads: int | None = None,
) -> list[Prompt]:
    """Chooses beginnings of documents that end in frequent contexts.

    Reads the text twice. What it holds in memory are the counts of its contexts, and a few places
    of those chosen.

    Parameters
    ----------
    documents : Corpus, or anything that `Documents.of` takes
        Text without the watermark, of the kind that Alice's model writes.
    tokenizer : path or tokenizer
        The watermark's, which made the ids.
    context_width : int
        Tokens in a context, as in the scheme: 1 to 16.
    number : int
        Prompts wanted; there are fewer if the text does not hold them.
    length : int
        Tokens of a prompt, which are the last ones before what is asked for.
    per_context : int
        Prompts that may end in the same context.
    min_count : int
        How often a context must occur.
    seed : int
        Which places are chosen.
    threads : int, optional
        Worker threads of the counting; all cores by default.

    Returns
    -------
    list of Prompt
        Those of the most frequent contexts first.

    Raises
    ------
    CorpusError
        If there is no such context.
    """
    from radscore.corpus.text.tokenizer import load_encoder

    check_width("context_width", context_width, 1, 16)
    check_width("number", number, 1, 2**31)
    check_width("length", length, context_width, 2**20)
    check_width("per_context", per_context, 1, 2**20)
    encoder = load_encoder(tokenizer)
    counts = KgramCounts(context_width, encoder.vocab_size or MAX_VOCAB, watermarked=False)
    for batch in _batches(documents):
        counts.add(batch, threads=threads)
    wanted = -(-number // per_context)
    frequent = counts.top(_SPARE * wanted, min_count=min_count)
    if not len(frequent):
        raise CorpusError(f"no context of {context_width} tokens occurs at least {min_count} times")
    places = _Places(frequent, length, _PLACES * per_context, seed)
    for batch in _batches(documents):
        places.add(batch)
    times = np.array([counts[row] for row in frequent.to_numpy().tolist()])
    chosen: list[Prompt] = []
    for context in np.argsort(-times, kind="stable").tolist():
        some = 0
        for tokens in places.of(context):
            text = encoder.decode(tokens)
            # else a server would read other tokens, or half a character
            if some < per_context and encoder.documents([text])[0].tolist() == tokens:
                chosen.append(Prompt(text, tuple(tokens), int(times[context])))
                some += 1
        if len(chosen) >= number:
            break
    return chosen[:number]


def _batches(documents: Any) -> Iterator[Documents]:
    if hasattr(documents, "batches"):
        for batch in documents:
            yield batch.documents
    else:
        yield Documents.of(documents)


class _Places:
    """A few places of each of some contexts, chosen by chance."""

    def __init__(self, contexts: KgramSet, length: int, most: int, seed: int) -> None:
        self._rows = contexts.to_numpy()
        self._length, self._most, self._seed = length, most, seed
        self._n_documents = 0
        self._known = _names(self._rows)
        self._contexts: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._chances: npt.NDArray[np.float64] = np.empty(0)
        self._tokens: npt.NDArray[np.uint32] = np.empty((0, length), dtype=np.uint32)

    def add(self, documents: Documents) -> None:
        """Looks at some documents; of each context, the places with the least numbers stay."""
        found = [(self._contexts, self._chances, self._tokens)]
        for document in documents:
            self._n_documents += 1
            if len(document) < self._length:
                continue
            ids: npt.NDArray[np.uint32] = np.ascontiguousarray(document, dtype=np.uint32)
            windows: npt.NDArray[np.uint32] = np.lib.stride_tricks.sliding_window_view(
                ids, self._length
            )
            ends = _names(windows[:, self._length - self._rows.shape[1] :])
            at = np.minimum(np.searchsorted(self._known, ends), len(self._known) - 1)
            here = np.flatnonzero(self._known[at] == ends)
            # by the document's number, so that it does not matter how the text comes in batches
            chances = np.random.default_rng([self._seed, self._n_documents]).random(len(windows))
            found.append((at[here], chances[here], windows[here]))
        contexts, chances, tokens = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.lexsort((chances, contexts))
        ordered = contexts[order]
        rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
        kept = order[rank < self._most]
        self._contexts, self._chances, self._tokens = contexts[kept], chances[kept], tokens[kept]

    def of(self, context: int) -> list[list[int]]:
        """The prompts that end in a context."""
        low, high = np.searchsorted(self._contexts, [context, context + 1])
        found: list[list[int]] = self._tokens[low:high].tolist()
        return found


def _names(rows: npt.NDArray[np.uint32]) -> npt.NDArray[np.bytes_]:
    """One value per row, in the order of the rows."""
    big = np.ascontiguousarray(rows, dtype=">u4")
    return big.view(f"S{4 * big.shape[1]}").ravel()
