"""The dual-key law, SynthID's laws and the claims about grids, against mpmath and exact sums.

Expected numbers: for two scaled gammas the negative-binomial mixture of gamma laws (Moschopoulos
1985), summed at 60 digits, up to n = 100; beyond, the inversion integral by mpmath's quadrature
at 60 digits, held against the former where both can be had, and the closed form at alpha = 1/2.
For weighted bits exact integer polynomials, and the inversion integral beyond.
"""

import math
import random
from fractions import Fraction
from math import comb

import mpmath as mp
import numpy as np
import pytest
from radscore.errors import ArgumentError
from radscore.stats import (
    BernoulliLaw,
    DualExponentialLaw,
    ExponentialLaw,
    SynthIDLaw,
    moment_matched_dual_log10_sf,
)
from scipy import stats as scipy_stats

RTOL = 1e-9
LINEAR = tuple(np.linspace(10.0, 1.0, 30))


def agree(got, expected, rtol=RTOL):
    with mp.workdps(60):
        if abs(expected) < mp.mpf(10) ** -300:
            return abs(got) < 1e-299
        return abs(mp.mpf(got) - expected) <= rtol * abs(expected)


def log10_of(upper, lower):
    with mp.workdps(60):
        value = mp.log(upper) if upper < lower else mp.log1p(-lower)
        return value / mp.log(10)


def dual_series(statistic, n, alpha):
    """Both tails of (1 - alpha) G1 + alpha G2 as a mixture of Gamma(2n + k) laws."""
    with mp.workdps(160):
        b = mp.mpf(alpha)
        low, high = min(b, 1 - b), max(b, 1 - b)
        r = 1 - low / high
        x = mp.mpf(statistic) / low
        weight = (low / high) ** n
        above = mp.gammainc(2 * n, x, mp.inf, regularized=True)
        below = mp.gammainc(2 * n, 0, x, regularized=True)
        term = mp.exp(-x + 2 * n * mp.log(x) - mp.loggamma(2 * n + 1))
        upper = lower = mp.mpf(0)
        k = 0
        while k < n * r / (1 - r) + 20 or weight > mp.mpf(10) ** -120 * upper:
            upper += weight * above
            lower += weight * below
            above, below = above + term, below - term
            term *= x / (2 * n + k + 1)
            weight *= r * (n + k) / (k + 1)
            k += 1
        return log10_of(upper, lower)


def invert(functions, low, high, statistic, *, mean, lattice):
    """log10 P(S >= statistic) by the inversion integral at 60 digits along a vertical line."""
    cumulant, first, second = functions
    with mp.workdps(60):
        s = mp.mpf(statistic)
        upper = s >= mean
        a, b = (mp.mpf(0), high) if upper else (low, mp.mpf(0))

        def pole(t):
            return 1 - mp.exp(-t) if lattice else t

        def slope(t):
            return first(t) - s - (mp.exp(-t) / pole(t) if lattice else 1 / t)

        for _ in range(300):
            middle = (a + b) / 2
            a, b = (middle, b) if slope(middle) < 0 else (a, middle)
        c = (a + b) / 2
        width = 1 / mp.sqrt(second(c) + 1 / c**2)
        height = cumulant(c) - c * s

        def f(y):
            t = mp.mpc(c, y)
            return mp.re(mp.exp(cumulant(t) - t * s - height) / pole(t))

        ends = [k * width for k in (0, 2, 5, 9, 14)]
        if lattice:
            ends = [e for e in ends if e < mp.pi]
        value = mp.quad(f, ends, method="gauss-legendre") / mp.pi
        tail = mp.log(abs(value)) + height
        return (tail if upper else mp.log1p(-mp.exp(tail))) / mp.log(10)


def dual_inversion(statistic, n, alpha):
    with mp.workdps(60):
        b = mp.mpf(alpha)
        a = 1 - b
        return invert(
            (
                lambda t: -n * (mp.log(1 - a * t) + mp.log(1 - b * t)),
                lambda t: n * (a / (1 - a * t) + b / (1 - b * t)),
                lambda t: n * ((a / (1 - a * t)) ** 2 + (b / (1 - b * t)) ** 2),
            ),
            -(mp.mpf(10) ** 15),
            1 / max(a, b),
            statistic,
            mean=n,
            lattice=False,
        )


def test_dual_oracles_agree_with_each_other():
    for z in (-3, 0.5, 6):
        n = 300
        x = n + z * (n * 0.82) ** 0.5
        assert agree(dual_inversion(x, n, 0.1), dual_series(x, n, 0.1), 1e-12)


