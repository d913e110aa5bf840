"""Tails of the binomial and the gamma law as natural logarithms, for any n and any depth.

Each tail is a density at the threshold times an integral of a log-concave function::

    P(Bin(n, q) >= s) = pmf(s) * s * int_0^1 (1-x)^(s-1) (1 + rho x)^(n-s) dx,   rho = q/(1-q)
    P(Gamma(a) >= S)  = S^a e^-S / Gamma(a) * int_0^inf (1+x)^(a-1) e^(-S x) dx

The density uses the deviance of Loader ("Fast and accurate computation of binomial probabilities",
2000). Its one delicate input, the distance of the threshold from the mean, is computed in twice the
working precision, so no large numbers are ever subtracted. The integral is taken by Gauss-Legendre
where its integrand exceeds e^-40. It is always the tail without the mean that is computed, and the
other one is its complement: both ends of p are equally accurate.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "LN10",
    "ComplexArray",
    "FloatArray",
    "binomial_deviation",
    "binomial_log_sf",
    "complex_log",
    "gamma_log_sf",
    "log1pmx",
    "log_complement",
    "positive_root",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]
ComplexArray: TypeAlias = npt.NDArray[np.complex128]

#: What natural logarithms are divided by to become decimal ones.
LN10: Final = math.log(10.0)

_DROP = 40.0  # integrands are followed until they have fallen by e^-40
_NODES = 64
_CHUNK = 4096  # rows at a time: 4096 x 64 doubles stay in the cache of one core
_LOG_2PI = 1.8378770664093454836
_SERIES = tuple(2.0 / (2 * j + 3) for j in range(16, -1, -1))


def log1pmx(x: Any) -> Any:
    """`log(1 + x) - x` to full relative accuracy, for real or complex arrays.

    With r = x/(2+x), log(1+x) = 2 atanh(r) and 2r - x = -x r, so near 0 the difference is
    ``r (2 r^2 (1/3 + r^2/5 + ...) - x)``, in which nothing cancels.
    """
    x = np.asarray(x)
    near = np.abs(x) < 0.5
    if near.all():
        return _log1pmx_near(x)
    with np.errstate(all="ignore"):
        far = (complex_log(1.0 + x) if np.iscomplexobj(x) else np.log1p(x)) - x
    if not near.any():
        return far
    far = np.asarray(far)
    far[near] = _log1pmx_near(x[near])
    return far


def complex_log(z: ComplexArray) -> ComplexArray:
    """`log(z)` to an absolute 1e-16, in a twentieth of the time that numpy's own takes."""
    result = np.empty_like(z)
    result.real = 0.5 * np.log(z.real * z.real + z.imag * z.imag)
    result.imag = np.arctan2(z.imag, z.real)
    return result


def _log1pmx_near(x: Any) -> Any:
    r = x / (2.0 + x)
    r2 = r * r
    series = np.full_like(r2, _SERIES[0])
    for coefficient in _SERIES[1:]:
        series *= r2
        series += coefficient
    return r * (r2 * series - x)


def log_complement(log_p: FloatArray) -> FloatArray:
    """`log(1 - exp(log_p))` for `log_p <= 0`, accurate at both ends."""
    with np.errstate(divide="ignore"):
        small = np.log1p(-np.exp(np.minimum(log_p, -0.6)))
        large = np.log(-np.expm1(np.maximum(log_p, -0.7)))
    return np.where(log_p < -np.log(2.0), small, large)


