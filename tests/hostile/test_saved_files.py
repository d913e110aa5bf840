"""Saved states and k-gram sets, damaged in every way: each is refused by name."""

import re

import numpy as np
import pytest
import radscore as rs
from radscore.errors import RadscoreError, StateError

pytestmark = pytest.mark.timeout(120)
KEY = bytes(range(16))


@pytest.fixture
def scheme():
    return rs.Keyed(key=KEY, vocab_size=100, gamma=0.25, context_width=2)


@pytest.fixture
def state(tmp_path, scheme):
    scorer = rs.Scorer(scheme)
    scorer.add(np.random.default_rng(0).integers(0, 100, size=(3, 9)))
    path = tmp_path / "x.state"
    scorer.save(path, extra={"note": "mine"})
    return path


@pytest.fixture
def kgrams(tmp_path):
    path = tmp_path / "x.rkg"
    rs.KgramSet.from_kgrams([[1, 2], [3, 4], [5, 6]], vocab_size=100).save(path)
    return path


@pytest.fixture
def counts(tmp_path):
    path = tmp_path / "x.rkc"
    counts = rs.KgramCounts(2, 100)
    counts.add([[1, 2, 3, 1, 2]])
    counts.save(path)
    return path


@pytest.fixture(params=["state", "kgrams", "counts"])
def saved(request, scheme):
    """A saved file, and what loads it."""
    path = request.getfixturevalue(request.param)
    loaders = {
        "state": lambda file: rs.Scorer.load(file, scheme),
        "kgrams": rs.KgramSet.load,
        "counts": rs.KgramCounts.load,
    }
    return path, loaders[request.param]


def refused(path, load):
    with pytest.raises(StateError, match=re.escape(path.name)) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert KEY.hex() not in str(caught.value)


def test_what_was_saved_loads(saved):
    path, load = saved
    load(path)


def test_every_flipped_byte_is_noticed(saved):
    path, load = saved
    data = path.read_bytes()
    for i in range(len(data)):
        flipped = data[i] ^ (1 << i % 8)
        path.write_bytes(data[:i] + bytes([flipped]) + data[i + 1 :])
        refused(path, load)


def test_every_cut_is_noticed(saved):
    path, load = saved
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        refused(path, load)


def test_anything_behind_the_end_is_noticed(saved):
    path, load = saved
    data = path.read_bytes()
    for more in (b"\0", b"\n", data, bytes(100_000)):
        path.write_bytes(data + more)
        refused(path, load)


def test_files_of_other_kinds_are_refused(state, kgrams, counts, scheme, tmp_path):
    for path in (kgrams, counts):
        refused(path, lambda file: rs.Scorer.load(file, scheme))
    for path in (state, counts):
        refused(path, rs.KgramSet.load)
    for path in (state, kgrams):
        refused(path, rs.KgramCounts.load)
    for name, content in (("a", b"RSST"), ("b", b"\xff" * 64), ("c", b"RSST" + bytes(1000))):
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, lambda file: rs.Scorer.load(file, scheme))
    refused(tmp_path, lambda file: rs.Scorer.load(file, scheme))
    refused(tmp_path / "none", rs.KgramSet.load)


def test_a_state_of_another_key_scheme_or_filter(state, kgrams, scheme):
    others = [
        rs.Keyed(key=bytes(16), vocab_size=100, gamma=0.25, context_width=2),
        rs.Keyed(key=KEY, vocab_size=101, gamma=0.25, context_width=2),
        rs.Keyed(key=KEY, vocab_size=100, gamma=0.5, context_width=2),
        rs.Keyed(key=KEY, vocab_size=100, gamma=0.25, context_width=3),
        rs.SBW(key=3, vocab_size=100),
    ]
    for other in others:
        refused(state, lambda file, other=other: rs.Scorer.load(file, other))
    refused(state, lambda file: rs.Scorer.load(file, [scheme, others[0]]))
    phi = rs.KgramSet.load(kgrams)
    refused(state, lambda file: rs.Scorer.load(file, scheme, filter=phi))
    loaded = rs.Scorer.load(state, scheme)
    assert loaded.extra == {"note": "mine"}


def test_imported_kgrams_that_lie(tmp_path):
    for name, content in {
        "broken.json": "[[1, 2",
        "text.json": '["a"]',
        "ragged.json": "[[1, 2], [3]]",
        "range.json": "[[1, 100]]",
        "minus.json": "[[1, -1]]",
        "float.json": "[[1, 2.0]]",
        "bool.json": "[[1, true]]",
        "nan.json": "[[1, NaN]]",
        "deep.json": "[" * 100_000,
        "count.json": '{"1,2": -1}',
        "count2.json": '{"1,2": 1.5}',
        "key.json": '{"1;2": 1}',
        "empty.json": "[]",
        "none.json": "[[]]",
        "number.json": "5",
        "broken.jsonl": "[1, 2]\nbroken\n",
        "field.jsonl": '{"gram": [1, 2]}\n',
    }.items():
        path = tmp_path / name
        path.write_text(content)
        with pytest.raises(RadscoreError, match=re.escape(name)) as caught:
            rs.KgramSet.load(path, vocab_size=100)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
