"""What a scorer's sums say, and what limits it: statistics, laws of weighted units, notes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError, TokenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore import _core
    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme
    from radscore.scoring.scorer import Scorer
    from radscore.stats import DecoyResult, NullLaw

__all__ = [
    "PUBLIC_KEY",
    "decoy_test",
    "depends_on_key",
    "depth_weights",
    "falls_below_mean",
    "filter_notes",
    "filter_reason",
    "is_usable",
    "list_shape",
    "notes_of",
    "nothing_scored",
    "prompt_notes",
    "statistic_of",
    "weighted_law",
]

_SHARED_UNITS = (
    "under this scheme different {what}s can share one random draw, or have one that does not "
    "depend on the key, so dedup='{dedup}' counts what is no evidence of its own and the p-value "
    "is approximate; dedup='unit' leaves it out"
)
PUBLIC_KEY = (
    "the key is the public constant that a tool uses by default: text that anybody marked with "
    "that tool will score. And no key was drawn at random, so the p-value is this key's rank among "
    "all keys and not a frequency: texts in one language share units, and so the luck of the key, "
    "and a second corpus confirms nothing"
)
_CONTEXT_PROMPTS = (
    "contexts reach into the prompts: valid if the prompts do not carry the tested watermark, or "
    "the documents do not repeat them"
)
_SALTED_PROMPTS = (
    "assumes that the prompts do not carry the tested watermark: under this scheme no seed is "
    "known before the target, and only the units that prompts show were excluded"
)
_FILTER_OF_KEY = "the filter may depend on the key"
_NO_FILTER = (
    "there is no valid p-value: the filter is {}, and which contexts a watermarked text has "
    "depends on the key; make it from unmarked text (watermarked=False, --unmarked), or "
    "test a model's answers with test_closed (radscore test closed)"
)
_NO_RULE = (
    "dedup='none' counts repetitions as new evidence; there is no valid p-value (see dedup='unit')"
)


def statistic_of(scheme: Scheme, n_green: int, score_sum: float, depths: Sequence[int]) -> float:
    """The statistic of unweighted units: greens, a sum of scores, or of weighted g-values."""
    kind = scheme.core.score_kind
    if kind == "green":
        return n_green
    if kind == "real":
        return score_sum
    return math.fsum(depth_weights(scheme) * np.asarray(depths, dtype=np.float64))


def depth_weights(scheme: Scheme) -> npt.NDArray[np.float64]:
    """What the g-value of each depth weighs in the score of a unit."""
    return np.array(scheme.weights)


def weighted_law(scheme: Scheme) -> NullLaw:
    """The law of one unit's score where units carry weights: there g-values are averaged."""
    if len(set(scheme.weights)) > 1:
        raise ArgumentError("windows with weights need method='mean': they average the g-values")
    return scheme.null_law


def list_shape(scheme: Scheme, groups: npt.NDArray[np.uint64] | None) -> dict[str, Any]:
    """What `weighted_test` needs to know of scores that are drawn without replacement."""
    share = scheme.core.share
    if groups is None or share is None:
        return {}
    return {"groups": groups, "list_size": int(share[0]), "vocab_size": int(share[1])}


def notes_of(
    scheme: Scheme, dedup: str, *, key: bool = True, counted: bool = False
) -> tuple[str, ...]:
    """What limits the validity of a p-value of this scheme under a rule.

    `counted`: the p-value is that of the law over keys for the windows as they are.
    """
    notes = []
    if dedup == "none":
        notes.append(_NO_RULE)
    elif dedup != "unit" and not scheme.core.unit_is_window and not counted:
        notes.append(_SHARED_UNITS.format(what=dedup, dedup=dedup))
    if scheme.dependence and not counted:
        notes.append(f"the p-value is approximate: {scheme.dependence}")
    if key and scheme.has_public_key:
        notes.append(PUBLIC_KEY)
    return tuple(notes)


