"""The errors that radscore raises on purpose, by cause."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = [
    "ArgumentError",
    "CorpusError",
    "DamagedWindowsError",
    "MissingExtraError",
    "ModelError",
    "RadscoreError",
    "SchemeError",
    "StateError",
    "StorageError",
    "TokenError",
    "line_of",
    "near",
    "shown",
    "some_of",
    "without_secrets",
]

_USER = re.compile(r"(\w://)[^\s/@]+@")
_QUERY = re.compile(r"(\w://[^\s?]+)\?[^\s:'\",)]+")


class RadscoreError(Exception):
    """Base class of all errors that radscore raises on purpose."""


class ArgumentError(RadscoreError, ValueError):
    """An argument is outside what is allowed; the message names it, its value and the range."""


class SchemeError(RadscoreError, ValueError):
    """A scheme's parameter, configuration or key is wrong."""


class TokenError(RadscoreError, ValueError):
    """Token ids or document offsets are malformed (wrong dtype, id out of range, ...)."""


class CorpusError(RadscoreError, ValueError):
    """A corpus file is missing, damaged or not of its format; the message names file and line."""


class ModelError(RadscoreError):
    """A model, tokenizer or endpoint is not what a test needs, or does not answer."""


class MissingExtraError(RadscoreError, ImportError):
    """A library that only some functions need is not installed; the message says how to do it."""


class StorageError(RadscoreError):
    """A run's file cannot be written or read, or is damaged; the message says what to do again."""


class DamagedWindowsError(StorageError):
    """A file of windows does not hold what was written to it: which one, and what is wrong."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, what)
        self.path, self.what = path, what

    def __str__(self) -> str:
        return f"{self.path} is damaged: {self.what}; remove it and rerun the command"


class StateError(RadscoreError):
    """A saved state, filter or result is damaged, or belongs to another scheme, key or version."""


def near(name: object, known: Iterable[str], called: Mapping[str, str] | None = None) -> str:
    """`; did you mean ...?` if a known name is similar, else nothing; for the end of a message.

    `called` says what a message calls each, if not by its name.

    Examples
    --------
    >>> near("KWG", ["kgw", "keyed"]), near("x", ["kgw"])
    ('; did you mean kgw?', '')
    """
    if not isinstance(name, str):
        return ""
    import difflib

    names = {one.lower(): one if called is None else called[one] for one in known}
    found = difflib.get_close_matches(name.lower(), names, n=1)
    return f"; did you mean {names[found[0]]}?" if found else ""


def line_of(error: BaseException, most: int = 300) -> str:
    r"""What an error says, in one line that is cut where it is long; its class if it says nothing.

    Examples
    --------
    >>> line_of(OSError("not\n  here")), line_of(KeyError())
    ('not here', 'KeyError')
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError) and error.args:
        text = f"there is no {text}"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def some_of(names: Iterable[object], most: int = 12) -> str:
    """The first few names, and how many more there are.

    Examples
    --------
    >>> some_of("abc", 2), some_of("")
    ('a, b and 1 more', 'none')
    """
    every = [str(name) for name in names]
    more = len(every) - most
    return f"{', '.join(every[:most])}{f' and {more} more' if more > 0 else ''}" or "none"


def without_secrets(text: str) -> str:
    """`text` with addresses that name no user, password, token or signature.

    Examples
    --------
    >>> without_secrets("s3://id:secret@bucket/a and https://host/b?sig=secret: not found")
    's3://...@bucket/a and https://host/b?...: not found'
    """
    return _QUERY.sub(r"\1?...", _USER.sub(r"\1...@", text))


def shown(value: object, most: int = 60) -> str:
    """A value for a message: its repr, cut where it is long.

    Examples
    --------
    >>> shown(3), shown(10**5000), shown("ab" * 9, 8)
    ('3', 'a number of more than 4,000 digits', "'abababa...")
    """
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write such numbers
        return "a number of more than 4,000 digits"
    return text if len(text) <= most else f"{text[:most]}..."
