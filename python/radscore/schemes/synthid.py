"""SynthID-Text: transformers' form and DeepMind's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.base import Scheme
from radscore.schemes.fields import MAX_CONTEXT_WIDTH, choice, whole
from radscore.schemes.generation import Engine
from radscore.schemes.key import secret_ints
from radscore.schemes.tools import SGLANG, as_fields, json_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radscore.schemes.draws import Draws
    from radscore.stats.laws import NullLaw

__all__ = ["SYNTHID_TABLE", "SynthID", "SynthIDDeepMind"]

_MOST_KEYS = 64
_SYNTHID_TEXT = "synthid-text's configuration"
#: The fields of a sampling table.
SYNTHID_TABLE = ("sampling_table_size", "sampling_table_seed")
_SYNTHID_TEXT_GENERATION = (
    *("context_history_size", "temperature", "top_k", "skip_first_ngram_calls", "apply_top_k"),
    "num_leaves",
)
#: Fields of configurations that only generation needs.
_GENERATION = ("context_history_size", "skip_first_ngram_calls", "debug_mode", "num_candidates")
#: Mean of the g-values, or weighted mean with weights linear from 10 down to 1 over the depths.
_METHODS = ("mean", "weighted_mean")


@dataclass(frozen=True, kw_only=True, repr=False)
class Tournament(Scheme):
    """A scheme of g-values, one a key."""

    secrets: ClassVar[tuple[str, ...]] = ("keys",)
    key_files: ClassVar[tuple[tuple[str, str], ...]] = (
        ("654, 400, 836, 123", "decimal, one a depth"),
    )

    keys: tuple[int, ...]
    context_width: int = 4
    method: str = "mean"

    @classmethod
    def translated(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """With the fields of transformers' and DeepMind's configurations."""
        if "ngram_len" not in values:
            return dict(values)
        if "context_width" in values:
            raise SchemeError("ngram_len is context_width + 1; give one of them")
        fields = {name: values[name] for name in values if name not in _GENERATION}
        width = whole("ngram_len", fields.pop("ngram_len"), 2, MAX_CONTEXT_WIDTH + 1) - 1
        return {**fields, "context_width": width}

    def _check(self) -> None:
        self._set("method", choice("method", self.method, _METHODS))
        self._set("keys", secret_ints("keys", self.keys, _MOST_KEYS))
        if len(set(self.keys)) < len(self.keys):
            raise SchemeError("keys must differ: depths of one key have the same g-values")

    @property
    def depth(self) -> int:
        """Number of keys, and so of g-values of a window."""
        return len(self.keys)

    @property
    def weights(self) -> tuple[float, ...]:
        """What each depth's g-value weighs in the score of a unit; the sum is 1."""
        if self.method == "mean" or self.depth == 1:
            return (1.0 / self.depth,) * self.depth
        line = [10.0 - 9.0 * d / (self.depth - 1) for d in range(self.depth)]
        return tuple(weight / sum(line) for weight in line)

    @property
    def steps(self) -> tuple[int, ...]:
        """The weights as whole numbers, up to one factor."""
        if self.method == "mean" or self.depth == 1:
            return (1,) * self.depth
        return tuple(10 * (self.depth - 1) - 9 * d for d in range(self.depth))

    @property
    def null_law(self) -> NullLaw:
        """Law of the mean or weighted mean: bits of the exact null share, one a depth."""
        from radscore.stats import SynthIDLaw

        return SynthIDLaw(self.share, self.weights)

    @property
    def engine(self) -> Engine:
        """A context among the latest 1,024 is left unmarked."""
        return Engine(history=1024, reach_prompt=False, fill=self.padding)

    def _decoy(self, draws: Draws) -> dict[str, Any]:
        keys: list[int] = []
        while len(keys) < self.depth:
            key = draws.between(-(2**63), 2**63 - 1)
            if key not in keys:
                keys.append(key)
        return {"keys": tuple(keys)}


