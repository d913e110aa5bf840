"""Scoring: documents in, evidence out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from radscore import _core
from radscore.checks import (
    Dedup,
    PromptRole,
    check_choice,
    check_reach,
    check_rules,
    check_schemes,
    check_start,
    check_threads,
)
from radscore.documents import Documents, DocumentsLike, check_width
from radscore.errors import ArgumentError, StateError, TokenError
from radscore.results import CurvePoint, ScoreResult
from radscore.scoring.evidence import (
    GRID,
    PUBLIC_KEY,
    falls_below_mean,
    filter_notes,
    filter_reason,
    list_shape,
    notes_of,
    nothing_scored,
    prompt_notes,
    statistic_of,
    weighted_law,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme
    from radscore.stats import SumResult, WeightedResult

__all__ = ["Scorer"]

Combine: TypeAlias = Literal["one", "sum"]


class Scorer:
    """Scores documents under one scheme, or under many schemes or keys at once.

    Every window is packed, filtered and deduplicated once for all schemes; each distinct unit is
    scored once. Results depend neither on the number of threads nor on how the documents are
    split over calls of `add`.

    Parameters
    ----------
    scheme : Scheme or sequence of Scheme
        What to test for. Several schemes must have one vocabulary; `results` has one result each.
    dedup : {"unit", "window", "context", "none"}
        What counts once over everything added: the unit (what the scheme's random function
        reads; the default, always valid), the window (the published rule), the context (with the
        target of its first occurrence; the engines' own rule), or nothing (reproduction only, no
        p-value).
    filter : KgramSet, optional
        Only windows whose context is in the set are scored (closed model). There is a p-value
        where the set is from text without the tested watermark (``watermarked=False``); for sets
        from watermarked text see `radscore.test_closed`.
    start : int, optional
        First position of a document that is scored; by default each scheme's `first_position`: 0
        for vLLM's schemes and SynthID's, whose contexts are padded on the left, for others the
        first with a whole context. A smaller one needs a scheme with `padding`.
    threads : int, optional
        Worker threads; all cores by default.
    combine : {"one", "sum"}
        With weights: whether equal units count once with the weight of their first occurrence,
        or their weights add.
    prompt_role : {"exclude", "context"}
        Whether a document's prompt excludes the windows whose context it contains (a padded
        context: whose own tokens it contains), or stands before the document, so that the first
        contexts reach into it. The latter needs schemes that do so (`reaches_prompt`).
    curve : sequence of int, optional
        Record the test after these numbers of tokens.
    predictable : bool
        Whether weights depend on the key after all, but each only on what stands before it in
        reading order (a model read text that carries the tested watermark); see
        `radscore.stats.weighted_test`. Needs weights; with ``combine="sum"`` all weights of a unit
        must be fixed before its first score was.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=100, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> scorer = rs.Scorer(scheme)
    >>> scorer.add([[1, 2, 3, 4, 1, 2, 3], [2, 3, 4]])
    >>> result = scorer.result()
    >>> result.n_scored, result.n_windows, result.n_duplicates
    (4, 8, 4)
    """

    def __init__(
        self,
        scheme: Scheme | Sequence[Scheme],
        dedup: Dedup = "unit",
        *,
        filter: KgramSet | None = None,
        start: int | None = None,
        threads: int | None = None,
        combine: Combine = "one",
        prompt_role: PromptRole = "exclude",
        curve: Sequence[int] = (),
        predictable: bool = False,
    ) -> None:
        self.schemes: tuple[Scheme, ...] = check_schemes(scheme)
        check_rules(dedup, prompt_role, filter)
        check_reach(self.schemes, prompt_role)
        check_choice("combine", combine, get_args(Combine))
        self.dedup: Dedup = dedup
        self.combine: Combine = combine
        self.predictable = predictable
        self.prompt_role: PromptRole = prompt_role
        self.filter = filter
        self.start = check_start(start)
        self.curve_steps = [check_width("curve", step, 1, 2**62) for step in curve]
        #: What `save` was given beside the state, after `load`.
        self.extra: dict[str, Any] = {}
        self._core = _core.Scorer(
            [one.core for one in self.schemes],
            dedup,
            "first" if predictable else combine,
            self.start,
            prompt_role,
            None if filter is None else filter.core,
            check_threads(threads),
            self.curve_steps,
        )

    @property
    def core(self) -> _core.Scorer:
        """The compiled scorer."""
        return self._core

    def add(
        self,
        documents: DocumentsLike,
        prompts: DocumentsLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Adds documents.

        Parameters
        ----------
        documents : Documents, Arrow lists, lists of ids, arrays, tensors
            Anything that `Documents.of` takes.
        prompts : the same, optional
            One prompt a document (possibly empty); see `prompt_role`.
        weights : array_like of float64, shape (n_tokens,), optional
            Weight of the window that ends at each token. Weights must not depend on the key. They
            must be given from the first call on (1 is assumed in later calls without them).

        Raises
        ------
        TokenError
            If an id is outside the vocabulary (nothing is added then) or the input is malformed.

        Notes
        -----
        After Ctrl-C up to 2**24 tokens of one call have been taken in whole nevertheless;
        `n_tokens` tells.
        """
        ragged = Documents.of(documents)
        before = None if prompts is None else Documents.of(prompts)
        self._core.add(
            (ragged.values, ragged.offsets),
            None if before is None else (before.values, before.offsets),
            _weights(weights),
        )

    def add_pairs(
        self,
        contexts: npt.ArrayLike,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        *,
        occurrences: npt.ArrayLike | None = None,
    ) -> None:
        """Adds (context, target) pairs with their weights, without a document.

        Parameters
        ----------
        contexts : array_like of int, shape (n, window_width - 1)
            Context tokens, oldest first; -1 where that is the scheme's padding.
        targets : array_like of int, shape (n,)
            Target tokens.
        weights : array_like of float64, shape (n,), optional
            As in `add`.
        occurrences : array_like of int, shape (n,), optional
            Place of reading of each pair, from 0; pairs of one place (several targets after one
            context) share it. By default each pair is a place of its own, in the order given.
            It decides which pairs come first under ``combine="one"`` and ``dedup="context"``.
        """
        before = np.asarray(contexts)
        after = np.asarray(targets)
        if not before.size and not after.size:
            return
        if before.ndim != 2 or after.ndim != 1 or len(before) != len(after):
            raise ArgumentError(
                f"contexts must be (n, k) and targets (n,), not {before.shape} and {after.shape}"
            )
        for name, ids in (("contexts", before), ("targets", after)):
            if not np.issubdtype(ids.dtype, np.integer):
                raise TokenError(f"{name} must be integers, not {ids.dtype}")
            padded = name == "contexts" and all(one.padding == -1 for one in self.schemes)
            low = -1 if padded else 0
            if ids.size and (ids.min() < low or ids.max() >= 2**32):
                found = ids.min() if ids.min() < low else ids.max()
                raise TokenError(f"{name} hold the id {found}")
        windows = np.column_stack([before.astype(np.uint32), after.astype(np.uint32)])
        places = None
        if occurrences is not None:
            places = np.asarray(occurrences)
            if not np.issubdtype(places.dtype, np.integer) or (len(places) and places.min() < 0):
                raise ArgumentError("occurrences must be integers from 0 on")
            places = np.ascontiguousarray(places, dtype=np.uint64)
            if weights is None:  # several targets of one place are a matter of weights
                weights = np.ones(len(windows))
        self._core.add_windows(
            np.ascontiguousarray(windows, dtype=np.uint32), _weights(weights), places
        )

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents that were added."""
        return self._core.n_tokens

    def tally(self) -> _core.Tally:
        """The sums of the only scheme."""
        self._only()
        return self.tallies()[0]

    def tallies(self) -> list[_core.Tally]:
        """The sums of each scheme: what was read, what each rule removed, what was scored."""
        return self._core.tallies()

    def result(self) -> ScoreResult:
        """The test of the only scheme.

        Raises
        ------
        TokenError
            If not a single window was scored: there is nothing to test.
        """
        self._only()
        return self.results()[0]

    def results(self) -> list[ScoreResult]:
        """The test of each scheme, in their order."""
        tallies = self.tallies()
        curve = self._core.curve()
        return [
            self._result(index, tally, [(n, points[index]) for n, points in curve])
            for index, tally in enumerate(tallies)
        ]

    def result_of(self, tally: _core.Tally) -> ScoreResult:
        """The test of the only scheme by sums that were made elsewhere, under the same rules."""
        self._only()
        return self._result(0, tally, [])

    def _only(self) -> None:
        if len(self.schemes) != 1:
            raise ArgumentError(f"the scorer has {len(self.schemes)} schemes; use results()")

    def _result(
        self, index: int, tally: _core.Tally, curve: list[tuple[int, _core.Tally]]
    ) -> ScoreResult:
        scheme = self.schemes[index]
        if tally.n_scored == 0:
            raise TokenError(nothing_scored(scheme, tally, self.start))
        from radscore.stats import WeightedResult

        test, statistic, notes = self._test(index, tally)
        weighted = test if isinstance(test, WeightedResult) else None
        log10_pvalue, method = test.log10_pvalue, test.method
        assumed = prompt_notes(scheme, self.prompt_role, tally.n_excluded)
        if self.dedup == "none":
            log10_pvalue, method, weighted = math.nan, "none: repetitions were counted", None
        elif set(notes) - {PUBLIC_KEY}:
            method = f"approximate: {method}"
        result = ScoreResult(
            statistic=statistic,
            n_scored=tally.n_scored,
            n_green=tally.n_green if scheme.core.score_kind == "green" and not weighted else None,
            pvalue=10.0**log10_pvalue,
            log10_pvalue=log10_pvalue,
            method=method,
            expected=0.0 if isinstance(test, WeightedResult) else test.expected,
            zscore=math.nan if self.dedup == "none" else test.zscore,
            scheme=scheme.name,
            fingerprint=scheme.fingerprint,
            parameters=scheme.to_dict(),
            version=_core.__version__,
            dedup=self.dedup,
            combine=self.combine,
            start=self.start,
            prompt_role=self.prompt_role,
            filter=None if self.filter is None else self.filter.fingerprint,
            n_documents=tally.n_documents,
            n_short_documents=tally.n_short_documents,
            n_tokens=tally.n_tokens,
            n_windows=tally.n_windows,
            n_excluded=tally.n_excluded,
            n_filtered=tally.n_filtered,
            n_duplicates=tally.n_duplicates,
            n_keyless=tally.n_keyless,
            notes=(*notes, *filter_notes(self.filter), *assumed),
            curve=tuple(self._point(index, *point) for point in curve),
            weighted=weighted,
        )
        why = filter_reason(self.filter)
        return result if why is None else result.without_pvalue(why)

    def _test(
        self, index: int, tally: _core.Tally
    ) -> tuple[SumResult | WeightedResult, float, tuple[str, ...]]:
        from radscore.scoring.residues import counted_test, weighed_test
        from radscore.stats import sum_test, weighted_test

        scheme = self.schemes[index]
        counted = scheme.core.residues > 0 and self.dedup != "none" and not self.predictable
        notes = notes_of(scheme, self.dedup, counted=counted)
        units = self._core.weighted_units(index)
        if units is None:
            if self.predictable:
                raise ArgumentError("predictable=True needs windows with weights")
            if counted:
                plain = counted_test(scheme, tally)
                return plain, plain.statistic, notes
            total = statistic_of(scheme, tally.n_green, tally.score_sum, tally.depth_counts)
            return sum_test(total, tally.n_scored, scheme.null_law), total, notes
        weights, _, groups, residues = units
        law = weighted_law(scheme)
        total = tally.sum_weight_score - law.mean * tally.sum_weight
        if counted and residues is not None:
            return weighed_test(scheme, total, weights, residues), total, notes
        if falls_below_mean(scheme, weights):
            notes = (*notes, GRID)
        shape = list_shape(scheme, groups)
        test = weighted_test(total, weights, law, **shape, predictable=self.predictable)
        return test, total, notes

    def _point(self, index: int, n_tokens: int, tally: _core.Tally) -> CurvePoint:
        if tally.weighted or not tally.n_scored:
            return CurvePoint(n_tokens, tally.n_scored, tally.sum_weight_score, math.nan)
        scheme = self.schemes[index]
        total = statistic_of(scheme, tally.n_green, tally.score_sum, tally.depth_counts)
        log10_pvalue = math.nan
        if self.dedup != "none" and scheme.core.residues:
            from radscore.scoring.residues import counted_test

            log10_pvalue = counted_test(scheme, tally).log10_pvalue
        elif self.dedup != "none":
            log10_pvalue = float(scheme.null_law.log10_sf(total, tally.n_scored))
        return CurvePoint(n_tokens, tally.n_scored, total, log10_pvalue)

    def merge(self, other: Scorer) -> None:
        """Takes in what `other` has read, as if it had been added here afterwards.

        Raises
        ------
        StateError
            If the two differ in schemes, keys or rules.
        """
        if not isinstance(other, Scorer):
            raise ArgumentError(f"only a Scorer can be merged, not {type(other).__name__}")
        mine, theirs = self._config(), other._config()
        if mine != theirs:
            raise StateError(f"the scorers differ in {_differences(mine, theirs)}")
        self._core.merge(other._core)

    def _config(self) -> dict[str, Any]:
        return {
            "schemes": [scheme.fingerprint for scheme in self.schemes],
            "dedup": self.dedup,
            "combine": self.combine,
            "predictable": self.predictable,
            "prompt_role": self.prompt_role,
            "start": self.start,
            "first_positions": [scheme.first_position for scheme in self.schemes],
            "filter": None if self.filter is None else self.filter.fingerprint,
            "curve": self.curve_steps,
        }

    def save(self, path: str | Path, *, extra: dict[str, Any] | None = None) -> None:
        """Saves the state, replacing `path` at once; `load` continues exactly there.

        The file (format ``RSST``, version 3, with a checksum) holds the distinct windows, sums
        and fingerprints, never a key. `extra` is kept beside it (JSON).
        """
        try:
            header = json.dumps({"config": self._config(), "extra": extra or {}}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"extra must be plain JSON: {error}") from None
        self._core.save(Path(path), header.encode())

    @classmethod
    def load(
        cls,
        path: str | Path,
        scheme: Scheme | Sequence[Scheme],
        *,
        filter: KgramSet | None = None,
        threads: int | None = None,
    ) -> Scorer:
        """Loads what `save` wrote, for the same schemes, keys and filter.

        Raises
        ------
        StateError
            If the file is damaged, of another version, or was made under another scheme, key or
            filter.
        """
        header, state = _core.Scorer.read_state(Path(path))
        try:
            content = json.loads(header)
            config, extra = content["config"], content["extra"]
            names = ("dedup", "combine", "predictable", "prompt_role", "start")
            rules = {name: config[name] for name in names}
            steps = config["curve"]
        except (ValueError, KeyError, TypeError):
            raise StateError(f"{path} has a damaged header") from None
        scorer = cls(scheme, **rules, filter=filter, threads=threads, curve=steps)
        if scorer._config() != config:
            different = _differences(scorer._config(), config)
            raise StateError(f"{path} was made with another {different}")
        scorer._core.restore(state)
        scorer.extra = extra
        return scorer

    def __repr__(self) -> str:
        names = ", ".join(scheme.name for scheme in self.schemes[:3])
        more = f", ... {len(self.schemes)} in all" if len(self.schemes) > 3 else ""
        return f"Scorer({names}{more}; dedup='{self.dedup}', n_tokens={self.n_tokens})"


def _weights(weights: npt.ArrayLike | None) -> npt.NDArray[np.float64] | None:
    if weights is None:
        return None
    try:
        array = np.ascontiguousarray(weights, dtype=np.float64)
    except (ValueError, TypeError):
        raise ArgumentError("weights must be an array of numbers") from None
    if array.ndim != 1:
        raise ArgumentError(f"weights must be 1-D, not {array.ndim}-D")
    return array


def _differences(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    names = [name for name in mine if mine[name] != theirs.get(name)]
    words = {"schemes": "scheme or key", "first_positions": "first position"}
    return ", ".join(words.get(name, name) for name in names)
