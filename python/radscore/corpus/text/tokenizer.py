"""From text to token ids, in parallel.

The fast path (`rust/tokenize`) encodes the text of tokenizers whose configuration it covers
wholly; `tokenizers` encodes the single texts that the fast path hands back, and all text of other
tokenizers. The ids are the same.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import InputOptionError, joined
from radscore.corpus.text.fast import fast_equal
from radscore.corpus.text.plain import plain_tokenizer
from radscore.documents import Documents
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from radscore._core import FastTokenizer

__all__ = [
    "ENGINES",
    "Encoder",
    "Engine",
    "Tokenised",
    "TokenizerEncoder",
    "Utf8Encoder",
    "load_encoder",
]

#: What encodes text: the fast path if it covers the tokenizer, always that, or always `tokenizers`.
Engine: TypeAlias = Literal["auto", "fast", "reference"]
ENGINES: tuple[str, ...] = get_args(Engine)
# Characters encoded at once: encodings take about 100 bytes per token until their ids are copied.
_PORTION = 1 << 18
#: Portions encoded at the same time; the ids of one more are being copied, or it waits.
_AT_ONCE = 2


@dataclass(frozen=True)
class Tokenised:
    """What tokenised how many texts.

    Attributes
    ----------
    by : str
        The engine that they were given to.
    rest : str
        The engine to which that one handed over some.
    n_texts, n_referred : int
        Number of texts, and how many of them were handed over.
    """

    by: str
    rest: str
    n_texts: int
    n_referred: int

    @property
    def note(self) -> str | None:
        """The same in words; None if there were no texts."""
        if not self.n_texts:
            return None
        referred = f"; {self.n_referred} of {self.n_texts} texts by {self.rest}"
        return f"the text was tokenised by {self.by}{referred if self.n_referred else ''}"

    def plus(self, other: Tokenised, times: int = 1) -> Tokenised:
        """With the texts of another added, or (`times` -1) subtracted."""
        return replace(
            self,
            n_texts=self.n_texts + times * other.n_texts,
            n_referred=self.n_referred + times * other.n_referred,
        )


class Encoder(Protocol):
    """Turns texts into token ids."""

    #: Identifies the tokenizer by its content, so that a run is not resumed with another one.
    fingerprint: str
    #: Number of its tokens, if that can show that it is the wrong one.
    vocab_size: int | None

    @property
    def tokenised(self) -> Tokenised | None:
        """What encoded the texts so far, if the caller may want to know."""
        ...

    def documents(self, texts: Sequence[str]) -> Documents:
        """The token ids of the texts, one document each."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids."""
        ...


