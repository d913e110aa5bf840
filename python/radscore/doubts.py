"""Signs that token ids were made by another tokenizer, or end otherwise, than assumed.

Nothing in a list of ids says whose they are. Two things give a wrong tokenizer away: it has far
fewer tokens than the vocabulary, or none of many ids is in the upper half of the vocabulary, where
the right tokenizer puts a percent of a text or more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from radscore.documents import Documents

__all__ = ["IdDoubt", "doubt_of_eod", "doubt_of_ids", "doubt_of_tokenizer", "is_doubt"]

#: With fewer tokens, ids of the right tokenizer may all be small by chance.
_ENOUGH: Final = 2_000
#: Vocabularies of models are padded, by less than this.
_LEAST_SHARE: Final = 0.8
_OF_TOKENIZER: Final = "is this the right tokenizer?"
_OF_IDS: Final = "are these ids of the right tokenizer?"


def doubt_of_tokenizer(n_tokens: int, vocab_size: int) -> str | None:
    """A note if a tokenizer is too small for a vocabulary; None if it may be the right one.

    Parameters
    ----------
    n_tokens : int
        Tokens of the tokenizer.
    vocab_size : int
        Vocabulary of the scheme or the model, maybe padded.
    """
    if n_tokens >= _LEAST_SHARE * vocab_size:
        return None
    return f"{_OF_TOKENIZER} it has {n_tokens} tokens, but the vocabulary has {vocab_size}"


def doubt_of_ids(largest: int, n_tokens: int, vocab_size: int) -> str | None:
    """A note if all of many ids are in the lower half of a vocabulary, else None."""
    if n_tokens < _ENOUGH or 2 * (largest + 1) > vocab_size:
        return None
    return f"{_OF_IDS} the largest of {n_tokens} is {largest}, but the vocabulary has {vocab_size}"


def doubt_of_eod(eod: int | None, vocab_size: int | None) -> str | None:
    """A note if the end-of-document id is outside the vocabulary, and so removed; else None."""
    if eod is None or vocab_size is None or eod < vocab_size:
        return None
    return (
        f"the end-of-document id {eod} is outside the vocabulary of {vocab_size}: documents are "
        "cut at it, and it is left out"
    )


def is_doubt(note: str) -> bool:
    """Whether a note is one of these."""
    return note.startswith((_OF_TOKENIZER, _OF_IDS))


class IdDoubt:
    """The largest id of a stream of documents, and whether any was at the end of a document.

    Parameters
    ----------
    vocab_size : int or None
        The vocabulary of the documents; None if it is not known, then there is no note on it.
    eod : int or None
        The id that ends documents, if one does.
    """

    def __init__(self, vocab_size: int | None, eod: int | None = None) -> None:
        self._vocab_size, self._eod = vocab_size, eod
        self._largest, self._n_tokens, self._ended = -1, 0, False

    def take(
        self, documents: Documents, n_tokens: int | None = None, *, ended: bool = False
    ) -> None:
        """Adds documents, of which `n_tokens` are new (default: all); free once an id was large.

        `ended` says whether one of them ends, or ended, with the end-of-document id.
        """
        small = self._vocab_size is not None and 2 * (self._largest + 1) <= self._vocab_size
        largest = documents.id_range[1] if small else -1
        self.add(largest, documents.n_tokens if n_tokens is None else n_tokens, ended)

    def add(self, largest: int, n_tokens: int, ended: bool) -> None:
        """Adds what another has `seen`."""
        self._largest = max(self._largest, largest)
        self._n_tokens += n_tokens
        self._ended |= ended

    @property
    def seen(self) -> tuple[int, int, bool]:
        """The largest id, the number of ids, and whether an end-of-document id was among them."""
        return self._largest, self._n_tokens, self._ended

    @property
    def notes(self) -> tuple[str, ...]:
        """All notes on what was added."""
        return tuple(note for note in (self.note, self.note_of_eod) if note is not None)

    @property
    def note_of_eod(self) -> str | None:
        """The note on the end-of-document id, if it was in nothing that was added."""
        if self._eod is None or self._ended or not self._n_tokens:
            return None
        return f"no document ends with id {self._eod}; is that the id that ends documents?"

    @property
    def note(self) -> str | None:
        """The note on the ids of all that was added, if any."""
        if self._vocab_size is None:
            return None
        return doubt_of_ids(self._largest, self._n_tokens, self._vocab_size)
