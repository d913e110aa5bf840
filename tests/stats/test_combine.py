"""Combinations of tests under one key: which keep their level, and which do not.

The wrong ways are here so that the numbers in docs/validity.md can be checked.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.stats import (
    BernoulliLaw,
    EProcess,
    PooledUnits,
    anytime_test,
    mean_evalue,
    product_evalue,
    weighted_test,
)
from scipy import stats as scipy_stats

HALF = BernoulliLaw(Fraction(1, 2))
N = 2000  # units of each test


def greens_of(shared, runs, m, seed=0):
    """Green units of m tests under random keys, where so large a share of units is common."""
    rng = np.random.default_rng(seed)
    common = rng.binomial(int(shared * N), 0.5, runs)
    rest = N - int(shared * N)
    return common + rng.binomial(rest, 0.5, (m, runs))


def combined(shared, runs, m, seed=0):
    """log10 p of each way, from exact p-values and e-values of m tests."""
    greens = greens_of(shared, runs, m, seed)
    log_p = np.log(10) * HALF.log10_sf(greens, np.full(greens.shape, N))
    e = EProcess(HALF, 0.1).log10(greens, N)
    z = scipy_stats.norm.isf(np.exp(log_p)).sum(axis=0) / np.sqrt(m)
    return {
        "Fisher": scipy_stats.chi2.logsf(-2 * log_p.sum(axis=0), 2 * m) / np.log(10),
        "Stouffer": scipy_stats.norm.logsf(z) / np.log(10),
        "product": -e.sum(axis=0),
        "mean": -np.log10((10.0**e).mean(axis=0)),
        "Bonferroni": log_p.min(axis=0) / np.log(10) + np.log10(m),
    }


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("shared", [0.5, 0.9])
def test_what_shares_units_is_not_independent(shared, m):
    runs = 100_000
    for way, logs in combined(shared, runs, m).items():
        share = (logs <= -3).mean()
        if way in {"Fisher", "Stouffer"}:
            assert share > 0.0025
        elif way == "product":
            assert (share > 0.0012) == (m > 2 and (shared, m) != (0.5, 3))
        else:
            assert scipy_stats.binomtest(int(share * runs), runs, 0.001, "greater").pvalue > 1e-3


def test_without_common_units_products_hold():
    for way, logs in combined(0.0, 100_000, 3).items():
        reached = int((logs <= -3).sum())
        assert scipy_stats.binomtest(reached, 100_000, 0.00105, "greater").pvalue > 1e-3, way


@given(
    st.lists(st.floats(-300, 1000), min_size=1, max_size=8),
    st.integers(0, 7),
)
def test_means_and_products(logs, zeros):
    mean = mean_evalue(logs)
    assert max(logs) - np.log10(len(logs)) - 1e-9 <= mean <= max(logs) + 1e-9
    assert product_evalue(logs) == pytest.approx(sum(logs), abs=1e-6)
    weights = np.ones(len(logs))
    weights[: min(zeros, len(logs) - 1)] = 0.0
    kept = [log for log, weight in zip(logs, weights, strict=True) if weight]
    assert mean_evalue(logs, weights) == pytest.approx(mean_evalue(kept), abs=1e-9)
    assert mean_evalue([*logs, -np.inf]) == pytest.approx(
        mean + np.log10(len(logs) / (len(logs) + 1)), abs=1e-9
    )
    assert product_evalue([*logs, -np.inf]) == -np.inf


def test_the_e_value_of_batches_together_is_that_of_their_sum_or_larger():
    """Products waste the prior of each batch."""
    one, two = anytime_test(1100, 2000, HALF), anytime_test(1090, 2000, HALF)
    both = anytime_test(2190, 4000, HALF)
    assert both.log10_evalue > product_evalue([one.log10_evalue, two.log10_evalue])


def test_pooled_units_are_one_weighted_test():
    rng = np.random.default_rng(4)
    names = [f"unit {i}" for i in range(900)]
    scores = (rng.random(900) < 0.5).astype(float)
    parts = [(slice(0, 600), rng.normal(size=600)), (slice(300, 900), rng.exponential(size=600))]
    pooled = PooledUnits(HALF, [2.0, 1.0])
    total = np.zeros(900)
    for j, (part, w) in enumerate(parts):
        pooled.add(j, names[part], w, scores[part])
        total[part] += (2.0, 1.0)[j] * w / np.sqrt(0.25 * (w @ w))
    result = pooled.test(seed="5")
    expected = weighted_test(total @ (scores - 0.5), total, HALF, seed="5")
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.variance == pytest.approx(expected.variance)
    assert result.log10_pvalue == pytest.approx(expected.log10_pvalue, abs=1e-6)
    lists = PooledUnits(HALF, [1.0], list_size=4, vocab_size=8)
    lists.add(0, names[:6], [1.0, -1, 2, 1, 1, 3], scores[:6], groups=[0, 0, 0, 1, 1, 1])
    assert lists.test().grouped
    assert PooledUnits(HALF, [1.0]).test().log10_pvalue == 0.0


def test_pooling_is_stronger_than_its_parts():
    """Two tests that share a third of their units, under keys that the text knows a little of."""
    rng = np.random.default_rng(6)
    found = {"pooled": 0, "Bonferroni": 0}
    for _ in range(60):
        scores = (rng.random(5000) < 0.53).astype(float)
        pooled = PooledUnits(HALF, [1.0, 1.0])
        logs = []
        for j, part in enumerate((slice(0, 3000), slice(2000, 5000))):
            w = np.ones(3000)
            pooled.add(j, range(part.start, part.stop), w, scores[part])
            logs.append(weighted_test(w @ (scores[part] - 0.5), w, HALF).log10_pvalue)
        found["pooled"] += pooled.test().log10_pvalue <= -3
        found["Bonferroni"] += min(logs) + np.log10(2) <= -3
    assert found["pooled"] > found["Bonferroni"] + 6


def test_bad_arguments_are_refused():
    for wrong in ([], [[1.0]], [float("nan")]):
        with pytest.raises(ArgumentError, match="one number for each test"):
            mean_evalue(wrong)
    with pytest.raises(ArgumentError, match="none negative"):
        mean_evalue([1.0, 2.0], [1.0])
    with pytest.raises(ArgumentError, match="not all be 0"):
        mean_evalue([1.0], [0.0])
    with pytest.raises(ArgumentError, match="shares must be"):
        PooledUnits(HALF, [])
    pooled = PooledUnits(HALF, [1.0, 1.0])
    pooled.add(0, ["a"], [1.0], [1])
    with pytest.raises(ArgumentError, match="comes twice"):
        pooled.add(0, ["a"], [1.0], [1])
    with pytest.raises(ArgumentError, match="scores 1 and 0"):
        pooled.add(1, ["a"], [1.0], [0])
    with pytest.raises(ArgumentError, match="one length"):
        pooled.add(1, ["a"], [1.0, 2.0], [0])
    with pytest.raises(ArgumentError, match="finite"):
        pooled.add(1, ["b"], [float("inf")], [0])
