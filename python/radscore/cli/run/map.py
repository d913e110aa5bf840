"""``radscore run map``: read shards of a run."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import term_as_interrupt
from radscore.cli.options import add_command, open_inputs
from radscore.cli.run.steps import add_folder, add_resources, add_which, chosen, tell

if TYPE_CHECKING:
    from radscore.corpus import Corpus
    from radscore.runs import Run

__all__ = ["register"]


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "map",
        summary="read shards of a run",
        description="Reads shards of a run and writes their distinct windows, by partition. Needs "
        "no key.",
        examples="  radscore run map shared/run\n  radscore run map shared/run --shard 0\n",
    )
    add_folder(parser)
    add_which(parser, "shard")
    add_resources(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Runs the command."""
    from radscore.runs import Run
    from radscore.runs.steps import ShardMapper

    run = Run.open(args.folder)
    mapper = ShardMapper(run, _corpus_of(run), memory=args.memory, threads=args.threads)
    with term_as_interrupt():
        for shard in chosen(args.shard, args.share, len(run.shards)):
            done = mapper.map(shard, fresh=args.fresh)
            tell(f"shard {shard}", done=done)
    return Exit.DONE


def _corpus_of(run: Run) -> Corpus:
    """The corpus of a run that the command line prepared."""
    opening = run.content.get("opening")
    if opening is None:
        raise UsageError(f"{run.folder} was prepared in Python: map its shards there")
    args = Namespace(**opening)
    vocab_size = run.content["windows"]["vocab_size"]
    return open_inputs(args, vocab_size=vocab_size, on_error=opening["on_error"])
