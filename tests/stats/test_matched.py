"""Bounds of matched scores: against exact laws, mpmath, and simulated tournaments."""

import itertools

import mpmath
import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.stats import OneWinner, matched_test
from scipy import stats as scipy_stats

SHARES = [(1.0,), (0.7, 0.3)]


@st.composite
def problems(draw, most_rows=4):
    """A few rows of a few tokens."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=most_rows))
    n = sum(sizes)
    q = np.array(draw(st.lists(st.floats(1e-3, 1.0), min_size=n, max_size=n)))
    w = np.array(draw(st.lists(st.integers(-8, 8), min_size=n, max_size=n))) / 4.0
    offsets = np.cumsum([0, *sizes])
    mass = np.add.reduceat(q, offsets[:-1])
    return offsets, q / np.repeat(mass, sizes), w


def law(offsets, q, w, shares):
    """All values of T with their probabilities."""
    rows = [range(a, b) for a, b in itertools.pairwise(offsets.tolist())]
    mean = float(q @ w)
    for winners in itertools.product(*(rows * len(shares))):
        parts = [(w[v] * shares[i // len(rows)], q[v]) for i, v in enumerate(winners)]
        yield sum(part for part, _ in parts) - mean, float(np.prod([p for _, p in parts]))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), shares=st.sampled_from(SHARES))
def test_bounds_hold_and_are_near(data, shares):
    offsets, q, w = data.draw(problems(most_rows=4 if len(shares) == 1 else 2))
    problem = OneWinner(offsets, q, w, shares)
    values = np.array(sorted(law(offsets, q, w, shares)))
    assert problem.mean == pytest.approx(float(q @ w))
    assert problem.variance == pytest.approx(float(values[:, 1] @ values[:, 0] ** 2), abs=1e-9)
    assert problem.largest == pytest.approx(values[-1, 0], abs=1e-9)
    for value in np.unique(values[:, 0].round(9)):
        tail = values[values[:, 0] >= value - 1e-7, 1].sum()
        result = matched_test(float(value), problem, n_units=len(q), draws=0)
        assert 10.0**result.log10_pvalue >= tail * (1 - 1e-9)
        late = matched_test(float(value), problem, n_units=len(q), predictable=True)
        assert late.log10_pvalue >= result.log10_pvalue - 1e-9
        assert 10.0**late.log10_pvalue >= tail * (1 - 1e-9)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), t=st.floats(-5, 5), shares=st.sampled_from(SHARES))
def test_moments_are_those_of_mpmath(data, t, shares):
    offsets, q, w = data.draw(problems(most_rows=6))
    k0, k1, k2 = OneWinner(offsets, q, w, shares).bound(t)

    def k(x):
        total = -x * mpmath.mpf(float(q @ w))
        for a, b in itertools.pairwise(offsets.tolist()):
            for share in shares:
                total += mpmath.log(sum(q[v] * mpmath.exp(x * share * w[v]) for v in range(a, b)))
        return total

    with mpmath.workdps(40):
        assert k0 == pytest.approx(float(k(mpmath.mpf(t))), abs=1e-9)
        assert k1 == pytest.approx(float(mpmath.diff(k, t)), abs=1e-8)
        assert k2 == pytest.approx(float(mpmath.diff(k, t, 2)), abs=1e-7)


def test_many_rows_are_cut_into_portions(monkeypatch):
    from radscore.stats import matched

    rng = np.random.default_rng(0)
    offsets = np.arange(0, 3001, 3)
    q = rng.dirichlet([1.0, 1.0, 1.0], 1000).ravel()
    w = rng.normal(size=3000)
    expected = OneWinner(offsets, q, w).bound(0.7)
    for size in (1, 10, 2999):
        monkeypatch.setattr(matched, "_CHUNK", size)
        np.testing.assert_allclose(OneWinner(offsets, q, w).bound(0.7), expected, rtol=1e-12)


def test_saddlepoint_is_near_the_simulated_tail():
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 401, 4)
    q = rng.dirichlet([0.5] * 4, 100)
    w = rng.normal(size=(100, 4))
    problem = OneWinner(offsets, q.ravel(), w.ravel())
    drawn = rng.random((200_000, 100))
    winners = (drawn[:, :, None] > q.cumsum(1)[None]).sum(2).clip(0, 3)
    values = w[np.arange(100), winners].sum(1) - problem.mean
    for z in (1.0, 2.0, 3.0):
        at = z * problem.variance**0.5
        result = matched_test(at, problem, n_units=400)
        share = (values >= at).mean()
        assert 10.0**result.log10_saddlepoint == pytest.approx(share, rel=0.08)
        assert 10.0**result.log10_bound > share
        assert 10.0**result.log10_pvalue == pytest.approx(share, rel=0.25)
        assert result.method == f"importance sampling (matched scores, {result.n_draws} draws)"
        assert result == matched_test(at, problem, n_units=400)


def test_nothing_random():
    problem = OneWinner(np.array([0, 2]), np.array([0.5, 0.5]), np.array([1.0, 1.0]))
    assert matched_test(0.0, problem, n_units=2).log10_pvalue == 0
    empty = OneWinner(np.array([0]), np.empty(0), np.empty(0))
    assert matched_test(0.0, empty, n_units=0).log10_pvalue == 0
    for bad in (np.nan, np.inf):
        with pytest.raises(ArgumentError, match="finite"):
            matched_test(bad, problem, n_units=2)


@pytest.mark.parametrize("predictable", [False, True])
def test_tournaments_stay_below_the_bound(predictable):
    rng = np.random.default_rng(4)
    keys, rows, tokens, depth = 2000, 80, 5, 30
    q = rng.dirichlet([0.4] * tokens, rows)
    w = rng.normal(size=(rows, tokens))
    p = np.repeat(q[None], keys, axis=0)
    for _ in range(depth):
        g = rng.integers(0, 2, p.shape)
        p = p * (1 + g - (p * g).sum(2, keepdims=True))
    values = (w * (p - q)).sum((1, 2))
    problem = OneWinner(np.arange(0, rows * tokens + 1, tokens), q.ravel(), w.ravel())
    assert values.mean() == pytest.approx(0, abs=4 * values.std() / keys**0.5)
    # nearly one winner each
    assert 0.8 * problem.variance < values.var() < problem.variance
    given = {"n_units": 400, "predictable": predictable, "draws": 0}
    found = [matched_test(t, problem, **given) for t in values]
    pvalues = 10 ** np.array([one.log10_pvalue for one in found])
    for level in (0.2, 0.05, 0.01, 0.001):
        assert (pvalues <= level).mean() <= level
    assert pvalues.min() < 0.02 or predictable


def test_results_show_themselves():
    problem = OneWinner(np.array([0, 2]), np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    result = matched_test(0.5, problem, n_units=2)
    assert isinstance(result, rs.stats.MatchedResult)
    assert "p-value 0.5" in repr(result) or "log10_pvalue" in repr(result)
    assert result.to_dict()["n_seeds"] == 1


@settings(deadline=None, max_examples=15)
@given(data=st.data(), shares=st.sampled_from(SHARES))
def test_draws_are_near_all_outcomes(data, shares):
    offsets, q, w = data.draw(problems(most_rows=4 if len(shares) == 1 else 2))
    problem = OneWinner(offsets, q, w, shares)
    if problem.variance < 1e-6:
        return
    values = np.array(sorted(law(offsets, q, w, shares)))
    for value in np.unique(values[:, 0].round(6)):
        tail = values[values[:, 0] >= value - 1e-5, 1].sum()
        drawn = problem.draws(4000).log_pvalue(float(value), slack=1e-5)
        assert abs(drawn - np.log(tail)) < 0.6


def test_p_values_of_draws_under_the_null():
    rng = np.random.default_rng(2)
    rows, tokens, runs = 300, 5, 4000
    q = rng.dirichlet([0.5] * tokens, rows)
    w = rng.normal(size=(rows, tokens))
    problem = OneWinner(np.arange(0, rows * tokens + 1, tokens), q.ravel(), w.ravel())
    drawn = rng.random((runs, rows))
    winners = (drawn[:, :, None] > q.cumsum(1)[None]).sum(2).clip(0, tokens - 1)
    values = w[np.arange(rows), winners].sum(1) - problem.mean
    pvalues = np.exp([problem.draws(4000).log_pvalue(t) for t in values])
    # one set of draws is off by a tenth here
    for level in (0.3, 0.05, 0.01):
        low, high = scipy_stats.binom.ppf([1e-4, 1 - 1e-4], runs, [0.75 * level, 1.25 * level])
        assert low <= (pvalues <= level).sum() <= high
