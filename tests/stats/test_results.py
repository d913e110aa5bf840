"""Decoys, false discoveries, intervals and the plain test, against scipy and simulation."""

import random
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.stats import (
    BernoulliLaw,
    decoy_test,
    effect_limit,
    false_discovery,
    share_interval,
    sum_test,
)
from scipy import stats as scipy_stats


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_false_discoveries_equal_scipy(pvalues, level):
    # the expected numbers are those of scipy.stats.false_discovery_control
    result = false_discovery(np.log10(pvalues), level)
    expected = scipy_stats.false_discovery_control(pvalues)
    np.testing.assert_allclose(result.qvalues, expected, rtol=1e-12)
    clear = np.abs(expected - level) > 1e-9
    assert (result.rejected[clear] == (expected <= level)[clear]).all()
    assert result.n_rejected == result.rejected.sum()


def test_false_discoveries_beyond_floats_keep_their_order():
    log10_p = np.array([-1e6, -5.0, -2e6, np.nan, -0.1, -400.0])
    result = false_discovery(log10_p, 0.01)
    assert result.n_tests == 5
    assert result.n_rejected == 4
    assert result.log10_threshold == -5.0
    assert np.isnan(result.log10_qvalues[3])
    assert not result.rejected[3]
    # q = p m / rank, by hand
    np.testing.assert_allclose(
        result.log10_qvalues[[2, 0, 5, 1, 4]],
        np.array([-2e6, -1e6, -400, -5, -0.1]) + np.log10(5 / np.arange(1, 6)),
        rtol=1e-15,
    )
    assert result.qvalues[2] == 0.0
    assert "n_rejected: 4" in repr(result)


def test_false_discovery_rate_is_controlled_on_a_mixed_corpus():
    rng = np.random.default_rng(0)
    law = BernoulliLaw(Fraction(1, 4))
    shares = []
    for _ in range(60):
        n = rng.integers(100, 400, 300)
        marked = rng.random(300) < 0.1
        green = rng.binomial(n, np.where(marked, 0.4, 0.25))
        result = false_discovery(law.log10_sf(green, n), 0.1)
        assert result.rejected[marked].mean() > 0.8
        shares.append((result.rejected & ~marked).sum() / max(1, result.n_rejected))
    assert np.mean(shares) < 0.1 + 3 * np.std(shares) / 60**0.5


def test_no_documents_and_bad_ones():
    assert false_discovery([]).n_rejected == 0
    assert false_discovery([np.nan]).log10_threshold == -np.inf
    with pytest.raises(ArgumentError, match=r"log10_pvalues\[1\] is 0.5"):
        false_discovery([-1.0, 0.5])
    with pytest.raises(ArgumentError, match="one dimension"):
        false_discovery([[-1.0]])
    for level in (0.0, 1.0, float("nan")):
        with pytest.raises(ArgumentError, match="level"):
            false_discovery([-1.0], level)


def test_intervals_equal_scipy():
    # the expected ends are those of the exact interval of scipy.stats.binomtest
    rng = random.Random(0)
    for _ in range(40):
        n = rng.choice([1, 2, 10, 100, 5000])
        k = rng.randint(0, n)
        level = rng.choice([0.9, 0.95, 0.999])
        expected = scipy_stats.binomtest(k, n).proportion_ci(level, method="exact")
        got = share_interval(k, n, level)
        assert got.low == pytest.approx(expected.low, rel=1e-7, abs=1e-12)
        assert got.high == pytest.approx(expected.high, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize(
    ("k", "n"), [(250_000_400_000, 10**12), (3, 10**12), (10**12 - 2, 10**12), (10**6, 10**9)]
)
def test_interval_ends_have_the_tails_they_promise(k, n):
    # the law's own tail, which test_tails.py holds to mpmath
    got = share_interval(k, n)
    # near 1 a share of 16 digits says little about the share of the others
    near_one = 1e-16 / (1 - got.share)
    tolerance = 1e-6 + 20 * near_one
    assert BernoulliLaw(Fraction(got.low)).sf(k, n) == pytest.approx(0.025, rel=tolerance)
    above = BernoulliLaw(1 - Fraction(got.high))
    assert above.sf(n - k, n) == pytest.approx(0.025, rel=tolerance)
    assert got.low < got.share < got.high


def test_interval_of_small_counts_by_mpmath():
    # mpmath.betainc, solved by mpmath.findroot
    with mp.workdps(30):
        low = mp.findroot(
            lambda q: mp.betainc(30, 71, 0, q, regularized=True) - mp.mpf("0.025"), 0.21
        )
    assert share_interval(30, 100).low == pytest.approx(float(low), rel=1e-10)


def test_intervals_of_nothing_and_everything():
    none, every = share_interval(0, 50), share_interval(50, 50)
    assert (none.low, every.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 50), rel=1e-9)
    assert every.low == pytest.approx(0.025 ** (1 / 50), rel=1e-9)
    for k, n in [(-1, 5), (6, 5), (0, 0), (1, 2**54)]:
        with pytest.raises(ArgumentError, match="n_green"):
            share_interval(k, n)
    with pytest.raises(ArgumentError, match="confidence_level"):
        share_interval(1, 2, 1.0)


