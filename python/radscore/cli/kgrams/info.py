"""``radscore kgrams info``: show a set of k-grams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit
from radscore.cli.kgrams.sets import facts, load_kgrams, rows
from radscore.cli.options import add_command, vocabulary
from radscore.cli.output import json_out, table

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "register"]

EXAMPLES = """\
  radscore kgrams info phi.rkg
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "info",
        summary="show what is in a set",
        description="Shows width, vocabulary, size and origin of a saved set of k-grams.",
        examples=EXAMPLES,
    )
    parser.add_argument("file", metavar="FILE", help="a set from radscore kgrams build")
    parser.add_argument(
        "--vocab-size", type=vocabulary, metavar="V", help="required for .json and .jsonl files"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    kgrams = load_kgrams(args.file, "FILE", args.vocab_size)
    if args.json:
        json_out(facts(kgrams))
    else:
        table(rows(kgrams))
    return Exit.DONE
