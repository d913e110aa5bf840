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
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import InputOptionError, joined
from radscore.corpus.room import RoomError
from radscore.corpus.text.failures import Failures, failed, failure_of
from radscore.corpus.text.fast import fast_equal
from radscore.corpus.text.others import FunctionEncoder, function_encoder
from radscore.corpus.text.plain import is_plain, plain_tokenizer
from radscore.corpus.text.segments import segments
from radscore.corpus.text.tokenised import Tokenised
from radscore.documents import Documents
from radscore.errors import ArgumentError
from radscore.files import is_pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from radscore._core import FastTokenizer
    from radscore.corpus.room import By, Room

__all__ = [
    "ENGINES",
    "Encoder",
    "Engine",
    "TokenizerEncoder",
    "Utf8Encoder",
    "load_encoder",
]

#: What encodes text: the fast path if it covers the tokenizer, always that, or always `tokenizers`.
Engine: TypeAlias = Literal["auto", "fast", "reference"]
ENGINES: tuple[str, ...] = get_args(Engine)
# Characters encoded at once: encodings take about 100 bytes per token until their ids are copied.
_PORTION = 1 << 18
# The fast path is given no more of a text at once, where it can be cut.
_HUGE = 1 << 21
# A longer text is cut into segments of that size.
_LONG = 2 * _PORTION
#: Portions encoded at the same time; the ids of one more are being copied, or it waits.
_AT_ONCE = 2


