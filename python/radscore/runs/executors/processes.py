"""A run by processes of this machine: each runs the same commands as a cluster's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeAlias

from radscore.errors import RadscoreError, StorageError
from radscore.runs.steps import merge, stages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from radscore.results import ScoreResult
    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["run_local"]

#: How often a step that was killed is tried again.
_TRIES = 3
#: Processes of a stage for each worker, at most: each looks at all files of the corpus once.
_SHARES = 8
#: Steps of a process, at most: the length of its command is limited.
_STEPS = 10_000
_POLL = 0.05
_ERROR = "radscore: error: "
#: The words of a command.
_Step: TypeAlias = list[str]


def run_local(
    run: Run,
    scheme: Scheme,
    secret: Sequence[str],
    *,
    workers: int,
    memory: int | str = "1GiB",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Maps, reduces and merges with `workers` processes at a time.

    Parameters
    ----------
    run, scheme
        Which run is scored, for which watermark.
    secret : sequence of str
        The options that name scheme and key, as ``--scheme s.toml --key-file k``.
    workers : int
        Processes at a time.
    memory, threads
        Of each of them.
    progress : callable, optional
        Called with the number of steps that are done, and of all.

    Raises
    ------
    RadscoreError
        If a step fails for a reason of its own. One that is killed is tried again.
    """
    resources = ["--memory", str(memory), "--threads", str(threads or 1)]
    folder = str(run.folder)

    def steps(command: str, what: str, numbers: Sequence[int], options: list[str]) -> list[_Step]:
        count = min(len(numbers), max(_SHARES * workers, -(-len(numbers) // _STEPS)))
        shares = (numbers[first::count] for first in range(count))
        named = ([word for one in share for word in (what, str(one))] for share in shares)
        return [[command, folder, *words, *options, *resources] for words in named]

    rounds = [steps("map", "--unit", run.missing(), [])]
    for stage in stages_of(run, scheme):
        options = ["--stage", stage, *secret]
        rounds.append(steps("reduce", "--part", range(run.n_parts), options))
    total, done = sum(map(len, rounds)), 0
    for each in rounds:
        for _ in _all(each, workers):
            done += 1
            if progress is not None:
                progress(done, total)
    return merge(run, scheme)


@dataclass
class _Running:
    """A step at work; what it says on stderr goes to a file, which takes any length."""

    step: _Step
    attempt: int
    errors: IO[str]
    process: subprocess.Popen[str]


def _all(steps: Iterable[_Step], workers: int) -> Iterator[_Step]:
    """Runs all steps, `workers` at a time; each comes out when it is done."""
    waiting = [(step, 1) for step in steps]
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_begin(*waiting.pop(0)))
            time.sleep(_POLL)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                code = one.process.returncode
                with one.errors, one.process:
                    if code < 0 and one.attempt < _TRIES:  # killed by a signal
                        waiting.append((one.step, one.attempt + 1))
                    elif code != 0:
                        raise _failure(one, code)
                    else:
                        yield one.step
    finally:
        for one in running:
            with one.errors, one.process:
                one.process.terminate()


def _begin(step: _Step, attempt: int) -> _Running:
    errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by `_all`
    return _Running(step, attempt, errors, _start(step, errors))


def _start(step: _Step, errors: IO[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "radscore.runs.executors.step", *step]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        command,
        stdin=subprocess.PIPE,  # by its end it sees that this process has ended
        stdout=subprocess.DEVNULL,
        stderr=errors,
        text=True,
    )


def _failure(one: _Running, code: int) -> RadscoreError:
    one.errors.seek(0)
    said = [line for line in one.errors.read().splitlines() if line.startswith(_ERROR)]
    if code < 0:
        reason = f"signal {-code} has killed it {_TRIES} times; perhaps memory is short"
    else:
        reason = said[-1].removeprefix(_ERROR) if said else f"exit code {code}"
    command, folder, what, first = one.step[:4]
    more = " ..." if one.step.count(what) > 1 else ""
    return StorageError(f"radscore {command} {folder} {what} {first}{more} failed: {reason}")
