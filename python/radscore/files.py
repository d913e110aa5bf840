"""Writing files: each is there whole or not at all, and nobody else's is touched.

Names that are made up here (drafts, locks) may be anybody's already. So files are created anew
(never through a link), and only what begins as ours do, or is named as only ours are, is deleted.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from radscore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Draft",
    "Lock",
    "begins_with",
    "create",
    "drafted",
    "is_draft",
    "is_pointer",
    "lock_open",
    "make_folder",
    "own_folder",
    "remove_drafts",
    "sync_folder",
    "write_atomically",
]

#: How a file begins that Git LFS has not replaced by what it stands for.
_POINTER = b"version https://git-lfs.github.com/spec/"
_DRAFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.tmp", re.DOTALL)
#: How a lock's file begins.
_LOCK = b"radscore lock\n"
#: What `flock` says where another process has the lock; anything else means there are no locks.
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)


def is_pointer(path: Path) -> bool:
    """Whether a file only points to one in Git LFS, which was never fetched."""
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


class Draft:
    """A file that is written under a temporary name beside its own.

    Nothing stands under the file's own name until `publish`, which leaves either the old file or
    the whole new one, whatever happens. What a killed process left behind `remove_drafts` deletes;
    drafts that are being written are locked, and stay.

    Attributes
    ----------
    path : Path
        The file to be.
    temporary : Path
        Where to write until then: in the same folder, hidden, ending in ``.tmp``. It is there
        already, and empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        self._fd: int | None = create(self.temporary)
        with suppress(OSError):
            _flock(self._fd)

    def publish(self, path: Path | None = None, *, replace: bool = True) -> None:
        """Puts the draft on the disk and gives it the name `path`, by default its own.

        Raises
        ------
        FileExistsError
            If there is such a file and it may not be replaced.
        """
        target = self.path if path is None else path
        descriptor = os.open(self.temporary, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if replace:
            self.temporary.replace(target)
        else:
            self._link(target)
        sync_folder(target.parent)
        self.discard()

    def _link(self, target: Path) -> None:
        """Names the draft `target`, which must not exist, in one step where links are to be had."""
        try:
            os.link(self.temporary, target, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            self.temporary.replace(target)

    def discard(self) -> None:
        """Deletes the draft if it is still there; safe to call at any time."""
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def create(path: Path) -> int:
    """Creates a file that must not exist, not even as a link; its descriptor."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.open(path, flags, 0o666)


def append(descriptor: int, data: bytes) -> None:
    """Adds to a file all or nothing; on the disk on return."""
    end, left = os.fstat(descriptor).st_size, memoryview(data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, end)
        raise
    os.fsync(descriptor)


def is_draft(name: str) -> bool:
    """Whether a file has a name that only drafts have."""
    return _DRAFT.fullmatch(name) is not None


def remove_drafts(path: Path) -> None:
    """Deletes the drafts of a file that nobody is writing any more."""
    with suppress(OSError), os.scandir(path.absolute().parent) as entries:
        for entry in entries:
            found = _DRAFT.fullmatch(entry.name)
            if found is None or found["name"] != path.name:
                continue
            with suppress(OSError):
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    if stat.S_ISREG(os.fstat(descriptor).st_mode):
                        _flock(descriptor)
                        os.unlink(entry.path)  # noqa: PTH108
                finally:
                    os.close(descriptor)


@contextmanager
def drafted(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """The temporary file to write instead of `path`, which it becomes unless the block raises.

    Raises
    ------
    OSError
        If the file cannot be written, or exists and may not be replaced; it names `path`.
    """
    draft: Draft | None = None
    try:
        draft = Draft(path)
        yield draft.temporary
        draft.publish(replace=replace)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError):
            reason = "it has come into being meanwhile, and is not replaced"
        if draft is not None:
            draft.discard()
            reason = reason.replace(str(draft.temporary), str(path))
        if error.errno is None:  # it names the file itself
            raise OSError(reason) from None
        raise OSError(error.errno, reason, str(path)) from None
    except BaseException:
        if draft is not None:
            draft.discard()
        raise


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def begins_with(path: Path, head: bytes) -> bool:
    """Whether there is a file, and not a link to one, that begins so."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and file.read(len(head)) == head


class Lock:
    """Keeps other processes on this machine from the same work: `flock` on a small file.

    It ends with the process, however that ends; a file that is left behind locks nothing. Where
    the file system has no such locks (some network file systems) it keeps nobody out.

    Parameters
    ----------
    path : Path
        The file, which is made if needed, and deleted by `release`.

    Raises
    ------
    BlockingIOError
        If another process has the lock.
    FileExistsError
        If the file is not a lock of radscore; a link never is.
    OSError
        If the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            self._fd = self._open()
            try:
                lock_open(self._fd)
                if self._stands():  # else it was deleted meanwhile
                    break
            except BaseException:
                os.close(self._fd)
                raise
            os.close(self._fd)
        if not self._content():
            with suppress(OSError):  # a full disk keeps nobody from locking
                os.pwrite(self._fd, _LOCK, 0)

    def _open(self) -> int:
        foreign = FileExistsError(
            errno.EEXIST, "exists already, and is not a lock of radscore", str(self.path)
        )
        try:
            descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666
            )
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                raise foreign from None
            raise
        head = b""
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if regular:
            head = os.pread(descriptor, len(_LOCK), 0)
        if not regular or head != _LOCK[: len(head)]:
            os.close(descriptor)
            raise foreign
        return descriptor

    def _stands(self) -> bool:
        with suppress(OSError):
            return os.path.samestat(os.lstat(self.path), os.fstat(self._fd))
        return False

    def _content(self) -> bytes:
        return os.pread(self._fd, 1 << 16, 0)

    @property
    def note(self) -> bytes:
        """What a holder of the lock has left there."""
        return self._content()[len(_LOCK) :]

    def leave(self, note: bytes) -> None:
        """Leaves a note for whoever has the lock next; on the disk on return."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, _LOCK + note, 0)
        os.fsync(self._fd)

    def release(self, *, keep: bool = False) -> None:
        """Ends the lock; its file is deleted unless it is kept, for its note."""
        if not keep and self._stands():
            with suppress(OSError):
                self.path.unlink()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _flock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_open(descriptor: int) -> None:
    """Locks an open file, where the file system has locks.

    Raises
    ------
    BlockingIOError
        If another process has the lock.
    """
    try:
        _flock(descriptor)
    except OSError as error:
        if error.errno in _TAKEN:
            raise BlockingIOError(errno.EWOULDBLOCK, "is locked") from None


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
    with suppress(FileExistsError):  # a file, which is refused below
        folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StorageError(
            f"{folder} belongs to another user; name a folder with tmp=, or another one in TMPDIR"
        )
    return folder
