"""What every scheme has: parameters, fingerprint, decoys, scores, and what it says of itself.

Whatever needs to know something of a scheme asks it: the sampling rule and the engine that
generation follows, the fields of a key file, its names in other tools' configurations. A new scheme
is one subclass, registered by one line (`radscore.schemes.registry`).
"""

from __future__ import annotations

import copyreg
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from radscore.documents import MAX_VOCAB
from radscore.errors import ArgumentError, SchemeError, near
from radscore.schemes.draws import Draws
from radscore.schemes.fields import MAX_CONTEXT_WIDTH, whole
from radscore.schemes.functions import Functions
from radscore.schemes.generation import Engine
from radscore.schemes.key import Key, fingerprint_of
from radscore.schemes.secrecy import leave_out, name_in_key, public_name, restored, veil

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from fractions import Fraction
    from typing import Self

    from radscore import _core
    from radscore.schemes.generation import Rule, RuleName
    from radscore.stats.laws import NullLaw

__all__ = ["Scheme"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Scheme(Functions, ABC):
    """A keyed scheme with its parameters: immutable, comparable, safe to print.

    A subclass is a frozen dataclass with a `name`, a `description`, its parameters as fields, and
    four methods: `_check` brings the fields to their canonical form, `_build` makes the compiled
    scheme, `_decoy` draws another key, and `null_law` is the law of its scores. One whose scores
    are computed in Python derives from `PythonScheme`, which needs less.

    Attributes
    ----------
    vocab_size : int
        Size of the vocabulary, 2 to 2^20; it must equal the generator's.
    context_width : int
        Number of tokens that are hashed (of the preceding ones, unless the scheme also reads
        the target).
    window_width : int
        Tokens of a window, the target included.
    fingerprint : str
        64 hexadecimal digits, a SHA-256 over the scheme's name, parameters and key. Equal
        parameters give equal fingerprints, however they were spelled. It can be published, but
        a key of little entropy can be guessed from it.
    null_law : NullLaw
        Law of the sum of the scores of n distinct units under H0.
    core : _core.Scheme
        The compiled scheme.
    """

    #: Name in configuration files and on the command line.
    name: ClassVar[str]
    #: One line for lists of schemes.
    description: ClassVar[str]
    #: What to know before trusting a result.
    notes: ClassVar[tuple[str, ...]] = ()
    #: Fields that are secret.
    secrets: ClassVar[tuple[str, ...]] = ("key",)
    #: The ways to write a key file, each with what it means.
    key_files: ClassVar[tuple[tuple[str, str], ...]] = (
        ("12345", "decimal"),
        ("0x3039", "the same, hexadecimal"),
    )
    #: The scheme's name in other tools' configurations, by tool (`radscore.schemes.configs`).
    algorithms: ClassVar[Mapping[str, str]] = {}
    #: Most tokens that a context can have.
    max_context_width: ClassVar[int] = MAX_CONTEXT_WIDTH

    __slots__ = ("__dict__", "__weakref__", "_hidden")

    # In a field's metadata, `example` is a value for TOML files, `default` words for a default of
    # None.
    vocab_size: int = field(metadata={"example": 32_000})
    context_width: int = field(metadata={"example": 4})

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """A scheme without values; the secret ones will stand apart."""
        veil(cls)
        made = super().__new__(cls)
        object.__setattr__(made, "_hidden", {})
        return made

    def __post_init__(self) -> None:
        self._set("vocab_size", whole("vocab_size", self.vocab_size, 2, MAX_VOCAB))
        width = whole("context_width", self.context_width, 1, self.max_context_width)
        self._set("context_width", width)
        self._check()
        # Built at once, so that a wrong parameter fails here and not hours later.
        _ = self.core

    @abstractmethod
    def _check(self) -> None:
        """Brings the fields to their canonical form with `_set`, or raises `SchemeError`."""

    @abstractmethod
    def _build(self) -> _core.Scheme:
        """The compiled scheme."""

    @abstractmethod
    def _decoy(self, draws: Draws) -> dict[str, Any]:
        """Other secret fields, drawn from their whole range."""

    @property
    def dependence(self) -> str:
        """Why scores of distinct units are not independent draws for every text, or "".

        Where there is a reason, text can be made without the key that scores too often under
        random keys, and p-values are approximate. The decoy-key test assumes none of it.
        """
        return ""

    @property
    def low_mean(self) -> str:
        """Why scores fall below the law on average, or ""; weights below 0 then mislead."""
        return ""

    @property
    def has_public_key(self) -> bool:
        """Whether the key is the constant that a tool uses when it is given none."""
        secret = [f for f in fields(self) if f.name in self.secrets]
        return all(f.default is not MISSING and getattr(self, f.name) == f.default for f in secret)

    @property
    def share(self) -> Fraction:
        """The exact probability of a green or a g-value of 1 under H0 (never the nominal one).

        Raises
        ------
        SchemeError
            If the scheme's scores are real numbers.
        """
        from fractions import Fraction

        share = self.core.share
        if share is None:
            raise SchemeError(f"the scores of {self.name} are real numbers; they have no share")
        return Fraction(*share)

    @property
    @abstractmethod
    def null_law(self) -> NullLaw:
        """Law of the sum of n independent unit scores under H0."""

    @property
    def weights(self) -> tuple[float, ...]:
        """What each depth's g-value weighs in a score; they add up to 1. () without g-values."""
        return ()

    @property
    def steps(self) -> tuple[int, ...]:
        """The weights as whole numbers, up to one factor."""
        return ()

    @property
    def sampling(self) -> RuleName | Rule | None:
        """The rule that writes the mark, or the name of one of radscore's; None if there is none.

        Unless a scheme says otherwise, green lists are a bias, scores that are real numbers are
        Gumbel-max, and g-values are a tournament.
        """
        kinds: dict[str, RuleName] = {"green": "bias", "real": "gumbel", "depths": "tournament"}
        return kinds[self.core.score_kind]

    @property
    def key_shares(self) -> tuple[float, ...]:
        """How often generation uses each of the keys that `uniforms` tells apart."""
        return (1.0,)

    @property
    def engine(self) -> Engine:
        """What the engine that the scheme comes from does with contexts."""
        reach = self.reaches_prompt
        return Engine(reach_prompt=reach, fill=None if reach else self.padding)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _unused(self) -> frozenset[str]:
        """Fields that do not matter under the values of the others."""
        return frozenset()

    def _canonical(self) -> dict[str, Any]:
        """What the scheme computes, in JSON-able form; equal functions, equal forms."""
        unused = self._unused()
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in unused}
        return {name: _jsonable(value) for name, value in values.items()}

    @cached_property
    def core(self) -> _core.Scheme:
        """The compiled scheme."""
        return self._build()

    @cached_property
    def fingerprint(self) -> str:
        """Tells schemes and keys apart without showing a key: 64 hexadecimal digits."""
        return fingerprint_of(self.name, self._canonical())

    @property
    def window_width(self) -> int:
        """Tokens of a window, the target included."""
        return self.core.window_width

    @property
    def units_are_windows(self) -> bool:
        """Whether distinct windows always are distinct units.

        Scores of distinct *units* are independent under H0. Where this is False, distinct
        windows can share a unit, and a test that counts both counts one piece of evidence twice;
        the default deduplication does not.
        """
        return self.core.unit_is_window

    @property
    def seed_kind(self) -> Literal["context", "hash", "keyed hash", "target"]:
        """What the random function reads of a context: its *seed*.

        Windows of different seeds share no draw, whatever their targets are. The seed is the
        context itself, a hash of it, a hash of context and key, or ("target") not known before
        the target is: then no test can be given where prompts carry the tested mark.
        """
        return self.core.seed_kind

    @property
    def padding(self) -> int | None:
        """The id that may stand left of a text's first token, where there is one.

        -1 (no id of the vocabulary) for vLLM's schemes and `SBW`, 0 for SynthID's, None for others.

        Examples
        --------
        >>> from radscore.schemes import KGW, VLLMGumbel
        >>> VLLMGumbel(vocab_size=100, key=42).padding, KGW(vocab_size=100).padding
        (-1, None)
        """
        return self.core.padding

    @property
    def reaches_prompt(self) -> bool:
        """Whether the prompt stands before the first generated token when text is marked.

        Where it does not, contexts begin with `padding`, and the first token is already marked.
        """
        return self.core.reaches_prompt

    @property
    def first_position(self) -> int:
        """The first position of a document that is scored unless another is asked for.

        0 where contexts begin with `padding` (`reaches_prompt` is False); otherwise
        ``window_width - 1``, the first position with a whole context.

        Examples
        --------
        >>> from radscore.schemes import Keyed, SynthID
        >>> SynthID(vocab_size=100, keys=[1, 2], context_width=4).first_position
        0
        >>> Keyed(vocab_size=100, key=bytes(16), context_width=4).first_position
        4
        """
        return self.core.first_position

    @property
    def tells_marked_seeds(self) -> bool:
        """Whether a text marked with the tested key tells which seeds it has shown.

        It does not where no seed is known before the target, nor where a part of the context fixes
        the seed (the last token alone, or the least of several hashes): the first tokens of a text
        were marked after contexts that nobody sees, and may show the seeds of later ones. No test
        can be given then on marked text, or with a filter from it.
        """
        return self.seed_kind != "target" and self.core.least_own == self.window_width - 1

    def decoys(self, n: int, seed: int = 0) -> list[Self]:
        """The same scheme under `n` other keys, drawn from the whole range of keys.

        Parameters
        ----------
        n : int
            How many, 1 to 1,000,000.
        seed : int
            The draw: equal seeds give equal decoys, on every machine and in every version.

        Examples
        --------
        >>> from radscore.schemes import Keyed
        >>> decoys = Keyed(key=bytes(16), vocab_size=100).decoys(3)
        >>> len({decoy.fingerprint for decoy in decoys})
        3
        """
        n = _argument("n", n, 1, 1_000_000)
        seed = _argument("seed", seed, 0, 2**64 - 1)
        draws = Draws(f"{self.name}/{seed}")
        taken = [self._secrets()]
        seen = {self._function(taken[0])}
        decoys: list[Self] = []
        while len(decoys) < n:
            changed = self._decoy(draws)
            decoy = replace(self, **changed)
            secret = decoy._secrets()  # noqa: SLF001
            function = self._function(secret)
            if function in seen or not self._apart(secret, taken):
                continue
            seen.add(function)
            taken.append(secret)
            decoys.append(decoy)
        return decoys

    def _secrets(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.secrets)

    def _function(self, secret: tuple[Any, ...]) -> Hashable:
        """Equal for secrets that are known to give the same function of the windows."""
        return secret

    def _apart(self, secret: tuple[Any, ...], taken: list[tuple[Any, ...]]) -> bool:
        """Whether a decoy's secret may stand beside those taken."""
        del secret, taken
        return True

    def to_dict(self) -> dict[str, Any]:
        """The scheme's name and public parameters; the key is left out.

        Examples
        --------
        >>> from radscore.schemes import SBW, from_dict
        >>> public = SBW(key=42, vocab_size=100).to_dict()
        >>> "key" in public, from_dict(public, key=42) == SBW(key=42, vocab_size=100)
        (False, True)
        """
        hidden = self._unused().union(self.secrets)
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        return {"scheme": self.name} | {k: v for k, v in values.items() if v is not None}

    def __repr__(self) -> str:
        public = self.to_dict()
        del public["scheme"]
        shown = [f"{name}={value!r}" for name, value in public.items()]
        shown.append(f"key=<fingerprint {self.fingerprint}>")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            self._set(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        if leave_out():
            public = self.to_dict()
            del public["scheme"]
            return restored, (type(self).from_fields, public, self.fingerprint)
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __copy__(self) -> Self:
        made = type(self).__new__(type(self))
        made.__setstate__(self.__getstate__())
        return made

    def __deepcopy__(self, memo: Any) -> Self:
        return self.__copy__()

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Public parameters, as a configuration file spells them."""
        return tuple(f.name for f in fields(cls) if f.name not in cls.secrets)

    @classmethod
    def translated(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration's fields, where other tools' names for them are replaced by its own."""
        return dict(values)

    @classmethod
    def from_fields(cls, values: Mapping[str, Any], key: Any = None) -> Self:
        """From a configuration's fields and the key that was given beside it."""
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SchemeError(
                f"scheme {cls.name!r} has no parameter {public_name(unknown[0])}; it has "
                f"{', '.join(sorted(cls.field_names()))}{near(unknown[0], cls.field_names())}"
            )
        given = dict(values)
        if key is not None:
            for name, value in Key(key).named(cls.key_fields(values)[0]).items():
                if name not in cls.secrets:
                    raise SchemeError(
                        f"the key names {name_in_key(name, known)}; the secret fields of scheme "
                        f"{cls.name!r} are {', '.join(cls.secrets)}"
                    )
                if name in given:
                    raise SchemeError(f"{name} is given twice: beside the key, and in it")
                given[name] = value
        for name, one in known.items():
            if name not in given and one.default is MISSING:
                if name in cls.secrets:
                    raise SchemeError(
                        f"scheme {cls.name!r} needs its key ({name}), which was not given"
                    )
                raise SchemeError(f"scheme {cls.name!r} needs the parameter {name}")
        return cls(**given)

    @classmethod
    def key_fields(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The secret fields that make up the key under these public ones.

        An unnamed key is the first of them.
        """
        del values
        return cls.secrets[:1]


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Key):
        return {name: _jsonable(one) for name, one in value.named("key").items()}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_jsonable(one) for one in value]
    return value


def _argument(name: str, value: object, low: int, high: int) -> int:
    try:
        return whole(name, value, low, high)
    except SchemeError as error:
        raise ArgumentError(str(error)) from None
