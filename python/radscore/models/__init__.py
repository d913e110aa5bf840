"""Models: loading them, reading text with them, writing text with them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radscore.models.loading import LanguageModel, as_language_model, load_model
    from radscore.models.predictions import Predictions, predict
    from radscore.models.reading import Reader
    from radscore.models.weighting import CONTRASTS, Weighting

__all__ = [
    "CONTRASTS",
    "LanguageModel",
    "Predictions",
    "Reader",
    "Weighting",
    "as_language_model",
    "document_losses",
    "generate",
    "load_model",
    "logits_processor",
    "predict",
]

#: Where each name is defined; imported when it is first asked for.
_HOMES = {
    "CONTRASTS": "weighting",
    "LanguageModel": "loading",
    "Predictions": "predictions",
    "Reader": "reading",
    "Weighting": "weighting",
    "as_language_model": "loading",
    "document_losses": "losses",
    "generate": "generating",
    "load_model": "loading",
    "logits_processor": "processors",
    "predict": "predictions",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"radscore.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'radscore.models' has no attribute {name!r}")
