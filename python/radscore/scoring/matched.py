"""`MatchedScorer`: what the watermark would have done, correlated with what a model learned.

For each context the key turns the reference's distribution into another one, as it does when text
is written; the statistic weighs what that adds. `radscore.stats.matched` has the p-values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore._core import __version__
from radscore.checks import check_schemes, check_threads
from radscore.errors import ArgumentError, TokenError
from radscore.provenance import provenance
from radscore.results import ScoreResult
from radscore.scoring.evidence import Rules
from radscore.scoring.notes import PUBLIC_KEY, notes_of
from radscore.scoring.scorer import Scorer
from radscore.stats.decoys import DecoyResult, decoy_test
from radscore.stats.matched import MatchedResult, OneWinner, matched_test, varied_test

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.schemes import Scheme

__all__ = ["MatchedScorer"]

#: Sums are whole multiples of it, so that they depend neither on order nor on portions.
_UNIT: Final = 2.0**-36
_LARGEST: Final = 1024.0
_MOST: Final = 2.0**62
#: Keys whose tournaments tell how much a sum can move.
_TRIALS: Final = 4
_TARGET_BITS: Final = np.uint64(20)
_TARGET: Final = np.uint64((1 << 20) - 1)
_COARSE: Final = "the scheme's uniforms lie on a coarse grid, so that rare tokens win less often than they should"
_NO_SEED: Final = (
    "no seed is known before the target, so the draws of different contexts are not independent"
)
_NO_RULE: Final = (
    "matched scores ask what the watermark would have done, and scheme {!r} has no sampling rule of "
    "radscore's; use another weighting"
)


class MatchedScorer:
    """Takes (context, target) pairs with gains and probabilities, and tests them under schemes.

    With green lists it is a `Scorer` of the gains: what the list would have done to a token is
    proportional to its greenness, and weighing it by q as well only adds noise (docs/validity.md).
    Otherwise memory grows with the distinct pairs.

    Parameters
    ----------
    scheme : Scheme or sequence of Scheme
        What to test for; several must share one vocabulary and one context width.
    predictable : bool
        Whether gains and probabilities may depend on the key, each context's on what precedes it
        in reading order: the text carries the tested watermark. Each seed must come once then.
    threads : int, optional
        Worker threads; all cores by default.

    Attributes
    ----------
    schemes : tuple of Scheme
    rules : Rules

    Raises
    ------
    ArgumentError
        If a scheme has no sampling rule of radscore's.

    Notes
    -----
    Pairs of one context add up: gains are summed, probabilities averaged over the places. Contexts
    that share a seed share their draws, and are one row; where they share draws only in part
    (`TextSeal`, `SynthIDDeepMind`), all but the first are left out. In each row the probabilities of
    the tokens that were given are brought to a sum of 1; a token that was not given at a place has
    gain and probability 0 there. None of this depends on the key.

    Examples
    --------
    >>> import numpy as np
    >>> import radscore as rs
    >>> scheme = rs.VLLMGumbel(vocab_size=50, key=3, context_width=1)
    >>> contexts = np.repeat(np.arange(50), 3)[:, None]
    >>> targets = np.tile([1, 2, 3], 50)
    >>> q = np.tile([0.5, 0.3, 0.2], 50)
    >>> scorer = MatchedScorer(scheme)
    >>> scorer.add_pairs(contexts, targets, np.ones(150), q)
    >>> scorer.n_scored, scorer.result().statistic
    (150, 0.0)
    """

    def __init__(
        self,
        scheme: Scheme | Sequence[Scheme],
        *,
        predictable: bool = False,
        threads: int | None = None,
    ) -> None:
        self.schemes: tuple[Scheme, ...] = check_schemes(scheme)
        first = self.schemes[0]
        if any(one.window_width != first.window_width for one in self.schemes):
            raise ArgumentError("matched scores need schemes of one context width")
        for one in self.schemes:
            if not isinstance(one.sampling, str):
                raise ArgumentError(_NO_RULE.format(one.name))
        self.rules = Rules("unit", "one" if predictable else "sum", predictable=predictable)
        self._threads = check_threads(threads)
        self._green: Scorer | None = None
        if first.sampling == "bias":
            self._green = Scorer(
                self.schemes, combine=self.rules.combine, threads=threads, predictable=predictable
            )
        self._pairs = _Pairs(first.window_width - 1, first.vocab_size)
        self._rows: dict[int, _Rows] = {}
        self._expected: float | None = None

    def add_pairs(
        self,
        contexts: npt.ArrayLike,
        targets: npt.ArrayLike,
        gains: npt.ArrayLike,
        q: npt.ArrayLike,
        *,
        occurrences: npt.ArrayLike | None = None,
    ) -> None:
        """Adds pairs.

        Parameters
        ----------
        contexts : array_like of int, shape (n, window_width - 1)
            Context tokens, oldest first; 2^32 - 1 stands for a padding of -1.
        targets : array_like of int, shape (n,)
        gains : array_like of float, shape (n,)
            How much more the suspect favours the target than the reference does; within -1,024 to
            1,024.
        q : array_like of float, shape (n,)
            The reference's probability of the target, 0 to 1.
        occurrences : array_like of int, shape (n,), optional
            As in `Scorer.add_pairs`.

        Raises
        ------
        ArgumentError
            If shapes differ, or a number is out of range.
        TokenError
            If an id is outside the vocabulary.
        """
        before, after = _ids("contexts", contexts, 2), _ids("targets", targets, 1)
        weights, base = _numbers("gains", gains), _numbers("q", q)
        if not len(before) == len(after) == len(weights) == len(base):
            raise ArgumentError(
                f"contexts, targets, gains and q must have one row per pair, not {len(before)}, "
                f"{len(after)}, {len(weights)} and {len(base)}"
            )
        if not len(after):
            return
        if not (np.abs(weights) <= _LARGEST).all():
            raise ArgumentError(f"gains must be within -{_LARGEST:g} to {_LARGEST:g}")
        if not ((base >= 0) & (base <= 1.0 + 1e-6)).all():
            raise ArgumentError("q must hold probabilities")
        if self._green is not None:
            self._green.add_pairs(before, after, weights, occurrences=occurrences)
            return
        self._pairs.add(before, after, weights, base)
        self._rows.clear()
        self._expected = None

    @property
    def n_scored(self) -> int:
        """Distinct pairs that were scored under the first scheme."""
        if self._green is not None:
            return int(self._green.tallies()[0].n_scored)
        return len(self._rows_of(0).tokens)

    def result(self) -> ScoreResult:
        """The test of the only scheme.

        Raises
        ------
        TokenError
            If nothing was scored.
        """
        if len(self.schemes) != 1:
            raise ArgumentError(f"the scorer has {len(self.schemes)} schemes; use results()")
        return self.results()[0]

    def results(self, n: int | None = None) -> list[ScoreResult]:
        """The test of each scheme, or of the first `n` (others may be decoys), in order."""
        if self._green is not None:
            return self._green.results(n)
        return [self._result(index) for index in range(len(self.schemes[:n]))]

    def decoy_test(self) -> DecoyResult:
        """The first scheme against the others, taken as decoy keys.

        Raises
        ------
        ArgumentError
            If the schemes are not one scheme under different keys.
        """
        if self._green is not None:
            return self._green.decoy_test()
        kin = all(one.to_dict() == self.schemes[0].to_dict() for one in self.schemes)
        if len({one.fingerprint for one in self.schemes}) < max(len(self.schemes), 2) or not kin:
            raise ArgumentError(
                "a decoy test needs a scorer of one scheme under different keys: "
                "[scheme, *scheme.decoys(n)]"
            )
        scores = [self._statistic(index)[0] for index in range(len(self.schemes))]
        root = math.sqrt(self._scale()) or 1.0
        return decoy_test(scores[0] / root, np.array(scores[1:]) / root)

    def _scale(self) -> float:
        """A variance of the statistic that is the same for all keys."""
        rows = self._rows_of(0)
        return self._variation() if self._is_tournament else rows.problem.variance

    @property
    def _is_tournament(self) -> bool:
        return self.schemes[0].sampling == "tournament"

    def _rows_of(self, index: int) -> _Rows:
        """The rows of a scheme: those of another with the same, where there is one."""
        scheme = self.schemes[index]
        fixed = scheme.seed_kind in {"context", "hash", "target"}
        if (at := 0 if fixed else index) not in self._rows:
            self._rows[at] = _Rows.of(self._pairs.whole(), scheme)
        rows = self._rows[at]
        if not fixed and index:  # each key has its own: decoys' are not kept
            del self._rows[at]
        return rows

    def _statistic(self, index: int, *, varies: bool = False) -> tuple[float, float, _Rows]:
        """T, its variation, and the rows."""
        rows, scheme = self._rows_of(index), self.schemes[index]
        total, variation = rows.matched(scheme, varies=varies, threads=self._threads)
        return total - rows.mean, variation, rows

    def _variation(self) -> float:
        """About the most that T can move, by keys that are none of those tested."""
        if self._expected is None:
            rows, scheme = self._rows_of(0), self.schemes[0]
            trials = scheme.decoys(_TRIALS, seed=2**64 - 1)
            found = [rows.matched(one, varies=True, threads=self._threads)[1] for one in trials]
            self._expected = float(np.mean(found) + 2.0 * np.std(found, ddof=1))
        return self._expected

    def _result(self, index: int) -> ScoreResult:
        scheme, predictable = self.schemes[index], self.rules.predictable
        statistic, variation, rows = self._statistic(index, varies=self._is_tournament)
        if not len(rows.tokens):
            raise TokenError(f"nothing was scored: {self._why_nothing(rows)}")
        test: MatchedResult
        if self._is_tournament:
            test = varied_test(
                statistic,
                variation,
                0.0 if predictable else self._variation(),
                n_units=len(rows.tokens),
                n_seeds=len(rows.contexts),
                predictable=predictable,
            )
        else:
            test = matched_test(
                statistic, rows.problem, n_units=len(rows.tokens), predictable=predictable
            )
        notes = notes_of(scheme, "unit")
        method = f"approximate: {test.method}" if set(notes) - {PUBLIC_KEY} else test.method
        result = ScoreResult(
            statistic=test.statistic,
            log10_pvalue=test.log10_pvalue,
            n_scored=test.n_units,
            n_green=None,
            method=method,
            expected=0.0,
            zscore=test.zscore,
            scheme=scheme.name,
            fingerprint=scheme.fingerprint,
            parameters=scheme.to_dict(),
            version=__version__,
            dedup=self.rules.dedup,
            combine=self.rules.combine,
            start=None,
            prompt_role=self.rules.prompt_role,
            filter=None,
            n_documents=0,
            n_short_documents=0,
            n_tokens=0,
            n_windows=self._pairs.n_pairs,
            n_excluded=rows.n_overlapping,
            n_filtered=0,
            n_duplicates=self._pairs.n_pairs - len(rows.tokens) - rows.n_left_out,
            n_keyless=rows.n_keyless,
            notes=notes,
            weighted=test,
            provenance=provenance(scheme=scheme),
        )
        if scheme.seed_kind == "target":
            return result.without_pvalue(_NO_SEED)
        return result.without_pvalue(_COARSE) if scheme.low_mean else result

    def _why_nothing(self, rows: _Rows) -> str:
        if not self._pairs.n_pairs:
            return "there are no pairs"
        return (
            f"of {self._pairs.n_pairs} pairs {rows.n_keyless} do not depend on the key, and the "
            "others have no token that the reference finds possible"
        )

    def __repr__(self) -> str:
        names = ", ".join(scheme.name for scheme in self.schemes[:3])
        more = f", ... {len(self.schemes)} in all" if len(self.schemes) > 3 else ""
        return f"MatchedScorer({names}{more})"


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the places of each pair, sorted: whole numbers of `_UNIT`.

    Attributes
    ----------
    pairs : ndarray of uint64, shape (n,)
        The context's number, and in the last 20 bits the target.
    gains, q : ndarray of int64, shape (n,)
    """

    pairs: npt.NDArray[np.uint64]
    gains: npt.NDArray[np.int64]
    q: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        pairs: npt.NDArray[np.uint64],
        gains: npt.NDArray[np.int64],
        q: npt.NDArray[np.int64],
    ) -> _Sums:
        """Adds up what belongs to one pair."""
        order = np.argsort(pairs, kind="stable")
        pairs = pairs[order]
        starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)])
        gains = np.add.reduceat(gains[order], starts) if len(pairs) else gains
        q = np.add.reduceat(q[order], starts) if len(pairs) else q
        return cls(pairs[starts], gains, q)

    @classmethod
    def joined(cls, parts: list[_Sums]) -> _Sums:
        """All of them."""
        columns = ([getattr(one, name) for one in parts] for name in ("pairs", "gains", "q"))
        return cls.of(*(np.concatenate(one) for one in columns))

    def __len__(self) -> int:
        return len(self.pairs)


