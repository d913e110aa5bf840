"""How a context seeds torch's generator: what `KGW` and `GumbelMax` share, and `SBW` in part.

Two families of functions: the radioactivity authors' (a hash of the context, or an entry of a
table), and those of lm-watermarking and transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from radscore.errors import SchemeError, shown
from radscore.schemes.base import Scheme
from radscore.schemes.fields import choice, whole
from radscore.schemes.key import secret_int

if TYPE_CHECKING:
    from collections.abc import Hashable

    from radscore.schemes.draws import Draws

__all__ = [
    "CUDA_NOTE",
    "FUNCTIONS",
    "HASH_KEY",
    "NAMED_SEEDINGS",
    "PERIODIC_SEEDINGS",
    "PUBLIC_TABLE",
    "TABLE_SEEDINGS",
    "TorchSeeded",
    "free_form",
    "lm_watermarking_name",
    "named_seeding",
    "radioactivity_fields",
    "table_period",
]

CUDA_NOTE = (
    "The permutations and uniforms are those of torch's CPU generator (MT19937). Text that was "
    "watermarked with a generator on a GPU (Philox) has others for the same seed: neither this "
    "scheme nor any other detector that runs on the CPU can read it."
)


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
#: lm-watermarking's functions.
FUNCTIONS = _PLAIN + _HASHING
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
SEEDINGS = ("hash", *_TABLES, "last_token", *FUNCTIONS)

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


#: lm-watermarking's named schemes: function, width, self_salt.
NAMED_SEEDINGS = {
    "simple_1": ("additive", 1, False),
    "lefthash": ("additive", 1, False),
    "minhash": ("minhash", 4, False),
    "skipgram": ("skipgram", 5, False),
    "selfhash": ("anchored_minhash", 4, True),
    "algorithm-3": ("anchored_minhash", 4, True),
}


def lm_watermarking_name(scheme: str) -> tuple[str, int, bool, int | None]:
    """(function, width, self_salt, key) of a scheme string of lm-watermarking."""
    if not isinstance(scheme, str):
        raise SchemeError(f"the scheme must be named by a string, not {type(scheme).__name__}")
    if scheme in NAMED_SEEDINGS:
        return (*NAMED_SEEDINGS[scheme], None)
    if not scheme.startswith("ff-"):
        raise SchemeError(
            f"lm-watermarking has no scheme {scheme.partition('-')[0]!r}; it has "
            f"{', '.join(NAMED_SEEDINGS)} and ff-<function>-<width>-<self_salt>[-<key>]"
        )
    return free_form(scheme.removeprefix("ff-").split("-"), "ff-")


def named_seeding(name: str, values: Mapping[str, Any], *, transformers: bool) -> dict[str, Any]:
    """The fields of `KGW` behind a scheme's name in lm-watermarking or transformers.

    Raises
    ------
    SchemeError
        If there is no such name, it means several things, or contradicts other fields.
    """
    width = values.get("context_width")
    if name == "lefthash" and (transformers or width not in (None, 1)):
        return {"seeding": "last_token", "context_width": 1 if width is None else width}
    if name == "selfhash" and not transformers and "table_seed" not in values:
        raise SchemeError(
            "'selfhash' is two schemes: lm-watermarking's (add table_seed = "
            f'{LM_TABLE_SEED}) and that of transformers (add table_seed = "hash_key")'
        )
    function, own, self_salt, key = lm_watermarking_name(name)
    fields: dict[str, Any] = {}
    if transformers and name == "selfhash":
        width, fields = 1 if width is None else width, {"table_seed": "hash_key"}
    elif width is not None and width != own and name != "selfhash":
        raise SchemeError(f"{name!r} has a context_width of {own}, not {shown(width)}")
    if values.get("self_salt", self_salt) is not self_salt:
        raise SchemeError(f"{name!r} has self_salt = {str(self_salt).lower()}")
    fields |= {"seeding": function, "self_salt": self_salt}
    fields["context_width"] = own if width is None else width
    if key is not None and "hash_key" in values:
        raise SchemeError("hash_key is given twice: beside the scheme's name, and in it")
    return fields if key is None else {**fields, "hash_key": key}


def free_form(parts: list[str], prefix: str) -> tuple[str, int, bool, int | None]:
    """The parts of a free-form name after its prefix."""
    form = f"{prefix}<function>-<width>-<self_salt>[-<key>]"
    if not 3 <= len(parts) <= 4:
        raise SchemeError(f"a free-form scheme is {form}; this one has {len(parts)} parts")
    function, width, self_salt = parts[:3]
    if not width.isdecimal():
        raise SchemeError(f"the width of {form} must be a number, not {width!r}")
    if self_salt not in ("True", "False"):
        raise SchemeError(f"the self_salt of {form} must be True or False, not {self_salt!r}")
    key = None
    if len(parts) == 4:
        if not parts[3].isdecimal():
            raise SchemeError(f"the key of {form} must be a decimal number")
        key = int(parts[3])
    return function.removesuffix("_prf"), int(width), self_salt == "True", key


@dataclass(frozen=True, kw_only=True, repr=False)
class TorchSeeded(Scheme):
    """A scheme whose context seeds torch's CPU generator."""

    secrets: ClassVar[tuple[str, ...]] = ("seed", "salt_key", "hash_key")
    key_files: ClassVar[tuple[tuple[str, str], ...]] = (
        ("12345", "seeding = hash: the seed (salt_key is then 35317, the authors')"),
        ("seed = 12345\nsalt_key = 35317", "seeding = hash: both"),
        ("15485863", "the other seedings: hash_key (table_...: salt_key)"),
    )

    context_width: int = 2
    seeding: str = "hash"
    table_seed: int | str | None = field(
        default=None,
        metadata={"example": 0, "default": "none; only for seedings that read a table"},
    )
    seed: int = 0
    salt_key: int = SALT_KEY
    hash_key: int = HASH_KEY

    def _check(self) -> None:
        if self.seeding in tuple(NAMED_SEEDINGS) and self.seeding not in SEEDINGS:
            raise SchemeError(
                f"seeding={self.seeding!r} is more than a function: use KGW.from_lm_watermarking "
                "or KGW.from_transformers, which also know its width"
            )
        self._set("seeding", choice("seeding", self.seeding, SEEDINGS))
        self._set("seed", secret_int("seed", self.seed, 0, 2**64 - 1))
        most = 2**64 - 1 if self.seeding == "hash" else _INT64
        self._set("salt_key", secret_int("salt_key", self.salt_key, 1, most))
        self._set("hash_key", secret_int("hash_key", self.hash_key, 1, _INT64))
        used = self._used_secrets
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

    @property
    def _used_secrets(self) -> tuple[str, ...]:
        return self.key_fields({"seeding": self.seeding})

    def _unused(self) -> frozenset[str]:
        unused = set(self.secrets).difference(self._used_secrets)
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
    def key_fields(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The secret fields that a seeding reads."""
        seeding = values.get("seeding", "hash")
        if seeding == "hash":
            return "seed", "salt_key"
        return ("salt_key",) if seeding in _TABLES else ("hash_key",)

    def _seeding_arguments(self) -> dict[str, Any]:
        table = self.hash_key if self.table_seed == "hash_key" else self.table_seed
        key = getattr(self, self._used_secrets[-1])
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
            key = secret[self.secrets.index(self._used_secrets[0])]
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
        return {self._used_secrets[0]: draws.between(1, _INT64)}


def radioactivity_fields(flags: Any, method: str) -> dict[str, Any]:
    """A scheme's fields from the radioactivity authors' flags, which must fit its method."""
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