def test_dual_equals_the_mixture_of_gammas():
    rng = random.Random(0)
    for _ in range(60):
        n = rng.choice([1, 2, 3, 5, 10, 40, 100])
        alpha = rng.choice([0.1, 0.3, 0.49, 0.25, 0.5, 0.9])
        x = n * rng.choice([0.3, 0.5, 0.9, 0.99, 1, 1.01, 1.1, 1.5, 2, 3, 5])
        assert agree(DualExponentialLaw(alpha).log10_sf(x, n), dual_series(x, n, alpha)), (
            x,
            n,
            alpha,
        )


def test_dual_equals_mpmath_up_to_1e12():
    rng = random.Random(1)
    for _ in range(25):
        n = int(10 ** rng.uniform(3, 12))
        z = rng.choice([-20, -3, 0.4, 5, 60, 700, 0.9 * n**0.5])
        alpha = rng.choice([0.1, 0.25, 0.02])
        x = n + z * (n * ((1 - alpha) ** 2 + alpha**2)) ** 0.5
        if x > 0:
            assert agree(DualExponentialLaw(alpha).log10_sf(x, n), dual_inversion(x, n, alpha)), (
                x,
                n,
                alpha,
            )


def test_dual_next_to_nothing_and_far_out():
    # P(S < x) = x^2 / (2 alpha (1 - alpha)) for one unit and small x, by expansion
    law = DualExponentialLaw(0.1)
    for x in (1e-9, 1e-20, 1e-100):
        assert law.log10_sf(x, 1) == pytest.approx(-(x**2) / 0.18 / np.log(10), rel=1e-7)
    # two exponentials in closed form: (0.9 exp(-x / 0.9) - 0.1 exp(-x / 0.1)) / 0.8
    for x in (1e6, 1e11, 1e13, 1e300):
        assert law.log10_sf(x, 1) == pytest.approx(
            (math.log(0.9 / 0.8) - x / 0.9) / np.log(10), rel=1e-12
        )


@pytest.mark.parametrize("n", [1, 7, 10**4, 10**9, 10**12])
def test_dual_at_its_ends_is_a_gamma(n):
    for z in (-20.0, -3.0, -0.5, 0.0, 2.0, 30.0, 1e5):
        x = n + z * n**0.5
        if x > 0:
            plain = ExponentialLaw()
            half = DualExponentialLaw(0.5).log10_sf(x, n)
            assert half == pytest.approx(plain.log10_sf(2 * x, 2 * n), rel=1e-10)
            for alpha in (0.0, 1.0):
                got = DualExponentialLaw(alpha).log10_sf(x, n)
                assert got == pytest.approx(plain.log10_sf(x, n), rel=1e-10)


def test_moment_matched_is_the_gamma_of_vllm():
    # scipy.stats.gamma.logsf with shape n / v and scale v, which is their formula
    rng = np.random.default_rng(0)
    n = rng.integers(1, 5000, 200)
    x = np.abs(n + 3 * np.sqrt(n) * rng.normal(size=200))
    v = 0.82
    np.testing.assert_allclose(
        moment_matched_dual_log10_sf(x, n, 0.1),
        scipy_stats.gamma.logsf(x, n / v, scale=v) / np.log(10),
        rtol=1e-9,
        atol=1e-13,
    )


def exact_weighted(steps, n, share):
    """All upper tails of sum_d steps[d] Bin_d(n, share), as integers over a common denominator."""
    a, b = share.numerator, share.denominator
    pmf = [1]
    for step in steps:
        ways = [comb(n, j) * a**j * (b - a) ** (n - j) for j in range(n + 1)]
        grown = [0] * (len(pmf) + step * n)
        for j, way in enumerate(ways):
            for i, x in enumerate(pmf):
                grown[i + j * step] += x * way
        pmf = grown
    tails = [0] * (len(pmf) + 1)
    for i in range(len(pmf) - 1, -1, -1):
        tails[i] = tails[i + 1] + pmf[i]
    return tails, b ** (n * len(steps))


