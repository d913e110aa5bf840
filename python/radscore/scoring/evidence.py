"""From a scorer's sums to a result: which test applies, and what limits it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from radscore import _core
from radscore.checks import Dedup, PromptRole, check_choice, check_rules, check_start
from radscore.errors import ArgumentError, TokenError
from radscore.provenance import provenance
from radscore.results import CurvePoint, ScoreResult
from radscore.scoring.notes import (
    PUBLIC_KEY,
    filter_notes,
    notes_of,
    nothing_scored,
    prompt_notes,
    why_no_pvalue,
)
from radscore.scoring.residues import counted_test, weighed_test
from radscore.stats import SumResult, WeightedResult, sum_test
from radscore.stats.weighted import WeightedSum

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme
    from radscore.stats import NullLaw

__all__ = [
    "Combine",
    "Rules",
    "Tallied",
    "Units",
    "depth_weights",
    "empty_result",
    "score_result",
    "zscore_of",
]

Combine: TypeAlias = Literal["one", "sum"]


class Units:
    """The weighted units of one scheme, or of several that share them.

    Parameters
    ----------
    weights : ndarray of float64 or Stored, shape (n,)
        None is 0.
    groups : ndarray of uint64 or Stored, shape (n,), optional
        The group of each, within which scores are drawn without replacement.
    residues : ndarray of uint64, shape (n,), optional
        All different, where weights were added up by residue.
    folder : TemporaryDirectory, optional
        Where weights and groups are stored; it goes at the end of a ``with``.
    draws : int, optional
        Draws of importance sampling, as for `radscore.stats.weighted_test`.
    """

    def __init__(
        self,
        weights: Any,
        groups: Any = None,
        residues: Any = None,
        folder: TemporaryDirectory[str] | None = None,
        *,
        draws: int | None = None,
    ) -> None:
        self.weights, self.groups, self.residues = weights, groups, residues
        self._folder, self._draws = folder, draws
        self._sums: list[tuple[NullLaw, WeightedSum]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def sum_under(self, law: NullLaw, shape: tuple[int, int] | None) -> WeightedSum:
        """The law of their weighted sum; `shape` is that of a green list."""
        for known, found in self._sums:
            if known == law:
                return found
        if self.groups is None or shape is None:
            made = WeightedSum(self.weights, law, draws=self._draws)
        else:
            size, vocab = shape
            made = WeightedSum(
                self.weights,
                law,
                groups=self.groups,
                list_size=size,
                vocab_size=vocab,
                draws=self._draws,
            )
        self._sums.append((law, made))
        return made


@dataclass(frozen=True)
class Rules:
    """Which windows are evidence, and how equal units combine: see `radscore.Scorer`.

    Raises
    ------
    ArgumentError
        If a rule is not one of those allowed.
    """

    dedup: Dedup = "unit"
    combine: Combine = "one"
    prompt_role: PromptRole = "exclude"
    start: int | None = None
    filter: KgramSet | None = None
    predictable: bool = False
    saturation: float | None = None
    frequency: float | None = None

    def __post_init__(self) -> None:
        check_rules(self.dedup, self.prompt_role, self.filter)
        check_choice("combine", self.combine, get_args(Combine))
        object.__setattr__(self, "start", check_start(self.start))
        for name, value in self.damping.items():
            if self.combine != "sum":
                raise ArgumentError(f"{name}= has no effect without combine='sum'")
            if not isinstance(value, (int, float)) or not 1e-9 <= value <= 1e9:
                raise ArgumentError(f"{name} must be a number from 1e-9 to 1e9, not {value!r}")
            object.__setattr__(self, name, float(value))

    @property
    def damping(self) -> dict[str, float]:
        """What makes final weights smaller: those of `saturation` and `frequency` that are set."""
        found = {"saturation": self.saturation, "frequency": self.frequency}
        return {name: value for name, value in found.items() if value is not None}


def score_result(
    tally: _core.Tally,
    scheme: Scheme,
    rules: Rules,
    *,
    units: Units | None = None,
    curve: list[tuple[int, _core.Tally]] | None = None,
) -> ScoreResult:
    """The test of one scheme's sums.

    Parameters
    ----------
    tally : Tally
        The sums.
    scheme : Scheme
        What was tested for.
    rules : Rules
        The rules that the sums were made under.
    units : Units, optional
        The weighted units, where there are weights.
    curve : list of (int, Tally), optional
        The sums after some numbers of tokens.

    Raises
    ------
    TokenError
        If not a single window was scored.
    """
    if tally.n_scored == 0:
        raise TokenError(nothing_scored(tally, scheme, rules.start))
    test, statistic, notes = _test(tally, scheme, rules, units)
    weighted = test if isinstance(test, WeightedResult) and rules.dedup != "none" else None
    method = test.method
    if set(notes) - {PUBLIC_KEY}:
        method = f"approximate: {method}"
    assumed = prompt_notes(scheme, rules.prompt_role, tally.n_excluded)
    result = empty_result(tally, scheme, rules, method).replace(
        statistic=statistic,
        log10_pvalue=test.log10_pvalue,
        n_green=tally.n_green if scheme.core.score_kind == "green" and not weighted else None,
        expected=0.0 if isinstance(test, WeightedResult) else test.expected,
        zscore=test.zscore,
        notes=(*notes, *filter_notes(rules.filter), *assumed),
        curve=tuple(_point(n_tokens, then, scheme, rules) for n_tokens, then in curve or ()),
        weighted=weighted,
        provenance=provenance(scheme=scheme),
    )
    why = why_no_pvalue(rules.dedup, rules.filter)
    return result if why is None else result.without_pvalue(why)


class Tallied(Protocol):
    """What was read and scored, as `_core.Tally` has it."""

    n_scored: int
    n_documents: int
    n_short_documents: int
    n_tokens: int
    n_windows: int
    n_excluded: int
    n_filtered: int
    n_duplicates: int
    n_keyless: int


def empty_result(
    tally: _core.Tally | Tallied, scheme: Scheme, rules: Rules, method: str
) -> ScoreResult:
    """What was read, under which rules, without a test: `method` says why, or is filled in."""
    return ScoreResult(
        statistic=0.0,
        log10_pvalue=math.nan,
        n_scored=tally.n_scored,
        n_green=None,
        method=method,
        expected=0.0,
        zscore=math.nan,
        scheme=scheme.name,
        fingerprint=scheme.fingerprint,
        parameters=scheme.to_dict(),
        version=_core.__version__,
        dedup=rules.dedup,
        combine=rules.combine,
        saturation=rules.saturation,
        frequency=rules.frequency,
        start=rules.start,
        prompt_role=rules.prompt_role,
        filter=None if rules.filter is None else rules.filter.fingerprint,
        n_documents=tally.n_documents,
        n_short_documents=tally.n_short_documents,
        n_tokens=tally.n_tokens,
        n_windows=tally.n_windows,
        n_excluded=tally.n_excluded,
        n_filtered=tally.n_filtered,
        n_duplicates=tally.n_duplicates,
        n_keyless=tally.n_keyless,
    )


def _test(
    tally: _core.Tally, scheme: Scheme, rules: Rules, units: Units | None
) -> tuple[SumResult | WeightedResult, float, tuple[str, ...]]:
    """The test that applies, its statistic, and what limits it."""
    counted = scheme.core.residues > 0 and rules.dedup != "none" and not rules.predictable
    notes = notes_of(scheme, rules.dedup, counted=counted)
    if units is None:
        if rules.predictable:
            raise ArgumentError("predictable=True needs windows with weights")
        if counted:
            plain = counted_test(tally, scheme)
            return plain, plain.statistic, notes
        total = _statistic(tally, scheme)
        return sum_test(total, tally.n_scored, scheme.null_law), total, notes
    law = _weighted_law(scheme)
    total = tally.sum_weight_score - law.mean * tally.sum_weight
    if counted and units.residues is not None:
        return weighed_test(total, units.weights, units.residues, scheme), total, notes
    share = scheme.core.share
    weighted = units.sum_under(law, None if share is None else (int(share[0]), int(share[1])))
    if scheme.low_mean and weighted.has_negative:
        notes = (*notes, scheme.low_mean)
    return weighted.test(total, predictable=rules.predictable), total, notes


def _point(n_tokens: int, tally: _core.Tally, scheme: Scheme, rules: Rules) -> CurvePoint:
    """The test after so many tokens; weighted sums are shown without a p-value."""
    if tally.weighted or not tally.n_scored:
        return CurvePoint(n_tokens, tally.n_scored, tally.sum_weight_score, math.nan)
    total = _statistic(tally, scheme)
    log10_pvalue = math.nan
    if rules.dedup != "none" and scheme.core.residues:
        log10_pvalue = counted_test(tally, scheme).log10_pvalue
    elif rules.dedup != "none":
        log10_pvalue = float(scheme.null_law.log10_sf(total, tally.n_scored))
    return CurvePoint(n_tokens, tally.n_scored, total, log10_pvalue)


def zscore_of(tally: _core.Tally, scheme: Scheme) -> float:
    """The excess of the statistic over its mean, in standard deviations of independent scores."""
    if tally.weighted:
        law = _weighted_law(scheme)
        excess = tally.sum_weight_score - law.mean * tally.sum_weight
        return excess / math.sqrt(law.variance * tally.sum_weight_squared)
    law = scheme.null_law
    excess = _statistic(tally, scheme) - law.mean * tally.n_scored
    return excess / math.sqrt(law.variance * tally.n_scored)


def _statistic(tally: _core.Tally, scheme: Scheme) -> float:
    """The statistic of unweighted units: greens, a sum of scores, or of weighted g-values."""
    kind = scheme.core.score_kind
    if kind == "green":
        return tally.n_green
    if kind == "real":
        return tally.score_sum
    return math.fsum(depth_weights(scheme) * np.asarray(tally.depth_counts, dtype=np.float64))


def depth_weights(scheme: Scheme) -> npt.NDArray[np.float64]:
    """The weight of each depth's g-value in the score of a unit."""
    return np.array(scheme.weights)


def _weighted_law(scheme: Scheme) -> NullLaw:
    """The law of one unit's score where units carry weights, which average the g-values."""
    if len(set(scheme.weights)) > 1:
        raise ArgumentError("windows with weights need method='mean': they average the g-values")
    return scheme.null_law
