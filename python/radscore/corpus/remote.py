"""What is not in a local file: standard input, and files that fsspec reaches.

Both are copied into a temporary folder and read from there, so that every format, index and pattern
works as it does for local files. Copies of remote files stay there, and are used again while the
remote file has not changed, so that an interrupted command can be continued.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from radscore.corpus.base import InputOptionError
from radscore.errors import CorpusError, StorageError, line_of, without_secrets
from radscore.extras import need
from radscore.files import Draft, own_folder
from radscore.provenance import NAMES

__all__ = ["STANDARD_INPUT", "is_remote", "local_path", "named"]

#: What stands for standard input.
STANDARD_INPUT: Final = "-"
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: What of a file's information tells, beside its size, that it has changed.
_TELLING: Final = frozenset(
    ("ETag", "LastModified", "blob_id", "created", "etag", "generation", "last_modified", "mtime")
)
_PATTERN: Final = re.compile(r"[*?\[]")


def is_remote(path: str) -> bool:
    """Whether a path is standard input or an address, rather than a local file."""
    return path == STANDARD_INPUT or _URL.match(path) is not None


def local_path(path: str) -> str:
    """The local copy of standard input or of the files at an address; other paths as they are.

    Raises
    ------
    CorpusError
        If the address cannot be reached, or there is nothing.
    """
    if path == STANDARD_INPUT:
        return _standard_input()
    return _fetched(path) if is_remote(path) else path


def named(path: Path) -> str:
    """The name by which a user knows a file: not that of a copy of it that was made here."""
    return NAMES.get(str(path), str(path))


def _standard_input() -> str:
    """A copy of standard input; the same one each time."""
    global _COPY  # noqa: PLW0603 - it can be read only once
    if _COPY is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise InputOptionError("-: standard input is a terminal; pipe a file into the command")
        folder = tempfile.mkdtemp(prefix="radscore-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        copy = Path(folder, "stdin")
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        except OSError as error:
            raise StorageError(
                f"standard input cannot be copied to {folder} ({error.strerror}); write it to a "
                "file, or name another folder in TMPDIR"
            ) from None
        _COPY = str(copy)
        NAMES[_COPY] = STANDARD_INPUT
    return _COPY


_COPY: str | None = None


def _fetched(url: str) -> str:
    """A local copy of the files at an address: a file, or a folder of those that it names."""
    found = _URL.match(url)
    assert found is not None
    protocol = found[1].lower()
    if protocol == "file":
        return url[found.end() :]
    shown = without_secrets(url)
    need("fsspec", what=f"{shown}: reading {protocol}://")
    import fsspec  # type: ignore[import-untyped]

    try:
        system, root = fsspec.core.url_to_fs(url)
        files = _files(system, root)
        folder = own_folder() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:16]
        copies = []
        for name, local in sorted(files.items()):
            address = _address(protocol, name)
            copies.append(_copied(system, name, folder, local, address))
            NAMES[str(copies[-1])] = address
        _forget(folder / "files", set(copies))
    except (CorpusError, StorageError):
        raise
    except FileNotFoundError:
        raise InputOptionError(f"{shown}: no such file or folder") from None
    except Exception as error:  # noqa: BLE001 - whatever a file system raises
        raise CorpusError(f"{shown}: {without_secrets(line_of(error))}") from None
    if not files:
        raise InputOptionError(f"{shown}: there is no file")
    return str(copies[0] if root in files else folder / "files")


def _address(protocol: str, name: str) -> str:
    """The address of a file, without secrets."""
    return without_secrets(name if _URL.match(name) else f"{protocol}://{name}")


def _forget(folder: Path, copies: set[Path]) -> None:
    """Deletes copies of what is no longer there."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in copies and not path.name.endswith(".tmp"):
            path.unlink(missing_ok=True)


def _files(system: Any, root: str) -> dict[str, str]:
    """The files that a path or pattern names, and what each is called beside the others."""
    pattern = _PATTERN.search(root)
    if pattern is not None:
        base = root[: pattern.start()].rpartition("/")[0]
        names = [str(name) for name in system.glob(root) if not system.isdir(name)]
    elif system.isdir(root):
        base, names = root.rstrip("/"), [str(name) for name in system.find(root)]
    else:
        return {root: root.rpartition("/")[2]}
    return {name: name[len(base) :].lstrip("/") for name in names}


def _copied(system: Any, name: str, folder: Path, local: str, url: str) -> Path:
    """The copy of a file, made unless it is there already and the file has not changed."""
    parts = Path(local).parts
    if not parts or any(part in ("..", "/") for part in parts):
        raise CorpusError(f"{url}: the name cannot be that of a local file")
    path, stamp = folder / "files" / local, folder / "stamps" / f"{local}.json"
    info = system.info(name)
    known = {key: str(info[key]) for key in sorted(_TELLING & set(info))}
    known["size"] = str(info.get("size"))
    try:
        if len(known) > 1 and path.is_file() and json.loads(stamp.read_text()) == known:
            return path
    except (OSError, ValueError, RecursionError):
        pass
    try:
        for one in (path, stamp):
            one.parent.mkdir(parents=True, exist_ok=True)
        draft = Draft(path)
        try:
            system.get_file(name, str(draft.temporary))
            draft.publish()
        finally:
            draft.discard()
        stamp.write_text(json.dumps(known))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise StorageError(
            f"{url} cannot be copied to {folder}: {error.strerror or error}; name another folder "
            "in TMPDIR"
        ) from None
    return path
