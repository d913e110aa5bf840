"""Weighted tests: never below the exact tail, uniform or larger under H0, and close to it.

Exact tails come from enumeration of all outcomes in Python fractions, or from permutations of a
whole (small) vocabulary; the approximations are held to them where they should be good.
"""

from dataclasses import fields
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.stats import (
    BernoulliLaw,
    DualExponentialLaw,
    ExponentialLaw,
    SynthIDLaw,
    WeightedResult,
    weighted_test,
)
from radscore.stats.moments import Independent, log_bound
from radscore.stats.weighted import WeightedSum
from scipy import stats as scipy_stats

QUARTER = BernoulliLaw(Fraction(1, 4))
LAWS = [QUARTER, ExponentialLaw(), DualExponentialLaw(0.1), SynthIDLaw(Fraction(1, 2), (2.0, 1.0))]


def outcomes(weights, share):
    """All values of sum w (s - share) and their probabilities."""
    values, chances = np.zeros(1), np.ones(1)
    for w in weights:
        values = np.concatenate([values - w * share, values + w * (1 - share)])
        chances = np.concatenate([chances * (1 - share), chances * share])
    return values, chances


weights_of_any_sign = st.lists(
    st.floats(-3, 3).filter(lambda w: abs(w) > 1e-3), min_size=1, max_size=11
)