@pytest.mark.parametrize(
    ("steps", "n", "share"),
    [
        ((3, 2, 1), 1, Fraction(1, 2)),
        ((3, 2, 1), 20, Fraction(1, 4)),
        ((10, 9, 8, 7, 6, 5, 4, 3, 2, 1), 5, Fraction(1, 2)),
        ((10, 7, 4, 1), 40, Fraction(32690, 65536)),
        ((5, 3), 150, Fraction(1, 10)),
        ((29, 14, 2), 9, Fraction(3, 5)),
    ],
)
def test_weighted_bits_equal_exact_sums(steps, n, share):
    tails, denominator = exact_weighted(steps, n, share)
    weights = tuple(0.3 * step for step in steps)
    law = SynthIDLaw(share, weights)
    assert law.method == "exact tail of the weighted bits"
    expected = []
    for tail in tails[:-1]:
        with mp.workdps(60):
            upper = mp.mpf(tail) / denominator
            expected.append(log10_of(upper, mp.mpf(denominator - tail) / denominator))
    sums = np.arange(len(expected)) * 0.3
    together = law.log10_sf(sums, n)
    for i, value in enumerate(expected):
        assert agree(together[i], value), (i, together[i], value)
    for i in range(0, len(sums), 7):  # one at a time takes another way than many
        assert agree(law.log10_sf(float(sums[i]), n), expected[i])
    assert law.log10_sf(float(sums[-1]) + 0.01, n) == -np.inf


def test_weighted_bits_equal_mpmath_up_to_1e12():
    steps = tuple(290 - 9 * d for d in range(30))
    unit = sum(LINEAR) / sum(steps)
    share = Fraction(1, 2)
    law = SynthIDLaw(share, LINEAR)

    def one(q, k):
        return (
            lambda t: mp.log(1 + q * mp.expm1(k * t)),
            lambda t: k * q * mp.exp(k * t) / (1 + q * mp.expm1(k * t)),
            lambda t: k * k * q * (1 - q) * mp.exp(k * t) / (1 + q * mp.expm1(k * t)) ** 2,
        )

    with mp.workdps(60):
        parts = [one(mp.mpf(1) / 2, k) for k in steps]
        for n, z in [(10**3, 4), (10**5, -3), (10**12, 25)]:
            index = int(n * sum(steps) / 2 + z * (n * sum(k * k for k in steps) / 4) ** 0.5)
            expected = invert(
                [lambda t, n=n, i=i: n * mp.fsum(p[i](t) for p in parts) for i in range(3)],
                -mp.mpf(1),
                mp.mpf(1),
                index,
                mean=mp.mpf(n) * sum(steps) / 2,
                lattice=True,
            )
            # in the middle between two values, where no rounding of the sum matters
            assert agree(law.log10_sf((index - 0.5) * unit, n), expected), (n, z)


@pytest.mark.parametrize("share", [Fraction(1, 1000), Fraction(1, 2), Fraction(999, 1000)])
@pytest.mark.parametrize("n", [1, 30, 10**6, 10**10])
def test_weighted_bits_at_their_ends(share, n):
    # all bits 1, one bit short of that, none: by hand
    law = SynthIDLaw(share, (3.0, 2.0, 1.0))
    log_q, log_p = math.log10(share), math.log10(1 - share)
    every = 3 * n * log_q
    assert law.log10_sf(6.0 * n, n) == pytest.approx(every, rel=1e-9)
    with mp.workdps(60):  # any one of the n bits of weight 1 may be 0
        one_short = every + float(mp.log10(1 + n * mp.mpf(10) ** (log_p - log_q)))
    assert law.log10_sf(6.0 * n - 1, n) == pytest.approx(one_short, rel=1e-9)
    with mp.workdps(60):
        some = mp.log1p(-(mp.mpf(float(1 - share)) ** (3 * n))) / mp.log(10)
    assert agree(law.log10_sf(1.0, n), some, 1e-7)


def test_equal_weights_are_a_binomial_over_depths():
    law = SynthIDLaw(Fraction(1, 2), (1 / 30,) * 30)
    count = 10**10 * 15 + 3_000_000
    assert law.log10_sf(count / 30, 10**10) == pytest.approx(
        BernoulliLaw(Fraction(1, 2)).log10_sf(count, 30 * 10**10), rel=1e-9
    )
    assert law.log10_sf(14.1, 20) == BernoulliLaw(Fraction(1, 2)).log10_sf(423, 600)


def test_single_precision_weights_are_understood():
    weights = np.linspace(10.0, 1.0, 10, dtype=np.float32)
    weights = (weights / weights.sum()).astype(np.float64)
    law = SynthIDLaw(Fraction(1, 2), tuple(weights))
    assert law.method == "exact tail of the weighted bits"
    tails, denominator = exact_weighted(range(10, 0, -1), 1, Fraction(1, 2))
    # every outcome of one unit, as a sum of the rounded weights
    bits = np.array(list(np.ndindex((2,) * 10)))
    for sums in (bits @ weights, (bits.astype(np.float32) @ weights.astype(np.float32))):
        index = np.rint(bits @ np.arange(10, 0, -1)).astype(int)
        exact = np.log10(np.array(tails)[index] / denominator)
        np.testing.assert_allclose(law.log10_sf(sums.astype(np.float64), 1), exact, atol=1e-12)


