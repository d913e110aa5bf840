"""The members of a large value of JSON, found and checked without making objects of their values.

Each nested value takes Python hundreds of bytes, so a few megabytes of a field that nobody wants
may take gigabytes. What is accepted is what the module `json` accepts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["SkimError", "Skimmed", "skim"]

_SPACE: Final = r"[ \t\n\r]*+"
_STRING: Final = r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+"'
_NUMBER: Final = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+"
_SCALAR: Final = f"(?:{_STRING}|-?Infinity|{_NUMBER}|true|false|null|NaN)"
_MEMBER: Final = f"{_STRING}{_SPACE}:{_SPACE}{_SCALAR}"


def _list_of(one: str) -> str:
    return f"(?:{one}{_SPACE}(?:,{_SPACE}{one}{_SPACE})*+)?+"


#: A scalar, or a list or an object of nothing but scalars.
_FLAT: Final = re.compile(
    rf"{_SPACE}(?:{_SCALAR}|\[{_SPACE}{_list_of(_SCALAR)}\]|\{{{_SPACE}{_list_of(_MEMBER)}\}})"
)
_OPENING: Final = re.compile(rf"{_SPACE}([\[{{])")
_KEY: Final = re.compile(rf"{_SPACE}({_STRING}){_SPACE}:")
_NEXT: Final = re.compile(rf"{_SPACE}([,\]}}])")
_END: Final = re.compile(rf"{_SPACE}\Z")
#: Deeper ones `json` refuses.
_DEEPEST: Final = 990
#: Elements of a list that are told.
_ELEMENTS: Final = 8
_NAME: Final = "a name in quotes and a colon"


class Skimmed(NamedTuple):
    """What was found in some JSON.

    Attributes
    ----------
    is_object : bool
        Whether it is an object rather than a list.
    members : list of (str, (int, int))
        Each key, as it is written ("" in a list), and the range of its value.
    """

    is_object: bool
    members: list[tuple[str, tuple[int, int]]]


class SkimError(Exception):
    """What is wrong with the text."""


def skim(text: str) -> Skimmed | None:
    """The members of an object, or the first elements of a list; None if it is another value.

    Raises
    ------
    SkimError
        If it is not JSON.

    Examples
    --------
    >>> skim('{"a": [1, {"b": [2]}], "c": 5}').members
    [('"a"', (5, 21)), ('"c"', (27, 29))]
    >>> skim("[1, [2]]").members
    [('', (1, 2)), ('', (3, 7))]
    """
    found = _OPENING.match(text)
    if found is None:
        _end(text, _value(text, 0))
        return None
    skimmed = Skimmed(found[1] == "{", [])
    closing = "}" if skimmed.is_object else "]"
    after = _NEXT.match(text, found.end())
    if after is None or after[1] != closing:
        at = found.end()
        while after is None or after[1] != closing:
            name = ""
            if skimmed.is_object:
                key = _matched(_KEY, text, at, _NAME)
                name, at = key[1], key.end()
            end = _value(text, at)
            if skimmed.is_object or len(skimmed.members) < _ELEMENTS:
                skimmed.members.append((name, (at, end)))
            after = _matched(_NEXT, text, end, "a comma or a closing bracket")
            at = after.end()
            if after[1] not in (",", closing):
                raise _wrong("a comma or the other closing bracket", at - 1)
    _end(text, after.end())
    return skimmed


def _value(text: str, at: int) -> int:
    """Where the value after an offset ends."""
    closing: list[str] = []
    while True:
        flat = _FLAT.match(text, at)
        if flat is not None:
            at = flat.end()
        else:
            opening = _matched(_OPENING, text, at, "a value")
            closing.append("]" if opening[1] == "[" else "}")
            at = opening.end()
            if len(closing) > _DEEPEST:
                raise SkimError("not a record: the JSON is nested too deeply")
            if closing[-1] == "}":
                at = _matched(_KEY, text, at, _NAME).end()
            continue
        while closing:
            after = _matched(_NEXT, text, at, "a comma or a closing bracket")
            at = after.end()
            if after[1] == ",":
                if closing[-1] == "}":
                    at = _matched(_KEY, text, at, _NAME).end()
                break
            if after[1] != closing.pop():
                raise _wrong("the other closing bracket", at - 1)
        else:
            return at


def _matched(pattern: re.Pattern[str], text: str, at: int, what: str) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise _wrong(what, at)
    return found


def _end(text: str, at: int) -> None:
    if _END.match(text, at) is None:
        raise _wrong("the end of the line", at)


def _wrong(what: str, at: int) -> SkimError:
    return SkimError(f"not JSON: there should be {what} (column {at + 1})")
