"""Requests whose cost is not known yet, kept beside a journal in a file of their own.

A request that was sent before the process was killed may have been paid for. The file exists only
while there are such requests, so a journal holds answers and nothing else.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radscore.errors import StateError
from radscore.files import append, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

    from radscore.models.questions import Question

__all__ = ["Sent", "SentRequests"]

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request: the bytes of the journal when it was sent, and the most tokens it can use."""

    at: int
    most_in: int
    most_out: int


class SentRequests:
    """The requests that were sent, by question, until a record has what became of them.

    Parameters
    ----------
    journal : path
        The journal, which the caller has locked; the file's name is this and ``.sent``.

    Attributes
    ----------
    waiting : dict
        By question.
    """

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_name(f"{journal.name}.sent")
        self.waiting: dict[Key, list[Sent]] = {}
        self._fd: int | None = None

    def read(self, *, fresh: bool) -> None:
        """Reads what a killed process has left, or drops it.

        Raises
        ------
        StateError
            If there is a file of that name that is something else.
        """
        if self.path.is_symlink() or self.path.exists():
            fd = self._open(0)
            try:
                self._read_lines(fd)
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd  # it is ours, to be removed
            if fresh:
                self.waiting.clear()

    def _open(self, more: int) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(self.path, flags | more, 0o666)
        except FileExistsError:
            raise self._foreign() from None
        except OSError as error:
            if self.path.is_symlink():
                raise self._foreign() from None
            raise error from None

    def _read_lines(self, fd: int) -> None:
        end = 0
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise self._foreign()
        with open(os.dup(fd), "rb") as file:  # noqa: PTH123 - a descriptor
            for line in file:
                if not line.endswith(b"\n") and b'{"sent": ['.startswith(line.rstrip(b"\0")[:10]):
                    break  # torn: the request was not sent yet
                self._take(line)
                end += len(line)
        os.ftruncate(fd, end)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            numbers = record["sent"]
            if any(type(one) is not int or one < 0 for one in numbers):
                raise ValueError(numbers)  # noqa: TRY301 - caught below
            one = Sent(*numbers)
            name, sample = record["prompt_id"], record["sample"]
            self.waiting.setdefault((str(name), int(sample)), []).append(one)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._foreign() from None

    def _foreign(self) -> StateError:
        return StateError(
            f"{self.path}: not the requests of a journal, so it is left as it is; move it, or name "
            "another file for the answers"
        )

    def add(self, question: Question, one: Sent) -> None:
        """Keeps a request; on the disk on return, so that it can be sent then."""
        if self._fd is None:
            self._fd = self._open(os.O_CREAT | os.O_EXCL)
            sync_folder(self.path.absolute().parent)
        record = {
            "sent": [one.at, one.most_in, one.most_out],
            "prompt_id": question.prompt_id,
            "sample": question.sample,
        }
        line = json.dumps(record).encode() + b"\n"
        append(self._fd, line)
        self.waiting.setdefault(question.key, []).append(one)

    def settle(self, key: Key, attempts: int, at: int) -> None:
        """Drops the last requests of a question, which the record at byte `at` has."""
        waiting = self.waiting.get(key, [])
        if attempts and waiting:
            sent_before = [i for i, one in enumerate(waiting) if one.at <= at]
            for i in reversed(sent_before[-attempts:]):
                del waiting[i]
            if not waiting:
                del self.waiting[key]

    def close(self) -> None:
        """Closes the file, and removes it unless it has requests that nothing is known of."""
        if self._fd is not None:
            if not self.waiting:
                self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None
