"""The folders of a run: sealed when they are made, and emptied of a run's own files alone.

A folder that the run names itself (``shards``, ``buckets``) may be there already, and another's. So
each holds a seal from the beginning, a small file that says it is a run's. A folder with something
in it and no seal is refused. Deleting a run deletes what has the names of its files in sealed
folders, and a folder only if the run made it and nothing else is left in it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from radscore.errors import StorageError
from radscore.files import begins_with, drafted, is_draft, make_folder, remove_drafts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

__all__ = ["begin", "claim", "empty", "is_left", "is_ours", "remove_left"]

SEAL = ".radscore"
_SEAL = b"radscore run\n"
_MADE = b"made\n"
_UNIQUE = r"\d+-[0-9a-f]{16}-\d+"
#: What the core adds to the name of a file that it is writing.
_WRITING = r"\.[A-Za-z0-9]{6}\.tmp"
#: Files of a run, and what killed steps leave of them.
_FILES = re.compile(
    rf"shard-\d{{6,}}\.(rsw|done)|(windows|units)-\d{{5,}}(\.json|\.\d+\.{_UNIQUE}\.rsx)"
    r"|filter\.rkg"
)
_LEFT = re.compile(
    rf"(shard-\d{{6,}}\.rsw|radscore-{_UNIQUE}\.rsw|(windows|units)-\d{{5,}}\.\d+\.{_UNIQUE}\.rsx"
    rf"|filter\.rkg){_WRITING}"
    rf"|shard-\d{{6,}}\.[0-9a-f]{{32}}\.\d+\.piece({_WRITING})?|radscore-{_UNIQUE}\.rsw"
)


def is_left(name: str) -> bool:
    """Whether a file is one that a killed step left behind."""
    return _LEFT.fullmatch(name) is not None or is_draft(name)


def is_ours(name: str) -> bool:
    """Whether a file is a run's."""
    return _FILES.fullmatch(name) is not None or is_left(name)


def begin(folder: Path, *, named: bool = True) -> None:
    """Makes a folder that others may use too, and seals it if it was not there.

    Where it was not `named` but its name follows from the corpus, no link may stand for it.

    Raises
    ------
    StorageError
        If one does, or the folder cannot be made.
    """
    if not named and folder.is_symlink():
        raise StorageError(f"{folder} is a link, so not the folder of a run; delete it")
    there = folder.exists()
    make_folder(folder)
    # An empty one of a name of ours is of a command that was killed before it had a seal, or when
    # it had taken the seal away.
    if not there or not (named or any(map(_is_foreign, os.listdir(folder)))):  # noqa: PTH208
        _seal(folder, made=True)


def claim(folder: Path) -> None:
    """Makes a folder for a run alone, or takes the one that a run has sealed, or that is empty.

    Raises
    ------
    StorageError
        If it is another's, or cannot be made.
    """
    if begins_with(folder / SEAL, _SEAL) and not folder.is_symlink():
        return
    made = not os.path.lexists(folder)
    if made:
        make_folder(folder)
    if folder.is_symlink() or not folder.is_dir() or any(map(_is_foreign, os.listdir(folder))):  # noqa: PTH208
        raise StorageError(
            f"{folder} exists already, and is not of a run of radscore, which would keep its files "
            "there; use another folder"
        )
    # An empty one in a folder that the run made is of a step that was killed before it had a seal.
    _seal(folder, made=made or begins_with(folder.parent / SEAL, _SEAL + _MADE))


def _is_foreign(name: str) -> bool:
    return name != SEAL and not is_draft(name)


def _seal(folder: Path, *, made: bool) -> None:
    with suppress(FileExistsError):  # another step has just done it
        try:
            with drafted(folder / SEAL, replace=False) as temporary:
                temporary.write_bytes(_SEAL + _MADE if made else _SEAL)
        except FileExistsError:
            raise
        except OSError as error:
            if made:
                with suppress(OSError):
                    folder.rmdir()
            raise StorageError(f"cannot write to {folder}: {error.strerror}") from None


def remove_left(folder: Path, keep: Collection[str] = ()) -> None:
    """Deletes what killed steps have left in a sealed folder."""
    if not folder.is_symlink() and begins_with(folder / SEAL, _SEAL):
        for name in os.listdir(folder):  # noqa: PTH208
            if name not in keep and (is_left(name) or (name.endswith(".rsx") and is_ours(name))):
                (folder / name).unlink(missing_ok=True)


def empty(folder: Path, which: Callable[[str], bool], *, unseal: bool = False) -> None:
    """Deletes those files in a sealed folder, and the folder if the run made it and it is empty.

    Where something else is left in it, the seal stays too, unless it is to go.
    """
    seal = folder / SEAL
    if folder.is_symlink() or not begins_with(seal, _SEAL):
        return
    for name in os.listdir(folder):  # noqa: PTH208
        path = folder / name
        if which(name) and (path.is_file() or path.is_symlink()):
            path.unlink(missing_ok=True)
    remove_drafts(seal)
    made = begins_with(seal, _SEAL + _MADE)
    if unseal or os.listdir(folder) == [SEAL]:  # noqa: PTH208
        seal.unlink(missing_ok=True)
        if made:
            with suppress(OSError):
                folder.rmdir()
