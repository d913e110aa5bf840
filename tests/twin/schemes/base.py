"""What every twin has: what a window's unit, seed and score are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Hashable
    from fractions import Fraction

__all__ = ["MASK32", "PADDING", "Gumbel", "Kind", "Scheme", "Score", "Window", "exponential"]

Window = tuple[int, ...]
Score = int | float | tuple[float, ...]
Kind = Literal["green", "gumbel", "depths"]

#: The token that stands for "no token" left of a text.
PADDING = -1

MASK32 = 0xFFFF_FFFF


@dataclass(frozen=True, kw_only=True)
class Scheme(ABC):
    """A keyed scheme."""

    vocab_size: int
    context_width: int
    #: What may stand left of a text's first token, if anything.
    padding: ClassVar[int | None] = None
    #: Whether the prompt stands there when text is marked; if not, `padding` does.
    reaches_prompt: ClassVar[bool] = True

    @property
    def window_width(self) -> int:
        """Tokens in a window, the target included."""
        return self.context_width + 1

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What a score is."""

    @property
    def share(self) -> Fraction | None:
        """The exact probability of a green or a g-value of 1 under H0; None for real scores."""
        return None

    @abstractmethod
    def score(self, window: Window) -> Score:
        """The score of a window."""

    def unit(self, window: Window) -> Hashable:
        """What the random function reads of a window: the window itself, unless overridden."""
        return window

    @property
    def least_own(self) -> int:
        """How many of a context's last tokens can fix the seed, whatever stands before them.

        `context_seed` and `unit` then take windows of which only so many tokens are known.
        """
        return self.window_width - 1

    def context_seed(self, window: Window) -> Hashable | None:
        """What the random function reads of the context; None where that needs the target."""
        return window[:-1]

    def shares_draws(self, seed: Hashable, other: Hashable) -> bool:
        """Whether windows of these seeds can have one unit."""
        return seed == other

    @property
    def counts_residues(self) -> bool:
        """Whether windows count once each, since the law of the sum is known for any units."""
        return False

    def keyless(self, window: Window) -> bool:
        """Whether the random draw may not depend on the key, so that it is no evidence."""
        del window
        return False

    def scores(self, context: Window) -> list[Score]:
        """The score of every vocabulary entry after a context."""
        return [self.score((*context, t)) for t in range(self.vocab_size)]


def exponential(u: float) -> float:
    """The Gumbel score of a uniform: Exp(1) under H0."""
    return -log(1.0 - u)


@dataclass(frozen=True, kw_only=True)
class Gumbel(Scheme):
    """A scheme whose score is `-ln(1 - u)` of a uniform u."""

    @property
    def kind(self) -> Kind:
        return "gumbel"

    @abstractmethod
    def uniform(self, window: Window) -> float:
        """The uniform of the target after its context."""

    def score(self, window: Window) -> float:
        """Exp(1) under H0."""
        return exponential(self.uniform(window))
