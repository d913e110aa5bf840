"""``radscore kgrams``: sets of k-grams to filter by."""

from __future__ import annotations

from typing import Any

from radscore.cli.kgrams import build, info
from radscore.cli.options import add_group

__all__ = ["register"]


def register(commands: Any) -> None:
    """Adds the command and its subcommands."""
    add_group(
        commands,
        "kgrams",
        (build, info),
        summary="build and show sets of k-grams",
        description="Builds and shows sets of k-grams: the filter phi of radscore score.",
        examples=f"{build.EXAMPLES}{info.EXAMPLES}",
    )
