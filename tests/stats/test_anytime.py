"""E-values: the martingales of confseq, mpmath's sums, and Ville's bound under simulated keys."""

import json
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.stats import (
    BernoulliLaw,
    DualExponentialLaw,
    EProcess,
    ExponentialLaw,
    SynthIDLaw,
    UnitsOfLists,
    anytime_test,
)
from radscore.stats import anytime as module
from scipy import stats as scipy_stats

QUARTER = BernoulliLaw(Fraction(1, 4))
HALF = BernoulliLaw(Fraction(1, 2))
BITS = SynthIDLaw(Fraction(1, 2), (0.1,) * 10)
LAWS = {
    "green": QUARTER,
    "rare": BernoulliLaw(Fraction(1, 50)),
    "gumbel": ExponentialLaw(),
    "dual": DualExponentialLaw(0.2),
    "bits": BITS,
}
GOLDEN = json.loads((Path(__file__).parents[1] / "golden/confseq_betting.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=str)
def test_each_tilt_is_a_bettor_of_confseq(case, monkeypatch):
    """A tilt bets (p - m) / (m (1 - m)) on every next unit, with m its share given those before."""
    x, log = np.array(case["x"]), np.array(case["log"])
    if case["population"] is None:
        process = EProcess(BernoulliLaw(Fraction(case["share"])))
        monkeypatch.setattr(process, "tilts", np.array([case["tilt"]]))
        monkeypatch.setattr(process, "weights", np.ones(1))
        monkeypatch.setattr(process, "_k", process.law.cumulants(process.tilts)[0])
        n = np.arange(1, len(x) + 1)
        assert process.log10(np.cumsum(x), n) * np.log(10) == pytest.approx(log, abs=1e-9)
        return
    units = UnitsOfLists(case["green"], case["population"])
    monkeypatch.setattr(units, "_tilts", np.array([case["tilt"]]))
    monkeypatch.setattr(units, "_weights", np.ones(1))
    monkeypatch.setattr(units, "_logs", np.zeros(1))
    for one, expected in zip(x, log, strict=True):
        units.add([0], [one])
        assert units.log10_evalue * np.log(10) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**7), st.floats(0, 1), st.sampled_from([0.01, 0.1, 1.0]))
def test_the_mixture_is_the_audits_formula(n, share, effect):
    """For gamma = 1/2, in 50 digits: p_k = g + .0008 * 2^(k / 2), half-normal, a twentieth even."""
    s = int(share * n)
    with mpmath.workdps(50):
        d = [mpmath.mpf("0.0016") * mpmath.sqrt(2) ** k for k in range(19)]
        prior = [x * mpmath.e ** (-(x**2) / (2 * mpmath.mpf(effect) ** 2)) for x in d]
        total = mpmath.mpf(0)
        for x, weight in zip(d, prior, strict=True):
            p = mpmath.mpf("0.5") + x / 2
            pi = mpmath.mpf("0.95") * weight / sum(prior) + mpmath.mpf("0.05") / 19
            total += pi * (2 * p) ** s * (2 * (1 - p)) ** (n - s)
        expected = float(mpmath.log10(total))
    assert EProcess(HALF, effect).log10(s, n) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_every_tilt_has_mean_one(name):
    """exp(t (s - mean) - K(t)) under the null, and its effect under the tilt, by quadrature."""
    law = LAWS[name]
    process = EProcess(law)
    root = law.variance**0.5
    assert process.weights.sum() == pytest.approx(1.0, abs=1e-12)
    if isinstance(law, BernoulliLaw):
        g = law.mean
        scores, chances = np.array([0.0, 1.0]), np.array([1 - g, g])
    elif isinstance(law, SynthIDLaw):
        scores = np.arange(11) / 10
        chances = scipy_stats.binom.pmf(np.arange(11), 10, 0.5)
    else:  # a score is a weighted sum of one or two exponential ones
        alpha = getattr(law, "alpha", 0.0)
        e = np.linspace(0, 80, 200_001) + 2e-4
        for tilt, effect in zip(process.tilts, module._EFFECTS, strict=False):
            mean, log = 0.0, 0.0
            for scale in (1 - alpha, alpha):
                density = np.exp(-e * (1 - scale * tilt))
                log += np.log(density.sum() * 4e-4) - scale * tilt
                mean += scale * ((e * density).sum() / density.sum() - 1)
            assert log == pytest.approx(law.cumulants(tilt)[0], abs=1e-6)
            assert mean == pytest.approx(effect * root, abs=1e-6)
        return
    for tilt, effect in zip(process.tilts, module._EFFECTS, strict=False):
        factor = chances * np.exp(tilt * (scores - law.mean) - law.cumulants(tilt)[0])
        assert factor.sum() == pytest.approx(1.0, rel=1e-9)
        assert factor @ scores - law.mean == pytest.approx(effect * root, rel=1e-9)


