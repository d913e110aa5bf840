"""Schemes that draw from torch's CPU generator, seeded by the context: KGW and Gumbel-max."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.base import (
    CUDA_NOTE,
    MAX_CONTEXT_WIDTH,
    Draws,
    Scheme,
    choice,
    flag,
    real,
    whole,
)
from radscore.schemes.key import secret_int
from radscore.schemes.reading import as_fields, lm_watermarking_name

if TYPE_CHECKING:
    from collections.abc import Hashable

    from radscore.stats.laws import NullLaw

__all__ = ["KGW", "GumbelMax"]

#: The radioactivity authors' multiplier.
SALT_KEY = 35317
#: The millionth prime, lm-watermarking's and transformers' key.
HASH_KEY = 15485863
#: The seed of lm-watermarking's table.
LM_TABLE_SEED = 2971215073

_INT64 = 2**63 - 1
_MODULUS = 2**64 - 1
_TABLES = ("table_additive", "table_skip", "table_min")
_PLAIN = ("multiplicative", "additive", "minfunc", "position")
_HASHING = (
    "simple_skip",
    "skipgram",
    "anchored_skipgram",
    "minhash",
    "anchored_minhash",
    "minskipgram",
    "noncomm",
)
#: Seedings that read a table of `TABLE_SIZE` entries, at a place that the key multiplies.
PERIODIC_SEEDINGS = (
    *_TABLES,
    *(name for name in _HASHING if name not in ("anchored_minhash", "noncomm")),
)
#: All that read the table.
TABLE_SEEDINGS = (*_TABLES, *_HASHING)
#: Entries of the table of lm-watermarking, transformers and the radioactivity authors.
TABLE_SIZE = 1_000_003
PUBLIC_TABLE = (
    "seeds come from a public table of 1,000,003 entries: text that was chosen for its score under "
    "the table's seeds scores without the key; compare with decoy keys"
)
SEEDINGS = ("hash", *_TABLES, "last_token", *_PLAIN, *_HASHING)

_TABLE_WHY = (
    "the radioactivity authors draw it from torch's global generator, whose state when they do so "
    "no key tells: give the seed of a generator whose first draw is that table (table_seed), or "
    "use seeding='hash'"
)


def table_period(key: int, most: int) -> Hashable:
    """Equal for keys that read one table at the same places for all numbers below `most`.

    Products beyond 64 bits wrap around; keys that reach them are told apart.
    """
    return key % TABLE_SIZE if key * most < 2**63 else ("wraps", key)


@dataclass(frozen=True, kw_only=True, repr=False)
class TorchSeeded(Scheme):
    """A scheme whose context seeds torch's CPU generator."""

    secrets: ClassVar[tuple[str, ...]] = ("seed", "salt_key", "hash_key")

    context_width: int = 2
    seeding: str = "hash"
    table_seed: int | str | None = None
    seed: int = 0
    salt_key: int = SALT_KEY
    hash_key: int = HASH_KEY

    def _check(self) -> None:
        self._set("context_width", whole("context_width", self.context_width, 1, MAX_CONTEXT_WIDTH))
        self._set("seeding", choice("seeding", self.seeding, SEEDINGS))
        self._set("seed", secret_int("seed", self.seed, 0, 2**64 - 1))
        most = 2**64 - 1 if self.seeding == "hash" else _INT64
        self._set("salt_key", secret_int("salt_key", self.salt_key, 1, most))
        self._set("hash_key", secret_int("hash_key", self.hash_key, 1, _INT64))
        used = self._used_secrets()
        plain = {"seed": 0, "salt_key": SALT_KEY, "hash_key": HASH_KEY}
        for name, default in plain.items():
            if name not in used and getattr(self, name) != default:
                raise SchemeError(
                    f"{name} has no effect with seeding={self.seeding!r}, "
                    f"which uses {' and '.join(used)}; leave it out"
                )
        self._check_table()

    def _check_table(self) -> None:
        table = self.table_seed
        if self.seeding in _TABLES:
            if table is None:
                raise SchemeError(f"seeding={self.seeding!r} needs a table, and {_TABLE_WHY}")
            self._set("table_seed", whole("table_seed", table, 0, 2**64 - 1))
        elif self.seeding in _HASHING:
            if table is None:
                self._set("table_seed", LM_TABLE_SEED)
            elif table != "hash_key":
                if isinstance(table, str):
                    raise SchemeError(f"table_seed must be an integer or 'hash_key', not {table!r}")
                self._set("table_seed", whole("table_seed", table, 0, 2**64 - 1))
        elif table is not None:
            raise SchemeError(f"table_seed has no effect with seeding={self.seeding!r}")

    def _used_secrets(self) -> tuple[str, ...]:
        if self.seeding == "hash":
            return "seed", "salt_key"
        return ("salt_key",) if self.seeding in _TABLES else ("hash_key",)

    def _unused(self) -> frozenset[str]:
        unused = set(self.secrets).difference(self._used_secrets())
        if self.table_seed is None:
            unused.add("table_seed")
        return frozenset(unused)

    def _canonical(self) -> dict[str, Any]:
        canonical = super()._canonical()
        one = self.context_width == 1 and not canonical.get("self_salt")
        if one and self.seeding in ("last_token", "minfunc", "multiplicative"):
            canonical["seeding"] = "additive"  # all are hash_key * c[0]
        return canonical

    @classmethod
    def _key_field(cls, values: Mapping[str, Any]) -> str:
        seeding = values.get("seeding", "hash")
        if seeding == "hash":
            return "seed"
        return "salt_key" if seeding in _TABLES else "hash_key"

    def _seeding_arguments(self) -> dict[str, Any]:
        table = self.hash_key if self.table_seed == "hash_key" else self.table_seed
        key = self.salt_key if self.seeding in ("hash", *_TABLES) else self.hash_key
        return {
            "seeding": self.seeding,
            "context_width": self.context_width,
            "seed": self.seed if self.seeding == "hash" else 0,
            "key": key,
            "table_seed": table or 0,
        }

    @property
    def dependence(self) -> str:
        """Seeds come from a table that everybody knows, unless the key seeds it."""
        public = self.seeding in TABLE_SEEDINGS and self.table_seed != "hash_key"
        return PUBLIC_TABLE if public else ""

    def _function(self, secret: tuple[Any, ...]) -> Hashable:
        if self.seeding in PERIODIC_SEEDINGS and self.table_seed != "hash_key":
            key = secret[self.secrets.index(self._used_secrets()[0])]
            most = self.vocab_size * (self.context_width if self.seeding in _TABLES else 1)
            return table_period(key, most)
        return secret

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        if self.seeding == "hash":
            # A multiplier that shares a factor with the modulus would lose part of the seed.
            salt = draws.between(2, _MODULUS - 2)
            while math.gcd(salt, _MODULUS) != 1:
                salt = draws.between(2, _MODULUS - 2)
            return {"seed": draws.between(0, _MODULUS - 1), "salt_key": salt}
        name = "salt_key" if self.seeding in _TABLES else "hash_key"
        return {name: draws.between(1, _INT64)}


