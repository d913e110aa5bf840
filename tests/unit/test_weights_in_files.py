"""Windows with weights under a memory limit: the same results, to the last bit."""

from itertools import pairwise

import numpy as np
import pytest
import radscore as rs
from radscore import sizes

KEY = rs.Key.from_hex("000102030405060708090a0b0c0d0e0f")
SCHEMES = {
    "keyed": rs.Keyed(key=KEY, vocab_size=300, gamma=0.25, context_width=2),
    "gumbel": rs.Keyed(key=KEY, vocab_size=300, method="gumbel", context_width=2),
    "lists": rs.KGW(vocab_size=300, gamma=0.5, context_width=2, seeding="hash", seed=3),
    "residues": rs.SynthID(keys=[5, 6, 7], vocab_size=300, context_width=2),
}
N = 70_000  # more than what moments sum at once


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(sizes, "_LEAST", 0)


def pairs(seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 300, (N, 3))
    return ids[:, :2], ids[:, 2], rng.normal(size=N), np.sort(rng.integers(0, N // 4, N))


def added(scorer, start=0, end=N):
    contexts, targets, weights, places = pairs()
    for one, other in pairwise([*range(start, end, 20_000), end]):
        part = slice(one, other)
        own = places[part] - places[one]
        scorer.add_pairs(contexts[part], targets[part], weights[part], occurrences=own)
    return scorer


@pytest.mark.parametrize("combine", ["one", "sum"])
@pytest.mark.parametrize("name", SCHEMES)
def test_results_are_those_in_memory(name, combine, tmp_path):
    schemes = [SCHEMES[name], *SCHEMES[name].decoys(3, seed=1)]
    limits = {"memory": 400_000, "tmp": tmp_path}
    whole = added(rs.Scorer(schemes, combine=combine))
    filed = added(rs.Scorer(schemes, combine=combine, **limits))
    assert filed.core.is_in_files
    assert not whole.core.is_in_files
    assert filed.tallies() == whole.tallies()
    assert list(map(repr, filed.results())) == list(map(repr, whole.results()))
    assert repr(filed.decoy_test()) == repr(whole.decoy_test())
    first = added(rs.Scorer(schemes, combine=combine, **limits), 0, N // 2)
    second = added(rs.Scorer(schemes, combine=combine), N // 2)
    first.save(tmp_path / "state")
    resumed = rs.Scorer.load(tmp_path / "state", schemes, **limits)
    resumed.merge(second)
    expected = added(added(rs.Scorer(schemes, combine=combine), 0, N // 2), N // 2)
    assert resumed.tallies() == expected.tallies()
    del filed, first, resumed
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_weights_that_may_depend_on_the_key(tmp_path):
    options = {"predictable": True}
    whole = added(rs.Scorer(SCHEMES["keyed"], **options)).result()
    filed = added(rs.Scorer(SCHEMES["keyed"], memory=400_000, tmp=tmp_path, **options)).result()
    assert filed == whole
    assert whole.method.startswith("martingale bound")


def test_lists_whose_groups_are_not_in_order(tmp_path):
    whole = added(rs.Scorer(SCHEMES["lists"], dedup="window", combine="sum")).result()
    limits = {"memory": 400_000, "tmp": tmp_path}
    filed = added(rs.Scorer(SCHEMES["lists"], dedup="window", combine="sum", **limits)).result()
    assert repr(filed) == repr(whole)


def test_keys_that_share_units_have_the_results_of_keys_alone():
    scheme = SCHEMES["keyed"]
    schemes = [scheme, *scheme.decoys(4, seed=1)]
    together = added(rs.Scorer(schemes, combine="sum")).results()
    alone = [added(rs.Scorer(one, combine="sum")).result() for one in schemes]
    assert list(map(repr, together)) == list(map(repr, alone))


def test_limits_are_checked(tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(rs.errors.ArgumentError, match="memory must be at least 64MiB"):
        rs.Scorer(SCHEMES["keyed"], memory="1MiB")
    with pytest.raises(rs.errors.ArgumentError, match="tmp= has no effect"):
        rs.Scorer(SCHEMES["keyed"], tmp=tmp_path)
    with pytest.raises(rs.errors.ArgumentError, match="no folder"):
        rs.Scorer(SCHEMES["keyed"], memory="64MiB", tmp=tmp_path / "missing")
