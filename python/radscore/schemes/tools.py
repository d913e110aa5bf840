"""Reading other tools' configurations: JSON, config objects, dicts. No message shows a key."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from radscore.errors import SchemeError
from radscore.schemes.key import read_small

__all__ = ["SGLANG", "VLLM", "as_fields", "json_fields", "unread"]

#: What messages call the configurations of the serving engines.
SGLANG = "SGLang's watermark config"
VLLM = "vLLM's watermark config"

_TITLES = {"sglang": SGLANG, "vllm": VLLM}
#: Algorithms of vLLM's development versions.
_UNREAD = ("synthid_text", "synthid", "red_green")
_LARGEST = 1 << 20


def unread(tool: str, algorithm: object, known: Sequence[str]) -> SchemeError:
    """The error of a configuration whose algorithm is not one of those that are read here."""
    return SchemeError(
        f"the algorithm of {_TITLES.get(tool, tool)} must be {' or '.join(known)} here, not "
        f"{algorithm!r}" + ("; this version cannot read it" if algorithm in _UNREAD else "")
    )


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
        where = f"{what} {os.fspath(config)}"
        try:
            text = read_small(config, where, _LARGEST, "no configuration").decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SchemeError(f"{where}: not a text file") from None
    else:
        raise SchemeError(f"{what} must be JSON text, a dict or a path")
    try:
        values = json.loads(text[:_LARGEST])
    except (ValueError, RecursionError) as error:
        # The text holds the key: say where, never what.
        where = ""
        if isinstance(error, json.JSONDecodeError):
            where = f" (line {error.lineno}, column {error.colno})"
        raise SchemeError(f"{what} is not valid JSON{where}") from None
    if not isinstance(values, dict):
        raise SchemeError(f"{what} must be a JSON object")
    return values
