"""The command line: ``score``, ``kgrams``, ``schemes``, ``inspect``; one file a command."""

from __future__ import annotations

from radscore.cli.entry import main
from radscore.cli.exits import Exit

__all__ = ["Exit", "main"]
