"""Schemes computed in Python: the base class for those of other packages."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from radscore import _core
from radscore.errors import SchemeError
from radscore.schemes.base import Scheme

if TYPE_CHECKING:
    from fractions import Fraction

    import numpy as np
    import numpy.typing as npt

    from radscore.schemes.generation import Rule, RuleName

__all__ = ["PythonScheme"]


@dataclass(frozen=True, kw_only=True, repr=False)
class PythonScheme(Scheme):
    """A scheme whose scores are computed by a method of the class, on arrays.

    Everything else works as it does for radscore's own schemes: the core cuts and deduplicates
    windows, and its worker threads call the methods below, holding the interpreter's lock only
    during a call. The methods must be pure functions of their rows and of the scheme's fields. They
    run on a copy of the scheme that has its fields but no compiled part.

    An exception in one of them ends the call that needed it with a `SchemeError` whose cause it is,
    and the scorer it happened to cannot be used any more.

    A subclass defines `name`, `description`, its fields, `_check`, `_decoy`, `null_law` and

    ``compute_scores(windows)``
        The score of each window. `windows` is uint32, shape (n, context_width + 1), oldest token
        first, the target last; a padding of -1 is 2^32 - 1 there. With the score kind ``green`` it
        returns bool, shape (n,); with ``real`` float64, shape (n,), all finite; with ``depths``
        bool or uint8, shape (n, len(weights)).

    and, where it applies, as a property or simply as a class attribute,

    ``score_kind``, ``seed_kind``, ``padding``, ``reaches_prompt``
        Where they are not ``green``, ``context``, None and True.
    ``share``
        With ``green`` and ``depths``: the exact probability of a 1 under random keys.
    ``weights``
        With ``depths``.
    ``compute_units(windows)``
        If different windows can share a random draw: uint64, shape (n,), or (n, 2) with the high
        words, below 2^63, first; windows have equal values exactly if they share a draw.
    ``compute_seeds(windows)``
        If `seed_kind` is a hash: the same for contexts, whatever the targets are.
    ``compute_keyless(windows)``
        Beside `compute_units`: bool, shape (n,); whether a draw may not depend on the key.
    ``compute_uniforms(contexts)``
        With ``real``, to write the mark by Gumbel-max: float64 in [0, 1), shape (n, vocab_size),
        for contexts of shape (n, context_width); the score is ``-ln(1 - u)``.

    Examples
    --------
    >>> from fractions import Fraction
    >>> import numpy as np
    >>> from radscore.schemes.key import secret_int
    >>> from radscore.stats import BernoulliLaw
    >>> @dataclass(frozen=True, kw_only=True, repr=False)
    ... class Table(PythonScheme):
    ...     name, description = "table", "a toy: the key draws a table of green bigrams"
    ...     share = Fraction(1, 2)
    ...     null_law = BernoulliLaw(share)
    ...     context_width: int = 1
    ...     key: int
    ...
    ...     def _check(self):
    ...         self._set("key", secret_int("key", self.key, 0, 2**64 - 1))
    ...
    ...     def _decoy(self, draws):
    ...         return {"key": draws.between(0, 2**64 - 1)}
    ...
    ...     def compute_scores(self, windows):
    ...         table = np.random.default_rng(self.key).random((self.vocab_size,) * 2)
    ...         return table[windows[:, 0], windows[:, 1]] < 0.5
    >>> Table(key=5, vocab_size=100).scores([[1, 2], [4, 5]]).tolist()
    [True, False]
    """

    #: What one score is.
    score_kind: ClassVar[Literal["green", "real", "depths"]] = "green"

    @abstractmethod
    def compute_scores(self, windows: npt.NDArray[np.uint32]) -> npt.NDArray[Any]:
        """The score of each window."""

    @property
    def seed_kind(self) -> Literal["context", "hash", "keyed hash", "target"]:
        """What the random function reads of a context; see `Scheme.seed_kind`."""
        return "context"

    @property
    def padding(self) -> int | None:
        """The id left of a text's first token: -1, one of the vocabulary, or None."""
        return None

    @property
    def reaches_prompt(self) -> bool:
        """Whether the prompt stands before the first token when text is marked."""
        return True

    @property
    def least_own(self) -> int:
        """How many of a context's last tokens can fix its seed, whatever stands before them.

        Where it is less than `context_width`, `compute_seeds` (or with the target `compute_units`)
        gets rows of only the last tokens, too.
        """
        return self.context_width

    @property
    def share(self) -> Fraction:
        """The exact probability of a 1 under random keys."""
        if self.score_kind == "real":
            raise SchemeError(f"the scores of {self.name} are real numbers; they have no share")
        raise NotImplementedError(f"{type(self).__name__} does not define share")

    @property
    def window_width(self) -> int:
        """Tokens of a window, the target included."""
        return self.context_width + 1

    @property
    def sampling(self) -> RuleName | Rule | None:
        """As for all schemes; scores that are real numbers need `compute_uniforms`."""
        if self.score_kind == "real" and not hasattr(self, "compute_uniforms"):
            return None
        return super().sampling

    def _build(self) -> _core.Scheme:
        share = None if self.score_kind == "real" else self.share
        # A copy: it has the fields but no core, or the two would keep each other alive for ever.
        return _core.Scheme.python(
            copy.copy(self),
            name=self.name,
            vocab_size=self.vocab_size,
            window_width=self.window_width,
            score_kind=self.score_kind,
            depth=len(self.weights),
            share=None if share is None else (share.numerator, share.denominator),
            seed_kind=self.seed_kind,
            least_own=self.least_own,
            padding=self.padding,
            reaches_prompt=self.reaches_prompt,
        )