class Encoder(Protocol):
    """Turns texts into token ids."""

    #: Identifies the tokenizer by its content, so that a run is not resumed with another one.
    fingerprint: str
    #: Number of its tokens, if that can show that it is the wrong one.
    vocab_size: int | None
    #: Why it failed on which texts.
    failures: Failures

    @property
    def tokenised(self) -> Tokenised | None:
        """What encoded the texts so far, if the caller may want to know."""
        ...

    def documents(self, texts: Sequence[str], room: Room | None = None) -> Documents:
        """The token ids of the texts, one document each.

        A text that the tokenizer fails on, or that takes more than `room`, has what `failures`
        makes instead.
        """
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
    tokenizer : tokenizers.Tokenizer
        The plain one.
    """

    def __init__(
        self, tokenizer: Any, *, add_special_tokens: bool, engine: Engine = "auto"
    ) -> None:
        check_engine(engine)
        tokenizer = plain_tokenizer(tokenizer)
        state = tokenizer.to_str()
        self.tokenizer = tokenizer
        self._special = add_special_tokens
        digest = hashlib.sha256(state.encode()).hexdigest()
        self.fingerprint = f"{digest}{'+special' if add_special_tokens else ''}"
        self.vocab_size: int | None = tokenizer.get_vocab_size(with_added_tokens=True)
        self.failures = Failures()
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
        return _rebuilt, (self.tokenizer, self._special, self._asked)

    @property
    def tokenised(self) -> Tokenised:
        """What encoded the texts so far."""
        name = f"tokenizers {version('tokenizers')}"
        by = "the fast path" if self._fast is not None else f"{name} ({self._reason})"
        return Tokenised(by, name, self._n_texts, self._n_referred)

    def documents(self, texts: Sequence[str], room: Room | None = None) -> Documents:
        """The token ids of the texts, one document each."""
        self._n_texts += len(texts)
        if self._fast is None:
            return joined(self._by_reference(texts, room))
        encoded, n_referred = self._by_fast_path(texts, room)
        self._n_referred += n_referred
        return encoded

    def _by_fast_path(self, texts: Sequence[str], room: Room | None) -> tuple[Documents, int]:
        """The token ids, and how many texts were handed over."""
        if len(texts) == 1 and len(texts[0]) > 2 * _HUGE:
            return self._huge(texts[0], room)
        return self._at_once(texts, room)

    def _at_once(self, texts: Sequence[str], room: Room | None) -> tuple[Documents, int]:
        assert self._fast is not None
        values, offsets, refused = self._fast.encode(texts)
        encoded = Documents(values, offsets)
        if len(refused) == 0:
            return encoded, 0
        parts: list[Any] = list(encoded)
        given = self._by_reference([texts[i] for i in refused], room)
        for i, ids in zip(refused, given, strict=True):
            parts[i] = ids
        return joined(parts), len(refused)

    def _huge(self, text: str, room: Room | None) -> tuple[Documents, int]:
        """The same of a text whose ids and whose UTF-8 should not be held twice."""
        handed_over = [0]

        def encode(texts: Sequence[str]) -> list[Any]:
            made, n = zip(*(self._at_once([one], room) for one in texts), strict=True)
            handed_over[0] |= any(n)
            return [one[0] for one in made]

        cut = _fitting(segments(text, _HUGE, encode), "fast", room)
        ids = self._whole((encode([one])[0] for one in cut), text, room)
        return joined([ids]), handed_over[0]

    def _by_reference(
        self, texts: Sequence[str], room: Room | None
    ) -> list[npt.NDArray[np.uint32]]:
        ids: list[npt.NDArray[np.uint32]] = []
        for first, last in _runs(texts):
            if last - first == 1 and len(texts[first]) > _LONG:
                cut = segments(texts[first], _PORTION, self._encode)
                cut = _fitting(cut, "reference", room)
                ids.append(self._whole(self._in_portions(cut), texts[first], room))
            else:
                ids += self._in_portions(texts[first:last])
        return ids

    def _in_portions(self, texts: Iterable[str]) -> Iterator[npt.NDArray[np.uint32]]:
        waiting: deque[Future[list[npt.NDArray[np.uint32]]]] = deque()
        # While the ids of one portion are copied, on one core, others are encoded; two at once, so
        # that no core waits for the last text of a portion.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for portion in _portions(texts):
                if len(waiting) > _AT_ONCE:
                    yield from waiting.popleft().result()
                waiting.append(pool.submit(self._encode, portion))
            while waiting:
                yield from waiting.popleft().result()

    def _whole(
        self, segments: Iterable[npt.NDArray[np.uint32]], text: str, room: Room | None
    ) -> npt.NDArray[np.uint32]:
        """The ids of a text in segments; if one failed, or it takes too much, what says so."""
        ids = array("I")  # which grows in place
        try:
            for segment in segments:
                if failed(segment):
                    return segment
                ids.frombytes(segment.tobytes())
                if room is not None:
                    room.check(room.flaw_of_ids_of(text, len(ids)))
        except RoomError as error:
            return self.failures.document(error)
        return np.frombuffer(ids, dtype=np.uint32)

    def _encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        try:
            encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=self._special)
        except BaseException as error:  # noqa: BLE001 - a panic is not an Exception
            if len(texts) == 1:
                return [self.failures.document(error)]
            failure_of(error)
            return [ids for text in texts for ids in self._encode([text])]
        # faster than np.array
        return [np.frombuffer(array("I", one.ids), dtype=np.uint32) for one in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def check_engine(engine: str) -> None:
    """Raises `ArgumentError` unless `engine` is one."""
    if engine not in ENGINES:
        raise ArgumentError(f"tokenizer_engine must be one of {', '.join(ENGINES)}, not {engine!r}")


def _portions(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in portions of about `_PORTION` characters."""
    portion: list[str] = []
    size = 0
    for text in texts:
        portion.append(text)
        size += len(text)
        if size >= _PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _runs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of texts: each long one alone, and those between."""
    first = 0
    for i, text in enumerate(texts):
        if len(text) > _LONG:
            if first < i:
                yield first, i
            yield i, i + 1
            first = i + 1
    if first < len(texts):
        yield first, len(texts)


def _fitting(texts: Iterable[str], by: By, room: Room | None) -> Iterator[str]:
    """The segments of a text; `RoomError` at one that takes too much."""
    for text in texts:
        if room is not None:
            room.check(room.flaw_of_encoding(len(text), by))
        yield text


class Utf8Encoder:
    """The bytes of a text as its ids, to inspect text without a tokenizer."""

    fingerprint = "utf-8"
    vocab_size: int | None = None
    tokenised = None
    failures = Failures()

    def documents(self, texts: Sequence[str], room: Room | None = None) -> Documents:  # noqa: ARG002
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
    """An encoder of anything that turns text into ids; see `open_corpus`.

    Raises
    ------
    CorpusError
        If there is no such file, or it is not a tokenizer.
    ArgumentError
        If it is an object that is not a tokenizer.
    """
    if isinstance(tokenizer, (TokenizerEncoder, FunctionEncoder, Utf8Encoder)):
        return tokenizer
    if isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = _loaded(Path(tokenizer))
    if not is_plain(tokenizer):
        made = function_encoder(tokenizer, add_special_tokens=add_special_tokens)
        if made is not None and engine == "fast":
            raise ArgumentError(
                "tokenizer_engine='fast' needs a tokenizer of the library tokenizers, not "
                f"{type(tokenizer).__name__}"
            )
        if made is not None:
            return made
    return TokenizerEncoder(tokenizer, add_special_tokens=add_special_tokens, engine=engine)


def _loaded(path: Path) -> Any:
    """The tokenizer in a folder or a file."""
    from tokenizers import Tokenizer

    if path.is_dir():
        path /= "tokenizer.json"
    if not path.is_file():
        raise InputOptionError(
            f"{path}: no such file; tokenizer= takes a folder with a tokenizer.json, or the path "
            "of one (a slow tokenizer is saved as one by transformers' save_pretrained)"
        )
    if path.suffix == ".model":
        return _sentencepiece(path)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 -
        why = "only points to a file in Git LFS; fetch it by git lfs pull"
        if not is_pointer(path):
            why = f"not a tokenizer.json: {error}"
        raise InputOptionError(f"{path}: {why}") from None


def _sentencepiece(path: Path) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise InputOptionError(
            f"{path}: reading a SentencePiece model needs the package sentencepiece"
        ) from None
    try:
        return SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise InputOptionError(f"{path}: not a SentencePiece model: {error}") from None


def _rebuilt(tokenizer: Any, special: bool, engine: Engine) -> TokenizerEncoder:
    return TokenizerEncoder(tokenizer, add_special_tokens=special, engine=engine)
