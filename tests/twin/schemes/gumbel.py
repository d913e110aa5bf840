"""Gumbel-max with torch's uniforms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.twin.mersenne import MersenneTwister
from tests.twin.schemes.base import Gumbel, Window
from tests.twin.schemes.families import (
    EXAMPLE_VOCAB,
    Family,
    any_width,
    key63,
    register,
    small_vocab,
    uint64,
)
from tests.twin.schemes.kgw import (
    AUTHORS_SEEDINGS,
    AUTHORS_TABLE_SEED,
    AuthorsSeeding,
    authors_core,
    authors_public,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

    import radscore as rs

__all__ = ["GumbelMax"]


@lru_cache(maxsize=256)
def _rand_float32(seed: int, n: int) -> tuple[float, ...]:
    generator = MersenneTwister(seed)
    return tuple(generator.rand_float32() for _ in range(n))


@dataclass(frozen=True, kw_only=True)
class GumbelMax(AuthorsSeeding, Gumbel):
    """Section 3: the target's draw in `torch.rand(V)`."""

    def uniform(self, window: Window) -> float:
        return _rand_float32(self.seed32(window), self.vocab_size)[window[-1]]

    def unit(self, window: Window) -> Hashable:
        return self.seed32(window), window[-1]

    def context_seed(self, window: Window) -> Hashable | None:
        return self.seed32(window)


def _public(twin: GumbelMax) -> rs.Scheme:
    from radscore.schemes import GumbelMax as Public

    return Public(**authors_public(twin))


register(
    "gumbel_max",
    Family(
        scheme="gumbel_max",
        twin=GumbelMax,
        twins=st.builds(
            GumbelMax,
            vocab_size=st.one_of(small_vocab, st.integers(600, 700)),
            context_width=any_width,
            seeding=AUTHORS_SEEDINGS,
            seed=uint64,
            salt_key=st.one_of(st.just(35317), key63),
            table_seed=st.just(AUTHORS_TABLE_SEED),
        ),
        examples=(GumbelMax(vocab_size=EXAMPLE_VOCAB, context_width=2, seed=8),),
        core=authors_core,
        public=_public,
        golden=("torch_authors",),
    ),
)
