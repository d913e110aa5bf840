"""Seeds: windows that can share a random draw have one seed, in the core and in the twin."""

import numpy as np
import pytest
from catalog import FAMILIES, core_of, examples, public_of
from hypothesis import given
from hypothesis import strategies as st
from radscore.scoring.draws import SeenDraws, context_draws, neighbours, window_draws

from tests.twin.schemes import SynthIDDeepMind

#: Differences of windows of five tokens that the linear form cannot tell apart, found by lattice
#: reduction; see tests/property/test_scorer.py.
SHORT = (688, -5682, -3386, -1372, 4384)


def windows_of(data, twin, n=12):
    """Windows of few tokens, so that sums, minima and last tokens meet."""
    token = st.integers(0, min(twin.vocab_size - 1, 9))
    row = st.lists(token, min_size=twin.window_width, max_size=twin.window_width)
    return data.draw(st.lists(row, min_size=n, max_size=n))


def share(scheme, mine, others):
    """Which of `mine` can share a draw with any of `others`, by seeds alone."""
    near = {
        row.tobytes() for draws in neighbours(window_draws(others, scheme), scheme) for row in draws
    }
    return [row.tobytes() in near for row in window_draws(mine, scheme)]


@pytest.mark.parametrize("family", FAMILIES)
@examples(25)
@given(data=st.data())
def test_the_core_has_the_seeds_of_the_twin(family, data):
    twin = data.draw(FAMILIES[family])
    scheme = public_of(twin)
    rows = windows_of(data, twin)
    windows = np.array(rows, dtype=np.uint32)
    seeds = [twin.context_seed(tuple(row)) for row in rows]
    assert (seeds[0] is None) == (scheme.seed_kind == "target")
    if seeds[0] is None:
        seeds = [twin.unit(tuple(row)) for row in rows]
    expected = [
        [
            a == b if twin.context_seed(tuple(rows[0])) is None else twin.shares_draws(a, b)
            for b in seeds
        ]
        for a in seeds
    ]
    found = [share(scheme, windows, windows[i : i + 1]) for i in range(len(rows))]
    assert found == np.array(expected).T.tolist()


@pytest.mark.parametrize("family", FAMILIES)
@examples(25)
@given(data=st.data())
def test_windows_of_one_unit_have_seeds_that_meet(family, data):
    """Whatever the targets are: that is what makes exclusion by seeds complete."""
    twin = data.draw(FAMILIES[family])
    scheme = public_of(twin)
    rows = windows_of(data, twin, 20)
    windows = np.array(rows, dtype=np.uint32)
    units = [twin.unit(tuple(row)) for row in rows]
    for i, unit in enumerate(units):
        met = share(scheme, windows, windows[i : i + 1])
        assert all(met[j] for j, other in enumerate(units) if other == unit)


def test_hashes_that_meet_by_the_lattice_have_seeds_that_meet():
    """Windows of one hash under every key, whose contexts look like strangers."""
    twin = SynthIDDeepMind(vocab_size=2**17, context_width=4, keys=(3, 4))
    scheme = public_of(twin)
    base = np.full(5, 60000)
    windows = np.array([base, base + SHORT], dtype=np.uint32)
    assert twin.unit(tuple(windows[0].tolist())) == twin.unit(tuple(windows[1].tolist()))
    assert share(scheme, windows[:1], windows[1:]) == [True]
    seen = SeenDraws(scheme)
    assert seen.first(windows[:, :4]).tolist() == [True, False]


@pytest.mark.parametrize("family", FAMILIES)
@examples(10)
@given(data=st.data())
def test_a_seed_is_met_once(family, data):
    twin = data.draw(FAMILIES[family])
    scheme = public_of(twin)
    if scheme.seed_kind == "target" or scheme.window_width == 1:
        return
    contexts = np.array(windows_of(data, twin), dtype=np.uint32)[:, :-1]
    seen, expected = SeenDraws(scheme), []
    before = []
    for context in contexts.tolist():
        seed = twin.context_seed((*context, 0))
        expected.append(not any(twin.shares_draws(seed, other) for other in before))
        before.append(seed)
    half = len(contexts) // 2
    found = [seen.first(contexts[:half]), seen.first(contexts[half:])]
    assert np.concatenate(found).tolist() == expected
    assert len(context_draws(contexts, scheme)) == len(contexts)
    assert core_of(twin).seed_kind == scheme.seed_kind
