"""How the answers of a closed model are scored: what counts, with which weights, against what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from radscore.answers.expected import expected
from radscore.answers.grouping import (
    Kept,
    Shown,
    WindowCounts,
    context_numbers,
    count_windows,
    in_filter,
    kept_windows,
)
from radscore.answers.places import (
    PlaceWeights,
    frequency,
    looked_up_by_context,
    mean_lists,
    residuals,
    saturated,
    summed,
    weights_of_lists,
)
from radscore.answers.weights import DEFAULT_CONTRAST, DEFAULT_COUNT, weigh
from radscore.audits.shared import curve_point
from radscore.corpus.base import joined
from radscore.documents import Documents
from radscore.errors import TokenError
from radscore.models.listed_weights import looked_up
from radscore.scoring.contexts import Lookup
from radscore.scoring.notes import depends_on_key, is_usable
from radscore.scoring.scorer import Scorer
from radscore.stats.decoys import DecoyResult, decoy_test

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from radscore.answers.texts import AnswerTexts
    from radscore.kgrams import KgramCounts, KgramSet
    from radscore.models.listed import Listed
    from radscore.models.loading import LanguageModel
    from radscore.results import CurvePoint, ScoreResult
    from radscore.schemes import Scheme

__all__ = ["AnswerScorer", "Weighting", "add_weighted"]

Weighting: TypeAlias = Literal["plain", "counts", "contrast", "residual", "listed"]

_REAL_SHARE: Final = 0.5  # stands for gamma in the weights of schemes without green lists
_PLACES_AT_ONCE: Final = 1 << 14
_MARKED: Final = -4.0  # prompts with a smaller log10 p-value are called watermarked


@dataclass(frozen=True, eq=False)
class AnswerScorer:
    """Scores answers under one scheme, behind any filter.

    Attributes
    ----------
    scheme : Scheme
        The watermark and its key.
    weighting : {"plain", "counts", "contrast", "residual", "listed"}
        How windows are weighted.
    transform : str or None
        Which weights; None for plain scoring.
    suspect, reference : AnswerTexts, AnswerTexts or None
        The suspect's answers, and those they are contrasted with.
    prompts_watermarked : bool
        Whether a seed of any prompt excludes, not only one of the answer's own.
    threads : int or None
        Worker threads.
    models : tuple of LanguageModel
        References that read the suspect's answers.
    contexts : KgramCounts or None
        How often contexts occur in unmarked text; by default in the answers themselves.
    """

    scheme: Scheme
    weighting: Weighting
    transform: str | None
    suspect: AnswerTexts
    reference: AnswerTexts | None
    prompts_watermarked: bool
    threads: int | None
    models: tuple[LanguageModel, ...] = ()
    contexts: KgramCounts | None = None

    @cached_property
    def marked_prompts(self) -> float | None:
        """log10 p of the watermark in prompts that should not carry it but do; else None."""
        prompts = self._all_prompts()
        if prompts is None or self.prompts_watermarked:
            return None
        scorer = Scorer(self.scheme, threads=self.threads)
        scorer.add(prompts)
        if not scorer.tally().n_scored:
            return None
        log10 = scorer.result().log10_pvalue
        return log10 if log10 < _MARKED else None

    def _all_prompts(self) -> Documents | None:
        """Those of suspect and reference: neither's may tell of the key."""
        mine, other = self.suspect.prompts, self.reference
        if mine is None or other is None or other.prompts is None:
            return mine
        return joined([np.asarray(prompt) for both in (mine, other.prompts) for prompt in both])

    def _why_no_pvalue(self, phi: KgramSet | None) -> str | None:
        """In a few words, why there is no p-value; None if there is one."""
        if self.prompts_watermarked and self.scheme.seed_kind == "target":
            return "watermarked prompts, and no seed before the target"
        if self.marked_prompts is not None:
            return "the prompts carry the watermark"
        return None if is_usable(phi, self.scheme) else "the filter depends on the key"

    def score(self, phi: KgramSet | None, steps: list[int]) -> ScoreResult:
        """The test behind a filter, or without one; the curve at these numbers of tokens."""
        if self._is_plain and not depends_on_key(phi):
            scorer = Scorer(self.scheme, filter=phi, threads=self.threads, curve=steps)
            scorer.add(self.suspect.documents, self.suspect.prompts)
            result = scorer.result().replace(n_skipped=self.suspect.n_skipped)
        else:
            scorer = self._scorer([self.scheme], phi)
            kept, n_distinct = self._add(scorer, self._kept(self.suspect), phi)
            if not scorer.tally().n_scored:
                raise TokenError(
                    f"nothing was scored: of {kept.n_windows} windows {kept.n_excluded} were "
                    f"excluded by prompts, {kept.n_filtered} removed by the filter, and no weight "
                    "is left for the rest"
                )
            result = self._described(scorer.result(), kept, phi, n_distinct)
            result = result.replace(curve=tuple(self._point(phi, step) for step in steps))
        why = self._why_no_pvalue(phi)
        return result if why is None else result.without_pvalue(why)

    @property
    def _is_plain(self) -> bool:
        """Whether a scorer can take the texts themselves."""
        return self.weighting == "plain" and not self.prompts_watermarked

    def _kept(self, texts: AnswerTexts, n_answers: int | None = None) -> Kept:
        """The windows of the first answers that no prompt excludes."""
        documents, prompts = texts.documents, self._excluding(texts)
        if n_answers is not None:
            documents = Documents(documents.values, documents.offsets[: n_answers + 1])
            if prompts is not None and not self.prompts_watermarked:
                prompts = Documents(prompts.values, prompts.offsets[: n_answers + 1])
        return kept_windows(
            documents, self.scheme, prompts=prompts, any_prompt=self.prompts_watermarked
        )

    def _scorer(self, schemes: Sequence[Scheme], phi: KgramSet | None) -> Scorer:
        """A scorer that takes windows with their weights."""
        return Scorer(
            schemes,
            combine="one" if self.weighting == "plain" else "sum",
            threads=self.threads,
            predictable=depends_on_key(phi),
        )

    def _add(self, scorer: Scorer, kept: Kept, phi: KgramSet | None) -> tuple[Kept, int]:
        """Adds what the filter leaves, with its weights; returns it, and the distinct windows."""
        scheme = self.scheme
        by_seed = depends_on_key(phi) and scheme.seed_kind != "target"
        inside = np.ones(len(kept.targets), dtype=np.bool_)
        if phi is not None:
            inside = in_filter(kept.contexts, scheme, phi, by_seed=by_seed)
        left = kept.only(inside)
        if self.weighting == "plain":
            weights = np.ones(len(left.targets)) if scorer.rules.predictable else None
            scorer.add_pairs(left.contexts, left.targets, weights)
            return left, len(left.targets) - scorer.tallies()[0].n_duplicates
        if self.weighting in {"residual", "listed"}:
            return left, self._add_places(scorer, kept, inside)
        # counted before filtering: the weights of a context must not depend on the filter
        reference = None if self.reference is None else self._kept(self.reference)
        counts = count_windows(kept, reference, scheme.vocab_size)
        if phi is not None:
            counts = counts.only(in_filter(counts.contexts, scheme, phi, by_seed=by_seed))
        add_weighted(scorer, counts, self.weighting, self.transform)
        return left, int((counts.a > 0).sum())

    def _add_places(self, scorer: Scorer, kept: Kept, inside: npt.NDArray[np.bool_]) -> int:
        """Adds the weights of the places inside; returns how many contexts they have."""
        scheme = self.scheme
        numbers = context_numbers(kept.contexts, scheme.vocab_size)
        factors = self._factors(kept, numbers)[inside]
        left = kept.only(inside)
        owners = shown = None
        if scheme.seed_kind == "target" and (prompts := self._excluding(self.suspect)) is not None:
            shown = Shown(prompts, scheme, any_prompt=self.prompts_watermarked)
            offsets = self.suspect.documents.offsets
            owners = np.searchsorted(offsets - offsets[0], left.tokens, side="right") - 1
        parts = []
        for start in range(0, len(left.tokens), _PLACES_AT_ONCE):
            part = slice(start, start + _PLACES_AT_ONCE)
            rows, ids, found = self._places.at(left.tokens[part])
            weights = found * factors[part][rows]
            used = (weights != 0) & (ids < scheme.vocab_size)
            if shown is not None and owners is not None:
                windows = np.column_stack([left.contexts[part][rows], ids])
                used &= ~shown.has(windows, owners[part][rows])
            parts.append((rows[used] + start, ids[used], weights[used]))
        if parts:  # all weights of a unit come before its score
            rows, ids, weights = (np.concatenate(one) for one in zip(*parts, strict=True))
            rows, ids, sums = summed(rows, ids, weights, numbers[inside][rows])
            scorer.add_pairs(left.contexts[rows], ids, saturated(sums, self.weighting))
        return len(np.unique(numbers[inside]))

    def _factors(self, kept: Kept, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """How much each place counts, by how often its context occurs in unmarked text."""
        if self.contexts is not None:
            times = Lookup(*self.contexts.to_numpy()).counts(kept.contexts)
            return frequency(times.astype(np.float64), self.weighting)
        return frequency(np.bincount(numbers)[numbers], self.weighting)

    @cached_property
    def _places(self) -> PlaceWeights:
        """The weights of tokens at each token of the suspect's answers."""
        suspect, other, size = self.suspect, self.reference, self.scheme.vocab_size
        documents = suspect.documents
        read: Listed | None = None
        if self.models:
            read = mean_lists(
                [
                    expected(model, documents, suspect.prompts, vocab_size=size)
                    for model in self.models
                ]
            )
        elif other is not None and other.has_read(suspect):
            read = other.listed
        if self.weighting == "residual":
            assert read is not None
            values = documents.values[documents.offsets[0] : documents.offsets[-1]]
            return residuals(values, read)
        assert suspect.listed is not None
        assert self.transform is not None
        found = None
        if read is not None:
            found = looked_up(suspect.listed, read)
        elif other is not None:
            assert other.listed is not None
            both = self._kept(suspect), self._kept(other)
            numbers = context_numbers(np.concatenate([one.contexts for one in both]), size)
            mine = np.full(len(suspect.listed), -1)
            mine[both[0].tokens] = numbers[: len(both[0].tokens)]
            others = np.full(len(other.listed), -1)
            others[both[1].tokens] = numbers[len(both[0].tokens) :]
            found = looked_up_by_context(mine, suspect.listed, others, other.listed)
        return weights_of_lists(suspect.listed, self.transform, found)

    def _excluding(self, texts: AnswerTexts) -> Documents | None:
        """The prompts whose draws are excluded from some answers."""
        return self._all_prompts() if self.prompts_watermarked else texts.prompts

    def _described(
        self, result: ScoreResult, kept: Kept, phi: KgramSet | None, n_distinct: int
    ) -> ScoreResult:
        """With what was read, and removed before the scorer saw anything."""
        lengths = np.diff(self.suspect.documents.offsets)
        return result.replace(
            filter=None if phi is None else phi.fingerprint,
            n_documents=len(lengths),
            n_short_documents=int((lengths <= self.scheme.first_position).sum()),
            n_tokens=int(lengths.sum()),
            n_windows=kept.n_windows,
            n_excluded=kept.n_excluded,
            n_filtered=kept.n_filtered,
            n_duplicates=len(kept.targets) - n_distinct,
            n_skipped=self.suspect.n_skipped,
        )

    def _point(self, phi: KgramSet | None, step: int) -> CurvePoint:
        """The test of the first whole answers within so many tokens."""
        offsets = self.suspect.documents.offsets
        n_answers = int(np.searchsorted(offsets - offsets[0], step, side="right")) - 1
        scorer = self._scorer([self.scheme], phi)
        self._add(scorer, self._kept(self.suspect, n_answers), phi)
        return curve_point(int(offsets[n_answers] - offsets[0]), scorer)

    def decoys(self, filters: list[KgramSet | None], n: int, seed: int) -> DecoyResult:
        """The test under other keys; of two tests, the larger statistic under each key.

        Nothing is compared if the tested key decided on prompts or a filter.
        """
        own_seeds = self.scheme.seed_kind in {"keyed hash", "target"}
        marked = self.marked_prompts is not None or (self.prompts_watermarked and own_seeds)
        if marked or any(map(depends_on_key, filters)):
            return DecoyResult.withheld()
        schemes = [self.scheme, *self.scheme.decoys(n, seed=seed)]
        found: list[DecoyResult] = []
        for phi in filters:
            try:
                found.append(self.scorer_of(schemes, phi).decoy_test())
            except TokenError:  # of two tests one may have nothing to score
                if len(filters) == 1 or phi is None:
                    raise
        if len(found) == 1:
            return found[0]
        return decoy_test(
            max(one.statistic for one in found),
            np.max([one.decoy_statistics for one in found], axis=0),
        )

    def scorer_of(self, schemes: Sequence[Scheme], phi: KgramSet | None = None) -> Scorer:
        """A scorer that has read the answers, for many keys at once: weights know no key.

        The tested key must have decided neither on prompts nor on the filter.
        """
        if self._is_plain:
            scorer = Scorer(schemes, filter=phi, threads=self.threads)
            scorer.add(self.suspect.documents, self.suspect.prompts)
        else:
            scorer = self._scorer(schemes, phi)
            self._add(scorer, self._kept(self.suspect), phi)
        return scorer


def add_weighted(
    scorer: Scorer, counts: WindowCounts, weighting: str, transform: str | None = None
) -> npt.NDArray[np.float64]:
    """Adds every distinct window with its weight to a scorer.

    Parameters
    ----------
    scorer : Scorer
        Of one scheme or many, made with ``combine="sum"``.
    counts : WindowCounts
        See `radscore.answers.grouping.count_windows`.
    weighting : {"counts", "contrast"}
        Which family of weights.
    transform : str, optional
        Which of the family.

    Returns
    -------
    ndarray of float64
        The weights.
    """
    contrast = weighting == "contrast"
    name = transform or (DEFAULT_CONTRAST if contrast else DEFAULT_COUNT)
    share = scorer.schemes[0].core.share
    gamma = _REAL_SHARE if share is None else share[0] / share[1]
    weights = weigh(counts, name, contrast=contrast, gamma=gamma)
    some = weights != 0
    scorer.add_pairs(counts.contexts[some], counts.targets[some], weights[some])
    return weights
