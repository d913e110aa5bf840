"""Where secrets are not: a scheme's dictionary, a printout, a message, pickles if so asked."""

from __future__ import annotations

import difflib
import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from radscore.errors import SchemeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "Veiled",
    "keys_kept",
    "leave_out",
    "name_in_key",
    "public_name",
    "restored",
    "veil",
    "with_key",
    "without_keys",
]

#: What may be a hexadecimal key, though it has letters only.
_HEX_WORD = r"[A-Fa-f]{6,}"
#: What secret fields are called.
_USUAL = ("key", "keys", "seed", "salt_key", "hash_key")
_NOT_SHOWN = "(not shown, as it looks like a key)"

_left_out: ContextVar[bool] = ContextVar("left_out", default=False)
_given: ContextVar[tuple[Any, ...]] = ContextVar("given", default=())


@contextmanager
def without_keys() -> Iterator[None]:
    """While entered, pickles of schemes and keys hold fingerprints, and no key.

    Load one while `with_key` is entered. Executors of runs send keys to their workers all the same.

    Examples
    --------
    >>> import pickle
    >>> from radscore.schemes import SBW
    >>> scheme = SBW(key=42, vocab_size=100)
    >>> with without_keys():
    ...     data = pickle.dumps(scheme)
    >>> with with_key(42):
    ...     pickle.loads(data) == scheme
    True
    """
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


@contextmanager
def keys_kept() -> Iterator[None]:
    """While entered, pickles hold keys, whatever was entered before."""
    token = _left_out.set(False)
    try:
        yield
    finally:
        _left_out.reset(token)


@contextmanager
def with_key(*keys: Any) -> Iterator[None]:
    """While entered, pickles without a key are loaded with the one of these that they lack.

    Parameters
    ----------
    *keys : Key, or what one is made of
        Loading raises `SchemeError` if none of them is the key.
    """
    token = _given.set(keys)
    try:
        yield
    finally:
        _given.reset(token)


def leave_out() -> bool:
    """Whether a pickle that is being made is to hold no key."""
    return _left_out.get()


def restored(make: Any, public: dict[str, Any], fingerprint: str) -> Any:
    """What was pickled without its key: ``make(public, key)`` of the key that was given since."""
    for key in (None, *_given.get()):
        try:
            found = make(public, key)
        except SchemeError:  # none, or one of another form
            continue
        if found.fingerprint == fingerprint:
            return found
    raise SchemeError(
        f"this pickle (fingerprint {fingerprint}) was made without its key; load it inside "
        "`with radscore.schemes.with_key(key):`, with that key"
    )


def public_name(name: str) -> str:
    """A field's name for a message, unless it may be a key on the wrong side of the =."""
    harmless = re.fullmatch(r"[A-Za-z_]{1,30}\d?", name) and not re.fullmatch(_HEX_WORD, name)
    return repr(name) if harmless else _NOT_SHOWN


def name_in_key(name: str, known: Iterable[str]) -> str:
    """A field that a key names, for a message, only if it is a scheme's, or one misspelt."""
    found = difflib.get_close_matches(name, [*known, *_USUAL], 1, 0.75)
    return repr(name) if found else _NOT_SHOWN


class _Number(int):
    """A secret number: one like all others, except that printing does not show it."""

    def __repr__(self) -> str:
        return "(secret)"

    __str__ = __repr__

    def __copy__(self) -> _Number:
        return self

    def __deepcopy__(self, memo: Any) -> _Number:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if leave_out():
            raise SchemeError("a secret number cannot be pickled without keys; pickle its scheme")
        return int, (int(self),)


class Veiled:
    """A field whose value stands outside of its scheme's dictionary, so that `vars` has none."""

    def __init__(self, name: str, default: Any) -> None:
        self._name = name
        self._default = default

    def __get__(self, scheme: Any, kind: type | None = None) -> Any:
        if scheme is None and self._default is not MISSING:
            return self._default
        try:
            return scheme._hidden[self._name]  # noqa: SLF001
        except (AttributeError, KeyError):
            raise AttributeError(self._name) from None

    def __set__(self, scheme: Any, value: Any) -> None:
        if type(value) is int:
            value = _Number(value)
        elif type(value) is tuple:
            value = tuple(_Number(one) if type(one) is int else one for one in value)
        scheme._hidden[self._name] = value  # noqa: SLF001


def veil(kind: Any) -> None:
    """Veils the secret fields of a class of schemes; once, when it has its fields."""
    if "_veil" not in kind.__dict__:
        for one in fields(kind):
            if one.name in kind.secrets:
                setattr(kind, one.name, Veiled(one.name, one.default))
        kind._veil = True  # noqa: SLF001