@settings(max_examples=80, deadline=None)
@given(weights_of_any_sign, st.integers(1, 9), st.floats(0.0, 1.0))
def test_the_bound_is_never_below_the_exact_tail(weights, tenths, where):
    law = BernoulliLaw(Fraction(tenths, 10))
    values, chances = outcomes(weights, float(law.share))
    statistic = float(np.sort(values)[int(where * (len(values) - 1))])
    exact = np.log(min(chances[values >= statistic].sum(), 1.0))
    problem = Independent(np.array(weights), law)
    bound, _ = log_bound(statistic, problem, statistic / problem.variance)
    assert bound >= exact - 1e-12
    # and so is the whole test, which is exact for so few
    result = weighted_test(statistic, weights, law)
    assert result.method.startswith("exact")
    assert result.log10_pvalue == pytest.approx(
        np.log10(chances[values >= statistic - 1e-9].sum()), abs=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(weights_of_any_sign, st.floats(0.1, 30.0))
def test_the_bound_is_the_least_over_the_tilt(weights, statistic):
    # scipy's minimiser on the same function, written independently
    w = np.array(weights)
    problem = Independent(w, ExponentialLaw())
    top = min(1 / w.max() if w.max() > 0 else np.inf, 600 / np.abs(w).max())

    def exponent(t):
        return float(-np.log1p(-t * w).sum() - t * w.sum() - t * statistic)

    if statistic > problem.largest:
        return
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(
        exponent, bounds=(0, top * (1 - 1e-12)), method="bounded", options={"xatol": 1e-10 * top}
    )
    bound, _ = log_bound(statistic, problem, statistic / problem.variance)
    assert bound == pytest.approx(min(best.fun, 0.0), rel=1e-5, abs=1e-6)


def test_equal_weights_are_the_plain_test():
    n = 5000
    for weight in (2.5, -2.5):
        result = weighted_test(weight * (1350 - 1250), np.full(n, weight), QUARTER)
        if weight > 0:
            assert result.log10_pvalue == pytest.approx(QUARTER.log10_sf(1350, n), rel=1e-12)
        else:  # few green ones are what a negative weight rewards; 1350 are too many
            assert result.log10_pvalue == pytest.approx(
                np.log10(scipy_stats.binom.cdf(1350, n, 0.25)), rel=1e-6
            )
    gumbel = weighted_test(-300.0, np.full(n, -1.0), ExponentialLaw())
    assert gumbel.log10_pvalue == pytest.approx(
        np.log10(scipy_stats.gamma.cdf(5300, 5000)), rel=1e-6
    )
    few = weighted_test(3 * 400.0, np.full(n, -3.0), ExponentialLaw())
    assert few.log10_pvalue == pytest.approx(
        scipy_stats.gamma.logcdf(4600, 5000) / np.log(10), rel=1e-9
    )
    assert few.method.startswith("exact gamma")


def test_whole_weights_are_convolved():
    weights = np.repeat([1.0, 2.0, -1.0, 5.0], [200, 100, 150, 10])
    statistic = 60.0 - 0.25 * weights.sum() + 100
    result = weighted_test(statistic, weights, QUARTER)
    assert result.method == "exact (convolution)"
    # the same law by repeated convolution of single units
    pmf, lowest = np.ones(1), 0
    for w in weights.astype(int):
        unit = np.zeros(abs(w) + 1)
        unit[0 if w > 0 else -1] += 0.75
        unit[-1 if w > 0 else 0] += 0.25
        pmf = np.convolve(pmf, unit)
        lowest += min(w, 0)
    sums = np.arange(len(pmf)) + lowest - 0.25 * weights.sum()
    expected = pmf[sums >= statistic - 1e-9].sum()
    assert result.log10_pvalue == pytest.approx(np.log10(expected), rel=1e-9)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("sign", ["positive", "both"])
def test_approximations_and_bound_under_the_null(law, sign):
    rng = np.random.default_rng(7)
    w = rng.exponential(size=60) if sign == "positive" else rng.normal(size=60)
    runs = 4000
    if isinstance(law, BernoulliLaw):
        scores = (rng.random((runs, 60)) < float(law.share)).astype(float)
    elif isinstance(law, ExponentialLaw):
        scores = rng.exponential(size=(runs, 60))
    elif isinstance(law, DualExponentialLaw):
        scores = 0.9 * rng.exponential(size=(runs, 60)) + 0.1 * rng.exponential(size=(runs, 60))
    else:
        scores = rng.integers(0, 2, (runs, 60, 2)) @ np.array(law.weights)
    statistics = (scores - law.mean) @ w
    problem = WeightedSum(w, law)
    results = [problem.test(t) for t in statistics[:400]]
    drawn = np.array([r.pvalue for r in results])
    bound = np.array([10**r.log10_bound for r in results])
    saddle = np.array([10**r.log10_saddlepoint for r in results])
    # valid: the share below alpha may exceed it by the noise of 400 runs only
    for alpha in (0.01, 0.05, 0.2, 0.5):
        for pvalues in (drawn, bound):
            assert (pvalues <= alpha).mean() <= alpha + 3 * np.sqrt(alpha / 400)
    assert scipy_stats.kstest(saddle, "uniform").pvalue > 1e-3
    assert (bound >= saddle - 1e-3).all()
    # the saddle point's p at the 99 % point of 4,000 runs
    at = np.quantile(statistics, 0.99)
    assert 10 ** weighted_test(at, w, law).log10_saddlepoint == pytest.approx(0.01, rel=0.4)


def test_saddlepoint_is_close_to_the_exact_gamma_far_out():
    # weights nearly equal, so that the tail is nearly gamma's; scipy.stats.gamma.logsf
    w = np.full(500, 1.0)
    w[0] += 1e-9
    for x in (550.0, 700.0, 1500.0):
        result = weighted_test(x - 500, w, ExponentialLaw())
        exact = scipy_stats.gamma.logsf(x, 500) / np.log(10)
        assert result.log10_saddlepoint == pytest.approx(exact, rel=1e-4)
        assert exact < result.log10_bound < exact + 2.5
        assert weighted_test(x - 500, w, ExponentialLaw(), draws=0).log10_pvalue == (
            result.log10_bound
        )


def permutation_tail(weights, groups, size, vocab, statistic):
    """Exact P(T >= statistic) where each group's list is a random subset of `size` of `vocab`."""
    values, chances = np.zeros(1), np.ones(1)
    for group in np.unique(groups):
        w = np.zeros(vocab)
        mine = weights[groups == group]
        w[: len(mine)] = mine
        sums = np.array([w[list(chosen)].sum() for chosen in combinations(range(vocab), size)])
        sums -= w.sum() * size / vocab
        values = (values[:, None] + sums).ravel()
        chances = np.repeat(chances, len(sums)) / comb(vocab, size)
    return chances[values >= statistic - 1e-12].sum()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.floats(-2, 2).filter(lambda w: abs(w) > 1e-3)),
        min_size=2,
        max_size=10,
    ),
    st.floats(0.0, 4.0),
)
def test_lists_drawn_without_replacement_are_bounded(units, statistic):
    groups = np.array([group for group, _ in units])
    weights = np.array([w for _, w in units])
    size, vocab = 3, 9
    if np.bincount(groups).max() > vocab:
        return
    law = BernoulliLaw(Fraction(size, vocab))
    result = weighted_test(statistic, weights, law, groups=groups, list_size=size, vocab_size=vocab)
    exact = permutation_tail(weights, groups, size, vocab, statistic)
    assert 10**result.log10_bound >= exact * (1 - 1e-9)


