"""What a model reads: token ids, corpora, strings and chats, all as passages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.documents import Documents
from radscore.errors import ModelError, TokenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from radscore.models.loading import LanguageModel

__all__ = ["Passage", "passages", "prefix_of", "windows_of"]

_STRINGS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Passage:
    """One document as the model reads it, and the places after which its predictions count.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_read,)
        What the model reads, in its own vocabulary.
    contexts : ndarray of uint32, shape (n_places, k)
        The last k tokens up to each place, in the watermark's vocabulary: every place of the
        document that has so many, in reading order.
    rows : ndarray of int64, shape (n_places,)
        The position of `ids` whose prediction belongs to the place; -1 where none does.
    places : ndarray of int64, shape (n_places,)
        Each place's number among the tokens that were read.
    n_tokens : int
        Tokens that were read, in the watermark's vocabulary.
    tokens : ndarray of int, shape (n_tokens,)
        These tokens.
    """

    ids: npt.NDArray[np.int64]
    contexts: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    n_tokens: int
    tokens: npt.NDArray[Any]


def windows_of(ids: npt.NDArray[Any], width: int) -> npt.NDArray[np.uint32]:
    """The runs of `width` ids, one a row, in order; a view."""
    ids = np.ascontiguousarray(ids, dtype=np.uint32)
    if width == 0:
        return np.empty((len(ids), 0), dtype=np.uint32)
    if len(ids) < width:
        return np.empty((0, width), dtype=np.uint32)
    return np.lib.stride_tricks.sliding_window_view(ids, width)


def passage(
    ids: npt.NDArray[Any], width: int, scored: npt.NDArray[np.bool_] | None = None
) -> Passage:
    """A document whose tokens the model and the watermark share.

    With `scored`, only contexts of which every token is marked count.
    """
    ids = ids.astype(np.int64)
    contexts = windows_of(ids, width)
    first = max(width - 1, 0)
    rows = np.arange(first, first + len(contexts), dtype=np.int64)
    places = rows
    if scored is not None:
        whole = scored if width == 0 else windows_of(scored, width).all(axis=1)
        rows = np.where(whole, rows, -1)
    return Passage(ids, contexts, rows, places, len(ids), ids)


def passages(text: Any, model: LanguageModel, width: int) -> Iterator[Passage]:
    """The passages of anything that can be read.

    Parameters
    ----------
    text : Corpus, strings, chats, or anything that `Documents.of` takes
        Strings are tokenised by the model's tokenizer, without special tokens. A chat is a list
        of messages (dicts with "role" and "content"), put through the tokenizer's template; only
        what the assistant says is scored, or all that is said where no assistant speaks. A
        corpus's prompts are read before their documents and not scored.
    model : LanguageModel
        For its tokenizer, and the ids that it can read.
    width : int
        Tokens of a context.

    Raises
    ------
    TokenError
        If an id is outside of the model's vocabulary, or the text is none of these.
    ModelError
        If strings come without a tokenizer.
    """
    if hasattr(text, "batches"):
        for batch in text:
            yield from _documents(batch.documents, batch.prompts, model, width)
        return
    kind = kind_of(text)
    if kind == "chat":
        for i, chat in enumerate([text] if isinstance(text[0], dict) else text):
            yield _chat(chat, i, model, width)
    elif kind == "string":
        strings = [text] if isinstance(text, str) else text
        for first in range(0, len(strings), _STRINGS_AT_ONCE):
            some = strings[first : first + _STRINGS_AT_ONCE]
            yield from _documents(encode(some, model, first), None, model, width)
    else:
        yield from _documents(Documents.of(text), None, model, width)


def kind_of(text: Any) -> str:
    """What a text is made of: "string", "chat" or "ids"."""
    if isinstance(text, str):
        return "string"
    if isinstance(text, (list, tuple)) and text:
        if isinstance(text[0], str):
            return "string"
        first = text[0][0] if isinstance(text[0], (list, tuple)) and text[0] else text[0]
        if isinstance(first, dict):
            return "chat"
    return "ids"


def encode(strings: Sequence[str], model: LanguageModel, first: int = 0) -> Documents:
    """Strings in the model's own tokens; `first` is the number of the first, for messages."""
    tokenizer = tokenizer_of(model, "strings")
    for i, one in enumerate(strings):
        if not isinstance(one, str):
            raise TokenError(f"document {first + i} is not a string but {type(one).__name__}")
    encoded = tokenizer(list(strings), add_special_tokens=False, return_attention_mask=False)
    return Documents.of([np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]])


