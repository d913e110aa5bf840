"""SBW, stateless Bernoulli watermarking: one Philox word below a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.base import Scheme
from radscore.schemes.fields import choice, flag, real
from radscore.schemes.key import Secret, secret_int
from radscore.schemes.seeding import (
    PERIODIC_SEEDINGS,
    PUBLIC_TABLE,
    TABLE_SEEDINGS,
    free_form,
    table_period,
)
from radscore.schemes.vllm import vllm_fields

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from radscore.schemes.draws import Draws
    from radscore.stats.laws import NullLaw

__all__ = ["SBW"]

_INT64 = 2**63 - 1


@dataclass(frozen=True, kw_only=True, repr=False)
class SBW(Scheme):
    """Stateless Bernoulli watermarking (Ceppi and Sanchez, EMNLP 2026; package `sbw`, vLLM).

    Parameters
    ----------
    vocab_size : int
        Size of the vocabulary.
    key : int
        0 to 2^63 - 1.
    gamma : float
        Share that is green; the true share is `int(gamma * (2^31 - 1)) / 2^31`.
    seeding : str
        One of lm-watermarking's functions: `anchored_minhash` (`selfhash`), `additive`
        (`lefthash`), ...
    context_width : int
        Tokens that the seeding reads; with `self_salt` the target is the last of them.
    self_salt : bool
        Whether the target itself is part of what is hashed.
    hashing : str
        `integer`: Jenkins' hash; `table`: lm-watermarking's table (the package's `-cpuhash`).

    Examples
    --------
    >>> SBW.from_sbw("gpu-selfhash", key=42, vocab_size=32000) == SBW(key=42, vocab_size=32000)
    True
    """

    name: ClassVar[str] = "sbw"
    description: ClassVar[str] = "one Philox word a token below a threshold: sbw, vLLM's 'sbw'"
    notes: ClassVar[tuple[str, ...]] = (
        (
            "The package's schemes without the prefix 'gpu-' are lm-watermarking's permutations: "
            "use kgw for them."
        ),
    )
    algorithms: ClassVar[Mapping[str, str]] = {"vllm": "sbw"}

    key: int
    gamma: float = 0.5
    seeding: str = "anchored_minhash"
    context_width: int = 4
    self_salt: bool = True
    hashing: str = "integer"

    def _check(self) -> None:
        self._set("key", secret_int("key", self.key, 1, _INT64))
        self._set("gamma", real("gamma", self.gamma))
        self._set("self_salt", flag("self_salt", self.self_salt))
        self._set("hashing", choice("hashing", self.hashing, ("integer", "table")))

    def _build(self) -> _core.Scheme:
        return _core.Scheme(
            self.name,
            key=self.key,
            vocab_size=self.vocab_size,
            gamma=self.gamma,
            seeding=self.seeding,
            context_width=self.context_width,
            self_salt=self.self_salt,
            table_hash=self.hashing == "table",
        )

    @property
    def null_law(self) -> NullLaw:
        """Binomial with the exact share `int(gamma * (2^31 - 1)) / 2^31`."""
        from radscore.stats.laws import BernoulliLaw

        return BernoulliLaw(self.share)

    @property
    def dependence(self) -> str:
        """With lm-watermarking's table, seeds come from a public list."""
        hashing = self.hashing == "table" and self.seeding in TABLE_SEEDINGS
        return PUBLIC_TABLE if hashing else ""

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        return {"key": draws.between(1, _INT64)}

    def _function(self, secret: tuple[Any, ...]) -> Hashable:
        if self.hashing == "table" and self.seeding in PERIODIC_SEEDINGS:
            return table_period(secret[0], self.vocab_size)
        return secret

    @classmethod
    def from_sbw(cls, scheme: str, *, key: Secret, vocab_size: int, gamma: float = 0.5) -> SBW:
        """The scheme that a string of the package `sbw` names.

        Parameters
        ----------
        scheme : str
            `gpu-simple_1`, `gpu-minhash`, `gpu-skipgram`, `gpu-selfhash`, `gpu-selfhash-cpuhash`,
            `gpu-fused-selfhash`, `gpu-fused-simple_4`, `gpu-ff-<function>-<width>-<self_salt>`;
            a number of candidates behind it only matters to generation.
        key : int
            The package's `hash_key`.
        vocab_size : int
            The model's vocabulary.
        gamma : float
            Share that is green.

        Examples
        --------
        >>> SBW.from_sbw("gpu-selfhash-cpuhash-100", key=42, vocab_size=32000).hashing
        'table'
        """
        function, width, self_salt = _sbw_name(scheme)
        return cls(
            vocab_size=vocab_size,
            key=key,  # type: ignore[arg-type]  # canonical after the checks
            gamma=gamma,
            seeding=function,
            context_width=width,
            self_salt=self_salt,
            hashing="table" if "cpuhash" in scheme.split("-") else "integer",
        )

    @classmethod
    def from_vllm(cls, config: Any, vocab_size: int) -> SBW:
        """The scheme of a `--watermark-config` of vLLM with `algorithm` `sbw`.

        Parameters
        ----------
        config : mapping, JSON text or path
            vLLM's configuration; what only generation needs is ignored.
        vocab_size : int
            The model's vocabulary.

        Examples
        --------
        >>> config = {"algorithm": "sbw", "key": 42, "sbw_scheme": "lefthash"}
        >>> SBW.from_vllm(config, 32000).context_width
        1
        """
        values = vllm_fields(config, "sbw")
        scheme = choice(
            "sbw_scheme", values.get("sbw_scheme", "selfhash"), ("selfhash", "lefthash")
        )
        own = scheme == "selfhash"
        return cls(
            vocab_size=vocab_size,
            key=values["key"],
            gamma=values.get("sbw_gamma", 0.5),
            seeding="anchored_minhash" if own else "additive",
            context_width=values.get("context_width", 4 if own else 1),
            self_salt=own,
        )


def _sbw_name(scheme: str) -> tuple[str, int, bool]:
    if not isinstance(scheme, str):
        raise SchemeError(f"the scheme must be named by a string, not {type(scheme).__name__}")
    if not scheme.startswith("gpu-"):
        raise SchemeError(
            f"sbw's scheme {scheme!r} is a permutation of lm-watermarking; use "
            "KGW.from_lm_watermarking (the stateless schemes begin with 'gpu-')"
        )
    name = scheme.removeprefix("gpu-")
    fused = name.startswith("fused-")
    first, *rest = name.removeprefix("fused-").split("-")
    named = {
        "simple_1": ("additive", 1, False),
        "simple_4": ("additive", 4, False),
        "minhash": ("minhash", 4, False),
        "skipgram": ("skipgram", 5, False),
        "selfhash": ("anchored_minhash", 4, True),
    }
    allowed = {"selfhash": {"fullvocab", "cudagraphs" if fused else "cpuhash"}}
    if first == "ff" and not fused:
        function, width, self_salt, _ = free_form(rest[:3], "gpu-ff-")
        found, rest = (function, width, self_salt), rest[3:]
    elif first in named and (first in ("simple_4", "selfhash") if fused else first != "simple_4"):
        found = named[first]
    else:
        raise SchemeError(f"sbw has no scheme {scheme!r}; it has {', '.join(named)} and ff-...")
    # What is left says how many tokens are looked at, but for the hash.
    takes = found[2] or first == "simple_4"
    known = allowed.get(first, {"fullvocab"} if takes else set())
    for part in rest:
        if part not in known and not (takes and part.isdecimal()):
            raise SchemeError(f"sbw has no scheme {scheme!r}: {part!r} says nothing to {first}")
    return found
