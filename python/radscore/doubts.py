"""Signs that token ids are of another tokenizer than the one that they are taken to be of.

Nothing in a list of ids says whose they are. Two things give a wrong tokenizer away: it has far
fewer tokens than the vocabulary, or no id of much text is in the upper half of the vocabulary, of
which the right one makes a percent of a text and more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from radscore.documents import Documents

__all__ = ["IdDoubt", "doubt_of_ids", "doubt_of_tokenizer", "is_doubt"]

#: With fewer tokens than that, ids of the right tokenizer may all be small by chance.
_ENOUGH: Final = 2_000
#: Output layers are padded, by less than this.
_LEAST_SHARE: Final = 0.8
_OF_TOKENIZER: Final = "is this the right tokenizer?"
_OF_IDS: Final = "are these ids of the right tokenizer?"


def doubt_of_tokenizer(n_tokens: int, vocab_size: int) -> str | None:
    """A note where a tokenizer is too small for a vocabulary; None where it may be the right one.

    Parameters
    ----------
    n_tokens : int
        Tokens that the tokenizer has.
    vocab_size : int
        Of the scheme or the model, which may be padded.
    """
    if n_tokens >= _LEAST_SHARE * vocab_size:
        return None
    return f"{_OF_TOKENIZER} it has {n_tokens} tokens, but the vocabulary is of {vocab_size}"


def doubt_of_ids(largest: int, n_tokens: int, vocab_size: int) -> str | None:
    """A note where all ids of much text are in the lower half of a vocabulary, else None."""
    if n_tokens < _ENOUGH or 2 * (largest + 1) > vocab_size:
        return None
    return (
        f"{_OF_IDS} the largest of {n_tokens} is {largest}, but the vocabulary is of {vocab_size}"
    )


def is_doubt(note: str) -> bool:
    """Whether a note is one of these."""
    return note.startswith((_OF_TOKENIZER, _OF_IDS))


class IdDoubt:
    """The largest id of documents that come one after the other, as long as it may be telling.

    Parameters
    ----------
    vocab_size : int or None
        The vocabulary that they should be of; None where nothing is known of it.
    """

    def __init__(self, vocab_size: int | None) -> None:
        self._vocab_size = vocab_size
        self._largest, self._n_tokens = -1, 0

    def take(self, documents: Documents, n_tokens: int | None = None) -> None:
        """Looks at some documents, of which `n_tokens` are new; no longer once an id was large."""
        if self._vocab_size is None or 2 * (self._largest + 1) > self._vocab_size:
            return
        self.add(documents.id_range[1], documents.n_tokens if n_tokens is None else n_tokens)

    def add(self, largest: int, n_tokens: int) -> None:
        """Takes what somebody else has seen."""
        self._largest = max(self._largest, largest)
        self._n_tokens += n_tokens

    @property
    def seen(self) -> tuple[int, int]:
        """The largest id, and how many there were."""
        return self._largest, self._n_tokens

    @property
    def note(self) -> str | None:
        """What is to be said of all that was looked at."""
        if self._vocab_size is None:
            return None
        return doubt_of_ids(self._largest, self._n_tokens, self._vocab_size)
