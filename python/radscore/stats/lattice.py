"""Exact tails of sums of bits with whole-number weights.

`S = sum_d steps[d] * Bin_d(n, share)` takes whole values. Its tail is the contour integral of
:mod:`radscore.stats.contour` over one period, which is taken in one of two ways, both exact:

- *Centre*: with many units the characteristic function is negligible outside its central bell,
  which ends where the largest step has turned by half. How large it can be outside is looked up on
  a grid over the period, for the smallest variance that a bit has at the saddle point.
- *Period*: with few units, or so far out that few values are left, the trapezoidal rule over the
  whole period, with as many nodes as the tilted law is wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radscore.stats.tails import (
    ComplexArray,
    FloatArray,
    binomial_deviation,
    complex_log,
    log1pmx,
    log_complement,
)

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = ["Lattice", "bernoulli_cumulants"]

_CHUNK = 256
_NEGLIGIBLE = 34.0  # minus the logarithm of what is left out
_SWEEP_ROWS = 40  # from so many rows on, a table pays off
_SWEEP_LENGTH = 1 << 20
_STEP = 0.15  # of the bell's width
_MANY = 1e4  # from so many units on, logarithms are centred before they are multiplied by n


def _expm1mx(y: FloatArray) -> FloatArray:
    """`exp(y) - 1 - y` for y <= 0, to full relative accuracy."""
    near = np.maximum(y, -0.5)
    series = np.full_like(near, 1.0 / 15)
    for j in range(14, 1, -1):
        series = (series * near + 1.0) / j
    result: FloatArray = np.where(y > -0.5, series * near * near, np.expm1(y) - y)
    return result


def bernoulli_cumulants(
    x: FloatArray, share: float, rest: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`k(x) = log(1 + q (e^x - 1)) - q x` with its first two derivatives, for q = share.

    All three have full relative accuracy for any x: a positive x is a negative one of the opposite
    bit.
    """
    y = -np.abs(x)
    e = np.expm1(y)
    q = np.where(x > 0, rest, share)
    log = log1pmx(q * e) + q * _expm1mx(y)
    inner = 1.0 + q * e
    first = np.sign(x) * (share * rest) * -e / inner
    second = (share * rest) * (1.0 + e) / (inner * inner)
    return log, first, second


