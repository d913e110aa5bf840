"""``radscore schemes``: which schemes there are, and how their TOML is written."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.options import DEFAULT_KEY_ENV, add_command
from radscore.cli.output import json_out, show, table
from radscore.cli.parser import near

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_EXAMPLES = """\
  radscore schemes
  radscore schemes kgw
  radscore schemes keyed --toml > scheme.toml
"""


# What stands in the example where a parameter has no default, or None.
_REQUIRED = {"vocab_size": 32_000}
_OPTIONAL = {"table_seed": (0, "none; for the seedings that hash by a table only")}
_SEEDED = (
    ("12345", "seeding = hash: the seed (salt_key is then 35317, the authors')"),
    ("seed = 12345\nsalt_key = 35317", "seeding = hash: both"),
    ("15485863", "the other seedings: hash_key (table_...: salt_key)"),
)
_NUMBER = (("12345", "decimal"), ("0x3039", "the same, hexadecimal"))
_NUMBERS = (("654, 400, 836, 123", "decimal, one a depth"),)
# What may stand in a key file.
_KEY_FILES = {
    "kgw": _SEEDED,
    "gumbel_max": _SEEDED,
    "synthid": _NUMBERS,
    "synthid_deepmind": _NUMBERS,
    "sglang_gumbel": (
        ("2a", "up to 16 hexadecimal digits, as SGLang reads them: 42"),
        ('key = "2a"\nkey_b = "2b"', "two keys"),
    ),
    "keyed": (("000102030405060708090a0b0c0d0e0f", "32 hexadecimal digits (draw them at random)"),),
}


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
    parser.add_argument("--toml", action="store_true", help="print only the example TOML")
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
        raise UsageError(
            f"there is no scheme {args.name!r}{near(args.name, SCHEMES)}; there are "
            f"{', '.join(SCHEMES)}"
        )
    scheme = SCHEMES[args.name]
    if args.toml:
        show(_toml(args.name, scheme))
    elif args.json:
        json_out(_facts(args.name, scheme))
    else:
        show(_description(args.name, scheme))
    return Exit.DONE


def _description(name: str, scheme: Any) -> str:
    parts = [
        f"{name}: {inspect.getdoc(scheme)}",
        *(textwrap.fill(f"Note: {note}", 79) for note in scheme.notes),
        f"What a key file may hold:\n\n{_key_files(name)}",
        f"A TOML file to begin with (--toml prints only this):\n\n{_toml(name, scheme)}",
    ]
    return "\n\n".join(parts)


def _key_files(name: str) -> str:
    """The ways to write a key file, with what each means."""
    ways = _KEY_FILES.get(name, _NUMBER)
    return "\n\n".join(textwrap.indent(f"# {why}\n{text}", "  ") for text, why in ways)


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
        "key_files": [text for text, _ in _KEY_FILES.get(name, _NUMBER)],
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
            value, default = _OPTIONAL[field.name]
            lines.append(f"# {field.name} = {value}  # default: {default}")
        else:
            lines.append(f"# {field.name} = {_toml_value(field.default)}")
    where = f"--key-file, --key-env or the environment's {DEFAULT_KEY_ENV}"
    lines.append(f"## secret, so not here but from {where}: {', '.join(scheme.secrets)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
