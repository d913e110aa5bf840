"""SGLang's Gumbel watermark, with one key or two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.base import Scheme
from radscore.schemes.fields import real
from radscore.schemes.generation import UNBOUNDED, Engine
from radscore.schemes.key import secret_int
from radscore.schemes.tools import SGLANG, as_fields, json_fields

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from radscore.schemes.draws import Draws
    from radscore.stats.laws import NullLaw

__all__ = ["SGLangGumbel"]

_UINT64 = 2**64 - 1


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
    key_files: ClassVar[tuple[tuple[str, str], ...]] = (
        ("2a", "up to 16 hexadecimal digits, as SGLang reads them: 42"),
        ('key = "2a"\nkey_b = "2b"', "two keys"),
    )
    algorithms: ClassVar[Mapping[str, str]] = {"sglang": "gumbel"}

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

    def _unused(self) -> frozenset[str]:
        if self.key_b is not None:
            return frozenset()
        return frozenset({"key_b", "mixing_probability"})

    def _build(self) -> _core.Scheme:
        return _core.Scheme(
            self.name,
            key=self.key,
            key_b=self.key_b,
            mixing_probability=None if self.key_b is None else self.mixing_probability,
            vocab_size=self.vocab_size,
            context_width=self.context_width,
        )

    @property
    def engine(self) -> Engine:
        """The first 4,096 distinct contexts of a generation are marked, once each."""
        return Engine(history=UNBOUNDED, distinct=4096)

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
            json_fields(config, SGLANG),
            SGLANG,
            known=("key", "key_b", "context_window", "mixing_probability"),
            ignored=("max_probability", "default_enabled", "enforce_all"),
        )
        values = {name: value for name, value in values.items() if value is not None}
        if "key" not in values:
            raise SchemeError(f"{SGLANG} has no key")
        return cls(
            vocab_size=vocab_size,
            key=values["key"],
            key_b=values.get("key_b"),
            mixing_probability=values.get("mixing_probability", 0.5),
            context_width=values.get("context_window", 4),
        )
