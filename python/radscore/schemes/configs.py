"""Schemes from configurations: dicts, TOML files, and those of other tools.

A class says itself what other tools call it (`Scheme.algorithms`, by tool), and reads that tool's
configuration in a class method ``from_<tool>(config, vocab_size)``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from radscore.errors import SchemeError
from radscore.schemes.key import Key, read_small, read_toml
from radscore.schemes.names import understood
from radscore.schemes.registry import SCHEMES
from radscore.schemes.synthid import SYNTHID_TABLE
from radscore.schemes.tools import SGLANG, VLLM, json_fields, unread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radscore.schemes.base import Scheme
    from radscore.schemes.key import Secret

__all__ = [
    "from_dict",
    "from_sglang_config",
    "from_synthid_text_config",
    "from_table",
    "from_toml",
    "from_vllm_config",
    "read_table",
    "secrets_of",
]

_LARGEST_FILE = 1 << 20


def from_dict(values: Mapping[str, Any], key: Key | Secret | None = None) -> Scheme:
    """A scheme from its name and parameters.

    Parameters
    ----------
    values : mapping
        `scheme`, a name of `SCHEMES` or another tool's, and the fields of its class, or those of
        that tool (see `radscore.schemes.names`).
    key : Key, optional
        The secret; an unnamed one is the scheme's main secret field.

    Raises
    ------
    SchemeError
        If the name or a field is unknown, a field or the key is missing, given twice or out of
        range.

    Examples
    --------
    >>> from_dict({"scheme": "kgw", "vocab_size": 32000, "context_width": 1}, key=3).name
    'kgw'
    """
    fields = understood(values)
    return SCHEMES[fields.pop("scheme")].from_fields(fields, key)


def from_toml(path: str | os.PathLike[str], key: Key | Secret | None = None) -> Scheme:
    r"""A scheme from a TOML file: `scheme = "kgw"` and the fields of its class.

    Parameters
    ----------
    path : path
        The file. It should hold no secret: keep the key elsewhere and give it as `key`.
    key : Key, optional
        The secret, as `Key.from_file` or `Key.from_env` read it.

    Raises
    ------
    SchemeError
        If the file cannot be read or is malformed, and for what `from_dict` refuses; the message
        begins with the path.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "scheme.toml")
    ...     _ = path.write_text('scheme = "keyed"\nvocab_size = 32000\n')
    ...     from_toml(path, key=bytes(16)).gamma
    0.25
    """
    return from_table(read_table(path), key, os.fspath(path))


def read_table(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a TOML file says, in radscore's own names; a message names the file."""
    location = os.fspath(path)
    data = read_small(path, location, _LARGEST_FILE, "not a scheme file")
    try:
        return understood(read_toml(data.decode("utf-8-sig").replace("\r\n", "\n")))
    except UnicodeDecodeError:
        raise SchemeError(f"{location}: not valid TOML: no UTF-8 text") from None
    except SchemeError as error:
        raise SchemeError(f"{location}: {error}") from None


def from_table(values: Mapping[str, Any], key: Key | Secret | None, location: str) -> Scheme:
    """`from_dict`; a message names the file at `location`, or where a wrong key came from."""
    try:
        return from_dict(values, key)
    except SchemeError as error:
        message = str(error)
        about = message.partition(" ")[0].partition("[")[0]
        of_key = about not in values and about in secrets_of(values, key)
        if key is not None and (of_key or message.startswith("the key")):
            location = Key(key).source or location
        raise SchemeError(f"{location}: {error}") from None


def secrets_of(values: Mapping[str, Any], key: Key | Secret | None) -> tuple[str, ...]:
    """The secret fields that a key gives to the scheme of a configuration."""
    name = values.get("scheme")
    scheme = SCHEMES.get(name) if isinstance(name, str) else None
    if scheme is None or key is None:
        return ()
    return tuple(Key(key).named(scheme.key_fields(values)[0]))


def from_vllm_config(config: Any, vocab_size: int) -> Scheme:
    """The scheme of vLLM's `--watermark-config`, by its `algorithm`.

    Parameters
    ----------
    config : mapping, JSON text or path
        With `algorithm` `gumbel` (the default), `dual_key_gumbel` or `sbw`.
    vocab_size : int
        The model's vocabulary.

    Raises
    ------
    SchemeError
        If the algorithm or a field is unknown, or a value is out of range.

    Examples
    --------
    >>> from_vllm_config('{"algorithm": "dual_key_gumbel", "key": 42}', 32000).name
    'vllm_dual_key_gumbel'
    """
    values = json_fields(config, VLLM)
    return _read("vllm", values.get("algorithm", "gumbel"), values, vocab_size)


def from_sglang_config(config: Any, vocab_size: int) -> Scheme:
    """The scheme of SGLang's `--watermark-config`: Gumbel, or SynthID where it has `keys`.

    Parameters
    ----------
    config : mapping, JSON text or path
        SGLang's configuration.
    vocab_size : int
        The model's vocabulary.

    Raises
    ------
    SchemeError
        If a field is unknown, missing or out of range.

    Examples
    --------
    >>> from_sglang_config({"keys": [654, 400, 836, 123], "ngram_len": 5}, 32000).name
    'synthid_deepmind'
    """
    values = json_fields(config, SGLANG)
    algorithm = "synthid" if "keys" in values else "gumbel"
    return _read("sglang", algorithm, values, vocab_size)


def from_synthid_text_config(config: Mapping[str, Any], vocab_size: int) -> Scheme:
    """The scheme of a configuration of DeepMind's synthid-text: with a sampling table, or without.

    Parameters
    ----------
    config : mapping
        `ngram_len`, `keys`, and in PyPI's package `sampling_table_size` and `sampling_table_seed`.
    vocab_size : int
        The model's vocabulary.

    Raises
    ------
    SchemeError
        If a field is unknown, missing or out of range.

    Examples
    --------
    >>> config = {"ngram_len": 5, "keys": [654, 400]}
    >>> from_synthid_text_config(config, 32000).name
    'synthid_deepmind'
    >>> table = {"sampling_table_size": 65536, "sampling_table_seed": 0}
    >>> from_synthid_text_config({**config, **table}, 32000).name
    'synthid'
    """
    table = any(config.get(name) is not None for name in SYNTHID_TABLE)
    algorithm = "table" if table else "no table"
    return _read("synthid_text", algorithm, config, vocab_size)


def _read(tool: str, algorithm: object, config: Any, vocab_size: int) -> Scheme:
    """The scheme that a tool calls so, by its own reader; radscore's schemes are asked first."""
    known = []
    for scheme in SCHEMES.values():
        name = scheme.algorithms.get(tool)
        if name is not None and name == algorithm:
            reader = getattr(scheme, f"from_{tool}")
            found: Scheme = reader(config, vocab_size)
            return found
        known += [] if name is None else [name]
    raise unread(tool, algorithm, known)
