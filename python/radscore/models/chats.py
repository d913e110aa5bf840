"""Chats: what a message may hold, and the chats in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from radscore.corpus.base import NOTHING_SKIPPED, OnError, Problems
from radscore.corpus.detect import find_sources
from radscore.corpus.records import missing_field, value_of
from radscore.corpus.text.failures import flaw_of_text
from radscore.errors import CorpusError, some_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.base import SkipReport
    from radscore.corpus.format import Source

__all__ = ["Chats", "is_chat", "plain_chat", "text_of"]

#: What APIs call a part that is text.
_TEXT_PARTS: Final = ("text", "input_text", "output_text")


def plain_chat(chat: Any) -> tuple[list[dict[str, Any]], str | None]:
    """A chat whose messages all have text as their content, or its flaw.

    Parts that are text are joined; what is null is left out.

    Examples
    --------
    >>> plain_chat([{"role": "user", "content": [{"type": "text", "text": "Who?"}]}])
    ([{'role': 'user', 'content': 'Who?'}], None)
    >>> plain_chat([{"role": "assistant", "content": None, "tool_calls": [{}]}])
    ([], 'message 0 calls tools and has no text')
    """
    if not isinstance(chat, (list, tuple)):
        kind = "null" if chat is None else type(chat).__name__
        return [], f"a chat must be a list of messages, not {kind}"
    if not len(chat):
        return [], "the chat has no messages"
    plain = []
    for i, message in enumerate(chat):
        if not isinstance(message, dict):
            return [], f'message {i} must be {{"role": ..., "content": ...}}, not {message!r:.40}'
        kept = {name: value for name, value in message.items() if value is not None}
        role = kept.get("role")
        if not isinstance(role, str) or flaw_of_text(role) is not None:
            return [], f"message {i} has no role; {_fields(message)}"
        text, flaw = _text(kept)
        if flaw is not None:
            return [], f"message {i} {flaw}"
        plain.append({**kept, "content": text})
    return plain, None


def is_chat(value: Any) -> bool:
    """Whether a value is messages rather than text or ids."""
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], dict)


def text_of(chat: Any, roles: tuple[str, ...] | None = None) -> tuple[str, str | None]:
    """What is said in a chat, a line per message, or its flaw; by others than `roles` is one.

    Examples
    --------
    >>> text_of([{"role": "user", "content": "Who?"}], ("user",))
    ('Who?', None)
    >>> text_of([{"role": "user", "content": "Who?"}], ("assistant",))[1]
    "message 0 is the user's, not the assistant's"
    """
    plain, flaw = plain_chat(chat)
    for i, message in enumerate(plain):
        if roles is not None and message["role"] not in roles:
            return "", f"message {i} is the {message['role']}'s, not the {' or '.join(roles)}'s"
    return "\n".join(message["content"] for message in plain), flaw


def _fields(message: dict[str, Any]) -> str:
    return f"its fields are: {some_of(message)}"


def _text(message: dict[str, Any]) -> tuple[str, str | None]:
    """The text of a message, or its flaw."""
    content = message.get("content")
    if isinstance(content, list) and content:
        parts = [_part(part) for part in content]
        for i, (part, text) in enumerate(zip(content, parts, strict=True)):
            if text is None:
                kind = part.get("type") if isinstance(part, dict) else type(part).__name__
                return "", f"has a part {i} that is not text ({kind!r:.40})"
        content = "".join(text for text in parts if text is not None)
    if not content and not isinstance(content, str):
        calls = any(message.get(name) for name in ("tool_calls", "function_call"))
        return "", "calls tools and has no text" if calls else "has no content"
    if not isinstance(content, str):
        return "", f"must have text as its content, not {type(content).__name__}"
    flaw = flaw_of_text(content)
    return content, None if flaw is None else f"is {flaw}"


def _part(part: Any) -> str | None:
    """The text of a part; None if it is something else."""
    if isinstance(part, dict):
        text = part.get("text")
        return text if part.get("type") in _TEXT_PARTS and isinstance(text, str) else None
    return part if isinstance(part, str) else None


class Chats:
    """The chats in files, checked; those that cannot be read are left out and counted, or raised.

    Parameters
    ----------
    paths : path or iterable of paths
        Files, folders and patterns of any format that holds records.
    field : str
        The field with the messages.
    on_error : {"raise", "skip"}
        As in `open_corpus`.
    format : str, optional
        As in `open_corpus`.

    Attributes
    ----------
    sources : tuple of Source
    notes : tuple of str
        Nothing that a caller need know.

    Raises
    ------
    CorpusError
        If a chat cannot be read (``on_error="raise"``), or there is none; it names file and line.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self, paths: Any, field: str, *, on_error: OnError = "raise", format: str | None = None
    ) -> None:
        self._on_error = on_error
        problems = Problems(on_error)
        self.sources: tuple[Source, ...] = tuple(find_sources(paths, format))
        self._chats: list[list[dict[str, Any]]] = []
        self._locations: list[str] = []
        for source in self.sources:
            for where, record, flaw in _records(source, problems):
                chat, reason = ([], flaw) if flaw is not None else _of_record(record, field)
                if reason is not None:
                    problems.record(where, reason)
                else:
                    self._chats.append(chat)
                    self._locations.append(where)
        self._unread = problems.take()
        self._unfit = NOTHING_SKIPPED
        if not self._chats:
            left = f"; skipped {self._unread}, first " if self._unread else ""
            first = "".join(self._unread.examples[:1])
            raise CorpusError(f"there are no chats in {self.sources[0].path}{left}{first}")

    def __len__(self) -> int:
        return len(self._chats)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        self._unfit = NOTHING_SKIPPED
        return iter(self._chats)

    @property
    def n_documents(self) -> int:
        """Chats that were read."""
        return len(self._chats) - self._unfit.count

    @property
    def skipped(self) -> SkipReport:
        """What was left out, also of the latest pass."""
        return self._unread.plus(self._unfit)

    def unfit(self, index: int, reason: str) -> None:
        """A chat that a model cannot read; raises `CorpusError` unless it is to be skipped."""
        problems = Problems(self._on_error)
        problems.record(self._locations[index], reason)
        self._unfit = self._unfit.plus(problems.take())


def _records(source: Source, problems: Problems) -> Iterator[tuple[str, Any, str | None]]:
    try:
        yield from source.format.records(source)
    except CorpusError as error:
        problems.file(error)


def _of_record(record: Any, field: str) -> tuple[list[dict[str, Any]], str | None]:
    """The chat that a record holds, or its flaw."""
    if not isinstance(record, dict):
        return [], "a record must be a JSON object"
    found, value = value_of(record, field)
    if not found:
        return [], missing_field(field, record)
    chat, flaw = plain_chat(value)
    return chat, None if flaw is None else f"field {field!r}: {flaw}"
