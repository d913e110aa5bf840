"""Importance sampling: near the truth wherever it is known, and valid whatever is drawn.

The truth comes from enumeration, from scipy's gamma law, from exact laws of other files, and from
all choices of small lists.
"""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from radscore.stats import (
    BernoulliLaw,
    DualExponentialLaw,
    ExponentialLaw,
    SynthIDLaw,
    weighted_test,
)
from radscore.stats.exact import exact_log_sf
from radscore.stats.importance import Draws, n_draws, seed_of
from radscore.stats.lists import Lists
from radscore.stats.moments import Grouped, Independent
from radscore.stats.stored import Stored
from radscore.stats.weighted import WeightedSum
from scipy import stats as scipy_stats

QUARTER = BernoulliLaw(Fraction(1, 4))
BITS = SynthIDLaw(Fraction(1, 2), (0.2,) * 5)


def near(log, truth, rel=0.3):
    """Whether two probabilities, given by their logs, agree up to what 4,000 draws miss."""
    return abs(log - truth) < rel


@pytest.mark.parametrize("seed", range(4))
def test_all_outcomes(seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=14) * rng.exponential(size=14)
    values, chances = np.zeros(1), np.ones(1)
    for one in w:
        values = np.concatenate([values - 0.25 * one, values + 0.75 * one])
        chances = np.concatenate([0.75 * chances, 0.25 * chances])
    draws = Draws(Independent(w, QUARTER), 4000, seed_of(w))
    for at in (0.5, 0.9, 0.99, 0.9999):
        # in the middle of a gap between values
        t = np.sort(values)[int(at * len(values)) - 1]
        truth = chances[values >= t - 1e-9].sum()
        assert near(draws.log_pvalue(t, slack=1e-9), np.log(truth), 0.5)


@pytest.mark.parametrize("z", [1.0, 3.0, 5.0, 9.0, 14.0, 25.0])
def test_whole_weights(z):
    w = np.repeat([1.0, 2.0, -1.0, 5.0], [200, 100, 150, 10])
    law = BernoulliLaw(Fraction(1, 2))
    for order in (w, w + 0.0 * np.arange(len(w)), np.random.default_rng(0).permutation(w)):
        problem = Independent(order, law)
        t = float(np.rint(z * problem.variance**0.5)) + 0.5 * (w.sum() % 2)
        truth = exact_log_sf(t, order, law)
        draws = Draws(problem, 4000, "abc")
        if truth is not None and truth[0] > -np.inf:
            assert near(draws.log_pvalue(t, slack=1e-9), truth[0], 0.4 + 0.002 * z * z)


@pytest.mark.parametrize(
    ("law", "truth"),
    [
        (QUARTER, QUARTER.log10_sf),
        (ExponentialLaw(), lambda s, n: scipy_stats.gamma.logsf(s, n) / np.log(10)),
        (DualExponentialLaw(0.3), DualExponentialLaw(0.3).log10_sf),
        (BITS, BITS.log10_sf),
    ],
)
@pytest.mark.parametrize("equal", [True, False])
def test_equal_weights(law, truth, equal):
    """Equal weights are drawn together; those that differ by next to nothing one by one."""
    n = 900
    w = np.ones(n) if equal else 1.0 + 1e-11 * np.arange(n)
    problem = Independent(w, law)
    draws = Draws(problem, 4000, "1")
    for z in (-2.0, 0.0, 1.5, 4.0, 8.0, 13.0):
        total = n * law.mean + z * problem.variance**0.5
        unit = 1.0 if law == QUARTER else 0.2 if law == BITS else 0.0
        total = np.ceil(total / unit - 1e-9) * unit if unit else total
        expected = truth(total, n) * np.log(10)
        got = draws.log_pvalue(total - n * law.mean, slack=1e-6)
        assert near(got, expected, 0.3 + 0.0005 * z**3)


def permuted(w, index, size, vocab):
    """All values of each list's ``sum w (s - share)``."""
    for one in np.unique(index):
        full = np.zeros(vocab)
        mine = w[index == one]
        full[: len(mine)] = mine
        sums = [full[list(some)].sum() for some in combinations(range(vocab), size)]
        yield np.array(sums) - mine.sum() * size / vocab


