"""Schemes that hash a window, and compare the hash or sample by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radscore.errors import SchemeError
from radscore.schemes.base import Scheme
from radscore.schemes.fields import choice, real

if TYPE_CHECKING:
    from radscore.stats.laws import NullLaw

__all__ = ["Threshold"]

_METHODS = ("green", "gumbel")


@dataclass(frozen=True, kw_only=True, repr=False)
class Threshold(Scheme):
    """A scheme that is either a green list or, by the same hash, Gumbel-max."""

    gamma: float | None
    method: str = "green"

    def _check(self) -> None:
        self._set("method", choice("method", self.method, _METHODS))
        if self.method == "gumbel":
            self._set("gamma", None)
        elif self.gamma is None:
            raise SchemeError("gamma must be given with method='green'")
        else:
            self._set("gamma", real("gamma", self.gamma))

    def _unused(self) -> frozenset[str]:
        return frozenset({"gamma"} if self.gamma is None else ())

    @property
    def null_law(self) -> NullLaw:
        """Binomial with the exact share of green values, or Gamma(n, 1)."""
        from radscore.stats.laws import BernoulliLaw, ExponentialLaw

        if self.method == "gumbel":
            return ExponentialLaw()
        return BernoulliLaw(self.share)
