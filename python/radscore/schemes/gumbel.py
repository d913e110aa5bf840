"""Gumbel-max with torch's uniforms: Aaronson's sampling, the radioactivity authors' `openai`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.schemes.seeding import CUDA_NOTE, TorchSeeded, radioactivity_fields

if TYPE_CHECKING:
    from radscore.stats.laws import NullLaw

__all__ = ["GumbelMax"]


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
        arguments = self._seeding_arguments()
        return _core.Scheme(self.name, vocab_size=self.vocab_size, self_salt=False, **arguments)

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
        values = radioactivity_fields(flags, "openai")
        del values["gamma"]
        return cls(vocab_size=vocab_size, **values)