@pytest.mark.parametrize("short", [0, 48])
@pytest.mark.parametrize(("vocab", "size"), [(9, 3), (12, 5), (13, 2)])
def test_moments_of_lists_are_exact(vocab, size, short, monkeypatch):
    monkeypatch.setattr("radscore.stats.lists._SHORT", short)
    rng = np.random.default_rng(vocab)
    index = np.repeat(np.arange(5), [1, 2, vocab, 7, vocab - 1])
    w = rng.normal(size=len(index))
    lists = Lists(w, index, size, vocab)
    for tilt in (-3.0, 0.0, 0.4, 2.0, 9.0):
        truth = sum(np.log(np.exp(tilt * sums).mean()) for sums in permuted(w, index, size, vocab))
        assert lists.log_moment(tilt) == pytest.approx(truth, abs=1e-9)


def test_moments_of_long_lists_are_those_of_short_ones(monkeypatch):
    rng = np.random.default_rng(1)
    index = np.repeat(np.arange(6), 120)
    w = rng.normal(size=len(index))
    for size, vocab in ((8000, 32000), (64, 256), (120, 121), (15, 30_000)):
        found = []
        for short in (0, 200):
            monkeypatch.setattr("radscore.stats.lists._SHORT", short)
            lists = Lists(w, index, size, vocab)
            found.append([lists.log_moment(t) for t in (-0.2, 0.0, 0.3, 2.0)])
        assert found[0] == pytest.approx(found[1], abs=1e-8)


@pytest.mark.parametrize("tilt", [0.0, 0.7, -2.0, 5.0])
def test_lists_are_drawn_as_the_tilt_says(tilt):
    vocab, size = 12, 5
    rng = np.random.default_rng(3)
    index = np.repeat(np.arange(4), [1, 12, 6, 11])
    w = rng.normal(size=len(index))
    n = 40_000
    values = Lists(w, index, size, vocab).draw(np.random.default_rng(9), tilt, n)
    cumulants = np.zeros(3)  # which add up over lists
    for sums in permuted(w, index, size, vocab):
        shares = np.exp(tilt * (sums - sums.max()))
        shares /= shares.sum()
        mean = shares @ sums
        cumulants += mean, shares @ (sums - mean) ** 2, shares @ (sums - mean) ** 3
    mean, variance, third = cumulants
    gaps = values - mean
    assert abs(gaps.mean()) < 4.5 * np.sqrt(variance / n)
    assert abs((gaps**2).mean() - variance) < 4.5 * np.std(gaps**2) / np.sqrt(n)
    assert abs((gaps**3).mean() - third) < 4.5 * np.std(gaps**3) / np.sqrt(n)


@pytest.mark.parametrize("z", [2.0, 4.0, 6.0])
def test_p_values_of_lists(z):
    """Against all 36 choices of each of eight lists, convolved on a grid of whole weights."""
    vocab, size, n_lists = 9, 2, 8
    rng = np.random.default_rng(2)
    index = np.repeat(np.arange(n_lists), 7)
    w = rng.integers(-9, 10, len(index)) + 0.0
    law = BernoulliLaw(Fraction(size, vocab))
    pmf, lowest = np.ones(1), 0
    for one in range(n_lists):
        full = np.zeros(vocab, int)
        full[:7] = w[index == one]
        sums = np.array([full[list(some)].sum() for some in combinations(range(vocab), size)])
        part = np.bincount(sums - sums.min()) / len(sums)
        pmf, lowest = np.convolve(pmf, part), lowest + sums.min()
    w[w == 0.0] = 0.0
    problem = WeightedSum(w, law, groups=index, list_size=size, vocab_size=vocab, draws=4000)
    root = problem.test(1.0).variance ** 0.5
    mean = w.sum() * size / vocab
    t = np.ceil(z * root + mean) - mean
    truth = pmf[np.arange(len(pmf)) + lowest - mean >= t - 1e-9].sum()
    result = problem.test(t)
    if truth > 0:
        assert near(result.log10_pvalue * np.log(10), np.log(truth))
        # and the bound beside it, by exact moments, is a bound
        assert np.log10(truth) < result.log10_bound < np.log10(truth) + 1.5


def simulated(w, law, rng, runs):
    if isinstance(law, BernoulliLaw):
        return ((rng.random((runs, len(w))) < law.mean) - law.mean) @ w
    return (rng.exponential(size=(runs, len(w))) - 1.0) @ w