class _Pairs:
    """Pairs as they come in; those of one context add up."""

    def __init__(self, width: int, vocab_size: int) -> None:
        self.width, self.vocab_size = width, vocab_size
        self.n_pairs = 0
        self._numbers: dict[bytes, int] = {}
        self._sums: list[_Sums] = []
        self._new = 0  # pairs added since all were one

    def add(
        self,
        contexts: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
        gains: npt.NDArray[np.float64],
        q: npt.NDArray[np.float64],
    ) -> None:
        if contexts.shape[1] != self.width:
            raise ArgumentError(
                f"contexts must have {self.width} tokens for this scheme, not {contexts.shape[1]}"
            )
        if targets.min() < 0 or targets.max() >= self.vocab_size:
            bad = targets[(targets < 0) | (targets >= self.vocab_size)][0]
            raise TokenError(f"target {bad} is outside the vocabulary of {self.vocab_size}")
        if contexts.size and (contexts.min() < -1 or contexts.max() > 0xFFFF_FFFF):
            raise TokenError("contexts hold ids that are none")
        rows = contexts.astype(np.uint32)  # -1 and 2^32 - 1 are one padding
        changes = np.concatenate([[True], (rows[1:] != rows[:-1]).any(axis=1)])
        lines = np.flatnonzero(changes)
        numbers = [
            self._numbers.setdefault(row.tobytes(), len(self._numbers)) for row in rows[lines]
        ]
        number = np.array(numbers, dtype=np.uint64)[np.cumsum(changes) - 1]
        scaled = [np.rint(one / _UNIT).astype(np.int64) for one in (gains, q)]
        pairs = (number << _TARGET_BITS) | targets.astype(np.uint64)
        self._sums.append(_Sums.of(pairs, *scaled))
        self.n_pairs += len(targets)
        self._new += len(self._sums[-1])
        if self._new > 2 * len(self._sums[0]) and self._new > 1 << 20:
            self._join()

    def _join(self) -> None:
        self._sums = [_Sums.joined(self._sums)] if self._sums else []
        self._new = 0
        if self._sums and len(one := self._sums[0]):
            most = max(float(np.abs(one.gains).max()), float(one.q.max()))
            if most > _MOST / 2:
                raise ArgumentError("gains of one pair add up to more than 2^25")

    def whole(self) -> tuple[npt.NDArray[np.uint32], _Sums]:
        """Contexts in rising order, and sums that name them by their rank."""
        self._join()
        flat = b"".join(self._numbers)
        contexts = np.frombuffer(flat, dtype=np.uint32).reshape(-1, self.width)
        if not self._sums:
            empty = np.empty(0, dtype=np.int64)
            return contexts, _Sums(empty.astype(np.uint64), empty, empty)
        order = np.lexsort(contexts.T[::-1]) if self.width else np.arange(len(contexts))
        rank = np.empty(len(order), dtype=np.uint64)
        rank[order] = np.arange(len(order), dtype=np.uint64)
        sums = self._sums[0]
        named = (rank[sums.pairs >> _TARGET_BITS] << _TARGET_BITS) | (sums.pairs & _TARGET)
        again = np.argsort(named)
        return contexts[order], _Sums(named[again], sums.gains[again], sums.q[again])


