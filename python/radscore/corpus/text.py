"""From text to token ids, in parallel."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from radscore.corpus._base import InputOptionError
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Encoder", "TokenizerEncoder", "Utf8Encoder", "load_encoder"]

# Encodings hold about 100 bytes a token until their ids are taken, so texts go in by portions.
_PORTION = 1 << 21


class Encoder(Protocol):
    """Turns texts into token ids."""

    #: Names the tokenizer by its content, so that a resumed run is not given another one.
    fingerprint: str

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The token ids of each text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids."""
        ...


class TokenizerEncoder:
    """A `tokenizers.Tokenizer`, with truncation and padding switched off."""

    def __init__(self, tokenizer: Any, *, add_special_tokens: bool) -> None:
        from tokenizers import Tokenizer

        tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(tokenizer, Tokenizer):
            raise ArgumentError(
                "tokenizer must be a folder with a tokenizer.json, the path of one, or a "
                f"tokenizers.Tokenizer, not {type(tokenizer).__name__}"
            )
        state = tokenizer.to_str()
        if tokenizer.truncation is not None or tokenizer.padding is not None:
            tokenizer = Tokenizer.from_str(state)  # the caller's own stays as it is
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._special = add_special_tokens
        digest = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:16]
        self.fingerprint = f"{digest}{'+special' if add_special_tokens else ''}"

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The token ids of each text."""
        ids: list[npt.NDArray[np.uint32]] = []
        first, size = 0, 0
        for i, text in enumerate(texts):
            size += len(text)
            if size >= _PORTION or i + 1 == len(texts):
                encodings = self._tokenizer.encode_batch_fast(
                    texts[first : i + 1], add_special_tokens=self._special
                )
                ids.extend(np.array(encoding.ids, dtype=np.uint32) for encoding in encodings)
                first, size = i + 1, 0
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


class Utf8Encoder:
    """The bytes of a text as its ids: to look at text for which no tokenizer was given."""

    fingerprint = "utf-8"

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The bytes of each text."""
        return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some bytes."""
        return bytes(ids).decode("utf-8", errors="replace")


def load_encoder(tokenizer: Any, *, add_special_tokens: bool = False) -> Encoder:
    """An encoder from a Hugging Face folder, the path of a tokenizer.json, or a tokenizer.

    Raises
    ------
    CorpusError
        If there is no such file, or it is not a tokenizer.
    """
    if isinstance(tokenizer, (TokenizerEncoder, Utf8Encoder)):
        return tokenizer
    if not isinstance(tokenizer, (str, os.PathLike)):
        return TokenizerEncoder(tokenizer, add_special_tokens=add_special_tokens)
    from tokenizers import Tokenizer

    path = Path(tokenizer)
    if path.is_dir():
        path /= "tokenizer.json"
    if not path.is_file():
        raise InputOptionError(
            f"{path}: no such file; tokenizer= takes a folder with a tokenizer.json, or the path "
            "of one (a slow tokenizer is saved as one by transformers' save_pretrained)"
        )
    try:
        loaded = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 -
        raise InputOptionError(f"{path}: not a tokenizer.json: {error}") from None
    return TokenizerEncoder(loaded, add_special_tokens=add_special_tokens)


def flaw_of_text(text: str) -> str | None:
    """What is wrong with a text that no tokenizer can read, if anything."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"the text holds a lone surrogate (\\u{ord(text[error.start]):04x}), so is no text"
    return None
