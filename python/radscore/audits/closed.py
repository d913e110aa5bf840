"""`test_closed`: was a model that only gives answers trained on watermarked text?"""

# ruff: noqa: PT028 - `test_closed` is not one of pytest's

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from radscore.answers.places import (
    DEFAULT_LISTED,
    DEFAULT_LISTED_ALONE,
    LISTED_ALONE,
)
from radscore.answers.texts import AnswerTexts, texts_of
from radscore.answers.weights import CONTRASTS, COUNTS, DEFAULT_CONTRAST, DEFAULT_COUNT
from radscore.audits.answer_scorer import AnswerScorer, Weighting
from radscore.audits.shared import NO_DECOYS, check_vocabulary, spread_steps
from radscore.checks import check_choice, one_scheme
from radscore.documents import check_width
from radscore.doubts import doubt_of_ids
from radscore.errors import ArgumentError, TokenError
from radscore.models.loading import LanguageModel, as_references
from radscore.models.weighting import CONTRASTS as LISTED_CONTRASTS
from radscore.results import ModelResult, ScoreResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.documents import DocumentsLike
    from radscore.kgrams import KgramCounts, KgramSet
    from radscore.schemes import Scheme

__all__ = ["ClosedResult", "test_closed"]

_LOG10_2: Final = math.log10(2.0)

_NO_PROMPTS: Final = (
    "no prompts were given, so windows that an answer may have copied from its prompt were "
    "scored: valid only if the prompts do not carry the tested watermark"
)
_OWN_PROMPT: Final = "assumes that the prompts do not carry the tested key's watermark"
_ANY_PROMPT: Final = (
    "the prompts carry the tested key's watermark: windows whose random draw any prompt can have "
    "shown were excluded (compared by seed), so the answers know nothing of the key in the rest"
)
_SALTED_PROMPTS: Final = (
    "there is no valid p-value: the prompts carry the tested key's watermark, and under this "
    "scheme no seed is known before the target is, so what the prompts show of the key cannot be "
    "told from what they do not; use prompts without the watermark"
)
_MARKED_PROMPTS: Final = (
    "there is no valid p-value: the prompts look marked with the tested key (log10 p = {:.1f}); if "
    "they are, say prompts_watermarked=True (--prompts-watermarked), otherwise use other prompts"
)
_FREE_FILTER: Final = (
    "the filter comes from text without the tested watermark: any choice of it is valid"
)
_WHOLE_FILTER: Final = (
    "the filter is {}: contexts were compared by seed, and the p-value is a bound for martingales, "
    "since the key decides which seeds a watermarked text has; with a filter from unmarked text of "
    "the same model (watermarked=False, --unmarked) it would be exact"
)
_SALTED_FILTER: Final = (
    "there is no valid p-value: the filter is {}, and under this scheme a text does not tell which "
    "seeds it has shown (none is known before the target, or part of a context fixes it); make the "
    "filter from unmarked text (watermarked=False, --unmarked)"
)
_CHOSEN_FILTER: Final = (
    "there is no valid p-value: the filter is {}; whether a context recurs in a watermarked text "
    "depends on its own green list, so of such text only all k-grams make a valid filter, and of "
    "unmarked text (watermarked=False, --unmarked) any choice"
)
_OTHER_PROMPTS: Final = (
    "suspect and reference answered different prompts; the test is valid, but a contrast is "
    "strongest over the same prompts"
)


@dataclass(frozen=True, repr=False)
class ClosedResult(ModelResult):
    """Result of a test of a model's answers.

    Besides the fields of `ModelResult`:

    Attributes
    ----------
    transform : str or None
        The name of the weights, see `radscore.answers.weights`; None for plain scoring.
    unfiltered, filtered : ScoreResult or None
        The tests without and with the filter, uncorrected; `score` is the one with the smaller
        p-value.
    n_failed : int
        Questions without an answer.
    """

    transform: str | None = None
    unfiltered: ScoreResult | None = None
    filtered: ScoreResult | None = None
    n_failed: int = 0