def test_decoy_pvalues_are_valid_and_exact():
    assert decoy_test(2.0, [1.0, 2.0, 3.0]).pvalue == 3 / 4
    assert decoy_test(9.0, [1.0]).log10_pvalue == pytest.approx(np.log10(0.5))
    rng = np.random.default_rng(0)
    p = [decoy_test(x[0], x[1:]).pvalue for x in rng.exponential(size=(400, 40))]
    # exactly uniform on 1/40 .. 1
    assert scipy_stats.kstest(p, "uniform").pvalue > 1e-3
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * (0.05 / 400) ** 0.5


@pytest.mark.parametrize(
    ("draw", "log10_sf", "normal"),
    [
        (lambda g, m: g.normal(size=m), lambda x: scipy_stats.norm.logsf(x) / np.log(10), True),
        (lambda g, m: g.exponential(size=m), lambda x: -x / np.log(10), False),
        (
            lambda g, m: g.standard_t(4, size=m),
            lambda x: scipy_stats.t.logsf(x, 4) / np.log(10),
            False,
        ),
    ],
)
def test_fitted_tails_extrapolate_their_own_kind(draw, log10_sf, normal):
    decoys = draw(np.random.default_rng(1), 2000)
    x = {True: 5.0, False: 14.0}[normal]
    result = decoy_test(x, decoys)
    assert result.tail_fit > 0.01
    if normal:
        assert result.extrapolated
        assert result.log10_tail >= log10_sf(x)  # no lighter than exponential: cautious
    else:
        assert result.log10_tail == pytest.approx(log10_sf(x), abs=1.5)
    assert not hasattr(result, "log10_normal")
    assert "log10_tail" in repr(result)


@pytest.mark.parametrize(
    ("draw", "sf"),
    [
        (lambda g: g.binomial(2000, 0.25, 1000), lambda x: scipy_stats.binom.sf(x - 1, 2000, 0.25)),
        (lambda g: g.gamma(20, size=1000), lambda x: scipy_stats.gamma.sf(x, 20)),
        (lambda g: g.normal(size=1000), scipy_stats.norm.sf),
    ],
)
def test_the_tail_of_a_thousand_decoys_is_as_accurate_as_documented(draw, sf):
    """The true probability of what is said to be one in a thousand, and less, is smaller."""
    ratios = {0.01: [], 0.001: [], 0.0001: []}
    for seed in range(25):
        decoys = draw(np.random.default_rng([5, seed]))
        points = np.linspace(decoys.mean() + 2 * decoys.std(), decoys.mean() + 8 * decoys.std(), 25)
        said = np.array([decoy_test(x, decoys).log10_tail for x in points])
        for level, found in ratios.items():
            reached = np.interp(-np.log10(level), -said, points)
            found.append(sf(reached) / level)
    assert 0.6 < np.mean(ratios[0.01]) < 1.2
    assert np.mean(ratios[0.001]) < 1
    assert np.mean(ratios[0.0001]) < 0.6