@dataclass(frozen=True, kw_only=True, repr=False)
class KGW(TorchSeeded):
    """Green lists from a permutation of the vocabulary (Kirchenbauer et al., ICML 2023).

    The context seeds `torch.randperm(vocab_size)`; its first `int(gamma * vocab_size)` entries
    are green.

    Parameters
    ----------
    vocab_size : int
        Size of the permutation: the generator's. The radioactivity authors take the tokenizer's
        `vocab_size`, lm-watermarking the length of its list of ids, transformers the *model's*
        `config.vocab_size`, which can be larger than the tokenizer's.
    gamma : float
        Share of the vocabulary that is green.
    context_width : int
        Tokens that the seeding reads, 1 to 64; with `self_salt` the target is the last of them.
    seeding : str
        How they become a seed. `hash`: the radioactivity authors'; key is (`seed`, `salt_key`).
        `table_additive`, `table_skip`, `table_min`: the authors' other three, which need
        `table_seed`; key is `salt_key`. `last_token`: transformers' `lefthash`. The others are
        lm-watermarking's functions (`additive`, `minhash`, `anchored_minhash`, ...); key is
        `hash_key`.
    self_salt : bool
        Whether the target itself is part of what is hashed.
    green_last : bool
        lm-watermarking's legacy switch: the *last* entries are green.
    table_seed : int or "hash_key", optional
        Seed of the table behind the hashing functions: lm-watermarking's by default, the key's
        own in transformers ("hash_key").
    seed, salt_key, hash_key : int
        The secrets. One that the seeding does not use must be left out.

    Notes
    -----
    The radioactivity authors' detectors start at position `context_width + 1`; use `start` of
    the scorer to reproduce their numbers.

    Examples
    --------
    >>> scheme = KGW(vocab_size=32000, gamma=0.25, context_width=2, seed=3, salt_key=35317)
    >>> scheme.window_width, scheme.core.share
    (3, (8000, 32000))
    """

    name: ClassVar[str] = "kgw"
    description: ClassVar[str] = (
        "green lists from a seeded permutation: lm-watermarking, transformers, radioactivity"
    )
    notes: ClassVar[tuple[str, ...]] = (
        CUDA_NOTE,
        "vocab_size is part of the key stream: with another one the text cannot be read.",
        (
            "Some seedings let distinct windows share a unit (additive ones ignore the order of "
            "the context); the default deduplication counts such windows once."
        ),
    )

    gamma: float = 0.25
    self_salt: bool = False
    green_last: bool = False

    def _check(self) -> None:
        super()._check()
        self._set("gamma", real("gamma", self.gamma))
        self._set("self_salt", flag("self_salt", self.self_salt))
        self._set("green_last", flag("green_last", self.green_last))

    def _build(self) -> _core.Scheme:
        return _core.Scheme.kgw(
            vocab_size=self.vocab_size,
            gamma=self.gamma,
            self_salt=self.self_salt,
            green_last=self.green_last,
            **self._seeding_arguments(),
        )

    @property
    def null_law(self) -> NullLaw:
        """Binomial with the exact share `int(gamma * vocab_size) / vocab_size`."""
        from radscore.stats.laws import BernoulliLaw

        return BernoulliLaw(self.share)

    @classmethod
    def from_lm_watermarking(
        cls,
        scheme: str,
        *,
        vocab_size: int,
        gamma: float = 0.25,
        hash_key: int | None = None,
        select_green_tokens: bool = True,
    ) -> KGW:
        """The scheme that a string of lm-watermarking names.

        Parameters
        ----------
        scheme : str
            `simple_1`, `lefthash`, `minhash`, `skipgram`, `selfhash`, `algorithm-3`, or
            `ff-<function>-<width>-<self_salt>[-<key>]`.
        vocab_size : int
            Length of the list of ids that the generator was given.
        gamma : float
            Share of the vocabulary that is green.
        hash_key : int, optional
            Another key than the default 15485863.
        select_green_tokens : bool
            False is the legacy behaviour: the last entries of the permutation are green.

        Raises
        ------
        SchemeError
            If the string names no scheme, or a key is given twice.

        Examples
        --------
        >>> left = KGW.from_lm_watermarking("simple_1", vocab_size=32000)
        >>> left == KGW(vocab_size=32000, seeding="additive", context_width=1)
        True
        """
        function, width, self_salt, key = lm_watermarking_name(scheme)
        if function not in _PLAIN + _HASHING:
            raise SchemeError(
                f"lm-watermarking has no function {function!r}; it has "
                f"{', '.join(_PLAIN + _HASHING)}"
            )
        if key is not None and hash_key is not None:
            raise SchemeError("hash_key is given twice: beside the scheme's name, and in it")
        if key is None:
            key = HASH_KEY if hash_key is None else hash_key
        return cls(
            vocab_size=vocab_size,
            gamma=gamma,
            context_width=width,
            seeding=function,
            self_salt=self_salt,
            hash_key=key,
            green_last=not select_green_tokens,
        )

    @classmethod
    def from_transformers(cls, config: Any, vocab_size: int) -> KGW:
        """The scheme of a `WatermarkingConfig` of transformers.

        Parameters
        ----------
        config : WatermarkingConfig or mapping
            Only its `to_dict` is used; transformers is not imported.
        vocab_size : int
            The *model's* `config.vocab_size`.

        Examples
        --------
        >>> config = {"greenlist_ratio": 0.25, "seeding_scheme": "selfhash", "context_width": 4}
        >>> KGW.from_transformers(config, 32000).window_width
        4
        """
        values = as_fields(
            config,
            "WatermarkingConfig",
            known=("greenlist_ratio", "hashing_key", "seeding_scheme", "context_width"),
            ignored=("bias",),
        )
        scheme = choice(
            "seeding_scheme", values.get("seeding_scheme", "lefthash"), ("lefthash", "selfhash")
        )
        own = scheme == "selfhash"
        return cls(
            vocab_size=vocab_size,
            gamma=values.get("greenlist_ratio", 0.25),
            context_width=values.get("context_width", 1),
            seeding="anchored_minhash" if own else "last_token",
            self_salt=own,
            table_seed="hash_key" if own else None,
            hash_key=values.get("hashing_key", HASH_KEY),
        )

    @classmethod
    def from_radioactivity(cls, flags: Any, vocab_size: int) -> KGW:
        """The scheme of the radioactivity authors' flags (`--method maryland`).

        Parameters
        ----------
        flags : mapping or argparse.Namespace
            `ngram` is required (their scripts have different defaults); `seed`, `seeding`,
            `hash_key` (also as `salt_key`) and `gamma` have the scripts' defaults. Seedings other
            than `hash` need `table_seed` besides. Other flags of their scripts are ignored.
        vocab_size : int
            The tokenizer's `vocab_size`.

        Examples
        --------
        >>> KGW.from_radioactivity({"ngram": 2, "seed": 3}, 32000).context_width
        2
        """
        values = _radioactivity(flags, "maryland")
        return cls(vocab_size=vocab_size, gamma=values.pop("gamma"), **values)