def test_closed(
    answers: Any,
    scheme: Scheme,
    *,
    filter: KgramSet | None = None,
    both: bool = False,
    reference: Any = None,
    contexts: KgramCounts | None = None,
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

    H0: the answers do not depend on the key. The suspect answers prompts. Windows whose random draw
    the answer's own prompt can have shown are excluded, those outside the filter are removed, and
    each remaining distinct unit is scored once.

    Parameters
    ----------
    answers : Answers, Corpus, or anything that `Documents.of` takes
        What the suspect answered: `open_answers`.
    scheme : Scheme
        The watermark and its key.
    filter : KgramSet, optional
        Contexts that the suspect may have learned, as wide as the scheme's. If they come from
        unmarked text of the same kind (``watermarked=False``), chosen in any way, the p-value stays
        exact. Of watermarked text (supervised: the recorded text) only all k-grams are valid: they
        are compared by seed, the p-value is a bound, and there are no decoys. Any other choice from
        watermarked text gives no p-value.
    both : bool
        Test with and without the filter, and take the smaller p-value times two.
    reference : model, sequence of models, or like `answers`, optional
        What was not trained on the watermarked text: a model (a `LanguageModel`, a path or a
        transformers model) that reads the suspect's answers and tells what it would have expected
        there, which is much stronger; the mean of several; or a model's own answers, ideally to
        the same prompts. Answers with the suspect's tokens and the lists of another model stand for
        that model's reading.
    contexts : KgramCounts, optional
        With "residual" and "listed": how often contexts occur in unmarked text of the kind that the
        suspect may have been trained on (``watermarked=False``), as wide as the scheme's. A context
        that occurs n times counts `n / (n + 10)` (with "listed" `n / (n + 3)`): of rare ones little
        can have been learned. By default n is counted in the answers.
    weighting : {"plain", "counts", "contrast", "residual", "listed"}, optional
        ``plain``: each distinct unit once, the published test, with its exact law. ``counts``:
        weights from how often the suspect says what. ``contrast`` (the default with a reference's
        answers): weights from what the suspect says more often than the reference. ``residual``
        (the default with a reference model): what it says at every place, less the probability of
        each token that the reference expects there. ``listed`` (the default for answers with
        log-probabilities, if the reference, if any, has them too): the probabilities that the
        suspect's API lists, against the reference's. With weights the p-value is a bound, and the
        normal law's stands beside it in the score.
    transform : str, optional
        Which weights: a name in `radscore.answers.weights.COUNTS` or `CONTRASTS`; with "listed",
        in `radscore.models.weighting.CONTRASTS`, or in `radscore.answers.places.LISTED_ALONE`
        without a reference.
    prompts, reference_prompts : like `answers`, optional
        The prompt of each answer, if `answers` does not bring them.
    prompts_watermarked : bool
        Whether the prompts carry the tested key's watermark. A window is then excluded everywhere
        if any prompt has its seed: answers to a prompt may depend on the key at its seeds, and
        summing over many answers would bring that back in. Schemes without a seed before the target
        (`Scheme.seed_kind`) get no p-value then.
    curve : int or sequence of int
        Record the test after these numbers of tokens, or at that many points, for display only: do
        not use it to choose where to stop.
    decoys, decoy_seed : int
        Compare with this many decoy keys, drawn from this seed: `ClosedResult.decoys`.
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
    With `prompts_watermarked` everything is conditional on prompts and answers: the key's values at
    contexts that no prompt has went into neither, so they are as random as before, and any weights
    will do. Prompts are taken to be whole watermarked texts: nothing before or beside them was
    chosen by the key.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.Keyed(key=bytes(16), vocab_size=50, gamma=0.5, context_width=1)
    >>> result = rs.test_closed([[1, 2, 3, 4, 1, 2]], scheme, prompts=[[7, 3]])
    >>> result.n_scored, result.removed["excluded by prompts"]
    (3, 1)
    """
    scheme = one_scheme(scheme)
    suspect = texts_of("answers", answers, prompts)
    models, other = _references(reference, reference_prompts)
    weighting, transform = _weighting(weighting, transform, suspect, other, models)
    _check_filter(filter, scheme, both=both)
    _check_contexts(contexts, scheme, weighting)
    for one, name in ((suspect, "prompts"), (other, "reference_prompts")):
        if one is not None:
            one.check(scheme.vocab_size)
            if prompts_watermarked and one.prompts is None:
                raise ArgumentError(f"prompts_watermarked=True needs the prompts ({name}=)")
    for model in models:
        _check_reference(model, scheme)
    work = AnswerScorer(
        scheme,
        weighting,
        transform,
        suspect,
        other,
        prompts_watermarked,
        threads,
        models,
        contexts,
    )
    decoys = check_width("decoys", decoys, 0, 10**6)
    steps = spread_steps(curve, suspect.documents.n_tokens)
    filters: list[KgramSet | None] = [None, filter] if both else [filter]
    scores, nothing = _scores(work, filters, steps)
    valid = {one: score for one, score in scores.items() if not math.isnan(score.log10_pvalue)}
    best = min(valid, key=lambda filtered: valid[filtered].log10_pvalue, default=min(scores))
    score = scores[best]
    notes = [*_notes(work), *nothing]
    if filter is not None:
        notes.append(f"{'with the filter: ' if both else ''}{_filter_note(filter, scheme)}")
    found = work.decoys(filters, decoys, decoy_seed) if decoys else None
    if found is not None and not found.n_decoys:
        notes.append(NO_DECOYS)
    return ClosedResult(
        setting=_setting(weighting, filter, other, models),
        weighting=weighting,
        score=score,
        log10_pvalue=_at_most_0(score.log10_pvalue + (_LOG10_2 if both else 0.0)),
        n_tests=2 if both else 1,
        model=_model(answers),
        reference=_reference(reference, models),
        removed=_removed(score, suspect),
        notes=tuple(notes),
        decoys=found,
        transform=transform,
        unfiltered=scores.get(False),
        filtered=scores.get(True),
        n_failed=suspect.n_failed,
    )


test_closed.__test__ = False  # type: ignore[attr-defined] # not one of pytest's


def _at_most_0(log10: float) -> float:
    return log10 if math.isnan(log10) else min(log10, 0.0)


def _is_model(given: Any) -> bool:
    named = isinstance(given, (LanguageModel, str, os.PathLike))
    return named or hasattr(given, "get_input_embeddings")


def _references(
    reference: Any, prompts: DocumentsLike | None
) -> tuple[tuple[LanguageModel, ...], AnswerTexts | None]:
    """The models that read along, or else the answers of one."""
    several = reference if isinstance(reference, (list, tuple)) else [reference]
    if reference is None or not several or not all(map(_is_model, several)):
        return (), None if reference is None else texts_of("reference", reference, prompts)
    if prompts is not None:
        raise ArgumentError("reference_prompts has no effect with a reference model")
    return as_references(reference), None


def _check_reference(model: LanguageModel, scheme: Scheme) -> None:
    """Raises unless a reference model can read the watermark's ids."""
    words = model.tokenizer
    least = -(-9 * model.vocab_size // 10) if words is None else words.vocab_size
    check_vocabulary(scheme, model.vocab_size, min(least, model.vocab_size), "reference")


def _weighting(
    weighting: Weighting | None,
    transform: str | None,
    suspect: AnswerTexts,
    other: AnswerTexts | None,
    models: tuple[LanguageModel, ...],
) -> tuple[Weighting, str | None]:
    """How windows are weighted; raises unless the arguments go together."""
    read = bool(models) or (other is not None and other.has_read(suspect))
    listed = suspect.listed is not None and (other is None or other.listed is not None)
    if weighting is None:
        text: Weighting = "plain" if other is None else "contrast"
        weighting = "listed" if listed else "residual" if read else text
    check_choice("weighting", weighting, get_args(Weighting))
    if weighting == "contrast" and other is None:
        raise ArgumentError("weighting='contrast' needs a reference's answers (reference=)")
    if weighting == "residual" and not read:
        raise ArgumentError("weighting='residual' needs a reference model (reference=)")
    if weighting == "listed" and suspect.listed is None:
        raise ArgumentError(
            "weighting='listed' needs answers with log-probabilities (radscore ask --logprobs)"
        )
    if weighting == "listed" and not listed:
        raise ArgumentError(
            "weighting='listed' needs a reference's answers with log-probabilities as well, or a "
            "reference model"
        )
    if (models or other is not None) and weighting in {"plain", "counts"}:
        raise ArgumentError(f"reference has no effect with weighting={weighting!r}")
    if weighting in {"plain", "residual"}:
        if transform is not None:
            raise ArgumentError(f"transform has no effect with weighting={weighting!r}")
        return weighting, None
    known, default = {
        "counts": (tuple(COUNTS), DEFAULT_COUNT),
        "contrast": (tuple(CONTRASTS), DEFAULT_CONTRAST),
        "listed": (tuple(LISTED_CONTRASTS), DEFAULT_LISTED),
    }[weighting]
    if weighting == "listed" and not models and other is None:
        known, default = tuple(LISTED_ALONE), DEFAULT_LISTED_ALONE
    transform = transform or default
    check_choice("transform", transform, known)
    return weighting, transform


def _check_contexts(contexts: KgramCounts | None, scheme: Scheme, weighting: Weighting) -> None:
    """Raises unless the counts, if any, are of the scheme's contexts, in unmarked text."""
    if contexts is None:
        return
    if weighting not in {"residual", "listed"}:
        raise ArgumentError(f"contexts has no effect with weighting={weighting!r}; use filter=")
    if not hasattr(contexts, "total"):
        raise ArgumentError(f"contexts must be KgramCounts, not {type(contexts).__name__}")
    _check_shape("contexts counts", contexts, scheme)
    if contexts.origin.may_depend_on_key:
        raise ArgumentError(
            "contexts must be counted in text without the tested watermark (watermarked=False): "
            "how often a context occurs in watermarked text depends on the key"
        )


def _check_filter(phi: KgramSet | None, scheme: Scheme, *, both: bool) -> None:
    """Raises unless the filter, if any, is one of the scheme's contexts."""
    if phi is None:
        if both:
            raise ArgumentError("both=True needs a filter (filter=)")
        return
    if not hasattr(phi, "to_numpy"):
        raise ArgumentError(f"filter must be a KgramSet, not {type(phi).__name__}")
    _check_shape("filter holds", phi, scheme)


def _check_shape(what: str, kgrams: KgramSet | KgramCounts, scheme: Scheme) -> None:
    """Raises unless k-grams are as wide as the scheme's contexts, over its vocabulary."""
    width = scheme.window_width - 1
    if (kgrams.width, kgrams.vocab_size) != (width, scheme.vocab_size):
        raise ArgumentError(
            f"{what} {kgrams.width}-grams over {kgrams.vocab_size} ids, but the contexts of the "
            f"scheme are {width}-grams over {scheme.vocab_size}"
        )


def _scores(
    work: AnswerScorer, filters: list[KgramSet | None], steps: list[int]
) -> tuple[dict[bool, ScoreResult], list[str]]:
    """The tests by whether they are filtered, and what there is to say if one has nothing."""
    scores: dict[bool, ScoreResult] = {}
    notes = []
    for phi in filters:
        try:
            scores[phi is not None] = work.score(phi, steps)
        except TokenError as error:  # of two tests one may have nothing to score
            if len(filters) == 1 or phi is None:
                raise
            notes.append(f"with the filter {error}; the p-value is that of the test without it")
    return scores, notes


def _notes(work: AnswerScorer) -> list[str]:
    """What the result assumes."""
    suspect, other, scheme = work.suspect, work.reference, work.scheme
    notes = list(suspect.notes)
    for texts in (suspect, other):
        if texts is not None:
            ids, (_, largest) = texts.documents, texts.documents.id_range
            doubt = doubt_of_ids(largest, ids.n_tokens, scheme.vocab_size)
            notes += [] if doubt is None else [doubt]
    if work.prompts_watermarked:
        notes.append(_SALTED_PROMPTS if scheme.seed_kind == "target" else _ANY_PROMPT)
    elif work.marked_prompts is not None:
        notes.append(_MARKED_PROMPTS.format(work.marked_prompts))
    else:
        notes.append(_NO_PROMPTS if suspect.prompts is None else _OWN_PROMPT)
    if other is not None:
        notes += [f"reference: {note}" for note in other.notes]
        if suspect.prompt_ids and other.prompt_ids and suspect.prompt_ids != other.prompt_ids:
            notes.append(_OTHER_PROMPTS)
    return notes


def _filter_note(phi: KgramSet, scheme: Scheme) -> str:
    """What a filter allows."""
    if not phi.origin.may_depend_on_key:
        return _FREE_FILTER
    note = _WHOLE_FILTER if phi.origin.is_whole else _CHOSEN_FILTER
    return (note if scheme.tells_marked_seeds else _SALTED_FILTER).format(phi.origin.words)


def _setting(
    weighting: Weighting,
    phi: KgramSet | None,
    other: AnswerTexts | None,
    models: tuple[LanguageModel, ...],
) -> str:
    parts = ["answers"]
    if weighting == "listed":
        parts.append("with log-probabilities")
    if phi is not None:
        parts.append("with a filter")
    if models:
        parts.append("against what a reference expects")
    elif other is not None:
        parts.append("against a reference's")
    return f"closed: {' '.join(parts)}"


def _reference(reference: Any, models: tuple[LanguageModel, ...]) -> str | None:
    """The references' fingerprints, or the names of the models that answered."""
    return ", ".join(one.fingerprint for one in models) or _model(reference)


def _model(answers: Any) -> str | None:
    return ", ".join(getattr(answers, "models", ())) or None


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
