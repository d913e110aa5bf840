"""Which token a string stands for, to the byte."""

from __future__ import annotations

from typing import Any

from radscore.corpus.text.plain import is_plain
from radscore.errors import ArgumentError

__all__ = ["TokenStrings"]

_FALLBACK = len("<0x00>")


class TokenStrings:
    """The tokens of a tokenizer by the bytes that they stand for, and the other way round.

    Special and added tokens stand for what they are written as. Byte-fallback tokens (``<0x0A>``)
    count only where no other token has that byte.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer or transformers fast tokenizer

    Attributes
    ----------
    n_ambiguous : int
        How many byte strings several tokens stand for; `id_of` knows none of these.

    Raises
    ------
    ArgumentError
        If it is another kind of tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not is_plain(tokenizer):
            raise ArgumentError(
                "tokenizer must be one of the tokenizers library, or hold one, not "
                f"{type(tokenizer).__name__}"
            )
        raw = getattr(tokenizer, "backend_tokenizer", tokenizer)
        added = {index: token.content for index, token in raw.get_added_tokens_decoder().items()}
        parts = repr(raw.pre_tokenizer) + repr(raw.decoder)
        of_characters = _of_characters() if "ByteLevel" in parts else None
        self._bytes: dict[int, bytes] = {}
        fallback: dict[int, bytes] = {}
        for token, index in raw.get_vocab(with_added_tokens=True).items():
            if index in added:
                self._bytes[index] = added[index].encode()
            elif of_characters is not None:
                if all(letter in of_characters for letter in token):
                    self._bytes[index] = bytes(of_characters[letter] for letter in token)
            elif len(token) == _FALLBACK and token.startswith("<0x") and token.endswith(">"):
                fallback[index] = bytes([int(token[3:5], 16)])
            else:  # ▁ is SentencePiece's space
                self._bytes[index] = token.replace("▁", " ").encode("utf-8", "surrogatepass")
        self._ids: dict[bytes, int | None] = {}
        self.n_ambiguous = 0
        for some in (dict(self._bytes), fallback):
            before = set(self._ids) if some is fallback else frozenset()
            for index, string in some.items():
                if string in before:
                    continue
                if string in self._ids:
                    self.n_ambiguous += self._ids[string] is not None
                    self._ids[string] = None
                else:
                    self._ids[string] = index
        self._bytes |= fallback

    def id_of(self, text: str | bytes) -> int | None:
        """The token that stands for a string; None if there is none, or more than one."""
        if isinstance(text, str):
            try:
                text = text.encode()
            except UnicodeEncodeError:
                return None
        return self._ids.get(text)

    def bytes_of(self, index: int) -> bytes | None:
        """What a token stands for; None if there is no such token."""
        return self._bytes.get(index)


def _of_characters() -> dict[str, int]:
    """The byte that each character of a byte-level tokenizer stands for."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }
