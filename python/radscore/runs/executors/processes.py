"""The executor ``processes:N``: N processes at a time, on this machine."""

from __future__ import annotations

import base64
import os
import pickle
import selectors
import subprocess
import sys
import tempfile
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from radscore.errors import ArgumentError, StorageError
from radscore.runs.executors.base import Executor, Resources, Task
from radscore.schemes.secrecy import keys_kept

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Processes"]

#: How often a step is tried whose process was killed.
_TRIES = 3


class Processes(Executor):
    """Does the steps in processes of this machine, which end when this one does.

    The target is their number, by default one per core. Each gets the task, which may hold the key,
    through a pipe, and then one step after another. A step whose process is killed, for want of
    memory say, is given to a new one.
    """

    def __init__(self, target: str | None, resources: Resources) -> None:
        number = os.cpu_count() or 1 if target is None else _number(target)
        super().__init__(target, replace(resources, threads=resources.threads or 1))
        self._workers = number

    def carry_out(self, task: Task) -> Generator[int]:
        """As in `Executor`."""
        waiting, tries = deque(task.numbers), Counter[int]()
        workers: dict[int, _Worker] = {}
        with selectors.DefaultSelector() as selector:
            try:
                while waiting or workers:
                    while waiting and len(workers) < self._workers:
                        worker = _start(task)
                        workers[selector.register(worker.output, selectors.EVENT_READ).fd] = worker
                        worker.give(waiting)
                    for key, _ in selector.select():
                        worker = workers[key.fd]
                        if line := worker.output.readline():
                            number = worker.take(line)
                            worker.give(waiting)
                            yield number
                            continue
                        selector.unregister(key.fileobj)
                        if workers.pop(key.fd).end() and worker.step is not None:
                            tries[worker.step] += 1
                            if tries[worker.step] == _TRIES:
                                raise worker.failure(
                                    f"its process was killed {_TRIES} times; out of memory, perhaps"
                                )
                            waiting.appendleft(worker.step)
            finally:
                for worker in workers.values():
                    worker.process.terminate()
                for worker in workers.values():
                    worker.close()


def _number(target: str) -> int:
    if not target.isascii() or not target.isdigit() or int(target) < 1:
        raise ArgumentError(
            f"executor='processes:{target}' must have a number of processes after the colon"
        )
    return int(target)


@dataclass
class _Worker:
    """A process and the step it is doing, None once it has been told to stop.

    It writes errors to a file, which takes any length.
    """

    task: Task
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    step: int | None = None

    @property
    def output(self) -> IO[bytes]:
        """What it says, a line at a time: see `radscore.runs.executors.worker`."""
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, message: Any) -> None:
        """Sends it the task, or a step."""
        assert self.process.stdin is not None
        with (
            suppress(BrokenPipeError),  # it was killed, as the end of its output will show
            open(self.process.stdin.fileno(), "wb", closefd=False) as pipe,
            keys_kept(),
        ):
            pickle.dump(message, pipe)

    def give(self, waiting: deque[int]) -> None:
        """Gives it the next step, or lets it end if there is none."""
        self.step = waiting.popleft() if waiting else None
        self.send(self.step)

    def take(self, line: bytes) -> int:
        """The step that a line says is done; raises the error that it tells of instead."""
        if not line[:1].isdigit():
            raise pickle.loads(base64.b64decode(line[1:]))  # noqa: S301 - from our own worker
        return int(line)

    def end(self) -> bool:
        """Whether it was killed, now that it has ended; raises if it failed in another way."""
        code = self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().decode(errors="replace").rstrip().rpartition("\n")[2]
        self.close()
        if code > 0:
            raise self.failure(f"internal fault ({last.partition(':')[0] or f'exit code {code}'})")
        return code < 0

    def close(self) -> None:
        """Waits for its end and closes its files."""
        with self.errors, self.process:
            pass

    def failure(self, reason: str) -> StorageError:
        """The error to raise about the step it was doing."""
        return StorageError(f"{self.task.words} {self.step} of {self.task.run.folder}: {reason}")


def _start(task: Task) -> _Worker:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    command = [sys.executable, "-m", "radscore.runs.executors.worker"]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0
    )
    worker = _Worker(task, process, errors)
    worker.send(task.share(()))
    return worker
