"""The files of a state of ``radscore score``: names derived from one, which may be others' already.

Nothing is written, deleted or read through a link unless it begins as such a file of ours does, and
all of it only while the state is locked. Where the file system has no locks (some network file
systems), give commands that run at the same time states of their own.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from radscore.cli.exits import UsageError
from radscore.cli.output import note
from radscore.files import Lock, begins_with, drafted, remove_drafts
from radscore.provenance import digest_of

__all__ = ["ROWS_MAGIC", "StateFiles"]

#: How a state begins, what documents share, and their rows.
_STATE, _SHARING, ROWS_MAGIC = b"RSST", b"RSSH", b"RSDR"
#: A state with nothing in it, which keeps the name until there is something to save.
_NOTHING = _STATE + bytes(4)
#: Seconds to wait for another command, which may be about to end, and between looks.
_PATIENCE, _PAUSE = 5.0, 0.005


class StateFiles:
    """The files of a state, locked while entered; a second command with the same state is refused.

    Beside the state, ``<state>.documents`` has the rows of single documents, ``<state>.sharing.0``
    and ``.1``, in turn, what they share, and ``<state>.lock`` the lock.

    Parameters
    ----------
    path : str
        The state.
    beside : bool
        Whether there are documents' rows too.
    """

    def __init__(self, path: str, *, beside: bool) -> None:
        self.state = Path(path)
        self.rows = Path(f"{path}.documents")
        self.sharing = (Path(f"{path}.sharing.0"), Path(f"{path}.sharing.1"))
        self._heads = {self.state: _STATE, self.rows: ROWS_MAGIC}
        self._heads |= dict.fromkeys(self.sharing, _SHARING)
        self._beside = beside
        self._lock: Lock | None = None

    @property
    def exist(self) -> bool:
        """Whether there is a state with something in it."""
        return begins_with(self.state, _STATE) and self.state.stat().st_size > len(_NOTHING)

    def __enter__(self) -> Self:
        self.check()
        path = Path(f"{self.state}.lock")
        try:
            self._lock = _locked(path)
            self.check()
            if not os.path.lexists(self.state):
                self._lock.leave(b"")
                with drafted(self.state, replace=False) as temporary:
                    temporary.write_bytes(_NOTHING)
            self._tidy()
        except BlockingIOError:
            raise UsageError(
                f"another command is working with the state {self.state}; wait for it, or name "
                "another file with --state"
            ) from None
        except FileExistsError:
            taken = path if self._lock is None else self.state
            self._leave()
            raise self._foreign(taken) from None
        except UsageError:
            self._leave()
            raise
        except OSError as error:
            self.warn(error.strerror or str(error))
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._lock is None:
            return
        with suppress(OSError):
            if begins_with(self.state, _NOTHING) and not self.exist:
                self.state.unlink()
        self._lock.release(keep=self.exist and bool(self._lock.note))

    def warn(self, reason: str) -> None:
        """Says that the state cannot be saved, which is no reason to stop."""
        note(
            f"warning: cannot save the state {self.state}: {reason}; unless that changes, this "
            "command starts over when it is interrupted"
        )

    def check(self) -> None:
        """Raises if a file that would be written is something else's."""
        for path in self._heads if self._beside else [self.state]:
            if os.path.lexists(path) and not self._is_ours(path):
                raise self._foreign(path)

    def _is_ours(self, path: Path) -> bool:
        return begins_with(path, self._heads[path])

    def _foreign(self, path: Path) -> UsageError:
        if path == self.state:
            return UsageError(f"--state: {path} is not a radscore state; name another file")
        return UsageError(
            f"--state: {path}, which goes with it, exists and is not radscore's; name another file"
        )

    def _tidy(self) -> None:
        """Deletes what killed saves have left: the core's drafts end in six letters and .tmp."""
        remove_drafts(self.state)
        remove_drafts(self.rows)
        names = {path.name: head for path, head in self._heads.items() if path != self.rows}
        with os.scandir(self.state.absolute().parent) as entries:
            found = [
                (Path(entry.path), match[1])
                for entry in entries
                if (match := re.fullmatch(r"(.*)\.[A-Za-z0-9]{6}\.tmp", entry.name, re.DOTALL))
            ]
        for path, name in found:
            if name in names and begins_with(path, names[name]):
                path.unlink()

    def announce(self, out: str, draft: Path) -> None:
        """Leaves word of an output that is about to get its name.

        If the command is killed before its state is gone, it knows the output for its own.
        """
        if self._lock is not None:
            said = self._said()
            said[str(Path(out).absolute())] = digest_of(draft)
            with suppress(OSError):
                self._lock.leave(json.dumps(said).encode())

    def wrote(self, out: str) -> bool:
        """Whether an output is, unchanged, what the command that left the state wrote there."""
        digest = self._said().get(str(Path(out).absolute()))
        return digest is not None and not Path(out).is_symlink() and digest == digest_of(out)

    def _said(self) -> dict[str, Any]:
        try:
            said = json.loads((self._lock and self._lock.note) or b"{}")
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def discard(self) -> None:
        """Deletes the state and what goes with it."""
        for path in self._heads:
            if self._is_ours(path):
                path.unlink()
        if self._lock is not None:
            with suppress(OSError):
                self._lock.leave(b"")


def _locked(path: Path) -> Lock:
    """The lock, for which it waits a moment."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return Lock(path)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(_PAUSE)
