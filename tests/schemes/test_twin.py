"""Against the readable twin: every way of computing, scores and units, small vocabularies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.schemes.families import EXAMPLE_VOCAB, FAMILIES

PAIRS = {
    f"{name}-{i}": (family.public(twin), twin)
    for name, family in FAMILIES.items()
    for i, twin in enumerate(family.examples)
}


@pytest.mark.parametrize("name", PAIRS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_scores_and_units(name, data):
    ours, theirs = PAIRS[name]
    assert ours.window_width == theirs.window_width
    token = st.integers(0, EXAMPLE_VOCAB - 1)
    row = st.lists(token, min_size=ours.window_width, max_size=ours.window_width)
    windows = data.draw(st.lists(row, min_size=1, max_size=6))
    expected = [theirs.score(tuple(window)) for window in windows]
    scores = ours.scores(windows)
    if ours.core.score_kind == "real":
        np.testing.assert_allclose(scores, expected, rtol=1e-13, atol=1e-300)
    else:
        assert scores.astype(int).tolist() == [
            list(one) if isinstance(one, tuple) else one for one in expected
        ]
    if ours.units_are_windows:
        assert all(theirs.unit(tuple(window)) == tuple(window) for window in windows)
        return
    units = [tuple(unit) for unit in ours.units(windows).tolist()]
    same = [[a == b for b in units] for a in units]
    named = [theirs.unit(tuple(window)) for window in windows]
    assert same == [[a == b for b in named] for a in named]


@pytest.mark.parametrize("name", PAIRS)
def test_null_share(name):
    ours, theirs = PAIRS[name]
    share = ours.core.share
    if share is None:
        assert theirs.share is None
    else:
        assert share[0] * theirs.share.denominator == share[1] * theirs.share.numerator
        assert ours.null_law.share == theirs.share
