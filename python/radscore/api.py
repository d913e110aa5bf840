"""`rs.score` and `rs.score_documents`: one call from documents of any kind to a result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from radscore.checks import check_reach, check_rules, check_start, one_scheme
from radscore.documents import Documents, is_data_set, opened
from radscore.doubts import doubt_of_ids, doubt_of_tokenizer
from radscore.errors import ArgumentError
from radscore.progress import Progress
from radscore.provenance import of_corpus
from radscore.scoring.anytime import check_anytime, with_anytime
from radscore.scoring.per_document import MAX_SHARING, score_batches
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from radscore.checks import Dedup, PromptRole
    from radscore.corpus import Corpus
    from radscore.corpus.text.tokenizer import Encoder
    from radscore.documents import DocumentsLike
    from radscore.kgrams import KgramSet
    from radscore.results import DocumentScores, ScoreResult
    from radscore.schemes import Scheme

__all__ = ["score", "score_documents"]


def score(
    documents: Corpus | DocumentsLike,
    scheme: Scheme,
    *,
    tokenizer: Any = None,
    dedup: Dedup = "unit",
    prompts: DocumentsLike | None = None,
    filter: KgramSet | None = None,
    start: int | None = None,
    threads: int | None = None,
    prompt_role: PromptRole = "exclude",
    curve: Sequence[int] = (),
    memory: int | str | None = None,
    tmp: str | Path | Sequence[str | Path] | None = None,
    executor: str | None = None,
    fresh: bool = False,
    progress: Callable[[Progress], None] | None = None,
    anytime: bool | float = False,
) -> ScoreResult:
    """Tests a corpus, or documents in memory, for a watermark.

    Parameters
    ----------
    documents : Corpus, data set, texts, or anything that `Documents.of` takes
        What `open_corpus` returns is read batch by batch, and so is a `Dataset` or
        `IterableDataset` of the `datasets` library. Texts, or lists of token ids, come as a list, a
        series of pandas or polars, an array, a column of Arrow or `datasets`, or a generator.
    scheme : Scheme
        The watermark and its key.
    tokenizer : path, tokenizer or callable, optional
        For texts, as in `open_corpus`.
    prompts : optional
        One prompt per document; a corpus brings its own.
    dedup, filter, start, threads, prompt_role, curve
        As for `Scorer`. `curve` needs all windows in memory.
    memory : int or str, optional
        How much memory to use, such as ``"1GiB"``; windows beyond it go to files. The result is
        the same to the last bit. For a corpus of files this is a run (see `radscore.runs`): if the
        call is interrupted, the same call continues where it stopped.
    tmp : path or sequence of paths, optional
        Folders for those files; by default one of this user's own in the system's temporary
        folder, which may be small, or emptied when the machine restarts.
    executor : str, optional
        What works on a corpus of files: ``"processes:4"`` for four processes here, ``"ray"`` for
        tasks of a Ray cluster (the one that this process is connected to, or that ``RAY_ADDRESS``
        names, or a new one here), ``"ray:HOST:PORT"`` for the one there. `memory` (1 GiB by
        default) and `threads` (1) are those of each worker. With Ray, all nodes must see the
        corpus and the folders of `tmp`.
    fresh : bool
        Whether to start over where an interrupted call left a run.
    progress : callable, optional
        Called with a `radscore.progress.Progress`: in bytes of the corpus, after each batch; for
        runs in steps, first with those that are already done.
    anytime : bool or float
        Whether to give an e-value too, and a p-value that holds however often one looks: for a
        corpus that grows, and is tested again and again. A number is the effect that was planned
        for (`radscore.stats.anytime_test`), True stands for 0.1. Each number of tokens of `curve`
        is a look.

    Returns
    -------
    ScoreResult

    Raises
    ------
    ArgumentError
        If arguments do not go together.
    StorageError
        If `tmp` holds a run of this corpus with other rules, another process is working on it, or
        the disk is full.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=50, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> rs.score([[1, 2, 3, 4, 5]], scheme).n_scored
    4
    """
    scheme = one_scheme(scheme)
    check_rules(dedup, prompt_role, filter)
    check_reach([scheme], prompt_role)
    rules = {"dedup": dedup, "start": check_start(start), "prompt_role": prompt_role}
    options: dict[str, Any] = {"filter": filter, **rules}
    _check_limits(memory, tmp, executor, curve)
    effect = check_anytime(anytime, scheme, dedup, filter)
    corpus, own, before, told = _given(documents, prompts, scheme, tokenizer)
    if executor is not None or (memory is not None and _can_be_run(corpus, scheme, prompt_role)):
        if corpus is None or not _has_files(corpus):
            raise ArgumentError(f"executor={executor!r} needs a corpus of files (open_corpus)")
        limits = (memory, threads, tmp, executor)
        run = _score_run(corpus, scheme, limits, progress, fresh=fresh, **options)
        return with_anytime(run, scheme, effect)
    if fresh:
        raise ArgumentError("fresh=True needs a corpus of files, and memory= or executor=")
    if corpus is not None:
        if memory is not None:
            from radscore.sizes import budget_of

            corpus = corpus.within(budget_of(memory).memory)
        batches = _batches(corpus, progress)
    else:
        assert own is not None
        batches = iter([(own, before)])
    if memory is not None:
        result = _score_stream(batches, scheme, memory, threads, tmp, **options)
    else:
        scorer = Scorer(scheme, threads=threads, curve=curve, **options)
        for some, asked in batches:
            scorer.add(some, asked)
        result = scorer.result()
    result = with_anytime(result, scheme, effect)
    if corpus is not None:
        return replace(result, n_skipped=corpus.skipped.count, **_of_corpus(result, corpus))
    assert own is not None
    doubt = doubt_of_ids(own.id_range[1], own.n_tokens, scheme.vocab_size)
    notes = (*told, *result.notes, *(() if doubt is None else (doubt,)))
    return replace(result, notes=notes)


def score_documents(
    documents: Corpus | DocumentsLike,
    scheme: Scheme,
    *,
    tokenizer: Any = None,
    dedup: Dedup = "unit",
    prompts: DocumentsLike | None = None,
    filter: KgramSet | None = None,
    start: int | None = None,
    threads: int | None = None,
    prompt_role: PromptRole = "exclude",
    max_contexts: int | None = None,
    max_sharing: int | None = MAX_SHARING,
) -> DocumentScores:
    """Tests each document on its own; see `radscore.scoring.score_documents`.

    Parameters
    ----------
    documents, scheme, tokenizer
        As in `score`; a corpus is read batch by batch.
    dedup, prompts, filter, start, threads, prompt_role, max_contexts, max_sharing
        As in `radscore.scoring.score_documents`.

    Returns
    -------
    DocumentScores
        In reading order; what a corpus skipped has no entry.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=50, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> rs.score_documents(["a b c a b", "d"], scheme, tokenizer=lambda text: [
    ...     ord(word) - 97 for word in text.split()]).n_scored.tolist()
    [3, 0]
    """
    scheme = one_scheme(scheme)
    corpus, own, before, told = _given(documents, prompts, scheme, tokenizer)
    if corpus is None:
        assert own is not None
        batches = iter([(own, before)])
    else:
        batches = _batches(corpus, None)
    found = score_batches(
        batches,
        scheme,
        dedup=dedup,
        filter=filter,
        start=start,
        threads=threads,
        prompt_role=prompt_role,
        max_contexts=max_contexts,
        max_sharing=max_sharing,
    )
    if corpus is None:
        return replace(found, notes=(*told, *found.notes))
    return replace(found, **_of_corpus(found, corpus))


def _of_corpus(result: ScoreResult | DocumentScores, corpus: Corpus) -> dict[str, Any]:
    """What a result of a corpus says beside its numbers."""
    made = {**result.provenance, **of_corpus(corpus.manifest(), corpus.settings)}
    return {"notes": (*corpus.notes, *result.notes), "provenance": made}


def _given(
    documents: Any, prompts: Any, scheme: Scheme, tokenizer: Any
) -> tuple[Corpus | None, Documents | None, Documents | None, tuple[str, ...]]:
    """The corpus, or the documents and prompts in memory and what to note of them."""
    from radscore.corpus.in_memory import documents_of
    from radscore.corpus.text.tokenizer import load_encoder

    corpus = _corpus_of(documents, scheme, tokenizer)
    if corpus is not None:
        if prompts is not None:
            raise ArgumentError("a corpus brings its own prompts (prompt_field=)")
        return corpus, None, None, ()
    encoder = None if tokenizer is None else load_encoder(tokenizer)
    own = documents_of(documents, encoder)
    before = None if prompts is None else _prompts(prompts, encoder)
    if encoder is None:
        return None, own, before, ()
    size, made = encoder.vocab_size, encoder.tokenised
    doubt = None if size is None else doubt_of_tokenizer(size, scheme.vocab_size)
    notes = (None if made is None else made.note, doubt)
    return None, own, before, tuple(note for note in notes if note is not None)


def _prompts(prompts: Any, encoder: Encoder | None) -> Documents:
    """Prompts may be ids even where documents are text."""
    from radscore.corpus.in_memory import documents_of, texts_in

    prompts = opened(prompts, "prompts")
    return documents_of(prompts, None if texts_in(prompts) is None else encoder, "prompts")


def _check_limits(memory: Any, tmp: Any, executor: Any, curve: Any) -> None:
    if memory is None and executor is None:
        if tmp is not None:
            raise ArgumentError("tmp= has no effect without memory= or executor=")
    elif curve:
        raise ArgumentError("curve= needs all windows in memory: leave out memory= and executor=")


def _corpus_of(documents: Any, scheme: Scheme, tokenizer: Any) -> Corpus | None:
    """The corpus that was given, or that a data set is; None for documents in memory."""
    if hasattr(documents, "batches"):
        if tokenizer is not None:
            raise ArgumentError("a corpus has its own tokenizer (open_corpus(..., tokenizer=))")
        found: Corpus = documents
        return found
    if is_data_set(documents):
        from radscore.corpus import open_corpus

        return open_corpus(documents, vocab_size=scheme.vocab_size, tokenizer=tokenizer)
    return None


def _has_files(corpus: Corpus) -> bool:
    return all(source.is_file for source in corpus.sources)


def _can_be_run(corpus: Corpus | None, scheme: Scheme, prompt_role: PromptRole) -> bool:
    """Whether a corpus can be scored in steps; prompts may exclude by what only the key tells."""
    if corpus is None or not _has_files(corpus):
        return False
    by_seed = corpus.prompt_field is not None and prompt_role == "exclude"
    return not by_seed or scheme.seed_kind == "context"


def _batches(
    corpus: Corpus, progress: Callable[[Progress], None] | None
) -> Iterator[tuple[Documents, Documents | None]]:
    n_bytes = n_tokens = 0
    for batch in corpus:
        yield batch.documents, batch.prompts
        n_bytes, n_tokens = n_bytes + batch.n_bytes, n_tokens + batch.documents.n_tokens
        if progress is not None:
            progress(Progress(n_bytes, corpus.total_bytes, n_tokens))


def _score_stream(
    batches: Iterator[tuple[Documents, Documents | None]],
    scheme: Scheme,
    memory: int | str,
    threads: int | None,
    tmp: Any,
    **options: Any,
) -> ScoreResult:
    from radscore.runs.stream import score_stream
    from radscore.sizes import folders_of

    folders = folders_of(tmp)
    return score_stream(batches, scheme, folders=folders, memory=memory, threads=threads, **options)


def _score_run(
    corpus: Corpus,
    scheme: Scheme,
    limits: tuple[Any, int | None, Any, str | None],
    progress: Callable[[Progress], None] | None,
    **options: Any,
) -> ScoreResult:
    from radscore.runs.executors import Resources, executor_of
    from radscore.runs.scoring import execute, run_in
    from radscore.sizes import DEFAULT_MEMORY

    memory, threads, tmp, executor = limits
    resources = Resources(DEFAULT_MEMORY if memory is None else memory, threads)
    with (
        executor_of(executor, resources) as opened,
        run_in(tmp, corpus, scheme, opened, **options) as run,
    ):
        return execute(run, corpus, scheme, opened, progress)
