"""radscore's own scheme: a keyed cryptographic hash of the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.schemes.generation import UNBOUNDED, Engine
from radscore.schemes.key import Key, secret_bytes
from radscore.schemes.threshold import Threshold

if TYPE_CHECKING:
    from radscore.schemes.draws import Draws

__all__ = ["Keyed"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Keyed(Threshold):
    """radscore's own scheme: a keyed cryptographic hash (SipHash-2-4) of the whole window.

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

    key_files: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "000102030405060708090a0b0c0d0e0f",
            "32 hexadecimal digits (draw them at random)",
        ),
    )

    key: Key
    context_width: int = 2
    gamma: float | None = 0.25

    def _check(self) -> None:
        super()._check()
        self._set("key", Key(secret_bytes("key", self.key, 16)))

    def _build(self) -> _core.Scheme:
        return _core.Scheme(
            self.name,
            key=secret_bytes("key", self.key, 16),
            vocab_size=self.vocab_size,
            context_width=self.context_width,
            gamma=self.gamma,
        )

    @property
    def engine(self) -> Engine:
        """Gumbel-max leaves a repeated context unmarked: it would repeat the token, too."""
        return Engine(history=UNBOUNDED) if self.method == "gumbel" else Engine()

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        return {"key": Key(draws.data(16))}
