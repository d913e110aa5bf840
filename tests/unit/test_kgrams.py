"""K-gram sets and counts against Python's Counter."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError, StateError, TokenError
from radscore.kgrams import KgramCounts, KgramOrigin, KgramSet

ragged = st.lists(st.lists(st.integers(0, 5), max_size=30), min_size=1, max_size=6)


def counted(documents, width):
    return Counter(
        tuple(one[i : i + width]) for one in documents for i in range(len(one) - width + 1)
    )


@given(ragged, st.integers(1, 16), st.sampled_from([6, 50_000, 2**20]), st.integers(1, 3))
def test_counts_are_a_counter(documents, width, vocab_size, threads):
    expected = counted(documents, width)
    counts = KgramCounts(width, vocab_size)
    for document in documents:
        counts.add([document], threads=threads)
    assert (len(counts), counts.total) == (len(expected), expected.total())
    kgrams, numbers = counts.to_numpy()
    assert dict(zip(map(tuple, kgrams.tolist()), numbers.tolist(), strict=True)) == expected
    assert kgrams.tolist() == sorted(kgrams.tolist())
    ranked = sorted(expected, key=lambda kgram: (-expected[kgram], kgram))
    for n in (0, 1, 3, None):
        assert list(counts.top(n)) == sorted(ranked[:n])
    assert set(counts.top(min_count=2)) == {k for k, n in expected.items() if n >= 2}


@given(ragged, ragged, st.integers(1, 4))
def test_sets_are_frozensets(left, right, width):
    a, b = (KgramSet.from_documents(side, width, vocab_size=9) for side in (left, right))
    x, y = (frozenset(counted(side, width)) for side in (left, right))
    assert (set(a), set(b), set(a | b), set(a & b)) == (x, y, x | y, x & y)
    assert all(kgram in a for kgram in x)
    assert ((1,) * (width + 1)) not in a
    assert (a == b) == (x == y)
    assert ("a" in a, [-1] * width in a) == (False, False)


@pytest.mark.parametrize(("width", "vocab_size"), [(2, 50), (5, 2**20), (9, 2**20)])
def test_files_come_back(tmp_path, width, vocab_size):
    rng = np.random.default_rng(0)
    documents = rng.integers(0, vocab_size, (20, 40))
    counts = KgramCounts(width, vocab_size)
    counts.add(documents)
    counts.save(tmp_path / "counts.rkc")
    back = KgramCounts.load(tmp_path / "counts.rkc")
    assert np.array_equal(back.to_numpy()[1], counts.to_numpy()[1])
    top = counts.top(100)
    top.save(tmp_path / "filter.rkg")
    loaded = KgramSet.load(tmp_path / "filter.rkg", vocab_size=vocab_size)
    assert loaded == top
    assert loaded.fingerprint == top.fingerprint
    assert np.array_equal(loaded.to_numpy(), top.to_numpy())


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "filter.rkg"
    KgramSet.from_kgrams([[1, 2], [3, 4]], vocab_size=9).save(path)
    whole = path.read_bytes()
    for index in range(len(whole)):
        altered = bytearray(whole)
        altered[index] ^= 1
        path.write_bytes(altered)
        with pytest.raises(StateError):
            KgramSet.load(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StateError):
            KgramSet.load(path)
    KgramCounts(2, 9).save(path)
    with pytest.raises(StateError, match="is not a radscore k-gram set"):
        KgramSet.load(path)
    with pytest.raises(StateError, match="does not exist"):
        KgramSet.load(tmp_path / "none.rkg")
    path.write_bytes(whole)
    with pytest.raises(StateError, match="over 9 ids, not 10"):
        KgramSet.load(path, vocab_size=10)


def test_json_is_imported(tmp_path):
    want = {(1, 2): 3, (4, 5): 1}
    files = {
        "list.json": json.dumps([[1, 2], [4, 5], [1, 2], [1, 2]]),
        "object.json": json.dumps({"1,2": 3, "[4, 5]": 1}),
        "tuples.json": json.dumps({"(1, 2)": 3, "4,5": 1}),
        "lines.jsonl": '[1, 2]\n[1, 2]\n\n[4, 5]\n{"kgram": [1, 2]}\n',
        "counts.jsonl": '{"kgram": [1, 2], "count": 3}\n{"kgram": [4, 5], "count": 1}\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        counts = KgramCounts.load(tmp_path / name, vocab_size=9)
        assert {kgram: counts[kgram] for kgram in counts.top()} == want
        assert set(KgramSet.load(tmp_path / name, vocab_size=9)) == set(want)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "[[1, 2], [3]]", r"a.json: entry 1: a k-gram of 1 ids among 2-grams"),
        ("a.json", "[[1, 9]]", r"entry 0: \[1, 9\] are not ids of a vocabulary of 9"),
        ("a.json", "[[1, true]]", "not ids"),
        ("a.json", '{"1,2": -1}', "count -1"),
        ("a.json", "7", "must hold a list"),
        ("a.json", "[1]", "entry 0: not a list"),
        ("a.json", "[]", "holds no k-grams"),
        ("a.json", "[[1, " + "9" * 5000 + "]]", "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.jsonl", "[1, 2]\n[1,", "a.jsonl:2: not JSON"),
        ("a.jsonl", '{"k": 1}', "a.jsonl:1: not a list"),
    ],
)
def test_bad_json_is_located(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(TokenError, match=says):
        KgramCounts.load(tmp_path / name, vocab_size=9)


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="width must be from 1 to 16, not 17"):
        KgramCounts(17, 10)
    with pytest.raises(ArgumentError, match="vocab_size must be from 2 to 1048576"):
        KgramCounts(2, 2**20 + 1)
    with pytest.raises(TokenError, match="token id 10 at position 1 of document 0"):
        KgramCounts(2, 10).add([[1, 10]])
    with pytest.raises(ArgumentError, match="the sets differ"):
        KgramSet.from_kgrams([[1]], vocab_size=9) | KgramSet.from_kgrams([[1, 2]], vocab_size=9)
    with pytest.raises(TokenError, match="same number"):
        KgramSet.from_kgrams([[1], [1, 2]], vocab_size=9)
    with pytest.raises(ArgumentError, match="vocab_size must be given"):
        KgramSet.load("x.json")
    for threads in (-1, 0, 4097):
        with pytest.raises(ArgumentError, match=f"threads must be from 1 to 4096, not {threads}"):
            KgramCounts(2, 10).add([[1, 2]], threads=threads)
    with pytest.raises(ArgumentError, match="vocab_size must be from 2 to 1048576, not -1"):
        KgramSet.from_kgrams([[1]], vocab_size=-1)
    assert KgramCounts(2, 10)[-1, 2**40] == 0


def test_counts_do_not_wrap(tmp_path):
    most = 2**63 - 1
    lines = tmp_path / "counts.jsonl"
    line = json.dumps({"kgram": [1, 2], "count": most}) + "\n"
    lines.write_text(2 * line + json.dumps({"kgram": [3, 4], "count": most}))
    counts = KgramCounts.load(lines, vocab_size=9)
    assert (counts[1, 2], counts.total) == (2 * most, 3 * most)
    counts.add([[1, 2]])
    with pytest.raises(TokenError, match=r"k-gram \[1, 2\] occurs 18446744073709551616 times"):
        counts.add([[1, 2]])
    assert counts[1, 2] == 2**64 - 1
    lines.write_text(3 * line)
    with pytest.raises(TokenError, match=r"\[1, 2\] occurs"):
        KgramCounts.load(lines, vocab_size=9)


def written(path, magic, width, vocab_size, records):
    """A radscore file with these records, counts in the first of 64 parts, and their checksum."""
    origin = KgramOrigin().to_json().encode()
    head = struct.pack("<IQQQ", 3, width, vocab_size, len(origin)) + origin
    body = magic + head + struct.pack("<Q", len(records)) + b"".join(records)
    body += bytes(63 * 8) if magic == b"RSKC" else b""
    path.write_bytes(body + hashlib.sha256(body).digest())
    return path


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([0x12, 0x90], "k-gram 1 has an id outside the vocabulary of 9"),
        ([0x0A], "k-gram 0 has an id outside"),
        ([0x112], "k-gram 0 has an id outside"),
        ([1 << 63], "k-gram 0 has an id outside"),
        ([0x12, 0x12], "k-gram 1 is out of order or occurs twice"),
        ([0x21, 0x12], "k-gram 1 is out of order"),
    ],
)
def test_files_of_wrong_content_are_refused(tmp_path, keys, says):
    # Four bits per id; ids are below 9.
    path = tmp_path / "filter"
    right = [struct.pack("<Q", 0x12), struct.pack("<Q", 0x88)]
    assert list(KgramSet.load(written(path, b"RSKG", 2, 9, right))) == [(1, 2), (8, 8)]
    counted = [record + struct.pack("<Q", 3) for record in right]
    with pytest.raises(StateError, match="filter is damaged: a count is out of place"):
        KgramCounts.load(written(path, b"RSKC", 2, 9, counted))
    wrong = [struct.pack("<Q", key) for key in keys]
    with pytest.raises(StateError, match=f"filter is damaged: {says}"):
        KgramSet.load(written(path, b"RSKG", 2, 9, wrong))
    with pytest.raises(StateError, match=f"filter is damaged: {says}"):
        KgramCounts.load(written(path, b"RSKC", 2, 9, [key + b"\1" + bytes(7) for key in wrong]))


@pytest.mark.parametrize(("width", "size", "bits"), [(5, 16, 20), (9, 48, 20)])
def test_wide_keys_are_checked_too(tmp_path, width, size, bits):
    path = tmp_path / "filter"
    for vocab_size, key in [(2**20, 1 << width * bits), (2**20 - 1, 2**20 - 1)]:
        for magic, kind, count in [(b"RSKG", KgramSet, b""), (b"RSKC", KgramCounts, bytes(8))]:
            good = written(path, b"RSKG", width, vocab_size, [(7).to_bytes(size, "little")])
            assert len(KgramSet.load(good)) == 1
            record = key.to_bytes(size, "little") + count
            with pytest.raises(StateError, match="k-gram 0 has an id outside"):
                kind.load(written(path, magic, width, vocab_size, [record]))


def test_shapes_of_files_are_checked(tmp_path):
    for width, vocab_size in [(17, 9), (0, 9), (2, 2**20 + 1), (2, 2**40), (2**63, 9)]:
        with pytest.raises(StateError, match="filter is damaged"):
            KgramSet.load(written(tmp_path / "filter", b"RSKG", width, vocab_size, []))


def test_threads_may_save_to_one_path(tmp_path):
    path = tmp_path / "filter"
    sets = [KgramSet.from_kgrams([[n] * 2], vocab_size=9) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda kgrams: kgrams.save(path), sets * 20)) == [None] * 80
    assert KgramSet.load(path) in sets
    assert [file.name for file in tmp_path.iterdir()] == ["filter"]


def test_arrays_in_any_order_are_read_row_by_row():
    rows = np.array([[1, 2], [3, 4], [5, 6]])
    for array in (rows, np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2]):
        assert list(KgramSet.from_kgrams(array, vocab_size=9)) == [(1, 2), (3, 4), (5, 6)]


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=6),
    st.integers(1, 3),
    st.sampled_from([np.uint16, np.int64]),
)
def test_counted_by_documents(documents, width, dtype):
    naive = Counter(
        kgram
        for doc in documents
        for kgram in {tuple(doc[i : i + width]) for i in range(len(doc) - width + 1)}
    )
    counts = KgramCounts(width, 5)
    counts.add([np.array(doc, dtype=dtype) for doc in documents], per_document=True)
    rows, numbers = counts.to_numpy()
    assert {tuple(r): n for r, n in zip(rows.tolist(), numbers.tolist(), strict=True)} == naive
