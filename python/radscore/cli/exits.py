"""What the exit codes mean: the one place that says so."""

from __future__ import annotations

from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

from radscore.errors import RadscoreError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EXIT_CODES", "Exit", "UsageError", "writing"]


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SKIPPED = 3
    INTERNAL = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


#: Shown at the end of every --help.
EXIT_CODES = """\
exit codes:
  0    done
  1    what is in the input is wrong, or nothing could be scored
  2    the command line is wrong, or a file that it names (scheme, key, filter, state)
  3    done, but records were left out (--on-error skip), or some questions failed
  70   a fault of radscore itself
  130  interrupted (Ctrl-C)
  141  the reader of the output went away"""


@contextmanager
def writing() -> Iterator[None]:
    """A file that cannot be written is no wrong file: the system's error, not the state's."""
    try:
        yield
    except StateError as error:
        raise OSError(str(error)) from None


class UsageError(RadscoreError):
    """The command line asks for something that does not go together."""
