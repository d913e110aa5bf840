"""``radscore run``: scoring a corpus in steps, on one machine or many."""

from __future__ import annotations

from typing import Any

from radscore.cli.options import add_group
from radscore.cli.run import map as map_command
from radscore.cli.run import merge, prepare, reduce

__all__ = ["register"]

_EXAMPLES = """\
  radscore run prepare shared/run corpus/ --scheme scheme.toml --key-file alice.key
  radscore run map shared/run --share 0/4
  radscore run reduce shared/run --scheme scheme.toml --key-file alice.key
  radscore run merge shared/run --scheme scheme.toml --key-file alice.key"""


def register(commands: Any) -> None:
    """Adds the command and its subcommands."""
    add_group(
        commands,
        "run",
        (prepare, map_command, reduce, merge),
        summary="score a corpus in steps, on one machine or many",
        description="Scores a corpus in steps, on any machines that share a folder: prepare the "
        "run, map its shards, reduce its buckets, merge them. Each step can be repeated; finished "
        "steps are skipped.",
        examples=_EXAMPLES,
    )
