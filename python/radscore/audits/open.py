"""`test_open`: was a model whose predictions can be read trained on watermarked text?"""

# ruff: noqa: PT028 - `test_open` is not one of pytest's

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.audits.shared import NO_DECOYS, Curve, check_vocabulary, curve_point
from radscore.audits.text_check import TextCheck
from radscore.checks import one_scheme
from radscore.documents import check_width
from radscore.errors import ArgumentError, TokenError
from radscore.models.live import Reading
from radscore.models.loading import is_listed
from radscore.models.prediction_files import open_predictions
from radscore.models.weighting import Weighting, plan
from radscore.results import CurvePoint, ModelResult
from radscore.scoring.contexts import OUTSIDE, Contexts, Lookup
from radscore.scoring.draws import SeenDraws
from radscore.scoring.evidence import empty_result
from radscore.scoring.matched import MatchedScorer
from radscore.scoring.scorer import Scorer
from radscore.sizes import budget_of
from radscore.stats import DecoyResult

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from radscore.kgrams import KgramCounts, KgramSet
    from radscore.models.batching import Pairs
    from radscore.models.prediction_files import PredictionFiles
    from radscore.models.predictions import Header, Predictions, Totals
    from radscore.progress import Progress
    from radscore.schemes import Scheme

__all__ = ["DAMPING", "OpenResult", "test_open"]

_REPEATED: Final = "positions whose seed occurred before in the text"
_BEYOND: Final = "positions after ids outside the scheme's vocabulary"
_UNSCORED: Final = "predictions outside the scheme's vocabulary"
_FLAT: Final = (
    "no token is likelier than 0.0001 anywhere: the model predicts nothing that could be tested"
)
_CLEAN: Final = (
    "valid for text that does not carry the tested key's watermark; for text that does, say "
    "text_watermarked=True (--text-watermarked)"
)
_STRICT: Final = (
    "each seed counts at its first occurrence in the text, which carries the tested watermark; "
    "valid if everything that it was written from (prompts) was read too, or carries no watermark"
)
#: Of contrasts that add up: the best tried on trained models (experiments/README.md).
DAMPING: Final = {"saturation": 30.0, "frequency": 3.0}
_SALTED: Final = (
    "there is no valid p-value: the text carries the tested watermark, and under this scheme it "
    "does not tell which seeds it has shown (no seed is known before the target, or part of a "
    "context fixes it); read text without the watermark"
)


@dataclass(frozen=True, repr=False)
class OpenResult(ModelResult):
    """Result of a test of whether an open model was trained on watermarked text.

    Besides the fields of `ModelResult`:

    Attributes
    ----------
    text : str or None
        Hash of the text that was read.
    text_log10_pvalue : float
        Of the watermark in the text itself; NaN if it is not known. Text that carries it must be
        tested with ``text_watermarked=True``.
    copied_log10_pvalue : float
        What a suspect would score that merely continues the text as it went on before; NaN if the
        text is known to carry the watermark. See `radscore.audits.text_check`.
    n_text_documents_marked : int
        Documents of the text that carry the watermark, at a false discovery rate of 5 %.
    """

    text: str | None = None
    text_log10_pvalue: float = math.nan
    copied_log10_pvalue: float = math.nan
    n_text_documents_marked: int = 0


