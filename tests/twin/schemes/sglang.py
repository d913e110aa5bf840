"""SGLang's Gumbel watermark, with one key or two."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.twin.hashes import murmur3
from tests.twin.schemes.base import MASK32, Gumbel, Window
from tests.twin.schemes.families import (
    EXAMPLE_VOCAB,
    Family,
    any_vocab,
    any_width,
    register,
    uint64,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

    import radscore as rs

__all__ = ["SGLangGumbel", "sglang_coin"]


@dataclass(frozen=True, kw_only=True)
class SGLangGumbel(Gumbel):
    """Section 5b: MurmurHash3 of the context, then of key, context hash and target."""

    key: int = field(repr=False)
    #: The second key, if any; the context tosses a coin for which is used.
    key_b: int | None = field(default=None, repr=False)
    mixing_probability: float = 0.5

    def uniform(self, window: Window) -> float:
        context_hash = murmur3(window[:-1])
        token_hash = murmur3([*_halves(self._key_of(context_hash)), context_hash, window[-1]])
        return (token_hash + 0.5) / 2**32

    def _key_of(self, context_hash: int) -> int:
        if self.key_b is None:
            return self.key
        coin = sglang_coin(self.key, self.key_b, context_hash)
        return self.key if coin < floor(self.mixing_probability * 2**32) else self.key_b

    def unit(self, window: Window) -> Hashable:
        return murmur3(window[:-1]), window[-1]

    def context_seed(self, window: Window) -> Hashable | None:
        return murmur3(window[:-1])


def sglang_coin(key: int, key_b: int, context_hash: int) -> int:
    """The coin that chooses between two keys; the first below the mixing probability."""
    return murmur3([*_halves(key), *_halves(key_b), context_hash])


def _halves(key: int) -> tuple[int, int]:
    return key & MASK32, key >> 32 & MASK32


def _second(twin: SGLangGumbel) -> dict[str, Any]:
    if twin.key_b is None:
        return {}
    return {"key_b": twin.key_b, "mixing_probability": twin.mixing_probability}


def _public(twin: SGLangGumbel) -> rs.Scheme:
    from radscore.schemes import SGLangGumbel as Public

    return Public(
        key=twin.key,
        vocab_size=twin.vocab_size,
        context_width=twin.context_width,
        **_second(twin),
    )


register(
    "sglang_gumbel",
    Family(
        scheme="sglang_gumbel",
        twin=SGLangGumbel,
        twins=st.builds(
            SGLangGumbel,
            vocab_size=any_vocab,
            context_width=any_width,
            key=uint64,
            key_b=st.one_of(st.none(), uint64),
            mixing_probability=st.floats(0, 1),
        ),
        examples=(
            SGLangGumbel(vocab_size=EXAMPLE_VOCAB, key=7, context_width=2),
            SGLangGumbel(vocab_size=EXAMPLE_VOCAB, key=7, key_b=9, context_width=2),
        ),
        core=lambda twin: {
            "context_width": twin.context_width,
            "key": twin.key,
            **_second(twin),
        },
        public=_public,
        golden=("sglang_gumbel",),
    ),
)
