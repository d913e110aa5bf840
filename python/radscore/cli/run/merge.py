"""``radscore run merge``: the result of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.cli.keys import load_scheme
from radscore.cli.options import add_command, add_scheme_options
from radscore.cli.run.steps import add_folder
from radscore.cli.score_run import print_result

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "merge",
        summary="add up the buckets of a run and print the result",
        description="Adds up the buckets of a run, which must all be reduced, and prints the "
        "result as radscore score does.",
        examples="  radscore run merge shared/run --scheme scheme.toml --key-file alice.key\n",
    )
    add_folder(parser)
    add_scheme_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.runs import Run, merge

    run, scheme = Run.open(args.folder), load_scheme(args)
    return print_result(run, [merge(run, scheme)], args)
