"""The secret of a scheme: read from a file or the environment, never shown."""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from radscore.canonical import hash_of
from radscore.errors import SchemeError
from radscore.schemes.secrecy import leave_out, restored

__all__ = ["Key", "Secret", "fingerprint_of"]

#: What a secret field of a scheme may be given as.
Secret: TypeAlias = "int | str | bytes | Sequence[int] | Key"  # noqa: S105
_Value: TypeAlias = int | str | bytes | tuple[int, ...]

_DECIMAL = re.compile(r"[+-]?[0-9]+")
_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]+)")
_LARGEST_FILE = 1 << 16
_MOST_DIGITS = 1000
#: The field that a key without a name stands for: the scheme knows which.
UNNAMED = ""


def fingerprint_of(name: str, content: object) -> str:
    """64 hexadecimal digits, the SHA-256 of a name and a JSON-able content."""
    return hash_of([name, content])


class Key:
    """A secret key, or the several secret fields of a scheme; shows nothing but a fingerprint.

    How text is read depends on the scheme that gets it: `Keyed` wants 32 hexadecimal digits,
    SGLang up to 16, the others a decimal number, or a hexadecimal one after `0x`.

    A fingerprint is a SHA-256: it tells keys apart, but whoever sees it can try out
    guesses. A key of little entropy (42, a year, a word) can be found from it; make keys with
    `Key.generate`.

    Parameters
    ----------
    value : bytes, int, str, sequence of int, or mapping
        The key; a mapping gives secret fields by name, as `{"seed": 3, "salt_key": 35317}`.

    Raises
    ------
    SchemeError
        If the value is of another kind or empty. No message shows any part of it.

    Examples
    --------
    >>> Key.from_hex("000102030405060708090a0b0c0d0e0f")
    Key(fingerprint='fe53f0633279fe3375c541aaebb61b168993d2cf2a85226c47d7c7b4c6e6418c')
    """

    __slots__ = ("_fields", "source")

    _fields: dict[str, _Value]
    #: Where the key was read, for messages; "" where it was given as a value.
    source: str

    def __init__(self, value: Secret | Mapping[str, Secret]) -> None:
        self.source = value.source if isinstance(value, Key) else ""
        if isinstance(value, Key):
            fields = dict(value._fields)
        elif isinstance(value, Mapping):
            # A name may be the key itself, on the wrong side of the =.
            named = enumerate(value.items(), start=1)
            fields = {str(name): _value(f"field {i} of the key", one) for i, (name, one) in named}
        else:
            fields = {UNNAMED: _value("key", value)}
        if not fields:
            raise SchemeError("the key is empty")
        self._fields = fields

    @classmethod
    def from_hex(cls, digits: str) -> Key:
        r"""A key of bytes from hexadecimal digits, two a byte; white space around them is cut.

        Examples
        --------
        >>> Key.from_hex("00ff") == Key(b"\x00\xff")
        True
        """
        found = _HEX.fullmatch(digits.strip()) if isinstance(digits, str) else None
        if found is None or len(found[1]) % 2:
            raise SchemeError("the key must be an even number of hexadecimal digits")
        return cls(bytes.fromhex(found[1]))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Key:
        """The key in a text file.

        The file holds one number, several numbers with commas or white space between them
        (SynthID's keys), or TOML lines that name the scheme's secret fields, as `seed = 3`.
        Numbers are decimal, or hexadecimal after `0x`; `Keyed` and SGLang read their digits as
        hexadecimal always. White space around is cut.

        Raises
        ------
        SchemeError
            If the file cannot be read, is empty, too large or not text, or is malformed; no
            message shows what it holds.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "alice.key")
        ...     _ = path.write_text("000102030405060708090a0b0c0d0e0f")
        ...     Key.from_file(path)  # doctest: +ELLIPSIS
        Key(fingerprint='c2dde921bdeedb77...')
        """
        location = f"key file {os.fspath(path)}"
        data = read_small(path, location, _LARGEST_FILE, "this is no key")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SchemeError(f"{location}: not a text file") from None
        return cls._from_text(text, location)

    @classmethod
    def from_env(cls, name: str = "RADSCORE_KEY") -> Key:
        """The key in an environment variable, written as in a file.

        Raises
        ------
        SchemeError
            If the variable is not set or malformed.
        """
        text = os.environ.get(name)
        if text is None:
            raise SchemeError(f"the environment has no variable {name}")
        return cls._from_text(text, f"environment variable {name}")

    @classmethod
    def generate(cls, n_bytes: int = 16) -> Key:
        """A new random key from the operating system's generator.

        Examples
        --------
        >>> Key.generate() == Key.generate()
        False
        """
        return cls(secrets.token_bytes(n_bytes))

    @classmethod
    def _from_text(cls, text: str, location: str) -> Key:
        key = cls._parsed(text, location)
        key.source = location
        return key

    @classmethod
    def _parsed(cls, text: str, location: str) -> Key:
        text = text.strip()
        if not text:
            raise SchemeError(f"{location}: empty")
        if "=" in text:
            try:
                return cls(_of_key(read_toml(text)))
            except SchemeError as error:
                raise SchemeError(f"{location}: {error}") from None
        parts = [part for part in re.split(r"[\s,;\[\]]+", text) if part]
        if not all(_DECIMAL.fullmatch(part) or _HEX.fullmatch(part) for part in parts) or not parts:
            raise SchemeError(f"{location}: not a hexadecimal or decimal number")
        if len(parts) == 1:
            return cls(parts[0])
        return cls([_number(f"{location}: each number", part) for part in parts])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key to a new file that only its owner can read.

        Raises
        ------
        SchemeError
            If the file exists already, or the key has several named fields.
        """
        value = self._fields.get(UNNAMED)
        if value is None or isinstance(value, tuple):
            raise SchemeError("only a single key can be saved")
        text = value.hex() if isinstance(value, bytes) else str(value)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            location = f"key file {os.fspath(path)}"
            raise SchemeError(f"{location}: {error.strerror or 'cannot be written'}") from None
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without showing them: 64 hexadecimal digits."""
        content = {name: _encoded(value) for name, value in self._fields.items()}
        return fingerprint_of("key", content)

    def named(self, primary: str) -> dict[str, _Value]:
        """The secret fields by name; an unnamed key is the field `primary`."""
        return {name or primary: value for name, value in self._fields.items()}

    def __repr__(self) -> str:
        return f"Key(fingerprint={self.fingerprint!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if leave_out():
            return restored, (_given, {}, self.fingerprint)
        return _kept, (self._fields, self.source)

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: Any) -> Key:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def _of_key(values: dict[str, Any]) -> dict[str, Any]:
    """What a key file says, unless it is a scheme's."""
    if "scheme" in values:
        raise SchemeError(
            "this describes a scheme and is no key; name it with --scheme, and a file that holds "
            "nothing but the key with --key-file"
        )
    return values


