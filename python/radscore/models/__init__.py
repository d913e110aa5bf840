"""Models: loading them, reading text with them, writing text with them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radscore.models.generating import GenerateReport, generate, write_texts
    from radscore.models.journal import Journal
    from radscore.models.loading import LanguageModel, as_language_model, load_model
    from radscore.models.losses import document_losses
    from radscore.models.predicting import predict
    from radscore.models.predictions import Predictions
    from radscore.models.processors import logits_processor
    from radscore.models.teacher_forcing import Reader
    from radscore.models.weighting import CONTRASTS, Weighting
    from radscore.models.writing import Sampling

__all__ = [
    "CONTRASTS",
    "GenerateReport",
    "Journal",
    "LanguageModel",
    "Predictions",
    "Reader",
    "Sampling",
    "Weighting",
    "as_language_model",
    "document_losses",
    "generate",
    "load_model",
    "logits_processor",
    "predict",
    "write_texts",
]

#: The module of each name, which is imported when the name is first used.
_HOMES = {
    "CONTRASTS": "weighting",
    "GenerateReport": "generating",
    "Journal": "journal",
    "LanguageModel": "loading",
    "Predictions": "predictions",
    "Reader": "teacher_forcing",
    "Sampling": "writing",
    "Weighting": "weighting",
    "as_language_model": "loading",
    "document_losses": "losses",
    "generate": "generating",
    "load_model": "loading",
    "logits_processor": "processors",
    "predict": "predicting",
    "write_texts": "generating",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"radscore.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'radscore.models' has no attribute {name!r}")
