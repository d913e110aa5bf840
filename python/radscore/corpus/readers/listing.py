"""Folders whose files a JSON index lists."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import DamagedFileError, reading
from radscore.errors import CorpusError, line_of, shown

if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["listed_file", "path_in_folder", "read_index"]

#: Bytes of the longest name that a file can have.
_LONGEST = 255


def read_index(path: Path, *, required: bool) -> Any:
    """What an index holds; None if it is not JSON, unless it is `required` to be.

    Cached by the file's size and time, since every file that it lists asks for it.

    Raises
    ------
    DamagedFileError
        If it is required and damaged.
    """
    status = path.stat()
    try:
        return _json_of(path, status.st_size, status.st_mtime_ns)
    except DamagedFileError:
        if required:
            raise
        return None


@lru_cache(maxsize=8)
def _json_of(path: Path, size: int, mtime_ns: int) -> Any:  # noqa: ARG001 - part of the key
    with reading(path):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = line_of(error, 100)
        raise DamagedFileError(f"{path}: damaged index, not JSON: {reason}") from None


def listed_file(index: Path, name: Any) -> Path:
    """The file of an index's folder that the index names.

    Raises
    ------
    CorpusError
        If it does not exist, or would lie outside the folder.
    """
    path = path_in_folder(index, name)
    try:
        path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "which does not exist" if missing else f"but: {error.strerror}"
        shown = str(path.relative_to(index.parent))
        shown = shown if len(shown) <= 100 else f"{shown[:97]}..."
        raise CorpusError(f"{index}: lists {shown}, {reason}") from None
    return path


def path_in_folder(index: Path, name: Any) -> Path:
    """The path that an index means by a name.

    Raises
    ------
    CorpusError
        If it lies outside the folder of the index.
    """
    posix = PurePosixPath(name) if isinstance(name, str) else PurePosixPath()
    bad = re.search("[\0\ud800-\udfff]", str(posix))  # in no file's name
    long = any(len(os.fsencode(part)) > _LONGEST for part in posix.parts) if not bad else False
    if not posix.parts or ".." in posix.parts or posix.is_absolute() or bad or long:
        raise CorpusError(f"{index}: names a file {shown(name)}, which is not in its folder")
    return index.parent.joinpath(*posix.parts)
