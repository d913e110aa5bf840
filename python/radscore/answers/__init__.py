"""Answers of a model that shows only text: asking for them, keeping them, reading them.

Above `models`: what both write is a `radscore.models.journal.Journal`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.answers.answer_files import Answers, open_answers
from radscore.answers.asking import AskReport, ask
from radscore.answers.limits import Limits
from radscore.answers.prompts import read_prompts
from radscore.answers.settings import Settings

if TYPE_CHECKING:
    from radscore.answers.endpoint_model import EndpointModel

__all__ = [
    "Answers",
    "AskReport",
    "EndpointModel",
    "Limits",
    "Settings",
    "ask",
    "open_answers",
    "read_prompts",
]


def __getattr__(name: str) -> Any:
    if name == "EndpointModel":  # which needs what reads models
        from radscore.answers.endpoint_model import EndpointModel

        return EndpointModel
    raise AttributeError(f"module 'radscore.answers' has no attribute {name!r}")
