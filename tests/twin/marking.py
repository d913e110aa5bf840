"""What a key makes of a distribution, in readable Python: one context, some tokens."""

from __future__ import annotations

from math import exp, expm1, inf, log
from typing import TYPE_CHECKING

from tests.twin.schemes.vllm import VLLMDualKeyGumbel, vllm_uniform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.twin.schemes.base import Scheme, Window

__all__ = ["watermarked"]


def watermarked(
    scheme: Scheme, context: Window, tokens: Sequence[int], q: Sequence[float], delta: float
) -> list[float]:
    """The probabilities of `tokens` after generation's rule has changed q."""
    if not sum(q):
        return [0.0] * len(q)
    p = [one / sum(q) for one in q]
    windows = [(*context, token) for token in tokens]
    if isinstance(scheme, VLLMDualKeyGumbel):
        a, b = ([vllm_uniform(key, context, token) for token in tokens] for key in scheme.keys)
        first, second = _one_hot(_winner(q, a), len(q)), _one_hot(_winner(q, b), len(q))
        share = scheme.alpha
        return [(1 - share) * one + share * other for one, other in zip(first, second, strict=True)]
    scores = [scheme.score(window) for window in windows]
    if scheme.kind == "gumbel":
        uniforms = [-expm1(-score) for score in scores]  # type: ignore[operator]
        return _one_hot(_winner(q, uniforms), len(q))
    if scheme.kind == "green":
        grown = [one * exp(delta * score) for one, score in zip(p, scores, strict=True)]  # type: ignore[operator]
        return [one / sum(grown) for one in grown]
    for g in zip(*scores, strict=True):
        share = sum(one * bit for one, bit in zip(p, g, strict=True))
        p = [one * (1 + bit - share) for one, bit in zip(p, g, strict=True)]
    return p


def _winner(q: Sequence[float], uniforms: Sequence[float]) -> int:
    """The first of those with the least -ln(u) / q."""
    times = [
        (-log(u) if u > 0 else inf) / one if one else inf
        for one, u in zip(q, uniforms, strict=True)
    ]
    possible = [k for k, one in enumerate(q) if one]
    return min(possible, key=times.__getitem__)


def _one_hot(winner: int, n: int) -> list[float]:
    return [float(k == winner) for k in range(n)]
