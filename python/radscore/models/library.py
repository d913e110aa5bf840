"""What modules that load models share: JSON files and the libraries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from radscore.errors import ModelError, line_of
from radscore.extras import need
from radscore.files import is_pointer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_fetched", "read_json", "transformers_library"]


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
