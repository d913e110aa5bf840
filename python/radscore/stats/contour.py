"""Tails of laws with a known cumulant function, by integration in the complex plane.

For a law with moments M(t) = exp K(t), and any c > 0 where M is finite,

    P(S >= s) = 1/(2 pi i) * int_{c - i inf}^{c + i inf} exp(K(t) - t s) / t dt,

and for integer-valued S, over one period of 2 pi with 1 - e^-t in place of t. For c < 0 the same
integral is -P(S < s). The path crosses the real axis at the saddle point of the *whole* integrand,
pole included, so the pole is never near; there the integrand is a bell, and the trapezoidal rule
converges geometrically. This is the exact tail, not the saddlepoint approximation. As everywhere,
it is the tail without the mean that is computed, and the distance from the mean and the centred
cumulant function K(t) - mean t are computed directly, never as differences of large numbers.
"""

from __future__ import annotations

import numpy as np

from radscore.stats.tails import (
    ComplexArray,
    FloatArray,
    complex_log,
    gamma_log_sf,
    log1pmx,
    log_complement,
    positive_root,
)

__all__ = ["dual_log_sf"]

_CHUNK = 1024
_STEP = 0.13  # of the bell's width; the pole is at least 0.8 widths away: error below e^-38
_HALF_NODES = 128
_TINY, _FAR = 1e-150, 1e12
_FEW = 1e5  # units up to which n |log(1 - t)| loses less than 1e-12


def dual_log_sf(statistic: FloatArray, n: FloatArray, alpha: float) -> FloatArray:
    """`log P((1 - alpha) G1 + alpha G2 >= statistic)` for independent Gi ~ Gamma(n, 1).

    Parameters
    ----------
    statistic : ndarray of float64, shape (m,)
        Thresholds.
    n : ndarray of float64, shape (m,)
        Numbers of units.
    alpha : float
        From 0 to 1.
    """
    big, small = max(alpha, 1.0 - alpha), min(alpha, 1.0 - alpha)
    if small == 0.0:
        return gamma_log_sf(statistic, n)
    # below 1e-150 the lower tail, of the order of its square, is too small for a double
    result = np.where(statistic <= _TINY, 0.0, -np.inf)
    inside = (statistic > _TINY) & (statistic < np.inf) & (n > 0)
    far = inside & (statistic > _FAR * n)
    if far.any():  # only the larger scale matters; the other adds a factor of at most e^(40 n)
        rest = max(np.log1p(-small / big), -40.0) if small < big else -40.0
        result[far] = gamma_log_sf(statistic[far] / big, n[far]) - n[far] * rest
    inside &= ~far
    for group in (np.flatnonzero(inside & (n < _FEW)), np.flatnonzero(inside & (n >= _FEW))):
        for start in range(0, len(group), _CHUNK):
            rows = group[start : start + _CHUNK]
            result[rows] = _dual_inside(statistic[rows], n[rows], 1.0 - alpha, alpha)
    return result


def _dual_saddle(s: FloatArray, n: FloatArray, a: float, b: float) -> FloatArray:
    """Where `n k(t) - d t - log|t|` is stationary: t > 0 for d >= 0, else t < 0.

    `n t^2 (a^2/(1 - a t) + b^2/(1 - b t)) - d t - 1 = 0` is convex on either side, so Newton steps
    converge from the outer side, where they start at the roots of simpler bounds.
    """
    d = s - n
    big = max(a, b)
    one = np.ones_like(d)
    t = np.where(
        d >= 0,
        positive_root(n * big * big + big * d, big - d, one),
        -positive_root(s, 2.0 * d - 1.0, 2.0 * one),
    )
    for _ in range(8):
        u, v = 1.0 - a * t, 1.0 - b * t
        near = n * t * t * (a * a / u + b * b / v) - d * t - 1.0
        value = np.where(s < 0.5 * n, n * t * (a / u + b / v) - s * t - 1.0, near)
        slope = n * (a / (u * u) + b / (v * v)) - s
        t = t - value / slope
    return t


def _dual_inside(statistic: FloatArray, n: FloatArray, a: float, b: float) -> FloatArray:
    d = statistic - n
    t = _dual_saddle(statistic, n, a, b)
    a1, b1 = a / (1.0 - a * t), b / (1.0 - b * t)
    # far below the mean the centred forms would subtract numbers near n
    low = statistic < 0.5 * n
    centred = -n * (log1pmx(-a * t) + log1pmx(-b * t)) - d * t
    plain = -n * (np.log1p(-a * t) + np.log1p(-b * t)) - statistic * t
    height = np.where(low, plain, centred) - np.log(np.abs(t))
    linear = np.where(low, n * (a1 + b1) - statistic, n * t * (a * a1 + b * b1) - d)
    second = n * (a1**2 + b1**2) + 1.0 / t**2
    # bent like the path of steepest descent, so that the integrand decays for small n too
    bend = (a1**3 + b1**3) / (a1**2 + b1**2) / 3.0
    y = (np.arange(_HALF_NODES) * _STEP) / np.sqrt(second)[:, None]
    z = 1j * y + bend[:, None] * y * y
    az: ComplexArray = a1[:, None] * z
    bz: ComplexArray = b1[:, None] * z
    if n.max() < _FEW:  # nothing cancels, so one logarithm will do
        exponent = -n[:, None] * complex_log((1.0 - az) * (1.0 - bz)) - statistic[:, None] * z
    else:
        exponent = -n[:, None] * (log1pmx(-az) + log1pmx(-bz)) + linear[:, None] * z
    integrand = np.exp(exponent) / (1.0 + z / t[:, None]) * (1.0 - 2j * bend[:, None] * y)
    values = integrand.real
    total = (values.sum(axis=1) - 0.5 * values[:, 0]) * _STEP / np.sqrt(second)
    log_tail = np.minimum(height + np.log(total / np.pi), 0.0)
    return np.where(d >= 0, log_tail, log_complement(log_tail))