@dataclass(frozen=True, eq=False)
class _Rows:
    """One row per seed: tokens, probabilities that add up to 1, and gains.

    Attributes
    ----------
    n_keyless, n_overlapping : int
        Contexts that were left out: their draws do not depend on the key; they share some draws
        with another one.
    n_left_out : int
        Pairs of these, and of rows without a possible token.
    """

    contexts: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.uint32]
    q: npt.NDArray[np.float64]
    gains: npt.NDArray[np.float64]
    problem: OneWinner
    n_keyless: int
    n_overlapping: int
    n_left_out: int

    @classmethod
    def of(cls, whole: tuple[npt.NDArray[np.uint32], _Sums], scheme: Scheme) -> _Rows:
        """The rows of a scheme's seeds."""
        contexts, sums = whole
        number = (sums.pairs >> _TARGET_BITS).astype(np.int64)
        heads, n_keyless = _seeds(contexts, scheme)
        inside = heads[number] >= 0
        n_left_out = int((~inside).sum())
        if (heads != np.arange(len(contexts))).any():
            pairs = sums.pairs[inside] & _TARGET
            pairs |= heads[number[inside]].astype(np.uint64) << _TARGET_BITS
            sums = _Sums.of(pairs, sums.gains[inside], sums.q[inside])
            number = (sums.pairs >> _TARGET_BITS).astype(np.int64)
        # rows without a possible token say nothing
        mass = np.bincount(number, weights=sums.q, minlength=len(contexts))
        kept = mass[number] > 0
        n_left_out += int((~kept).sum())
        number = number[kept]
        rows, counts = np.unique(number, return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        q, gains = sums.q[kept] / mass[number], sums.gains[kept] * _UNIT
        return cls(
            contexts=np.ascontiguousarray(contexts[rows]),
            offsets=offsets,
            tokens=(sums.pairs[kept] & _TARGET).astype(np.uint32),
            q=q,
            gains=gains,
            problem=OneWinner(offsets, q, gains, scheme.key_shares),
            n_keyless=n_keyless,
            n_overlapping=int((heads < 0).sum()) - n_keyless,
            n_left_out=n_left_out,
        )

    @property
    def mean(self) -> float:
        """Of the weighed sum over keys."""
        return self.problem.mean

    def matched(self, scheme: Scheme, *, varies: bool, threads: int | None) -> tuple[float, float]:
        """What the key makes of the rows, weighed; see `_core.Scheme.matched`."""
        return scheme.core.matched(
            self.contexts,
            (self.offsets, self.tokens, self.q),
            self.gains,
            0.0,
            varies=varies,
            threads=threads,
        )


def _seeds(contexts: npt.NDArray[np.uint32], scheme: Scheme) -> tuple[npt.NDArray[np.int64], int]:
    """The first context with the same draws as each, and how many do not depend on the key.

    It is -1 for these, and for those that share some draws with another one that is kept.
    """
    n = len(contexts)
    heads = np.arange(n)
    if scheme.seed_kind in {"context", "target"} or not n:
        return heads, 0
    windows = np.column_stack([contexts, np.zeros(n, dtype=np.uint32)])
    seeds = scheme.core.seeds(windows)
    columns = [*seeds.T]
    if not scheme.units_are_windows:  # whose units at one target are equal share all draws
        columns += [*scheme.core.units(windows).T]
    order = np.lexsort((heads, *columns[::-1]))
    changes = np.zeros(n, dtype=np.bool_)
    changes[0] = True
    for column in columns:
        changes[1:] |= column[order[1:]] != column[order[:-1]]
    first = order[changes]  # of each group of equal draws, by seed
    heads[order] = first[np.cumsum(changes) - 1]
    high, low = seeds[first].T
    reach = 1 if scheme.core.seeds_reach_neighbours else 0
    close = np.flatnonzero((high[1:] == high[:-1]) & (low[1:] - low[:-1] <= reach)) + 1
    dropped: set[int] = set()
    for at in close.tolist():
        before = at - 1
        while before in dropped:
            before -= 1
        if int(low[at]) - int(low[before]) <= reach:
            dropped.add(at)
    heads[np.isin(heads, first[sorted(dropped)])] = -1
    keyless = scheme.core.keyless(windows)
    heads[keyless] = -1
    return heads, int(keyless.sum())


def _ids(name: str, ids: npt.ArrayLike, dimensions: int) -> npt.NDArray[np.int64]:
    array = np.asarray(ids)
    if array.ndim != dimensions or not np.issubdtype(array.dtype, np.integer):
        raise ArgumentError(
            f"{name} must be {dimensions}-D integers, not {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.int64)


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ArgumentError(f"{name} must be 1-D, not {array.ndim}-D")
    return array
