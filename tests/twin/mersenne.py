"""The Mersenne Twister as torch's CPU generator uses it."""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TABLE_SIZE", "MersenneTwister", "hash_table", "permutation"]

_N, _M = 624, 397
_MASK32 = 0xFFFF_FFFF

#: Entries of the permutation table that lm-watermarking, HF transformers and others hash with.
TABLE_SIZE = 1_000_003


class MersenneTwister:
    """MT19937, drawn from as torch draws.

    Examples
    --------
    >>> MersenneTwister(0).randperm(5)
    [4, 0, 1, 3, 2]
    """

    def __init__(self, seed: int) -> None:
        self._words = _words(seed % 2**32)

    def next_u32(self) -> int:
        """The next 32-bit word."""
        return next(self._words)

    def randperm(self, n: int) -> list[int]:
        """A permutation of 0..n-1: at step i, entry i is swapped with one not before it."""
        entries = list(range(n))
        for i, word in zip(range(n - 1), self._words, strict=False):
            j = i + word % (n - i)
            entries[i], entries[j] = entries[j], entries[i]
        return entries

    def rand_float32(self) -> float:
        """A uniform of 24 bits, as `torch.rand` draws a float32."""
        return (self.next_u32() & (2**24 - 1)) * 2.0**-24

    def rand_float64(self) -> float:
        """A uniform of 53 bits, as `torch.rand` draws a float64: the first word is the high one."""
        high, low = self.next_u32(), self.next_u32()
        return ((high << 32 | low) & (2**53 - 1)) * 2.0**-53

    def randbit(self) -> int:
        """0 or 1, as `torch.randint(0, 2, ...)` draws it."""
        return self.next_u32() % 2


def _words(seed: int) -> Iterator[int]:
    """The stream of 32-bit words; each state word is twisted just before it is used."""
    mt = [seed]
    for j in range(1, _N):
        mt.append((1812433253 * (mt[-1] ^ (mt[-1] >> 30)) + j) & _MASK32)
    while True:
        for i in range(_N):
            y = (mt[i] & 0x8000_0000) | (mt[(i + 1) % _N] & 0x7FFF_FFFF)
            y = mt[(i + _M) % _N] ^ (y >> 1) ^ (0x9908_B0DF if y & 1 else 0)
            mt[i] = y
            y ^= y >> 11
            y ^= (y << 7) & 0x9D2C_5680
            y ^= (y << 15) & 0xEFC6_0000
            yield y ^ (y >> 18)


@lru_cache(maxsize=256)
def permutation(seed: int, n: int) -> tuple[int, ...]:
    """`torch.randperm(n)` after `manual_seed(seed)`."""
    return tuple(MersenneTwister(seed).randperm(n))


@lru_cache(maxsize=8)
def hash_table(seed: int) -> array[int]:
    """The permutation of `TABLE_SIZE` entries that seeds are hashed with."""
    return array("l", MersenneTwister(seed).randperm(TABLE_SIZE))
