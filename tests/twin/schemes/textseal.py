"""TextSeal: a linear form of the window, mixed, modulo 8191."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from hypothesis import strategies as st

from tests.twin.hashes import int64
from tests.twin.schemes.base import Kind, Scheme, Score, Window, exponential
from tests.twin.schemes.families import EXAMPLE_VOCAB, Family, any_vocab, register
from tests.twin.schemes.families import int64 as any_int64
from tests.twin.schemes.vllm import float32

if TYPE_CHECKING:
    from collections.abc import Hashable

    import radscore as rs

__all__ = ["TextSeal"]


@dataclass(frozen=True, kw_only=True)
class TextSeal(Scheme):
    """Section 5: a weighted sum, mixed, modulo 8191."""

    PRIMES: ClassVar[tuple[int, ...]] = (
        *(10000019, 10000247, 10000439, 10000643, 10000747),
        *(10000867, 10000993, 10001213, 10001357, 10001501),
    )

    key: int = field(repr=False)
    gamma: float = 0.5
    method: Literal["green", "gumbel"] = "green"

    @property
    def kind(self) -> Kind:
        return self.method

    @cached_property
    def n_green(self) -> int:
        """How many of the 8191 values are green: `ceil(8191 gamma)`, compared in float32."""
        return sum(float32(r / 8191) < float32(self.gamma) for r in range(8191))

    @property
    def share(self) -> Fraction | None:
        return Fraction(self.n_green, 8191) if self.method == "green" else None

    def unit(self, window: Window) -> int:
        """The weighted sum of context and target."""
        *context, target = window
        w = sum(p * c for p, c in zip(self.PRIMES, context, strict=False))
        return int64(w + 100000007 * target)

    def context_seed(self, window: Window) -> Hashable | None:
        """Contexts meet, by whatever targets, only where their sums leave the same remainder."""
        return sum(p * c for p, c in zip(self.PRIMES, window[:-1], strict=False)) % 100000007

    def value(self, window: Window) -> int:
        """One of 8191 values."""
        h = int64((self.unit(window) + 500001713 * self.key) * 15485863)
        h = int64(h * 40499)
        return (h ^ h >> 13) % 8191

    def score(self, window: Window) -> Score:
        """Green below gamma, or the Gumbel score."""
        r = self.value(window)
        return int(r < self.n_green) if self.method == "green" else exponential(r / 8191)


def _public(twin: TextSeal) -> rs.Scheme:
    from radscore.schemes import TextSeal as Public

    return Public(
        key=twin.key,
        vocab_size=twin.vocab_size,
        context_width=twin.context_width,
        gamma=twin.gamma,
        method=twin.method,
    )


register(
    "textseal",
    Family(
        scheme="textseal",
        twin=TextSeal,
        twins=st.builds(
            TextSeal,
            vocab_size=any_vocab,
            context_width=st.integers(1, 10),
            key=any_int64,
            gamma=st.one_of(st.floats(0.001, 0.999), st.sampled_from([k / 8191 for k in (1, 9)])),
            method=st.sampled_from(["green", "gumbel"]),
        ),
        examples=(
            TextSeal(vocab_size=EXAMPLE_VOCAB, key=-5, context_width=3, gamma=0.25),
            TextSeal(vocab_size=EXAMPLE_VOCAB, key=2**62, context_width=10, method="gumbel"),
        ),
        core=lambda twin: {
            "context_width": twin.context_width,
            "key": twin.key,
            "gamma": twin.gamma if twin.method == "green" else None,
        },
        public=_public,
        golden=("textseal",),
    ),
)