@dataclass(frozen=True, kw_only=True, repr=False)
class SynthID(Tournament):
    """SynthID-Text as in transformers, with a sampling table (Dathathri et al., Nature 2024).

    Parameters
    ----------
    vocab_size : int
        Size of the vocabulary.
    keys : sequence of int
        One a depth, 1 to 64 of 64 bits.
    context_width : int
        Preceding tokens that are hashed: `ngram_len - 1`.
    method : {"mean", "weighted_mean"}
        The score of a unit: the mean of its g-values, or their mean with weights linear from 10
        down to 1 over the depths.
    sampling_table_size, sampling_table_seed : int
        The table of g-values, drawn with torch's CPU generator.

    Notes
    -----
    The context of the first generated token is padded with zeros, not the prompt, so scoring
    starts at position 0. PyPI's `synthid-text` (0.2.1) is this form, too.

    All g-values of a window depend on its hash modulo the table's size alone (a power of two):
    with the default table only 65,536 different g-vectors exist, and the ids t and t + 65536 are
    one. A scorer counts how many distinct windows have each residue; over random keys the law of
    their sum is known exactly for any such counts (`radscore.stats.ResidueLaw`), and its least
    p-value is `size ** -depth`. Documents that are tested one by one count each residue once. With
    a table of another size the unit is the whole hash, and p-values are approximate. The table's
    own share of ones, not 1/2, is the null share.

    Examples
    --------
    >>> scheme = SynthID(vocab_size=32000, keys=[654, 400, 836, 123], context_width=4)
    >>> scheme.depth, scheme.window_width, scheme.scores([[6846, 18695, 28800, 12558, 6711]])
    (4, 5, array([[0, 1, 1, 0]], dtype=uint8))
    """

    name: ClassVar[str] = "synthid"
    description: ClassVar[str] = "SynthID-Text with a sampling table: transformers"
    notes: ClassVar[tuple[str, ...]] = (
        (
            "Text marked by transformers and by DeepMind's own code do not detect each other: see "
            "synthid_deepmind."
        ),
        (
            "A corpus is tested by the exact law over keys for the residues that its windows have; "
            "documents on their own count each residue once, and are approximate."
        ),
        (
            "The sampling table is that of torch's CPU generator; a processor that was built on a "
            "GPU has another."
        ),
    )

    algorithms: ClassVar[Mapping[str, str]] = {"synthid_text": "table"}

    sampling_table_size: int = 65536
    sampling_table_seed: int = 0

    def _check(self) -> None:
        super()._check()
        size = whole("sampling_table_size", self.sampling_table_size, 2, 1 << 24)
        self._set("sampling_table_size", size)
        seed = whole("sampling_table_seed", self.sampling_table_seed, 0, 2**64 - 1)
        self._set("sampling_table_seed", seed)

    @property
    def dependence(self) -> str:
        """What is wrong where residues are taken for independent draws.

        Not so where windows are counted by residue, as a scorer does with a table whose size is a
        power of two.
        """
        return (
            "all depths read one public table at places that the key shifts: text that was marked "
            "with other keys of this table can share depths with these keys by chance (about 1 % "
            "of random sets of 30 keys); compare with decoy keys"
        )

    def _build(self) -> _core.Scheme:
        return _core.Scheme(
            self.name,
            keys=list(self.keys),
            vocab_size=self.vocab_size,
            ngram_len=self.context_width + 1,
            sampling_table_size=self.sampling_table_size,
            sampling_table_seed=self.sampling_table_seed,
        )

    @classmethod
    def from_transformers(cls, config: Any, vocab_size: int) -> SynthID:
        """The scheme of a `SynthIDTextWatermarkingConfig` of transformers.

        Parameters
        ----------
        config : SynthIDTextWatermarkingConfig or mapping
            Only its `to_dict` is used; transformers is not imported.
        vocab_size : int
            The model's vocabulary.

        Examples
        --------
        >>> SynthID.from_transformers({"ngram_len": 5, "keys": [654, 400]}, 32000).context_width
        4
        """
        values = as_fields(
            config,
            "SynthIDTextWatermarkingConfig",
            known=("ngram_len", "keys", "sampling_table_size", "sampling_table_seed"),
            ignored=("context_history_size", "skip_first_ngram_calls", "debug_mode"),
        )
        ngram_len = _ngram_len(values)
        return cls(vocab_size=vocab_size, context_width=ngram_len - 1, **values)

    @classmethod
    def from_synthid_text(cls, config: Any, vocab_size: int) -> SynthID:
        """The scheme of a configuration of PyPI's `synthid-text` (to 0.2.1), which has a table.

        Parameters
        ----------
        config : mapping
            As the package's `DEFAULT_WATERMARKING_CONFIG`, or the arguments of its
            `SynthIDLogitsProcessor`: `ngram_len`, `keys`, `sampling_table_size` and
            `sampling_table_seed` are needed. What only generation needs is ignored, but for
            `device`, which must be the CPU.
        vocab_size : int
            The model's vocabulary.

        Raises
        ------
        SchemeError
            If there is no sampling table (see `SynthIDDeepMind.from_synthid_text`), it was drawn
            on a GPU, or a field is unknown.

        Examples
        --------
        >>> config = {"ngram_len": 5, "keys": [654, 400], "sampling_table_size": 65536}
        >>> SynthID.from_synthid_text({**config, "sampling_table_seed": 0}, 32000).context_width
        4
        """
        values = as_fields(
            config,
            _SYNTHID_TEXT,
            known=("ngram_len", "keys", *SYNTHID_TABLE, "device"),
            ignored=_SYNTHID_TEXT_GENERATION,
        )
        if missing := [name for name in SYNTHID_TABLE if values.get(name) is None]:
            raise SchemeError(
                f"{_SYNTHID_TEXT} has no {missing[0]}; without a table it is that of DeepMind's "
                "repository since June 2025: use SynthIDDeepMind.from_synthid_text"
            )
        device = values.pop("device", None)
        if device is not None and str(device).partition(":")[0] != "cpu":
            raise SchemeError(
                f"device must be 'cpu', not {str(device)!r}: a table that torch draws on a GPU is "
                "another, which cannot be read"
            )
        ngram_len = _ngram_len(values)
        return cls(vocab_size=vocab_size, context_width=ngram_len - 1, **values)