def _kept(fields: dict[str, _Value], source: str) -> Key:
    """A key from its pickle."""
    key = Key(fields)
    key.source = source
    return key


def _given(public: Mapping[str, Any], key: Any) -> Key:
    """A key that was pickled without its value, from what is given instead."""
    del public
    return Key(key)


def _value(name: str, value: object) -> _Value:
    if isinstance(value, Key):
        return _only(name, value)
    if isinstance(value, (bytes, bytearray)) and value:
        return bytes(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    if hasattr(value, "__index__") and not isinstance(value, bool):
        if (number := int(value.__index__())).bit_length() > 4 * _MOST_DIGITS:
            raise SchemeError(f"{name} has more than {_MOST_DIGITS:,} digits; no key is so long")
        return number
    if isinstance(value, Sequence) and value and not isinstance(value, (str, bytes, bytearray)):
        return tuple(secret_int(name, one, -(2**63), 2**63 - 1) for one in value)
    raise SchemeError(
        f"{name} must be a number, hexadecimal text, bytes or a list of numbers, "
        f"not {type(value).__name__}"
    )


def _only(name: str, key: Key) -> _Value:
    if len(key._fields) != 1:
        raise SchemeError(f"{name} must be one key, not one of {len(key._fields)} fields")
    return next(iter(key._fields.values()))


def _encoded(value: _Value) -> list[object]:
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    return [type(value).__name__, list(value) if isinstance(value, tuple) else value]


def _number(name: str, text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise SchemeError(f"{name} has {len(text):,} digits; no key is so long")
    if _DECIMAL.fullmatch(text):
        return int(text)
    found = _HEX.fullmatch(text)
    if found is None:
        raise SchemeError(f"{name} must be a decimal or hexadecimal number")
    if not text.lower().startswith("0x"):
        raise SchemeError(f"{name} holds a letter: a hexadecimal number must be written as 0x2a")
    return int(found[1], 16)


def read_small(path: str | os.PathLike[str], location: str, most: int, why: str) -> bytes:
    """All of a file of at most so many bytes; why a larger one is refused."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise SchemeError(f"{location}: {error.strerror or 'cannot be read'}") from None
    if len(data) > most:
        raise SchemeError(f"{location}: larger than {most} bytes; {why}")
    return data


def read_toml(text: str) -> dict[str, Any]:
    """What TOML says; an error tells where it is wrong, since the parser's words may quote a key.

    Raises
    ------
    SchemeError
        If it is malformed, or nested too deeply, or holds a number that is too long.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\((at [^()]*)\)$", str(error))
        raise SchemeError(f"not valid TOML{f' ({where[1]})' if where else ''}") from None
    except RecursionError:
        raise SchemeError("not valid TOML: nested too deeply") from None
    except ValueError:  # Python reads no number of more than 4,300 digits
        raise SchemeError("not valid TOML: a number is too long") from None


def secret_int(name: str, value: object, low: int, high: int, *, hexadecimal: bool = False) -> int:
    """A secret number within a range; text is decimal, or hexadecimal after 0x or where told."""
    value = _value(name, value)
    if isinstance(value, str):
        found = _HEX.fullmatch(value) if hexadecimal else None
        value = int(found[1], 16) if found else _number(name, value)
    elif isinstance(value, bytes):
        value = int.from_bytes(value, "big")
    if not isinstance(value, int):
        raise SchemeError(f"{name} must be one number, not a list")
    if not low <= value <= high:
        raise SchemeError(
            f"{name} must be from {_power(low)} to {_power(high)} "
            "(its value is a secret and not shown)"
        )
    return value


def secret_bytes(name: str, value: object, length: int) -> bytes:
    """A secret of exactly `length` bytes, given as such or in hexadecimal digits."""
    wanted = f"{length} bytes ({2 * length} hexadecimal digits)"
    value = _value(name, value)
    if isinstance(value, str):
        found = _HEX.fullmatch(value)
        if found is None:
            raise SchemeError(f"{name} must be {wanted}; it holds other characters")
        digits = found[1]
        if len(digits) != 2 * length:
            raise SchemeError(f"{name} must be {wanted}, not {len(digits)} digits")
        return bytes.fromhex(digits)
    if not isinstance(value, bytes):
        raise SchemeError(f"{name} must be {wanted}, not a number")
    if len(value) != length:
        raise SchemeError(f"{name} must be {wanted}, not {len(value)} bytes")
    return value


def secret_ints(name: str, value: object, most: int) -> tuple[int, ...]:
    """A list of 1 to `most` secret numbers of 64 bits."""
    value = _value(name, value)
    if isinstance(value, str):
        value = tuple(_number(name, part) for part in re.split(r"[\s,;]+", value) if part)
    if isinstance(value, int):
        value = (value,)
    if not isinstance(value, tuple):
        raise SchemeError(f"{name} must be a list of numbers")
    if not 1 <= len(value) <= most:
        raise SchemeError(f"{name} must be a list of 1 to {most} numbers, not of {len(value)}")
    low, high = -(2**63), 2**63 - 1
    return tuple(secret_int(f"{name}[{i}]", one, low, high) for i, one in enumerate(value))


def _power(bound: int) -> str:
    """Large bounds in words of powers of two."""
    for bits in (31, 32, 63, 64, 128):
        if bound == 2**bits - 1:
            return f"2^{bits} - 1"
        if bound == 2**bits - 2:
            return f"2^{bits} - 2"
        if bound == -(2**bits):
            return f"-2^{bits}"
    return str(bound)
