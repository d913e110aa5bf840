"""Seeds of green lists: what a scheme makes of the tokens that it reads.

Products are signed 64-bit with wrap-around, as in torch, but for the last step of
`multiplicative`, `additive` and `minfunc`: lm-watermarking takes the value out of the tensor before
it multiplies with the key, so that product is an unbounded integer (sbw keeps it in the tensor,
where it wraps). `c` is the context, oldest first; it ends with the target where a scheme salts
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING

from tests.twin.hashes import int64
from tests.twin.mersenne import TABLE_SIZE

if TYPE_CHECKING:
    from array import array

__all__ = [
    "KEYLESS",
    "PRF",
    "PRFS",
    "Hash",
    "authors_hash",
    "authors_table",
    "least_tail",
    "seed_of",
    "table_hash",
]

Hash = Callable[[int], int]
PRF = Callable[[Sequence[int], int, Hash], int]


def table_hash(table: array[int]) -> Hash:
    """`H(x) = T[x mod 1000003] + 1`; the modulus has the sign of the divisor."""
    return lambda x: table[x % TABLE_SIZE] + 1


def seed_of(prf: int) -> int:
    """What `manual_seed` makes of a PRF's value: the low 32 bits, after a modulus of 2^64 - 1."""
    return prf % (2**64 - 1) % 2**32


def authors_hash(context: Sequence[int], seed: int, salt_key: int) -> int:
    """The seeding `hash` of the radioactivity authors, with integers that do not wrap."""
    h = seed
    for x in context:
        h = (h * salt_key + x) % (2**64 - 1)
    return h


def authors_table(seeding: str, context: Sequence[int], salt_key: int, table: array[int]) -> int:
    """The authors' `additive`, `skip` and `min`: an entry of the table (nothing is added to it)."""
    if seeding == "additive":
        return table[int64(salt_key * sum(context)) % TABLE_SIZE]
    if seeding == "skip":
        return table[int64(salt_key * context[0]) % TABLE_SIZE]
    if seeding == "min":
        return min(table[int64(salt_key * x) % TABLE_SIZE] for x in context)
    raise ValueError(f"seeding must be hash, additive, skip or min, not {seeding!r}")


def multiplicative(c: Sequence[int], key: int, _: Hash) -> int:
    """Key times the product, which wraps before the key is multiplied in."""
    return key * int64(prod(c))


def additive(c: Sequence[int], key: int, _: Hash) -> int:
    """Key times the sum."""
    return key * sum(c)


def minfunc(c: Sequence[int], key: int, _: Hash) -> int:
    """Key times the smallest id."""
    return key * min(c)


def simple_skip(c: Sequence[int], key: int, h: Hash) -> int:
    """Product of the hashes of every second token."""
    return int64(prod(h(int64(key * x)) for x in c[::2]))


def skipgram(c: Sequence[int], key: int, h: Hash) -> int:
    """Hash of the oldest token."""
    return h(int64(key * c[0]))


def anchored_skipgram(c: Sequence[int], key: int, h: Hash) -> int:
    """Hashes of the oldest and the last token, multiplied."""
    return int64(h(int64(key * c[0])) * h(int64(key * c[-1])))


def minhash(c: Sequence[int], key: int, h: Hash) -> int:
    """The smallest hash."""
    return min(h(int64(key * x)) for x in c)


def anchored_minhash(c: Sequence[int], key: int, h: Hash) -> int:
    """The smallest product of the key, a token's hash and the last token's hash."""
    return min(int64(key * h(x) * h(c[-1])) for x in c)


def minskipgram(c: Sequence[int], key: int, h: Hash) -> int:
    """The smallest product of two tokens' hashes."""
    hashes = [h(int64(key * x)) for x in c]
    return min(int64(a * b) for a, b in combinations(hashes, 2))


def noncomm(c: Sequence[int], key: int, h: Hash) -> int:
    """A chain in which the order matters."""
    k = key
    for x in c:
        k = int64(k * h(int64(k * x))) % 2**32
    return k


def position(c: Sequence[int], key: int, _: Hash) -> int:
    """Key times the sum of the ids, each times its place from 1 on."""
    return int64(sum(key * x * (j + 1) for j, x in enumerate(c)))


#: lm-watermarking's eleven functions, by the name that its scheme strings use.
PRFS: dict[str, PRF] = {
    function.__name__: function
    for function in (
        multiplicative,
        additive,
        minfunc,
        simple_skip,
        skipgram,
        anchored_skipgram,
        minhash,
        anchored_minhash,
        minskipgram,
        noncomm,
        position,
    )
}


def _hashes_as_zero(x: int, h: Hash) -> bool:
    """Whether the key times an id hashes as 0: id 0, or where a table is read, its size."""
    return x == 0 or all(h(k * x) == h(0) for k in (1, 2, 3, 5, 7))


def least_tail(name: str, width: int) -> int:
    """How many of the last of `width` tokens can fix the value of a function."""
    return {"minfunc": 1, "minhash": 1, "anchored_minhash": 1, "minskipgram": 2}.get(name, width)


#: Where a function's value is, or for some keys may be, the same whatever the key is: the key
#: multiplies 0, or the smallest of several hashes may be that of 0.
KEYLESS: dict[str, Callable[[Sequence[int], Hash], bool]] = {
    "multiplicative": lambda c, _: int64(prod(c)) == 0,
    "additive": lambda c, _: sum(c) == 0,
    "minfunc": lambda c, _: min(c) == 0,
    "simple_skip": lambda c, h: all(_hashes_as_zero(x, h) for x in c[::2]),
    "skipgram": lambda c, h: _hashes_as_zero(c[0], h),
    "anchored_skipgram": lambda c, h: _hashes_as_zero(c[0], h) and _hashes_as_zero(c[-1], h),
    "minhash": lambda c, h: any(_hashes_as_zero(x, h) for x in c),
    "anchored_minhash": lambda c, h: any(int64(h(x) * h(c[-1])) == 0 for x in c),
    "minskipgram": lambda c, h: sum(_hashes_as_zero(x, h) for x in c) >= 2,
    "noncomm": lambda _, __: False,
    "position": lambda c, _: sum(x * (j + 1) for j, x in enumerate(c)) == 0,
}