def sums(law, rng, runs, steps, effect=0.0):
    """Sums of `steps` batches of 100 units."""
    if isinstance(law, BernoulliLaw):
        p = law.mean + effect * law.variance**0.5
        return rng.binomial(100, p, (runs, steps)).cumsum(axis=1)
    if isinstance(law, ExponentialLaw):
        return (rng.gamma(100, 1 + effect, (runs, steps))).cumsum(axis=1)
    if isinstance(law, DualExponentialLaw):
        gammas = rng.gamma(100, 1, (2, runs, steps))
        return ((1 - law.alpha) * gammas[0] + law.alpha * gammas[1]).cumsum(axis=1)
    return rng.binomial(1000, 0.5, (runs, steps)).cumsum(axis=1) / 10


@pytest.mark.parametrize("name", LAWS)
def test_a_look_after_every_batch_of_100(name):
    law, runs, steps = LAWS[name], 4000, 200
    rng = np.random.default_rng(5)
    process = EProcess(law, 0.1)
    logs = process.log10(sums(law, rng, runs, steps), 100 * np.arange(1, steps + 1))
    largest = logs.max(axis=1)
    for alpha in (0.05, 0.01, 0.001):
        reached = int((largest >= -np.log10(alpha)).sum())
        assert scipy_stats.binomtest(reached, runs, alpha, "greater").pvalue > 1e-3
    assert (largest >= -np.log10(0.05)).mean() > 0.005  # and not for want of trying
    # whereas the fixed test, looked at as often, rejects far too often
    p = law.log10_sf(sums(law, rng, 200, 40)[:, 4::5], 500 * np.arange(1, 9))
    assert (p.min(axis=1) <= np.log10(0.05)).mean() > 0.08


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("law", [QUARTER, ExponentialLaw()])
def test_it_takes_at_most_the_sample_of_the_fixed_test(law, ratio):
    """At alpha = .001 and power .9, with the planned effect right within a factor of two."""
    d, runs = 0.1, 1500
    n = 500
    while True:  # the fixed test's sample, by its exact law
        n = int(n * 1.02) + 1
        s = np.arange(n + 1.0) if law is QUARTER else np.linspace(0.9 * n, 1.4 * n, 3000)
        critical = s[np.argmax(law.log10_sf(s, n) <= -3)]
        if law is QUARTER:
            power = scipy_stats.binom.sf(critical - 1, n, 0.25 + d * law.variance**0.5)
        else:
            power = scipy_stats.gamma.sf(critical / (1 + d), n)
        if power >= 0.9:
            break
    steps = int(np.ceil(4 * n / 100))
    rng = np.random.default_rng(6)
    logs = EProcess(law, d * ratio).log10(
        sums(law, rng, runs, steps, d), 100 * np.arange(1, steps + 1)
    )
    found = logs >= 3
    assert found.any(axis=1).mean() > 0.99
    taken = 100 * np.where(found.any(axis=1), found.argmax(axis=1) + 1, steps)
    assert 0.7 < taken.mean() / n < 1.05
    assert np.quantile(taken, 0.9) < 1.6 * n


def reached(size, vocab, order, level, process):
    """P(E ever reaches the level) over lists drawn without replacement, in a fixed order."""
    states, seen, total = {(0,) * (max(order) + 1): 1.0}, [0] * (max(order) + 1), 0.0
    for n, one in enumerate(order, 1):
        following = {}
        for greens, chance in states.items():
            share = (size - greens[one]) / (vocab - seen[one])
            for green, factor in ((1, share), (0, 1 - share)):
                now = (*greens[:one], greens[one] + green, *greens[one + 1 :])
                if factor > 0 and process.log10(sum(now), n) >= np.log10(level) - 1e-12:
                    total += chance * factor
                elif factor > 0:
                    following[now] = following.get(now, 0.0) + chance * factor
        states, seen[one] = following, seen[one] + 1
    return total