def test_odd_weights_are_rounded_to_the_safe_side():
    weights = (math.pi, math.e, math.sqrt(2), math.log(3))
    law = SynthIDLaw(Fraction(1, 2), weights)
    assert law.method.startswith("conservative")
    # exact: all 4^5 outcomes of 5 units are 6^4 sums of four binomials
    ways = [comb(5, j) / 32 for j in range(6)]
    outcomes = [
        (sum(w * j for w, j in zip(weights, js, strict=True)), math.prod(ways[j] for j in js))
        for js in np.ndindex(6, 6, 6, 6)
    ]
    for threshold in (10.0, 25.0, 30.0, 40.0):
        exact = math.log10(math.fsum(p for value, p in outcomes if value >= threshold))
        got = law.log10_sf(threshold, 5)
        assert exact - 1e-9 <= got <= exact + 0.01


@pytest.mark.parametrize(
    "law",
    [
        BernoulliLaw(Fraction(1, 4)),
        ExponentialLaw(),
        DualExponentialLaw(0.1),
        SynthIDLaw(Fraction(1, 2), (3.0, 2.0, 1.0)),
    ],
)
def test_moments_and_cumulants_belong_to_the_law(law):
    # by numerical differentiation of the cumulants, and by the normal limit of the tail
    h = 1e-4
    k0, k1, k2 = law.cumulants(np.array([-h, 0.0, h]))
    assert k0[1] == 0.0
    assert k1[1] == 0.0
    assert k2[1] == pytest.approx(law.variance, rel=1e-12)
    assert (k0[2] - k0[0]) / (2 * h) == pytest.approx(k1[1], abs=1e-6)
    assert (k1[2] - k1[0]) / (2 * h) == pytest.approx(law.variance, rel=1e-6)
    n = 10**10
    for z in (-1.0, 0.0, 2.0):
        got = law.sf(n * law.mean + z * (n * law.variance) ** 0.5, n)
        assert got == pytest.approx(scipy_stats.norm.sf(z), rel=1e-4)
    assert law == type(law)(*(getattr(law, name) for name in law.__dataclass_fields__))


def test_grids_of_uniforms_are_as_documented():
    # vLLM: u = (w + 1) / (2^24 + 1); the mean of -log(1 - u) over all 2^24 values
    u = (np.arange(2**24) + 1.0) / (2**24 + 1)
    assert 1 + np.log1p(-u).mean() == pytest.approx(4.9e-7, rel=0.01)
    rounded = u.astype(np.float32).astype(np.float64)
    assert 1 + np.log1p(-rounded).mean() == pytest.approx(5.2e-7, rel=0.01)
    # SGLang: u = (h + 0.5) / 2^32; the mean in closed form by the gamma function
    with mp.workdps(40):
        m = mp.mpf(2) ** 32
        mean = mp.log(m) - (mp.loggamma(m + mp.mpf("0.5")) - mp.loggamma(mp.mpf("0.5"))) / m
        assert float(1 - mean) == pytest.approx(8.1e-11, rel=0.01)


def test_one_hundred_thousand_documents():
    rng = np.random.default_rng(0)
    n = rng.integers(50, 3000, 100_000)
    z = rng.normal(size=len(n))
    for law in (
        BernoulliLaw(Fraction(1, 4)),
        ExponentialLaw(),
        DualExponentialLaw(0.1),
        SynthIDLaw(Fraction(1, 2), (10.0, 7.0, 4.0, 1.0)),
    ):
        log10_p = law.log10_sf(n * law.mean + z * np.sqrt(n * law.variance), n)
        # uniform up to what the values of a discrete law leave over
        p = 10.0**log10_p
        assert abs(np.mean(p <= 0.01) - 0.01) < 0.002
        assert scipy_stats.kstest(p, "uniform").statistic < 0.02


@pytest.mark.parametrize("weights", [(), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),)])
def test_bad_parameters_are_refused(weights):
    with pytest.raises(ArgumentError, match="weights"):
        SynthIDLaw(Fraction(1, 2), weights)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match="alpha"):
            DualExponentialLaw(alpha)
