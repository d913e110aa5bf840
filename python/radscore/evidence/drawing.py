"""What is drawn in an audit: anybody who knows the hashes draws the same."""

from __future__ import annotations

import hashlib

from radscore.canonical import hash_of

__all__ = ["drawn", "seed_of"]


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
