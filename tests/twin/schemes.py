"""Every scheme of the package, written to be read: what a window's unit and score are.

A *window* is a tuple of token ids, oldest first, the target last. The *unit* is what the scheme's
random function reads of it. A score is 0 or 1 (green), a float (Gumbel) or a tuple of g-values,
one bit a depth.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from hashlib import sha256
from math import floor, log
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from tests.twin.hashes import accumulate, int64, jenkins, murmur3, siphash24
from tests.twin.mersenne import TABLE_SIZE, MersenneTwister, hash_table, permutation
from tests.twin.philox import Block, philox4x32
from tests.twin.seeding import (
    KEYLESS,
    PRFS,
    Hash,
    authors_hash,
    authors_table,
    least_tail,
    seed_of,
    table_hash,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Hashable, Sequence

__all__ = [
    "HFKGW",
    "SBW",
    "AuthorsKGW",
    "GumbelMax",
    "Keyed",
    "LmWatermarking",
    "SGLangGumbel",
    "Scheme",
    "Score",
    "SynthID",
    "SynthIDDeepMind",
    "TextSeal",
    "VLLMDualKeyGumbel",
    "VLLMGumbel",
    "Window",
]

Window = tuple[int, ...]
Score = int | float | tuple[float, ...]
Kind = Literal["green", "gumbel", "depths"]

#: lm-watermarking seeds its table with this.
LM_WATERMARKING_TABLE = 2971215073
#: The millionth prime, everybody's default.
HASH_KEY = 15485863
#: The token that stands for "no token" left of a text.
PADDING = -1

_MASK32 = 0xFFFF_FFFF
_P31 = 0x7FFF_FFFF


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


# Green lists from a permutation --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PermutationGreen(Scheme):
    """Green are the first (or last) `int(gamma V)` entries of a seeded permutation."""

    gamma: float
    green: Literal["first", "last"] = "first"

    @property
    def kind(self) -> Kind:
        return "green"

    @property
    def n_green(self) -> int:
        """Length of the green list."""
        return int(self.gamma * self.vocab_size)

    @property
    def share(self) -> Fraction:
        return Fraction(self.n_green, self.vocab_size)

    @abstractmethod
    def seed32(self, window: Window) -> int:
        """The 32 bits that the generator is seeded with."""

    def score(self, window: Window) -> int:
        """1 when the target is in the green list."""
        entries = permutation(self.seed32(window), self.vocab_size)
        if self.green == "last":
            return int(window[-1] in entries[self.vocab_size - self.n_green :])
        return int(window[-1] in entries[: self.n_green])

    def unit(self, window: Window) -> Hashable:
        """Seed and target: permuted contexts of an additive seed are one unit."""
        return self.seed32(window), window[-1]

    def context_seed(self, window: Window) -> Hashable | None:
        return self.seed32(window)


@dataclass(frozen=True, kw_only=True)
class AuthorsSeeding(Scheme):
    """Section 2a: how the radioactivity authors seed green lists and uniforms."""

    seeding: Literal["hash", "additive", "skip", "min"] = "hash"
    seed: int = field(default=0, repr=False)
    salt_key: int = field(default=35317, repr=False)
    #: Seed of the global generator that the table was drawn from; only where a table is used.
    table_seed: int | None = field(default=None, repr=False)

    def seed32(self, window: Window) -> int:
        """The 32 bits that the generator is seeded with."""
        if self.seeding == "hash":
            return authors_hash(window[:-1], self.seed, self.salt_key) % 2**32
        if self.table_seed is None:
            raise ValueError(f"seeding {self.seeding!r} needs table_seed")
        table = hash_table(self.table_seed)
        return authors_table(self.seeding, window[:-1], self.salt_key, table) % 2**32

    @property
    def least_own(self) -> int:
        return 1 if self.seeding == "min" else self.context_width

    def keyless(self, window: Window) -> bool:
        context = window[:-1]
        return {
            "hash": False,
            "additive": sum(context) % TABLE_SIZE == 0,
            "skip": context[0] % TABLE_SIZE == 0,
            "min": any(x % TABLE_SIZE == 0 for x in context),
        }[self.seeding]


@dataclass(frozen=True, kw_only=True)
class AuthorsKGW(AuthorsSeeding, PermutationGreen):
    """Section 2a: the radioactivity authors' green lists."""


