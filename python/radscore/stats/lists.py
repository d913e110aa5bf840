"""Green tokens drawn without replacement: exact log moments and draws of tilted lists.

A list is green at G of V tokens. Of these m carry weights w_u, and ``T = sum w_u s_u``. Tilted by
``exp(l T)``, a set of j green tokens among the m has a probability proportional to

    C(V - m, G - j) * product of exp(l w_u) over the set:

independent tokens whose odds are ``lambda exp(l w_u)``, given that they and V - m others of odds
lambda have G green ones in all, whatever lambda is (J. Hájek, "Asymptotic theory of rejective
sampling", 1964). With N the number of green tokens if all are independent,

    E exp(l T) = lambda^-G (1 + lambda)^(V-m) prod_u (1 + lambda exp(l w_u)) P(N = G) / C(V, G).

lambda is where the mean of N is about G. P(N = G) is exact: for short lists the law of the m
tokens is added up one token after the other and meets the binomial law of the others; for long ones
it is Fourier's integral over the characteristic function, by the trapezoidal rule, whose step and
end leave out less than e^-34. Draws are proposed as independent tokens and accepted with the
probability ``C(V - m, G - j) lambda^-j`` over its maximum, about sqrt((V - m) / V).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.stats.importance import as_limits

if TYPE_CHECKING:
    import numpy.typing as npt

    from radscore.stats.tails import FloatArray

__all__ = ["HardToDrawError", "Lists"]

_SHORT: Final = 48  # tokens of a list whose law is added up
_STEP, _END = 0.75, 8.5  # of the integral, in one over the standard deviation of N
_BLOCK: Final = 1 << 19
#: How often a list is proposed. Of one that has nearly all tokens of a small vocabulary, under a
#: tilt that leaves it next to no choice, hardly any proposal is right.
_PROPOSALS: Final = 2000


class HardToDrawError(Exception):
    """Lists that are not drawn in reasonable time: the p-value is the bound then."""


@lru_cache(maxsize=4)
def _log_factorials(n: int) -> FloatArray:
    from scipy.special import gammaln

    logs: FloatArray = gammaln(np.arange(n + 1) + 1.0)
    return logs


@lru_cache(maxsize=256)
def _log_fall(n: int, m: int) -> FloatArray:
    """``log n (n - 1) ... (n - i + 1) / n^i`` for i = 0 to m; -inf beyond n."""
    with np.errstate(divide="ignore"):
        logs = np.log1p(-np.minimum(np.arange(m) / n, 1.0))
    return np.concatenate([[0.0], np.cumsum(logs)])


class Lists:
    """The weighted tokens of some lists.

    Parameters
    ----------
    w : ndarray of float64, shape (n,)
        Weights, list by list.
    index : ndarray of int, shape (n,)
        The list of each, ascending from 0 without gaps.
    size, vocab : int
        G and V.

    Attributes
    ----------
    rounding : float
        By how much `log_moment` may be off.
    """

    def __init__(self, w: FloatArray, index: npt.NDArray[np.intp], size: int, vocab: int) -> None:
        self._w, self._index, self._size, self._vocab = w, index, size, vocab
        self._lengths = np.bincount(index)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])
        self._others = vocab - self._lengths
        self._sum = float(w.sum())
        long = int((self._lengths > _SHORT).sum())
        # logs of factorials are near V log V
        self.rounding = 4e-16 * (long * vocab * float(np.log(vocab)) + len(w))
        self._theta: dict[float, tuple[FloatArray, FloatArray]] = {}

    def log_moment(self, tilt: float) -> float:
        """``log E exp(l (T - mean))``, of all lists together."""
        x = self._w * tilt
        theta, spread = self._centre(tilt)
        log = np.add.reduceat(np.logaddexp(0.0, theta[self._index] + x), self._starts)
        log += self._log_meeting(x, theta, spread)
        return float(log.sum()) - tilt * self._size / self._vocab * self._sum

    def _centre(self, tilt: float) -> tuple[FloatArray, FloatArray]:
        """The log of lambda for each list, and the standard deviation of N."""
        from scipy.special import expit

        if tilt in self._theta:
            return self._theta[tilt]
        x = self._w * tilt
        theta = np.full(len(self._starts), np.log(self._size / (self._vocab - self._size)))
        for _ in range(60):
            p, p0 = expit(theta[self._index] + x), expit(theta)
            gap = np.add.reduceat(p, self._starts) + self._others * p0 - self._size
            slope = np.add.reduceat(p * (1.0 - p), self._starts) + self._others * p0 * (1.0 - p0)
            if (np.abs(gap) <= 0.05 * np.sqrt(slope)).all():
                break
            theta = theta - np.clip(gap / np.maximum(slope, 1e-300), -2.0, 2.0)
        self._theta[tilt] = theta, np.sqrt(slope)
        return self._theta[tilt]

    def _log_meeting(self, x: FloatArray, theta: FloatArray, spread: FloatArray) -> FloatArray:
        """``log lambda^-G (1 + lambda)^(V-m) P(N = G) / C(V, G)`` of each list."""
        from scipy.special import expit

        found = np.empty(len(theta))
        p = expit(theta[self._index] + x)
        for length in np.unique(self._lengths).tolist():
            lists = np.flatnonzero(self._lengths == length)
            step = max(1, _BLOCK // (length + 1))
            for start in range(0, len(lists), step):
                some = lists[start : start + step]
                chances = p[self._starts[some, None] + np.arange(length)]
                if length <= _SHORT:
                    found[some] = self._added(chances, theta[some])
                else:
                    found[some] = self._integral(chances, theta[some], spread[some])
        return found

    def _added(self, chances: FloatArray, theta: FloatArray) -> FloatArray:
        """`_log_meeting` of lists of one length: one token after the other."""
        n, length = chances.shape
        law = np.zeros((length + 1, n))
        law[0] = 1.0
        for u in range(length):
            p = chances[:, u]
            law[1 : u + 2] = law[1 : u + 2] * (1.0 - p) + law[: u + 1] * p
            law[0] *= 1.0 - p
        size, vocab = self._size, self._vocab
        low, high = max(0, length - (vocab - size)), min(length, size)
        j = np.arange(low, high + 1)
        # C(V - m, G - j) / C(V, G) by falling factorials, whose logs are small numbers
        ratio = np.log(size / vocab) * j + np.log1p(-size / vocab) * (length - j)
        ratio += _log_fall(size, length)[j] + _log_fall(vocab - size, length)[length - j]
        ratio -= _log_fall(vocab, length)[length]
        exponents = ratio[:, None] - j[:, None] * theta
        top = exponents.max(axis=0)
        with np.errstate(divide="ignore"):  # -inf where it underflows: not known then
            found: FloatArray = np.log((law[j] * np.exp(exponents - top)).sum(axis=0)) + top
        return found

    def _integral(self, chances: FloatArray, theta: FloatArray, spread: FloatArray) -> FloatArray:
        """`_log_meeting` of lists of one length, by Fourier's integral."""
        from scipy.special import expit

        others = self._vocab - chances.shape[1]
        p0 = expit(theta)
        # over half a period the rule is exact with as many nodes as N has values
        whole = _END / spread >= np.pi
        width = np.where(whole, 2.0 * np.pi / (self._vocab + 1), _STEP / spread)
        n_nodes = (self._vocab + 1) // 2 if whole.any() else int(_END / _STEP) + 1
        total = np.full(len(theta), 0.5)
        for node in range(1, n_nodes + 1):
            y = width * node
            inside = y <= np.where(whole, np.pi, np.inf)
            turn = np.exp(1j * y) - 1.0
            factor = np.prod(1.0 + chances * turn[:, None], axis=1)
            log = others * np.log(1.0 + p0 * turn) - 1j * self._size * y
            half = np.where(np.isclose(y, np.pi), 0.5, 1.0)
            total += np.where(inside, half * (factor * np.exp(log)).real, 0.0)
        logs = _log_factorials(self._vocab)
        choices = float(logs[-1] - logs[self._size] - logs[self._vocab - self._size])
        scale = others * np.logaddexp(0.0, theta) - self._size * theta - choices
        found: FloatArray = np.log(total * width / np.pi) + scale
        return found

    def draw(self, rng: np.random.Generator, tilt: float, n: int) -> FloatArray:
        """So many values of ``T - mean``, summed over the lists, under a tilt."""
        from scipy.special import expit

        theta, _ = self._centre(tilt)
        chances = expit(theta[self._index] + self._w * tilt)
        limits = as_limits(chances)
        peak = self._peak(theta)
        ends = np.stack([np.zeros_like(self._lengths), self._lengths])
        surely = np.exp(self._log_accept(ends, np.arange(len(theta)), theta, peak).min(axis=0))
        values = np.empty(n)
        step = max(1, _BLOCK // len(self._w))
        for row in range(0, n, step):
            rows = min(step, n - row)
            green = rng.integers(0, 1 << 32, (rows, len(self._w)), dtype=np.uint32) < limits
            # the acceptance has one peak, so it is least at an end
            doubt = 1.0 - rng.random((rows, len(theta)))
            where = np.nonzero(doubt >= surely)
            self._mend(rng, green, where, np.log(doubt[where]), theta, peak, limits)
            values[row : row + rows] = green.astype(np.float64) @ self._w
        return values - self._size / self._vocab * self._sum

    def _mend(
        self,
        rng: np.random.Generator,
        green: npt.NDArray[np.bool_],
        where: tuple[npt.NDArray[np.intp], ...],
        log_doubt: FloatArray,
        *rest: Any,
    ) -> None:
        """Draws the lists again whose proposal is not accepted, until all are."""
        (rows, lists), (theta, peak, limits) = where, rest
        for _ in range(_PROPOSALS):
            if not len(rows):
                return
            lengths = self._lengths[lists]
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            units = np.arange(int(lengths.sum())) + np.repeat(self._starts[lists] - starts, lengths)
            of_row = np.repeat(rows, lengths)
            counts = np.add.reduceat(green[of_row, units].astype(np.int64), starts)
            again = log_doubt >= self._log_accept(counts, lists, theta, peak)
            rows, lists = rows[again], lists[again]
            redrawn = np.repeat(again, lengths)
            units, of_row = units[redrawn], of_row[redrawn]
            fresh = rng.integers(0, 1 << 32, len(units), dtype=np.uint32)
            green[of_row, units] = fresh < limits[units]
            log_doubt = np.log(1.0 - rng.random(len(rows)))
        raise HardToDrawError

    def _peak(self, theta: FloatArray) -> FloatArray:
        """The largest ``log C(V - m, G - j) - j log lambda`` over j, for each list."""
        from scipy.special import expit

        # the mode of a binomial law of the others is floor((others + 1) p)
        green = np.floor((self._others + 1) * expit(theta)).astype(np.int64)
        low = np.maximum(0, self._size - self._lengths)
        green = np.clip(green, low, np.minimum(self._others, self._size))
        zero = np.zeros_like(theta)
        logs = [
            self._log_accept(self._size - one, np.arange(len(theta)), theta, zero)
            for one in (np.maximum(green - 1, low), green)
        ]
        found: FloatArray = np.maximum(*logs)
        return found

    def _log_accept(
        self,
        counts: npt.NDArray[np.int64],
        lists: npt.NDArray[np.intp],
        theta: FloatArray,
        peak: FloatArray,
    ) -> FloatArray:
        """Log of the chance that a proposal with so many green tokens is accepted."""
        logs, others = _log_factorials(self._vocab), self._others[lists]
        green = self._size - counts
        possible = (green >= 0) & (green <= others)
        kept = np.clip(green, 0, others)
        choices = logs[others] - logs[kept] - logs[others - kept]
        return np.where(possible, choices - counts * theta[lists] - peak[lists], -np.inf)