@dataclass(frozen=True)
class Lattice:
    """The law of `sum_d steps[d] * Bin_d(n, share)` with positive whole steps.

    Many thresholds at once cost less: those of few units share one table.
    """

    steps: tuple[int, ...]
    share: Fraction

    def log_sf(self, s: FloatArray, n: FloatArray) -> FloatArray:
        """`log P(S >= s)` for whole numbers s and n; arrays of one shape (m,)."""
        top = float(sum(self.steps))
        result = np.where(s <= 0, 0.0, -np.inf)
        inside = np.flatnonzero((s > 0) & (s <= n * top))
        result[inside] = np.nan
        if len(inside) >= _SWEEP_ROWS:
            result[inside] = self._both(s[inside], n[inside], defer=True)
            self._sweep(s, n, result)
        rest = np.flatnonzero(np.isnan(result))
        result[rest] = self._both(s[rest], n[rest], defer=False)
        return result

    def _both(self, s: FloatArray, n: FloatArray, *, defer: bool) -> FloatArray:
        d = binomial_deviation(s, n * float(sum(self.steps)), self.share)
        share, rest = float(self.share), float(1 - self.share)
        upper = d >= 0.5
        result = np.empty_like(d)
        result[upper] = self._upper(n[upper], d[upper], share, rest, defer=defer)
        # the lower tail is the upper one of the bits that are 0
        log_tail = self._upper(n[~upper], 1.0 - d[~upper], rest, share, defer=defer)
        result[~upper] = log_complement(log_tail)
        return result

    def _sweep(self, s: FloatArray, n: FloatArray, result: FloatArray) -> None:
        """Fills the NaN of `result` that have few units, by adding one unit after another.

        Only positive numbers are added, so the sums have full relative accuracy; NaN stays where
        they come near the smallest double.
        """
        top = sum(self.steps)
        open_rows = np.isnan(result) & (n * top <= _SWEEP_LENGTH)
        share, rest = float(self.share), float(1 - self.share)
        units_max = int(n[open_rows].max()) if open_rows.any() else 0
        buffer = np.zeros(units_max * top + 1)
        buffer[0], length, done = 1.0, 1, 0
        for units in np.unique(n[open_rows]).astype(int):
            for _ in range(units - done):
                for step in self.steps:
                    moved = share * buffer[:length]
                    buffer[:length] *= rest
                    buffer[step : step + length] += moved
                    length += step
            done = units
            pmf = buffer[:length]
            rows = np.flatnonzero(open_rows & (n == units))
            index = s[rows].astype(int)
            tail = np.cumsum(pmf[::-1])[::-1][index]
            below = np.cumsum(pmf)[index - 1]
            with np.errstate(divide="ignore"):
                value = np.where(tail < 0.5, np.log(tail), np.log1p(-np.minimum(below, 0.5)))
            result[rows] = np.where(tail < 1e-290, np.nan, value)

    @cached_property
    def _k(self) -> FloatArray:
        return np.array(self.steps, dtype=np.float64)

    def _upper(
        self, n: FloatArray, d: FloatArray, share: float, rest: float, *, defer: bool
    ) -> FloatArray:
        log_tail = np.empty_like(d)
        for start in range(0, len(d), _CHUNK):
            rows = slice(start, start + _CHUNK)
            log_tail[rows] = self._upper_chunk(n[rows], d[rows], share, rest, defer=defer)
        return np.minimum(log_tail, 0.0)

    def _upper_chunk(
        self, n: FloatArray, d: FloatArray, share: float, rest: float, *, defer: bool
    ) -> FloatArray:
        k = self._k
        t = self._saddle(n, d, share, rest)
        log, first, second = bernoulli_cumulants(t[:, None] * k, share, rest)
        height = n * log.sum(axis=1) - d * t - np.log(-np.expm1(-t))
        linear = n * (first @ k) - d
        spread = n * (second @ (k * k))
        tilted = share + first
        smallest = second.min(axis=1)
        centre = self._is_central(n, second, smallest)
        value = np.full_like(d, np.nan)
        if centre.any():
            half = 64 if (n * smallest)[centre].min() > 16.0 else 110
            width = 1.0 / np.sqrt(spread + 0.25 / np.sinh(t / 2.0) ** 2)
            y = width[centre, None] * (np.arange(half) * _STEP)
            real = self._integrand(y, n[centre], t[centre], tilted[centre], linear[centre])
            value[centre] = (real.sum(axis=1) - 0.5 * real[:, 0]) * (_STEP / np.pi) * width[centre]
        for i in () if defer else np.flatnonzero(~centre):
            value[i] = self._period(n[i], t[i], tilted[i], linear[i], spread[i])
        log_tail: FloatArray = height + np.log(value)
        return log_tail

    def _is_central(
        self, n: FloatArray, second: FloatArray, smallest: FloatArray
    ) -> npt.NDArray[np.bool_]:
        levels = np.ceil(-8.0 * np.log2(np.maximum(4.0 * smallest, 1e-30))).astype(int)
        outside = np.array([_outside(self.steps, int(level)) for level in levels])
        centre: npt.NDArray[np.bool_] = n * outside < -_NEGLIGIBLE
        # bits may differ much in variance: check again where few units are not the reason
        for i in np.flatnonzero(~centre & (n * _outside(self.steps, 0) < -_NEGLIGIBLE)):
            centre[i] = n[i] * _largest_outside(self.steps, tuple(second[i])) < -_NEGLIGIBLE
        return centre

    def _saddle(self, n: FloatArray, d: FloatArray, share: float, rest: float) -> FloatArray:
        """Where `n k(t) - d t - log(1 - e^-t)` is about least; any t > 0 gives the tail."""
        k = self._k
        # at this tilt nearly all bits are 1, even the least likely ones
        last = (40.0 - np.log(share)) / k.min()
        low, high = np.zeros_like(d), np.full_like(d, last)
        spread = n * (share * rest) * (k @ k)
        t = np.minimum((d + np.sqrt(d * d + 4.0 * spread)) / (2.0 * spread), high)
        for _ in range(80):
            _, first, second = bernoulli_cumulants(t[:, None] * k, share, rest)
            pole = 1.0 / np.expm1(t)
            value = n * (first @ k) - d - pole
            slope = n * (second @ (k * k)) + pole * (1.0 + pole)
            low, high = np.where(value < 0, t, low), np.where(value < 0, high, t)
            step = t - value / slope
            done = (np.abs(value) < 1e-3 * np.sqrt(slope)) | (low >= last)
            middle = np.where(low > 0, np.sqrt(low * high), high / 8.0)
            middle = np.where(step >= last, last, middle)
            t = np.where(done, t, np.where((step > low) & (step < high), step, middle))
            if done.all():
                break
        return t

    def _integrand(
        self, y: FloatArray, n: FloatArray, t: FloatArray, tilted: FloatArray, linear: FloatArray
    ) -> FloatArray:
        """Real part of the integrand over its value at y = 0, with the pole's own ratio."""
        if n.max() < _MANY:
            product = np.ones(y.shape, dtype=np.complex128)
            phase = np.zeros_like(n)
            stride = self.steps[0] - self.steps[min(1, len(self.steps) - 1)]
            back, turn = np.exp(-1j * stride * y), product
            for d, step in enumerate(self.steps):
                if d and self.steps[d - 1] - step == stride:
                    turn = turn * back
                else:
                    turn = np.exp(1j * step * y)
                q = tilted[:, d, None]
                product *= (1.0 - q) + q * turn
                phase += tilted[:, d] * step
            log = n[:, None] * complex_log(product)
            log.imag -= (n * phase - linear)[:, None] * y
        else:
            log = np.zeros(y.shape, dtype=np.complex128)
            for d, step in enumerate(self.steps):
                log += _centred_log(tilted[:, d, None], step * y)
            log *= n[:, None]
            log.imag += linear[:, None] * y
        e = np.exp(-t)[:, None]
        pole = (1.0 - e) / (1.0 - e * np.exp(-1j * y))
        real: FloatArray = (np.exp(log) * pole).real
        return real

    def _period(
        self, n: float, t: float, tilted: FloatArray, linear: float, spread: float
    ) -> float:
        # Bernstein's inequality for the tilted law; to its left the tail grows like e^(t s)
        b = 2.0 * _NEGLIGIBLE / 6.0 * float(self._k.max())
        right = b + np.sqrt(b * b + 2.0 * _NEGLIGIBLE * spread)
        half = int(np.ceil((right + max(right, _NEGLIGIBLE / t)) / 2.0)) + 1
        total = 0.0
        for start in range(0, half + 1, 1 << 15):
            j = np.arange(start, min(start + (1 << 15), half + 1), dtype=np.float64)
            real = self._integrand(
                (np.pi / half) * j[None, :],
                np.array([n]),
                np.array([t]),
                tilted[None, :],
                np.array([linear]),
            )[0]
            total += float(real @ np.where((j == 0) | (j == half), 0.5, 1.0))
        return total / half


