"""`rs.score`: one call from documents to a result, in memory, through files, or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from radscore.checks import check_choice, one_scheme
from radscore.documents import Documents
from radscore.doubts import doubt_of_ids
from radscore.errors import ArgumentError
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from radscore.checks import Dedup, PromptRole
    from radscore.corpus import Corpus
    from radscore.documents import DocumentsLike
    from radscore.kgrams import KgramSet
    from radscore.results import ScoreResult
    from radscore.schemes import Scheme

__all__ = ["score"]


def score(
    documents: Corpus | DocumentsLike,
    scheme: Scheme,
    dedup: Dedup = "unit",
    *,
    prompts: DocumentsLike | None = None,
    filter: KgramSet | None = None,
    start: int | None = None,
    threads: int | None = None,
    prompt_role: PromptRole = "exclude",
    curve: Sequence[int] = (),
    progress: Callable[[Any], None] | None = None,
    memory: int | str | None = None,
    tmp: str | Path | Sequence[str | Path] | None = None,
    executor: Literal["ray"] | None = None,
) -> ScoreResult:
    """Tests a corpus, or documents in memory, for a watermark.

    Parameters
    ----------
    documents : Corpus, data set or anything that `Documents.of` takes
        What `open_corpus` returns is read batch by batch, and so is a `Dataset` or
        `IterableDataset` of the library `datasets` that holds token ids.
    scheme : Scheme
        The watermark and its key.
    prompts : optional
        One prompt a document; a corpus brings its own.
    progress : callable, optional
        Called with each batch of a corpus after it was scored (with `memory`, after it was read).
    dedup, filter, start, threads, prompt_role, curve
        As in `Scorer`.
    memory : int or str, optional
        How much memory may be used, as ``"1GiB"``; windows beyond it go to files. The result is the
        same.
    tmp : path or sequence of paths, optional
        Folders for those files, which are removed at the end; by default the system's.
    executor : {"ray"}, optional
        Where a corpus is scored: by tasks of a Ray cluster (the one that this process is connected
        to, or that ``RAY_ADDRESS`` names, or a new one here). `tmp` then names folders that all
        nodes see, as they must see the corpus; `memory` (by default 1 GiB) and `threads` (1) are
        those of each task. The same call goes on after it was interrupted.

    Returns
    -------
    ScoreResult

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=50, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> rs.score([[1, 2, 3, 4, 5]], scheme).n_scored
    4
    """
    rules: dict[str, Any] = {"dedup": dedup, "start": start, "prompt_role": prompt_role}
    limits: dict[str, Any] = {"memory": memory, "tmp": tmp, "threads": threads}
    if executor is not None:
        check_choice("executor", executor, ("ray",))
        if not hasattr(documents, "batches") or curve or progress or prompts is not None:
            raise ArgumentError(
                "executor='ray' scores what open_corpus returns, without prompts=, curve= and "
                "progress="
            )
        from radscore.runs.executors.ray import score_on_ray

        return score_on_ray(documents, one_scheme(scheme), filter=filter, **limits, **rules)
    scorer = Scorer(
        scheme,
        dedup,
        filter=filter,
        start=start,
        threads=threads,
        prompt_role=prompt_role,
        curve=curve,
    )
    if memory is None and tmp is not None:
        raise ArgumentError("tmp has no effect without memory")
    if memory is not None and curve:
        raise ArgumentError("curve= needs all windows in memory: leave out memory=")
    if type(documents).__module__.partition(".")[0] == "datasets":
        from radscore.corpus import open_corpus

        documents = open_corpus(documents, vocab_size=scorer.schemes[0].vocab_size)
    from dataclasses import replace

    if not hasattr(documents, "batches"):
        documents = Documents.of(documents)
        if memory is None:
            scorer.add(documents, prompts)
            result = scorer.result()
        else:
            from radscore.runs.shards import Part
            from radscore.runs.steps import score_with_files

            part = Part(documents, None if prompts is None else Documents.of(prompts))
            result = score_with_files([part], one_scheme(scheme), filter=filter, **limits, **rules)
        _, largest = documents.id_range
        note = doubt_of_ids(largest, documents.n_tokens, scorer.schemes[0].vocab_size)
        return result if note is None else replace(result, notes=(*result.notes, note))
    if prompts is not None:
        raise ArgumentError("a corpus brings its own prompts (prompt_field=)")
    if memory is not None:
        from radscore.runs.steps import parts_of, score_with_files

        parts = parts_of(documents, start, progress)
        result = score_with_files(parts, one_scheme(scheme), filter=filter, **limits, **rules)
        skipped = parts.skipped
    else:
        for batch in documents:
            scorer.add(batch.documents, batch.prompts)
            if progress is not None:
                progress(batch)
        result, skipped = scorer.result(), documents.skipped
    notes = (*documents.notes, *result.notes)
    return replace(result, n_skipped=skipped.count, notes=notes)
