"""vLLM's Gumbel watermarks, with one key and with two."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from hypothesis import strategies as st

from tests.twin.philox import Block, philox4x32
from tests.twin.schemes.base import MASK32, PADDING, Gumbel, Kind, Scheme, Window, exponential
from tests.twin.schemes.families import (
    EXAMPLE_VOCAB,
    Family,
    any_vocab,
    any_width,
    register,
    uint64,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import radscore as rs

__all__ = ["VLLMDualKeyGumbel", "VLLMGumbel", "float32", "vllm_uniform"]


@dataclass(frozen=True, kw_only=True)
class VLLMGumbel(Gumbel):
    """Section 5a: Philox over the context in blocks of four, then over the target."""

    key: int = field(repr=False)
    padding: ClassVar[int | None] = PADDING
    reaches_prompt: ClassVar[bool] = False

    def uniform(self, window: Window) -> float:
        return vllm_uniform(self.key, window[:-1], window[-1])


def vllm_uniform(key: int, context: Sequence[int], target: int) -> float:
    """Uniform of vLLM: 24 bits and a half, divided exactly and rounded to float32."""
    low, high = key & MASK32, key >> 32
    state: Block = (0x574D_4358, len(context), 0, 0)
    for offset in range(0, len(context), 4):
        words = [x & MASK32 for x in context[offset : offset + 4]]
        words += [MASK32 - slot for slot in range(len(words), 4)]
        s0, s1, s2, s3 = (s ^ w for s, w in zip(state, words, strict=True))
        state = philox4x32((s0, s1, s2, s3), (low ^ offset, high))
    out = philox4x32((target >> 2, *state[:3]), (low ^ state[3], high ^ 0x574D_544B))
    return float32(((out[target & 3] >> 8) + 1) / 16777217)


def float32(x: float) -> float:
    """A number rounded to float32."""
    rounded: float = struct.unpack("f", struct.pack("f", x))[0]
    return rounded


@dataclass(frozen=True, kw_only=True)
class VLLMDualKeyGumbel(Scheme):
    """Section 5a: a mixture of the scores under two keys that one key gives."""

    key: int = field(repr=False)
    alpha: float = 0.1
    padding: ClassVar[int | None] = PADDING
    reaches_prompt: ClassVar[bool] = False

    @property
    def kind(self) -> Kind:
        return "gumbel"

    @cached_property
    def keys(self) -> tuple[int, int]:
        """The two derived keys."""
        a, b = (
            sha256(name + self.key.to_bytes(8, "big")).digest() for name in (b"key_a", b"key_b")
        )
        return int.from_bytes(a[:8], "big"), int.from_bytes(b[:8], "big")

    def score(self, window: Window) -> float:
        """(1 - alpha) Exp(1) + alpha Exp(1) under H0."""
        a, b = (exponential(vllm_uniform(key, window[:-1], window[-1])) for key in self.keys)
        return (1.0 - self.alpha) * a + self.alpha * b


def _public(twin: VLLMGumbel) -> rs.Scheme:
    from radscore.schemes import VLLMGumbel as Public

    return Public(key=twin.key, vocab_size=twin.vocab_size, context_width=twin.context_width)


def _public_dual(twin: VLLMDualKeyGumbel) -> rs.Scheme:
    from radscore.schemes import VLLMDualKeyGumbel as Public

    return Public(
        key=twin.key,
        vocab_size=twin.vocab_size,
        context_width=twin.context_width,
        alpha=twin.alpha,
    )


register(
    "vllm_gumbel",
    Family(
        scheme="vllm_gumbel",
        twin=VLLMGumbel,
        twins=st.builds(VLLMGumbel, vocab_size=any_vocab, context_width=any_width, key=uint64),
        examples=(VLLMGumbel(vocab_size=EXAMPLE_VOCAB, key=2**64 - 1, context_width=5),),
        core=lambda twin: {"context_width": twin.context_width, "key": twin.key},
        public=_public,
        golden=("vllm_gumbel", "vllm_generation"),
    ),
)
register(
    "vllm_dual_key",
    Family(
        scheme="vllm_dual_key_gumbel",
        twin=VLLMDualKeyGumbel,
        twins=st.builds(
            VLLMDualKeyGumbel,
            vocab_size=any_vocab,
            context_width=any_width,
            key=uint64,
            alpha=st.floats(0, 1),
        ),
        examples=(VLLMDualKeyGumbel(vocab_size=EXAMPLE_VOCAB, key=7, context_width=2, alpha=0.2),),
        core=lambda twin: {
            "context_width": twin.context_width,
            "key": twin.key,
            "alpha": twin.alpha,
        },
        public=_public_dual,
        golden=("vllm_gumbel", "vllm_generation"),
    ),
)
