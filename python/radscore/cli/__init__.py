"""The command line: one file per command, registered in `entry`."""

from __future__ import annotations

from radscore.cli.entry import main
from radscore.cli.exits import Exit

__all__ = ["Exit", "main"]
