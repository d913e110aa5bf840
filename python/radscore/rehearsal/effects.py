"""Effects: how strong each test is per unit of evidence, over keys and seeds.

A test's z grows with the root of the units that it scores, so ``z / sqrt(n_scored)`` is what a
setting is worth: the shift of one unit's weighted score, in standard deviations. `SCHEMA` says what
``effects.json`` holds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from radscore.rehearsal.plan import Cell

__all__ = ["FORMAT", "POWER", "SCHEMA", "VERSION", "effects_of", "interval", "needed", "needed_z"]

#: What the file says it is.
FORMAT: Final = "radscore effects"
#: Of the schema. Fields may come in; what is there keeps its meaning until this changes.
VERSION: Final = 1
#: What ``effects.json`` holds.
SCHEMA: Final = """\
format      "radscore effects"
version     1
plan, name  the plan's hash and name
level       the p-value that `needed` reaches
power       how often
effects     a list; each entry is one test of one setting, over its keys and seeds:
  test        "open", "closed"
  setting     which text was read ("supervised": Alice's records; "unsupervised": without a
              mark), or what the suspect showed ("text", or how many log-probabilities)
  weights     the weighting, as in the tests; "naive" counts repetitions and is not valid
  against     the reference: null, "base", "matched" (same recipe, unmarked) or "answers" (its)
  filter      "none", "supervised" or "unsupervised"
  base, mark  names in the plan; scheme: the mark's public parameters; delta: added to logits
  share       of Alice's records in what Bob trained on
  supervision the part of what Alice recorded that Bob used
  training    Bob's recipe
  n           suspects
  valid       whether the test has a p-value
  z           mean, sd, low, high (95 % interval of the mean by Student's t; null with one suspect)
  effect      the same of z / sqrt(n_scored)
  log10_pvalue  mean, and the worst of the suspects
  n_scored, n_tokens  means: units of evidence, and tokens read or answered for them
  needed      tokens (and answers) for `level` with `power`, at this effect and as many units per
              token; null where the effect's mean is not above 0. `times` is how often what was
              measured that is: far above 1 it is a guess, since units repeat as text grows
  curve       [n_tokens, mean log10 p] of the suspects, where the plan asks for it"""
#: How often the level is to be reached.
POWER: Final = 0.9


def interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, float | None]:
    """Mean, standard deviation and Student's interval of the mean.

    Examples
    --------
    >>> interval([1.0, 3.0])["mean"], interval([2.0])["low"]
    (2.0, None)
    """
    from scipy import stats

    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return {"mean": mean, "sd": None, "low": None, "high": None}
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def needed_z(level: float, power: float, *, bound: bool = False) -> float:
    """The mean that z must have, to exceed a level's quantile, or its bound's, with a power."""
    from scipy import stats

    least = math.sqrt(-2 * math.log(level)) if bound else stats.norm.isf(level)
    return float(least + stats.norm.ppf(power))


def needed(
    effect: float,
    n_scored: float,
    n_tokens: float,
    level: float,
    power: float = POWER,
    *,
    bound: bool = False,
) -> dict[str, float] | None:
    """Tokens that a test needs, at a known effect per unit.

    z is about normal with mean ``effect * sqrt(units)`` and variance 1, and must exceed the level's
    quantile with the given power; units grow with tokens as they did. If the p-value is a bound,
    about ``exp(-z**2 / 2)``, the quantile is that of the bound.

    Examples
    --------
    >>> round(needed(0.1, 1000, 2000, 1e-5)["tokens"])
    6153
    """
    if effect <= 0 or n_scored <= 0 or n_tokens <= 0:
        return None
    units = (needed_z(level, power, bound=bound) / effect) ** 2
    return {"tokens": units * n_tokens / n_scored, "times": units / n_scored}


#: What tells settings apart, besides the recipe.
_SETTING: Final = ("test", "setting", "weights", "against", "filter")


def effects_of(
    results: Iterable[tuple[Cell, Mapping[str, Any]]],
    *,
    schemes: Mapping[str, Any],
    level: float,
) -> list[dict[str, Any]]:
    """The entries of ``effects.json`` from every row of every cell.

    Parameters
    ----------
    results : iterable of (Cell, row)
        See `radscore.rehearsal.tests`; membership has no effects per unit.
    schemes : dict
        By name of the mark: its scheme, in public, and delta.
    level : float
        The p-value that `needed` reaches.
    """
    groups: dict[tuple[Any, ...], list[tuple[Cell, Mapping[str, Any]]]] = defaultdict(list)
    for cell, row in results:
        if row["test"] in {"open", "closed"}:
            setting = tuple(row[name] for name in _SETTING)
            groups[(*setting, *recipe_of(cell))].append((cell, row))
    return [
        entry for group in groups.values() if (entry := _entry(group, schemes, level)) is not None
    ]


def recipe_of(cell: Cell) -> tuple[Any, ...]:
    """All of a cell but its key and seed."""
    return tuple(getattr(cell, one.name) for one in fields(cell) if one.name not in {"key", "seed"})


def _entry(
    group: list[tuple[Cell, Mapping[str, Any]]],
    schemes: Mapping[str, Any],
    level: float,
) -> dict[str, Any] | None:
    cell, first = group[0]
    rows = [row for _, row in group if row["zscore"] is not None and row["n_scored"]]
    if not rows:
        return None
    z = [row["zscore"] for row in rows]
    effect = interval([row["zscore"] / math.sqrt(row["n_scored"]) for row in rows])
    n_scored = math.fsum(row["n_scored"] for row in rows) / len(rows)
    n_tokens = math.fsum(row["n_tokens"] for row in rows) / len(rows)
    assert effect["mean"] is not None
    valid = all(row["valid"] for row in rows)
    bound = any("bound" in (row["method"] or "") for row in rows)
    need = needed(effect["mean"], n_scored, n_tokens, level, bound=bound) if valid else None
    if need is not None and first["test"] == "closed":
        n_answers = math.fsum(row["n_answers"] for row in rows) / len(rows)
        need["answers"] = need["times"] * n_answers
    p = [row["log10_pvalue"] for row in rows if row["log10_pvalue"] is not None]
    return {
        **{name: first[name] for name in _SETTING},
        "base": cell.base,
        "mark": cell.mark,
        **schemes[cell.mark],
        "share": cell.share,
        "supervision": cell.supervision,
        "training": asdict(cell.training),
        "n": len(rows),
        "valid": valid,
        "z": interval(z),
        "effect": effect,
        "log10_pvalue": {"mean": math.fsum(p) / len(p), "worst": max(p)} if p else None,
        "n_scored": n_scored,
        "n_tokens": n_tokens,
        "needed": need,
        "curve": _curve(rows),
    }


def _curve(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Mean of log10 p after the same numbers of tokens."""
    points: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        for n_tokens, _, log10 in row["curve"]:
            if log10 is not None:
                points[n_tokens].append(log10)
    return [[n, math.fsum(some) / len(some)] for n, some in sorted(points.items())]
