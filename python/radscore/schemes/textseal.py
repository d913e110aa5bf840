"""TextSeal, Meta's watermark: a linear hash modulo 8191."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.key import secret_int
from radscore.schemes.threshold import Threshold
from radscore.schemes.tools import as_fields

if TYPE_CHECKING:
    from radscore.schemes.draws import Draws

__all__ = ["TextSeal"]

_INT64 = 2**63 - 1
#: How the types of watermark of the package `textseal` are read.
_TYPES = {
    "greenlist": "green",
    "dipmark": "green",
    "morphmark": "green",
    "gumbelmax": "gumbel",
}
_FIELDS = ("watermark_type", "base_watermark", "secret_key", "ngram", "gamma", "key_routing")
_GENERATION = (
    *("method", "delta", "alpha", "depth", "after_topp", "k_morphmark", "p_0", "chunk_size"),
    *("num_drafts", "attenuation", "attenuation_weight", "backprop_on_nonzero", "scoring_method"),
    *("secret_key_b", "mixing_alpha"),  # of the type `textseal`
)


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

    max_context_width: ClassVar[int] = 10
    #: Decoy keys keep this distance from the key and from each other.
    APART: ClassVar[int] = 2**32

    key: int
    context_width: int = 1
    gamma: float | None = 0.5

    def _check(self) -> None:
        super()._check()
        self._set("key", secret_int("key", self.key, -(2**63), _INT64))

    def _build(self) -> _core.Scheme:
        return _core.Scheme(
            self.name,
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

    @property
    def low_mean(self) -> str:
        """Uniforms on a grid are lower than continuous ones."""
        if self.method == "green":
            return ""
        return (
            "scores lie on a grid with a mean of 0.99934, not 1, so with negative weights the "
            "p-value is approximate"
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
        values = as_fields(values, what, known=_FIELDS, ignored=_GENERATION)
        kind = values.get("watermark_type")
        if kind is None:
            raise SchemeError(f"{what} has no watermark_type, which says how it is read")
        if kind == "watermax":
            kind = values.get("base_watermark", "greenlist")
        if kind not in _TYPES:
            raise SchemeError(
                f"the watermark_type of {what} must be one of {', '.join(_TYPES)}, not "
                f"{kind!r}, which radscore.TextSeal does not read"
            )
        if values.get("key_routing"):
            raise SchemeError(f"{what}: key_routing must be off; text of two keys is not read")
        return cls(
            vocab_size=vocab_size,
            key=values.get("secret_key", 42),
            context_width=values.get("ngram", 1),
            gamma=values.get("gamma", 0.5),
            method=_TYPES[kind],
        )