@pytest.mark.parametrize("effect", [0.1, 0.5, 1.5])
@pytest.mark.parametrize(
    ("size", "vocab", "order"),
    [
        (3, 12, [0] * 12),
        (10, 20, [0] * 20),
        (3, 6, [0, 1, 2] * 6),
        (2, 4, [0] * 4 + [1] * 4 + [2] * 4),
        (1, 2, [0, 0, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_lists_read_to_their_end_are_no_worse(size, vocab, order, effect):
    process = EProcess(BernoulliLaw(Fraction(size, vocab)), effect)
    for level in (2.0, 3.0, 5.0, 10.0, 20.0):
        assert reached(size, vocab, order, level, process) <= 1 / level


def test_units_chosen_by_what_was_seen():
    """A suspect who asks on where few greens are left to be missed beats gamma, not the lists."""
    rng = np.random.default_rng(1)
    size, vocab, runs = 2, 4, 120
    crossed = {"lists": 0, "gamma": 0}
    naive = EProcess(BernoulliLaw(Fraction(size, vocab)), 1.0)
    for _ in range(runs):
        units, s, n, best = UnitsOfLists(size, vocab, 1.0), 0, 0, 0.0
        for name in range(60):
            greens = rng.permutation([True, True, False, False])
            # goes on with a list only where its first token was red
            for green in greens[: 1 if greens[0] else 3]:
                units.add([name], [green])
                s, n = s + int(green), n + 1
                best = max(best, naive.log10(s, n))
        crossed["lists"] += units.log10_pvalue <= np.log10(0.05)
        crossed["gamma"] += best >= -np.log10(0.05)
    assert scipy_stats.binomtest(crossed["lists"], runs, 0.05, "greater").pvalue > 1e-3
    assert crossed["gamma"] > 0.1 * runs


def test_looks_and_merging():
    result = anytime_test([60, 131, 150], [200, 400, 600], QUARTER)
    assert result.n_looks == 3
    assert result.log10_pvalue == pytest.approx(-EProcess(QUARTER).log10(131, 400), abs=1e-9)
    assert result.log10_evalue == pytest.approx(EProcess(QUARTER).log10(150, 600), abs=1e-9)
    assert result.pvalue == pytest.approx(10**result.log10_pvalue)
    assert anytime_test(100, 600, QUARTER).log10_pvalue == 0.0
    huge = anytime_test(10**6, 10**6, QUARTER)
    assert huge.evalue == float("inf")
    assert "e+" not in repr(huge)
    assert anytime_test(0, 0, QUARTER).log10_evalue == pytest.approx(0.0, abs=1e-12)
    lists = anytime_test(100, 600, QUARTER, lists=True)
    assert "taken as independent" in lists.method


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], []), {}, "one number for each look"),
        (([1, 2], [3]), {}, "one number for each look"),
        (([1, 2], [5, 3]), {}, "descend"),
        ((1, 5), {"effect": 0.0}, "above 0"),
        ((float("nan"), 5), {}, "finite"),
        ((1, -5), {}, "not negative"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, message):
    with pytest.raises(ArgumentError, match=message):
        anytime_test(*arguments, QUARTER, **options)
    with pytest.raises(ArgumentError, match="list_size"):
        UnitsOfLists(4, 4)
    full = UnitsOfLists(1, 2)
    with pytest.raises(ArgumentError, match="more units"):
        full.add([0, 0], [True, True])
    with pytest.raises(ArgumentError, match="one shape"):
        full.add([0, 0], [True])


SCHEME = rs.Keyed(vocab_size=60, key=bytes(16), gamma=0.25, context_width=1)
TEXT = np.random.default_rng(0).integers(0, 60, (5, 400))


def test_score_gives_e_values_of_text_and_its_curve():
    plain = rs.score(TEXT, SCHEME, curve=[300, 900])
    assert plain.anytime is None
    result = rs.score(TEXT, SCHEME, curve=[300, 900], anytime=True)
    assert result.replace(anytime=None) == plain
    looks = [*plain.curve, plain]
    assert result.anytime.n_looks == 3
    logs = EProcess(QUARTER).log10(
        [look.statistic for look in looks], [look.n_scored for look in looks]
    )
    assert result.anytime.log10_evalue == pytest.approx(logs[-1], abs=1e-9)
    assert result.anytime.log10_pvalue == pytest.approx(min(0.0, -max(logs)), abs=1e-9)
    assert rs.score(TEXT, SCHEME, anytime=0.5).anytime.effect == 0.5
    assert "however often one looks" in repr(result)
    assert result.to_dict()["anytime"]["log10_evalue"] == result.anytime.log10_evalue


def test_score_refuses_where_looks_have_no_martingale():
    tabled = rs.SynthID(keys=[5, 6, 7], vocab_size=300, context_width=2)
    with pytest.raises(ArgumentError, match=r"no e-value for .* with a table"):
        rs.score(TEXT, tabled, anytime=True)
    with pytest.raises(ArgumentError, match="repetitions were counted"):
        rs.score(TEXT, SCHEME, dedup="none", anytime=True)
    with pytest.raises(ArgumentError, match="effect must be"):
        rs.score(TEXT, SCHEME, anytime=-1.0)
