"""Binomial and gamma tails against mpmath, exact integers and scipy.

Expected numbers come from four places, which are held against each other first: exact integer
sums (n up to 700), the integral representation by mpmath's own quadrature at 50 digits, the
continued fraction of the tail by Lentz's method at 50 digits, and scipy where p is moderate.
"""

import random
from fractions import Fraction
from math import comb

import mpmath as mp
import numpy as np
import pytest
from radscore.errors import ArgumentError
from radscore.stats import BernoulliLaw, ExponentialLaw
from scipy import stats as scipy_stats

RTOL = 1e-9
SHARES = [
    Fraction(8000, 32000),
    Fraction(2048, 8191),  # ceil(0.25 * 8191) / 8191
    Fraction(1, 2),
    Fraction(int(0.25 * 0x7FFFFFFF), 2**31),
    Fraction(2**62 + 12345, 2**64),
    Fraction(1, 2**31),
    Fraction(2**64 - 1, 2**64),
    Fraction(1, 1000),
    Fraction(99, 100),
]


def mp_share(share):
    return mp.mpf(share.numerator) / share.denominator


def log10_sf_of(upper, lower):
    """log10 of the upper tail from whichever tail is the smaller one, both as logarithms."""
    if upper is not None:
        return upper / mp.log(10)
    return mp.log1p(-mp.exp(lower)) / mp.log(10)


def exact_binomial(s, n, share):
    a, b = share.numerator, share.denominator
    upper = sum(comb(n, j) * a**j * (b - a) ** (n - j) for j in range(s, n + 1))
    with mp.workdps(50):
        if 2 * upper < b**n:
            return log10_sf_of(mp.log(mp.mpf(upper)) - n * mp.log(b), None)
        return log10_sf_of(None, mp.log(mp.mpf(b**n - upper)) - n * mp.log(b))


def binomial_parts(s, n, q):
    log_pmf = (
        mp.loggamma(n + 1)
        - mp.loggamma(s + 1)
        - mp.loggamma(n - s + 1)
        + s * mp.log(q)
        + (n - s) * mp.log1p(-q)
    )
    return log_pmf, q / (1 - q)


def quad_upper(s, n, q):
    """log P(Bin(n, q) >= s) for s above the mean, by tanh-sinh quadrature over [0, 1]."""
    log_pmf, rho = binomial_parts(s, n, q)

    def f(x):
        return mp.exp((s - 1) * mp.log1p(-x) + (n - s) * mp.log1p(rho * x)) if x < 1 else mp.mpf(0)

    slope = (s - 1) - (n - s) * rho
    curvature = (s - 1) + (n - s) * rho**2
    width = 1 / (abs(slope) / 2 + mp.sqrt(curvature) + 1)
    points = [mp.mpf(0), *(p for k in (3, 10, 30, 120) if (p := k * width) < 1)]
    if 120 * width > 1:
        points.append(mp.mpf(1))
    return log_pmf + mp.log(s * mp.quad(f, points, method="gauss-legendre"))


def lentz_upper(s, n, q):
    """The same by the continued fraction of I_q(a, b), for s far enough above the mean."""
    a, b = mp.mpf(s), mp.mpf(n - s + 1)
    c, d = mp.mpf(1), 1 / (1 - (a + b) * q / (a + 1))
    h = d
    for m in range(1, 20_000):
        even = m * (b - m) * q / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * q / ((a + 2 * m) * (a + 2 * m + 1))
        for coefficient in (even, odd):
            d = 1 / (1 + coefficient * d)
            c = 1 + coefficient / c
            h *= c * d
        if abs(c * d - 1) < mp.mpf(10) ** -40:
            break
    else:
        raise AssertionError("the continued fraction did not converge")
    log_beta = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
    return a * mp.log(q) + b * mp.log1p(-q) - mp.log(a) - log_beta + mp.log(h)


def mp_binomial(s, n, share):
    with mp.workdps(60):
        q = mp_share(share)
        if s - n * share >= Fraction(1, 2):
            return log10_sf_of(quad_upper(s, n, q), None)
        return log10_sf_of(None, quad_upper(n - s + 1, n, 1 - q))


def agree(got, expected, rtol=RTOL):
    """Relative agreement of log10 p, except where the complement is below the smallest double."""
    with mp.workdps(60):
        if abs(expected) < mp.mpf(10) ** -300:
            return abs(got) < 1e-299
        return abs(mp.mpf(got) - expected) <= rtol * abs(expected)


def thresholds(rng, n, share):
    """Thresholds from far below the mean to the very end."""
    mean, spread = n * share, float(n * share * (1 - share)) ** 0.5
    z = rng.choice([-30, -8, -2, -0.3, 0, 0.3, 2, 8, 40, 500, 700])
    pick = rng.random()
    if pick < 0.6:
        s = int(mean + Fraction(z * rng.uniform(0.8, 1.2) * spread))
    elif pick < 0.8:
        s = int(mean + Fraction(rng.random()) * (n - mean))
    else:
        s = rng.choice([1, n, int(mean), int(mean) + 1])
    return min(max(s, 1), n)


