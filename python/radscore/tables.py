"""Tables of a TOML file: which fields there may be, of which kind, and where they stand."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from radscore.errors import ArgumentError, SchemeError, near, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["Table", "as_list", "is_number", "is_whole", "made_of", "read_tables"]

T = TypeVar("T")


def read_tables(path: Path) -> dict[str, Any]:
    """What a TOML file holds.

    Raises
    ------
    ArgumentError
        If it is not valid; the message names file and line.
    OSError
        If it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{path}: not valid TOML: {error}") from None


@dataclass(frozen=True)
class Table:
    """A table of a plan, and how a message names it.

    Attributes
    ----------
    place : str
        The file, and within it the table: ``plan.toml: [data]``.
    values : Mapping
    """

    place: str
    values: Mapping[str, Any]

    def wrong(self, name: str, what: str) -> ArgumentError:
        """The error of one field."""
        return ArgumentError(f"{self.place} {name} {what}, not {shown(self.values.get(name))}")

    def check(self, known: Iterable[str]) -> None:
        """Raises if there is a field that is not known."""
        known = list(known)
        for name in self.values:
            if name not in known:
                hint = near(name, known)
                allowed = "" if hint else f"; there are {', '.join(known)}"
                raise ArgumentError(f"{self.place} has no field {shown(name)}{hint}{allowed}")

    def get(self, name: str, default: T, is_right: Callable[[Any], bool], what: str) -> Any | T:
        """A field, checked, or what it is by default."""
        if name not in self.values:
            return default
        if not is_right(self.values[name]):
            raise self.wrong(name, what)
        return self.values[name]

    def text(self, name: str, default: Any = None) -> Any:
        """A field that holds text."""
        return self.get(
            name, default, lambda one: isinstance(one, str) and one != "", "must be text"
        )

    def whole(self, name: str, default: Any, low: int, high: int) -> Any:
        """A field that holds an integer in a range."""
        words = f"must be an integer from {low:,} to {high:,}"
        return self.get(name, default, lambda one: is_whole(one) and low <= one <= high, words)

    def number(self, name: str, default: Any, low: float, high: float) -> Any:
        """A field that holds a number in a range."""
        words = f"must be a number from {low:g} to {high:g}"
        return self.get(name, default, lambda one: is_number(one) and low <= one <= high, words)

    def flag(self, name: str, *, default: bool) -> bool:
        """A field that holds true or false."""
        return bool(
            self.get(name, default, lambda one: isinstance(one, bool), "must be true or false")
        )

    def table(self, name: str) -> Table:
        """A table within this one; an empty one where there is none."""
        place = f"{self.place.partition('[')[0].rstrip()} [{self._path(name)}]"
        value = self.values.get(name, {})
        if not isinstance(value, Mapping):
            raise self.wrong(name, f"must be a table ([{self._path(name)}])")
        return Table(place, value)

    def _path(self, name: str) -> str:
        above = self.place.partition("[")[2].rstrip("]")
        return f"{above}.{name}" if above else name


def is_whole(value: Any) -> bool:
    """Whether a value is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_list(value: Any) -> list[Any]:
    """A list as it is, and anything else as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def made_of(kind: type[T], table: Table, /, **given: Any) -> T:
    """A dataclass of settings from a table; a field has the type of its default.

    Raises
    ------
    ArgumentError
        If a field is not known, of another type, or refused by the class itself.
    """
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    values = dict(table.values)
    for name, value in table.values.items():
        default = known[name].default if name in known else MISSING
        if isinstance(default, bool) and not isinstance(value, bool):
            raise table.wrong(name, "must be true or false")
        if isinstance(default, str) and not isinstance(value, str):
            raise table.wrong(name, "must be text")
        if isinstance(default, int) and not isinstance(default, bool) and not is_whole(value):
            raise table.wrong(name, "must be an integer")
        if isinstance(default, float):
            if not is_number(value):
                raise table.wrong(name, "must be a number")
            values[name] = float(value)
    try:
        return kind(**{**values, **given})
    except (ArgumentError, SchemeError) as error:
        raise ArgumentError(f"{table.place} {error}") from None
