"""Checks of arguments that many functions share, and the words that these allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from radscore.documents import check_width
from radscore.errors import ArgumentError, near, shown
from radscore.kgrams import KgramSet
from radscore.schemes import Scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Dedup",
    "PromptRole",
    "check_choice",
    "check_reach",
    "check_rules",
    "check_schemes",
    "check_start",
    "check_threads",
    "one_scheme",
]

Dedup: TypeAlias = Literal["unit", "window", "context", "none"]
PromptRole: TypeAlias = Literal["exclude", "context"]


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises `ArgumentError` unless the value is one of the allowed words."""
    if value not in allowed:
        raise ArgumentError(
            f"{name} must be one of {', '.join(allowed)}, not {shown(value)}{near(value, allowed)}"
        )


def check_rules(dedup: object, prompt_role: object, phi: object) -> None:
    """Raises `ArgumentError` unless the rules are known and the filter is a `KgramSet`."""
    check_choice("dedup", dedup, get_args(Dedup))
    check_choice("prompt_role", prompt_role, get_args(PromptRole))
    if phi is not None and not isinstance(phi, KgramSet):
        raise ArgumentError(f"filter must be a KgramSet, not {type(phi).__name__}")


def check_reach(schemes: Sequence[Scheme], prompt_role: object) -> None:
    """Raises `ArgumentError` if contexts should reach into prompts but a scheme's never do."""
    for scheme in schemes:
        if prompt_role == "context" and not scheme.reaches_prompt:
            raise ArgumentError(
                f"prompt_role must be 'exclude' with scheme {scheme.name!r}, not 'context': its "
                f"contexts begin with {scheme.padding}, never with the prompt"
            )


def check_schemes(scheme: Scheme | Sequence[Scheme]) -> tuple[Scheme, ...]:
    """The schemes, whether one or several were given."""
    schemes: tuple[Any, ...] = (scheme,)
    if isinstance(scheme, Iterable) and not isinstance(scheme, str):
        schemes = tuple(scheme)
    for one in schemes:
        if not isinstance(one, Scheme):
            raise ArgumentError(f"scheme must be a Scheme, not {type(one).__name__}")
    if not schemes:
        raise ArgumentError("at least one scheme is needed")
    return schemes


def one_scheme(scheme: Scheme | Sequence[Scheme]) -> Scheme:
    """The scheme, if only one was given."""
    schemes = check_schemes(scheme)
    if len(schemes) != 1:
        raise ArgumentError(
            f"scheme must be a single one here, not {len(schemes)}; Scorer takes several"
        )
    return schemes[0]


def check_threads(threads: int | None) -> int | None:
    """The number of threads; None for one per core."""
    return None if threads is None else check_width("threads", threads, 1, 4096)


def check_start(start: int | None) -> int | None:
    """The first position that is scored; None for the scheme's own, `Scheme.first_position`."""
    return None if start is None else check_width("start", start, 0, 2**62)