@dataclass(frozen=True, kw_only=True)
class LmWatermarking(PermutationGreen):
    """Section 2b: Kirchenbauer et al.'s schemes, named and free-form."""

    prf: str
    self_salt: bool
    hash_key: int = field(default=HASH_KEY, repr=False)

    @classmethod
    def named(
        cls, name: str, vocab_size: int, gamma: float, green: Literal["first", "last"] = "first"
    ) -> LmWatermarking:
        """The scheme that lm-watermarking's string names, as `selfhash` or `ff-additive-3-False`.

        Examples
        --------
        >>> LmWatermarking.named("minhash", 1000, 0.25).context_width
        4
        """
        aliases = {
            "simple_1": "ff-additive-1-False",
            "lefthash": "ff-additive-1-False",
            "minhash": "ff-minhash-4-False",
            "skipgram": "ff-skipgram-5-False",
            "selfhash": "ff-anchored_minhash-4-True",
            "algorithm-3": "ff-anchored_minhash-4-True",
        }
        _, prf, width, self_salt, *key = aliases.get(name, name).split("-")
        return cls(
            vocab_size=vocab_size,
            gamma=gamma,
            green=green,
            prf=prf.removesuffix("_prf"),
            context_width=int(width),
            self_salt=self_salt == "True",
            hash_key=int(key[0]) if key else HASH_KEY,
        )

    @property
    def window_width(self) -> int:
        return self.context_width + (not self.self_salt)

    def seed32(self, window: Window) -> int:
        read = window if self.self_salt else window[:-1]
        return seed_of(PRFS[self.prf](read, self.hash_key, table_hash(_lm_table())))

    @property
    def least_own(self) -> int:
        return least_tail(self.prf, self.context_width) - self.self_salt

    def context_seed(self, window: Window) -> Hashable | None:
        return None if self.self_salt else self.seed32(window)

    def keyless(self, window: Window) -> bool:
        read = window if self.self_salt else window[:-1]
        return KEYLESS[self.prf](read, table_hash(_lm_table()))


def _lm_table() -> array[int]:
    return hash_table(LM_WATERMARKING_TABLE)


@dataclass(frozen=True, kw_only=True)
class HFKGW(PermutationGreen):
    """Section 2b: the two schemes of HF transformers, whose table the key itself seeds."""

    seeding_scheme: Literal["lefthash", "selfhash"] = "lefthash"
    hashing_key: int = field(default=HASH_KEY, repr=False)

    @property
    def window_width(self) -> int:
        return self.context_width + (self.seeding_scheme == "lefthash")

    def seed32(self, window: Window) -> int:
        if self.seeding_scheme == "lefthash":  # the last token alone, whatever the width
            return seed_of(self.hashing_key * window[-2])
        table = table_hash(hash_table(self.hashing_key))
        return seed_of(PRFS["anchored_minhash"](window, self.hashing_key, table))

    @property
    def least_own(self) -> int:
        return 1 if self.seeding_scheme == "lefthash" else 0

    def context_seed(self, window: Window) -> Hashable | None:
        return self.seed32(window) if self.seeding_scheme == "lefthash" else None

    def keyless(self, window: Window) -> bool:
        return self.seeding_scheme == "lefthash" and window[-2] == 0


# Gumbel-max ----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _rand_float32(seed: int, n: int) -> tuple[float, ...]:
    generator = MersenneTwister(seed)
    return tuple(generator.rand_float32() for _ in range(n))


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


@dataclass(frozen=True, kw_only=True)
class GumbelMax(AuthorsSeeding, Gumbel):
    """Section 3: the target's draw in `torch.rand(V)`."""

    def uniform(self, window: Window) -> float:
        return _rand_float32(self.seed32(window), self.vocab_size)[window[-1]]

    def unit(self, window: Window) -> Hashable:
        return self.seed32(window), window[-1]

    def context_seed(self, window: Window) -> Hashable | None:
        return self.seed32(window)


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
    low, high = key & _MASK32, key >> 32
    state: Block = (0x574D_4358, len(context), 0, 0)
    for offset in range(0, len(context), 4):
        words = [x & _MASK32 for x in context[offset : offset + 4]]
        words += [_MASK32 - slot for slot in range(len(words), 4)]
        s0, s1, s2, s3 = (s ^ w for s, w in zip(state, words, strict=True))
        state = philox4x32((s0, s1, s2, s3), (low ^ offset, high))
    out = philox4x32((target >> 2, *state[:3]), (low ^ state[3], high ^ 0x574D_544B))
    return _float32(((out[target & 3] >> 8) + 1) / 16777217)


def _float32(x: float) -> float:
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
    return key & _MASK32, key >> 32 & _MASK32


# SynthID-Text --------------------------------------------------------------------------------


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


# Hash and threshold --------------------------------------------------------------------------


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
        return sum(_float32(r / 8191) < _float32(self.gamma) for r in range(8191))

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
        return jenkins if self.hashing == "jenkins" else table_hash(_lm_table())

    def _read(self, window: Window) -> Window:
        return window if self.self_salt else window[:-1]

    def keyless(self, window: Window) -> bool:
        return KEYLESS[self.prf](self._read(window), self._hash)

    def word31(self, window: Window) -> int:
        """The 31-bit word that is compared."""
        seed = self.seed(window) % 2**64
        words = philox4x32((window[-1] // 4, 0, 0, 0), (seed & _MASK32, seed >> 32))
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