def test_open(
    model: Any,
    documents: Any,
    scheme: Scheme,
    *,
    reference: Any = None,
    weighting: str | Weighting | None = None,
    text_watermarked: bool | None = None,
    top: int | None = None,
    max_weights: int | None = None,
    min_weight: float | None = None,
    transform: str | None = None,
    centred: bool | None = None,
    tokenizer: Any = None,
    batch_tokens: int | None = None,
    max_length: int | None = None,
    contexts: KgramSet | KgramCounts | None = None,
    min_count: int | None = None,
    saturation: float | None = None,
    frequency: float | None = None,
    decoys: int = 0,
    decoy_seed: int = 0,
    curve: int | Sequence[int] = (),
    threads: int | None = None,
    memory: int | str | None = None,
    tmp: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    progress: Callable[[Progress], None] | None = None,
    from_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> OpenResult:
    """Tests whether a model learned a watermark, by what it predicts while it reads text.

    Under H0 the model does not depend on the key, so its predictions are as green as chance makes
    them. The p-value is a statement about keys, as everywhere in radscore: it assumes nothing about
    the model, and of the text only that it does not depend on the key either (or
    `text_watermarked`).

    Parameters
    ----------
    model : LanguageModel, path or transformers model
        The suspect.
    documents : Corpus, strings, chats, or anything that `Documents.of` takes
        What it reads: ideally fresh text of the same kind as the watermarked text, without its
        watermark. A chat is a list of messages, which goes through the model's template.
    scheme : Scheme
        The watermark and its key.
    reference : LanguageModel, path or transformers model, or a sequence of them, optional
        A model that was not trained on the watermarked text: the suspect's base, an earlier
        checkpoint or, better, a model fine-tuned from the same base on the same kind of text
        without the watermark. Natural language and the luck of the key then cancel. Of several
        models the probabilities are averaged: such a model together with the base is best of all.
    weighting : {"prediction", "mass", "contrast", "matched"} or Weighting, optional
        Score the `top` likeliest tokens, each context once per sequence (the published reading
        mode); weigh each token by its probability ("mass", the default); or by a function of the
        suspect's and the reference's probability (the default with a reference; "matched" also
        keeps the reference's probabilities).
    text_watermarked : bool, optional
        Whether the text carries the tested key's watermark. If it does, each seed counts only at
        its first occurrence, and schemes under which a text does not tell its seeds
        (`Scheme.tells_marked_seeds`) get no p-value; otherwise the weights of all positions add up.
        By default it is assumed not to, and the p-value is withheld if a document, the whole text
        or a suspect that merely continues it would be significant (`radscore.audits.text_check`).
        With False you vouch for the text, and only a significance of .001 withholds it.
    top, max_weights, min_weight, transform, centred : optional
        Settings of the weighting; see `Weighting`.
    tokenizer : transformers tokenizer, optional
        The watermark's, if it is not the model's; see `radscore.models.alignment`.
    batch_tokens, max_length : int, optional
        See `radscore.models.Reader`.
    contexts : KgramSet or KgramCounts, optional
        Only positions whose context is among these count: k-grams of the scheme's width, of text
        *without* the tested watermark (``watermarked=False``). Under schemes with wide contexts a
        model can have learned nothing elsewhere, so the contexts of unmarked text of Alice's kind
        leave the signal and drop most of the noise.
    min_count : int, optional
        With `KgramCounts`: only those that occur so often (1). Matched scores also weigh a place by
        how often its context occurs (`radscore.scoring.contexts.Contexts.weights`), in predictions
        from a file too if these counts are given again.
    saturation : float, optional
        With "contrast" and "matched": a unit whose weights sum to w counts ``w / (1 + |w| /
        saturation)``, since what two trainings differ in does not average out after frequent
        contexts (30; 0: no saturation). Where matched scores are tested they have none.
    frequency : float, optional
        With the same: a context met at n positions counts ``n / (n + frequency)``, since a model
        learns little of what is rare (3; 0: all contexts count the same).
    curve : int or sequence of int
        Record the test after these numbers of tokens, or at about that many points, for display
        only: do not use it to choose where to stop.
    decoys, decoy_seed : int
        Compare with this many decoy keys, drawn from this seed: `OpenResult.decoys`.
    threads : int, optional
        Worker threads of the scoring; all cores by default.
    memory, tmp : optional
        How much memory pairs and their weights may take, and folders for those beyond it, as for
        `Scorer`: predictions may be larger than memory. Matched scores are kept in memory.
    progress : callable, optional
        Called with a `Progress` after every batch: bytes of a corpus, else documents.
    from_file : path or sequence of paths, optional
        Predictions that `radscore.models.predict` wrote, in place of model and documents (both
        None). Several files are one test: shards of a reading, or parts of a text in their order.

    Returns
    -------
    OpenResult

    Raises
    ------
    ModelError
        If the model's vocabulary does not fit the scheme, or the reference's tokenizer the
        model's.
    TokenError
        If not a single prediction could be scored.

    Notes
    -----
    For reading mode: T. Sander et al., "Watermarking makes language models radioactive", 2024.
    """
    scheme = one_scheme(scheme)
    decoys = check_width("decoys", decoys, 0, 1_000_000)
    points = Curve(curve)
    settings: dict[str, Any] = {"top": top, "max_weights": max_weights, "min_weight": min_weight}
    settings |= {"transform": transform, "centred": centred}
    given = {name: value for name, value in settings.items() if value is not None}
    check = TextCheck(scheme, threads=threads)
    among = chosen = Contexts.of(contexts, scheme.window_width - 1, min_count)
    if from_file is not None:
        others = (model, documents, reference, weighting, text_watermarked or None, tokenizer)
        if any(one is not None for one in (*others, *given.values(), batch_tokens, max_length)):
            raise ArgumentError(
                "from_file already says what was read and how: give no model, documents or "
                "settings of reading with it"
            )
        source: Predictions | PredictionFiles | Reading = open_predictions(from_file)
    else:
        source = Reading(
            model,
            documents,
            context_width=scheme.window_width - 1,
            weighting=plan(weighting, reference, given, listed=is_listed(model)),
            reference=reference,
            text_watermarked=bool(text_watermarked),
            tokenizer=tokenizer,
            batch_tokens=batch_tokens,
            max_length=max_length,
            contexts=among,
            progress=progress,
            on_document=check.add,
        )
        chosen = None  # the others are not even weighed
    _check_fit(source.header, scheme, getattr(source, "path", None))
    evidence = _Evidence(
        scheme,
        source.header,
        chosen,
        decoys=decoys,
        seed=decoy_seed,
        threads=threads,
        limits={"memory": memory, "tmp": tmp},
        damping={"saturation": saturation, "frequency": frequency},
        counted=among,
    )
    evidence.take(source, points, check if from_file is not None else None)
    vouched = text_watermarked is False
    return _result(evidence, source.header, source.totals, points.points, check, vouched=vouched)


test_open.__test__ = False  # type: ignore[attr-defined] # not one of pytest's


def _check_fit(header: Header, scheme: Scheme, path: Any) -> None:
    """Raises unless scheme and predictions have the same contexts and tokens."""
    width = scheme.window_width - 1
    exact = header.text_watermarked or header.weighting.kind == "prediction"
    if header.context_width < width or (exact and header.context_width != width):
        why = ""
        if header.context_width > width:
            rule = "for watermarked text" if header.text_watermarked else "for predictions"
            why = f", and {rule} contexts must not be wider than the scheme's"
        raise ArgumentError(
            f"{path} was made for contexts of {header.context_width} tokens, but the scheme reads "
            f"{width}{why}; make it with context_width={width} (--context-width {width})"
        )
    check_vocabulary(scheme, header.vocab_size, header.least_vocab_size)


class _Evidence:
    """Takes in pairs, by the rules that the text calls for.

    Attributes
    ----------
    scorer : Scorer or MatchedScorer
        Of the tested key.
    decoys : Scorer, MatchedScorer or None
        Of the tested key and the decoys; apart, so that points of a curve do not score all of them
        (a `MatchedScorer` scores only those asked for, and is the same).
    among : Contexts or None
        The contexts that count, if not all that were weighed do.
    decoys_withheld : bool
        Whether decoys were asked for but would be no comparison.
    removed : dict
        What did not count, by reason.
    """

    def __init__(
        self,
        scheme: Scheme,
        header: Header,
        among: Contexts | None,
        *,
        decoys: int,
        seed: int,
        threads: int | None,
        limits: dict[str, Any],
        damping: dict[str, float | None] | None = None,
        counted: Contexts | None = None,
    ) -> None:
        self._scheme = scheme
        self._learned = counted if counted is not None and counted.counted else None
        self.among = among
        chosen = among is not None or header.contexts is not None
        self._counted: list[npt.NDArray[np.uint32]] | None = [] if chosen else None
        self._strict = header.text_watermarked
        self._plain = header.weighting.kind == "prediction"
        # what green lists would have done is tested by the gains alone
        self._matched = header.weighting.kind == "matched" and scheme.sampling != "bias"
        options: dict[str, Any] = {"threads": threads}
        options |= _combining(header, damping or {}, matched=self._matched)
        self.decoys_withheld = bool(decoys) and self._strict
        schemes = [scheme]
        if decoys and not self._strict:
            schemes += scheme.decoys(decoys, seed=seed)
        if limits["memory"] is not None and len(schemes) > 1:
            limits = {**limits, "memory": budget_of(limits["memory"]).half}
        self.scorer: Scorer | MatchedScorer
        self.decoys: Scorer | MatchedScorer | None = None
        if self._matched:
            if limits["memory"] is not None:
                raise ArgumentError(
                    "matched scores are kept in memory: leave memory= out, read with fewer "
                    "max_weights, or take another weighting"
                )
            self.scorer = MatchedScorer(schemes, predictable=self._strict, threads=threads)
            self.decoys = self.scorer if len(schemes) > 1 else None
        else:
            self.scorer = Scorer(scheme, predictable=self._strict, **options, **limits)
            if len(schemes) > 1:
                self.decoys = Scorer(schemes, **options, **limits)
        self.removed: dict[str, int] = {}
        self._seen = None if scheme.seed_kind == "target" else SeenDraws(scheme)

    def take(
        self,
        source: Predictions | PredictionFiles | Reading,
        curve: Curve,
        check: TextCheck | None = None,
    ) -> None:
        """Takes in everything that is read, and records the curve on the way."""
        for pairs in source:
            if check is not None:
                check.add_pairs(pairs)
            start = 0
            while (step := curve.step) is not None and len(pairs):
                end = int(np.searchsorted(pairs.occurrences, step, side="left"))
                if end >= len(pairs):
                    break
                self.add(_part(pairs, start, end))
                curve.add(curve_point(step, self.scorer))
                start = end
            self.add(_part(pairs, start, len(pairs)))
        n_tokens = source.totals.n_tokens
        while (step := curve.step) is not None and step <= n_tokens:
            curve.add(curve_point(step, self.scorer))
        if curve.number and n_tokens:
            curve.end(curve_point(n_tokens, self.scorer))

    def add(self, pairs: Pairs) -> None:
        """Adds the pairs that count."""
        width = self._scheme.window_width - 1
        contexts = pairs.contexts[:, pairs.contexts.shape[1] - width :]
        keep = np.ones(len(pairs), dtype=np.bool_)
        size = self._scheme.vocab_size
        inside: npt.NDArray[np.bool_] = np.all(contexts < size, axis=1)
        self._remove(_BEYOND, len(np.unique(pairs.occurrences[~inside])))
        keep &= inside
        if self._strict:
            keep &= self._first(pairs, contexts, inside)
        if self.among is not None:
            outside = keep & ~self._among(pairs, contexts)
            weighed = outside & (pairs.weights != 0)
            self._remove(OUTSIDE, len(np.unique(pairs.occurrences[weighed])))
            keep &= ~outside
        known = pairs.targets < size
        self._remove(_UNSCORED, int((keep & ~known).sum()))
        keep &= known
        some = pairs.weights != 0
        if self._matched and pairs.base is not None:
            some |= pairs.base > 0  # a token without gain may be the one that wins
        keep &= some
        contexts, targets = contexts[keep], pairs.targets[keep]
        if self._counted is not None:
            _, starts = np.unique(pairs.occurrences[keep], return_index=True)
            self._counted.append(contexts[starts])
        if isinstance(self.scorer, MatchedScorer):
            assert pairs.base is not None
            gains = pairs.weights[keep]
            if self._learned is not None:
                gains = gains * self._learned.weights(contexts)
            self.scorer.add_pairs(contexts, targets, gains, pairs.base[keep])
            return
        # predictions have weight 1 each, so their count has an exact law of its own; if the text
        # depends on the key then so does their number, and the bound for martingales is needed
        counted = self._plain and not self._strict
        weights = None if counted else pairs.weights[keep]
        occurrences = None if counted else pairs.occurrences[keep]
        for scorer in (self.scorer, self.decoys):
            if isinstance(scorer, Scorer):
                scorer.add_pairs(contexts, targets, weights, occurrences=occurrences)

    def _among(self, pairs: Pairs, contexts: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Which pairs have a context that counts."""
        assert self.among is not None
        new = np.ones(len(pairs), dtype=np.bool_)
        new[1:] = pairs.occurrences[1:] != pairs.occurrences[:-1]
        found: npt.NDArray[np.bool_] = self.among.has(contexts[new])[np.cumsum(new) - 1]
        return found

    @property
    def counted(self) -> Lookup | None:
        """The contexts that counted, if they were chosen; None if all of them did."""
        return None if not self._counted else Lookup(np.concatenate(self._counted))

    def _first(
        self, pairs: Pairs, contexts: npt.NDArray[np.uint32], inside: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Which pairs have a context whose seed was never read before."""
        lines = np.flatnonzero(inside)
        if not len(lines):
            return inside
        positions, starts = np.unique(pairs.occurrences[lines], return_index=True)
        there = contexts[lines[starts]]
        if self._seen is None:  # there is no p-value: compare tokens, for the counts alone
            _, first_rows = np.unique(there, axis=0, return_index=True)
            new = np.zeros(len(there), dtype=np.bool_)
            new[first_rows] = True
        else:
            new = self._seen.first(there)
        self._remove(_REPEATED, int((~new).sum()))
        first = np.zeros(len(pairs), dtype=np.bool_)
        first[lines] = new[np.searchsorted(positions, pairs.occurrences[lines])]
        return first

    def _remove(self, reason: str, number: int) -> None:
        if number:
            self.removed[reason] = self.removed.get(reason, 0) + number


def _combining(
    header: Header, damping: dict[str, float | None], *, matched: bool
) -> dict[str, Any]:
    """How the weights of equal units combine, and what makes them smaller."""
    kind = header.weighting.kind
    sums = not header.text_watermarked and kind != "prediction" and not matched
    for name, value in damping.items():
        if value and not sums:
            how = "text_watermarked=True" if header.text_watermarked else f"weighting={kind!r}"
            raise ArgumentError(f"{name}= has no effect with {how}: weights do not add up")
    if not sums:
        return {"combine": "one"}
    usual = DAMPING if header.weighting.needs_reference else {}
    asked = {**usual, **{name: one for name, one in damping.items() if one is not None}}
    return {"combine": "sum", **{name: one for name, one in asked.items() if one}}


def _part(pairs: Pairs, start: int, end: int) -> Pairs:
    if start == 0 and end == len(pairs):
        return pairs
    return replace(
        pairs,
        contexts=pairs.contexts[start:end],
        targets=pairs.targets[start:end],
        weights=pairs.weights[start:end],
        occurrences=pairs.occurrences[start:end],
        base=None if pairs.base is None else pairs.base[start:end],
    )


def _result(
    evidence: _Evidence,
    header: Header,
    totals: Totals,
    points: list[CurvePoint],
    check: TextCheck,
    *,
    vouched: bool,
) -> OpenResult:
    scorer = evidence.scorer
    if scorer.tally().n_scored:
        score = scorer.results(1)[0]
    elif (why := _nothing(header, totals, evidence)) == _FLAT:
        score = empty_result(scorer.tally(), scorer.schemes[0], scorer.rules, f"none: {why}")
    else:
        raise TokenError(why)
    score = score.replace(
        n_documents=totals.n_documents,
        n_short_documents=totals.n_short_documents,
        n_tokens=totals.n_tokens,
        curve=tuple(points),
    )
    notes = [_STRICT if header.text_watermarked else _CLEAN, *totals.notes]
    notes += [] if evidence.among is None else [evidence.among.note]
    if not totals.complete:
        notes.append(f"the reading was stopped after {totals.n_documents} documents")
    damping = {} if isinstance(scorer, MatchedScorer) else scorer.rules.damping
    copies = not header.text_watermarked
    found = check.result(copies=copies, among=evidence.counted, damping=damping)
    refused = not header.text_watermarked and found.is_marked(vouched=vouched)
    decoys = None
    if evidence.decoys_withheld or (refused and evidence.decoys is not None):
        decoys = DecoyResult.withheld()
        notes.append(NO_DECOYS)
    elif evidence.decoys is not None and score.n_scored:
        decoys = evidence.decoys.decoy_test()
    if header.text_watermarked and not scorer.schemes[0].tells_marked_seeds:
        notes.append(_SALTED)
        score = score.without_pvalue("watermarked text that does not tell which seeds it has shown")
    elif not header.text_watermarked:
        notes += found.notes(vouched=vouched)
    if refused:
        score = score.without_pvalue("the text carries, or may carry, the watermark")
    kind = "watermarked text" if header.text_watermarked else "text without the watermark"
    return OpenResult(
        setting=f"open, {kind}",
        weighting=header.weighting.words,
        score=score,
        log10_pvalue=score.log10_pvalue,
        model=header.model,
        reference=header.reference,
        removed={**totals.removed, **evidence.removed},
        notes=tuple(notes),
        decoys=decoys,
        text=totals.text,
        text_log10_pvalue=found.log10_pvalue,
        copied_log10_pvalue=found.copied_log10_pvalue,
        n_text_documents_marked=found.n_documents_marked,
    )


def _nothing(header: Header, totals: Totals, evidence: _Evidence) -> str:
    """Why there is nothing to test, as an error message."""
    if not totals.n_documents:
        return "nothing was scored: there are no documents"
    if totals.n_short_documents == totals.n_documents:
        one = totals.n_documents == 1
        which = "the only document is" if one else f"all {totals.n_documents} documents are"
        return (
            f"nothing was scored: {which} shorter than a context of {header.context_width} tokens"
        )
    reasons = {**totals.removed, **evidence.removed}
    why = "; ".join(f"{reason}: {number}" for reason, number in reasons.items() if number)
    if not why:
        if header.weighting.min_weight == Weighting.min_weight:
            return _FLAT
        why = f"no prediction has a weight above min_weight={header.weighting.min_weight:g}"
    return f"nothing was scored of {totals.n_tokens} tokens ({why})"
