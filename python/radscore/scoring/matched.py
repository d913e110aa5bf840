"""`MatchedScorer`: what the watermark would have done, correlated with what a model learned.

For each context the key turns the reference's distribution into another one, as it does when text
is written; the statistic weighs what that adds. `radscore.stats.matched` has the p-values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import numpy.typing as npt

from radscore.checks import check_schemes, check_threads
from radscore.errors import ArgumentError, TokenError
from radscore.provenance import provenance
from radscore.scoring.evidence import Rules, Tallied, empty_result
from radscore.scoring.notes import PUBLIC_KEY, notes_of
from radscore.scoring.scorer import Scorer
from radscore.scoring.seed_rows import PairSums, SeedRows
from radscore.stats.decoys import DecoyResult, decoy_test
from radscore.stats.matched import matched_test

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.results import ScoreResult
    from radscore.schemes import Scheme

__all__ = ["MatchedScorer"]

_LARGEST: Final = 1024.0
_COARSE: Final = "the scheme's uniforms lie on a coarse grid, on which rare tokens seldom win"
_NO_SEED: Final = (
    "no seed is known before the target, so the draws of different contexts are not independent"
)
_NO_RULE: Final = (
    "matched scores ask what the watermark would have done, and scheme {!r} has no sampling rule "
    "of radscore's; use another weighting"
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
    (`TextSeal`, `SynthIDDeepMind`), all but the first are left out. In each row the probabilities
    of the tokens that were given are brought to a sum of 1; a token that was not given at a place
    has gain and probability 0 there. None of this depends on the key.

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
    >>> result = scorer.result()
    >>> result.n_scored, result.statistic
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
        self._pairs = PairSums(first.window_width - 1, first.vocab_size)
        self._rows: dict[int, SeedRows] = {}

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
            Target tokens.
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

    def tally(self) -> Tallied:
        """What was read and scored under the first scheme."""
        if self._green is not None:
            return cast("Tallied", self._green.tallies()[0])
        return _Tally.of(self._rows_of(0), self._pairs.n_pairs)

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
        scores = []
        for index, scheme in enumerate(self.schemes):
            rows = self._rows_of(index)
            root = math.sqrt(rows.problem.variance) or 1.0
            scores.append(rows.excess(scheme, self._threads) / root)
        return decoy_test(scores[0], scores[1:])

    def _rows_of(self, index: int) -> SeedRows:
        """The rows of a scheme: those of another with the same, where there is one."""
        scheme = self.schemes[index]
        fixed = scheme.seed_kind in {"context", "hash", "target"}
        if (at := 0 if fixed else index) not in self._rows:
            self._rows[at] = SeedRows.of(self._pairs, scheme)
        rows = self._rows[at]
        if not fixed and index:  # each key has its own: decoys' are not kept
            del self._rows[at]
        return rows

    def _result(self, index: int) -> ScoreResult:
        scheme, rows = self.schemes[index], self._rows_of(index)
        n_units = len(rows.tokens)
        if not n_units:
            raise TokenError(f"nothing was scored: {self._why_nothing(rows)}")
        statistic = rows.excess(scheme, self._threads)
        predictable = self.rules.predictable
        # of tournaments only the mean is known, and that their moments are smaller
        draws = None if scheme.core.score_kind == "real" else 0
        test = matched_test(
            statistic, rows.problem, n_units=n_units, predictable=predictable, draws=draws
        )
        notes = notes_of(scheme, "unit")
        method = f"approximate: {test.method}" if set(notes) - {PUBLIC_KEY} else test.method
        tally = _Tally.of(rows, self._pairs.n_pairs)
        result = empty_result(tally, scheme, self.rules, method).replace(
            statistic=test.statistic,
            log10_pvalue=test.log10_pvalue,
            zscore=test.zscore,
            notes=notes,
            weighted=test,
            provenance=provenance(scheme=scheme),
        )
        if scheme.seed_kind == "target":
            return result.without_pvalue(_NO_SEED)
        return result.without_pvalue(_COARSE) if scheme.low_mean else result

    def _why_nothing(self, rows: SeedRows) -> str:
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


@dataclass
class _Tally:
    """What was read and scored; there are no documents."""

    n_scored: int
    n_windows: int
    n_excluded: int
    n_duplicates: int
    n_keyless: int
    n_documents: int = 0
    n_short_documents: int = 0
    n_tokens: int = 0
    n_filtered: int = 0

    @classmethod
    def of(cls, rows: SeedRows, n_pairs: int) -> _Tally:
        """The counts of some rows, made of so many pairs."""
        n_scored = len(rows.tokens)
        return cls(
            n_scored=n_scored,
            n_windows=n_pairs,
            n_excluded=rows.n_overlapping,
            n_duplicates=n_pairs - n_scored - rows.n_left_out,
            n_keyless=rows.n_keyless,
        )


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
