"""The law of a SynthID score over random keys, given how many windows have each residue.

With a sampling table of 2^m entries, a window's g-value at depth d is
``table[((r + k_d) M + 1) mod 2^m]``: r is a residue of the window's hash, which no key enters, and
k_d that of the key. So the number of ones at depth d over all windows is

    T(k) = sum_r n_r table[((r + k) M + 1) mod 2^m],    k = k_d,

where n_r windows have residue r: one of 2^m numbers, all known. Under random keys the k_d are
independent and uniform, whatever the text and however many windows share a residue, so the law of
``sum_d a_d T(k_d)`` is a convolution of known laws. Nothing is assumed about table or text.

How it is computed:

- T is a circular correlation. Counts are split into limbs of 16 bits, whose Fourier transforms
  round to the right integers; how far off they were is checked.
- The tail of the convolution comes from a tilted law with its mean near the statistic, so its
  logarithm is accurate as far as the law reaches, down to ``2^(-m depth)``.
- If the range of the sum is longer than a few million, or weights are real, each term is rounded up
  to a grid. The p-value is then an upper bound; `ResidueLaw.bracket` gives a lower one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError
from radscore.stats.tails import LN10

if TYPE_CHECKING:
    from radscore.stats.tails import FloatArray

__all__ = ["MULTIPLIER", "ResidueLaw", "shift_sums"]

#: The factor of SynthID's linear congruential hash.
MULTIPLIER = 6364136223846793005

_LIMB_BITS = 16
_MOST_POINTS = 1 << 22  # of a law that is raised to a power at once
_MANY_POINTS = 1 << 20  # if each depth has a law of its own
_BINS = 2048  # in the search for the tilt; any tilt is valid
_PLAIN = 1e-5  # larger tails need no tilt
_NOISE = 1e-14  # what Fourier transforms of probabilities may miss of a tail


def _order(table: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The table's entry for each value of residue plus key."""
    size = len(table)
    if size < 2 or size & (size - 1):
        raise ArgumentError(f"the table must have a power of two of entries, not {size}")
    entries: npt.NDArray[np.intp] = (np.arange(size) * (MULTIPLIER % size) + 1) % size
    return entries


