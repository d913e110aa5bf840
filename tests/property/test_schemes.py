"""Property: every scheme of the core is the twin, window by window and over the vocabulary."""

import numpy as np
import pytest
from catalog import FAMILIES, core_of, examples, public_of, tokens
from hypothesis import given
from hypothesis import strategies as st

from tests.twin.schemes import Gumbel, PermutationGreen

KERNELS = ("auto", "scalar", "tracking", "lanes", "bitmap")


@st.composite
def scheme_windows(draw, family):
    twin = draw(FAMILIES[family])
    width = twin.window_width
    window = st.lists(tokens(twin, 7), min_size=width, max_size=width)
    windows = draw(st.lists(window.map(tuple), min_size=1, max_size=12))
    if twin.padding == -1 and width > 1:  # padding stands left of a text
        n = draw(st.integers(0, width - 1))
        windows[0] = (*(-1,) * n, *windows[0][n:])
    return twin, windows


def array(windows):
    return np.array(windows, dtype=np.int64)


def expected_scores(twin, windows):
    return [list(s) if twin.kind == "depths" else s for s in map(twin.score, windows)]


@pytest.mark.parametrize("family", FAMILIES)
@examples(40)
@given(st.data())
def test_scores(family, data):
    twin, windows = data.draw(scheme_windows(family))
    found = core_of(twin).scores(array(windows)).tolist()
    assert public_of(twin).scores(array(windows)).tolist() == found
    if twin.kind == "gumbel":
        assert found == pytest.approx(expected_scores(twin, windows), rel=1e-12, abs=1e-15)
    else:
        assert found == expected_scores(twin, windows)


@pytest.mark.parametrize("family", FAMILIES)
@examples(20)
@given(st.data())
def test_what_a_scheme_says_of_itself(family, data):
    twin = data.draw(FAMILIES[family])
    core = core_of(twin)
    kinds = {"green": "green", "gumbel": "real", "depths": "depths"}
    assert core.score_kind == kinds[twin.kind]
    assert (core.vocab_size, core.window_width) == (twin.vocab_size, twin.window_width)
    assert (core.padding, core.reaches_prompt) == (twin.padding, twin.reaches_prompt)
    first = twin.window_width - 1 if twin.reaches_prompt else 0
    assert core.first_position == public_of(twin).first_position == first
    share = twin.share
    if share is None:
        assert core.share is None
    else:
        numerator, denominator = core.share
        assert numerator * share.denominator == share.numerator * denominator


@pytest.mark.parametrize("family", FAMILIES)
@examples(30)
@given(st.data())
def test_units_are_equal_where_the_twins_are(family, data):
    twin, windows = data.draw(scheme_windows(family))
    core = core_of(twin)
    if core.unit_is_window:
        assert [twin.unit(w) for w in windows] == windows
        return
    found = [tuple(unit) for unit in core.units(array(windows)).tolist()]
    expected = [twin.unit(w) for w in windows]
    for i in range(len(windows)):
        for j in range(i):
            assert (found[i] == found[j]) == (expected[i] == expected[j])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", ["authors_kgw", "lm_watermarking", "hf_kgw"])
@examples(25)
@given(st.data())
def test_every_kernel_of_permutation_green_lists(family, kernel, data):
    twin, windows = data.draw(scheme_windows(family))
    found = core_of(twin, kernel=kernel).scores(array(windows)).tolist()
    assert found == expected_scores(twin, windows)


@pytest.mark.parametrize("family", FAMILIES)
@examples(15)
@given(st.data())
def test_vocabulary_wide_forms(family, data):
    twin = data.draw(FAMILIES[family].filter(lambda twin: twin.vocab_size < 1000))
    k = twin.window_width - 1
    context = st.lists(tokens(twin, 7), min_size=k, max_size=k).map(tuple)
    contexts = data.draw(st.lists(context, min_size=1, max_size=3))
    core = core_of(twin)
    rows = array(contexts).reshape(len(contexts), k)
    expected = [[twin.score((*c, t)) for t in range(twin.vocab_size)] for c in contexts]
    if twin.kind == "green":
        mask = core.green_mask(rows)
        assert mask.dtype == bool
        assert mask.tolist() == expected
        if isinstance(twin, PermutationGreen) and k == twin.context_width:
            assert set(mask.sum(axis=1).tolist()) == {twin.n_green}
    elif twin.kind == "depths":
        assert core.g_values(rows).tolist() == [[list(g) for g in row] for row in expected]
    elif isinstance(twin, Gumbel) or (twin.kind == "gumbel" and core.key_count == 1):
        uniforms = core.uniforms(rows)
        assert (-np.log1p(-uniforms)).ravel().tolist() == pytest.approx(
            [s for row in expected for s in row], rel=1e-9, abs=1e-12
        )
        if isinstance(twin, Gumbel):
            exact = [[twin.uniform((*c, t)) for t in range(twin.vocab_size)] for c in contexts]
            assert uniforms.tolist() == exact
    else:  # two keys
        a, b = (-np.log1p(-core.uniforms(rows, key_index=i)) for i in range(2))
        mixed = (1 - twin.alpha) * a + twin.alpha * b
        assert mixed.ravel().tolist() == pytest.approx(
            [s for row in expected for s in row], rel=1e-9, abs=1e-12
        )
