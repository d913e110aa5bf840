"""Small files and folders of a run: there as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from typing import TYPE_CHECKING

from radscore.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_folder", "write_atomically"]


def write_atomically(path: Path, text: str) -> None:
    """Writes a small file so that it is there whole or not at all.

    Raises
    ------
    StorageError
        If the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from None


def make_folder(path: Path) -> None:
    """Makes a folder where there is none.

    Raises
    ------
    StorageError
        As of `write_atomically`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else error.strerror
    return StorageError(
        f"cannot write {path}: {reason}; what was finished is kept: the same again goes on"
    )
