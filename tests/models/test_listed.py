"""Lists of likely tokens, one per position."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.models.listed import Listed

rows = st.lists(
    st.dictionaries(st.integers(0, 2**32 - 1), st.floats(-50, 0, width=32), max_size=4), max_size=6
)


@given(rows, rows)
def test_lists_come_back(one, two):
    both = Listed.joined([Listed.of(one), Listed.of(two)])
    assert [both[i] for i in range(len(both))] == one + two
    middle = both.positions(1, len(both)) if len(both) else both
    assert [middle[i] for i in range(len(middle))] == (one + two)[1:]


@pytest.mark.parametrize(
    ("offsets", "ids", "values"),
    [
        ([0, 1], [3], [np.nan]),
        ([0, 1], [3], [0.5]),
        ([0, 2], [3], [-1.0]),
        ([1, 1], [3], [-1.0]),
        ([0, 2, 1], [3], [-1.0]),
        ([], [], []),
        ([0, 1], [3], [-1.0, -2.0]),
    ],
)
def test_what_does_not_fit_is_refused(offsets, ids, values):
    with pytest.raises(ArgumentError):
        Listed(np.array(offsets), np.array(ids), np.array(values))


def test_rounding_above_zero_is_cut():
    assert Listed(np.array([0, 1]), np.array([3]), np.array([1e-4]))[0] == {3: 0.0}
