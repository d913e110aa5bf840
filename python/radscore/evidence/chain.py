"""The log of an audit: lines of JSON, each with the hash of the one before.

Whoever has the hash of the last line, its *head*, can tell whether any line before it was changed,
added or left out.
"""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from radscore.canonical import canonical, hash_of
from radscore.errors import StateError
from radscore.files import append, lock_open

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Log", "read_log"]

#: What the first line has in place of a hash.
START = "0" * 64


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.

    Raises
    ------
    StateError
        If a line is not what was written, or does not follow the one before; it names the line.
    """
    entries: list[dict[str, Any]] = []
    head = START
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                whole = line == canonical(entry) + b"\n"
                sound = whole and entry["sequence"] == number and isinstance(entry["event"], str)
            except (ValueError, KeyError, TypeError, RecursionError):
                sound = False
            if not sound:
                raise StateError(f"{path}:{number}: not a line of an audit's log, or changed")
            if entry["previous"] != head:
                raise StateError(
                    f"{path}:{number}: does not follow the line before: one was changed, added or "
                    "left out"
                )
            head = hash_of(entry)
            entries.append(entry)
    return entries


class Log:
    """A log that is being written, by one process at a time.

    A torn last line, which a killed process can leave, is cut off: what it says was not done.

    Attributes
    ----------
    entries : list of dict
        All lines.
    head : str
        The hash of the last one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o666)
        try:
            self._begin()
            self.entries = read_log(path)
        except BaseException:
            os.close(self._fd)
            raise

    def _begin(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise StateError(f"{self.path} is not a regular file")
        try:
            lock_open(self._fd)
        except BlockingIOError:
            raise StateError(f"{self.path}: another process is running this audit") from None
        data = self.path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.ftruncate(self._fd, data.rfind(b"\n") + 1)

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return hash_of(self.entries[-1]) if self.entries else START

    def add(self, event: str, **content: Any) -> dict[str, Any]:
        """Adds a line; on the disk on return."""
        entry = {
            "sequence": len(self.entries) + 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": event,
            **content,
            "previous": self.head,
        }
        append(self._fd, canonical(entry) + b"\n")
        self.entries.append(entry)
        return entry

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of one kind."""
        return [entry for entry in self.entries if entry["event"] == event]

    def close(self) -> None:
        """Lets others write to the log."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