def _centred_log(q: FloatArray, angle: FloatArray) -> ComplexArray:
    """`log(1 + q (e^(i angle) - 1)) - i q angle` without cancellation at small angles."""
    sine = np.sin(0.5 * angle)
    turn = np.empty(angle.shape, dtype=np.complex128)
    turn.real = -2.0 * sine * sine
    turn.imag = np.sin(angle)
    a2 = angle * angle
    series = -angle * a2 / 6.0 * (1.0 - a2 / 20.0 * (1.0 - a2 / 42.0 * (1.0 - a2 / 72.0)))
    rest = np.empty_like(turn)
    rest.real = turn.real
    rest.imag = np.where(np.abs(angle) < 0.1, series, turn.imag - angle)
    centred: ComplexArray = log1pmx(q * turn) + q * rest
    return centred


@lru_cache(maxsize=8)
def _grid(steps: tuple[int, ...]) -> FloatArray:
    """`4 sin(k y / 2)^2` for y outside the central bell, up to half a period."""
    k = np.array(steps, dtype=np.float64)
    y = np.linspace(np.pi / k.max(), np.pi, 16 * int(k.max()))
    return np.asarray(4.0 * np.sin(0.5 * y[:, None] * k) ** 2)


def _largest_outside(steps: tuple[int, ...], variances: tuple[float, ...]) -> float:
    """Largest `log |phi(y)|` of one unit outside the central bell, given its bits' variances."""
    grid = _grid(steps)
    product = np.ones(len(grid))
    for d, variance in enumerate(variances):
        product *= np.maximum(1.0 - variance * grid[:, d], 1e-5)
    # the grid may just miss the maximum
    return 0.5 * float(np.log(product.max())) * 0.97


@lru_cache(maxsize=512)
def _outside(steps: tuple[int, ...], level: int) -> float:
    """The same if all bits have the variance 2^(-level/8) / 4."""
    if level > 120:
        return 0.0
    return _largest_outside(steps, (0.25 * 2.0 ** (-level / 8.0),) * len(steps))
