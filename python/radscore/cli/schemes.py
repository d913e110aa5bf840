"""``radscore schemes``: which schemes there are, and how their TOML is written."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import MISSING, Field, fields
from typing import Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.options import DEFAULT_KEY_ENV, add_command
from radscore.cli.output import json_out, table

__all__ = ["register"]

_EXAMPLES = """\
  radscore schemes
  radscore schemes kgw
  radscore schemes keyed --toml > scheme.toml
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "schemes",
        summary="list the schemes, or show one",
        description="Lists the watermark schemes, or shows the parameters of one and a TOML file "
        "to begin with.",
        examples=_EXAMPLES,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a scheme, as in scheme = NAME")
    parser.add_argument("--toml", action="store_true", help="print the example TOML only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.schemes import SCHEMES

    if args.name is None:
        if args.toml:
            raise UsageError("--toml needs the name of a scheme")
        summaries = {name: _summary(scheme) for name, scheme in SCHEMES.items()}
        if args.json:
            json_out(summaries)
        else:
            table(summaries.items())
        return Exit.DONE
    if args.name not in SCHEMES:
        raise UsageError(f"there is no scheme {args.name!r}; there are {', '.join(SCHEMES)}")
    scheme = SCHEMES[args.name]
    if args.toml:
        print(_toml(args.name, scheme), end="")
    elif args.json:
        json_out(_facts(args.name, scheme))
    else:
        print(f"{args.name}: {inspect.getdoc(scheme)}\n")
        print("TOML, with the defaults as comments:\n")
        print(_toml(args.name, scheme), end="")
    return Exit.DONE


def _summary(scheme: type) -> str:
    return (inspect.getdoc(scheme) or "").partition("\n")[0]


def _parameters(scheme: Any) -> list[Field[Any]]:
    """The parameters that stand in a TOML file; the secret does not."""
    return [field for field in fields(scheme) if field.init and field.name != "key"]


def _facts(name: str, scheme: Any) -> dict[str, Any]:
    return {
        "scheme": name,
        "summary": _summary(scheme),
        "parameters": {
            field.name: {"type": str(field.type), "default": _default(field)}
            for field in _parameters(scheme)
        },
        "toml": _toml(name, scheme),
    }


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return None if field.default_factory is MISSING else field.default_factory()


def _toml(name: str, scheme: Any) -> str:
    lines = [f'scheme = "{name}"']
    for field in _parameters(scheme):
        required = field.default is MISSING and field.default_factory is MISSING
        value = _EXAMPLE_VALUES.get(field.name) if required else _default(field)
        line = f"{field.name} = {_toml_value(value)}"
        lines.append(line if required else f"# {line}")
    if any(field.name == "key" for field in fields(scheme)):
        lines.append(f"# the key comes from --key-file, --key-env or ${DEFAULT_KEY_ENV}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
