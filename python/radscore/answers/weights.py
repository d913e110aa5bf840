"""Weights of windows, from how often they occur; none of them depends on the key.

Let the suspect say a target with probability `p exp(e s) / Z`, where p is what a model without the
watermark would do after a context and s the watermark's score. To first order the evidence about s
lies in the *excess* `a - n_a p` of the target's occurrences over the expected number. A reference's
answers estimate p, with an error that weights should allow for: after a context that the reference
has hardly met, an excess says little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.answers.grouping import Floats, WindowCounts

__all__ = ["CONTRASTS", "COUNTS", "DEFAULT_CONTRAST", "DEFAULT_COUNT", "weigh"]

Weights: TypeAlias = "Callable[[WindowCounts, float], Floats]"

#: How many occurrences in the reference's answers the shorter contexts count as.
_PRIOR = 1.0
#: The tendency e that "posterior" assumes.
_TENDENCY = 1.0


def _difference(counts: WindowCounts, gamma: float) -> Floats:
    """`a - b n_a / n_b`: the excess over the reference; 0 if that never met the context."""
    del gamma
    met = counts.n_b > 0
    expected = counts.b * counts.n_a / np.where(met, counts.n_b, 1.0)
    return np.where(met, counts.a - expected, 0.0)


def _balanced(counts: WindowCounts, gamma: float) -> Floats:
    """`(a n_b - b n_a) / (n_a + n_b)`, Mantel and Haenszel's: the excess over both models' mean.

    The score test of one tendency over all contexts: an excess counts less, the less often the
    reference has met the context.
    """
    del gamma
    return (counts.a * counts.n_b - counts.b * counts.n_a) / (counts.n_a + counts.n_b)


def _smoothed(counts: WindowCounts, gamma: float) -> Floats:
    """`balanced`, with shorter contexts as one more occurrence in the reference."""
    del gamma
    b, n_b = counts.b + _PRIOR * counts.share, counts.n_b + _PRIOR
    return np.asarray((counts.a * n_b - b * counts.n_a) / (counts.n_a + n_b))


def _adaptive(counts: WindowCounts, gamma: float) -> Floats:
    """`smoothed / (1 + t I)`: I is the excess's variance by chance, t the variance between models.

    No reference is quite what the suspect would be without the watermark. The log ratio of the two
    models' probabilities varies for other reasons too, with a variance t that makes the excess of
    frequent windows larger than by chance (overdispersion); t is estimated from all excesses
    together. With a matched reference it is near 0, and this is `smoothed`.
    """
    total = counts.n_a + counts.n_b
    both = counts.n_a * counts.n_b / total
    part = (counts.a + counts.b) / total
    chance = part * (1.0 - part) * both
    squares = float((chance * chance).sum())
    spread = float((_balanced(counts, gamma) ** 2 - chance).sum()) / squares if squares else 0.0
    n_b = counts.n_b + _PRIOR
    part = (counts.a + counts.b + _PRIOR * counts.share) / (counts.n_a + n_b)
    variance = part * counts.n_a * n_b / (counts.n_a + n_b)
    return np.asarray(_smoothed(counts, gamma) / (1.0 + max(spread, 0.0) * variance))


def _posterior(counts: WindowCounts, gamma: float) -> Floats:
    """How far the counts move the belief that the target is green from gamma, the prior.

    Given their sum, the target's occurrences in both models are binomial, and a green target has
    odds larger by `exp(e)`. A few very frequent windows cannot outweigh all others.
    """
    b, n_b = counts.b + _PRIOR * counts.share, counts.n_b + _PRIOR
    mine = counts.n_a / (counts.n_a + n_b)
    # scores are centred, as Z does: e (1 - gamma) if green, -e gamma if red
    up, down = np.exp(_TENDENCY * (1 - gamma)), np.exp(-_TENDENCY * gamma)
    together = counts.a + b
    odds = counts.a * _TENDENCY - together * (
        np.log1p((up - 1) * mine) - np.log1p((down - 1) * mine)
    )
    return _belief(odds, gamma)


def _belief(odds: Floats, gamma: float) -> Floats:
    """How a log likelihood ratio changes a belief gamma."""
    prior = np.log(gamma) - np.log1p(-gamma)
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(odds + prior, -500, 500))) - gamma)


def _count(counts: WindowCounts, gamma: float) -> Floats:
    """`a`."""
    del gamma
    return counts.a


def _root(counts: WindowCounts, gamma: float) -> Floats:
    """The square root of `a`."""
    del gamma
    return np.sqrt(counts.a)


def _log(counts: WindowCounts, gamma: float) -> Floats:
    """`log(1 + a)`."""
    del gamma
    return np.log1p(counts.a)


def _fraction(counts: WindowCounts, gamma: float) -> Floats:
    """`a / n_a`: the weights of a context's targets add up to 1."""
    del gamma
    return counts.a / np.maximum(counts.n_a, 1.0)


def _excess(counts: WindowCounts, gamma: float) -> Floats:
    """`a - n_a p`, where p is what shorter contexts in the suspect's own answers say."""
    del gamma
    return counts.a - counts.n_a * counts.share


def _scaled(counts: WindowCounts, gamma: float) -> Floats:
    """The same in standard deviations, `(a - n_a p) / sqrt(n_a p)`, clipped to 2."""
    del gamma
    expected = counts.n_a * counts.share
    return np.clip((counts.a - expected) / np.sqrt(np.maximum(expected, 0.1)), -2.0, 2.0)


#: Weights from the suspect's answers alone, by name.
COUNTS: dict[str, Weights] = {
    "count": _count,
    "root": _root,
    "log": _log,
    "fraction": _fraction,
    "excess": _excess,
    "scaled": _scaled,
}
#: Weights from the suspect's and a reference's answers, by name.
CONTRASTS: dict[str, Weights] = {
    "difference": _difference,
    "balanced": _balanced,
    "smoothed": _smoothed,
    "adaptive": _adaptive,
    "posterior": _posterior,
}
#: The strongest on trained models (experiments/RESULTS.md).
DEFAULT_COUNT = "log"
DEFAULT_CONTRAST = "smoothed"


def weigh(counts: WindowCounts, transform: str, *, contrast: bool, gamma: float) -> Floats:
    """The weight of each distinct window, under the named rule."""
    known = CONTRASTS if contrast else COUNTS
    if transform not in known:
        raise ArgumentError(f"transform must be one of {', '.join(known)}, not {transform!r}")
    return known[transform](counts, gamma)