def tokenizer_of(model: LanguageModel, what: str) -> Any:
    """The model's tokenizer, which must be there."""
    if model.tokenizer is None:
        raise ModelError(
            f"{model.name} has no tokenizer, which reading {what} needs; give token ids, or a "
            "model that was loaded with one (load_model(..., tokenizer=...))"
        )
    return model.tokenizer


def prefix_of(model: LanguageModel) -> npt.NDArray[np.int64]:
    """The special tokens that the model's tokenizer puts before every text."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        return np.empty(0, dtype=np.int64)
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    for n in range(len(whole) - len(plain) + 1):
        if whole[n : n + len(plain)] == plain:
            return np.array(whole[:n], dtype=np.int64)
    return np.empty(0, dtype=np.int64)


def _documents(
    documents: Documents, prompts: Documents | None, model: LanguageModel, width: int
) -> Iterator[Passage]:
    for batch in (documents, prompts):
        if batch is not None:
            _check_ids(batch, model)
    for i, ids in enumerate(documents):
        if prompts is None or not len(prompts[i]):
            yield passage(ids, width)
            continue
        before = prompts[i]
        scored = np.arange(len(before) + len(ids)) >= len(before)
        yield passage(np.concatenate([before, ids]), width, scored)


def _check_ids(documents: Documents, model: LanguageModel) -> None:
    try:
        documents.check_vocab(model.vocab_size)
    except TokenError as error:
        raise TokenError(f"{error}, which is what {model.name} can read") from None


def _chat(chat: Any, index: int, model: LanguageModel, width: int) -> Passage:
    """A conversation through the model's template."""
    tokenizer = tokenizer_of(model, "chats")
    if not isinstance(chat, (list, tuple)) or not all(
        isinstance(m, dict) and isinstance(m.get("content"), str) and "role" in m for m in chat
    ):
        raise TokenError(
            f'document {index} is no chat: a list of messages, each {{"role": ..., "content": ...}}'
        )
    try:
        text = tokenizer.apply_chat_template(list(chat), tokenize=False)
    except Exception as error:  # noqa: BLE001 - whatever a template raises
        reason = " ".join(str(error).split())
        raise ModelError(f"document {index}: {model.name}'s chat template: {reason}") from None
    spans = _spans(text, chat, index, model)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    scored = np.zeros(len(encoded["input_ids"]), dtype=np.bool_)
    for i, (start, end) in enumerate(encoded["offset_mapping"]):
        scored[i] = any(low <= start and end <= high for low, high in spans)
    ids = np.array(encoded["input_ids"], dtype=np.int64)
    _check_ids(Documents.of([ids]), model)
    return passage(ids, width, scored)


def _spans(text: str, chat: Any, index: int, model: LanguageModel) -> list[tuple[int, int]]:
    """Where in the template's text the messages that are scored stand."""
    speaks = any(message["role"] == "assistant" for message in chat)
    spans, place = [], 0
    for message in chat:
        content = message["content"].strip()  # templates often strip
        start = text.find(content, place)
        if start < 0:
            if message["role"] == "system":  # which some templates leave out
                continue
            raise ModelError(
                f"document {index}: {model.name}'s chat template changes a message's content, so "
                "that it is not known what to score; give token ids"
            )
        place = start + len(content)
        if message["role"] == "assistant" or not speaks:
            spans.append((start, place))
    return spans
