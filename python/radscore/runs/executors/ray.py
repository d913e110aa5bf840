"""A run as Ray tasks: each maps a unit or reduces a part, on any node that sees the folders."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError, StorageError
from radscore.runs.manifest import prepare_in
from radscore.runs.sizes import budget_of, folders_of
from radscore.runs.steps import (
    DEFAULT_MEMORY,
    Mapping,
    Reduction,
    merge,
    stages_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from radscore.corpus import Corpus
    from radscore.results import ScoreResult
    from radscore.runs.buckets import Stage
    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["n_cores", "n_parts", "on_cluster", "run_ray", "score_on_ray"]

#: How often a task whose worker died is tried again.
_RETRIES = 3
#: Tasks of a stage, at most, unless the cluster has more cores. Each looks at all files of the
#: corpus once, and does several steps where there are more.
_TASKS = 1000
#: Parts at least, and at most.
_PARTS = (16, 4096)


@contextmanager
def on_cluster(address: str | None = None) -> Iterator[Any]:
    """Ray, connected: as it is, or to `address`, or to a cluster on this machine made for it.

    Parameters
    ----------
    address : str, optional
        ``"HOST:PORT"``, ``"auto"`` for a cluster that runs here, ``"local"`` for a new one here;
        by default what ``RAY_ADDRESS`` says, else a new one.

    Raises
    ------
    ArgumentError
        If Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise ArgumentError("the executor ray needs Ray: pip install 'radscore[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    # A cluster that is made here for one call reports to nobody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"there is no Ray cluster at {address!r}: {reason}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def n_cores(ray: Any) -> int:
    """Cores of the cluster."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def n_parts(ray: Any) -> int:
    """Parts of a run of which the cluster reduces all at about the same time."""
    least, most = _PARTS
    return min(max(least, 2 * n_cores(ray)), most)


def run_ray(
    ray: Any,
    run: Run,
    corpus: Corpus,
    scheme: Scheme,
    *,
    memory: int | str = "1GiB",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Does whatever of a run is not done yet by Ray tasks, and merges here.

    Parameters
    ----------
    ray : module
        What `on_cluster` gives.
    run, corpus, scheme
        As in `map_unit` and `reduce_part`; all nodes must see the run's folder and the corpus, by
        absolute paths. The key travels to the nodes that reduce, in the arguments of the tasks.
    memory, threads
        Of each task; a task takes as many cores as it has threads (1 by default).
    progress : callable, optional
        Called with the number of steps that are done, and of all.

    Raises
    ------
    StorageError
        If a worker died again and again. What was finished is kept.
    """
    threads = threads or 1
    stages = stages_of(run, scheme)
    total, done = len(run.units) + len(stages) * run.n_parts, 0
    options = {"memory": memory, "threads": threads}

    def each(count: int, task: Callable[[range], Any]) -> None:
        nonlocal done
        n_tasks = min(count, max(_TASKS, n_cores(ray)))
        shares = [range(count)[first::n_tasks] for first in range(n_tasks)]
        waiting = {task(share): share for share in shares}
        try:
            while waiting:
                for reference in ray.wait(list(waiting))[0]:
                    share = waiting.pop(reference)
                    _result(ray, reference)
                    done += len(share)
                    if progress is not None:
                        progress(done, total)
        finally:
            for reference in waiting:
                ray.cancel(reference)

    def remote(function: Callable[..., None]) -> Any:
        return ray.remote(num_cpus=threads, max_retries=_RETRIES)(function)

    # One copy of each for all tasks.
    where, what, which = ray.put(run), ray.put(corpus), ray.put(scheme)
    mapping, reducing = remote(_map), remote(_reduce)
    each(len(run.units), partial(mapping.remote, where, what, options))
    for stage in stages:
        each(run.n_parts, partial(reducing.remote, where, which, stage, options))
    return merge(run, scheme)


def _map(run: Run, corpus: Corpus, options: dict[str, Any], units: range) -> None:
    mapping = Mapping(run, corpus, **options)
    for unit in units:
        mapping.unit(unit)


def _reduce(run: Run, scheme: Scheme, stage: Stage, options: dict[str, Any], parts: range) -> None:
    reduction = Reduction(run, scheme, stage, **options)
    for part in parts:
        reduction.part(part)


def score_on_ray(
    corpus: Corpus,
    scheme: Scheme,
    *,
    tmp: str | Path | Sequence[str | Path] | None,
    memory: int | str | None = None,
    threads: int | None = None,
    **rules: Any,
) -> ScoreResult:
    """`radscore.score` with ``executor="ray"``."""
    if tmp is None:
        raise ArgumentError("executor='ray' needs tmp: folders that all nodes of the cluster see")
    memory = DEFAULT_MEMORY if memory is None else memory
    windows, folders = budget_of(memory).windows, folders_of(tmp)
    corpus = corpus.absolute()
    with on_cluster() as ray:
        parts = n_parts(ray)
        run = prepare_in(folders, corpus, scheme, windows=windows, parts=parts, **rules)
        with run.alone():
            result = run_ray(ray, run, corpus, scheme, memory=memory, threads=threads)
            run.discard()
    return result


def _result(ray: Any, reference: Any) -> None:
    """Waits for a task; its own errors are raised as they were there."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise StorageError(
            f"a Ray worker died {_RETRIES + 1} times, or its node ({type(error).__name__}); what "
            "was finished is kept: the same again goes on"
        ) from None
