"""SynthID-Text: transformers' form with a sampling table, and DeepMind's own without."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, cast

from hypothesis import strategies as st

from tests.twin.hashes import accumulate
from tests.twin.mersenne import MersenneTwister
from tests.twin.schemes.base import Kind, Scheme, Window
from tests.twin.schemes.families import (
    EXAMPLE_VOCAB,
    Family,
    any_vocab,
    any_width,
    int64,
    register,
    uint64,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

    import radscore as rs

__all__ = ["SynthID", "SynthIDDeepMind"]


@dataclass(frozen=True, kw_only=True)
class SynthID(Scheme):
    """Section 4a: g-values from a table, as in HF transformers. ngram_len is context_width + 1."""

    keys: tuple[int, ...] = field(repr=False)
    sampling_table_size: int = 65536
    sampling_table_seed: int = 0
    padding: ClassVar[int | None] = 0
    reaches_prompt: ClassVar[bool] = False

    @property
    def kind(self) -> Kind:
        return "depths"

    @cached_property
    def table(self) -> tuple[int, ...]:
        """The sampling table of g-values."""
        generator = MersenneTwister(self.sampling_table_seed)
        return tuple(generator.randbit() for _ in range(self.sampling_table_size))

    @property
    def share(self) -> Fraction:
        return Fraction(sum(self.table), self.sampling_table_size)

    def score(self, window: Window) -> tuple[int, ...]:
        """One g-value a key."""
        h = accumulate(1, window)
        size = self.sampling_table_size
        return tuple(self.table[accumulate(h, [key]) % size] for key in self.keys)

    @property
    def counts_residues(self) -> bool:
        size = self.sampling_table_size
        return size & (size - 1) == 0

    def unit(self, window: Window) -> Hashable:
        """The low bits of the window's hash, which fix all its g-values.

        Low bits of a product depend on low bits only, so this needs a table size that is a power
        of two; with any other, all 64 bits are read.
        """
        h = accumulate(1, window)
        return h % self.sampling_table_size if self.counts_residues else h

    def context_seed(self, window: Window) -> None:
        """Any two windows can share the low bits of their hashes."""


@dataclass(frozen=True, kw_only=True)
class SynthIDDeepMind(Scheme):
    """Section 4b: DeepMind's own, without a table."""

    keys: tuple[int, ...] = field(repr=False)
    padding: ClassVar[int | None] = 0
    reaches_prompt: ClassVar[bool] = False

    @property
    def kind(self) -> Kind:
        return "depths"

    @property
    def share(self) -> Fraction:
        return Fraction(1, 2)

    @cached_property
    def iv(self) -> int:
        """Where the accumulation starts."""
        data = b"".join(key.to_bytes(8, "little", signed=True) for key in self.keys)
        return int.from_bytes(sha256(data).digest(), "big") % (2**63 - 1)

    def score(self, window: Window) -> tuple[int, ...]:
        """One g-value a key."""
        h = accumulate(self.iv, window)
        return tuple(_g_value(accumulate(h, [key])) for key in self.keys)

    def unit(self, window: Window) -> int:
        """The hash's linear form of the tokens: equal forms, equal hashes under every key."""
        return accumulate(0, window)

    def context_seed(self, window: Window) -> Hashable | None:
        """The block of 2^20 hashes in which that of the context lies, the keys' share left out.

        A target is added to that hash, so that windows meet only where hashes lie less than a
        vocabulary apart.
        """
        return accumulate(0, window[:-1]) % 2**64 >> 20

    def shares_draws(self, seed: Hashable, other: Hashable) -> bool:
        return (cast("int", seed) - cast("int", other) + 1) % 2**44 <= 2


def _g_value(h: int) -> int:
    for _ in range(12):
        h = accumulate(h, [1]) >> 5
    return (h >> 30) % 2


def _public(twin: SynthID) -> rs.Scheme:
    from radscore.schemes import SynthID as Public

    return Public(
        keys=twin.keys,
        vocab_size=twin.vocab_size,
        context_width=twin.context_width,
        sampling_table_size=twin.sampling_table_size,
        sampling_table_seed=twin.sampling_table_seed,
    )


def _public_deepmind(twin: SynthIDDeepMind) -> rs.Scheme:
    from radscore.schemes import SynthIDDeepMind as Public

    return Public(keys=twin.keys, vocab_size=twin.vocab_size, context_width=twin.context_width)


_KEYS = st.lists(int64, min_size=1, max_size=12, unique=True).map(tuple)

register(
    "synthid",
    Family(
        scheme="synthid",
        twin=SynthID,
        # Tables of both 0 and 1; a tiny one can lack either.
        twins=st.builds(
            SynthID,
            vocab_size=any_vocab,
            context_width=any_width,
            keys=_KEYS,
            sampling_table_size=st.sampled_from([2, 3, 64, 1000, 1024]),
            sampling_table_seed=uint64,
        ).filter(lambda twin: 0 < twin.share < 1),
        examples=(
            SynthID(vocab_size=EXAMPLE_VOCAB, keys=(5, -6, 2**62), context_width=2),
            SynthID(
                vocab_size=EXAMPLE_VOCAB, keys=(5, 6), context_width=2, sampling_table_size=101
            ),
        ),
        core=lambda twin: {
            "ngram_len": twin.context_width + 1,
            "keys": twin.keys,
            "sampling_table_size": twin.sampling_table_size,
            "sampling_table_seed": twin.sampling_table_seed,
        },
        public=_public,
        golden=("transformers_synthid",),
    ),
)
register(
    "synthid_deepmind",
    Family(
        scheme="synthid_deepmind",
        twin=SynthIDDeepMind,
        twins=st.builds(SynthIDDeepMind, vocab_size=any_vocab, context_width=any_width, keys=_KEYS),
        examples=(SynthIDDeepMind(vocab_size=EXAMPLE_VOCAB, keys=(5, -6, 2**62), context_width=2),),
        core=lambda twin: {"ngram_len": twin.context_width + 1, "keys": list(twin.keys)},
        public=_public_deepmind,
        golden=("synthid_deepmind",),
    ),
)
