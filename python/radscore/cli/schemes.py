"""``radscore schemes``: which schemes there are, and how to write their TOML and key files."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.options import DEFAULT_KEY_ENV, add_command
from radscore.cli.output import json_out, show, table
from radscore.errors import SchemeError

if TYPE_CHECKING:
    import argparse

    from radscore.schemes import Scheme

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
        description="Lists the watermark schemes, those of installed packages among them, or shows "
        "the parameters of one and a TOML file to start from.",
        examples=_EXAMPLES,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a scheme, as in scheme = NAME")
    parser.add_argument("--toml", action="store_true", help="print only the example TOML")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.schemes import SCHEMES
    from radscore.schemes.names import scheme_name

    if args.name is None:
        if args.toml:
            raise UsageError("--toml needs the name of a scheme")
        descriptions = {name: _line(name) for name in SCHEMES}
        if args.json:
            json_out(descriptions)
        else:
            table(descriptions.items())
        return Exit.DONE
    scheme = SCHEMES[scheme_name(args.name)]
    if args.toml:
        show(_toml(scheme))
    elif args.json:
        json_out(_facts(scheme))
    else:
        show(_description(scheme))
    return Exit.DONE


def _line(name: str) -> str:
    """What the list says of a scheme; one package that is broken does not hide the others."""
    from radscore.schemes import SCHEMES

    try:
        return SCHEMES[name].description
    except SchemeError as error:
        return f"(broken) {error}"


def _description(scheme: type[Scheme]) -> str:
    parts = [
        f"{scheme.name}: {inspect.getdoc(scheme)}",
        *(textwrap.fill(f"Note: {note}", 79) for note in scheme.notes),
        f"What a key file may hold:\n\n{_key_files(scheme)}",
        f"A TOML file to start from (--toml prints only this):\n\n{_toml(scheme)}",
    ]
    return "\n\n".join(parts)


def _key_files(scheme: type[Scheme]) -> str:
    """The ways to write a key file, with what each means."""
    ways = scheme.key_files
    return "\n\n".join(textwrap.indent(f"# {why}\n{text}", "  ") for text, why in ways)


def _parameters(scheme: type[Scheme]) -> list[Field[Any]]:
    """The parameters that stand in a TOML file; the secret ones do not."""
    return [field for field in fields(scheme) if field.name not in scheme.secrets]


def _facts(scheme: type[Scheme]) -> dict[str, Any]:
    return {
        "scheme": scheme.name,
        "description": scheme.description,
        "notes": list(scheme.notes),
        "parameters": {field.name: _default(field) for field in _parameters(scheme)},
        "secrets": list(scheme.secrets),
        "key_files": [text for text, _ in scheme.key_files],
        "toml": _toml(scheme),
    }


def _default(field: Field[Any]) -> Any:
    return None if field.default is MISSING else field.default


def _toml(scheme: type[Scheme]) -> str:
    """A file to start from; what has a default stands in a comment."""
    lines = [f'scheme = "{scheme.name}"', *map(_toml_line, _parameters(scheme))]
    where = f"--key-file, --key-env or the environment's {DEFAULT_KEY_ENV}"
    lines.append(f"## secret, so not here but from {where}: {', '.join(scheme.secrets)}")
    return "\n".join(lines) + "\n"


def _toml_line(field: Field[Any]) -> str:
    example = field.metadata.get("example")
    if field.default is MISSING:
        if example is None:
            return f"# {field.name} =   # required"
        return f"{field.name} = {_toml_value(example)}"
    if field.default is not None:
        return f"# {field.name} = {_toml_value(field.default)}"
    words = field.metadata.get("default", "none")
    shown = "" if example is None else _toml_value(example)
    return f"# {field.name} = {shown}  # default: {words}"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
