"""How good Alice's text is, beside its unmarked twins."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.documents import Documents
from radscore.models.losses import document_losses
from radscore.models.passages import begins_with, prefix_of
from radscore.rehearsal.bob_rows import IGNORED, training_rows
from radscore.rehearsal.settings import TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from radscore.models.loading import LanguageModel
    from radscore.rehearsal.alice import RecordsReport
    from radscore.rehearsal.alice_records import Record
    from radscore.rehearsal.settings import Mark

__all__ = ["answer_losses", "distinct_share", "text_quality"]

_NGRAMS = (1, 2, 3)


def text_quality(
    records: Sequence[Record],
    twins: Sequence[Record],
    model: LanguageModel,
    mark: Mark | None,
    *,
    report: RecordsReport | None = None,
    twins_report: RecordsReport | None = None,
    n_read: int = 1000,
    n_samples: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares Alice's records with unmarked ones of the same prompts.

    Parameters
    ----------
    records, twins : sequence of Record
        Marked and unmarked ones.
    model : LanguageModel
        The unmarked model that wrote both; it reads the answers.
    mark : Mark or None
        Alice's, to test both texts for; None tests neither.
    report, twins_report : RecordsReport, optional
        For the share of what the model wrote that is a record.
    n_read : int
        How many records of each the model reads, the first ones.
    n_samples : int
        Pairs to look at.
    seed : int
        Seed of the pairs.

    Returns
    -------
    dict
        ``marked`` and ``unmarked``, each with ``n_records``, ``perplexity`` (and its logarithm
        ``loss``, nats per token of an answer, with ``loss_error``, one standard error over
        records), ``distinct`` (`distinct_share` of as much text of either), ``length`` (mean and
        quartiles, in tokens), ``ended`` (share of answers that the model ended), ``parsed``
        (share, or None), and ``test`` (of `radscore.score`: n_scored, statistic, share of green
        tokens or None, z-score and log10 of p; None without a mark); ``samples``, each with
        prompt, marked, unmarked.
    """
    texts = {"marked": records, "unmarked": twins}
    ids = {name: _ids(some, model) for name, some in texts.items()}
    common = min(sum(map(len, some)) for some in ids.values())
    reports = {"marked": report, "unmarked": twins_report}
    found: dict[str, Any] = {}
    for name, some in texts.items():
        written = reports[name]
        found[name] = {
            "n_records": len(some),
            **_perplexity(some[:n_read], model),
            "distinct": {str(n): distinct_share(ids[name], n, common) for n in _NGRAMS},
            "length": _lengths(ids[name]),
            "ended": float(np.mean([one.ended for one in some])) if some else math.nan,
            "parsed": None if written is None or not _asked(written) else written.parsed_share,
            "test": None if mark is None else _tested(ids[name], mark),
        }
    found["samples"] = _side_by_side(records, twins, n_samples, seed)
    return found


def _asked(report: RecordsReport) -> bool:
    """Whether texts were taken apart at all."""
    return report.n_parsed + report.n_broken > 0


def answer_losses(
    records: Sequence[Record], model: LanguageModel
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Sums of a model's losses over the tokens of each answer, in nats, and how many tokens.

    Answers follow their prompts as they stand; those beyond the model's window are cut.

    Returns
    -------
    losses : ndarray of float64, shape (n,)
        Without records whose prompt fills the window.
    lengths : ndarray of int64, shape (n,)
    """
    prefix = prefix_of(model)
    longest = (model.max_length or 2**31) - len(prefix)
    plain = [replace(one, ended=False) for one in records]
    rows = training_rows(plain, model.tokenizer, TrainingSettings(template="plain", length=longest))
    lengths = np.array([int((one != IGNORED).sum()) for one in rows.labels], dtype=np.int64)
    prompts = [ids[: len(ids) - n] for ids, n in zip(rows.ids, lengths, strict=True)]
    whole, before = (_totals(model, some, prefix) for some in (rows.ids, prompts))
    return whole - before, lengths


def _totals(
    model: LanguageModel, rows: list[npt.NDArray[np.int64]], prefix: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The sum of losses of each row: 0 where none of its tokens is predicted."""
    if not rows:
        return np.empty(0)
    means = document_losses(model, Documents.of(rows))
    first = len(prefix) or 1
    counts = [
        len(row) - (first if not len(prefix) or begins_with(row, prefix) else 0) for row in rows
    ]
    return np.nan_to_num(means) * np.maximum(counts, 0)


def _perplexity(records: Sequence[Record], model: LanguageModel) -> dict[str, float]:
    losses, lengths = answer_losses(records, model)
    if not len(losses):
        return {"perplexity": math.nan, "loss": math.nan, "loss_error": math.nan}
    mean = float(losses.sum() / lengths.sum())
    spread = losses - mean * lengths
    error = float(np.sqrt((spread**2).sum()) / lengths.sum())
    return {"perplexity": math.exp(min(mean, 700.0)), "loss": mean, "loss_error": error}


def _ids(records: Iterable[Record], model: LanguageModel) -> list[npt.NDArray[np.int64]]:
    """The ids of answers, by the model's tokenizer where they are unknown."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    return [
        np.array(
            one.tokens or tokenizer(one.answer, add_special_tokens=False)["input_ids"],
            dtype=np.int64,
        )
        for one in records
    ]


def distinct_share(
    texts: Iterable[npt.NDArray[np.int64]], n: int, most: int | None = None
) -> float:
    """Distinct n-grams by all n-grams, in the first `most` tokens of some texts.

    Shares fall with the length of what is counted, so compare texts at the same.

    Examples
    --------
    >>> distinct_share([np.array([1, 2, 1, 2])], 2)
    0.6666666666666666
    """
    seen: set[tuple[int, ...]] = set()
    total, left = 0, 2**62 if most is None else most
    for text in texts:
        ids = text[:left].tolist()
        left -= len(ids)
        grams = list(zip(*(ids[i:] for i in range(n)), strict=False))
        seen.update(grams)
        total += len(grams)
        if not left:
            break
    return len(seen) / total if total else math.nan


def _lengths(texts: Sequence[npt.NDArray[np.int64]]) -> dict[str, float]:
    sizes = [len(one) for one in texts] or [0]
    low, middle, high = np.percentile(sizes, [25, 50, 75])
    return {"mean": float(np.mean(sizes)), "25%": low, "50%": middle, "75%": high}


def _tested(texts: Sequence[npt.NDArray[np.int64]], mark: Mark) -> dict[str, Any]:
    from radscore.api import score

    result = score(Documents.of(texts), mark.scheme)
    green = result.n_green
    return {
        "n_scored": result.n_scored,
        "statistic": result.statistic,
        "green_share": None if green is None else green / result.n_scored,
        "zscore": result.zscore,
        "log10_pvalue": result.log10_pvalue,
    }


def _side_by_side(
    records: Sequence[Record], twins: Sequence[Record], number: int, seed: int
) -> list[dict[str, str]]:
    """Answers to the same prompt, or where there is none, to any."""
    by_prompt = {one.prompt: one for one in twins}
    pairs = [(one, by_prompt[one.prompt]) for one in records if one.prompt in by_prompt]
    pairs = pairs or list(zip(records, twins, strict=False))
    chosen = random.Random(f"samples/{seed}").sample(pairs, min(number, len(pairs)))  # noqa: S311
    return [
        {
            "prompt": one.prompt,
            "marked": one.answer,
            **({} if one.prompt == twin.prompt else {"unmarked_prompt": twin.prompt}),
            "unmarked": twin.answer,
        }
        for one, twin in chosen
    ]
