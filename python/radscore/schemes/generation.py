"""What a scheme says about writing its mark: which rule samples, and what its engine does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

__all__ = ["UNBOUNDED", "Engine", "Rule", "RuleName"]

#: The rules of `radscore.models.marking`: a bias for green tokens, Gumbel-max, a tournament.
RuleName: TypeAlias = Literal["bias", "gumbel", "tournament"]

#: More than any text has.
UNBOUNDED = 2**62


class Rule(Protocol):
    """Changes scores (logits or log-probabilities) of some rows, each after its context."""

    #: Whether the rule decides between tokens itself, and does not merely favour some.
    samples: bool

    def apply(self, scores: torch.Tensor, contexts: npt.NDArray[np.int64]) -> torch.Tensor:
        """The marked scores; `contexts` has the tokens that the scheme reads before the target."""
        ...


@dataclass(frozen=True)
class Engine:
    """What the engine that a scheme comes from does with contexts.

    Attributes
    ----------
    history : int
        A context that occurs among this many latest ones of the text is not marked again; 0: it is.
    distinct : int
        At most this many distinct contexts of a text are marked.
    reach_prompt : bool
        Whether the contexts of the first tokens reach into the prompt.
    fill : int or None
        The token that stands where there is none; None: such a position is not marked.
    over_prompt : bool
        Whether contexts of the prompt are among the latest ones; then only contexts of generated
        tokens alone are marked.
    """

    history: int = 0
    distinct: int = UNBOUNDED
    reach_prompt: bool = True
    fill: int | None = None
    over_prompt: bool = False
