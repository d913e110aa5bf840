"""`main`: from arguments to an exit code. Every command is registered here, by one line."""

from __future__ import annotations

import argparse
import errno
import os
import re
import resource
import shlex
import sys
import traceback
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import EXIT_CODES, Exit, UsageError
from radscore.cli.output import STDOUT, note, say, show
from radscore.cli.parser import COMMAND as COMMAND_WORD
from radscore.cli.parser import Parser, as_options, hide_keys
from radscore.errors import (
    ArgumentError,
    MissingExtraError,
    RadscoreError,
    SchemeError,
    StateError,
)
from radscore.provenance import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["main", "make_parser"]

#: The commands, in the order of --help: modules whose `register` adds one.
COMMANDS = (
    "score",
    "test",
    "predict",
    "ask",
    "prompts",
    "generate",
    "kgrams",
    "schemes",
    "inspect",
    "plan",
    "run",
    "audit",
    "rehearse",
)
_THREADS = "RAYON_NUM_THREADS"
_MOST_TOKENIZER_THREADS = 256
#: How the loader of libraries says that there is no memory for one.
_NO_MEMORY = re.compile("cannot allocate memory|failed to map segment", re.IGNORECASE)
#: Bytes below its limit from which on a process is short of memory.
_SHORT = 1 << 28
_DESCRIPTION = "Finds LLM watermarks in corpora and models, with p-values that hold."
_EXAMPLES = """\
examples:
  radscore inspect corpus/
  radscore score corpus/*.parquet --scheme scheme.toml --key-file alice.key
  radscore test open fresh.jsonl --model suspect/ --reference base/ \\
      --scheme scheme.toml --key-file alice.key
  radscore schemes keyed"""


def make_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="radscore",
        description=_DESCRIPTION,
        epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar=COMMAND_WORD)
    for name in COMMANDS:
        import_module(f"radscore.cli.{name}").register(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version, which is imported only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from radscore import __version__

        show(f"radscore {__version__}\n")
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
    args = argparse.Namespace(debug=False)
    _open_streams()
    try:
        args = make_parser().parse(argv)
        COMMAND.set(hide_keys(shlex.join(["radscore", *(sys.argv[1:] if argv is None else argv)])))
        with _tokenizer_threads(getattr(args, "threads", None)):
            code: int = args.run(args)
    except SystemExit as stop:  # argparse, after --help or an error
        return stop.code if isinstance(stop.code, int) else Exit.USAGE
    except BrokenPipeError:
        _drop_output()
        return Exit.BROKEN_PIPE
    except BaseException as error:  # noqa: BLE001 -
        if args.debug:
            say(traceback.format_exc().rstrip())
        return _report(error, vars(args))
    finally:
        COMMAND.set(None)
    return code


@contextmanager
def _tokenizer_threads(threads: int | None) -> Iterator[None]:
    """Limits the tokenizer's own threads, whose number this variable sets."""
    before = os.environ.get(_THREADS)
    if threads:
        os.environ[_THREADS] = str(min(threads, _MOST_TOKENIZER_THREADS))
    try:
        yield
    finally:
        os.environ.pop(_THREADS, None)
        if before is not None:
            os.environ[_THREADS] = before


def _open_streams() -> None:
    """Lets what was started without stdin, stdout or stderr go on without what it would say there.

    Otherwise the next file that is opened gets the number of one of them, and what is meant for
    stdout, of a library say, is written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _drop_output() -> None:
    """Nobody reads stdout any more: keeps the interpreter's flush at exit from failing too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _for_memory(error: BaseException) -> bool:
    """Whether an error is none of its own, but of memory that ran out, while importing say.

    What cannot be loaded into memory is an `ImportError` to Python, and what fails within its own
    functions may be a `SystemError`; where the system itself refuses it, an `OSError`.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, (ImportError, SystemError)):
        return False
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        chain.append(found)
        found = found.__cause__ or found.__context__
    if any(isinstance(one, MemoryError) or _NO_MEMORY.search(str(one)) for one in chain):
        return True
    if any(isinstance(one, ModuleNotFoundError) for one in chain):
        return False
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return False
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, MemoryError):
        return True
    return limit - used < _SHORT


def _report(error: BaseException, names: Iterable[str]) -> int:
    if isinstance(error, KeyboardInterrupt):
        note(", ".join(["interrupted", *map(str, error.args)]))
        return Exit.INTERRUPTED
    if _for_memory(error):
        error = MemoryError()
    if isinstance(error, ImportError) and not isinstance(error, RadscoreError):
        from radscore.extras import lacking

        error = lacking(error, "this command") or error
    if isinstance(error, SchemeError):  # about the scheme's parameters, not about options
        message = str(error)
    elif isinstance(error, RadscoreError):
        message = as_options(" ".join(str(error).split()), names)
    elif isinstance(error, OSError):
        message = " ".join(str(error).split())
        if error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        if error.filename == STDOUT:
            _drop_output()
    elif isinstance(error, MemoryError):
        message = "out of memory"
    elif isinstance(error, RuntimeError) and "start new thread" in str(error):
        error = MemoryError()
        message = "no thread can be started: out of memory, or too many processes"
    else:  # its text was not written with secrets in mind
        message = f"internal error ({type(error).__name__}); rerun with --debug and report it"
    note(f"error: {message}")
    if isinstance(error, (ArgumentError, MissingExtraError, SchemeError, StateError, UsageError)):
        return Exit.USAGE
    return Exit.ERROR if isinstance(error, (RadscoreError, OSError, MemoryError)) else Exit.INTERNAL