@dataclass(frozen=True, kw_only=True, repr=False)
class GumbelMax(TorchSeeded):
    """Gumbel-max sampling with torch's uniforms (Aaronson 2022; the authors' `openai`).

    The context seeds `r = torch.rand(vocab_size)` in float32; the score of a target t is
    `-ln(1 - r[t])`, exponential under H0.

    Parameters
    ----------
    vocab_size, context_width, seeding, table_seed, seed, salt_key, hash_key
        As in `KGW`.

    Examples
    --------
    >>> GumbelMax(vocab_size=1000, context_width=2, seed=3).scores([[151, 555, 205]]).round(6)
    array([0.729106])
    """

    name: ClassVar[str] = "gumbel_max"
    description: ClassVar[str] = "Gumbel-max with torch's uniforms: Aaronson, radioactivity"
    notes: ClassVar[tuple[str, ...]] = (CUDA_NOTE,)

    def _build(self) -> _core.Scheme:
        return _core.Scheme.gumbel_max(vocab_size=self.vocab_size, **self._seeding_arguments())

    @property
    def null_law(self) -> NullLaw:
        """Gamma(n, 1): each score is Exp(1)."""
        from radscore.stats.laws import ExponentialLaw

        return ExponentialLaw()

    @classmethod
    def from_radioactivity(cls, flags: Any, vocab_size: int) -> GumbelMax:
        """The scheme of the radioactivity authors' flags (`--method openai`).

        Parameters
        ----------
        flags : mapping or argparse.Namespace
            As in `KGW.from_radioactivity`; `gamma` is ignored.
        vocab_size : int
            The tokenizer's `vocab_size`.

        Examples
        --------
        >>> flags = {"method": "openai", "ngram": 4, "seed": 0, "hash_key": 35317}
        >>> GumbelMax.from_radioactivity(flags, 32000).window_width
        5
        """
        values = _radioactivity(flags, "openai")
        del values["gamma"]
        return cls(vocab_size=vocab_size, **values)


