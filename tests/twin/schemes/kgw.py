"""Green lists from a permutation: the radioactivity authors', lm-watermarking's, transformers'."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st

from tests.twin.mersenne import TABLE_SIZE, hash_table, permutation
from tests.twin.schemes.base import Kind, Scheme, Window
from tests.twin.schemes.families import (
    EXAMPLE_VOCAB,
    Family,
    any_width,
    gamma,
    key63,
    register,
    small_vocab,
    two_or_more,
    uint64,
)
from tests.twin.seeding import (
    KEYLESS,
    PRFS,
    authors_hash,
    authors_table,
    least_tail,
    seed_of,
    table_hash,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Hashable

    import radscore as rs

__all__ = [
    "AUTHORS_SEEDINGS",
    "AUTHORS_TABLE_SEED",
    "HFKGW",
    "LM_WATERMARKING_TABLE",
    "AuthorsKGW",
    "AuthorsSeeding",
    "LmWatermarking",
    "PermutationGreen",
    "authors_core",
    "authors_public",
    "lm_table",
]

#: lm-watermarking seeds its table with this.
LM_WATERMARKING_TABLE = 2971215073
#: The millionth prime, everybody's default.
HASH_KEY = 15485863


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
        return seed_of(PRFS[self.prf](read, self.hash_key, table_hash(lm_table())))

    @property
    def least_own(self) -> int:
        return least_tail(self.prf, self.context_width) - self.self_salt

    def context_seed(self, window: Window) -> Hashable | None:
        return None if self.self_salt else self.seed32(window)

    def keyless(self, window: Window) -> bool:
        read = window if self.self_salt else window[:-1]
        return KEYLESS[self.prf](read, table_hash(lm_table()))


def lm_table() -> array[int]:
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


#: What random twins draw; a table of a million entries takes a second, so there is one seed.
AUTHORS_SEEDINGS = st.sampled_from(["hash", "hash", "additive", "skip", "min"])
AUTHORS_TABLE_SEED = 7
_HF_KEYS = (15485863, 2024)


def authors_core(twin: AuthorsSeeding) -> dict[str, Any]:
    """The authors' seedings in the compiled core."""
    table = "" if twin.seeding == "hash" else "table_"
    return {
        "context_width": twin.context_width,
        "seeding": table + twin.seeding,
        "self_salt": False,
        "seed": twin.seed,
        "key": twin.salt_key,
        "table_seed": twin.table_seed,
    }


def authors_public(twin: AuthorsSeeding) -> dict[str, Any]:
    """The authors' seedings as users write them."""
    common = {"vocab_size": twin.vocab_size, "context_width": twin.context_width}
    common |= {"salt_key": twin.salt_key}
    if twin.seeding == "hash":
        return {**common, "seed": twin.seed}
    return {**common, "seeding": f"table_{twin.seeding}", "table_seed": twin.table_seed}


def _authors_kgw(twin: AuthorsKGW) -> rs.Scheme:
    from radscore.schemes import KGW

    last = twin.green == "last"
    return KGW(gamma=twin.gamma, green_last=last, **authors_public(twin))


def _lm_core(twin: LmWatermarking) -> dict[str, Any]:
    return {
        "context_width": twin.context_width,
        "gamma": twin.gamma,
        "seeding": twin.prf,
        "self_salt": twin.self_salt,
        "key": twin.hash_key,
        "table_seed": LM_WATERMARKING_TABLE,
        "green_last": twin.green == "last",
    }


def _lm_public(twin: LmWatermarking) -> rs.Scheme:
    from radscore.schemes import KGW

    return KGW.from_lm_watermarking(
        f"ff-{twin.prf}_prf-{twin.context_width}-{twin.self_salt}-{twin.hash_key}",
        vocab_size=twin.vocab_size,
        gamma=twin.gamma,
        select_green_tokens=twin.green == "first",
    )


def _hf_core(twin: HFKGW) -> dict[str, Any]:
    self_salt = twin.seeding_scheme == "selfhash"
    return {
        "context_width": twin.context_width,
        "gamma": twin.gamma,
        "seeding": "anchored_minhash" if self_salt else "last_token",
        "self_salt": self_salt,
        "key": twin.hashing_key,
        "table_seed": twin.hashing_key,
        "green_last": False,
    }


def _hf_public(twin: HFKGW) -> rs.Scheme:
    from radscore.schemes import KGW

    config = {
        "greenlist_ratio": twin.gamma,
        "hashing_key": twin.hashing_key,
        "seeding_scheme": twin.seeding_scheme,
        "context_width": twin.context_width,
    }
    return KGW.from_transformers(config, twin.vocab_size)


register(
    "authors_kgw",
    Family(
        scheme="kgw",
        twin=AuthorsKGW,
        twins=st.builds(
            AuthorsKGW,
            vocab_size=small_vocab,
            context_width=any_width,
            gamma=gamma,
            seeding=AUTHORS_SEEDINGS,
            seed=uint64,
            salt_key=st.one_of(st.just(35317), key63),
            table_seed=st.just(AUTHORS_TABLE_SEED),
        ),
        examples=(
            AuthorsKGW(vocab_size=EXAMPLE_VOCAB, gamma=0.3, context_width=2, seed=3),
            AuthorsKGW(vocab_size=EXAMPLE_VOCAB, gamma=0.3, context_width=1, green="last"),
            AuthorsKGW(
                vocab_size=EXAMPLE_VOCAB, gamma=0.5, context_width=3, seeding="min", table_seed=9
            ),
        ),
        core=lambda twin: {
            **authors_core(twin),
            "gamma": twin.gamma,
            "green_last": twin.green == "last",
        },
        public=_authors_kgw,
        golden=("torch_authors",),
    ),
)
register(
    "lm_watermarking",
    Family(
        scheme="kgw",
        twin=LmWatermarking,
        twins=st.builds(
            LmWatermarking,
            vocab_size=small_vocab,
            context_width=two_or_more,
            gamma=gamma,
            green=st.sampled_from(["first", "last"]),
            prf=st.sampled_from(sorted(PRFS)),
            self_salt=st.booleans(),
            hash_key=st.one_of(st.just(HASH_KEY), key63),
        ),
        examples=tuple(
            LmWatermarking.named(f"ff-{function}-3-{self_salt}", EXAMPLE_VOCAB, 0.25)
            for function in PRFS
            for self_salt in (False, True)
        ),
        core=_lm_core,
        public=_lm_public,
        golden=("sbw_schemes",),
    ),
)
register(
    "hf_kgw",
    Family(
        scheme="kgw",
        twin=HFKGW,
        twins=st.one_of(
            [
                st.builds(
                    HFKGW,
                    vocab_size=small_vocab,
                    context_width=any_width,
                    gamma=gamma,
                    seeding_scheme=st.just(scheme),
                    hashing_key=keys,
                )
                for scheme, keys in (("lefthash", key63), ("selfhash", st.sampled_from(_HF_KEYS)))
            ]
        ),
        examples=(
            HFKGW(vocab_size=EXAMPLE_VOCAB, gamma=0.4, context_width=3),
            HFKGW(vocab_size=EXAMPLE_VOCAB, gamma=0.4, context_width=3, seeding_scheme="selfhash"),
        ),
        core=_hf_core,
        public=_hf_public,
        golden=("transformers_kgw",),
    ),
)
