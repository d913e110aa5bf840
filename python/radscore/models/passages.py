"""What a model reads: token ids, corpora, strings and chats, all turned into passages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.corpus.in_memory import texts_in
from radscore.corpus.text.failures import failure_of, flaw_of_text
from radscore.documents import Documents, opened
from radscore.errors import ModelError, TokenError, line_of
from radscore.models.chats import Chats, plain_chat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from radscore.models.loading import LanguageModel

__all__ = [
    "Passage",
    "begins_with",
    "check_ids",
    "check_strings",
    "encode",
    "gathered",
    "in_shard",
    "kind_of",
    "passages",
    "prefix_of",
    "tokenizer_of",
    "windows_of",
]

#: Strings that are tokenised together.
_STRINGS_AT_ONCE = 256
#: Stands in for a message while its span in the template's text is located.
_SENTINEL = "Xq{}zj"


@dataclass(frozen=True, eq=False)
class Passage:
    """One document as the model reads it, and the positions after which its predictions count.

    There is one entry of `contexts`, `rows` and `positions` for every position of the document
    that has a whole context, in reading order.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_read,)
        What the model reads, in its own vocabulary.
    contexts : ndarray of uint32, shape (n, k)
        The last k tokens up to the position, in the watermark's vocabulary.
    rows : ndarray of int64, shape (n,)
        The position in `ids` whose prediction goes with the context; -1 if none does.
    positions : ndarray of int64, shape (n,)
        The position in `tokens` of the context's last token.
    n_tokens : int
        Tokens read, in the watermark's vocabulary.
    tokens : ndarray of int, shape (n_tokens,)
        These tokens.
    n_lost : int
        Messages of a chat that should be scored but cannot be located in what the template made.
    """

    ids: npt.NDArray[np.int64]
    contexts: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    n_tokens: int
    tokens: npt.NDArray[Any]
    n_lost: int = 0


def windows_of(ids: npt.NDArray[Any], width: int) -> npt.NDArray[np.uint32]:
    """The runs of `width` ids, one per row, in order; a view."""
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

    With `scored`, only contexts whose tokens are all marked count.
    """
    ids = ids.astype(np.int64)
    contexts = windows_of(ids, width)
    first = max(width - 1, 0)
    positions = rows = np.arange(first, first + len(contexts), dtype=np.int64)
    if scored is not None:
        whole = scored if width == 0 else windows_of(scored, width).all(axis=1)
        rows = np.where(whole, rows, -1)
    return Passage(ids, contexts, rows, positions, len(ids), ids)


def in_shard(number: int, shard: tuple[int, int] | None) -> bool:
    """Whether a document is in shard i of n, which has every n-th one from the i-th on."""
    return shard is None or number % shard[1] == shard[0] - 1


def passages(
    documents: Any, model: LanguageModel, width: int, shard: tuple[int, int] | None = None
) -> Iterator[Passage]:
    """The passages of anything that can be read.

    Parameters
    ----------
    documents : Corpus, strings, chats, `Chats`, or anything that `Documents.of` takes
        Strings are tokenised by the model's tokenizer, without special tokens. A chat is a list
        of messages (dicts with "role" and "content"), put through the tokenizer's template; only
        what the assistant says is scored, or everything if no assistant speaks; messages that the
        template changes or leaves out are not (`Passage.n_lost`). A corpus's prompts are read
        before their documents and not scored.
    model : LanguageModel
        Gives the tokenizer, and the range of ids.
    width : int
        Tokens in a context.
    shard : tuple of two int, optional
        Which of how many equal parts to read, from 1.

    Raises
    ------
    TokenError
        If an id is outside of the model's vocabulary, or the documents are none of these.
    ModelError
        If strings come without a tokenizer.
    """
    if hasattr(documents, "batches"):
        for batch in documents:
            before = batch.first_document
            yield from _documents(
                batch.documents, batch.prompts, model, width, first=before, shard=shard
            )
        return
    kind = kind_of(documents)
    if kind == "chat":
        yield from _chats(documents, model, width, shard)
    elif kind == "string":
        strings = [documents] if isinstance(documents, str) else documents
        for first in range(0, len(strings), _STRINGS_AT_ONCE):
            some = strings[first : first + _STRINGS_AT_ONCE]
            ids = encode(some, model, first)
            yield from _documents(ids, None, model, width, first=first, shard=shard)
    else:
        yield from _documents(Documents.of(documents), None, model, width, shard=shard)