def test_grouped_variance_and_validity_on_permutations():
    rng = np.random.default_rng(3)
    vocab, size, n_groups = 40, 10, 30
    groups = np.repeat(np.arange(n_groups), 25)
    tokens = np.concatenate([rng.permutation(vocab)[:25] for _ in range(n_groups)])
    weights = rng.normal(size=len(groups)) + 0.2
    law = BernoulliLaw(Fraction(size, vocab))
    runs = 3000
    rank = rng.random((runs, n_groups, vocab)).argsort(axis=2).argsort(axis=2)
    statistics = ((rank[:, groups, tokens] < size) - 0.25) @ weights

    problem = WeightedSum(weights, law, groups=groups, list_size=size, vocab_size=vocab)
    test = problem.test

    first = test(float(statistics[0]))
    assert first.grouped
    assert first.method.startswith("importance sampling")
    assert first.variance == pytest.approx(statistics.var(), rel=0.1)
    # ignoring the groups would give another variance, and the runs tell them apart
    independent = weighted_test(1.0, weights, law).variance
    assert abs(first.variance / statistics.var() - 1) < abs(independent / statistics.var() - 1)
    results = [test(t) for t in statistics[:400]]
    for alpha in (0.01, 0.05, 0.2, 0.5):
        share = np.mean([r.pvalue <= alpha for r in results])
        assert share <= alpha + 3 * np.sqrt(alpha / 400)
    normal = [10**r.log10_normal for r in results]
    assert scipy_stats.kstest(normal, "uniform").pvalue > 1e-3


def test_single_unit_groups_are_independent():
    weights = np.linspace(-1, 2, 40)
    plain = weighted_test(5.0, weights, QUARTER)
    grouped = weighted_test(
        5.0, weights, QUARTER, groups=np.arange(40), list_size=100, vocab_size=400
    )
    assert grouped.log10_pvalue == plain.log10_pvalue
    assert grouped.variance == pytest.approx(plain.variance, rel=1e-12)


def test_million_weights_and_p_beyond_floats():
    rng = np.random.default_rng(0)
    w = rng.normal(size=1_000_000)
    for law in (QUARTER, ExponentialLaw()):
        result = weighted_test(80_000.0, w, law)
        z = result.zscore
        assert result.log10_pvalue < -1000
        assert result.pvalue == 0.0
        # far below the mean's variance scale the exponent is z^2 / 2 up to the skewness
        assert result.log10_pvalue == pytest.approx(-(z**2) / 2 / np.log(10), rel=0.25)
        assert result.log10_saddlepoint < result.log10_pvalue


@pytest.mark.parametrize("law", LAWS)
def test_the_ends(law):
    none = weighted_test(0.0, [], law)
    assert (none.log10_pvalue, none.n_units) == (0.0, 0)
    assert weighted_test(1.0, [0.0, 0.0], law).log10_pvalue == -np.inf
    assert weighted_test(-3.0, [1.0, -2.0] * 20, law).log10_pvalue >= -0.31 or law == QUARTER
    low, high = law.bounds
    if np.isfinite(high):
        w = np.array([1.0, 2.0, -1.5] * 10)
        top = w[w > 0].sum() * (high - law.mean) + w[w < 0].sum() * (low - law.mean)
        assert weighted_test(top * 1.001, w, law).log10_pvalue == -np.inf
        at_top = weighted_test(top, w, law)
        assert -400 < at_top.log10_pvalue < -2
    negative = weighted_test(100.0, [-1.0, -1.1, -1.2], law)
    assert negative.log10_pvalue == -np.inf  # at most the sum of |w| times the mean


