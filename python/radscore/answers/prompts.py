"""Prompts, from any file with named fields or of plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.corpus.base import InputOptionError
from radscore.errors import CorpusError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


__all__ = ["read_prompts"]

_FIELDS = ("prompt", "text")


def read_prompts(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], field: str | None = None
) -> list[str]:
    """The prompts in files of records, or of plain text (``.txt``: one prompt per file).

    Parameters
    ----------
    paths : path or iterable of paths
        As `open_corpus` takes them.
    field : str, optional
        The field with the prompt: text, or a single message of the user. By default ``prompt``,
        else ``text``.

    Raises
    ------
    CorpusError
        If there is no prompt, or one is not text; the message names file and line.
    """
    from radscore.corpus.detect import find_sources

    sources = find_sources(paths)
    prompts: list[str] = []
    for source in sources:
        for where, record, flaw in source.format.records(source):
            if flaw is not None:
                raise CorpusError(f"{where}: {flaw}")
            prompts.append(_prompt(record, field, where))
    if not prompts:
        raise CorpusError(f"there are no prompts in {', '.join(str(s.path) for s in sources)}")
    return prompts


def _prompt(record: Any, field: str | None, location: str) -> str:
    from radscore.corpus.records import missing_field, value_of
    from radscore.corpus.text.failures import flaw_of_text
    from radscore.models.chats import is_chat, text_of

    if not isinstance(record, dict):
        raise CorpusError(f"{location}: a record must be a JSON object")
    name = field or next((name for name in _FIELDS if name in record), _FIELDS[0])
    there, prompt = value_of(record, name)
    if not there:
        raise InputOptionError(f"{location}: {missing_field(name, record)}")
    if is_chat(prompt):
        if len(prompt) > 1:
            raise CorpusError(
                f"{location}: field {name!r} holds a chat of {len(prompt)} messages; a prompt is "
                "text, or a single message of the user"
            )
        prompt, flaw = text_of(prompt, ("user",))
        if flaw is not None:
            raise CorpusError(f"{location}: field {name!r}: {flaw}")
    if not isinstance(prompt, str):
        raise CorpusError(f"{location}: field {name!r} must hold text, not {type(prompt).__name__}")
    flaw = flaw_of_text(prompt)
    if flaw is not None:
        raise CorpusError(f"{location}: {flaw}")
    return prompt
