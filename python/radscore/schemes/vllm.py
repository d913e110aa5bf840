"""vLLM's Gumbel watermarks, with one key and with two, and vLLM's `--watermark-config`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.base import Scheme
from radscore.schemes.fields import choice, real, whole
from radscore.schemes.generation import Engine
from radscore.schemes.key import secret_int
from radscore.schemes.tools import VLLM, as_fields, json_fields, unread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radscore.schemes.draws import Draws
    from radscore.stats.laws import NullLaw

__all__ = ["VLLMDualKeyGumbel", "VLLMGumbel", "vllm_fields"]


_UINT64 = 2**64 - 1
_FIELDS = ("algorithm", "key", "alpha", "context_width", "prf", "sbw_scheme", "sbw_gamma")
_GENERATION = (
    "deduplicate_contexts",
    "deduplicate_contexts_max_history",
    "allow_target_only_watermarking",
    "sbw_delta",
)


def vllm_fields(config: Any, *algorithms: str) -> dict[str, Any]:
    """The fields of a `--watermark-config` that matter to a detector of one of some algorithms.

    How contexts that come again are left unmarked does not matter: those are read, and say
    nothing. It is checked all the same, as vLLM does.
    """
    given = json_fields(config, VLLM)
    algorithm = given.get("algorithm", "gumbel")
    if algorithm not in algorithms:
        raise unread("vllm", algorithm, algorithms)
    values = as_fields(given, VLLM, known=_FIELDS, ignored=_GENERATION)
    choice("prf", values.get("prf", "philox"), ("philox",))
    scope = given.get("deduplicate_contexts")
    choice("deduplicate_contexts", scope or "single_turn", ("none", "single_turn", "all"))
    history = given.get("deduplicate_contexts_max_history")
    if history is not None:
        whole("deduplicate_contexts_max_history", history, 1, 2**63 - 1)
    if values.get("key") is None:
        raise SchemeError(f"{VLLM} has no key")
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
    algorithms: ClassVar[Mapping[str, str]] = {"vllm": "gumbel"}

    key: int
    context_width: int = 4

    def _check(self) -> None:
        self._set("key", secret_int("key", self.key, 0, _UINT64))

    def _build(self) -> _core.Scheme:
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        return _core.Scheme(self.name, **own)

    @property
    def engine(self) -> Engine:
        """A context that the last 8,192 positions hold is left unmarked."""
        return Engine(history=8192, reach_prompt=False, fill=self.padding)

    @property
    def null_law(self) -> NullLaw:
        """Gamma(n, 1): each score is Exp(1)."""
        from radscore.stats.laws import ExponentialLaw

        return ExponentialLaw()

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        return {"key": draws.between(0, _UINT64)}

    @classmethod
    def from_vllm(cls, config: Any, vocab_size: int) -> Self:
        """The scheme of a `--watermark-config` with this `algorithm`, by default `gumbel`.

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
        >>> config = {"algorithm": "dual_key_gumbel", "key": 42, "alpha": 0.2}
        >>> VLLMDualKeyGumbel.from_vllm(config, 32000).alpha
        0.2
        """
        values = vllm_fields(config, *cls.algorithms.values())
        own = {one.name for one in fields(cls)}
        return cls(vocab_size=vocab_size, **{name: values[name] for name in own & set(values)})


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
    algorithms: ClassVar[Mapping[str, str]] = {"vllm": "dual_key_gumbel"}

    alpha: float = 0.1

    def _check(self) -> None:
        super()._check()
        self._set("alpha", real("alpha", self.alpha))

    @property
    def key_shares(self) -> tuple[float, ...]:
        """Key B is used with probability `alpha`."""
        return (1.0 - self.alpha, self.alpha) if self.alpha else (1.0,)

    @property
    def null_law(self) -> NullLaw:
        """Law of a sum of two scaled Gamma variables."""
        from radscore.stats.laws import DualExponentialLaw

        return DualExponentialLaw(self.alpha)
