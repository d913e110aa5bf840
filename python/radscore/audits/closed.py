"""Testing a model by its answers: was it trained on watermarked text?"""

# ruff: noqa: PT028 - `test_closed` is no test of pytest's

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from radscore.answers.grouping import Kept, WindowCounts, count_windows, in_filter, kept_windows
from radscore.answers.texts import AnswerTexts, texts_of
from radscore.answers.weights import DEFAULT_CONTRAST, DEFAULT_COUNT, weigh
from radscore.checks import check_choice, one_scheme
from radscore.documents import Documents, check_width
from radscore.doubts import doubt_of_ids
from radscore.errors import ArgumentError, TokenError
from radscore.results import CurvePoint, ModelResult, ScoreResult
from radscore.scoring.evidence import decoy_test, depends_on_key, is_usable
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from radscore.documents import DocumentsLike
    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme
    from radscore.stats import DecoyResult

__all__ = ["ClosedResult", "Weighting", "add_weighted", "test_closed"]

Weighting: TypeAlias = Literal["plain", "counts", "contrast"]

_LOG10_2 = math.log10(2.0)
_REAL_SHARE = 0.5  # stands for gamma in weights of schemes without green lists

_MARKED = -4.0  # log10 of a p-value at which prompts are called watermarked

_NO_PROMPTS = (
    "no prompts were given, so windows that an answer may have copied from its prompt were "
    "scored: valid only if the prompts do not carry the tested watermark"
)
_OWN_PROMPT = "assumes that the prompts do not carry the tested key's watermark"
_ANY_PROMPT = (
    "the prompts carry the tested key's watermark: windows whose random draw any prompt can have "
    "shown were excluded (compared by seed), so that the answers know nothing of the key at what "
    "is left"
)
_SALTED_PROMPTS = (
    "there is no valid p-value: the prompts carry the tested key's watermark, and under this "
    "scheme no seed is known before the target is, so that what the prompts show of the key cannot "
    "be told from what they do not; use prompts without the watermark"
)
_MARKED_PROMPTS = (
    "there is no valid p-value: the prompts look marked with the tested key (log10 p = {:.1f}); if "
    "they are, say prompts_watermarked=True (--prompts-watermarked), else use other prompts"
)
_FREE_FILTER = "the filter comes from text without the tested watermark: any choice of it is valid"
_WHOLE_FILTER = (
    "the filter comes from {}: contexts were compared by seed, and the p-value is a bound for "
    "martingales, since which seeds a watermarked text has depends on the key; with a filter from "
    "unmarked text of the same model (watermarked=False, --unmarked) it would be exact"
)
_SALTED_FILTER = (
    "there is no valid p-value: the filter comes from {}, and under this scheme a text does not "
    "tell which seeds it has shown (none is known before the target, or a part of a context fixes "
    "it); make the filter from unmarked text (watermarked=False, --unmarked)"
)
_CHOSEN_FILTER = (
    "there is no valid p-value: the filter is {}; whether a context comes again in a watermarked "
    "text depends on its own green list, so of such text only all k-grams make a valid filter "
    "and of unmarked text (watermarked=False, --unmarked) any choice"
)
_NO_DECOYS = (
    "no decoys: prompts or filter may depend on the tested key but not on theirs, so that they are "
    "no comparison"
)
_OTHER_PROMPTS = (
    "suspect and reference answered different prompts; the test is valid, but a contrast is "
    "strongest over the same prompts"
)


