"""One form of every document, so that whoever holds it computes the same hash.

The form is JSON with sorted keys, no white space and ASCII only; floats are written as the shortest
decimal that reads back as the same float.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["canonical", "hash_of"]


def canonical(value: Any, *, allow_nan: bool = False) -> bytes:
    """The form of a JSON-able value; numbers that JSON does not know are refused unless allowed.

    Examples
    --------
    >>> canonical({"b": 1, "a": [0.1, None]})
    b'{"a":[0.1,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=allow_nan).encode()


def hash_of(value: Any, *, allow_nan: bool = False) -> str:
    """The SHA-256 of a value's form, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value, allow_nan=allow_nan)).hexdigest()
