"""``radscore run reduce``: score buckets of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit
from radscore.cli.interrupts import term_as_interrupt
from radscore.cli.keys import load_scheme
from radscore.cli.options import add_command, add_scheme_options
from radscore.cli.run.steps import add_folder, add_resources, add_which, chosen, tell

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "reduce",
        summary="score buckets of a run",
        description="Deduplicates and scores buckets of a run whose shards are all mapped. Schemes "
        "whose units are not windows need a second stage, --stage units, once all buckets of the "
        "first are done.",
        examples="  radscore run reduce shared/run --scheme scheme.toml --key-file alice.key\n"
        "  radscore run reduce shared/run --bucket 0 --scheme scheme.toml --key-file alice.key\n",
    )
    add_folder(parser)
    add_which(parser, "bucket")
    parser.add_argument(
        "--stage",
        choices=("windows", "units"),
        default="windows",
        help="windows, then units (default: windows)",
    )
    add_scheme_options(parser)
    add_resources(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.runs import Run
    from radscore.runs.steps import BucketReducer

    run, scheme = Run.open(args.folder), load_scheme(args)
    reducer = BucketReducer(run, scheme, args.stage, memory=args.memory, threads=args.threads)
    with term_as_interrupt():
        for bucket in chosen(args.bucket, args.share, run.n_buckets):
            done = reducer.reduce(bucket, fresh=args.fresh)
            tell(f"bucket {bucket} ({args.stage})", done=done)
    return Exit.DONE
