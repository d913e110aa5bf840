"""What the steps of ``radscore run`` share: which of them to do, and with what."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

from radscore.cli.options import add_fresh, natural, number
from radscore.cli.output import note
from radscore.sizes import DEFAULT_MEMORY

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["add_folder", "add_resources", "add_which", "chosen", "tell"]


def add_folder(parser: argparse.ArgumentParser, words: str = "the folder of the run") -> None:
    """The folder of the run."""
    parser.add_argument("folder", metavar="RUN", help=words)


def add_which(parser: argparse.ArgumentParser, what: str) -> None:
    """Which shards or buckets to work on, and whether to repeat those that are done."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        f"--{what}",
        type=number,
        action="append",
        metavar="I",
        help=f"a {what}, counted from 0; may be repeated (default: all)",
    )
    group.add_argument(
        "--share",
        type=_share,
        default=slice(None),
        metavar="I/N",
        help=f"every Nth {what}, starting with I: 0/4, 1/4, 2/4 and 3/4 for four tasks, say",
    )
    add_fresh(parser, f"repeat even a {what} that is done")


def _share(text: str) -> slice:
    first, _, step = text.partition("/")
    start, every = number(first), natural(step)
    if not 0 <= start < every:
        raise ArgumentTypeError(f"I/N must have an I from 0 to {every - 1}, not {start}")
    return slice(start, None, every)


def chosen(named: list[int] | None, share: slice, count: int) -> Sequence[int]:
    """The numbers that were chosen, of so many."""
    return range(count)[share] if named is None else named


def add_resources(
    group: Any, threads: str = "all cores", memory: str | None = DEFAULT_MEMORY
) -> None:
    """Memory and threads of a step."""
    group.add_argument(
        "--memory",
        default=memory,
        metavar="SIZE",
        help=f"memory of a step (default: {DEFAULT_MEMORY})",
    )
    group.add_argument(
        "--threads", type=natural, metavar="N", help=f"threads of a step (default: {threads})"
    )


def tell(step: str, *, done: bool) -> None:
    """Writes a line to the log of whoever runs the step."""
    note(f"{step}: {'done' if done else 'was already done'}")