def kind_of(documents: Any) -> str:
    """What documents are made of: "string", "chat" or "ids"."""
    if isinstance(documents, Chats):
        return "chat"
    if isinstance(documents, str):
        return "string"
    if isinstance(documents, (list, tuple)) and documents:
        first = documents[0]
        if isinstance(first, str):
            return "string"
        first = first[0] if isinstance(first, (list, tuple)) and first else first
        if isinstance(first, dict) and "input_ids" not in first:
            return "chat"
    return "ids"


def gathered(documents: Any, name: str = "documents") -> Any:
    """Documents in whatever container: a corpus, `Chats`, text, a list, or what is read in place.

    Raises
    ------
    TokenError
        If they are none of these, such as a table or a path.
    """
    if isinstance(documents, (str, Chats)) or hasattr(documents, "batches"):
        return documents
    found = opened(documents, name)
    texts = texts_in(found)
    if texts is not None:
        return texts
    objects = isinstance(found, np.ndarray) and found.dtype == object
    return found.tolist() if objects else found


def encode(strings: Sequence[str], model: LanguageModel, first: int = 0) -> Documents:
    """Strings as the model's own tokens; `first` is the number of the first one, for messages."""
    tokenizer = tokenizer_of(model, "strings")
    check_strings(strings, first)
    try:
        encoded = _tokens(tokenizer, list(strings))
    except BaseException as error:
        if len(strings) == 1:
            raise TokenError(f"documents[{first}]: {failure_of(error)}") from error
        failure_of(error)
        for i, one in enumerate(strings):  # names the one that it fails on
            encode([one], model, first + i)
        raise
    return Documents.of([np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]])


def _tokens(tokenizer: Any, strings: list[str] | str, **more: Any) -> Any:
    return tokenizer(strings, add_special_tokens=False, return_attention_mask=False, **more)


def check_strings(strings: Sequence[Any], first: int = 0) -> None:
    """Raises `TokenError`, naming the first that is no valid text; they count from `first`."""
    for i, one in enumerate(strings):
        if not isinstance(one, str):
            raise TokenError(f"documents[{first + i}] must be a string, not {type(one).__name__}")
        if (flaw := flaw_of_text(one)) is not None:
            raise TokenError(f"documents[{first + i}]: {flaw}")


