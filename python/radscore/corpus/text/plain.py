"""A tokenizer for reading text: without what belongs to training or to batches of a model."""

from __future__ import annotations

from typing import Any

from radscore.errors import ArgumentError

__all__ = ["is_plain", "plain_tokenizer"]

#: Settings of a tokenizer's model that split a text at random.
_RANDOM = ("dropout", "alpha", "nbest_size")


def is_plain(tokenizer: Any) -> bool:
    """Whether it is a tokenizer of the library tokenizers, or holds one."""
    from tokenizers import Tokenizer

    return isinstance(getattr(tokenizer, "backend_tokenizer", tokenizer), Tokenizer)


def plain_tokenizer(tokenizer: Any) -> Any:
    """The same tokenizer without truncation, padding and dropout.

    A tokenizer.json may ask for all of them. Truncation would drop the end of a text, padding would
    add tokens that nobody wrote, and dropout would split the same text differently each time.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer or transformers fast tokenizer
        The tokenizer, or what holds it as its backend.

    Returns
    -------
    tokenizers.Tokenizer
        The one that was given if there is nothing to switch off, else a copy: the caller's own
        is not changed.

    Raises
    ------
    ArgumentError
        If it is not a tokenizer of the tokenizers library.
    """
    from tokenizers import Tokenizer

    tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(tokenizer, Tokenizer):
        raise ArgumentError(
            "tokenizer must be a folder with a tokenizer.json, the path of one, a tokenizer (of "
            "tokenizers, transformers, tiktoken or SentencePiece) or a function from a text to "
            f"its ids, not {type(tokenizer).__name__}"
        )
    random = [name for name in _RANDOM if getattr(tokenizer.model, name, None)]
    if tokenizer.truncation is None and tokenizer.padding is None and not random:
        return tokenizer
    special = tokenizer.encode_special_tokens  # not part of the state
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    for name in random:
        setattr(copy.model, name, None)
    copy.encode_special_tokens = special
    return copy
