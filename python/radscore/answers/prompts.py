"""Prompts, and the records of any file with named fields: JSON lines, Parquet and Arrow."""

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
    """The prompts in JSON lines (also compressed), Parquet or Arrow files.

    Parameters
    ----------
    paths : path or iterable of paths
        As `open_corpus` takes them.
    field : str, optional
        The field with the prompt's text; by default ``prompt``, else ``text``.

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
    from radscore.corpus.records import missing_field
    from radscore.corpus.text.failures import flaw_of_text

    if not isinstance(record, dict):
        raise CorpusError(f"{location}: a record must be a JSON object")
    name = field or next((name for name in _FIELDS if name in record), _FIELDS[0])
    if name not in record:
        raise InputOptionError(f"{location}: {missing_field(name, record)}")
    prompt = record[name]
    if not isinstance(prompt, str):
        raise CorpusError(f"{location}: field {name!r} must hold text, not {type(prompt).__name__}")
    flaw = flaw_of_text(prompt)
    if flaw is not None:
        raise CorpusError(f"{location}: {flaw}")
    return prompt
