"""Weights of lists: those of full logits, as far as the lists tell them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.models import CONTRASTS, Weighting
from radscore.models.listed import Listed
from radscore.models.listed_weights import listed_weights, looked_up


def some_logits(seed, rows=30, vocab=20):
    made = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, vocab, generator=made, dtype=torch.float64)


def lists_of(logits, n):
    """The n likeliest tokens of each row; one row knows nothing."""
    logprobs = logits.log_softmax(-1)
    top = logprobs.topk(n, dim=-1)
    rows = [
        dict(zip(ids, values, strict=True))
        for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    return Listed.of([*rows, {}])


@pytest.mark.parametrize("centred", [0, 0.75, 1])
@pytest.mark.parametrize("transform", CONTRASTS)
def test_whole_lists_have_the_weights_of_logits(monkeypatch, transform, centred):
    monkeypatch.setattr("radscore.models.listed_weights._CELLS_AT_ONCE", 100)  # several slices
    p, q = some_logits(1), some_logits(2)
    suspect, reference = lists_of(p, 20), lists_of(q, 20)
    logprobs, least = looked_up(suspect, reference)
    assert np.isnan(least[-1])
    np.testing.assert_allclose(least[:-1], q.log_softmax(-1).min(dim=-1).values, rtol=1e-6)
    ours = listed_weights(suspect, logprobs, transform=transform, centred=centred)
    weighting = Weighting("matched", transform=transform, centred=centred)
    rows, ids, weights, _ = weighting.sparse(p, q)
    expected = dict(zip(zip(rows.tolist(), ids.tolist(), strict=True), weights, strict=True))
    positions = np.repeat(np.arange(len(suspect)), np.diff(suspect.offsets))
    names = zip(positions.tolist(), suspect.ids.tolist(), strict=True)
    np.testing.assert_allclose(ours, [expected[one] for one in names], rtol=1e-4, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(sorted(CONTRASTS)),
)
def test_short_lists(n, m, absent, centred, transform):
    """What the reference does not list has a share of the least that it lists."""
    suspect, reference = lists_of(some_logits(3), n), lists_of(some_logits(4), m)
    logprobs, least = looked_up(suspect, reference)
    ours = listed_weights(
        suspect, logprobs, least=least, absent=absent, transform=transform, centred=centred
    )
    at = 0
    for position in range(len(suspect)):
        mine, other = suspect[position], reference[position]
        if not mine:
            continue
        floor = absent * np.exp(min(other.values()))
        p = np.exp(np.array(list(mine.values())))
        q = np.array([np.exp(other[v]) if v in other else floor for v in mine])
        expected = CONTRASTS[transform](p, q)
        expected = expected - centred * expected.mean()
        np.testing.assert_allclose(ours[at : at + len(mine)], expected, rtol=1e-9, atol=1e-12)
        at += len(mine)
    assert at == len(ours)


def test_where_the_reference_says_nothing_weights_are_zero():
    suspect = Listed.of([{1: -1.0, 2: -2.0}, {1: -1.0}, {}, {5: -np.inf}])
    reference = Listed.of([{}, {1: -2.0}, {3: -1.0}, {}])
    logprobs, least = looked_up(suspect, reference)
    np.testing.assert_array_equal(logprobs, [np.nan, np.nan, -2.0, np.nan])
    np.testing.assert_array_equal(least, [np.nan, -2.0, -1.0, np.nan])
    weights = listed_weights(suspect, logprobs, least=least, absent=0.0)
    assert weights[[0, 1, 3]].tolist() == [0.0, 0.0, 0.0]
    assert weights[2] > 0
    none = Listed.of([])
    assert listed_weights(none, []).shape == (0,)
    assert [one.shape for one in looked_up(none, none)] == [(0,), (0,)]


def test_what_does_not_fit_is_refused():
    suspect = Listed.of([{1: -1.0}])
    for match, arguments, options in (
        ("reference_logprobs must have shape", [[-1.0, -1.0]], {}),
        ("needs least=", [[np.nan]], {}),
        ("least must have shape", [[np.nan]], {"least": [-1.0, -1.0]}),
        ("absent must be from 0 to 1, not 2", [[-1.0]], {"absent": 2}),
        ("transform must be one of", [[-1.0]], {"transform": "sum"}),
    ):
        with pytest.raises(ArgumentError, match=match):
            listed_weights(suspect, *arguments, **options)
    with pytest.raises(ArgumentError, match="the suspect has 1 positions, but the reference 2"):
        looked_up(suspect, Listed.of([{}, {}]))