class TokenizerEncoder:
    """A `tokenizers.Tokenizer` without truncation, padding and dropout, or its fast path.

    Attributes
    ----------
    engine : {"fast", "reference"}
        What encodes: radscore's fast path, or `tokenizers`.
    """

    def __init__(
        self, tokenizer: Any, *, add_special_tokens: bool, engine: Engine = "auto"
    ) -> None:
        check_engine(engine)
        tokenizer = plain_tokenizer(tokenizer)
        state = tokenizer.to_str()
        self._tokenizer = tokenizer
        self._special = add_special_tokens
        digest = hashlib.sha256(state.encode()).hexdigest()
        self.fingerprint = f"{digest}{'+special' if add_special_tokens else ''}"
        self.vocab_size: int | None = tokenizer.get_vocab_size(with_added_tokens=True)
        self._n_texts = self._n_referred = 0
        self._fast: FastTokenizer | None = None
        self._reason = "as asked"
        if engine != "reference":
            try:
                self._fast = fast_equal(tokenizer, state, add_special_tokens=add_special_tokens)
            except ArgumentError as error:
                if engine == "fast":
                    raise ArgumentError(
                        f"tokenizer_engine='fast', but the fast path does not cover {error}"
                    ) from None
                self._reason = f"the fast path does not cover {error}"
        self.engine: Literal["fast", "reference"] = "reference" if self._fast is None else "fast"
        self._asked: Engine = engine

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process builds its own fast path, and counts its own texts."""
        return _rebuilt, (self._tokenizer, self._special, self._asked)

    @property
    def tokenised(self) -> Tokenised:
        """What encoded the texts so far."""
        name = f"tokenizers {version('tokenizers')}"
        by = "the fast path" if self._fast is not None else f"{name} ({self._reason})"
        return Tokenised(by, name, self._n_texts, self._n_referred)

    def documents(self, texts: Sequence[str]) -> Documents:
        """The token ids of the texts, one document each."""
        self._n_texts += len(texts)
        if self._fast is None:
            return joined(self._by_reference(texts))
        values, offsets, refused = self._fast.encode(texts)
        encoded = Documents(values, offsets)
        if len(refused) == 0:
            return encoded
        self._n_referred += len(refused)
        parts = list(encoded)
        for i, ids in zip(refused, self._by_reference([texts[i] for i in refused]), strict=True):
            parts[i] = ids
        return joined(parts)

    def _by_reference(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        ids: list[npt.NDArray[np.uint32]] = []
        waiting: deque[Future[list[Any]]] = deque()
        # While the ids of one portion are copied, on one core, others are encoded; two at once, so
        # that no core waits for the last text of a portion.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for portion in _portions(texts):
                if len(waiting) > _AT_ONCE:
                    ids.extend(_ids(waiting.popleft().result()))
                waiting.append(pool.submit(self._encode, portion))
            while waiting:
                ids.extend(_ids(waiting.popleft().result()))
        return ids

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        encodings: list[Any] = self._tokenizer.encode_batch_fast(
            texts, add_special_tokens=self._special
        )
        return encodings

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def _ids(encodings: Sequence[Any]) -> Iterator[npt.NDArray[np.uint32]]:
    for encoding in encodings:
        yield np.frombuffer(array("I", encoding.ids), dtype=np.uint32)  # faster than np.array


def check_engine(engine: str) -> None:
    """Raises `ArgumentError` unless `engine` is one."""
    if engine not in ENGINES:
        raise ArgumentError(f"tokenizer_engine must be one of {', '.join(ENGINES)}, not {engine!r}")


def _portions(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in portions of about `_PORTION` characters."""
    first, size = 0, 0
    for i, text in enumerate(texts):
        size += len(text)
        if size >= _PORTION or i + 1 == len(texts):
            yield texts[first : i + 1]
            first, size = i + 1, 0


class Utf8Encoder:
    """The bytes of a text as its ids, to inspect text without a tokenizer."""

    fingerprint = "utf-8"
    vocab_size: int | None = None
    tokenised = None

    def documents(self, texts: Sequence[str]) -> Documents:
        """The bytes of each text."""
        return joined(
            [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32) for text in texts]
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some bytes."""
        return bytes(ids).decode("utf-8", errors="replace")


def load_encoder(
    tokenizer: Any, *, add_special_tokens: bool = False, engine: Engine = "auto"
) -> Encoder:
    """An encoder from a Hugging Face folder, the path of a tokenizer.json, or a tokenizer.

    Raises
    ------
    CorpusError
        If there is no such file, or it is not a tokenizer.
    """
    if isinstance(tokenizer, (TokenizerEncoder, Utf8Encoder)):
        return tokenizer
    if not isinstance(tokenizer, (str, os.PathLike)):
        return TokenizerEncoder(tokenizer, add_special_tokens=add_special_tokens, engine=engine)
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
    return TokenizerEncoder(loaded, add_special_tokens=add_special_tokens, engine=engine)


def flaw_of_text(text: str) -> str | None:
    """The flaw of a text that no tokenizer can read; None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"not valid text: it contains a lone surrogate (\\u{ord(text[error.start]):04x})"
    return None


def _rebuilt(tokenizer: Any, special: bool, engine: Engine) -> TokenizerEncoder:
    return TokenizerEncoder(tokenizer, add_special_tokens=special, engine=engine)
