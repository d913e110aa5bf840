"""Philox4x32-10, the counter-based generator of Random123."""

from __future__ import annotations

__all__ = ["Block", "philox4x32"]

Block = tuple[int, int, int, int]

_MASK32 = 0xFFFF_FFFF


def philox4x32(counter: Block, key: tuple[int, int]) -> Block:
    """Four 32-bit words from a counter of four words and a key of two, in ten rounds.

    Examples
    --------
    The first known-answer vector of Random123:

    >>> [hex(word) for word in philox4x32((0, 0, 0, 0), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for bump in range(10):
        if bump:
            k0 = (k0 + 0x9E37_79B9) & _MASK32
            k1 = (k1 + 0xBB67_AE85) & _MASK32
        a = 0xD251_1F53 * c0
        b = 0xCD9E_8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & _MASK32, (a >> 32) ^ c3 ^ k1, a & _MASK32
    return c0, c1, c2, c3
