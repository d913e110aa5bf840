"""The executor ``local``: one step after the other, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radscore.errors import ArgumentError
from radscore.runs.executors.base import Executor, Resources, Task

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Local"]


class Local(Executor):
    """Does the steps in this process, each with all threads."""

    def __init__(self, target: str | None, resources: Resources) -> None:
        if target is not None:
            raise ArgumentError(f"executor='local:{target}' has a target, but local takes none")
        super().__init__(target, resources)

    def carry_out(self, task: Task) -> Generator[int]:
        """As in `Executor`."""
        step = task.open()
        for number in task.numbers:
            step(number)
            yield number
