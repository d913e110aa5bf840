"""The parts of the calibration: each gives the rows of one scheme, or of one suspect under it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from radscore.errors import TokenError

from tools.calibration.answered import marked_answers, unmarked_answers
from tools.calibration.readings import contaminated_readings, marked_readings, unmarked_readings
from tools.calibration.routes import ROUTES, hidden_prompts, membership
from tools.calibration.rows import Row
from tools.calibration.world import SUSPECTS, World, schemes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SECTIONS", "Part", "made", "membership_row", "parts", "planted_row", "rows_of"]

_AGAIN: Final = 1000  # keys at least
#: What costs much is run for many keys under these.
_THOROUGH: Final = ("Keyed", "VLLMGumbel")
#: Sections of answers and readings: what makes the rows of a scheme and a suspect.
_BY_SUSPECT: Final[dict[str, Callable[..., list[Row]]]] = {
    "unmarked answers": unmarked_answers,
    "marked answers": marked_answers,
    "unmarked readings": unmarked_readings,
    "marked readings": marked_readings,
    "contaminated readings": contaminated_readings,
}
#: The whole.
SECTIONS: Final = (*_BY_SUSPECT, "routes", "membership")


@dataclass(frozen=True)
class Part:
    """Rows that are made together, of one scheme and perhaps one suspect."""

    section: str
    scheme: str
    suspect: str
    n_keys: int

    @property
    def name(self) -> str:
        """What a file of finished parts calls it."""
        return f"{self.section}: {self.scheme}: {self.suspect}: {self.n_keys}"


def parts(section: str, n_keys: int, many: int) -> list[Part]:
    """The parts of a section; `many` keys under two schemes, or as many with all suspects."""
    if section == "membership":
        return [Part(section, "none", "continues", n_keys)]
    if section == "routes":
        return [Part(section, name, "all", n_keys) for name in schemes()]
    suspects = ("continues",) if section == "contaminated readings" else SUSPECTS
    most = many if section.startswith("unmarked") else many // len(SUSPECTS)
    return [
        Part(section, name, suspect, most if name in _THOROUGH else n_keys)
        for name in sorted(schemes(), key=lambda name: name not in _THOROUGH)
        for suspect in suspects
    ]


def made(part: Part) -> list[Row]:
    """The rows of a part; of one above a level the same with many more keys, which decides.

    Among hundreds of rows with limits of 95 %, some are above a level by chance.
    """
    rows = _rows(part, part.n_keys)
    more = max(_AGAIN, 4 * part.n_keys)
    return [_rows(part, more, row)[0] if row.is_wrong else row for row in rows]


def _rows(part: Part, n_keys: int, one: Row | None = None) -> list[Row]:
    """The rows of a part, or one of them, with so many keys."""
    if part.section == "membership":
        return membership_row(n_keys)
    if part.section == "routes":
        only = None if one is None else (one.route, one.suspect)
        return rows_of(part.scheme, n_keys, only)
    how = None if one is None else [one.route.rpartition(", ")[0]]
    return _BY_SUSPECT[part.section](part.scheme, part.suspect, n_keys, how)


def _tried(route: Callable[[], float]) -> float:
    try:
        return route()
    except TokenError as error:
        if "nothing was scored" not in str(error):
            raise
        return math.nan


def rows_of(name: str, n_keys: int, only: tuple[str, str] | None = None) -> list[Row]:
    """All rows of a scheme, or that of one route and suspect."""
    width = schemes()[name].window_width
    tried = [
        (route, suspect)
        for route, (_, suspects) in ROUTES.items()
        if width > 1 or "filter" not in route
        for suspect in suspects
    ]
    return [_row(name, *one, n_keys) for one in tried if only in {None, one}]


def _row(name: str, route: str, suspect: str, n_keys: int) -> Row:
    """One row; with another number of keys, keys and texts are different ones."""
    scheme, run = schemes()[name], ROUTES[route][0]
    world = World(np.random.default_rng([list(ROUTES).index(route), len(suspect), n_keys]))
    keys = scheme.decoys(n_keys, seed=n_keys)
    found = tuple(_tried(partial(run, key, world, suspect)) for key in keys)
    return Row.of(name, route, suspect, found)


def planted_row(name: str, n_keys: int) -> Row:
    """What a suspect does to a test that is not shown the marked prompts."""
    world = World(np.random.default_rng(n_keys))
    keys = schemes()[name].decoys(n_keys, seed=12)
    found = tuple(hidden_prompts(key, world, "copies") for key in keys)
    return Row.of(name, "marked prompts, hidden", "copies", found)


def membership_row(n_keys: int) -> list[Row]:
    """The membership test, which has no key: each draw takes new texts."""
    world = World(np.random.default_rng(n_keys))
    found = tuple(membership(world) for _ in range(n_keys))
    return [Row.of("none", "membership", "continues", found)]
