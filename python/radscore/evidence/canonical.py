"""One form of every document, so that whoever holds it computes the same hash.

The form is JSON with sorted keys, no white space and ASCII only; floats are written as the shortest
decimal that reads back as the same float.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["canonical", "drawn", "hash_of", "seed_of"]


def canonical(value: Any) -> bytes:
    """The form of a JSON-able value.

    Examples
    --------
    >>> canonical({"b": 1, "a": [0.1, None]})
    b'{"a":[0.1,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def hash_of(value: Any) -> str:
    """The SHA-256 of a value's form, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def seed_of(purpose: str, *sources: str) -> str:
    """A seed for one purpose from hashes and public randomness, 64 hexadecimal digits."""
    return hash_of(["radscore audit seed", purpose, *sources])


def drawn(number: int, of: int, seed: str) -> list[int]:
    """Which `number` of the indices below `of` a seed draws, in the order in which it draws them.

    Index i has the place of ``SHA-256(seed + ":" + i)`` among the others.

    Examples
    --------
    >>> drawn(3, 10, "00" * 32), len(set(drawn(10, 10, "01" * 32)))
    ([1, 8, 5], 10)
    """
    digests = [(hashlib.sha256(f"{seed}:{i}".encode()).digest(), i) for i in range(of)]
    return [i for _, i in sorted(digests)[:number]]
