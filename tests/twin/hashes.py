"""The hash functions of the schemes, and the two's complement that they live in."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["accumulate", "int32", "int64", "jenkins", "murmur3", "siphash24"]

_MASK32 = 0xFFFF_FFFF
_MASK64 = 0xFFFF_FFFF_FFFF_FFFF


def int32(x: int) -> int:
    """`x` wrapped to a signed 32-bit integer."""
    return (x + 2**31) % 2**32 - 2**31


def int64(x: int) -> int:
    """`x` wrapped to a signed 64-bit integer."""
    return (x + 2**63) % 2**64 - 2**63


def murmur3(words: Sequence[int]) -> int:
    """MurmurHash3 x86-32 with seed 0, over 32-bit words instead of bytes.

    Examples
    --------
    >>> hex(murmur3([0x64636261]))  # the bytes "abcd"
    '0x43ed676a'
    """

    def rotl(x: int, r: int) -> int:
        return (x << r | x >> (32 - r)) & _MASK32

    h = 0
    for word in words:
        k = rotl((word & _MASK32) * 0xCC9E_2D51 & _MASK32, 15) * 0x1B87_3593 & _MASK32
        h = (rotl(h ^ k, 13) * 5 + 0xE654_6B64) & _MASK32
    h ^= 4 * len(words)  # the length in bytes
    h = (h ^ h >> 16) * 0x85EB_CA6B & _MASK32
    h = (h ^ h >> 13) * 0xC2B2_AE35 & _MASK32
    return h ^ h >> 16


def siphash24(key: bytes, message: bytes) -> int:
    """SipHash-2-4 of `message` under a key of 16 bytes (Aumasson and Bernstein, 2012).

    Examples
    --------
    The example of the paper's appendix A:

    >>> hex(siphash24(bytes(range(16)), bytes(range(15))))
    '0xa129ca6149be45e5'
    """
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v0, v1 = k0 ^ 0x736F_6D65_7073_6575, k1 ^ 0x646F_7261_6E64_6F6D
    v2, v3 = k0 ^ 0x6C79_6765_6E65_7261, k1 ^ 0x7465_6462_7974_6573

    def rotl(x: int, r: int) -> int:
        return (x << r | x >> (64 - r)) & _MASK64

    def rounds(n: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(n):
            v0 = (v0 + v1) & _MASK64
            v2 = (v2 + v3) & _MASK64
            v1 = rotl(v1, 13) ^ v0
            v3 = rotl(v3, 16) ^ v2
            v0 = rotl(v0, 32)
            v2 = (v2 + v1) & _MASK64
            v0 = (v0 + v3) & _MASK64
            v1 = rotl(v1, 17) ^ v2
            v3 = rotl(v3, 21) ^ v0
            v2 = rotl(v2, 32)

    # the last block carries the length in its top byte
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for i in range(0, len(padded), 8):
        block = int.from_bytes(padded[i : i + 8], "little")
        v3 ^= block
        rounds(2)
        v0 ^= block
    v2 ^= 0xFF
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


def jenkins(x: int) -> int:
    """Bob Jenkins' integer hash of `x + 1` in signed 32-bit arithmetic, as SBW has it."""
    i = int32(x + 1)
    i = int32(i - int32(i << 6))
    i ^= i >> 17
    i = int32(i - int32(i << 9))
    i ^= int32(i << 4)
    i = int32(i - int32(i << 3))
    i ^= int32(i << 10)
    return i ^ i >> 15


def accumulate(state: int, data: Sequence[int]) -> int:
    """SynthID's hash: one step of a linear congruential generator for each datum."""
    return reduce(lambda h, d: int64((h + d) * 6364136223846793005 + 1), data, state)
