"""Writing files so that each is there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from radscore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Draft", "drafted", "make_folder", "own_folder", "write_atomically"]


class Draft:
    """A file that is written under a temporary name beside its own.

    Nothing stands under the file's own name until `publish`, which leaves either the old file or
    the whole new one, whatever happens. A draft that a killed process left behind can be deleted.

    Attributes
    ----------
    path : Path
        The file to be.
    temporary : Path
        Where to write until then: in the same folder, hidden, ending in ``.tmp``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")

    def publish(self, path: Path | None = None) -> None:
        """Flushes the draft to the disk and renames it to `path`, by default its own."""
        descriptor = os.open(self.temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.temporary.replace(self.path if path is None else path)

    def discard(self) -> None:
        """Deletes the draft if it is still there; safe to call at any time."""
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """The temporary file to write instead of `path`, which it replaces unless the block raises.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`.
    """
    draft = Draft(path)
    try:
        yield draft.temporary
        draft.publish()
    except OSError as error:
        draft.discard()
        reason = (error.strerror or str(error)).replace(str(draft.temporary), str(path))
        raise OSError(error.errno, reason, str(path)) from None
    except BaseException:
        draft.discard()
        raise


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small file of a run, in one step.

    Raises
    ------
    StorageError
        If the disk is full or the folder is not writable.
    """
    try:
        with drafted(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise _cannot_write(path, error) from None


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, unless it exists.

    Raises
    ------
    StorageError
        As for `write_atomically`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else error.strerror
    return StorageError(
        f"cannot write {path}: {reason}; finished work is kept, so run the same again to continue"
    )


def own_folder() -> Path:
    """A folder that only this user can use: others write to the system's temporary folder too.

    Raises
    ------
    StorageError
        If there is one of that name that is not this user's.
    """
    folder = Path(tempfile.gettempdir(), f"radscore-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StorageError(f"{folder} belongs to another user; name a folder with tmp=, or another one in TMPDIR")
    return folder
