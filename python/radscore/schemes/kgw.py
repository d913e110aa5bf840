"""KGW, green lists from a seeded permutation: lm-watermarking, transformers, radioactivity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.fields import choice, flag, real
from radscore.schemes.seeding import (
    CUDA_NOTE,
    FUNCTIONS,
    HASH_KEY,
    NAMED_SEEDINGS,
    SEEDINGS,
    TorchSeeded,
    lm_watermarking_name,
    named_seeding,
    radioactivity_fields,
)
from radscore.schemes.tools import as_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radscore.stats.laws import NullLaw

__all__ = ["KGW"]

#: Fields of transformers' `WatermarkingConfig`, and what they are called here.
_TRANSFORMERS = {"greenlist_ratio": "gamma", "hashing_key": "hash_key"}


@dataclass(frozen=True, kw_only=True, repr=False)
class KGW(TorchSeeded):
    """Green lists from a permutation of the vocabulary (Kirchenbauer et al., ICML 2023).

    The context seeds `torch.randperm(vocab_size)`; its first `int(gamma * vocab_size)` entries
    are green.

    Parameters
    ----------
    vocab_size : int
        Size of the permutation: the generator's. The radioactivity authors take the tokenizer's
        `vocab_size`, lm-watermarking the length of its list of ids, transformers the *model's*
        `config.vocab_size`, which can be larger than the tokenizer's.
    gamma : float
        Share of the vocabulary that is green.
    context_width : int
        Tokens that the seeding reads, 1 to 64; with `self_salt` the target is the last of them.
    seeding : str
        How they become a seed. `hash`: the radioactivity authors'; key is (`seed`, `salt_key`).
        `table_additive`, `table_skip`, `table_min`: the authors' other three, which need
        `table_seed`; key is `salt_key`. `last_token`: transformers' `lefthash`. The others are
        lm-watermarking's functions (`additive`, `minhash`, `anchored_minhash`, ...); key is
        `hash_key`.
    self_salt : bool
        Whether the target itself is part of what is hashed.
    green_last : bool
        lm-watermarking's legacy switch: the *last* entries are green.
    table_seed : int or "hash_key", optional
        Seed of the table behind the hashing functions: lm-watermarking's by default, the key's
        own in transformers ("hash_key").
    seed, salt_key, hash_key : int
        The secrets. One that the seeding does not use must be left out.

    Notes
    -----
    The radioactivity authors' detectors start at position `context_width + 1`; use `start` of
    the scorer to reproduce their numbers.

    Examples
    --------
    >>> scheme = KGW(vocab_size=32000, gamma=0.25, context_width=2, seed=3, salt_key=35317)
    >>> scheme.window_width, scheme.core.share
    (3, (8000, 32000))
    """

    name: ClassVar[str] = "kgw"
    description: ClassVar[str] = (
        "green lists from a seeded permutation: lm-watermarking, transformers, radioactivity"
    )
    notes: ClassVar[tuple[str, ...]] = (
        CUDA_NOTE,
        "vocab_size is part of the key stream: with another one the text cannot be read.",
        (
            "Some seedings let distinct windows share a unit (additive ones ignore the order of "
            "the context); the default deduplication counts such windows once."
        ),
    )

    gamma: float = 0.25
    self_salt: bool = False
    green_last: bool = False

    @classmethod
    def translated(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """With the fields that lm-watermarking and transformers have for it."""
        fields, of_transformers = dict(values), False
        for theirs, ours in _TRANSFORMERS.items():
            if theirs in fields:
                of_transformers = True
                if ours in fields:
                    raise SchemeError(f"{theirs} and {ours} are the same; give one of them")
                fields[ours] = fields.pop(theirs)
        if of_transformers:
            fields.pop("bias", None)
            fields.setdefault("seeding_scheme", "lefthash")
        if fields.get("seeding") in [one for one in NAMED_SEEDINGS if one not in SEEDINGS]:
            fields.setdefault("seeding_scheme", fields.pop("seeding"))
        name = fields.pop("seeding_scheme", None)
        if name is None:
            return fields
        if "seeding" in fields:
            raise SchemeError("seeding_scheme and seeding are the same; give one of them")
        return fields | named_seeding(name, fields, transformers=of_transformers)

    def _check(self) -> None:
        super()._check()
        self._set("gamma", real("gamma", self.gamma))
        self._set("self_salt", flag("self_salt", self.self_salt))
        self._set("green_last", flag("green_last", self.green_last))

    def _build(self) -> _core.Scheme:
        return _core.Scheme(
            self.name,
            vocab_size=self.vocab_size,
            gamma=self.gamma,
            self_salt=self.self_salt,
            green_last=self.green_last,
            **self._seeding_arguments(),
        )

    @property
    def null_law(self) -> NullLaw:
        """Binomial with the exact share `int(gamma * vocab_size) / vocab_size`."""
        from radscore.stats.laws import BernoulliLaw

        return BernoulliLaw(self.share)

    @classmethod
    def from_lm_watermarking(
        cls,
        scheme: str,
        *,
        vocab_size: int,
        gamma: float = 0.25,
        hash_key: int | None = None,
        select_green_tokens: bool = True,
    ) -> KGW:
        """The scheme that a string of lm-watermarking names.

        Parameters
        ----------
        scheme : str
            `simple_1`, `lefthash`, `minhash`, `skipgram`, `selfhash`, `algorithm-3`, or
            `ff-<function>-<width>-<self_salt>[-<key>]`.
        vocab_size : int
            Length of the list of ids that the generator was given.
        gamma : float
            Share of the vocabulary that is green.
        hash_key : int, optional
            Another key than the default 15485863.
        select_green_tokens : bool
            False is the legacy behaviour: the last entries of the permutation are green.

        Raises
        ------
        SchemeError
            If the string names no scheme, or a key is given twice.

        Examples
        --------
        >>> left = KGW.from_lm_watermarking("simple_1", vocab_size=32000)
        >>> left == KGW(vocab_size=32000, seeding="additive", context_width=1)
        True
        """
        function, width, self_salt, key = lm_watermarking_name(scheme)
        if function not in FUNCTIONS:
            raise SchemeError(
                f"lm-watermarking has no function {function!r}; it has {', '.join(FUNCTIONS)}"
            )
        if key is not None and hash_key is not None:
            raise SchemeError("hash_key is given twice: beside the scheme's name, and in it")
        if key is None:
            key = HASH_KEY if hash_key is None else hash_key
        return cls(
            vocab_size=vocab_size,
            gamma=gamma,
            context_width=width,
            seeding=function,
            self_salt=self_salt,
            hash_key=key,
            green_last=not select_green_tokens,
        )

    @classmethod
    def from_transformers(cls, config: Any, vocab_size: int) -> KGW:
        """The scheme of a `WatermarkingConfig` of transformers.

        Parameters
        ----------
        config : WatermarkingConfig or mapping
            Only its `to_dict` is used; transformers is not imported.
        vocab_size : int
            The *model's* `config.vocab_size`.

        Examples
        --------
        >>> config = {"greenlist_ratio": 0.25, "seeding_scheme": "selfhash", "context_width": 4}
        >>> KGW.from_transformers(config, 32000).window_width
        4
        """
        values = as_fields(
            config,
            "WatermarkingConfig",
            known=("greenlist_ratio", "hashing_key", "seeding_scheme", "context_width"),
            ignored=("bias",),
        )
        scheme = choice(
            "seeding_scheme", values.get("seeding_scheme", "lefthash"), ("lefthash", "selfhash")
        )
        own = scheme == "selfhash"
        return cls(
            vocab_size=vocab_size,
            gamma=values.get("greenlist_ratio", 0.25),
            context_width=values.get("context_width", 1),
            seeding="anchored_minhash" if own else "last_token",
            self_salt=own,
            table_seed="hash_key" if own else None,
            hash_key=values.get("hashing_key", HASH_KEY),
        )

    @classmethod
    def from_radioactivity(cls, flags: Any, vocab_size: int) -> KGW:
        """The scheme of the radioactivity authors' flags (`--method maryland`).

        Parameters
        ----------
        flags : mapping or argparse.Namespace
            `ngram` is required (their scripts have different defaults); `seed`, `seeding`,
            `hash_key` (also as `salt_key`) and `gamma` have the scripts' defaults. Seedings other
            than `hash` need `table_seed` besides. Other flags of their scripts are ignored.
        vocab_size : int
            The tokenizer's `vocab_size`.

        Examples
        --------
        >>> KGW.from_radioactivity({"ngram": 2, "seed": 3}, 32000).context_width
        2
        """
        values = radioactivity_fields(flags, "maryland")
        return cls(vocab_size=vocab_size, gamma=values.pop("gamma"), **values)
