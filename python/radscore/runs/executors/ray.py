"""The executor ``ray:ADDRESS``: tasks of a Ray cluster, on any nodes that see the folders."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from radscore.errors import ArgumentError, StorageError
from radscore.extras import need
from radscore.runs.executors.base import Executor, Resources, Task
from radscore.schemes.secrecy import keys_kept

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

__all__ = ["Ray", "connected"]

#: How often a task is tried again whose worker died.
_RETRIES = 3
#: Ray tasks for each task here, at most, unless the cluster has more cores: each compares all
#: files of the corpus once, and does several steps if there are more.
_SHARES = 1000
#: Fewest and most buckets.
_BUCKETS = (16, 4096)


class Ray(Executor):
    """Does the steps as tasks of a Ray cluster.

    The target is its address: ``HOST:PORT``, ``auto`` for the one that runs here, ``local`` for a
    new one here; by default what ``RAY_ADDRESS`` says, else a new one. All nodes must see the run's
    folders and the corpus by absolute paths. A task takes as many cores as it has threads, one by
    default. The key travels to the nodes that reduce, in the arguments of their tasks.
    """

    shared = True

    def __init__(self, target: str | None, resources: Resources) -> None:
        super().__init__(target, replace(resources, threads=resources.threads or 1))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._ray = self._stack.enter_context(connected(self.target))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def cores(self) -> int:
        """Cores of the cluster."""
        return max(int(self._ray.cluster_resources().get("CPU", 1)), 1)

    @property
    def buckets(self) -> int:
        """So many that the cluster can reduce all of them at about the same time."""
        fewest, most = _BUCKETS
        return min(max(fewest, 2 * self.cores), most)

    def carry_out(self, task: Task) -> Generator[int]:
        """As in `Executor`."""
        ray, numbers = self._ray, task.numbers
        count = min(len(numbers), max(_SHARES, self.cores))
        work = ray.remote(num_cpus=self.resources.threads, max_retries=_RETRIES)(_work)
        with keys_kept():
            whole = ray.put(task.share(()))  # one copy for all
        shares = [numbers[first::count] for first in range(count)]
        waiting = {work.remote(whole, share): share for share in shares}
        try:
            while waiting:
                for reference in ray.wait(list(waiting))[0]:
                    share = waiting.pop(reference)
                    _result(ray, reference)
                    yield from share
        finally:
            for reference in waiting:
                ray.cancel(reference)


def _work(task: Task, numbers: Sequence[int]) -> None:
    step = task.open()
    for number in numbers:
        step(number)


def _result(ray: Any, reference: Any) -> None:
    """Waits for a Ray task; its own errors come out as they were raised there."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise StorageError(
            f"a Ray worker, or its node, died {_RETRIES + 1} times ({type(error).__name__}); "
            "finished work is kept, so run the same again to continue"
        ) from None


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Ray, connected: as it already is, or to `address`, or to a cluster started here for it.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    ArgumentError
        If there is no cluster at the address.
    """
    need("ray", what="executor='ray'")
    import ray

    if ray.is_initialized():
        yield ray
        return
    # A cluster that is started for one call reports to nobody.
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