def test_oracles_agree_with_each_other():
    rng = random.Random(5)
    for _ in range(15):
        n = rng.choice([3, 50, 700])
        share = rng.choice(SHARES[:5])
        s = thresholds(rng, n, share)
        assert agree(mp_binomial(s, n, share), exact_binomial(s, n, share), 1e-25)
    with mp.workdps(60):
        for n, z in [(10**4, 40), (10**6, 100), (10**9, 1000), (10**12, 10**4), (10**12, 700)]:
            q = mp_share(Fraction(2048, 8191))
            s = int(n * q + z * mp.sqrt(n * q * (1 - q)))
            assert abs(quad_upper(s, n, q) / lentz_upper(s, n, q) - 1) < mp.mpf(10) ** -20


def test_binomial_equals_exact_integer_sums():
    rng = random.Random(1)
    for _ in range(200):
        n = rng.choice([1, 2, 3, 5, 10, 40, 200, 500])
        share = rng.choice(SHARES)
        s = thresholds(rng, n, share)
        got = BernoulliLaw(share).log10_sf(s, n)
        assert agree(got, exact_binomial(s, n, share)), (s, n, share)


def test_binomial_equals_mpmath_up_to_1e12():
    rng = random.Random(2)
    deepest = 0.0
    for _ in range(120):
        n = int(10 ** rng.uniform(0, 12))
        share = rng.choice(SHARES)
        s = thresholds(rng, n, share)
        expected = mp_binomial(s, n, share)
        got = BernoulliLaw(share).log10_sf(s, n)
        assert agree(got, expected), (s, n, share, got, expected)
        deepest = min(deepest, got)
    assert deepest < -1e6


@pytest.mark.parametrize("depth", [1e-8, 1.0, 1e3, 1e5, 1e6, 1e9])
def test_binomial_at_named_depths(depth):
    # -log10 p of the named size at n = 10^12; the threshold from p ~ exp(-z^2 / 2)
    share, n = Fraction(8000, 32000), 10**12
    z = (2 * depth * 2.302585) ** 0.5 if depth > 1e-3 else -5.6
    s = int(n * share + Fraction(z * (n * 3 / 16) ** 0.5))
    got = BernoulliLaw(share).log10_sf(s, n)
    assert agree(got, mp_binomial(s, n, share))
    assert depth / 10 < -got < depth * 10


def test_a_share_that_differs_in_the_last_bit_of_64_is_told_apart():
    n, s = 10**12, 250_000_400_000
    near, nearer = (BernoulliLaw(Fraction(2**62 + k, 2**64)) for k in (0, 2**20))
    for law in (near, nearer):
        assert agree(law.log10_sf(s, n), mp_binomial(s, n, law.share), 1e-12)
    assert near.log10_sf(s, n) != nearer.log10_sf(s, n)


def test_binomial_equals_scipy_where_p_is_moderate():
    # scipy.stats.binom.logsf(s - 1, n, p), good to about 1e-10 at these depths
    rng = np.random.default_rng(0)
    n = rng.integers(10, 100_000, 500)
    s = np.rint(n * 0.25 + rng.normal(size=500) * 3 * np.sqrt(n * 3 / 16)).clip(0)
    got = BernoulliLaw(Fraction(1, 4)).log10_sf(s, n)
    np.testing.assert_allclose(
        got, scipy_stats.binom.logsf(s - 1, n, 0.25) / np.log(10), rtol=1e-8, atol=1e-13
    )


def exact_poisson_log10(n, statistic):
    """P(Gamma(n) >= S) = P(Poisson(S) <= n - 1), summed at 60 digits."""
    with mp.workdps(400):
        x = mp.mpf(statistic)
        term, total = mp.mpf(1), mp.mpf(0)
        for j in range(n):
            total += term
            term *= x / (j + 1)
        upper = total * mp.exp(-x)
        return mp.log(upper) / mp.log(10)


def mp_gamma(n, statistic):
    with mp.workdps(60):
        x, a = mp.mpf(statistic), mp.mpf(n)
        log_density = -x + a * mp.log(x) - mp.loggamma(a)
        if x >= a:
            width = 1 / (abs(x - a + 1) / 2 + mp.sqrt(a))
            points = [mp.mpf(0), *(k * width for k in (3, 10, 30, 120, 400, 1600))]

            def f(y):
                return mp.exp((a - 1) * mp.log1p(y) - x * y)

            return log10_sf_of(
                log_density + mp.log(mp.quad(f, points, method="gauss-legendre")), None
            )
        width = 1 / (abs(x - a + 1) / 2 + mp.sqrt(a))
        points = [mp.mpf(0), *(p for k in (3, 10, 30, 120) if (p := k * width) < 1)]
        if 120 * width > 1:
            points.append(mp.mpf(1))

        def g(y):
            return mp.exp((a - 1) * mp.log1p(-y) + x * y) if y < 1 else mp.mpf(a == 1)

        integral = mp.quad(g, points, method="gauss-legendre")
        return log10_sf_of(None, log_density + mp.log(integral))