@dataclass(frozen=True, kw_only=True, repr=False)
class SynthIDDeepMind(Tournament):
    """SynthID-Text as in DeepMind's own code since 2025 and in SGLang: no table.

    Parameters
    ----------
    vocab_size : int
        Size of the vocabulary.
    keys : sequence of int
        One a depth, 1 to 64 of 64 bits. Their order matters: the hash starts from all of them.
    context_width : int
        Preceding tokens that are hashed: `ngram_len - 1`.
    method : {"mean", "weighted_mean"}
        The score of a unit: the mean of its g-values, or their mean with weights linear from 10
        down to 1 over the depths.

    Notes
    -----
    The unit is the hash that the keys extend: a linear form of the window's tokens modulo 2^64.
    Windows that differ by a short vector of its lattice share it under all keys; they are rare in
    natural text, and easily made.

    Examples
    --------
    >>> scheme = SynthIDDeepMind(vocab_size=32000, keys=[654, 400, 836, 123])
    >>> scheme.units_are_windows
    False
    """

    name: ClassVar[str] = "synthid_deepmind"
    description: ClassVar[str] = "SynthID-Text without a table: DeepMind's own, SGLang"
    notes: ClassVar[tuple[str, ...]] = (
        (
            "Text marked by DeepMind's own code and by transformers do not detect each other: see "
            "synthid."
        ),
    )
    algorithms: ClassVar[Mapping[str, str]] = {"sglang": "synthid", "synthid_text": "no table"}

    @property
    def dependence(self) -> str:
        """Draws of hashes at certain distances are correlated."""
        return (
            "the keys enter after a linear form of the window: draws of hashes a small power of "
            "the multiplier's inverse apart, and of some targets after one context (626 apart), "
            "are correlated under every key; compare with decoy keys"
        )

    def _build(self) -> _core.Scheme:
        return _core.Scheme(
            self.name,
            keys=list(self.keys),
            vocab_size=self.vocab_size,
            ngram_len=self.context_width + 1,
        )

    @classmethod
    def from_sglang(cls, config: Any, vocab_size: int) -> SynthIDDeepMind:
        """The scheme of SGLang's configuration for `--watermark-algorithm synthid`.

        Parameters
        ----------
        config : mapping, JSON text or path
            `keys`, `ngram_len` (default 5); the fields that only generation needs are ignored.
        vocab_size : int
            The model's vocabulary.

        Examples
        --------
        >>> SynthIDDeepMind.from_sglang('{"keys": [654, 400], "ngram_len": 3}', 32000).window_width
        3
        """
        values = as_fields(
            json_fields(config, SGLANG),
            "SGLang's SynthID config",
            known=("keys", "ngram_len"),
            ignored=("num_candidates", "context_history_size", "default_enabled", "enforce_all"),
        )
        values.setdefault("ngram_len", 5)
        ngram_len = _ngram_len(values)
        return cls(vocab_size=vocab_size, context_width=ngram_len - 1, **values)

    @classmethod
    def from_synthid_text(cls, config: Any, vocab_size: int) -> SynthIDDeepMind:
        """The scheme of a configuration of DeepMind's repository since June 2025: no table.

        Parameters
        ----------
        config : mapping
            `ngram_len` and `keys`; what only generation needs is ignored.
        vocab_size : int
            The model's vocabulary.

        Raises
        ------
        SchemeError
            If there is a sampling table (see `SynthID.from_synthid_text`), or a field is unknown.

        Examples
        --------
        >>> config = {"ngram_len": 5, "keys": [654, 400]}
        >>> SynthIDDeepMind.from_synthid_text(config, 32000).context_width
        4
        """
        values = as_fields(
            config,
            _SYNTHID_TEXT,
            known=("ngram_len", "keys", *SYNTHID_TABLE),
            ignored=(*_SYNTHID_TEXT_GENERATION, "device"),
        )
        if present := [name for name in SYNTHID_TABLE if values.pop(name, None) is not None]:
            raise SchemeError(
                f"{_SYNTHID_TEXT} has a {present[0]}; with a table it is that of PyPI's "
                "synthid-text and of transformers: use SynthID.from_synthid_text"
            )
        ngram_len = _ngram_len(values)
        return cls(vocab_size=vocab_size, context_width=ngram_len - 1, **values)


def _ngram_len(values: dict[str, Any]) -> int:
    for name in ("ngram_len", "keys"):
        if values.get(name) is None:
            raise SchemeError(f"the configuration has no {name}")
    return whole("ngram_len", values.pop("ngram_len"), 2, MAX_CONTEXT_WIDTH + 1)
