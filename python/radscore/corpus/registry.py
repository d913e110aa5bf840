"""The formats there are: radscore's own, and those of other packages.

Another package adds a layout by an entry point of the group `radscore.formats` that names a
`Format` instance::

    [project.entry-points."radscore.formats"]
    ids = "my_package:FORMAT"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from radscore.corpus.format import Format
from radscore.errors import ArgumentError, line_of, near

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "GROUP",
    "all_formats",
    "broken_formats",
    "format_help",
    "format_named",
    "format_table",
    "register_format",
]

GROUP = "radscore.formats"
#: The modules of radscore's own formats, in the order in which they are listed and asked.
_BUILT_IN = (
    "jsonl",
    "parquet",
    "arrow",
    "npy",
    "npz",
    "bin",
    "megatron",
    "datatrove",
    "dolma",
    "llmc",
    "nanogpt",
    "mds",
    "litdata",
    "datasets",
    "csv",
    "tsv",
    "txt",
    "lines",
)
_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True)
class _Registry:
    """Formats by name, and why those of some packages could not be loaded."""

    formats: dict[str, Format]
    broken: dict[str, str]

    def add(self, found: Any) -> None:
        """Adds a format. Raises `ArgumentError` if it is none, or its name is taken."""
        if not isinstance(found, Format):
            raise ArgumentError(f"a format must be an instance of Format, not {found!r}")
        for word in ("name", "title", "files", "content", "documents"):
            if not isinstance(getattr(found, word, None), str):
                raise ArgumentError(f"{type(found).__name__} must set {word}")
        if not _NAME.fullmatch(found.name):
            raise ArgumentError(f"the name of a format must be like 'jsonl', not {found.name!r}")
        if self.formats.setdefault(found.name, found) != found:
            raise ArgumentError(f"there is already a format named {found.name!r}")


@cache
def _registry() -> _Registry:
    """All formats; loaded when they are first asked for. A broken package breaks no other."""
    registry = _Registry({}, {})
    for name in _BUILT_IN:
        registry.add(import_module(f"radscore.corpus.formats.{name}").FORMAT)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        try:
            registry.add(entry.load())
        except Exception as error:  # noqa: BLE001 - whatever another package raises
            registry.broken[entry.name] = _complaint(entry, error)
    return registry


def _complaint(entry: EntryPoint, error: Exception) -> str:
    package = "unknown" if entry.dist is None else entry.dist.name
    return (
        f"format {entry.name!r} of the package {package} cannot be loaded "
        f"({type(error).__name__}: {line_of(error)})"
    )


def register_format(new: Format) -> None:
    """Adds a format for this process; an entry point adds it for all.

    Worker processes receive the formats of the files they read, not the registration.

    Parameters
    ----------
    new : Format
        Of a class that can be imported by its name.

    Raises
    ------
    ArgumentError
        If it is not a format, or another format has its name.
    """
    _registry().add(new)


def all_formats() -> tuple[Format, ...]:
    """All formats; radscore's own come first."""
    return tuple(_registry().formats.values())


def broken_formats() -> tuple[str, ...]:
    """What is wrong with formats of other packages that cannot be loaded, one line each."""
    return tuple(_registry().broken.values())


def format_named(name: str) -> Format:
    """The format of a name.

    Raises
    ------
    ArgumentError
        If there is none, or it cannot be loaded.

    Examples
    --------
    >>> format_named("jsonl").title
    'JSON lines'
    """
    registry = _registry()
    found = registry.formats.get(name)
    if found is None:
        reason = registry.broken.get(name)
        names = ", ".join(registry.formats)
        raise ArgumentError(
            reason or f"format must be one of {names}, not {name!r}{near(name, registry.formats)}"
        )
    return found


def format_help() -> str:
    """The formats as --help lists them, one line each."""
    lines = [f"  {one.name:<11}{one.title} ({one.files.replace('`', '')})" for one in all_formats()]
    return "\n".join(["formats:", *lines, *(f"  {line}" for line in broken_formats())])


def format_table() -> str:
    """The formats as docs/corpora.md lists them, a table in Markdown."""
    rows = [
        (f"`{one.name}`", f"{one.title} ({one.files})", one.content, one.documents, one.remarks)
        for one in all_formats()
    ]
    head = ("format", "files", "what is read", "documents end", "notes")
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)