def test_gamma_oracles_agree_with_each_other():
    for n, x in [(1, 0.5), (3, 9.0), (50, 20.0), (700, 705.0), (700, 3000.0), (400, 399.5)]:
        assert agree(mp_gamma(n, x), exact_poisson_log10(n, x), 1e-25)
        with mp.workdps(60):
            upper = mp.gammainc(n, mp.mpf(x), mp.inf, regularized=True)
            assert agree(mp_gamma(n, x), mp.log(upper) / mp.log(10), 1e-20)


def test_gamma_equals_mpmath_up_to_1e12():
    rng = random.Random(3)
    deepest = 0.0
    for _ in range(110):
        n = int(10 ** rng.uniform(0, 12))
        z = rng.choice([-25, -6, -1, 0, 1, 6, 30, 700, 3000]) * rng.uniform(0.8, 1.2)
        x = n + z * n**0.5
        if x <= 0 or rng.random() < 0.1:
            x = n * rng.choice([0.01, 0.5, 2, 30])
        got = ExponentialLaw().log10_sf(x, n)
        assert agree(got, mp_gamma(n, x)), (n, x)
        deepest = min(deepest, got)
    assert deepest < -1e6


@pytest.mark.parametrize("statistic", [1e-12, 1e-30, 1e-200, 1e-300])
def test_gamma_next_to_nothing(statistic):
    # P(Exp(1) >= x) = exp(-x); P(Gamma(2) < x) = x^2 / 2 for small x
    assert ExponentialLaw().log10_sf(statistic, 1) == pytest.approx(
        -statistic / np.log(10), rel=1e-12
    )
    if statistic > 1e-100:
        assert ExponentialLaw().log10_sf(statistic, 2) == pytest.approx(
            -(statistic**2) / 2 / np.log(10), rel=1e-9
        )


def test_gamma_equals_scipy_where_p_is_moderate():
    rng = np.random.default_rng(1)
    n = rng.integers(1, 10_000, 300)
    x = np.abs(n + 3 * np.sqrt(n) * rng.normal(size=300))
    np.testing.assert_allclose(
        ExponentialLaw().log10_sf(x, n),
        scipy_stats.gamma.logsf(x, n) / np.log(10),
        rtol=1e-9,
        atol=1e-13,
    )


@pytest.mark.parametrize("law", [BernoulliLaw(Fraction(1, 4)), ExponentialLaw()])
def test_the_ends(law):
    assert law.log10_sf(0, 100) == 0.0
    assert law.log10_sf(-5, 100) == 0.0
    assert law.log10_sf(0, 0) == 0.0
    assert law.log10_sf(1, 0) == -np.inf
    assert law.sf(0, 10) == 1.0
    assert law.log10_sf(np.inf, 10) == -np.inf


def test_all_green_and_more_than_all():
    law = BernoulliLaw(Fraction(1, 4))
    assert law.log10_sf(10**9, 10**9) == pytest.approx(10**9 * np.log10(0.25), rel=1e-14)
    assert law.log10_sf(11, 10) == -np.inf
    assert law.log10_sf(2.5, 10) == law.log10_sf(3, 10)


def test_the_tail_falls_and_arrays_equal_scalars():
    rng = np.random.default_rng(2)
    for law, top in ((BernoulliLaw(Fraction(2048, 8191)), 400), (ExponentialLaw(), 2000)):
        s = np.arange(top)
        column = law.log10_sf(s, 400)
        assert (np.diff(column) <= 0).all()
        picks = rng.integers(0, top, 1500)
        n = rng.integers(400, 403, 1500)
        many = law.log10_sf(picks, n)
        for i in range(0, 1500, 100):
            assert many[i] == pytest.approx(law.log10_sf(int(picks[i]), int(n[i])), rel=1e-13)
        assert law.log10_sf(s[:6].reshape(2, 3), np.array([5, 6, 7])).shape == (2, 3)


@pytest.mark.parametrize("n", [-1, 2.5, 2**54])
def test_bad_counts_are_refused(n):
    with pytest.raises(ArgumentError, match="n must be whole numbers"):
        ExponentialLaw().log10_sf(1.0, n)
    with pytest.raises(ArgumentError, match="NaN"):
        ExponentialLaw().log10_sf(float("nan"), 3)
    for share in (0, 1, Fraction(3, 2), "x", float("nan")):
        with pytest.raises(ArgumentError, match="share"):
            BernoulliLaw(share)
