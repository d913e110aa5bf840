"""The one-sided two-sample test, against scipy and against counting all orders."""

import itertools
import math

import numpy as np
import pytest
import radscore as rs
import scipy.stats
from radscore.stats import smirnov
from radscore.stats.smirnov import smirnov_test


@pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 7), (20, 20), (50, 80), (300, 200), (30, 400)])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.5, 1.5])
def test_against_scipy(m, n, shift):
    rng = np.random.default_rng(m)
    x, y = rng.normal(size=m) - shift, rng.normal(size=n)
    ours = smirnov_test(x, y)
    theirs = scipy.stats.ks_2samp(x, y, alternative="greater", method="exact")
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12)
    assert ours.pvalue == pytest.approx(theirs.pvalue, rel=1e-9)
    if ours.statistic:
        assert ours.location == theirs.statistic_location
    assert (ours.n_first, ours.n_second) == (m, n)


@pytest.mark.parametrize(("m", "n"), [(3, 3), (4, 3), (2, 6)])
def test_against_all_orders(m, n):
    """All ways to place the first sample among m + n ranks are equally likely under H0."""
    results = []
    for first in itertools.combinations(range(m + n), m):
        second = [rank for rank in range(m + n) if rank not in first]
        results.append(smirnov_test(first, second))
    statistics = np.array([result.statistic for result in results])
    for result in results:
        share = np.mean(statistics >= result.statistic - 1e-12)
        assert result.pvalue == pytest.approx(share, rel=1e-12)


def test_samples_apart_at_every_size():
    """The rarest order has probability m! n! / (m + n)!, which a logarithm holds."""
    for m, n in ((10, 10), (1000, 900), (2000, 2000), (3, 4000)):
        result = smirnov_test(np.arange(m), np.arange(m, m + n))
        log = math.lgamma(m + 1) + math.lgamma(n + 1) - math.lgamma(m + n + 1)
        assert result.log10_pvalue == pytest.approx(log / math.log(10), rel=1e-9)
        assert result.statistic == 1
        assert result.method.startswith("exact")
    other = smirnov_test(np.arange(m, m + n), np.arange(m))
    assert (other.statistic, other.log10_pvalue) == (0, 0)


def test_large_samples_are_approximated(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=1500) - 0.1, rng.normal(size=1100)
    exact = smirnov_test(x, y)
    monkeypatch.setattr(smirnov, "_MOST_STEPS", 0)
    rough = smirnov_test(x, y)
    assert "approximate" in rough.method
    assert "approximate" not in exact.method
    assert rough.log10_pvalue == pytest.approx(exact.log10_pvalue, rel=0.01)
    theirs = scipy.stats.ks_2samp(x, y, alternative="greater", method="asymp")
    assert rough.pvalue == pytest.approx(theirs.pvalue, rel=1e-6)


@pytest.mark.parametrize(("m", "n"), [(300, 40_001), (2000, 3001)])
@pytest.mark.parametrize("z", [0.5, 1.0, 1.9, 2.5, 4.0, 7.0])
def test_what_is_approximated_is_hardly_too_small_anywhere(m, n, z, monkeypatch):
    reached = int(z * math.sqrt((m + n) * m * n))
    exact, _ = smirnov._log_tail(reached, m, n)
    monkeypatch.setattr(smirnov, "_MOST_STEPS", 0)
    rough, _ = smirnov._log_tail(reached, m, n)
    assert rough > exact - 0.003


def test_ties_make_it_conservative():
    rng = np.random.default_rng(2)
    pvalues = []
    for _ in range(400):
        values = rng.integers(0, 4, size=90)
        pvalues.append(smirnov_test(values[:40], values[40:]).pvalue)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(pvalues) <= level) <= level + 3 * math.sqrt(level / 400)


def test_wrong_samples():
    with pytest.raises(rs.errors.ArgumentError, match="first must be a one-dimensional sample"):
        smirnov_test([], [1.0])
    with pytest.raises(rs.errors.ArgumentError, match="second must hold finite numbers"):
        smirnov_test([1.0], [math.nan])


def test_it_prints():
    text = repr(smirnov_test([1, 2], [3, 4]))
    assert "log10_pvalue" in text
    assert "exact" in text