def shift_sums(
    counts: npt.NDArray[np.int64], table: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """T(k) for every k, exactly.

    Parameters
    ----------
    counts : ndarray of int64, shape (size,)
        Windows of each residue, or whole weights; absolute values add up to at most 2^62.
    table : ndarray of bool, shape (size,)
        The sampling table; its size is a power of two.

    Returns
    -------
    ndarray of int64, shape (size,)

    Raises
    ------
    ArgumentError
        If the shapes differ, or the size is not a power of two.

    Examples
    --------
    >>> shift_sums(np.array([3, 0, 0, 1]), np.array([True, False, False, True])).tolist()
    [1, 0, 3, 4]
    """
    from scipy.fft import irfft, rfft

    read = table[_order(table)]
    if counts.shape != table.shape:
        raise ArgumentError(f"counts must have the shape {table.shape}, not {counts.shape}")
    least = int(min(0, counts.min()))
    rest = counts - least
    spectrum = rfft(read.astype(np.float64))
    total: npt.NDArray[np.int64] = np.full(len(counts), least * int(read.sum()), dtype=np.int64)
    shift = 0
    while rest.any():
        limb = rest & ((1 << _LIMB_BITS) - 1)
        sums = irfft(np.conj(rfft(limb.astype(np.float64))) * spectrum, len(counts))
        whole = np.rint(sums)
        if float(np.abs(sums - whole).max()) >= 0.25:
            raise ArithmeticError("a Fourier transform of counts is not exact")
        total += whole.astype(np.int64) << shift
        rest >>= _LIMB_BITS
        shift += _LIMB_BITS
    return total


@dataclass(frozen=True, eq=False)
class ResidueLaw:
    """The law of ``sum_d steps[d] * T(k_d)`` over independent uniform k_d.

    Parameters
    ----------
    sums : ndarray of int64 or float64, shape (size,)
        T(k) for each k.
    steps : tuple of int
        The weight of each depth, above 0.
    error : float
        How far real sums may be off.

    Notes
    -----
    The first tail takes a Fourier transform or two of up to 2^22 points; further ones that need no
    tilt are looked up.

    Examples
    --------
    All 16 pairs of keys of a table of four entries:

    >>> law = ResidueLaw(np.array([0, 3, 1, 4]), (1, 1))
    >>> round(10 ** law.log10_sf(7), 12)
    0.1875
    """

    sums: npt.NDArray[Any]
    steps: tuple[int, ...]
    error: float = 0.0
    _tails: dict[str, FloatArray] = field(default_factory=dict, repr=False)

    @classmethod
    def of_counts(
        cls, counts: npt.ArrayLike, table: npt.NDArray[np.bool_], steps: tuple[int, ...]
    ) -> ResidueLaw:
        """The law for windows counted by residue."""
        return cls(shift_sums(np.asarray(counts).astype(np.int64), table), steps)

    @classmethod
    def of_weights(
        cls,
        weights: npt.ArrayLike,
        residues: npt.ArrayLike,
        table: npt.NDArray[np.bool_],
        depth: int,
    ) -> ResidueLaw:
        """The law for weights of distinct residues. T is centred: ``sum_r w_r (g_r - share)``."""
        from scipy.fft import irfft, rfft

        size = len(table)
        full = np.zeros(size)
        full[np.asarray(residues).astype(np.intp)] = np.asarray(weights, dtype=np.float64)
        read = table[_order(table)] - table.mean()
        sums = irfft(np.conj(rfft(full)) * rfft(read), size)
        norm = float(np.sqrt(full @ full) * np.sqrt(read @ read))
        error = 8.0 * np.finfo(np.float64).eps * np.log2(size) * norm
        return cls(sums, (1,) * depth, error)

    @cached_property
    def _values(self) -> tuple[npt.NDArray[Any], FloatArray]:
        """The distinct sums less their mean (whole sums: an integer near it), and their shares."""
        values, times = np.unique(self.sums, return_counts=True)
        return values - self._centre, times / len(self.sums)

    @cached_property
    def _whole(self) -> bool:
        return bool(np.issubdtype(self.sums.dtype, np.integer))

    @cached_property
    def _centre(self) -> Any:
        if not self._whole:
            return 0.0
        return round(sum(self.sums.tolist()) / len(self.sums))

    @cached_property
    def mean(self) -> float:
        """Mean of the sum over all depths."""
        values, shares = self._values
        return (float(values @ shares) + float(self._centre)) * sum(self.steps)

    @cached_property
    def variance(self) -> float:
        """Variance of the sum over all depths."""
        values, shares = self._values
        gaps = values - float(values @ shares)
        return float((gaps * gaps) @ shares) * sum(step * step for step in self.steps)

    @cached_property
    def _grid(self) -> tuple[float, dict[int, npt.NDArray[np.int64]], Counter[int], bool]:
        """Step of the grid; per weight its grid points and depths; whether the grid is exact."""
        values, _ = self._values
        times = Counter(self.steps)
        length = float(values[-1] - values[0]) * sum(self.steps)
        most = _MOST_POINTS if len(times) < 3 else _MANY_POINTS
        exact = self._whole and length < most
        step = 1.0
        if not exact:
            step = max(length / (most - 4 * len(self.steps)), 2.0 * self.error, 1e-300)
        points: dict[int, npt.NDArray[np.int64]] = {}
        for weight in times:
            if exact:
                points[weight] = values.astype(np.int64) * weight
            else:
                points[weight] = np.ceil((values + self.error) * (weight / step)).astype(np.int64)
        return step, points, times, exact

    def _tilted(self, tilt: float) -> tuple[FloatArray, float, int]:
        """The tilted law on the grid, the logarithm of its divisor, and its first grid point."""
        from scipy.fft import irfft, next_fast_len, rfft

        step, points, times, _ = self._grid
        _, shares = self._values
        length = 1 + sum(n * int(points[a][-1] - points[a][0]) for a, n in times.items())
        size = next_fast_len(length, real=True)
        spectrum: Any = 1.0
        log_divisor, start = 0.0, 0
        for weight, n in times.items():
            at = points[weight]
            mass = shares * np.exp(tilt * step * (at - at[-1]))
            divisor = float(mass.sum())
            log_divisor += n * (float(np.log(divisor)) + tilt * step * float(at[-1]))
            start += n * int(at[0])
            law = np.bincount(at - at[0], weights=mass / divisor)
            spectrum = spectrum * rfft(law, size) ** n
        return np.maximum(irfft(spectrum, size)[:length], 0.0), log_divisor, start

    def _tilt(self, target: float) -> float:
        """About where the tilted law has the mean `target`; at least 0."""
        values, shares = self._values
        low, high = float(values[0]), float(values[-1])
        width = max(high - low, 1e-300) / _BINS
        at = np.minimum(((values - low) / width).astype(np.int64), _BINS - 1)
        mass = np.bincount(at, weights=shares, minlength=_BINS)
        used = np.flatnonzero(mass)
        centres = np.bincount(at, weights=shares * values, minlength=_BINS)[used] / mass[used]
        log_mass = np.log(mass[used])

        def mean(tilt: float) -> float:
            total = 0.0
            for weight, n in Counter(self.steps).items():
                exponents = log_mass + (tilt * weight) * centres
                chances = np.exp(exponents - exponents.max())
                total += n * weight * float(chances @ centres) / float(chances.sum())
            return total

        if target <= mean(0.0):
            return 0.0
        below, above = 0.0, 1.0 / np.sqrt(self.variance)
        most = 60.0 / width
        while mean(above) < target and above < most:
            below, above = above, 2.0 * above
        for _ in range(40):
            middle = 0.5 * (below + above)
            below, above = (middle, above) if mean(middle) < target else (below, middle)
        return float(min(above, most))

    def _first_point(self, total: float) -> tuple[int, float]:
        """The first grid point that counts, and the total less the centre."""
        step, _, _, exact = self._grid
        over = total - self._centre * sum(self.steps)
        if exact:
            return int(np.ceil(over)), float(over)
        return int(np.ceil(over / step - 1e-6)), float(over)

    def bracket(self, total: float) -> tuple[float, float]:
        """log10 of a lower and an upper bound of ``P(sum >= total)``; the upper one is the p-value.

        They are equal if sums are whole and their range needs no grid. Neither is below
        ``size^-depth``, the share of a single choice of all keys: the observed one is among them.

        Parameters
        ----------
        total : float
            ``sum_d steps[d] T_d``, as an integer where the sums are.
        """
        least = -len(self.steps) * float(np.log(len(self.sums)))
        values, _ = self._values
        if values[0] == values[-1]:
            return 0.0, 0.0
        point, over = self._first_point(total)
        spread = 0 if self._grid[3] else len(self.steps) + 1
        tails = self._tails
        if not tails:
            plain, _, start = self._tilted(0.0)
            tails["plain"] = np.cumsum(plain[::-1])[::-1]
            tails["start"] = np.array([start])
        start = int(tails["start"][0])
        logs = []
        for at in (point + spread, point):
            index = at - start
            if index <= 0:
                logs.append(0.0)
                continue
            tail = float(tails["plain"][index]) if index < len(tails["plain"]) else 0.0
            logs.append(float(np.log(tail)) if tail > _PLAIN else np.nan)
        if np.isnan(logs).any():
            logs = self._far((point + spread, point), self._tilt(over))
        low, high = (float(min(0.0, max(log, least))) / LN10 + 0.0 for log in logs)
        return low, high

    def _far(self, points: tuple[int, int], tilt: float) -> list[float]:
        """Logs of the tails from two grid points on, by the tilted law."""
        step, _, _, _ = self._grid
        law, log_divisor, start = self._tilted(tilt)
        logs = []
        for point, noise in zip(points, (-_NOISE, _NOISE), strict=True):
            first = max(point - start, 0)
            # beyond exponents of 750 the factors underflow
            last = len(law) if tilt == 0 else first + int(min(750.0 / (tilt * step), len(law))) + 1
            rest = law[first:last]
            tail = float(rest @ np.exp(-tilt * step * np.arange(len(rest)))) + noise
            scale = log_divisor - tilt * step * (first + start)
            logs.append(scale + float(np.log(tail)) if tail > 0 else -np.inf)
        return logs

    def log10_sf(self, total: float) -> float:
        """`log10 P(sum >= total)`, or the least upper bound that the grid gives."""
        return self.bracket(total)[1]

    @property
    def method(self) -> str:
        """How the tail is computed, in words for a report."""
        if self._values[0][0] == self._values[0][-1] or self._grid[3]:
            return "exact tail over random keys"
        return "exact tail over random keys, rounded up to a grid"