@dataclass(frozen=True, repr=False)
class ClosedResult(ModelResult):
    """Result of a test of a model's answers.

    Beside the fields of `ModelResult`:

    Attributes
    ----------
    transform : str or None
        The name of the weights: see `radscore.answers.weights`; None for plain scoring.
    unfiltered, filtered : ScoreResult or None
        The test without and with the filter, each uncorrected; `score` is the one with the
        smaller p-value.
    n_failed : int
        Questions without an answer.
    decoys : DecoyResult or None
        The same statistic under decoy keys.
    """

    transform: str | None = None
    unfiltered: ScoreResult | None = None
    filtered: ScoreResult | None = None
    n_failed: int = 0
    decoys: DecoyResult | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON (NaN as None)."""
        values = super().to_dict()
        for name in ("unfiltered", "filtered"):
            score: ScoreResult | None = getattr(self, name)
            values[name] = None if score is None else score.to_dict()
        return values


def test_closed(
    answers: Any,
    scheme: Scheme,
    *,
    filter: KgramSet | None = None,
    both: bool = False,
    reference: Any = None,
    weighting: Weighting | None = None,
    transform: str | None = None,
    prompts: DocumentsLike | None = None,
    reference_prompts: DocumentsLike | None = None,
    prompts_watermarked: bool = False,
    curve: int | Sequence[int] = (),
    decoys: int = 0,
    decoy_seed: int = 0,
    threads: int | None = None,
) -> ClosedResult:
    """Tests a model's answers for what training on watermarked text leaves in them.

    H0: the answers do not depend on the key. The suspect answers prompts; windows whose random
    draw the answer's own prompt can have shown are excluded, those outside of the filter are
    removed, and what is left is scored once a distinct unit.

    Parameters
    ----------
    answers : Answers, Corpus, or anything that `Documents.of` takes
        What the suspect answered: `open_answers`.
    scheme : Scheme
        The watermark and its key.
    filter : KgramSet, optional
        Contexts that the suspect may have learned; its width is the scheme's. From unmarked text
        of the same kind (``watermarked=False``), chosen in any way, the p-value stays exact. From
        watermarked text (supervised: the recorded text) only all k-grams are valid: they are
        compared by seed, the p-value is a bound, and there are no decoys. Any other choice of
        watermarked text gives no p-value.
    both : bool
        Test with and without the filter, and take the smaller p-value times two.
    reference : like `answers`, optional
        Answers of a model that was not trained on the watermarked text, best to the same prompts.
    weighting : {"plain", "counts", "contrast"}, optional
        ``plain``: each distinct unit once, the published test, with its exact law. ``counts``:
        weights from how often the suspect says what. ``contrast`` (the default with a
        reference): weights from what the suspect says more often than the reference. With
        weights the p-value is a bound, and the normal law's stands beside it in the score.
    transform : str, optional
        Which weights: a name in `radscore.answers.weights.COUNTS` or `CONTRASTS`.
    prompts, reference_prompts : optional
        The prompt of each answer, where `answers` does not bring them.
    prompts_watermarked : bool
        Whether the prompts themselves carry the tested key's watermark. Then a window whose seed
        any of them has is excluded everywhere: the answers to a prompt may depend on the key at
        its seeds, and summing over many answers would bring that back in. Schemes without a seed
        before the target (`Scheme.seed_kind`) get no p-value then.
    curve : int or sequence of int
        Record the test after these numbers of tokens, or at so many points, for display: it must
        not be used to choose where to stop.
    decoys : int
        Compare with so many decoy keys: `ClosedResult.decoys`.
    decoy_seed : int
        The draw of the decoys.
    threads : int, optional
        Worker threads; all cores by default.

    Returns
    -------
    ClosedResult

    Raises
    ------
    ArgumentError
        If arguments do not go together.
    TokenError
        If an id is outside the scheme's vocabulary, or no window is left to score.

    Notes
    -----
    With `prompts_watermarked` everything is conditional on prompts and answers: the key's values
    at contexts that no prompt has were not used in making either, so they are as random as
    before, and any weights will do. Prompts are taken to be whole watermarked texts, of which
    nothing before or beside was chosen by the key.

    Examples
    --------
    >>> import radscore as rs
    >>> from radscore.audits.closed import test_closed
    >>> scheme = rs.Keyed(key=bytes(16), vocab_size=50, gamma=0.5, context_width=1)
    >>> result = test_closed([[1, 2, 3, 4, 1, 2]], scheme, prompts=[[7, 3]])
    >>> result.n_scored, result.removed["excluded by prompts"]
    (3, 1)
    """
    chosen = _check(one_scheme(scheme), filter, reference, weighting, transform, both=both)
    suspect = texts_of("answers", answers, prompts)
    other = None
    if chosen.weighting == "contrast":
        other = texts_of("reference", reference, reference_prompts)
    for one in (suspect, other):
        if one is not None:
            one.check(scheme.vocab_size)
    work = _Work(scheme, chosen, suspect, other, any_prompt=prompts_watermarked, threads=threads)
    decoys = check_width("decoys", decoys, 0, 10**6)
    steps = _steps(curve, suspect.documents)
    filters: list[KgramSet | None] = [None, filter] if both else [filter]
    scores: dict[bool, ScoreResult] = {}
    nothing = ""
    for phi in filters:
        try:
            scores[phi is not None] = work.score(phi, steps)
        except TokenError as error:  # of two tests one may have nothing to score
            if not both or phi is None:
                raise
            nothing = f"with the filter {error}; the p-value is that of the test without it"
    valid = {one: score for one, score in scores.items() if not math.isnan(score.log10_pvalue)}
    best = min(valid, key=lambda filtered: valid[filtered].log10_pvalue, default=min(scores))
    score = scores[best]
    notes = [*work.notes(), *([nothing] if nothing else [])]
    if filter is not None:
        notes.append(f"{'with the filter: ' if both else ''}{work.note_on(filter)}")
    found = work.decoys(filters, decoys, decoy_seed) if decoys else None
    if found is not None and not found.n_decoys:
        notes.append(_NO_DECOYS)
    return ClosedResult(
        setting=_setting(filter, reference if other is not None else None),
        weighting=chosen.weighting,
        score=score,
        log10_pvalue=_at_most_0(score.log10_pvalue + (_LOG10_2 if both else 0.0)),
        n_tests=2 if both else 1,
        model=_model(answers),
        reference=None if other is None else _model(reference),
        removed=_removed(score, suspect),
        notes=tuple(notes),
        transform=chosen.transform,
        unfiltered=scores.get(False),
        filtered=scores.get(True),
        n_failed=suspect.n_failed,
        decoys=found,
    )


test_closed.__test__ = False  # type: ignore[attr-defined] # not one of pytest's


def _at_most_0(log10: float) -> float:
    return log10 if math.isnan(log10) else min(log10, 0.0)


@dataclass(frozen=True)
class _Chosen:
    """How windows are weighted."""

    weighting: Weighting
    transform: str | None


def _check(
    scheme: Scheme,
    phi: KgramSet | None,
    reference: Any,
    weighting: Weighting | None,
    transform: str | None,
    *,
    both: bool,
) -> _Chosen:
    """Raises unless the arguments go together; says how windows are weighted."""
    if weighting is None:
        weighting = "plain" if reference is None else "contrast"
    check_choice("weighting", weighting, get_args(Weighting))
    if weighting == "contrast" and reference is None:
        raise ArgumentError("weighting='contrast' needs a reference's answers (reference=)")
    if weighting != "contrast" and reference is not None:
        raise ArgumentError(f"reference has no effect with weighting={weighting!r}")
    if weighting == "plain" and transform is not None:
        raise ArgumentError("transform has no effect with weighting='plain'")
    if weighting != "plain":
        transform = transform or (DEFAULT_CONTRAST if reference is not None else DEFAULT_COUNT)
        check_choice("transform", transform, tuple(transforms(weighting)))
    if both and phi is None:
        raise ArgumentError("both=True needs a filter (filter=)")
    if phi is not None:
        width = scheme.window_width - 1
        if not hasattr(phi, "to_numpy"):
            raise ArgumentError(f"filter must be a KgramSet, not {type(phi).__name__}")
        if (phi.width, phi.vocab_size) != (width, scheme.vocab_size):
            raise ArgumentError(
                f"filter holds {phi.width}-grams over {phi.vocab_size} ids, but the contexts of "
                f"the scheme are {width}-grams over {scheme.vocab_size}"
            )
    return _Chosen(weighting, transform)


def transforms(weighting: str) -> list[str]:
    """The names of the weights of a weighting."""
    from radscore.answers import weights

    return list(weights.CONTRASTS if weighting == "contrast" else weights.COUNTS)


class _Work:
    """Scores answers under one scheme, with or without a filter."""

    def __init__(
        self,
        scheme: Scheme,
        chosen: _Chosen,
        suspect: AnswerTexts,
        other: AnswerTexts | None,
        *,
        any_prompt: bool,
        threads: int | None,
    ) -> None:
        self._scheme = scheme
        self._chosen = chosen
        self._suspect = suspect
        self._other = other
        self._any_prompt = any_prompt
        self._threads = threads
        for name, texts in (("prompts", suspect), ("reference_prompts", other)):
            if any_prompt and texts is not None and texts.prompts is None:
                raise ArgumentError(f"prompts_watermarked=True needs the prompts ({name}=)")

    def notes(self) -> list[str]:
        """What the result assumes."""
        notes = list(self._suspect.notes)
        for texts in (self._suspect, self._other):
            if texts is not None:
                ids, (_, largest) = texts.documents, texts.documents.id_range
                doubt = doubt_of_ids(largest, ids.n_tokens, self._scheme.vocab_size)
                notes += [] if doubt is None else [doubt]
        if self._any_prompt:
            salted = self._scheme.seed_kind == "target"
            notes.append(_SALTED_PROMPTS if salted else _ANY_PROMPT)
        elif self._marked_prompts is not None:
            notes.append(_MARKED_PROMPTS.format(self._marked_prompts))
        else:
            notes.append(_NO_PROMPTS if self._suspect.prompts is None else _OWN_PROMPT)
        if self._other is not None:
            notes += [f"reference: {note}" for note in self._other.notes]
            mine, theirs = self._suspect.prompt_ids, self._other.prompt_ids
            if mine and theirs and mine != theirs:
                notes.append(_OTHER_PROMPTS)
        return notes

    def note_on(self, phi: KgramSet) -> str:
        """What a filter allows."""
        if not phi.origin.may_depend_on_key:
            return _FREE_FILTER
        if not self._scheme.tells_marked_seeds:
            return _SALTED_FILTER.format(phi.origin.words)
        return (_WHOLE_FILTER if phi.origin.is_whole else _CHOSEN_FILTER).format(phi.origin.words)

    @cached_property
    def _marked_prompts(self) -> float | None:
        """log10 p of the watermark in prompts that are said to have none, where they have it."""
        prompts = self._all_prompts()
        if prompts is None or self._any_prompt:
            return None
        scorer = Scorer(self._scheme, threads=self._threads)
        scorer.add(prompts)
        if not scorer.tally().n_scored:
            return None
        log10 = scorer.result().log10_pvalue
        return log10 if log10 < _MARKED else None

    def _why_none(self, phi: KgramSet | None) -> str | None:
        """Why there is no p-value, in short; None where there is one."""
        salted = self._scheme.seed_kind == "target"
        if self._any_prompt and salted:
            return "watermarked prompts, and no seed before the target"
        if self._marked_prompts is not None:
            return "the prompts carry the watermark"
        if not is_usable(phi, self._scheme):
            return "the filter depends on the key"
        return None

    def _kept(self, texts: AnswerTexts, n_answers: int | None = None) -> Kept:
        documents, prompts = texts.documents, texts.prompts
        if n_answers is not None:
            documents = Documents(documents.values, documents.offsets[: n_answers + 1])
            if prompts is not None and not self._any_prompt:
                prompts = Documents(prompts.values, prompts.offsets[: n_answers + 1])
        if self._any_prompt:
            prompts = self._all_prompts()
        return kept_windows(documents, self._scheme, prompts=prompts, any_prompt=self._any_prompt)

    def _all_prompts(self) -> Documents | None:
        """Those of suspect and reference: neither's may tell of the key."""
        mine, other = self._suspect.prompts, self._other
        if mine is None or other is None or other.prompts is None:
            return mine
        from radscore.corpus.base import joined

        return joined([np.asarray(prompt) for both in (mine, other.prompts) for prompt in both])

    def score(self, phi: KgramSet | None, steps: list[int]) -> ScoreResult:
        """The test with or without the filter."""
        free = not (self._any_prompt or depends_on_key(phi))
        if self._chosen.weighting == "plain" and free:
            result = self._plain(phi, steps)
        else:
            scorer = self._scorer([self._scheme], phi)
            kept, n_distinct = self._add(scorer, self._kept(self._suspect), phi)
            if not scorer.tally().n_scored:
                raise TokenError(self._nothing(kept))
            result = self._described(scorer.result(), kept, phi, n_distinct)
            result = replace(result, curve=tuple(self._point(phi, step) for step in steps))
        why = self._why_none(phi)
        return result if why is None else result.without_pvalue(why)

    def _plain(self, phi: KgramSet | None, steps: list[int]) -> ScoreResult:
        scorer = Scorer(self._scheme, filter=phi, threads=self._threads, curve=steps)
        scorer.add(self._suspect.documents, self._suspect.prompts)
        return replace(scorer.result(), n_skipped=self._suspect.n_skipped)

    def _scorer(self, schemes: Sequence[Scheme], phi: KgramSet | None) -> Scorer:
        plain = self._chosen.weighting == "plain"
        return Scorer(
            schemes,
            combine="one" if plain else "sum",
            threads=self._threads,
            predictable=depends_on_key(phi),
        )

    def _add(self, scorer: Scorer, kept: Kept, phi: KgramSet | None) -> tuple[Kept, int]:
        """Adds what the filter leaves, with its weights; returns it, and the distinct windows."""
        scheme = self._scheme
        by_seed = depends_on_key(phi) and scheme.seed_kind != "target"
        inside = np.ones(len(kept.targets), dtype=np.bool_)
        if phi is not None:
            inside = in_filter(kept.contexts, scheme, phi, by_seed=by_seed)
        left = kept.only(inside)
        if self._chosen.weighting == "plain":
            weights = np.ones(len(left.targets)) if scorer.predictable else None
            scorer.add_pairs(left.contexts, left.targets, weights)
            return left, len(left.targets) - scorer.tallies()[0].n_duplicates
        # weights from all that was said: those of a context must not depend on the filter
        reference = None if self._other is None else self._kept(self._other)
        counts = count_windows(kept, reference, scheme.vocab_size)
        if phi is not None:
            counts = counts.only(in_filter(counts.contexts, scheme, phi, by_seed=by_seed))
        add_weighted(scorer, counts, self._chosen.weighting, self._chosen.transform)
        return left, int((counts.a > 0).sum())

    def _nothing(self, kept: Kept) -> str:
        return (
            f"nothing was scored: of {kept.n_windows} windows {kept.n_excluded} were excluded by "
            f"prompts, {kept.n_filtered} removed by the filter, and no weight is left for the rest"
        )

    def _described(
        self, result: ScoreResult, kept: Kept, phi: KgramSet | None, n_distinct: int
    ) -> ScoreResult:
        """With what was read and removed before the scorer saw anything."""
        lengths = np.diff(self._suspect.documents.offsets)
        return replace(
            result,
            filter=None if phi is None else phi.fingerprint,
            n_documents=len(lengths),
            n_short_documents=int((lengths <= self._scheme.first_position).sum()),
            n_tokens=int(lengths.sum()),
            n_windows=kept.n_windows,
            n_excluded=kept.n_excluded,
            n_filtered=kept.n_filtered,
            n_duplicates=len(kept.targets) - n_distinct,
            n_skipped=self._suspect.n_skipped,
        )

    def _point(self, phi: KgramSet | None, step: int) -> CurvePoint:
        """The test of the first whole answers within so many tokens."""
        offsets = self._suspect.documents.offsets
        n_answers = int(np.searchsorted(offsets - offsets[0], step, side="right")) - 1
        n_tokens = int(offsets[n_answers] - offsets[0])
        scorer = self._scorer([self._scheme], phi)
        self._add(scorer, self._kept(self._suspect, n_answers), phi)
        if not scorer.tally().n_scored:
            return CurvePoint(n_tokens, 0, 0.0, math.nan)
        result = scorer.result()
        log10 = result.log10_pvalue if self._why_none(phi) is None else math.nan
        return CurvePoint(n_tokens, result.n_scored, result.statistic, log10)

    def decoys(self, filters: list[KgramSet | None], n: int, seed: int) -> DecoyResult:
        """The test under other keys; of two tests the larger statistic, under each key.

        None is compared where prompts or a filter were made with the tested key.
        """
        from radscore.stats import DecoyResult
        from radscore.stats import decoy_test as compare

        own_seeds = self._scheme.seed_kind in {"keyed hash", "target"}
        marked = self._marked_prompts is not None or (self._any_prompt and own_seeds)
        if marked or any(map(depends_on_key, filters)):
            return DecoyResult.withheld()
        schemes = [self._scheme, *self._scheme.decoys(n, seed)]
        found: list[DecoyResult] = []
        for phi in filters:
            try:
                found.append(self._decoys(phi, schemes))
            except TokenError:  # of two tests one may have nothing to score
                if len(filters) == 1 or phi is None:
                    raise
        if len(found) == 1:
            return found[0]
        return compare(
            max(one.statistic for one in found),
            np.max([one.decoy_statistics for one in found], axis=0),
        )

    def _decoys(self, phi: KgramSet | None, schemes: list[Scheme]) -> DecoyResult:
        if self._chosen.weighting == "plain" and not self._any_prompt:
            scorer = Scorer(schemes, filter=phi, threads=self._threads)
            scorer.add(self._suspect.documents, self._suspect.prompts)
        else:
            scorer = self._scorer(schemes, phi)
            self._add(scorer, self._kept(self._suspect), phi)
        return decoy_test(scorer)