def tokenizer_of(model: LanguageModel, what: str) -> Any:
    """The model's tokenizer; raises `ModelError` if there is none to read `what` with."""
    if model.tokenizer is None:
        reason = f" ({model.why_no_tokenizer})" if model.why_no_tokenizer else ""
        raise ModelError(
            f"{model.name} has no tokenizer{reason}, which reading {what} needs; give token ids, "
            "or a model that was loaded with one (load_model(..., tokenizer=...))"
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


def begins_with(ids: npt.NDArray[Any], prefix: npt.NDArray[np.int64]) -> bool:
    """Whether a document already has the special tokens that would be put before it."""
    return len(prefix) > 0 and np.array_equal(ids[: len(prefix)], prefix)


def check_ids(documents: Documents, model: LanguageModel, name: str = "") -> None:
    """Raises `TokenError` unless the model has all ids; `name` is the argument, for the message."""
    try:
        documents.check_vocab(model.vocab_size)
    except TokenError as error:
        argument = f"{name}: " if name else ""
        raise TokenError(f"{argument}{error}, which is what {model.name} can read") from None


def _documents(
    documents: Documents,
    prompts: Documents | None,
    model: LanguageModel,
    width: int,
    *,
    first: int = 0,
    shard: tuple[int, int] | None,
) -> Iterator[Passage]:
    for batch in (documents, prompts):
        if batch is not None:
            check_ids(batch, model)
    for i, ids in enumerate(documents):
        if not in_shard(first + i, shard):
            continue
        if prompts is None or not len(prompts[i]):
            yield passage(ids, width)
            continue
        before = prompts[i]
        scored = np.arange(len(before) + len(ids)) >= len(before)
        yield passage(np.concatenate([before, ids]), width, scored)


def _chats(
    documents: Any, model: LanguageModel, width: int, shard: tuple[int, int] | None
) -> Iterator[Passage]:
    """The passages of chats; those in files are skipped if that was asked for."""
    tokenizer = tokenizer_of(model, "chats")
    single = not isinstance(documents, Chats) and isinstance(documents[0], dict)
    for i, given in enumerate([documents] if single else documents):
        if not in_shard(i, shard):
            continue
        chat, flaw = plain_chat(given)
        made = flaw if flaw is not None else _templated(chat, tokenizer, model.name)
        if not isinstance(made, str):
            ids, scored, n_lost = made
            check_ids(Documents.of([ids]), model)
            yield replace(passage(ids, width, scored), n_lost=n_lost)
        elif isinstance(documents, Chats):
            documents.unfit(i, made)
        else:
            kind = ModelError if flaw is None else TokenError
            raise kind(f"documents[{i}]: {made}")


def _templated(
    chat: list[dict[str, Any]], tokenizer: Any, name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], int] | str:
    """Ids of a conversation in a model's template, which are scored, and how many messages are not.

    A text is its flaw.
    """
    try:
        text = tokenizer.apply_chat_template(list(chat), tokenize=False)
    except Exception as error:  # noqa: BLE001 - whatever a template raises
        return f"{name}'s chat template: {line_of(error)}"
    if (flaw := flaw_of_text(text)) is not None:
        return flaw
    spans, n_lost = _spans(text, chat, tokenizer)
    try:
        encoded = _tokens(tokenizer, text, return_offsets_mapping=True)
    except BaseException as error:  # noqa: BLE001 - a panic is not an Exception
        return failure_of(error)
    scored = np.zeros(len(encoded["input_ids"]), dtype=np.bool_)
    for i, (start, end) in enumerate(encoded["offset_mapping"]):
        scored[i] = any(low <= start and end <= high for low, high in spans)
    return np.array(encoded["input_ids"], dtype=np.int64), scored, n_lost


def _spans(text: str, chat: Any, tokenizer: Any) -> tuple[list[tuple[int, int]], int]:
    """The spans of the scored messages in the template's text, and how many were not located."""
    speaks = any(message["role"] == "assistant" for message in chat)
    spans, n_lost = [], 0
    for i, message in enumerate(chat):
        if (speaks and message["role"] != "assistant") or not message["content"].strip():
            continue
        span = _span(text, chat, i, tokenizer)
        if span is None:
            n_lost += 1
        else:
            spans.append(span)
    return spans, n_lost


def _span(text: str, chat: Any, index: int, tokenizer: Any) -> tuple[int, int] | None:
    """The span of a message, if it can be told for certain.

    Searching for the message would find short ones within the template's own words. So the chat
    goes through the template once more with something else in the message's place: what comes
    before and after that is not part of the message, and what the text has in between is.
    """
    number = 0
    while (sentinel := _SENTINEL.format(number)) in text:
        number += 1
    changed = list(chat)
    changed[index] = {**chat[index], "content": sentinel}
    try:
        other = tokenizer.apply_chat_template(changed, tokenize=False)
    except Exception:  # noqa: BLE001 - whatever a template raises
        return None
    before, *rest = other.split(sentinel)
    if len(rest) != 1:  # left out, or repeated
        return None
    start, end = len(before), len(text) - len(rest[0])
    same = start < end and text.startswith(before) and text.endswith(rest[0])
    # a template may cut a message short, but what remains must be the message's own words
    return (start, end) if same and text[start:end] in chat[index]["content"] else None
