"""`main`: from arguments to an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from radscore.cli import inspect, kgrams, schemes, score
from radscore.cli.exits import EXIT_CODES, Exit, UsageError
from radscore.errors import ArgumentError, RadscoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "make_parser"]

_DESCRIPTION = "Read LLM watermarks in corpora, with p-values that hold."
_EXAMPLES = """\
examples:
  radscore inspect corpus/
  radscore score corpus/*.parquet --scheme scheme.toml --key-file alice.key
  radscore schemes keyed"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all of radscore's errors do."""

    def error(self, message: str) -> NoReturn:
        print(f"radscore: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(Exit.USAGE)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="radscore",
        description=_DESCRIPTION,
        epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (score, kgrams, schemes, inspect):
        module.register(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from radscore import __version__

        print(f"radscore {__version__}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code, one of :class:`radscore.cli.Exit`.

    Examples
    --------
    >>> main(["schemes", "--help"])  # doctest: +ELLIPSIS
    usage: radscore schemes ...
    ...
    0
    """
    debug = False
    try:
        args = make_parser().parse_args(argv)
        debug = args.debug
        code: int = args.run(args)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse, after --help or an error
        return stop.code if isinstance(stop.code, int) else Exit.USAGE
    except BrokenPipeError:
        # Nobody reads: keep the interpreter's own flush at exit from failing as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE
    except BaseException as error:  # noqa: BLE001 -
        if debug:
            traceback.print_exc()
        return _report(error)
    return code


def _report(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        print("radscore: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    if isinstance(error, (RadscoreError, OSError)):
        message = " ".join(str(error).split())
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        message = "out of memory"
    else:  # its text was not written with secrets in mind
        message = f"internal fault ({type(error).__name__}); run with --debug and report it"
    print(f"radscore: error: {message}", file=sys.stderr)
    if isinstance(error, (ArgumentError, UsageError)):
        return Exit.USAGE
    return Exit.ERROR if isinstance(error, (RadscoreError, OSError, MemoryError)) else Exit.INTERNAL
