"""``radscore schemes``: which schemes there are, and how their TOML is written."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.options import DEFAULT_KEY_ENV, add_command
from radscore.cli.output import json_out, table

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_EXAMPLES = """\
  radscore schemes
  radscore schemes kgw
  radscore schemes keyed --toml > scheme.toml
"""


# What stands in the example where a parameter has no default.
_REQUIRED = {"vocab_size": 32_000}


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
        descriptions = {name: scheme.description for name, scheme in SCHEMES.items()}
        if args.json:
            json_out(descriptions)
        else:
            table(descriptions.items())
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
        for note in scheme.notes:
            print(f"{textwrap.fill(f'Note: {note}', 79)}\n")
        print(f"A TOML file to begin with:\n\n{_toml(args.name, scheme)}", end="")
    return Exit.DONE


def _parameters(scheme: Any) -> list[Field[Any]]:
    """The parameters that stand in a TOML file; the secret ones do not."""
    return [field for field in fields(scheme) if field.name not in scheme.secrets]


def _facts(name: str, scheme: Any) -> dict[str, Any]:
    return {
        "scheme": name,
        "description": scheme.description,
        "notes": list(scheme.notes),
        "parameters": {field.name: _default(field) for field in _parameters(scheme)},
        "secrets": list(scheme.secrets),
        "toml": _toml(name, scheme),
    }


def _default(field: Field[Any]) -> Any:
    return None if field.default is MISSING else field.default


def _toml(name: str, scheme: Any) -> str:
    """A file to begin with; what has a default stands in a comment."""
    lines = [f'scheme = "{name}"']
    for field in _parameters(scheme):
        if field.default is MISSING:
            lines.append(f"{field.name} = {_REQUIRED[field.name]}")
        elif field.default is None:
            lines.append(f"# {field.name}: not given")
        else:
            lines.append(f"# {field.name} = {_toml_value(field.default)}")
    where = f"--key-file, --key-env or the environment's {DEFAULT_KEY_ENV}"
    lines.append(f"# {', '.join(scheme.secrets)}: secret, from {where}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
