"""radscore's own scheme: SipHash-2-4 of the whole window."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, ClassVar, Literal

from hypothesis import strategies as st

from tests.twin.hashes import siphash24
from tests.twin.schemes.base import Kind, Scheme, Score, Window, exponential
from tests.twin.schemes.families import EXAMPLE_VOCAB, Family, any_vocab, any_width, register, share

if TYPE_CHECKING:
    import radscore as rs

__all__ = ["Keyed"]


@dataclass(frozen=True, kw_only=True)
class Keyed(Scheme):
    """Section 6: SipHash-2-4 of the whole window."""

    #: First of the message: tells this scheme, and one context width from another.
    DOMAIN: ClassVar[int] = 0x5253_4B00

    key: bytes = field(repr=False)
    gamma: float = 0.5
    method: Literal["green", "gumbel"] = "green"

    @property
    def kind(self) -> Kind:
        return self.method

    @property
    def threshold(self) -> int:
        """Hashes below this are green."""
        return floor(Fraction(self.gamma) * 2**64)

    @property
    def share(self) -> Fraction | None:
        return Fraction(self.threshold, 2**64) if self.method == "green" else None

    def hash64(self, window: Window) -> int:
        """The keyed hash of a window."""
        words = (self.DOMAIN + self.context_width, *window)
        return siphash24(self.key, b"".join(word.to_bytes(4, "little") for word in words))

    def score(self, window: Window) -> Score:
        """Green below gamma, or the Gumbel score of the upper 53 bits."""
        h = self.hash64(window)
        if self.method == "green":
            return int(h < self.threshold)
        return exponential((h >> 11) * 2.0**-53)


def _public(twin: Keyed) -> rs.Scheme:
    from radscore.schemes import Keyed as Public

    return Public(
        key=twin.key,  # type: ignore[arg-type]  # canonical after the checks
        vocab_size=twin.vocab_size,
        context_width=twin.context_width,
        gamma=twin.gamma,
        method=twin.method,
    )


register(
    "keyed",
    Family(
        scheme="keyed",
        twin=Keyed,
        twins=st.builds(
            Keyed,
            vocab_size=any_vocab,
            context_width=any_width,
            key=st.binary(min_size=16, max_size=16),
            gamma=share,
            method=st.sampled_from(["green", "gumbel"]),
        ),
        examples=(
            Keyed(vocab_size=EXAMPLE_VOCAB, key=bytes(range(16)), gamma=0.25, context_width=3),
            Keyed(vocab_size=EXAMPLE_VOCAB, key=bytes(16), context_width=16, method="gumbel"),
        ),
        core=lambda twin: {
            "context_width": twin.context_width,
            "key": twin.key,
            "gamma": twin.gamma if twin.method == "green" else None,
        },
        public=_public,
        golden=("openssl_siphash",),
    ),
)
