"""What the tests of open and of closed models share: curves over tokens, and a note."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from radscore.documents import check_width
from radscore.errors import ModelError
from radscore.results import CurvePoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.schemes import Scheme
    from radscore.scoring.matched import MatchedScorer
    from radscore.scoring.scorer import Scorer

__all__ = ["NO_DECOYS", "Curve", "check_vocabulary", "curve_point", "spread_steps"]

NO_DECOYS: Final = (
    "no decoys: what was read, asked or filtered may depend on the tested key but not on theirs, "
    "so they would be no comparison"
)
_FIRST_STEP: Final = 64  # tokens
_SLACK: Final = 1.1  # how much larger than a model's the watermark's vocabulary may be


def check_vocabulary(scheme: Scheme, size: int, least: int, name: str = "model") -> None:
    """Raises `ModelError` unless a model's tokens can be the watermark's.

    Parameters
    ----------
    scheme : Scheme
        Its vocabulary is compared.
    size, least : int
        Tokens that the model predicts, and that its tokenizer has.
    name : str
        Which model, for the message.
    """
    most = int(_SLACK * max(size, least))
    if not least <= scheme.vocab_size <= most:
        raise ModelError(
            f"the scheme has a vocabulary of {scheme.vocab_size}, but the {name} predicts "
            f"{size} tokens: allowed are {least} (the tokenizer's own) to {most} (output layers "
            "are padded). It must be the vocabulary of the model that wrote the watermark"
            + ("; if that had another tokenizer, give it (tokenizer=)" if name == "model" else "")
        )


def curve_point(n_tokens: int, scorer: Scorer | MatchedScorer) -> CurvePoint:
    """The test of what a scorer holds, as the point after so many tokens."""
    if not scorer.tally().n_scored:
        return CurvePoint(n_tokens, 0, 0.0, math.nan)
    result = scorer.results(1)[0]
    return CurvePoint(n_tokens, result.n_scored, result.statistic, result.log10_pvalue)


def _steps(curve: int | Sequence[int]) -> int | list[int]:
    """A number of points, or the numbers of tokens themselves, in order."""
    if isinstance(curve, (int, np.integer)):
        return check_width("curve", int(curve), 0, 10_000)
    return sorted({check_width("curve", step, 1, 2**62) for step in curve})


def spread_steps(curve: int | Sequence[int], n_tokens: int) -> list[int]:
    """The numbers of tokens given, or that many, spread evenly in logarithm up to `n_tokens`."""
    steps = _steps(curve)
    if not isinstance(steps, int):
        return steps
    if not steps or not n_tokens:
        return []
    last = np.array([n_tokens])
    points = np.geomspace(max(n_tokens / 2.0**10, 1), n_tokens, steps) if steps > 1 else last
    return sorted({round(point) for point in points.tolist()})


class Curve:
    """Records a test at the numbers of tokens given, or at about so many points of a stream.

    The length of a stream is not known in advance: points lie close at first, and every second one
    is dropped whenever there are twice as many as wanted.

    Attributes
    ----------
    points : list of CurvePoint
        Those recorded so far, in order.
    number : int
        How many points are wanted; 0 if numbers of tokens were given.
    """

    def __init__(self, curve: int | Sequence[int]) -> None:
        self.points: list[CurvePoint] = []
        steps = _steps(curve)
        self.number = steps if isinstance(steps, int) else 0
        self._given = [] if isinstance(steps, int) else steps
        self._every = _FIRST_STEP

    @property
    def step(self) -> int | None:
        """The next number of tokens; None after the last."""
        if self.number:
            return (len(self.points) + 1) * self._every
        return self._given[len(self.points)] if len(self.points) < len(self._given) else None

    def add(self, point: CurvePoint) -> None:
        """Records the test at `step`."""
        self.points.append(point)
        if self.number and len(self.points) >= 2 * self.number:
            self._thin()

    def end(self, point: CurvePoint) -> None:
        """Records the test of everything."""
        while len(self.points) > self.number:
            self._thin()
        if not self.points or self.points[-1].n_tokens < point.n_tokens:
            self.points.append(point)

    def _thin(self) -> None:
        self.points = self.points[1::2]
        self._every *= 2
