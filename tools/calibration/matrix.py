"""Rows of the calibration: how often a route gives an innocent suspect a small p-value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from radscore.errors import TokenError
from scipy.stats import binomtest

from tools.calibration.routes import ROUTES, hidden_prompts, membership
from tools.calibration.world import World, schemes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["FULL", "LEVELS", "Row", "membership_row", "planted_row", "rows_of", "summary", "table"]

LEVELS = (0.05, 0.01, 0.001)
FULL = 400
_AGAIN = 1000  # keys at least
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Row:
    """One scheme, route and suspect, over random keys.

    Attributes
    ----------
    log10_pvalues : tuple of float
        One per key, NaN if there was none.
    """

    scheme: str
    route: str
    suspect: str
    log10_pvalues: tuple[float, ...]

    @property
    def given(self) -> list[float]:
        """The p-values that there are, as log10."""
        return [log10 for log10 in self.log10_pvalues if not math.isnan(log10)]

    def reached(self, level: float) -> int:
        """How many p-values are at or below a level."""
        return sum(log10 <= math.log10(level) + _ROUNDING for log10 in self.given)

    def limits(self, level: float, confidence: float = 0.95) -> tuple[float, float]:
        """Clopper and Pearson's limits for the share at or below a level."""
        if not self.given:
            return 0.0, 1.0
        found = binomtest(self.reached(level), len(self.given)).proportion_ci(confidence)
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
        none = len(self.log10_pvalues) - len(self.given)
        n_keys = str(len(self.log10_pvalues))
        found = [self.scheme, self.route, self.suspect, n_keys, str(none) if none else ""]
        for level in LEVELS:
            low, high = self.limits(level)
            share = self.reached(level) / max(len(self.given), 1)
            mark = " **" if self.is_above(level) else ""
            found.append(f"{share:.3f} [{low:.3f}, {high:.3f}]{mark}" if self.given else "")
        return found

    @property
    def line(self) -> str:
        """For a terminal."""
        return " | ".join(cell or "-" for cell in self.cells)


def _tried(route: Callable[[], float]) -> float:
    try:
        return route()
    except TokenError as error:
        if "nothing was scored" not in str(error):
            raise
        return math.nan


def rows_of(name: str, n_keys: int) -> list[Row]:
    """All rows of a scheme."""
    width = schemes()[name].window_width
    tried = [
        (route, suspect)
        for route, (_, suspects) in ROUTES.items()
        if width > 1 or "filter" not in route
        for suspect in suspects
    ]
    return [_confirmed(partial(_row, name, *one), n_keys) for one in tried]


def _row(name: str, route: str, suspect: str, n_keys: int) -> Row:
    """One row; with another number of keys, keys and texts are different ones."""
    scheme, run = schemes()[name], ROUTES[route][0]
    world = World(np.random.default_rng([list(ROUTES).index(route), len(suspect), n_keys]))
    keys = scheme.decoys(n_keys, seed=n_keys)
    found = tuple(_tried(partial(run, key, world, suspect)) for key in keys)
    return Row(name, route, suspect, found)


def _confirmed(row: Callable[[int], Row], n_keys: int) -> Row:
    """A row; if it is above a level, the same row with many more keys, which decides.

    Among hundreds of rows with limits of 95 %, some are above a level by chance.
    """
    first = row(n_keys)
    return row(max(_AGAIN, 5 * n_keys)) if first.is_wrong else first


def planted_row(name: str, n_keys: int) -> Row:
    """What a suspect does to a test that is not shown the marked prompts."""
    world = World(np.random.default_rng(n_keys))
    keys = schemes()[name].decoys(n_keys, seed=12)
    found = tuple(hidden_prompts(key, world, "copies") for key in keys)
    return Row(name, "marked prompts, hidden", "copies", found)


def membership_row(n_keys: int) -> list[Row]:
    """The membership test, which has no key: each draw takes new texts."""

    def row(n: int) -> Row:
        world = World(np.random.default_rng(n))
        found = tuple(membership(world) for _ in range(n))
        return Row("none", "membership", "continues", found)

    return [_confirmed(row, n_keys)]


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
        pooled = [log10 for row in those for log10 in row.log10_pvalues]
        all_of_them = Row("all", route, suspect, tuple(pooled))
        cells = all_of_them.cells[1:]
        for at, level in enumerate(LEVELS):
            if all_of_them.given:
                most = max(row.reached(level) / max(len(row.given), 1) for row in those)
                cells[4 + at] += f", at most {most:.3f}"
        lines.append(cells)
    return _markdown(["route", "suspect", "keys", "no p-value", *_SHARES], lines)