def test_repr_shows_everything_but_what_made_it():
    text = repr(weighted_test(3.0, [1.0, -2.0, 0.5], QUARTER))
    for name in (field.name for field in fields(WeightedResult)):
        assert (f" {name}: " in text) == (name != "provenance")
    assert "pvalue" in text
    with pytest.raises(AttributeError):
        weighted_test(3.0, [1.0], QUARTER).statistic = 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [[1.0]]}, "one dimension"),
        ({"weights": [1.0, float("nan")]}, r"weights\[1\]"),
        ({"statistic": float("nan")}, "NaN"),
        ({"weights": [1e-200]}, "largest weight"),
        ({"weights": [1e150]}, "largest weight"),
        ({"list_size": 1}, "go with groups"),
        ({"groups": [1, 2]}, "need list_size"),
        ({"groups": [1.0, 2.0], "list_size": 1, "vocab_size": 4}, "integers of shape"),
        ({"groups": [1], "list_size": 1, "vocab_size": 4}, "integers of shape"),
        ({"groups": [1, 2], "list_size": 1, "vocab_size": 5}, "law's share"),
        ({"groups": [1, 2], "list_size": 1, "vocab_size": 4, "law": ExponentialLaw()}, "Bernoulli"),
        ({"groups": [1] * 5, "list_size": 1, "vocab_size": 4, "weights": [1.0] * 5}, "5 units"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    arguments = {"statistic": 1.0, "weights": [1.0, 2.0], "law": QUARTER, **changes}
    with pytest.raises(ArgumentError, match=message):
        weighted_test(**arguments)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("scale", [0.03, 1.0, 1.7])
def test_the_mixture_is_the_sum_of_its_fixed_terms_and_costs_what_the_docs_say(law, scale):
    """Terms that are left out are too small to matter, and could only enlarge the p-value."""
    weights = scale * np.linspace(0.9, 1.1, 10_000)
    for z, digits in ((0.5, 1.7), (3, 1.4), (5, 1.6), (10, 1.9), (20, 2.3), (40, 2.8)):
        statistic = z * float(np.sqrt(law.variance * (weights @ weights)))
        result = weighted_test(statistic, weights, law, predictable=True)
        assert "mixture of 193" in result.method
        terms = []
        for t in 2.0 ** np.arange(-18, 6.1, 0.125):
            with np.errstate(all="ignore"):
                k0 = float(law.cumulants(weights * t)[0].sum())
            terms.append(t * statistic - k0 if np.isfinite(k0) else -np.inf)
        top = max(terms)
        full = np.log(193) - top - np.log(np.exp(np.array(terms) - top).sum())
        expected = min(0.0, full / np.log(10))
        assert expected - 1e-9 <= result.log10_pvalue <= min(0.0, expected + 0.1)
        bound = weighted_test(statistic, weights, law)
        if bound.method.startswith("exponential"):
            assert result.log10_pvalue - bound.log10_pvalue <= digits


def test_weights_that_look_back_need_the_bound_for_martingales():
    """Looking at each of many moments and stopping at the best is what predictable weights can do.

    A unit after the stop has weight 0. The bound for fixed weights fails then; the mixture holds.
    """
    law = BernoulliLaw(Fraction(1, 2))
    rng = np.random.default_rng(20)
    moments = np.unique(np.geomspace(8, 2000, 14).astype(int))
    runs, level = 400, np.log10(0.05)
    reached = {False: 0, True: 0}
    for _ in range(runs):
        sums = np.cumsum(rng.integers(0, 2, moments[-1]) - 0.5)
        for predictable in reached:
            reached[predictable] += any(
                weighted_test(
                    sums[n - 1] * 1.01,
                    np.full(n, 1.01),  # no lattice of ones: no exact law
                    law,
                    groups=np.arange(n),
                    list_size=500,
                    vocab_size=1000,
                    predictable=predictable,
                ).log10_pvalue
                <= level
                for n in moments
                if sums[n - 1] > 0.8 * np.sqrt(n)
            )
    assert reached[False] > 0.05 * runs + 3 * np.sqrt(0.05 * 0.95 * runs)
    assert reached[True] <= 0.05 * runs


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("z", [4.0, 8.0, 20.0])
def test_predictable_weights_cost_little(scale, z):
    rng = np.random.default_rng(int(z))
    weights = scale * rng.normal(size=5000)
    law = BernoulliLaw(Fraction(1, 4))
    statistic = z * np.sqrt(law.variance * (weights @ weights))
    fixed = weighted_test(statistic, weights, law, draws=0)
    looking = weighted_test(statistic, weights, law, predictable=True)
    assert fixed.log10_pvalue <= looking.log10_pvalue < 0.9 * fixed.log10_pvalue + 1.3
    assert looking.method.startswith("martingale bound")
    assert weighted_test(-1.0, weights, law, predictable=True).log10_pvalue == 0
