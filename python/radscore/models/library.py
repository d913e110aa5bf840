"""What modules that load models share: one-line messages, JSON files, the libraries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from radscore.errors import ModelError
from radscore.extras import need
from radscore.files import is_pointer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["check_fetched", "line_of", "read_json", "some_of", "transformers_library"]


def line_of(error: BaseException) -> str:
    """An error's message, in one line of reasonable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        text = f"there is no {text}"
    return text if len(text) <= 300 else f"{text[:300]} ..."


def some_of(names: Iterable[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    every = sorted(names)
    more = len(every) - shown
    return f"{', '.join(every[:shown])}{f' and {more} more' if more > 0 else ''}"


def read_json(file: Path) -> dict[str, Any]:
    """A configuration file.

    Raises
    ------
    ModelError
        If the file is missing, or not a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model: {file} cannot be read: {line_of(error)}") from None
    if not isinstance(content, dict):
        raise ModelError(f"model: {file} is not a configuration (a JSON object)")
    return content


def check_fetched(file: Path) -> None:
    """Raises if a file stands for one that was never fetched."""
    if is_pointer(file):
        raise ModelError(f"{file}: only points to a file in Git LFS; fetch it by git lfs pull")


def transformers_library() -> Any:
    """transformers, untyped: its stubs are incomplete."""
    need("torch", "safetensors", "transformers", what="reading a model")
    import transformers

    return transformers
