"""Schemes that hash a window and compare: TextSeal, SBW, and our own keyed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.base import MAX_CONTEXT_WIDTH, Draws, Scheme, choice, flag, real, whole
from radscore.schemes.key import Key, Secret, secret_bytes, secret_int
from radscore.schemes.permutation import (
    PERIODIC_SEEDINGS,
    PUBLIC_TABLE,
    TABLE_SEEDINGS,
    table_period,
)
from radscore.schemes.reading import as_fields, free_form
from radscore.schemes.serving import vllm_fields

if TYPE_CHECKING:
    from collections.abc import Hashable

    from radscore.stats.laws import NullLaw

__all__ = ["SBW", "Keyed", "TextSeal"]

_INT64 = 2**63 - 1
_METHODS = ("green", "gumbel")
#: How the types of watermark of the package `textseal` are read.
_TEXTSEAL_TYPES = {
    "greenlist": "green",
    "dipmark": "green",
    "morphmark": "green",
    "gumbelmax": "gumbel",
}
_TEXTSEAL = ("watermark_type", "base_watermark", "secret_key", "ngram", "gamma", "key_routing")
_TEXTSEAL_GENERATION = (
    *("method", "delta", "alpha", "depth", "after_topp", "k_morphmark", "p_0", "chunk_size"),
    *("num_drafts", "attenuation", "attenuation_weight", "backprop_on_nonzero", "scoring_method"),
    *("secret_key_b", "mixing_alpha"),  # of the type `textseal`
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Threshold(Scheme):
    """A scheme that is either a green list or, by the same hash, Gumbel-max."""

    context_width: int
    gamma: float | None
    method: str = "green"

    def _check(self) -> None:
        self._set("context_width", whole("context_width", self.context_width, 1, MAX_CONTEXT_WIDTH))
        self._set("method", choice("method", self.method, _METHODS))
        if self.method == "gumbel":
            self._set("gamma", None)
        elif self.gamma is None:
            raise SchemeError("gamma must be given with method='green'")
        else:
            self._set("gamma", real("gamma", self.gamma))

    def _unused(self) -> frozenset[str]:
        return frozenset({"gamma"} if self.gamma is None else ())

    @property
    def null_law(self) -> NullLaw:
        """Binomial with the exact share of green values, or Gamma(n, 1)."""
        from radscore.stats.laws import BernoulliLaw, ExponentialLaw

        if self.method == "gumbel":
            return ExponentialLaw()
        return BernoulliLaw(self.share)


@dataclass(frozen=True, kw_only=True, repr=False)
class TextSeal(Threshold):
    """TextSeal's hash (Meta; package `textseal` 0.0.5).

    Parameters
    ----------
    vocab_size : int
        Size of the vocabulary.
    key : int
        Signed 64-bit integer (the package's `secret_key`).
    context_width : int
        Preceding tokens that are hashed, 1 to 10 (the package's `ngram`).
    gamma : float
        Share that is green. The hash has 8191 values, so the true share is a multiple of 1/8191
        and `null_law` uses that.
    method : str
        `green` (the package's `greenlist`, `dipmark` and `morphmark`) or `gumbel` (its
        `gumbelmax`).

    Notes
    -----
    Keys are not independent of each other: the key enters linearly before a single xor-shift,
    and the green lists of the keys k and k + d can agree with a correlation of 0.10. Decoys are
    drawn from the whole range and kept apart from each other; another owner's mark under a
    neighbouring key can look like one's own.

    Examples
    --------
    >>> TextSeal(vocab_size=128000, key=42, gamma=0.5).core.share
    (4096, 8191)
    """

    name: ClassVar[str] = "textseal"
    description: ClassVar[str] = "hash of a linear form modulo 8191: Meta's TextSeal"
    notes: ClassVar[tuple[str, ...]] = (
        (
            "Keys are not independent: the green lists of neighbouring keys can be correlated (up "
            "to 0.10), so another owner's mark can look like one's own."
        ),
        "Distinct windows can share a unit; the default deduplication counts them once.",
    )

    key: int
    context_width: int = 1
    gamma: float | None = 0.5

    #: Decoy keys keep this distance from the key and from each other.
    APART: ClassVar[int] = 2**32

    def _check(self) -> None:
        super()._check()
        self._set("context_width", whole("context_width", self.context_width, 1, 10))
        self._set("key", secret_int("key", self.key, -(2**63), _INT64))

    def _build(self) -> _core.Scheme:
        return _core.Scheme.textseal(
            key=self.key,
            vocab_size=self.vocab_size,
            context_width=self.context_width,
            gamma=self.gamma,
        )

    @property
    def dependence(self) -> str:
        """Draws of windows at certain distances are correlated."""
        return (
            "the key enters the hash linearly, so that draws of windows at certain distances are "
            "correlated under every key (up to 0.4); compare with decoy keys"
        )

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        return {"key": draws.between(-(2**63), _INT64)}

    def _apart(self, secret: tuple[Any, ...], taken: list[tuple[Any, ...]]) -> bool:
        return all(abs(secret[0] - other[0]) >= self.APART for other in taken)

    @classmethod
    def from_textseal(cls, config: Any, vocab_size: int) -> TextSeal:
        """The scheme of a `WatermarkConfig` of the package `textseal`.

        Parameters
        ----------
        config : WatermarkConfig or mapping
            `watermark_type` says how it is read: `greenlist`, `dipmark` and `morphmark` are green
            lists, `gumbelmax` is Gumbel-max; `watermax` is read as its `base_watermark`. `method`
            says nothing: the package overwrites it. `secret_key`, `ngram` and `gamma` are read
            besides; what only generation and training need is ignored.
        vocab_size : int
            The model's vocabulary.

        Raises
        ------
        SchemeError
            If this class cannot read that type of watermark (`synthid`, `textseal`), or a field is
            unknown.

        Examples
        --------
        >>> config = {"watermark_type": "greenlist", "secret_key": 42, "ngram": 2, "gamma": 0.25}
        >>> TextSeal.from_textseal(config, 128000).method
        'green'
        """
        what = "TextSeal's WatermarkConfig"
        values = dict(config) if hasattr(config, "keys") else dict(vars(config))
        values = as_fields(values, what, known=_TEXTSEAL, ignored=_TEXTSEAL_GENERATION)
        kind = values.get("watermark_type")
        if kind is None:
            raise SchemeError(f"{what} has no watermark_type, which says how it is read")
        if kind == "watermax":
            kind = values.get("base_watermark", "greenlist")
        if kind not in _TEXTSEAL_TYPES:
            raise SchemeError(
                f"the watermark_type of {what} must be one of {', '.join(_TEXTSEAL_TYPES)}, not "
                f"{kind!r}, which radscore.TextSeal does not read"
            )
        if values.get("key_routing"):
            raise SchemeError(f"{what}: key_routing must be off; text of two keys is not read")
        return cls(
            vocab_size=vocab_size,
            key=values.get("secret_key", 42),
            context_width=values.get("ngram", 1),
            gamma=values.get("gamma", 0.5),
            method=_TEXTSEAL_TYPES[kind],
        )


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

    key: int
    gamma: float = 0.5
    seeding: str = "anchored_minhash"
    context_width: int = 4
    self_salt: bool = True
    hashing: str = "integer"

    def _check(self) -> None:
        self._set("key", secret_int("key", self.key, 1, _INT64))
        self._set("gamma", real("gamma", self.gamma))
        self._set("context_width", whole("context_width", self.context_width, 1, MAX_CONTEXT_WIDTH))
        self._set("self_salt", flag("self_salt", self.self_salt))
        self._set("hashing", choice("hashing", self.hashing, ("integer", "table")))

    def _build(self) -> _core.Scheme:
        return _core.Scheme.sbw(
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


@dataclass(frozen=True, kw_only=True, repr=False)
class Keyed(Threshold):
    """Our own scheme: a keyed cryptographic hash (SipHash-2-4) of the whole window.

    Distinct windows are independent under H0 by construction, a token costs one hash, and nobody
    without the key can forge the mark or learn green lists.

    Parameters
    ----------
    key : Key, bytes or str
        128 bits: 16 bytes or 32 hexadecimal digits.
    vocab_size : int
        Size of the vocabulary.
    gamma : float
        Share that is green; the true share is `floor(gamma * 2^64) / 2^64`.
    context_width : int
        Preceding tokens that are hashed.
    method : str
        `green`, or `gumbel` for Gumbel-max sampling.

    Examples
    --------
    >>> scheme = Keyed(key=Key.generate(), vocab_size=49_152, gamma=0.25, context_width=2)
    >>> scheme.units_are_windows
    True
    """

    name: ClassVar[str] = "keyed"
    description: ClassVar[str] = "keyed cryptographic hash of the window: radscore's own"

    key: Key
    context_width: int = 2
    gamma: float | None = 0.25

    def _check(self) -> None:
        super()._check()
        self._set("key", Key(secret_bytes("key", self.key, 16)))

    def _build(self) -> _core.Scheme:
        return _core.Scheme.keyed(
            key=secret_bytes("key", self.key, 16),
            vocab_size=self.vocab_size,
            context_width=self.context_width,
            gamma=self.gamma,
        )

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        return {"key": Key(draws.data(16))}
