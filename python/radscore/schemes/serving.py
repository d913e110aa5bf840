"""The Gumbel watermarks of the serving engines: vLLM and SGLang."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.base import MAX_CONTEXT_WIDTH, Draws, Scheme, choice, real, whole
from radscore.schemes.key import secret_int
from radscore.schemes.reading import as_fields, json_fields

if TYPE_CHECKING:
    from collections.abc import Hashable

    from radscore.stats.laws import NullLaw

__all__ = ["SGLangGumbel", "VLLMDualKeyGumbel", "VLLMGumbel", "vllm_fields"]

_UINT64 = 2**64 - 1
_VLLM = ("algorithm", "key", "alpha", "context_width", "prf", "sbw_scheme", "sbw_gamma")
_VLLM_GENERATION = (
    "deduplicate_contexts",
    "deduplicate_contexts_max_history",
    "allow_target_only_watermarking",
    "sbw_delta",
)
#: Algorithms of vLLM's development versions.
_VLLM_UNREAD = ("synthid_text", "synthid", "red_green")


def vllm_fields(config: Any, *algorithms: str) -> dict[str, Any]:
    """The fields of a `--watermark-config` that matter to a detector of one of some algorithms.

    How contexts that come again are left unmarked does not matter: those are read, and say
    nothing. It is checked all the same, as vLLM does.
    """
    what = "vLLM's watermark config"
    given = json_fields(config, what)
    algorithm = given.get("algorithm", "gumbel")
    if algorithm not in algorithms:
        raise SchemeError(
            f"the algorithm of {what} must be {' or '.join(algorithms)} here, not {algorithm!r}"
            + ("; this version cannot read it" if algorithm in _VLLM_UNREAD else "")
        )
    values = as_fields(given, what, known=_VLLM, ignored=_VLLM_GENERATION)
    choice("prf", values.get("prf", "philox"), ("philox",))
    scope = given.get("deduplicate_contexts")
    choice("deduplicate_contexts", scope or "single_turn", ("none", "single_turn", "all"))
    history = given.get("deduplicate_contexts_max_history")
    if history is not None:
        whole("deduplicate_contexts_max_history", history, 1, 2**63 - 1)
    if values.get("key") is None:
        raise SchemeError(f"{what} has no key")
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True, repr=False)
class VLLMGumbel(Scheme):
    """vLLM's Gumbel-max watermark (`algorithm` `gumbel`; read in 0.33.0).

    Parameters
    ----------
    vocab_size : int
        Size of the vocabulary.
    key : int
        Unsigned 64-bit integer.
    context_width : int
        Preceding tokens that are hashed, 1 to 64.

    Notes
    -----
    vLLM pads contexts by -1 on the left from the first generated token on, never with the prompt's
    tail, so scoring starts at position 0. The first token's context is the same in every document:
    each of its tokens counts once. vLLM's detector scores each context's first occurrence
    (``dedup="context"``). It leaves contexts that come again unmarked (`deduplicate_contexts`), and
    with the scope ``all`` the first `context_width` tokens; they are read, and say nothing.

    Examples
    --------
    >>> VLLMGumbel(vocab_size=1000, key=42).scores([[-1, -1, 7, 8, 9]]).round(6)
    array([0.614633])
    """

    name: ClassVar[str] = "vllm_gumbel"
    description: ClassVar[str] = "Gumbel-max with Philox: vLLM's --watermark-config, 'gumbel'"

    key: int
    context_width: int = 4

    def _check(self) -> None:
        self._set("key", secret_int("key", self.key, 0, _UINT64))
        self._set("context_width", whole("context_width", self.context_width, 1, MAX_CONTEXT_WIDTH))

    def _build(self) -> _core.Scheme:
        return _core.Scheme.vllm_gumbel(
            key=self.key,
            vocab_size=self.vocab_size,
            context_width=self.context_width,
            alpha=None,
        )

    @property
    def null_law(self) -> NullLaw:
        """Gamma(n, 1): each score is Exp(1)."""
        from radscore.stats.laws import ExponentialLaw

        return ExponentialLaw()

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        return {"key": draws.between(0, _UINT64)}

    @classmethod
    def from_vllm(cls, config: Any, vocab_size: int) -> VLLMGumbel:
        """The scheme of a `--watermark-config` with `algorithm` `gumbel` (the default).

        Parameters
        ----------
        config : mapping, JSON text or path
            vLLM's configuration; what only generation or other algorithms need is ignored.
        vocab_size : int
            The model's vocabulary.

        Examples
        --------
        >>> VLLMGumbel.from_vllm('{"algorithm": "gumbel", "key": 42}', 32000).context_width
        4
        """
        values = vllm_fields(config, "gumbel")
        width = values.get("context_width", 4)
        return cls(vocab_size=vocab_size, key=values["key"], context_width=width)


@dataclass(frozen=True, kw_only=True, repr=False)
class VLLMDualKeyGumbel(VLLMGumbel):
    """vLLM's Gumbel-max watermark with two keys (`algorithm` `dual_key_gumbel`).

    Both keys are derived from `key`; generation uses key B with probability `alpha`, and the
    score is `(1 - alpha) s_A + alpha s_B`. `null_law` is exact; vLLM's own p-value is an
    approximation by a Gamma law of the same moments.

    Parameters
    ----------
    vocab_size, key, context_width
        As in `VLLMGumbel`.
    alpha : float
        0 to 1.

    Examples
    --------
    >>> scheme = VLLMDualKeyGumbel(vocab_size=1000, key=42, alpha=0.3)
    >>> scheme.uniforms([[1, 2, 3, 4]], key_index=1).shape
    (1, 1000)
    """

    name: ClassVar[str] = "vllm_dual_key_gumbel"
    description: ClassVar[str] = (
        "Gumbel-max with two keys: vLLM's --watermark-config, 'dual_key_gumbel'"
    )

    alpha: float = 0.1

    def _check(self) -> None:
        super()._check()
        self._set("alpha", real("alpha", self.alpha))

    def _build(self) -> _core.Scheme:
        return _core.Scheme.vllm_gumbel(
            key=self.key,
            vocab_size=self.vocab_size,
            context_width=self.context_width,
            alpha=self.alpha,
        )

    @property
    def null_law(self) -> NullLaw:
        """Law of a sum of two scaled Gamma variables."""
        from radscore.stats.laws import DualExponentialLaw

        return DualExponentialLaw(self.alpha)

    @classmethod
    def from_vllm(cls, config: Any, vocab_size: int) -> VLLMDualKeyGumbel:
        """The scheme of a `--watermark-config` with `algorithm` `dual_key_gumbel`.

        Parameters
        ----------
        config : mapping, JSON text or path
            vLLM's configuration; what only generation or other algorithms need is ignored.
        vocab_size : int
            The model's vocabulary.

        Examples
        --------
        >>> config = {"algorithm": "dual_key_gumbel", "key": 42, "alpha": 0.2}
        >>> VLLMDualKeyGumbel.from_vllm(config, 32000).alpha
        0.2
        """
        values = vllm_fields(config, "dual_key_gumbel")
        return cls(
            vocab_size=vocab_size,
            key=values["key"],
            context_width=values.get("context_width", 4),
            alpha=values.get("alpha", 0.1),
        )


def _state(key: int, state: int = 0) -> int:
    """What MurmurHash3 keeps of a key's two words: all keys of one state are one function."""
    for word in (key & 0xFFFF_FFFF, key >> 32):
        k = word * 0xCC9E2D51 & 0xFFFF_FFFF
        k = (k << 15 | k >> 17) * 0x1B873593 & 0xFFFF_FFFF
        state ^= k
        state = ((state << 13 | state >> 19) * 5 + 0xE6546B64) & 0xFFFF_FFFF
    return state


