"""What all executors share: the steps they are given, and how they hand them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from radscore.runs.preparation import DEFAULT_BUCKETS
from radscore.runs.steps import BucketReducer, ShardMapper
from radscore.sizes import DEFAULT_MEMORY, budget_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from radscore.corpus import Corpus
    from radscore.runs.buckets import Stage
    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["Executor", "MapTask", "ReduceTask", "Resources", "Task"]


@dataclass(frozen=True)
class Resources:
    """What one worker may use.

    Attributes
    ----------
    memory : int or str
        Memory limit.
    threads : int or None
        Worker threads; None for what suits the executor.
    """

    memory: int | str = DEFAULT_MEMORY
    threads: int | None = None


@dataclass(frozen=True)
class Task(ABC):
    """Steps of one kind. A task can travel to another process, which then does the steps there.

    Attributes
    ----------
    run : Run
    numbers : sequence of int
        The shards, or buckets.
    resources : Resources
    """

    run: Run
    numbers: Sequence[int]
    resources: Resources

    def share(self, numbers: Sequence[int]) -> Self:
        """The same for some of the steps."""
        return replace(self, numbers=numbers)

    @property
    @abstractmethod
    def words(self) -> str:
        """What is done, to name in a message; ends before the number."""

    @abstractmethod
    def open(self) -> Callable[[int], object]:
        """Something that does a step in this process, given its number."""


@dataclass(frozen=True)
class MapTask(Task):
    """Shards to map."""

    corpus: Corpus

    @property
    def words(self) -> str:
        """As in `Task`."""
        return "mapping shard"

    def open(self) -> Callable[[int], object]:
        """As in `Task`."""
        memory, threads = self.resources.memory, self.resources.threads
        return ShardMapper(self.run, self.corpus, memory=memory, threads=threads).map


@dataclass(frozen=True)
class ReduceTask(Task):
    """Buckets to reduce in one stage. It carries the key."""

    scheme: Scheme
    stage: Stage

    @property
    def words(self) -> str:
        """As in `Task`."""
        return f"reducing {self.stage} of bucket"

    def open(self) -> Callable[[int], object]:
        """As in `Task`."""
        memory, threads = self.resources.memory, self.resources.threads
        return BucketReducer(
            self.run, self.scheme, self.stage, memory=memory, threads=threads
        ).reduce


class Executor(ABC):
    """Carries out the steps of a run somewhere; used as a context manager.

    Subclasses define `carry_out`, and may connect in `__enter__` and disconnect in `__exit__`.

    Parameters
    ----------
    target : str or None
        What stands after the colon of ``"name:target"``.
    resources : Resources
        Of each worker.
    """

    #: Whether other machines work too, so that `tmp` must name folders that all of them see.
    shared: ClassVar[bool] = False

    def __init__(self, target: str | None, resources: Resources) -> None:
        budget_of(resources.memory)  # refuses a limit before anything starts
        self.target, self.resources = target, resources

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    @property
    def buckets(self) -> int:
        """How many buckets suit it, where nothing else is asked for."""
        return DEFAULT_BUCKETS

    @abstractmethod
    def carry_out(self, task: Task) -> Generator[int]:
        """Does all steps of a task, in any order and any number at once.

        Each number comes out when its step is done. A step that dies is tried again; an error of
        its own ends the iteration, and so does closing it; either stops what still runs.
        """
