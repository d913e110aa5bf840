"""Reading other tools' configurations: names, JSON, config objects. No message shows a key."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radscore.errors import SchemeError

__all__ = ["as_fields", "free_form", "json_fields", "lm_watermarking_name"]

_LARGEST = 1 << 20

_NAMED = {
    "simple_1": ("additive", 1, False),
    "lefthash": ("additive", 1, False),
    "minhash": ("minhash", 4, False),
    "skipgram": ("skipgram", 5, False),
    "selfhash": ("anchored_minhash", 4, True),
    "algorithm-3": ("anchored_minhash", 4, True),
}


def lm_watermarking_name(scheme: str) -> tuple[str, int, bool, int | None]:
    """(function, width, self_salt, key) of a scheme string of lm-watermarking."""
    if not isinstance(scheme, str):
        raise SchemeError(f"the scheme must be named by a string, not {type(scheme).__name__}")
    if scheme in _NAMED:
        return (*_NAMED[scheme], None)
    if not scheme.startswith("ff-"):
        raise SchemeError(
            f"lm-watermarking has no scheme {scheme.partition('-')[0]!r}; it has "
            f"{', '.join(_NAMED)} and ff-<function>-<width>-<self_salt>[-<key>]"
        )
    return free_form(scheme.removeprefix("ff-").split("-"), "ff-")


def free_form(parts: list[str], prefix: str) -> tuple[str, int, bool, int | None]:
    """The parts of a free-form name after its prefix."""
    form = f"{prefix}<function>-<width>-<self_salt>[-<key>]"
    if not 3 <= len(parts) <= 4:
        raise SchemeError(f"a free-form scheme is {form}; this one has {len(parts)} parts")
    function, width, self_salt = parts[:3]
    if not width.isdecimal():
        raise SchemeError(f"the width of {form} must be a number, not {width!r}")
    if self_salt not in ("True", "False"):
        raise SchemeError(f"the self_salt of {form} must be True or False, not {self_salt!r}")
    key = None
    if len(parts) == 4:
        if not parts[3].isdecimal():
            raise SchemeError(f"the key of {form} must be a decimal number")
        key = int(parts[3])
    return function.removesuffix("_prf"), int(width), self_salt == "True", key


def as_fields(
    config: Any, what: str, *, known: tuple[str, ...], ignored: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The fields of a configuration object or mapping, each of them known."""
    if not isinstance(config, Mapping):
        if not hasattr(config, "to_dict"):
            raise SchemeError(
                f"{what} must be such an object or a dict, not {type(config).__name__}"
            )
        config = config.to_dict()
    values = dict(config)
    unknown = sorted(str(name) for name in set(values).difference(known, ignored))
    if unknown:
        raise SchemeError(
            f"{what} has no field {unknown[0]!r}; it has {', '.join((*known, *ignored))}"
        )
    return {name: values[name] for name in known if name in values}


def json_fields(config: Any, what: str) -> dict[str, Any]:
    """A mapping, JSON text of an object, or the path of a file that holds it."""
    if isinstance(config, Mapping):
        return dict(config)
    if isinstance(config, str) and config.lstrip().startswith("{"):
        text = config
    elif isinstance(config, (str, os.PathLike)):
        try:
            text = Path(config).read_text("utf-8-sig")
        except OSError as error:
            raise SchemeError(
                f"{what} {os.fspath(config)}: {error.strerror or 'cannot be read'}"
            ) from None
        except UnicodeDecodeError:
            raise SchemeError(f"{what} {os.fspath(config)}: not a text file") from None
    else:
        raise SchemeError(f"{what} must be JSON text, a dict or a path")
    try:
        values = json.loads(text[:_LARGEST])
    except json.JSONDecodeError as error:
        # The text holds the key: say where, never what.
        place = f"line {error.lineno}, column {error.colno}"
        raise SchemeError(f"{what} is not valid JSON ({place})") from None
    if not isinstance(values, dict):
        raise SchemeError(f"{what} must be a JSON object")
    return values
