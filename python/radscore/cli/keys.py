"""The scheme and its key: where they come from, and what the user should know about it."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from typing import Any

from radscore.cli.exits import UsageError
from radscore.cli.options import DEFAULT_KEY_ENV
from radscore.cli.output import note
from radscore.cli.parser import looks_like_key

__all__ = ["load_key", "load_scheme", "load_schemes"]

_HOW = f"--key-file FILE, --key-env NAME or the environment's {DEFAULT_KEY_ENV}"


def load_schemes(args: argparse.Namespace) -> dict[str, Any]:
    """The scheme under each key that the arguments name, by the key's file ("" without one)."""
    schemes: dict[str, Any] = {}
    for path in (args.key_file, *args.more_keys):
        scheme = load_scheme(argparse.Namespace(**{**vars(args), "key_file": path}))
        for other, known in schemes.items():
            if known.fingerprint == scheme.fingerprint:
                raise UsageError(
                    f"--key-file: {other} and {path} hold the same key; give each key once"
                )
        schemes[path or ""] = scheme
    return schemes


def load_scheme(args: argparse.Namespace) -> Any:
    """The scheme that the arguments name, with its key."""
    from radscore.schemes import SCHEMES
    from radscore.schemes.configs import from_table, read_table, secrets_of

    if looks_like_key(args.scheme) and not os.path.lexists(args.scheme):
        raise UsageError(_no_name("--scheme"))
    if args.scheme in SCHEMES and not os.path.lexists(args.scheme):
        raise UsageError(
            f"--scheme: there is no file {args.scheme}; to begin one for this scheme: radscore "
            f"schemes {args.scheme} --toml > scheme.toml"
        )
    key, origin = _load_key(args)
    values = read_table(args.scheme)
    kind = SCHEMES[values["scheme"]]
    inside = [name for name in kind.secrets if name in values]
    given = secrets_of(values, key)
    for name in inside:
        if name in given:
            raise UsageError(
                f"{name} stands in {args.scheme} and also comes from {origin}; give it once"
            )
    names = (*inside, *given)
    used = kind.key_fields(values)
    defaults = {field.name: field.default for field in fields(kind)}
    # Of a field that is unknown from_table says more.
    if set(names) <= set(kind.secrets).difference(used):
        raise UsageError(_needs_key(args.scheme, kind.name, used, defaults))
    scheme = from_table(values, key, args.scheme)
    if all(values[name] == defaults[name] for name in inside):
        _note("{} is the tools' public default in {}", inside, args.scheme)
    else:
        _note("{} is secret but stands in {}; --key-file keeps it apart", inside, args.scheme)
    for name in used:
        if name not in names:
            _note("{} was not given, so has its public default {}", [name], defaults[name])
    return scheme


def load_key(args: argparse.Namespace, *, needed: bool = True) -> Any:
    """The key that the arguments name; None without one, unless it is needed."""
    key, _ = _load_key(args)
    if key is None and needed:
        raise UsageError(f"this needs the key: {_HOW}")
    return key


def _needs_key(path: str, name: str, used: tuple[str, ...], defaults: dict[str, Any]) -> str:
    text = f"{path}: scheme {name!r} needs its key ({', '.join(used)}): give it with {_HOW}"
    public = [f"{one} = {defaults[one]}" for one in used if isinstance(defaults[one], int)]
    if public:
        text += (
            f"; where the public default of the tools is really meant, write {' or '.join(public)} "
            f"in {path}"
        )
    return text


def _note(text: str, names: list[str], rest: Any) -> None:
    if names:
        note(f"note: {text.format(' and '.join(names), rest)}")


def _load_key(args: argparse.Namespace) -> tuple[Any, str]:
    """The secret and the words for where it came from; None where none was given."""
    from radscore.schemes import Key

    if args.key_file is not None:
        if looks_like_key(args.key_file) and not os.path.lexists(args.key_file):
            raise UsageError(_no_name("--key-file"))
        return Key.from_file(args.key_file), f"--key-file {args.key_file}"
    if args.key_env is not None:
        if args.key_env not in os.environ:
            if looks_like_key(args.key_env):
                raise UsageError(_no_name("--key-env"))
            raise UsageError(f"--key-env: the environment has no variable {args.key_env}")
        return Key.from_env(args.key_env), f"--key-env {args.key_env}"
    if DEFAULT_KEY_ENV in os.environ:
        return Key.from_env(DEFAULT_KEY_ENV), f"the environment's {DEFAULT_KEY_ENV}"
    return None, ""


def _no_name(option: str) -> str:
    return f"the value of {option} looks like a key; write it to a file and name the file"
