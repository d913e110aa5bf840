"""``radscore audit``: from a suspicion to a verdict that a third party can check."""

from __future__ import annotations

from typing import Any

from radscore.cli.audit import commit, plan, power, report, run, verify
from radscore.cli.options import add_group

__all__ = ["register"]

_EXAMPLES = """\
  radscore audit plan audit.toml --scheme scheme.toml --key-file alice.key --out audit/
  radscore audit commit audit/
  radscore audit run audit/ --key-file alice.key
  radscore audit report audit/ --bundle audit.zip
  radscore audit verify audit.zip --key-file alice.key"""


def register(commands: Any) -> None:
    """Adds the command and its subcommands."""
    add_group(
        commands,
        "audit",
        (power, plan, commit, run, report, verify),
        summary="plan a test, commit to it, run it, and let others check it",
        description="An audit fixes everything that could be chosen after a score (key, prompts, "
        "test, level, looks) in a plan, whose hash is published first. What follows is logged, "
        "kept, and recomputed by anybody who verifies the bundle.",
        examples=_EXAMPLES,
    )
