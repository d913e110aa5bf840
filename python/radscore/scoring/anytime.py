"""E-values of scored text, for corpora that arrive while one looks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from radscore.errors import ArgumentError
from radscore.scoring.notes import why_no_pvalue
from radscore.stats.anytime import EFFECT, EProcess, anytime_test

if TYPE_CHECKING:
    from radscore.kgrams import KgramSet
    from radscore.results import ScoreResult
    from radscore.schemes import Scheme

__all__ = ["check_anytime", "with_anytime"]


def check_anytime(
    anytime: bool | float, scheme: Scheme, dedup: str, filter: KgramSet | None
) -> float | None:
    """The planned effect, or None if no e-value is asked for.

    Raises
    ------
    ArgumentError
        If there is no e-value for such a scheme or rule, or the effect is not above 0.
    """
    if anytime is False:
        return None
    effect = EFFECT if anytime is True else float(anytime)
    if scheme.core.residues:
        raise ArgumentError(
            f"there is no e-value for {scheme.name} with a table: all windows read it at one place "
            "per depth, so a new window is no new draw; test a corpus once, at its end"
        )
    if (why := why_no_pvalue(dedup, filter)) is not None:
        raise ArgumentError(f"there is no e-value either where there is no p-value: {why}")
    EProcess(scheme.null_law, effect)
    return effect


def with_anytime(result: ScoreResult, scheme: Scheme, effect: float | None) -> ScoreResult:
    """The result with its e-value, if asked for; every point of its curve is a look."""
    if effect is None or math.isnan(result.log10_pvalue):
        return result
    looks = [(point.statistic, point.n_scored) for point in result.curve if point.n_scored]
    sums, numbers = zip(*looks, (result.statistic, result.n_scored), strict=True)
    found = anytime_test(
        sums, numbers, scheme.null_law, effect=effect, lists=scheme.core.share is not None
    )
    return result.replace(anytime=found)
