"""Scoring a whole run, wherever its steps are carried out."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError
from radscore.progress import Progress
from radscore.runs.buckets import missing_buckets
from radscore.runs.executors import Executor, Resources, executor_of
from radscore.runs.executors.base import MapTask, ReduceTask, Task
from radscore.runs.preparation import prepare_in
from radscore.runs.steps import merge, stages_of
from radscore.sizes import DEFAULT_MEMORY, budget_of, folders_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from radscore.corpus import Corpus
    from radscore.results import ScoreResult
    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["execute", "run_in", "score_run"]


def score_run(
    run: Run,
    corpus: Corpus,
    scheme: Scheme,
    *,
    memory: int | str = DEFAULT_MEMORY,
    threads: int | None = None,
    executor: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreResult:
    """Does whatever of a run is not done yet, and merges.

    Parameters
    ----------
    run, corpus, scheme
        As for `map_shard` and `reduce_bucket`.
    memory, threads
        Of each worker.
    executor : str, optional
        Where, such as ``"processes:4"`` or ``"ray"``; by default in this process.
    progress : callable, optional
        Called with the steps done and their tokens: first with those of earlier calls, then after
        each step.

    Raises
    ------
    RadscoreError
        If a step fails. What is finished stays, and the same call continues from there.
    """
    with executor_of(executor, Resources(memory, threads)) as opened:
        return execute(run, corpus, scheme, opened, progress)


def execute(
    run: Run,
    corpus: Corpus,
    scheme: Scheme,
    executor: Executor,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreResult:
    """`score_run` by an executor that is already entered."""
    steps = _Steps(run, scheme, progress)
    if executor.shared:
        corpus = corpus.absolute()
    for task in steps.tasks(corpus, executor.resources):
        with closing(executor.carry_out(task)) as numbers:
            for number in numbers:
                steps.count(task, number)
    return merge(run, scheme)


class _Steps:
    """The steps of a run that are missing, and how far they have come."""

    def __init__(
        self, run: Run, scheme: Scheme, progress: Callable[[Progress], None] | None
    ) -> None:
        self._run, self._scheme, self._progress = run, scheme, progress
        self._shards = run.missing()
        run.check_scheme(scheme)
        stages = stages_of(run, scheme)
        self._buckets = {stage: missing_buckets(run, scheme, stage) for stage in stages}
        n_missing = len(self._shards) + sum(map(len, self._buckets.values()))
        self._total = len(run.shards) + len(self._buckets) * run.n_buckets
        self._done, self._tokens = self._total - n_missing, 0
        for shard in set(range(len(run.shards))).difference(self._shards):
            self._add_tokens(shard)
        self._show()

    def tasks(self, corpus: Corpus, resources: Resources) -> Iterator[Task]:
        """The steps that are missing, in the order in which they can be done."""
        if self._shards:
            yield MapTask(self._run, self._shards, resources, corpus)
        for stage, buckets in self._buckets.items():
            if buckets:
                yield ReduceTask(self._run, buckets, resources, self._scheme, stage)

    def count(self, task: Task, number: int) -> None:
        """Takes note of a step that is done."""
        self._done += 1
        if isinstance(task, MapTask):
            self._add_tokens(number)
        self._show()

    def _add_tokens(self, shard: int) -> None:
        marker = self._run.marker(shard)
        self._tokens += 0 if marker is None else marker.tokens

    def _show(self) -> None:
        if self._progress is not None:
            self._progress(Progress(self._done, self._total, self._tokens))


@contextmanager
def run_in(
    tmp: str | Path | Sequence[str | Path] | None,
    corpus: Corpus,
    scheme: Scheme,
    executor: Executor,
    *,
    keep: bool = False,
    **options: Any,
) -> Iterator[Run]:
    """A run of a corpus in temporary folders, for this process alone.

    It is deleted at the end unless the block raises or `keep` is set, so that the same call finds
    what is done and continues from there.

    Parameters
    ----------
    tmp : path or sequence of paths, optional
        Where to make its folders; by default this user's own in the system's temporary folder.
    corpus, scheme
        As for `prepare`.
    executor : Executor
        What will carry it out, already entered.
    keep : bool
        Whether to leave the run where it is.
    options
        As for `prepare`.
    """
    if executor.shared and tmp is None:
        raise ArgumentError("tmp must name folders that all nodes of the cluster see")
    windows = budget_of(executor.resources.memory).windows
    folders = folders_of(tmp)
    run = prepare_in(folders, corpus, scheme, windows=windows, buckets=executor.buckets, **options)
    with run.locked():
        yield run
        if not keep:
            run.discard()
