"""`predict`: writes what a model predicts to a file, and continues an interrupted call."""

from __future__ import annotations

import os
from dataclasses import fields
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.errors import StateError
from radscore.models.live import Reading
from radscore.models.loading import is_listed
from radscore.models.predictions import (
    Header,
    Predictions,
    PredictionsWriter,
    looks_written,
    unfinished,
)
from radscore.models.weighting import plan
from radscore.provenance import of_corpus, provenance
from radscore.scoring.contexts import Contexts

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.kgrams import KgramCounts, KgramSet
    from radscore.models.weighting import Weighting
    from radscore.progress import Progress

__all__ = ["predict"]


def predict(
    model: Any,
    documents: Any,
    out: str | os.PathLike[str],
    *,
    context_width: int,
    reference: Any = None,
    weighting: str | Weighting | None = None,
    text_watermarked: bool = False,
    vocab_size: int | None = None,
    tokenizer: Any = None,
    batch_tokens: int | None = None,
    max_length: int | None = None,
    contexts: KgramSet | KgramCounts | None = None,
    min_count: int | None = None,
    shard: tuple[int, int] | None = None,
    fresh: bool = False,
    force: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Predictions:
    """Writes what a model predicts after each context of a text to a file.

    Parameters
    ----------
    out : path
        The file, which is there whole at the end or not at all. After Ctrl-C or an error, what
        was read so far (whole documents, `Totals.complete` False) stands beside it, as ``out``
        with ``.incomplete`` at the end, and the same call continues there. A file that is whole
        already is not made again: predictions of the same model, text and settings are returned as
        they are, others are refused.
    weighting : str or Weighting, optional
        "prediction", "mass", "contrast" (the default with a reference) or "matched", or all of its
        settings.
    contexts, min_count : KgramSet or KgramCounts, and int, optional
        As in `test_open`.
    shard : tuple of two int, optional
        Which of how many equal parts of the text to read, from 1 (every n-th document from the i-th
        on), so that several machines can share a reading; `test_open` takes their files together.
        Not with `text_watermarked`.
    fresh : bool
        Whether to start over: what an interrupted call has read is not used.
    force : bool
        Whether to replace a file at `out`, whatever it is, once the new one is whole.
    model, documents, context_width, reference, text_watermarked, vocab_size, tokenizer, \
batch_tokens, max_length, progress
        As in `Reading`.

    Returns
    -------
    Predictions
        `Predictions.n_before` says how much of it an earlier call had read.

    Raises
    ------
    StateError
        If `out`, or what an earlier call left beside it, is of another model, text or setting.
    """
    reading = Reading(
        model,
        documents,
        context_width=context_width,
        weighting=plan(weighting, reference, {}, listed=is_listed(model)),
        reference=reference,
        text_watermarked=text_watermarked,
        vocab_size=vocab_size,
        tokenizer=tokenizer,
        batch_tokens=batch_tokens,
        max_length=max_length,
        contexts=Contexts.of(contexts, context_width, min_count),
        shard=shard,
        progress=progress,
    )
    out = Path(out)
    left = unfinished(out)
    if os.path.lexists(left) and not looks_written(left):
        raise StateError(
            f"{left}, where what is read would be kept, is not radscore's; name another file"
        )
    if (fresh or os.path.lexists(left)) and not force and os.path.lexists(out):
        raise StateError(f"{out} exists already; use force= to replace it, or name another file")
    earlier = None if fresh else _earlier(out, reading, force=force)
    n_before = 0 if earlier is None else earlier.totals.n_documents
    if earlier is None or earlier.path != out or not earlier.totals.complete:
        _write(out, reading, earlier, header_provenance(documents), replace=force)
    return Predictions(out, n_before=n_before)


def _earlier(out: Path, reading: Reading, *, force: bool) -> Predictions | None:
    """What an earlier call has read, which `reading` then skips.

    Raises
    ------
    StateError
        If it does not fit.
    """
    files = (unfinished(out),) if force else (unfinished(out), out)
    left = next((path for path in files if os.path.lexists(path)), None)
    if left is None:
        return None
    try:
        earlier = Predictions(left)
        _continue(earlier, reading)
    except StateError as error:
        how = "force=" if left == out else "fresh="
        raise StateError(f"{error}; name another file, or use {how} to start over") from None
    return earlier


def _continue(earlier: Predictions, reading: Reading) -> None:
    for one in fields(Header):
        was, now = getattr(earlier.header, one.name), getattr(reading.header, one.name)
        if was != now:
            raise StateError(f"{earlier.path} was made with another {one.name} ({was}, now {now})")
    if not reading.skip(earlier.totals):
        raise StateError(f"{earlier.path} holds predictions of another text")


def header_provenance(documents: Any) -> dict[str, Any]:
    """What made predictions of some documents, beside the model and the settings in their header.

    Examples
    --------
    >>> sorted(header_provenance([[1, 2, 3]]))
    ['date', 'radscore']
    """
    made = provenance()
    if hasattr(documents, "manifest"):
        made |= of_corpus(documents.manifest(), documents.settings)
    return made


def _write(
    out: Path,
    reading: Reading,
    earlier: Predictions | None,
    made: dict[str, Any],
    *,
    replace: bool,
) -> None:
    with PredictionsWriter(out, reading.header, n_ids=reading.n_ids, replace=replace) as writer:
        if earlier is not None:
            for pairs in earlier:
                writer.write(pairs)
            writer.good(earlier.totals)
        for pairs in reading:
            writer.write(pairs)
            if pairs.last:
                writer.good(changed(reading.totals, complete=False, provenance=made))
        writer.good(changed(reading.totals, provenance=made))
