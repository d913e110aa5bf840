"""Hash functions against the known answers that their authors published."""

import pytest

from tests.twin.hashes import accumulate, int32, int64, murmur3, siphash24
from tests.twin.philox import philox4x32


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # kat_vectors of Random123 1.14
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox(counter, key, expected):
    assert philox4x32(counter, key) == expected


@pytest.mark.parametrize(
    ("n", "expected"),
    [  # vectors_sip64 of the authors' C implementation, and the paper's appendix A
        (0, 0x726FDB47DD0E0E31),
        (1, 0x74F839C593DC67FD),
        (7, 0xAB0200F58B01D137),
        (8, 0x93F5F5799A932462),
        (15, 0xA129CA6149BE45E5),
    ],
)
def test_siphash(n, expected):
    assert siphash24(bytes(range(16)), bytes(range(n))) == expected


def test_murmur3():
    """SMHasher's MurmurHash3_x86_32 over the same bytes."""
    assert murmur3([]) == 0
    assert murmur3([int.from_bytes(b"test", "little")]) == 0xBA6BD213
    assert murmur3([int.from_bytes(b"abcd", "little")]) == 0x43ED676A


def test_wrap_around():
    assert (int32(2**31), int32(-(2**31) - 1)) == (-(2**31), 2**31 - 1)
    assert (int64(2**63), int64(-(2**63) - 1)) == (-(2**63), 2**63 - 1)


def test_accumulate_continues():
    assert accumulate(accumulate(1, [5, 6]), [7]) == accumulate(1, [5, 6, 7])
    assert accumulate(1, [2**40]) < 2**63
