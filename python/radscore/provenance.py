"""What made a result: `provenance` names the inputs, the scheme, the version and the command."""

from __future__ import annotations

import hashlib
import os
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from radscore import _core

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["COMMAND", "NAMES", "digest_of", "listed", "of_corpus", "provenance"]

#: The command that runs, set by the command line.
COMMAND: ContextVar[str | None] = ContextVar("COMMAND", default=None)
#: Where copies that were made here come from, by path: an address without secrets, or "-".
NAMES: Final[dict[str, str]] = {}

#: Up to so many bytes in all, files are hashed whole: more than that would take noticeable time.
_WHOLE: Final = 64 << 20
#: Beyond, only the ends of each file; and of more files than that, nothing.
_ENDS: Final = 64 << 10
_MOST_FILES: Final = 10_000
#: So many files are listed by name.
_LISTED: Final = 100
_HOW: Final = {
    "whole": "SHA-256 of each file",
    "ends": "SHA-256 of the first and the last 64 KiB of each file",
    "none": "SHA-256 of names, sizes and times only",
}


def provenance(
    *,
    files: Sequence[Mapping[str, Any]] | None = None,
    scheme: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """What made a result, JSON-able; it never holds a key.

    Parameters
    ----------
    files : sequence of mappings, optional
        The inputs, as `Corpus.manifest` lists them.
    scheme : Scheme, optional
        Its name and fingerprint are kept.
    more
        Whatever else made it, by name; what is None is left out.

    Examples
    --------
    >>> sorted(provenance(tokenizer="0123456789abcdef"))
    ['date', 'radscore', 'tokenizer']
    """
    made: dict[str, Any] = {
        "radscore": _core.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "command": COMMAND.get(),
        "inputs": None if files is None else _inputs(files),
        "scheme": None
        if scheme is None
        else {"name": scheme.name, "fingerprint": scheme.fingerprint},
        **more,
    }
    return {name: value for name, value in made.items() if value is not None}


def of_corpus(files: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a corpus, or a run of one, adds: its files, and how they were read."""
    reading = {name: value for name, value in settings.items() if value is not None}
    made = {"inputs": _inputs(files), "tokenizer": reading.pop("tokenizer", None)}
    return {name: one for name, one in made.items() if one is not None} | {"reading": reading}


def listed(paths: Sequence[str | os.PathLike[str]]) -> list[dict[str, Any]]:
    """Files as `Corpus.manifest` lists them; what is no file is left out."""
    found = []
    for path in paths:
        if os.path.isfile(path):  # noqa: PTH113 - a pipe would wait for more
            status = os.stat(path)  # noqa: PTH116
            entry = {"path": os.fspath(path), "size": status.st_size}
            found.append(entry | {"mtime_ns": status.st_mtime_ns})
    return found


def _inputs(files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number, size and hash of the inputs, and of each if they are few."""
    total = sum(max(0, int(one.get("size") or 0)) for one in files)
    how = "none" if len(files) > _MOST_FILES else "ends" if total > _WHOLE else "whole"
    shown: list[dict[str, Any]] = []
    every = hashlib.sha256()
    for one in files:
        path = str(one["path"])
        digest = None if how == "none" else digest_of(path, whole=how == "whole")
        entry = {"path": NAMES.get(path, path), "bytes": one.get("size"), "sha256": digest}
        name = path.rpartition("/")[2]
        own = digest or one.get("mtime_ns")
        every.update(f"{name}\0{entry['bytes']}\0{own}\n".encode(errors="surrogateescape"))
        if len(shown) < _LISTED:
            shown.append(entry)
    found = {"n_files": len(files), "bytes": total, "sha256": every.hexdigest(), "how": _HOW[how]}
    return found | {"files": shown}


def digest_of(path: str | os.PathLike[str], *, whole: bool = True) -> str | None:
    """The SHA-256 of a file, or of its ends; None if it cannot be read."""
    found = hashlib.sha256()
    if not os.path.isfile(path):  # noqa: PTH113 - a pipe would wait for more
        return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if whole:
                return hashlib.file_digest(file, "sha256").hexdigest()
            found.update(file.read(_ENDS))
            size = os.fstat(file.fileno()).st_size
            file.seek(max(_ENDS, size - _ENDS))
            found.update(file.read(_ENDS))
    except OSError:
        return None
    return found.hexdigest()
