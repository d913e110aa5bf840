"""Families of twins: random ones and fixed ones, and how the package writes the same schemes.

Each file of `tests.twin.schemes` registers what it holds, and the tests' catalogues are made of
that: a scheme whose twin is registered here is in every property test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hypothesis import strategies as st

from tests.twin.schemes.base import Scheme

if TYPE_CHECKING:
    from collections.abc import Callable

    import radscore as rs
    from hypothesis.strategies import SearchStrategy

__all__ = ["EXAMPLE_VOCAB", "FAMILIES", "Family", "family_of", "register"]

T = TypeVar("T", bound=Scheme)

#: The vocabulary of fixed twins.
EXAMPLE_VOCAB = 40


@dataclass(frozen=True)
class Family(Generic[T]):
    """The twins of one class.

    Attributes
    ----------
    scheme : str
        The name of the package's scheme.
    twin : type
        The class.
    twins : SearchStrategy
        Random ones.
    examples : tuple
        Fixed ones over `EXAMPLE_VOCAB` ids, one for each way of computing.
    core : callable
        The parameters of the compiled scheme, but for `vocab_size`.
    public : callable
        The same scheme as users write it.
    golden : tuple of str
        Files of `tests/golden` whose vectors pin the scheme's values.
    """

    scheme: str
    twin: type[T]
    twins: SearchStrategy[T]
    examples: tuple[T, ...]
    core: Callable[[T], dict[str, Any]]
    public: Callable[[T], rs.Scheme]
    golden: tuple[str, ...]


#: Every family by its name in test ids.
FAMILIES: dict[str, Family[Any]] = {}


def register(name: str, family: Family[T]) -> None:
    """Adds a family. A file that pytest imports a second time, for its examples, adds nothing."""
    known = FAMILIES.setdefault(name, family)
    assert known.twin.__qualname__ == family.twin.__qualname__, name


def family_of(twin: Scheme) -> Family[Any]:
    """The family of a twin."""
    return next(family for family in FAMILIES.values() if family.twin is type(twin))


# What parameters are drawn from.

uint64 = st.integers(0, 2**64 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
key63 = st.one_of(st.integers(1, 2**24), st.integers(1, 2**63 - 1))
#: At least one entry of 20 is green, and one red.
gamma = st.one_of(st.sampled_from([0.05, 0.25, 0.5]), st.floats(0.05, 0.95))
share = st.floats(1e-6, 1 - 1e-6)
small_vocab = st.integers(20, 60)
any_vocab = st.one_of(small_vocab, st.sampled_from([2**16 + 1, 2**18, 2**20]))
narrow = st.integers(1, 4)
any_width = st.one_of(narrow, narrow, st.integers(1, 16), st.sampled_from([17, 18, 33, 64]))
#: Wide enough for functions of two tokens.
two_or_more = any_width.map(lambda width: max(width, 2))
