"""Feeds mutants of valid input to radscore, each target in processes of their own.

    python -m tools.fuzz [--mutants 100000] [--only NAME] [--seed N] [--jobs N] [--keep DIR]

A mutant may be refused by a `RadscoreError`, or read rightly (see `targets.py`). Everything else is
a fault: another exception, a panic, a signal, more than `SECONDS`, more memory than `MEMORY` on top
of what the process had, or a wrong answer. Mutant n of a target is the same in every run with the
same seed. Exits with 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Final

from tools.fuzz.mutate import mutated
from tools.fuzz.targets import TARGETS, Target, WrongError

SECONDS: Final = 30.0
MEMORY: Final = 2 << 30
#: Mutants per process, so that a slow leak does not end in a fault that nothing explains.
CHUNK: Final = 1000


def main() -> int:
    """Runs what the command line asks for."""
    options = _parser().parse_args()
    if options.worker:
        _work(options.worker, options.start, options.stop, options.seed, Path(options.folder))
        return 0
    chosen = {name: one for name, one in TARGETS.items() if options.only in (None, name)}
    if not chosen:
        raise SystemExit(f"no target {options.only!r}; there are: {', '.join(TARGETS)}")
    weights = sum(one.weight for one in chosen.values())
    jobs: queue.Queue[tuple[str, int, int]] = queue.Queue()
    for name, target in chosen.items():
        count = -(-options.mutants * target.weight // weights)
        for start in range(0, count, CHUNK):
            jobs.put((name, start, min(start + CHUNK, count)))
    campaign = Campaign(options.seed, options.keep)
    threads = [threading.Thread(target=campaign.run, args=(jobs,)) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(campaign.table())
    return 1 if campaign.faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--only", metavar="NAME", help="one target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to keep what caused faults")
    for name, kind in (("worker", str), ("start", int), ("stop", int), ("folder", str)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    return parser


class Campaign:
    """Counts of outcomes per target, and what went wrong."""

    def __init__(self, seed: int, keep: Path | None) -> None:
        self.seed, self.keep = seed, keep
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in TARGETS}
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def run(self, jobs: queue.Queue[tuple[str, int, int]]) -> None:
        """Takes jobs until there are none."""
        while True:
            try:
                name, start, stop = jobs.get_nowait()
            except queue.Empty:
                return
            while start < stop:
                start = self._process(name, start, stop)

    def _process(self, name: str, start: int, stop: int) -> int:
        """Runs a worker until it ends, dies or hangs; returns where the next has to begin."""
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=base, prefix="fuzz-") as folder:
            command = [
                *(sys.executable, "-m", "tools.fuzz", "--worker", name, "--folder", folder),
                *("--start", str(start), "--stop", str(stop), "--seed", str(self.seed)),
            ]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            lines: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
            errors: list[str] = []
            watcher = threading.Thread(target=_collect, args=(process.stderr, errors), daemon=True)
            watcher.start()
            at, ready = start, False
            while True:
                try:
                    line = lines.get(timeout=SECONDS if ready else 10 * SECONDS)
                except queue.Empty:
                    process.kill()
                    return self._died(name, at, f"no answer within {SECONDS:g} s", folder)
                if line is None:
                    break
                ready = True
                event = json.loads(line)
                at = event["at"]
                if "outcome" in event:
                    self._count(name, event)
                    at += 1
            process.wait()
            watcher.join()
            if process.returncode == 0:
                return stop
            if not ready:
                return self._died(name, start, f"cannot start:\n{''.join(errors)}", folder, stop)
            why = f"exit status {process.returncode}: {''.join(errors)[-300:].strip()}"
            return self._died(name, at, why, folder)

    def _died(self, name: str, at: int, why: str, folder: str, after: int | None = None) -> int:
        if self.keep is not None and (Path(folder) / "mutant").exists():
            target = self.keep / f"{name.replace(' ', '_')}-{at}"
            shutil.copytree(Path(folder) / "mutant", target, dirs_exist_ok=True)
        self._count(name, {"at": at, "outcome": "death", "message": why})
        return at + 1 if after is None else after

    def _count(self, name: str, event: dict[str, Any]) -> None:
        with self._lock:
            self.counts[name][event["outcome"]] += 1
            if event["outcome"] in ("refused", "read"):
                return
            fault = f"{name}, mutant {event['at']}: {event['outcome']}: {event['message']}"
            self.faults.append(fault)
            print(fault, flush=True)

    def table(self) -> str:
        """The counts, one line per target."""
        names = ("refused", "read", "wrong", "exception", "memory", "death")
        lines = [f"{'':<16}" + "".join(f"{name:>11}" for name in names)]
        total: Counter[str] = Counter()
        for name, counts in self.counts.items():
            if counts:
                lines.append(f"{name:<16}" + "".join(f"{counts[one]:>11,}" for one in names))
                total += counts
        lines.append(f"{'all':<16}" + "".join(f"{total[one]:>11,}" for one in names))
        return "\n".join([*lines, f"{total.total():,} mutants, {len(self.faults):,} faults"])


def _pump(stream: Any, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _collect(stream: Any, parts: list[str]) -> None:
    for line in stream:
        parts.append(line)
        del parts[:-30]


# In a worker


def _work(name: str, start: int, stop: int, seed: int, folder: Path) -> None:
    target = TARGETS[name]
    original, mutant = folder / "original", folder / "mutant"
    original.mkdir()
    target.make(original)
    shutil.copytree(original, mutant)
    expected = target.read(mutant)
    files = sorted(path.relative_to(original) for path in original.rglob("*") if path.is_file())
    contents = {path: (original / path).read_bytes() for path in files}
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in range(start, stop):
        rng = Random(zlib.crc32(f"{name} {seed} {number}".encode()))
        shutil.rmtree(mutant)
        shutil.copytree(original, mutant)
        for path in rng.sample(files, k=min(len(files), rng.choice((1, 1, 1, 2)))):
            (mutant / path).write_bytes(mutated(contents[path], rng, list(contents.values())))
        print(json.dumps({"at": number}), flush=True)
        begun = time.monotonic()
        kind, message = outcome(target, mutant, expected)
        if kind in ("refused", "read") and time.monotonic() - begun > SECONDS / 3:
            kind, message = "slow", f"{time.monotonic() - begun:.1f} s"
        print(json.dumps({"at": number, "outcome": kind, "message": message}), flush=True)


def outcome(target: Target, folder: Path, expected: Any) -> tuple[str, str]:
    """What became of the files in `folder`, and in words why."""
    from radscore.errors import RadscoreError

    try:
        got = target.read(folder)
        if target.sealed and got != expected:
            return "wrong", f"{got!r:.200} in place of {expected!r:.200}"
    except RadscoreError as error:
        return "refused", str(error)[:200]
    except WrongError as error:
        return "wrong", str(error)
    except MemoryError as error:
        return "memory", repr(error)[:200]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a panic is no Exception
        return "exception", f"{type(error).__name__}: {error}"[:300]
    if target.peer is None:
        return "read", ""
    try:
        target.peer(folder, got)
    except WrongError as error:
        return "wrong", str(error)
    except Exception:  # noqa: BLE001 - what the peer cannot read is no verdict
        return "read", "not by the peer"
    return "read", ""


if __name__ == "__main__":
    sys.exit(main())
