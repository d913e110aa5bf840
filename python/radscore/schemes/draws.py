"""Numbers that decoy keys are drawn from."""

from __future__ import annotations

import hashlib

__all__ = ["Draws"]


class Draws:
    """Numbers that depend on nothing but a label: SHA-256 in counter mode."""

    def __init__(self, label: str) -> None:
        self._label = f"radscore decoys/{label}"
        self._count = 0

    def data(self, n_bytes: int) -> bytes:
        """At most 32 bytes."""
        self._count += 1
        text = f"{self._label}/{self._count}"
        return hashlib.sha256(text.encode()).digest()[:n_bytes]

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included; uniform to one part in 2^128."""
        return low + int.from_bytes(self.data(32), "big") % (high - low + 1)
