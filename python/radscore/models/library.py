"""What the libraries of models say, in one line; and these libraries, for modules that load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from radscore.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["line_of", "read_json", "some_of", "transformers_library"]


def line_of(error: BaseException) -> str:
    """What an error says, in one line of bearable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."


def some_of(names: Iterable[str], shown: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    every = sorted(names)
    more = len(every) - shown
    return f"{', '.join(every[:shown])}{f' and {more} more' if more > 0 else ''}"


def read_json(file: Path) -> dict[str, Any]:
    """A configuration.

    Raises
    ------
    ModelError
        If the file holds none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model: {file} cannot be read: {line_of(error)}") from None
    if not isinstance(content, dict):
        raise ModelError(f"model: {file} holds no configuration")
    return content


def transformers_library() -> Any:
    """The library, whose types are not all known to a checker."""
    import transformers

    return transformers
