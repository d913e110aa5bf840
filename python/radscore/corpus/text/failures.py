"""Texts and tokenizers that do not go together."""

from __future__ import annotations

__all__ = ["failure_of", "flaw_of_text"]


def flaw_of_text(text: str) -> str | None:
    """The flaw of a text that no tokenizer can read; None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"not valid text: it contains a lone surrogate (\\u{ord(text[error.start]):04x})"
    return None


def failure_of(error: BaseException) -> str:
    """Why a tokenizer failed on a text, in a line; raises `error` again if it means to stop.

    Tokenizers written in Rust panic where their regular expression gives up, and a panic is not an
    `Exception`.
    """
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)):
        raise error
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"the tokenizer fails on this text: {reason[:200]}"
