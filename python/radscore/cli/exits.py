"""What exit codes mean, and errors in how a command was given."""

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
  0    success
  1    bad input, or nothing could be scored
  2    bad command line, or a bad file named there (scheme, key, filter, state)
  3    success, but records were skipped (--on-error skip) or questions failed
  70   internal error: please report it
  130  interrupted (Ctrl-C)
  141  the reader of the output closed it"""


@contextmanager
def writing() -> Iterator[None]:
    """Reports a file that cannot be written as the system's error: the file itself is not wrong."""
    try:
        yield
    except StateError as error:
        raise OSError(str(error)) from None


class UsageError(RadscoreError):
    """The command line asks for things that do not go together."""