def add_weighted(
    scorer: Scorer, counts: WindowCounts, weighting: str, transform: str | None = None
) -> npt.NDArray[np.float64]:
    """Adds every distinct window with its weight to a scorer of the rule `sum`.

    Parameters
    ----------
    scorer : Scorer
        Of one scheme or of many, made with ``combine="sum"``.
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


def _steps(curve: int | Sequence[int], documents: Documents) -> list[int]:
    """Numbers of tokens: as given, or so many, each larger than the one before by one factor."""
    if not hasattr(curve, "__iter__"):
        n = check_width("curve", curve, 0, 10_000)
        if not n or not documents.n_tokens:
            return []
        last = documents.n_tokens
        points = np.geomspace(max(last / 2.0**10, 1), last, n) if n > 1 else np.array([last])
        return sorted({round(point) for point in points.tolist()})
    return [check_width("curve", step, 1, 2**62) for step in curve]


def _setting(phi: KgramSet | None, reference: Any) -> str:
    parts = ["answers"]
    if phi is not None:
        parts.append("with a filter")
    if reference is not None:
        parts.append("against a reference's")
    return f"closed: {' '.join(parts)}"


def _model(answers: Any) -> str | None:
    models = getattr(answers, "models", ())
    return ", ".join(models) or None


def _removed(score: ScoreResult, suspect: AnswerTexts) -> dict[str, int]:
    return {
        "excluded by prompts": score.n_excluded,
        "removed by the filter": score.n_filtered,
        "repetitions": score.n_duplicates,
        "independent of the key": score.n_keyless,
        "answers without a window": score.n_short_documents,
        "records that could not be read": suspect.n_skipped,
        "questions without an answer": suspect.n_failed,
    }
