"""SBW: stateless Bernoulli green lists from Philox."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from hypothesis import strategies as st

from tests.twin.hashes import int64, jenkins
from tests.twin.philox import philox4x32
from tests.twin.schemes.base import MASK32, PADDING, Kind, Scheme, Window
from tests.twin.schemes.families import (
    EXAMPLE_VOCAB,
    Family,
    any_vocab,
    key63,
    register,
    share,
    two_or_more,
)
from tests.twin.schemes.kgw import lm_table
from tests.twin.seeding import KEYLESS, PRFS, Hash, least_tail, table_hash

if TYPE_CHECKING:
    from collections.abc import Hashable

    import radscore as rs

__all__ = ["SBW"]

_P31 = 0x7FFF_FFFF


@dataclass(frozen=True, kw_only=True)
class SBW(Scheme):
    """Section 5c: stateless Bernoulli green lists from Philox."""

    key: int = field(repr=False)
    gamma: float = 0.5
    prf: str = "additive"
    self_salt: bool = False
    #: Hash of the PRF: the integer hash, or lm-watermarking's table (`...-cpuhash`).
    hashing: Literal["jenkins", "table"] = "jenkins"
    padding: ClassVar[int | None] = PADDING

    @property
    def kind(self) -> Kind:
        return "green"

    @property
    def window_width(self) -> int:
        return self.context_width + (not self.self_salt)

    @property
    def threshold(self) -> int:
        """31-bit words below this are green."""
        return int(self.gamma * _P31)

    @property
    def share(self) -> Fraction:
        return Fraction(self.threshold, 2**31)

    def seed(self, window: Window) -> int:
        """The signed 64-bit seed."""
        return int64(PRFS[self.prf](self._read(window), self.key, self._hash))

    @property
    def _hash(self) -> Hash:
        return jenkins if self.hashing == "jenkins" else table_hash(lm_table())

    def _read(self, window: Window) -> Window:
        return window if self.self_salt else window[:-1]

    def keyless(self, window: Window) -> bool:
        return KEYLESS[self.prf](self._read(window), self._hash)

    def word31(self, window: Window) -> int:
        """The 31-bit word that is compared."""
        seed = self.seed(window) % 2**64
        words = philox4x32((window[-1] // 4, 0, 0, 0), (seed & MASK32, seed >> 32))
        return words[window[-1] % 4] & _P31

    def score(self, window: Window) -> int:
        """1 when the word is below the threshold."""
        return int(self.word31(window) < self.threshold)

    def unit(self, window: Window) -> Hashable:
        return self.seed(window), window[-1]

    @property
    def least_own(self) -> int:
        return least_tail(self.prf, self.context_width) - self.self_salt

    def context_seed(self, window: Window) -> Hashable | None:
        return None if self.self_salt else self.seed(window)


def _public(twin: SBW) -> rs.Scheme:
    from radscore.schemes import SBW as Public

    return Public(
        key=twin.key,
        vocab_size=twin.vocab_size,
        gamma=twin.gamma,
        seeding=twin.prf,
        context_width=twin.context_width,
        self_salt=twin.self_salt,
        hashing="table" if twin.hashing == "table" else "integer",
    )


_HASHINGS: tuple[Literal["jenkins", "table"], ...] = ("jenkins", "table")

register(
    "sbw",
    Family(
        scheme="sbw",
        twin=SBW,
        twins=st.builds(
            SBW,
            vocab_size=any_vocab,
            context_width=two_or_more,
            key=key63,
            gamma=share,
            prf=st.sampled_from(sorted(PRFS)),
            self_salt=st.booleans(),
            hashing=st.sampled_from(["jenkins", "table"]),
        ),
        examples=(
            SBW(
                vocab_size=EXAMPLE_VOCAB,
                key=7,
                gamma=0.3,
                prf="anchored_minhash",
                context_width=4,
                self_salt=True,
            ),
            *(
                SBW(
                    vocab_size=EXAMPLE_VOCAB,
                    key=2**62 + 1,
                    prf=function,
                    context_width=3,
                    self_salt=self_salt,
                    hashing=hashing,
                )
                for function in PRFS
                for self_salt in (False, True)
                for hashing in _HASHINGS
            ),
        ),
        core=lambda twin: {
            "context_width": twin.context_width,
            "key": twin.key,
            "gamma": twin.gamma,
            "seeding": twin.prf,
            "self_salt": twin.self_salt,
            "table_hash": twin.hashing == "table",
        },
        public=_public,
        golden=("sbw", "sbw_schemes"),
    ),
)
