"""A run by processes of this machine: each runs the same commands as a cluster's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from radscore.distributed.stages import merge, stages_of
from radscore.errors import RadscoreError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from radscore.distributed.manifest import Run
    from radscore.results import ScoreResult
    from radscore.schemes import Scheme

__all__ = ["run_local"]

#: How often a step that was killed is tried again.
_TRIES = 3
_POLL = 0.05


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
    rounds = [[["map", folder, "--unit", str(unit), *resources] for unit in run.missing()]]
    for stage in stages_of(run, scheme):
        options = [*secret, "--stage", stage, *resources]
        parts = range(run.n_parts)
        rounds.append([["reduce", folder, "--part", str(part), *options] for part in parts])
    total, done = sum(map(len, rounds)), 0
    for steps in rounds:
        for _ in _all(steps, workers):
            done += 1
            if progress is not None:
                progress(done, total)
    return merge(run, scheme)


@dataclass
class _Running:
    """A step at work; what it says on stderr goes to a file, which takes any length."""

    step: list[str]
    attempt: int
    errors: IO[str]
    process: subprocess.Popen[str]


def _all(steps: Iterable[list[str]], workers: int) -> Iterator[list[str]]:
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
                with one.errors:
                    if code < 0 and one.attempt < _TRIES:  # killed by a signal
                        waiting.append((one.step, one.attempt + 1))
                    elif code != 0:
                        raise _failure(one, code)
                    else:
                        yield one.step
    finally:
        for one in running:
            one.process.terminate()
            one.process.wait()
            one.errors.close()


def _begin(step: list[str], attempt: int) -> _Running:
    errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by `_all`
    return _Running(step, attempt, errors, _start(step, errors))


def _start(step: list[str], errors: IO[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "radscore", *step]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        text=True,
    )


def _failure(one: _Running, code: int) -> RadscoreError:
    one.errors.seek(0)
    lines = one.errors.read().strip().splitlines()
    reason = lines[-1].removeprefix("radscore: error: ") if lines else f"exit code {code}"
    return StorageError(f"radscore {' '.join(one.step[:4])} failed: {reason}")