def test_pareto_fit_equals_scipys():
    # scipy.stats.genpareto.fit(floc=0), where its shape is positive
    from radscore.stats.decoys import _pareto

    excess = scipy_stats.genpareto(0.4, scale=2.0).rvs(3000, random_state=3)
    shape, scale = _pareto(excess)
    expected_shape, _, expected_scale = scipy_stats.genpareto.fit(excess, floc=0)
    assert shape == pytest.approx(expected_shape, abs=0.01)
    assert scale == pytest.approx(expected_scale, rel=0.01)
    assert _pareto(np.linspace(0.01, 1.0, 100)) == (0.0, pytest.approx(0.505))


def test_few_or_equal_decoys_fit_nothing():
    few = decoy_test(1.0, [0.0, 1.0, 2.0])
    assert np.isnan(few.log10_tail)
    assert "tail" not in repr(few)
    assert np.isnan(decoy_test(9.0, np.random.default_rng(0).normal(size=999)).log10_tail)
    assert decoy_test(1.0, [1.0] * 200).pvalue == 1.0
    assert np.isnan(decoy_test(2.0, [1.0] * 2000).log10_tail)
    below = decoy_test(-10.0, np.random.default_rng(0).normal(size=1000))
    assert below.log10_tail == pytest.approx(0.0, abs=1e-12)
    assert "decoy_statistics: [" in repr(few)
    for bad in ([], [[1.0]], [float("nan")], [float("inf")]):
        with pytest.raises(ArgumentError, match="decoy_statistics"):
            decoy_test(1.0, bad)


def test_plain_test_echoes_its_inputs():
    law = BernoulliLaw(Fraction(8000, 32000))
    result = sum_test(300, 1000, law)
    # more than 299 of 1000 at 1/4, by scipy
    assert result.pvalue == pytest.approx(scipy_stats.binom.sf(299, 1000, 0.25), rel=1e-9)
    assert result.zscore == pytest.approx(50 / 187.5**0.5)
    assert (result.statistic, result.n_scored, result.law) == (300, 1000, law)
    text = repr(result)
    for part in ("SumResult", "log10_pvalue: -3.71312", "exact binomial tail"):
        assert part in text
    assert sum_test(0, 0, law).log10_pvalue == 0.0
    with pytest.raises(ArgumentError, match="whole"):
        sum_test(0.5, 10, law)
    with pytest.raises(ArgumentError, match="n_green"):
        sum_test(11, 10, law)


@pytest.mark.parametrize(("k", "n", "level"), [(0, 30, 0.95), (7, 30, 0.9), (2500, 10_000, 0.99)])
def test_the_limit_of_the_effect_is_that_of_the_binomial(k, n, level):
    limit = effect_limit(k, n, Fraction(1, 4), level)
    assert limit.high == pytest.approx(scipy_stats.beta.ppf(level, k + 1, n - k), rel=1e-9)
    assert limit.effect == pytest.approx(max(0, limit.high - 0.25) / 0.1875**0.5)


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.24])
def test_the_limit_of_the_effect_covers_units_of_different_chances(spread):
    rng = np.random.default_rng(3)
    n, runs = 60, 4000
    chances = 0.25 + spread * rng.choice([-1.0, 1.0], n)
    counts, times = np.unique((rng.random((runs, n)) < chances).sum(axis=1), return_counts=True)
    covered = sum(
        t
        for k, t in zip(counts.tolist(), times.tolist(), strict=True)
        if effect_limit(k, n, 0.25).high >= chances.mean()
    )
    assert scipy_stats.binomtest(int(covered), runs, 0.95, "less").pvalue > 1e-3
    assert covered < runs


def test_limits_of_effects_are_checked():
    for level in (0.5, 1.0):
        with pytest.raises(ArgumentError, match="between 1/2 and 1"):
            effect_limit(3, 10, 0.25, level)
    with pytest.raises(ArgumentError, match="share must"):
        effect_limit(3, 10, 1.0)
    with pytest.raises(ArgumentError, match="n_green"):
        effect_limit(11, 10, 0.25)
