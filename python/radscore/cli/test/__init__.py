"""``radscore test``: was a model trained on watermarked text?"""

from __future__ import annotations

from typing import Any

from radscore.cli.options import add_group
from radscore.cli.test import closed, membership
from radscore.cli.test import open as open_command

__all__ = ["register"]

_EXAMPLES = """\
  radscore test open fresh.jsonl --model suspect/ --reference base/ \\
      --scheme scheme.toml --key-file alice.key
  radscore test closed answers.jsonl --tokenizer tokenizer.json \\
      --scheme scheme.toml --key-file alice.key
  radscore test membership --model suspect/ --members ours.jsonl --nonmembers fresh.jsonl"""


def register(commands: Any) -> None:
    """Adds the command and its subcommands."""
    add_group(
        commands,
        "test",
        (open_command, closed, membership),
        summary="test whether a model was trained on watermarked text",
        description="Tests whether a model was trained on watermarked text, by its predictions "
        "(open), by its answers (closed) or, without any watermark, by its losses (membership).",
        examples=_EXAMPLES,
    )
