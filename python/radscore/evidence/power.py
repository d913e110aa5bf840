"""Power before anything is asked: from the effects that a rehearsal measured.

z of a test is about normal with mean ``effect * sqrt(units)`` and variance 1; the effect grows with
the share of marked text that the suspect was trained on (interpolated between the shares rehearsed,
from 0 at share 0), and units grow with tokens as they did in the rehearsal.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from radscore.errors import ArgumentError, StateError
from radscore.rehearsal.effects import FORMAT, VERSION, needed_z

__all__ = ["Forecast", "Setting", "read_effects"]

#: What entries of one setting share; shares and suspects differ.
_SAME: Final = ("test", "setting", "weights", "against", "filter", "base", "mark", "supervision")


@dataclass(frozen=True)
class Forecast:
    """What a setting can do at one share.

    Attributes
    ----------
    effect, low, high : float
        Per unit, in standard deviations, with its 95 % interval (NaN with one suspect).
    tokens : float
        Read or answered, for the level with the power; infinite where the effect is not above 0.
    most, least : float
        The same at the ends of the interval.
    power : float
        With the tokens asked about; NaN if none were.
    """

    effect: float
    low: float
    high: float
    tokens: float
    most: float
    least: float
    power: float


@dataclass(frozen=True, eq=False)
class Setting:
    """A test that was rehearsed, over the shares at which it was.

    Attributes
    ----------
    name : str
    points : list of tuple
        Share, effect, and its interval's ends, by share; begins at share 0.
    units_per_token : float
    """

    name: str
    points: list[tuple[float, float, float, float]]
    units_per_token: float

    def effect(self, share: float) -> tuple[float, float, float]:
        """Effect and interval at a share.

        Raises
        ------
        ArgumentError
            If the share is beyond those rehearsed.
        """
        if not 0 < share <= self.points[-1][0]:
            raise ArgumentError(
                f"share must be above 0 and at most {self.points[-1][0]:g}, the largest that was "
                f"rehearsed, not {share:g}"
            )
        i = next(i for i, one in enumerate(self.points) if one[0] >= share)
        left, right = self.points[i - 1], self.points[i]
        part = (share - left[0]) / (right[0] - left[0])
        mean, low, high = (a + part * (b - a) for a, b in zip(left[1:], right[1:], strict=True))
        return mean, low, high

    def forecast(
        self, share: float, *, level: float, power: float, tokens: float | None = None
    ) -> Forecast:
        """What it takes to reach a level at a share, and the power with so many tokens."""
        from scipy import stats

        mean, low, high = self.effect(share)
        reached = math.nan
        if tokens is not None:
            shift = mean * math.sqrt(tokens * self.units_per_token)
            reached = float(stats.norm.sf(stats.norm.isf(level) - shift))
        tokens, most, least = (self._tokens(one, level, power) for one in (mean, low, high))
        return Forecast(mean, low, high, tokens, most, least, reached)

    def _tokens(self, effect: float, level: float, power: float) -> float:
        if math.isnan(effect):
            return math.nan
        if effect <= 0:
            return math.inf
        return (needed_z(level, power) / effect) ** 2 / self.units_per_token

    def least_share(self, tokens: float, *, level: float, power: float) -> float | None:
        """The least share that so many tokens show with the power; None beyond those rehearsed."""
        wanted = needed_z(level, power) / math.sqrt(tokens * self.units_per_token)
        for left, right in zip(self.points, self.points[1:], strict=False):
            if right[1] >= wanted:
                part = (wanted - left[1]) / (right[1] - left[1])
                return left[0] + max(part, 0.0) * (right[0] - left[0])
        return None


def read_effects(path: str | os.PathLike[str]) -> list[Setting]:
    """The valid settings of an ``effects.json``, the strongest at their largest share first.

    Raises
    ------
    StateError
        If the file is not one of a rehearsal.
    """
    location = os.fspath(path)
    try:
        content = json.loads(Path(path).read_bytes())
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(content["version"])  # noqa: TRY301 - caught below
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for entry in content["effects"]:
            if entry["valid"] and entry["share"] > 0:
                same = (*(entry[name] for name in _SAME), json.dumps(entry["training"]))
                groups.setdefault(same, []).append(entry)
        found = [_setting(entries) for entries in groups.values()]
    except OSError as error:
        raise StateError(f"{location}: {error.strerror or 'cannot be read'}") from None
    except (ValueError, KeyError, TypeError, RecursionError, ZeroDivisionError):
        raise StateError(f"{location}: not the effects.json of a rehearsal") from None
    return sorted(found, key=lambda one: -one.points[-1][1] * math.sqrt(one.units_per_token))


def _setting(entries: list[dict[str, Any]]) -> Setting:
    entries = sorted(entries, key=lambda one: one["share"])
    first = entries[0]
    against = "" if first["against"] is None else f" against {first['against']}"
    phi = "" if first["filter"] == "none" else f", filter {first['filter']}"
    name = f"{first['test']} {first['setting']}, {first['weights']}{against}{phi}"
    points = [(0.0, 0.0, 0.0, 0.0)]
    for one in entries:
        effect = one["effect"]
        low, high = (
            math.nan if effect[end] is None else float(effect[end]) for end in ("low", "high")
        )
        points.append((float(one["share"]), float(effect["mean"]), low, high))
    rate = sum(one["n_scored"] / one["n_tokens"] for one in entries) / len(entries)
    return Setting(name, points, rate)