def _radioactivity(flags: Any, method: str) -> dict[str, Any]:
    given = dict(flags) if isinstance(flags, Mapping) else dict(vars(flags))
    for name in ("method", "method_detect"):
        said = given.get(name)
        if said not in (None, "none", "same") and not str(said).startswith(method):
            raise SchemeError(f"these flags say {name}={said!r}; this scheme is {method!r}")
    if given.get("payload"):
        raise SchemeError("payload must be 0: multi-bit watermarks are not supported")
    if given.get("ngram") is None:
        raise SchemeError("the flag ngram is missing; the authors' scripts differ in its default")
    if "hash_key" in given and "salt_key" in given:
        raise SchemeError("hash_key and salt_key are the same flag here; give one of them")
    seeding = given.get("seeding", "hash")
    salt = given.get("hash_key", given.get("salt_key", SALT_KEY))
    values = {"context_width": given["ngram"], "gamma": given.get("gamma", 0.25), "salt_key": salt}
    if seeding == "hash":
        return values | {"seeding": "hash", "seed": given.get("seed", 0)}
    choice("seeding", seeding, ("hash", "additive", "skip", "min"))
    if given.get("table_seed") is None:
        raise SchemeError(f"seeding={seeding!r} needs a table, and {_TABLE_WHY}")
    return values | {"seeding": f"table_{seeding}", "table_seed": given["table_seed"]}