def positive_root(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    """The positive root of `a x^2 + b x - c = 0` for c > 0; inf if there is none or a < 0."""
    scale = np.maximum(np.maximum(a, np.abs(b)), 1.0)  # squares must not overflow
    a, b, c = a / scale, b / scale, c / scale
    with np.errstate(all="ignore"):
        root = np.sqrt(b * b + 4.0 * a * c)
        x = np.where(b > 0, 2.0 * c / (b + root), (root - b) / (2.0 * a))
    return np.where(np.isnan(x) | (a < 0), np.inf, x)


def log_factorial_rest(m: FloatArray) -> FloatArray:
    """`log(m!) - m log m + m`, which is 0 at m = 0 and grows like `log(2 pi m) / 2`."""
    from scipy.special import gammaln, xlogy

    big = np.maximum(m, 16.0)
    i = 1.0 / big
    i2 = i * i
    stirling = i * (
        1 / 12
        - i2 * (1 / 360 - i2 * (1 / 1260 - i2 * (1 / 1680 - i2 * (1 / 1188 - i2 * 691 / 360360))))
    )
    small = np.minimum(m, 16.0)
    direct = gammaln(small + 1.0) - xlogy(small, small) + small
    rest: FloatArray = np.where(m < 16.0, direct, stirling + 0.5 * (_LOG_2PI + np.log(big)))
    return rest


def _deviance(e: FloatArray) -> FloatArray:
    """`(1 + e) log(1 + e) - e`, for e >= -1."""
    from scipy.special import xlog1py

    inner = np.clip(e, -0.5, 0.5)
    near = (1.0 + inner) * log1pmx(inner) + inner * inner
    far = xlog1py(1.0 + e, e) - e
    return np.where(np.abs(e) < 0.5, near, far)


@lru_cache(maxsize=1)
def _legendre() -> tuple[FloatArray, FloatArray]:
    x, w = np.polynomial.legendre.leggauss(_NODES)
    return 0.5 * (x + 1.0), 0.5 * w


def _log_integral(
    a: FloatArray, b: FloatArray, c: FloatArray, rho: FloatArray, top: float
) -> FloatArray:
    """Log of the integral over [0, top] of `exp(-a x + b log1pmx(-x) + c log1pmx(rho x))`.

    The upper end is the smaller root of two bounds of the exponent, from ``log1pmx(-x) <=
    -x^2/2`` and ``log1pmx(y) <= -y^2/(2 + 2y)``. There the integrand is just below e^-40, so the
    nodes lie where the mass is.
    """
    drop = np.full_like(a, _DROP)
    end = np.minimum(
        positive_root(b / 2.0, a, drop),
        positive_root(
            2.0 * a * rho + c * rho * rho, 2.0 * (a - _DROP * rho), np.full_like(a, 2.0 * _DROP)
        ),
    )
    end = np.minimum(end, top)
    nodes, weights = _legendre()
    x = end[:, None] * nodes
    exponent = -a[:, None] * x
    if b.any():
        exponent += b[:, None] * log1pmx(-x)
    if c.any():
        exponent += c[:, None] * log1pmx(rho[:, None] * x)
    log_integral: FloatArray = np.log(np.exp(exponent) @ weights) + np.log(end)
    return log_integral


def binomial_deviation(s: FloatArray, n: FloatArray, share: Fraction) -> FloatArray:
    """`s - n * share`, rounded only once: the product is held in two doubles (Dekker, 1971)."""
    high = float(share)
    low = float(share - Fraction(high))
    product = n * high
    split = 134217729.0  # 2^27 + 1
    t = split * n
    n1 = t - (t - n)
    n2 = n - n1
    q1 = split * high - (split * high - high)
    q2 = high - q1
    error = ((n1 * q1 - product) + n1 * q2 + n2 * q1) + n2 * q2
    return ((s - product) - error) - n * low


def binomial_log_sf(s: FloatArray, n: FloatArray, share: Fraction) -> FloatArray:
    """`log P(Bin(n, share) >= s)` for whole numbers s and n below 2^53, 0 < share < 1.

    Parameters
    ----------
    s : ndarray of float64, shape (m,)
        Thresholds.
    n : ndarray of float64, shape (m,)
        Numbers of trials.
    share : Fraction
        Probability of a success.
    """
    result = np.where(s <= 0, 0.0, -np.inf)
    inside = np.flatnonzero((s > 0) & (s <= n))
    for start in range(0, len(inside), _CHUNK):
        rows = inside[start : start + _CHUNK]
        result[rows] = _binomial_inside(s[rows], n[rows], share)
    return result


def _binomial_inside(s: FloatArray, n: FloatArray, share: Fraction) -> FloatArray:
    d = binomial_deviation(s, n, share)
    upper = d >= 0.5
    # P(S < s) = P(n - S >= n - s + 1), where n - S has the share 1 - q
    s = np.where(upper, s, n - s + 1.0)
    d = np.where(upper, d, 1.0 - d)
    q = np.where(upper, float(share), float(1 - share))
    p = np.where(upper, float(1 - share), float(share))
    deviance = n * q * _deviance(d / (n * q)) + n * p * _deviance(np.maximum(-d / (n * p), -1.0))
    log_pmf = log_factorial_rest(n) - log_factorial_rest(s) - log_factorial_rest(n - s) - deviance
    log_tail = log_pmf + np.log(s) + _log_integral((d - p) / p, s - 1.0, n - s, q / p, 1.0)
    log_tail = np.minimum(log_tail, 0.0)
    return np.where(upper, log_tail, log_complement(log_tail))


def gamma_log_sf(statistic: FloatArray, shape: FloatArray) -> FloatArray:
    """`log Q(shape, statistic)`, the regularised upper incomplete gamma function.

    Parameters
    ----------
    statistic : ndarray of float64, shape (m,)
        Thresholds.
    shape : ndarray of float64, shape (m,)
        0 (the sum of nothing) or at least 1; need not be whole.
    """
    result = np.where(statistic <= 0, 0.0, -np.inf)
    inside = np.flatnonzero((statistic > 0) & (statistic < np.inf) & (shape > 0))
    for start in range(0, len(inside), _CHUNK):
        rows = inside[start : start + _CHUNK]
        result[rows] = _gamma_inside(statistic[rows], shape[rows])
    return result


def _gamma_inside(statistic: FloatArray, shape: FloatArray) -> FloatArray:
    from scipy.special import gammainc

    d = statistic - shape
    upper = d >= 0
    # far below the mean d / shape would round to -1
    deviance = np.where(
        d < -0.5 * shape,
        np.log(statistic / shape) - d / shape,
        log1pmx(np.maximum(d / shape, -0.5)),
    )
    log_density = np.log(shape) + shape * deviance - log_factorial_rest(shape)
    log_tail = np.empty_like(d)
    zero = np.zeros_like(d)
    for mask, a, b, c, top in (
        (upper, d + 1.0, zero, shape - 1.0, np.inf),
        (~upper, -d - 1.0, shape - 1.0, zero, 1.0),
    ):
        if mask.any():
            one = np.ones(int(mask.sum()))
            log_tail[mask] = log_density[mask] + _log_integral(a[mask], b[mask], c[mask], one, top)
    # a fractional power of 1 - x defeats the quadrature; for small shapes the series is easy
    rough = ~upper & (shape < 100.0) & (shape != np.floor(shape))
    if rough.any():
        with np.errstate(divide="ignore"):
            log_tail[rough] = np.log(gammainc(shape[rough], statistic[rough]))
    log_tail = np.minimum(log_tail, 0.0)
    return np.where(upper, log_tail, log_complement(log_tail))
