"""Memory limits and the folders that hold what does not fit: ``"1GiB"``, ``"512 MB"``, bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError, shown
from radscore.files import own_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULT_MEMORY", "Budget", "budget_of", "folders_of", "parse_size"]

#: Memory of a step unless something else is asked for.
DEFAULT_MEMORY = "1GiB"
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_LEAST = 1 << 26
_TOO_MUCH = 1 << 62
#: Bytes a process needs beside its windows: libraries, tables, buffers, mapped input.
_OVERHEAD = 192 << 20
#: What the process may take beyond the limit, less what it needs without windows and records.
_SPARE = 94 << 20


def parse_size(value: Any, name: str = "memory") -> int:
    """Bytes, from a number or a text such as ``"1GiB"`` or ``"500MB"``.

    Examples
    --------
    >>> parse_size("1GiB"), parse_size("1.5 GB"), parse_size(4096)
    (1073741824, 1500000000, 4096)
    """
    size = -1.0
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        number, unit, binary = found.groups()
        power = " kmgt".index(unit.lower() or " ")
        size = float(number) * (1024 if binary else 1000) ** power
    if size < 0:
        raise ArgumentError(
            f"{name} must be a size like '1GiB' or a number of bytes, not {shown(value)}"
        )
    if size >= _TOO_MUCH:
        raise ArgumentError(f"{name} must be below {_TOO_MUCH >> 40}TiB, not {shown(value)}")
    return int(size)


@dataclass(frozen=True)
class Budget:
    """A memory limit. Windows may take most of it; the rest is for working on them."""

    memory: int

    @property
    def windows(self) -> int:
        """Bytes of windows that may be held at once."""
        return max(self.memory // 2, self.memory - _OVERHEAD)

    @property
    def half(self) -> int:
        """Half of it, for one of two; no limit is less than 64 MiB."""
        return max(_LEAST, self.memory // 2)

    def beside(self, record: int | None) -> int:
        """The same while records of a corpus are read that may take so many bytes, if they may."""
        if record is None:
            return self.windows
        return min(self.windows, max(self.memory // 4, self.memory + _SPARE - record))


def budget_of(memory: Any) -> Budget:
    """The budget of a limit.

    Raises
    ------
    ArgumentError
        If it is not a size, or below 64 MiB.
    """
    size = parse_size(memory)
    if size < _LEAST:
        raise ArgumentError(f"memory must be at least 64MiB, not {memory!r}")
    return Budget(size)


def folders_of(tmp: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """The folders for files of windows: one, several, or this user's own in the system's.

    Raises
    ------
    ArgumentError
        If one of them does not exist.
    StorageError
        If the system's temporary folder holds one of that name that is not this user's.
    """
    if tmp is None:
        return [own_folder()]
    folders = [Path(tmp)] if isinstance(tmp, (str, Path)) else [Path(one) for one in tmp]
    if not folders:
        raise ArgumentError("tmp names no folder")
    for folder in folders:
        if not folder.is_dir():
            raise ArgumentError(f"tmp must name folders: there is no folder {folder}")
    return folders
