"""A fixed number of looks: the boundary of Lan and DeMets, the level, and the power."""

from fractions import Fraction

import numpy as np
import pytest
from radscore.errors import ArgumentError
from radscore.stats import BernoulliLaw, DualExponentialLaw, ExponentialLaw, Looks, SynthIDLaw
from radscore.stats.looks import NullScores, spent
from scipy import stats as scipy_stats

QUARTER = BernoulliLaw(Fraction(1, 4))
LAWS = [QUARTER, ExponentialLaw(), DualExponentialLaw(0.2), SynthIDLaw(Fraction(1, 2), (2.0, 1.0))]


def test_spending_is_that_of_lan_and_demets():
    found = spent(0.025, [0.2, 0.4, 0.6, 0.8, 1.0])
    assert found.round(4).tolist() == [0.0, 0.0004, 0.0038, 0.0122, 0.025]


def test_boundaries_of_a_normal_walk():
    """ldbounds' z at five equal looks, alpha .025: 4.877, 3.357, 2.680, 2.290, 2.031."""
    rng = np.random.default_rng(0)
    m = 400_000
    walk = rng.normal(size=(5, m)).cumsum(axis=0)
    looks = Looks(np.arange(1, 6) / 5, alpha=0.025)
    z = [looks.look(-100.0, walk[k]).critical / np.sqrt(k + 1) for k in range(5)]
    assert z[1:] == pytest.approx([3.357, 2.680, 2.290, 2.031], abs=0.04)
    assert z[0] == np.inf  # 2e-7 is below one in 400,000
    assert not looks.results[-1].rejects


@pytest.mark.parametrize("m", [40, 199, 999])
def test_one_of_exchangeable_vectors_is_rejected_as_often_as_planned(m):
    """Exactly: each of the M + 1 vectors takes the place of the observed one in turn."""
    rng = np.random.default_rng(m)
    walk = np.cumsum(rng.normal(size=(4, m + 1)), axis=0)
    for alpha in (0.05, 0.1, 0.3):
        rejected = 0
        for one in range(0, m + 1, 1 if m < 300 else 25):
            looks = Looks([0.25, 0.5, 0.75, 1.0], alpha=alpha)
            for k in range(4):
                looks.look(walk[k, one], np.delete(walk[k], one))
            rejected += looks.results[-1].rejects
        if m < 300:
            assert rejected == np.floor((m + 1) * alpha + 1e-9)


def test_ties_are_never_rejected_in_part():
    looks = Looks([1.0], alpha=0.05)
    assert not looks.look(1.0, np.ones(99)).rejects
    looks = Looks([1.0], alpha=0.05)
    result = looks.look(2.0, np.r_[np.full(4, 2.0), np.zeros(95)])
    assert result.rejects
    assert result.critical == 0.0
    looks = Looks([1.0], alpha=0.05)
    assert not looks.look(2.0, np.r_[np.full(5, 2.0), np.zeros(94)]).rejects


@pytest.mark.parametrize("law", LAWS)
def test_drawn_scores_are_the_same_at_every_look(law):
    null = NullScores(law, 300, seed="abc")
    rng = np.random.default_rng(0)
    w = rng.normal(size=5000)
    whole = null.sums(w)
    assert whole == pytest.approx(null.sums(w))
    first, rest = w.copy(), w.copy()
    first[4500:] = 0.0
    rest[:4500] = 0.0
    assert null.sums(first) == pytest.approx(null.sums(w[:4500]), abs=1e-9)
    assert null.sums(first) + null.sums(rest) == pytest.approx(whole, abs=1e-9)
    z = whole / np.sqrt(law.variance * (w @ w))
    assert scipy_stats.kstest(z, "norm").pvalue > 1e-3
    assert not np.allclose(NullScores(law, 300, seed="abd").sums(w), whole)


def growing(k_looks, n, rng):
    """Weights of a unit grow from the look at which it is first seen."""
    first = rng.integers(0, k_looks, n)
    gains = rng.exponential(size=(k_looks, n))
    return np.array([np.where(first <= k, gains[: k + 1].sum(axis=0), 0.0) for k in range(k_looks)])


def share_found(effect, alpha, runs, seed):
    """Shares found by five looks and by the last one alone, and the looks taken."""
    rng = np.random.default_rng(seed)
    n, m = 400, 499
    weights = growing(5, n, rng)
    found = fixed = taken = 0
    for _ in range(runs):
        null = ((rng.random((m, n)) < 0.25) - 0.25) @ weights.T
        own = weights @ ((rng.random(n) < 0.25 + effect) - 0.25)
        looks = Looks([0.2, 0.4, 0.6, 0.8, 1.0], alpha=alpha)
        for k in range(5):
            taken += 1
            if looks.look(own[k], null[:, k]).rejects:
                break
        found += looks.results[-1].rejects
        fixed += (null[:, -1] >= own[-1]).sum() + 1 <= alpha * (m + 1)
    return found, fixed, taken / runs / 5


def test_level_and_power_of_five_looks_at_growing_weights():
    runs = 400
    found, _, _ = share_found(0.0, 0.05, runs, seed=1)
    assert scipy_stats.binomtest(found, runs, 0.05, "greater").pvalue > 1e-3
    found, fixed, taken = share_found(0.08, 0.05, runs, seed=2)
    assert fixed > 0.6 * runs
    assert found > 0.92 * fixed
    assert taken < 0.95


@pytest.mark.parametrize(
    ("information", "alpha", "message"),
    [
        ([0.5, 0.5, 1.0], 0.05, "ascend"),
        ([0.5, 0.9], 0.05, "ascend"),
        ([], 0.05, "ascend"),
        ([0.0, 1.0], 0.05, "ascend"),
        ([1.0], 0.0, "alpha"),
    ],
)
def test_bad_plans_are_refused(information, alpha, message):
    with pytest.raises(ArgumentError, match=message):
        Looks(information, alpha=alpha)


def test_bad_looks_are_refused():
    looks = Looks([0.5, 1.0], alpha=0.05)
    looks.look(0.0, np.zeros(30))
    with pytest.raises(ArgumentError, match="as before"):
        looks.look(0.0, np.zeros(31))
    with pytest.raises(ArgumentError, match="finite"):
        looks.look(float("nan"), np.zeros(30))
    last = looks.look(0.0, np.zeros(30))
    assert last.verdict == "no evidence so far"
    assert "planned look" in repr(last)
    with pytest.raises(ArgumentError, match="all 2 planned looks"):
        looks.look(0.0, np.zeros(30))