def prompt_notes(scheme: Scheme, prompt_role: str, n_excluded: int) -> tuple[str, ...]:
    """What a p-value assumes of prompts; `n_excluded` windows show that there were some."""
    if prompt_role == "context":
        return (_CONTEXT_PROMPTS,)
    return (_SALTED_PROMPTS,) if n_excluded and scheme.seed_kind == "target" else ()


def depends_on_key(phi: KgramSet | None) -> bool:
    """Whether a filter was, or may have been, made from text with the tested watermark."""
    return phi is not None and phi.origin.may_depend_on_key


def is_usable(phi: KgramSet | None, scheme: Scheme) -> bool:
    """Whether a model's answers behind a filter have a valid p-value."""
    if phi is None or not depends_on_key(phi):
        return True
    return scheme.tells_marked_seeds and phi.origin.is_whole


def filter_reason(phi: KgramSet | None) -> str | None:
    """In a few words, why a filter leaves no p-value; None where there is one."""
    return _FILTER_OF_KEY if filter_notes(phi) else None


def filter_notes(phi: KgramSet | None) -> tuple[str, ...]:
    """Why a filter leaves no p-value, where it does."""
    if phi is None or not phi.origin.may_depend_on_key:
        return ()
    return (_NO_FILTER.format(phi.origin.words),)


def falls_below_mean(scheme: Scheme, weights: npt.NDArray[np.float64]) -> bool:
    """Whether weights below 0 meet a law whose true mean is lower than the law says."""
    return bool(scheme.low_mean) and bool((weights < 0).any())


def nothing_scored(scheme: Scheme, tally: _core.Tally, start: int | None) -> str:
    """Why there is nothing to test."""
    if tally.n_windows == 0:
        if tally.n_documents == 0:
            return "nothing was scored: there are no documents"
        if start is not None and start >= scheme.window_width:
            return f"nothing was scored: no document reaches start {start}"
        if start == 0 or (start is None and scheme.first_position == 0):
            return "nothing was scored: the documents hold no tokens"
        least = scheme.window_width if start is None else start + 1
        those = f"all {tally.n_documents} documents are"
        return (
            f"nothing was scored: {'the only document is' if tally.n_documents == 1 else those} "
            f"shorter than the {least} tokens of a window"
        )
    return (
        f"nothing was scored: of {tally.n_windows} windows {tally.n_excluded} were excluded by "
        f"prompts, {tally.n_filtered} removed by the filter, {tally.n_zero_weight} have weight 0, "
        f"{tally.n_keyless} do not depend on the key"
    )


def decoy_test(scorer: Scorer) -> DecoyResult:
    """The p-value of a scorer's first scheme against its other schemes, taken as decoy keys.

    Parameters
    ----------
    scorer : Scorer
        Made with ``[scheme, *scheme.decoys(n, seed=...)]``; everything must have been added.
    """
    from radscore.stats import DecoyResult
    from radscore.stats import decoy_test as test

    if filter_notes(scorer.filter):
        return DecoyResult.withheld()
    first, *decoys = scorer.schemes
    kin = all(decoy.to_dict() == first.to_dict() for decoy in decoys)
    distinct = len({scheme.fingerprint for scheme in scorer.schemes}) == len(scorer.schemes)
    if not (decoys and kin and distinct):
        raise ArgumentError(
            "a decoy test needs a scorer of one scheme under different keys: "
            "[scheme, *scheme.decoys(n)]"
        )
    scores = []
    for scheme, tally in zip(scorer.schemes, scorer.tallies(), strict=True):
        if tally.n_scored == 0:
            raise TokenError(nothing_scored(scheme, tally, scorer.start))
        if tally.weighted:
            law = weighted_law(scheme)
            excess = tally.sum_weight_score - law.mean * tally.sum_weight
            scores.append(excess / math.sqrt(law.variance * tally.sum_weight_squared))
        else:
            law = scheme.null_law
            total = statistic_of(scheme, tally.n_green, tally.score_sum, tally.depth_counts)
            excess = total - law.mean * tally.n_scored
            scores.append(excess / math.sqrt(law.variance * tally.n_scored))
    return test(scores[0], scores[1:])
