"""``radscore test``: was a model trained on watermarked text?"""

from __future__ import annotations

import argparse
from typing import Any

from radscore.cli import closed_test, membership_test, open_test
from radscore.cli.exits import EXIT_CODES

__all__ = ["register"]

_EXAMPLES = """\
examples:
  radscore test open fresh.jsonl --model suspect/ --reference base/ --scheme scheme.toml
  radscore test closed answers.jsonl --scheme scheme.toml --tokenizer tokenizer.json
  radscore test membership --model suspect/ --members ours.jsonl --nonmembers fresh.jsonl"""


def register(commands: Any) -> None:
    """Adds the command and its subcommands."""
    parser = commands.add_parser(
        "test",
        help="test whether a model was trained on watermarked text",
        description="Tests whether a model was trained on watermarked text: its predictions "
        "(open), its answers (closed), or, without a watermark, its losses (membership).",
        epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (open_test, closed_test, membership_test):
        module.register(parts)
