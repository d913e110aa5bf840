"""Sizes of memory: ``"1GiB"``, ``"512 MB"``, or bytes; and what a limit is divided into."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Budget", "budget_of", "folders_of", "parse_size"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_LEAST = 1 << 26
#: Bytes of a process beside its windows: libraries, tables, buffers, what is mapped of the input.
_BESIDE = 192 << 20


def parse_size(value: Any, name: str = "memory") -> int:
    """Bytes of a number or of a text as ``"1GiB"``, ``"500MB"``.

    Examples
    --------
    >>> parse_size("1GiB"), parse_size("1.5 GB"), parse_size(4096)
    (1073741824, 1500000000, 4096)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ArgumentError(
            f"{name} must be a size like '1GiB' or a number of bytes, not {value!r}"
        )
    number, unit, binary = found.groups()
    power = " kmgt".index(unit.lower() or " ")
    return int(float(number) * (1024 if binary else 1000) ** power)


@dataclass(frozen=True)
class Budget:
    """A memory limit, of which windows may fill most; the rest is for what is done with them."""

    memory: int

    @property
    def windows(self) -> int:
        """Bytes of windows that are held at once."""
        return max(self.memory // 2, self.memory - _BESIDE)


def budget_of(memory: Any) -> Budget:
    """The budget of a limit.

    Raises
    ------
    ArgumentError
        If it is no size, or below 64 MiB.
    """
    size = parse_size(memory)
    if size < _LEAST:
        raise ArgumentError(f"memory must be at least 64MiB, not {memory!r}")
    return Budget(size)


def folders_of(tmp: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """The folders for files of windows: one, several, or the system's for temporary files."""
    if tmp is None:
        return [Path(tempfile.gettempdir())]
    folders = [Path(tmp)] if isinstance(tmp, (str, Path)) else [Path(one) for one in tmp]
    if not folders:
        raise ArgumentError("tmp names no folder")
    for folder in folders:
        if not folder.is_dir():
            raise ArgumentError(f"tmp: there is no folder {folder}")
    return folders
