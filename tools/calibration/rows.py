"""Rows of the calibration: how often a route gives an innocent suspect a small p-value."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from scipy.stats import binomtest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["LEVELS", "Finished", "Row", "summary", "table"]

LEVELS = (0.05, 0.01, 0.001)
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Row:
    """One scheme, route and suspect, over random keys.

    Attributes
    ----------
    n_keys, n_given : int
        Keys, and how many of them got a p-value.
    n_reached : tuple of int
        How many p-values are at or below each of `LEVELS`.
    """

    scheme: str
    route: str
    suspect: str
    n_keys: int
    n_given: int
    n_reached: tuple[int, ...]

    @classmethod
    def of(cls, scheme: str, route: str, suspect: str, log10_pvalues: Iterable[float]) -> Self:
        """From the p-value of each key, as log10; NaN where there was none."""
        found = list(log10_pvalues)
        given = [log10 for log10 in found if not math.isnan(log10)]
        reached = tuple(
            sum(log10 <= math.log10(level) + _ROUNDING for log10 in given) for level in LEVELS
        )
        return cls(scheme, route, suspect, len(found), len(given), reached)

    def reached(self, level: float) -> int:
        """How many p-values are at or below a level."""
        return self.n_reached[LEVELS.index(level)]

    def share(self, level: float) -> float:
        """The same as a share of the p-values that there are."""
        return self.reached(level) / max(self.n_given, 1)

    def limits(self, level: float, confidence: float = 0.95) -> tuple[float, float]:
        """Clopper and Pearson's limits for the share at or below a level."""
        if not self.n_given:
            return 0.0, 1.0
        found = binomtest(self.reached(level), self.n_given).proportion_ci(confidence)
        return float(found.low), float(found.high)

    def is_above(self, level: float, confidence: float = 0.95) -> bool:
        """Whether significantly more than the level are at or below it."""
        return self.limits(level, confidence)[0] > level

    @property
    def is_wrong(self) -> bool:
        """Whether any level is exceeded."""
        return any(self.is_above(level) for level in LEVELS)

    @property
    def cells(self) -> list[str]:
        """For the table."""
        none = self.n_keys - self.n_given
        found = [self.scheme, self.route, self.suspect, str(self.n_keys), str(none) if none else ""]
        for level in LEVELS:
            low, high = self.limits(level)
            mark = " **" if self.is_above(level) else ""
            cell = f"{self.share(level):.3f} [{low:.3f}, {high:.3f}]{mark}"
            found.append(cell if self.n_given else "")
        return found

    @property
    def line(self) -> str:
        """For a terminal."""
        return " | ".join(cell or "-" for cell in self.cells)


class Finished:
    """Rows of finished parts in a file, so that an interrupted run goes on where it was.

    Parameters
    ----------
    path : Path
        One line of JSON for each part.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.parts: dict[str, list[Row]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                part, rows = json.loads(line)
                self.parts[part] = [Row(**{**r, "n_reached": tuple(r["n_reached"])}) for r in rows]

    def add(self, part: str, rows: list[Row]) -> None:
        """Takes a finished part."""
        self.parts[part] = rows
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps([part, [asdict(row) for row in rows]]) + "\n")


def _markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(head)
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


_SHARES = [f"at {level:g}" for level in LEVELS]


def table(rows: list[Row]) -> str:
    """Every row, in Markdown."""
    head = ["scheme", "route", "suspect", "keys", "no p-value", *_SHARES]
    return _markdown(head, [row.cells for row in rows])


def summary(rows: list[Row]) -> str:
    """All schemes together, per route and suspect, with the largest share of any scheme."""
    lines = []
    for route, suspect in dict.fromkeys((row.route, row.suspect) for row in rows):
        those = [row for row in rows if (row.route, row.suspect) == (route, suspect)]
        n_reached = tuple(map(sum, zip(*(row.n_reached for row in those), strict=True)))
        n_keys, n_given = (sum(getattr(row, n) for row in those) for n in ("n_keys", "n_given"))
        all_of_them = Row("all", route, suspect, n_keys, n_given, n_reached)
        cells = all_of_them.cells[1:]
        for at, level in enumerate(LEVELS):
            if n_given:
                most = max(row.share(level) for row in those)
                cells[4 + at] += f", at most {most:.3f}"
        lines.append(cells)
    return _markdown(["route", "suspect", "keys", "no p-value", *_SHARES], lines)