@pytest.mark.parametrize("law", [QUARTER, ExponentialLaw()])
@pytest.mark.parametrize("m", [1, 19, 200])
def test_under_the_null_with_any_number_of_draws(law, m):
    """Validity does not need many draws: each key has draws of its own here."""
    rng = np.random.default_rng(m)
    w = rng.normal(size=30) * rng.exponential(size=30)
    problem = Independent(w, law)
    runs = 600
    logs = [
        [Draws(problem, m, f"{seed:x}").log_pvalue(t) for t in simulated(w, law, rng, 20)]
        for seed in range(1, 1 + runs // 20 * (4 if m == 19 else 1))
    ]
    # draws are shared by 20 keys, so the standard error is at most that of so many sets
    shares = {
        alpha: np.mean(np.array(logs) <= np.log(alpha), axis=1) for alpha in (0.3, 0.05, 0.01)
    }
    for alpha, share in shares.items():
        assert share.mean() <= alpha + 3.5 * np.sqrt(max(share.var(), alpha / 20) / len(share))
    if m == 200:
        assert shares[0.05].mean() > 0.02


def test_what_the_audit_promises():
    """400 draws at 5 standard deviations: near the truth, where the bound is 11 times too large.

    The truth is the saddlepoint formula's, which is exact to a percent for 4,000 units. That the
    observed value counts as a draw makes p too large by a quarter on average.
    """
    rng = np.random.default_rng(0)
    w = rng.exponential(size=4000)
    problem = Independent(w, QUARTER)
    t = 5 * problem.variance**0.5
    truth = weighted_test(t, w, QUARTER)
    ratios = [
        np.exp(Draws(problem, 400, f"{seed:x}").log_pvalue(t)) / 10**truth.log10_saddlepoint
        for seed in range(1, 31)
    ]
    assert 1.0 < np.mean(ratios) < 1.5
    assert 0.4 < min(ratios) < max(ratios) < 2.7
    assert 10 ** (truth.log10_bound - truth.log10_saddlepoint) > 8


def test_the_same_data_have_the_same_draws(tmp_path):
    rng = np.random.default_rng(8)
    w = rng.normal(size=70_000)
    first = weighted_test(500.0, w, QUARTER)
    assert first == weighted_test(500.0, w, QUARTER)
    assert first.seed == seed_of(repr(QUARTER), w)
    assert (first.n_draws, first.method) == (1917, "importance sampling (1917 draws)")
    assert weighted_test(500.0, w[::-1], QUARTER).seed != first.seed
    assert weighted_test(500.0, w, BernoulliLaw(Fraction(1, 3))).seed != first.seed
    w.tofile(tmp_path / "w")
    filed = WeightedSum(Stored(tmp_path / "w", len(w)), QUARTER).test(500.0)
    assert filed == first
    given = weighted_test(500.0, w, QUARTER, seed="2a", draws=50)
    assert (given.seed, given.n_draws) == ("2a", 50)
    assert given.log10_pvalue != first.log10_pvalue
    without = weighted_test(500.0, w, QUARTER, draws=0)
    assert (without.log10_pvalue, without.n_draws, without.seed) == (first.log10_bound, 0, "")


def test_too_many_units_are_not_drawn():
    assert n_draws(0) == 0
    assert n_draws(5000) == 4000
    assert n_draws(10_000_000) == 400
    assert n_draws(11_000_000) == 0
    groups = Grouped(np.ones(3) + np.arange(3), QUARTER, np.array([0, 0, 1]), 2, 8)
    assert groups.numbers == pytest.approx(2 / np.sqrt(0.75) + 1 / np.sqrt(0.875))


def test_beyond_the_last_tilt_the_bound_is_the_p_value():
    w = np.random.default_rng(0).exponential(size=5000)
    root = (QUARTER.variance * (w @ w)) ** 0.5
    before, after, far = (weighted_test(z * root, w, QUARTER) for z in (39.99, 40.01, 50.0))
    assert far.log10_pvalue == far.log10_bound < after.log10_pvalue - 100
    assert after.log10_pvalue <= before.log10_pvalue < before.log10_bound + 3


@pytest.mark.parametrize(
    ("groups", "weights"),
    [
        ([0] * 8 + [1], [-1.926, -0.914, -0.684, -0.927, -1.245, -0.876, 0.924, -0.563, 0.348]),
        ([0, 0, 0, 1, 0, 0, 0, 0], [1.287, -0.062, 1.91, -0.149, -0.054, 0.795, 0.64, -0.764]),
        ([0, 1, 0, 0, 0, 0, 0], [0.002, 0.002, 0.002, -2.0, 0.002, 0.001001, 0.002]),
    ],
)
def test_lists_that_leave_a_tilt_no_choice_are_bounded_instead(groups, weights):
    """Nearly a whole vocabulary in one list: proposals would hardly ever be accepted."""
    result = weighted_test(
        1.0,
        np.array(weights),
        BernoulliLaw(Fraction(3, 9)),
        groups=np.array(groups),
        list_size=3,
        vocab_size=9,
    )
    assert result.n_draws == 0
    assert result.log10_pvalue == result.log10_bound
