"""Answers of a model that shows only text: asking for them, keeping them, reading them."""

from __future__ import annotations

from radscore.answers.asking import AskReport, Limits, ask
from radscore.answers.endpoint import Settings
from radscore.answers.journal import Journal
from radscore.answers.prompts import read_prompts

__all__ = ["AskReport", "Journal", "Limits", "Settings", "ask", "read_prompts"]
