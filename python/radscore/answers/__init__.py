"""Answers of a model that shows only text: asking for them, keeping them, reading them."""

from __future__ import annotations

from radscore.answers.asking import AskReport, Limits, ask
from radscore.answers.endpoint import Settings
from radscore.answers.journal import Journal
from radscore.answers.open_answers import Answers, open_answers
from radscore.answers.prompts import read_prompts

__all__ = [
    "Answers",
    "AskReport",
    "Journal",
    "Limits",
    "Settings",
    "ask",
    "open_answers",
    "read_prompts",
]
