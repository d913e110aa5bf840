"""Answers of a model that shows only text: asking for them, keeping them, reading them.

Above `models`: what both write is a `radscore.models.journal.Journal`.
"""

from __future__ import annotations

from radscore.answers.asking import AskReport, ask
from radscore.answers.limits import Limits
from radscore.answers.open_answers import Answers, open_answers
from radscore.answers.prompts import read_prompts
from radscore.answers.settings import Settings

__all__ = [
    "Answers",
    "AskReport",
    "Limits",
    "Settings",
    "ask",
    "open_answers",
    "read_prompts",
]