@dataclass(frozen=True, kw_only=True, repr=False)
class SGLangGumbel(Scheme):
    """SGLang's Gumbel-max watermark (`--enable-watermark`; read in 0.5.23).

    Parameters
    ----------
    vocab_size : int
        Size of the vocabulary.
    key : int or str
        Unsigned 64-bit integer; text is 1 to 16 hexadecimal digits, as SGLang writes keys.
    key_b : int or str, optional
        A second key; a coin of the context chooses.
    mixing_probability : float
        Probability of `key`, where there is a second one.
    context_width : int
        Preceding tokens that are hashed (SGLang's `context_window`).

    Notes
    -----
    The unit is (32-bit hash of the context, target). SGLang marks at most the first 4,096
    distinct contexts of one generation.

    Examples
    --------
    >>> SGLangGumbel(vocab_size=1000, key="2a") == SGLangGumbel(vocab_size=1000, key=42)
    True
    """

    name: ClassVar[str] = "sglang_gumbel"
    description: ClassVar[str] = "Gumbel-max with MurmurHash3: SGLang's --enable-watermark"
    notes: ClassVar[tuple[str, ...]] = (
        (
            "SGLang's hash is no cryptographic function; whoever has watermarked text with known "
            "contexts may learn about the key."
        ),
    )
    secrets: ClassVar[tuple[str, ...]] = ("key", "key_b")

    key: int
    key_b: int | None = None
    mixing_probability: float = 0.5
    context_width: int = 4

    def _check(self) -> None:
        self._set("key", secret_int("key", self.key, 0, _UINT64, hexadecimal=True))
        if self.key_b is not None:
            self._set("key_b", secret_int("key_b", self.key_b, 0, _UINT64, hexadecimal=True))
        mixing = real("mixing_probability", self.mixing_probability)
        self._set("mixing_probability", mixing)
        self._set("context_width", whole("context_width", self.context_width, 1, MAX_CONTEXT_WIDTH))

    def _unused(self) -> frozenset[str]:
        if self.key_b is not None:
            return frozenset()
        return frozenset({"key_b", "mixing_probability"})

    def _build(self) -> _core.Scheme:
        second = None if self.key_b is None else (self.key_b, self.mixing_probability)
        return _core.Scheme.sglang_gumbel(
            key=self.key,
            second=second,
            vocab_size=self.vocab_size,
            context_width=self.context_width,
        )

    @property
    def null_law(self) -> NullLaw:
        """Gamma(n, 1): each score is Exp(1), whichever key the coin chose."""
        from radscore.stats.laws import ExponentialLaw

        return ExponentialLaw()

    @property
    def dependence(self) -> str:
        """MurmurHash3 keeps 32 bits of the key."""
        return (
            "the hash keeps 32 bits of the key, which chooses one of 2^32 functions: text that was "
            "searched for against all of them scores without the key; compare with decoy keys"
        )

    def _function(self, secret: tuple[Any, ...]) -> Hashable:
        key, key_b = secret
        if key_b is None:
            return _state(key)
        return _state(key), _state(key_b), _state(key_b, _state(key))

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        decoy = {"key": draws.between(0, _UINT64)}
        if self.key_b is not None:
            decoy["key_b"] = draws.between(0, _UINT64)
        return decoy

    @classmethod
    def from_sglang(cls, config: Any, vocab_size: int) -> SGLangGumbel:
        """The scheme of SGLang's `--watermark-config`.

        Parameters
        ----------
        config : mapping, JSON text or path
            `key`, `key_b`, `context_window`, `mixing_probability`; what only generation needs is
            ignored.
        vocab_size : int
            The model's vocabulary.

        Examples
        --------
        >>> SGLangGumbel.from_sglang('{"key": "2a", "context_window": 2}', 32000).context_width
        2
        """
        values = as_fields(
            json_fields(config, "SGLang's watermark config"),
            "SGLang's watermark config",
            known=("key", "key_b", "context_window", "mixing_probability"),
            ignored=("max_probability", "default_enabled", "enforce_all"),
        )
        values = {name: value for name, value in values.items() if value is not None}
        if "key" not in values:
            raise SchemeError("SGLang's watermark config has no key")
        return cls(
            vocab_size=vocab_size,
            key=values["key"],
            key_b=values.get("key_b"),
            mixing_probability=values.get("mixing_probability", 0.5),
            context_width=values.get("context_window", 4),
        )
