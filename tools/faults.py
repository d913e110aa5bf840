"""Kills commands, fills their disks and closes their folders; then the rerun must give the same.

``python -m tools.faults [--rounds 50] [--seed 0] [--only NAME ...]`` runs each command below in a
folder of its own: once undisturbed, then, every round, once per fault, followed by the same command
until it ends well. It prints how often each fault was given and what went wrong: a result that
differs, a signal, a traceback, a hang, a file that is left behind, a file of someone else's that is
gone. It exits with 1 if anything did.

Faults: SIGKILL at a random moment (``kill``), files that may not grow beyond a random size, as on a
full disk (``full``), a folder that may not be written (``closed``), stdout on a full disk
(``stdout``), and little more memory than the interpreter and its libraries have taken
(``memory``; not where torch runs, which aborts). Models are made on the fly; ``ask`` has an
endpoint in this process.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds after which a command hangs, and reruns after which it does not get on.
_HANGS: Final = 300
_RERUNS: Final = 6
_SCHEME: Final = 'scheme = "keyed"\nvocab_size = 128\ngamma = 0.25\ncontext_width = 2\n'
_KEY: Final = "00112233445566778899aabbccddeeff"
_USE: Final = ("--scheme", "s.toml", "--key-file", "k.key")
_SCORE: Final = ("score", "docs.jsonl", *_USE, "--json", "--quiet", "--threads", "1")
_RUN: Final = ("score", "ids.bin", "--dtype", "uint16", "--eod", "0", *_USE, "--json", "--quiet")
_OF_TWO: Final = ("--width", "2", "--quiet")
_MODEL: Final = ("--model", "model", "--quiet")
_PROMPTS: Final = ("--prompts", "prompts.jsonl", "--max-tokens", "8")
#: A file of someone else's in every folder.
_MINE: Final = "radscore.state.backup.tmp"


@dataclass(frozen=True)
class Scenario:
    """A command, or several that follow each other, and the files that they make."""

    commands: tuple[tuple[str, ...], ...]
    outputs: tuple[str, ...] = ()
    slow: bool = False


SCENARIOS: Final = {
    "state": Scenario(((*_SCORE, "--save-every", "0"),)),
    "rows": Scenario(
        ((*_SCORE, "--save-every", "0", "--per-document", "rows.csv"),), ("rows.csv",)
    ),
    "memory": Scenario(((*_RUN, "--memory", "64MiB", "--tmp", "tmp"),)),
    "run": Scenario(
        (
            ("run", "prepare", "run", *_RUN[1:10], "--buckets", "3", "--shard-size", "100kB"),
            ("run", "map", "run", "--memory", "64MiB"),
            ("run", "reduce", "run", *_USE, "--memory", "64MiB"),
            ("run", "merge", "run", *_USE, "--json"),
        ),
    ),
    "kgrams": Scenario(
        (("kgrams", "build", "docs.jsonl", *_OF_TWO, "--vocab-size", "128", "--out", "o.rkg"),),
        ("o.rkg",),
    ),
    "predict": Scenario(
        (("predict", "few.jsonl", *_MODEL, "--context-width", "2", "--out", "p.arrow"),),
        ("p.arrow",),
        slow=True,
    ),
    "generate": Scenario(
        (("generate", *_MODEL, *_PROMPTS, "--batch-size", "2", "--out", "g.jsonl"),),
        ("g.jsonl",),
        slow=True,
    ),
    "ask": Scenario(
        (("ask", *_PROMPTS, *_MODEL, "--concurrency", "1", "--out", "a.jsonl"),),
        ("a.jsonl",),
    ),
}
FAULTS: Final = ("kill", "full", "closed", "stdout", "memory")
#: The command line with a limit on the address space, once all libraries are there.
_STARVED: Final = """
import resource, sys
import numpy, pyarrow, pyarrow.parquet, scipy.stats, radscore.api, radscore.runs, radscore.cli.entry
from radscore import _core
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(radscore.cli.entry.main())
"""


class _Endpoint(BaseHTTPRequestHandler):
    """Answers every prompt with its length."""

    def do_POST(self) -> None:
        """As the base class says."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = f"{len(json.dumps(asked['messages']))}"
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": asked["model"]}
        body = json.dumps({**reply, "choices": [choice], "usage": usage}).encode()
        time.sleep(0.01)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def make_inputs(folder: Path, *, models: bool) -> None:
    """What the commands read, and a file of someone else's."""
    draw = np.random.default_rng(0)
    documents = draw.integers(1, 125, size=(3000, 60)).tolist()
    lines = [json.dumps({"tokens": one}) + "\n" for one in documents]
    (folder / "docs.jsonl").write_text("".join(lines))
    (folder / "few.jsonl").write_text("".join(lines[:60]))
    draw.integers(0, 125, size=300_000).astype(np.uint16).tofile(folder / "ids.bin")
    prompts = "".join(f'{{"prompt": "w{i} w{i}"}}\n' for i in range(12))
    (folder / "prompts.jsonl").write_text(prompts)
    (folder / "s.toml").write_text(_SCHEME)
    (folder / "k.key").write_text(_KEY)
    (folder / _MINE).write_text("mine\n")
    (folder / "tmp").mkdir()
    if models:
        tiny: Any = import_module("tests.models.tiny")
        tiny.tiny_llama().save_pretrained(folder / "model")
        tiny.word_tokenizer().save_pretrained(folder / "model")


class Harness:
    """Runs scenarios under faults, and counts."""

    def __init__(self, inputs: Path, endpoint: str, seed: int) -> None:
        self.given: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self._inputs, self._endpoint = inputs, endpoint
        self._draw = random.Random(seed)

    def run(self, name: str, rounds: int, faults: Sequence[str]) -> None:
        """One scenario, undisturbed and then under each fault, `rounds` times."""
        scenario = SCENARIOS[name]
        with self._folder() as folder:
            began = time.monotonic()
            expected = self._finish(name, scenario, Path(folder))
            lasts = time.monotonic() - began
        for number in range(rounds):
            for fault in faults:
                if fault == "memory" and scenario.slow:
                    continue
                with self._folder() as folder:
                    before = len(self.wrong)
                    self._disturb(fault, scenario, Path(folder), lasts)
                    self.given[name, fault] += 1
                    got = self._finish(name, scenario, Path(folder))
                    if got != expected and len(self.wrong) == before:
                        self.wrong.append(f"{name}, {fault}: another result in round {number}")
                    for line in self.wrong[before:]:
                        print(line, flush=True)

    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        made = tempfile.TemporaryDirectory(prefix="radscore-faults-")
        for entry in self._inputs.iterdir():
            target = Path(made.name, entry.name)
            if entry.is_dir():
                shutil.copytree(entry, target)
            else:
                shutil.copy(entry, target)
        return made

    def _start(
        self,
        command: Sequence[str],
        folder: Path,
        before: Callable[[], None] | None = None,
        stdout: Any = subprocess.PIPE,
        spare: int | None = None,
    ) -> subprocess.Popen[bytes]:
        starved = ("-c", _STARVED, str(spare))
        words = [sys.executable, *(("-m", "radscore") if spare is None else starved), *command]
        if command[0] == "ask":
            words += ["--endpoint", self._endpoint]
        return subprocess.Popen(
            words,
            cwd=folder,
            stdout=stdout,
            stderr=subprocess.PIPE,
            preexec_fn=before,  # noqa: PLW1509 - it only makes system calls
            env={**os.environ, "OPENAI_API_KEY": "none", "OMP_NUM_THREADS": "1"},
        )

    def _disturb(self, fault: str, scenario: Scenario, folder: Path, lasts: float) -> None:
        command = scenario.commands[self._draw.randrange(len(scenario.commands))]
        for earlier in scenario.commands[: scenario.commands.index(command)]:
            self._start(earlier, folder).communicate(timeout=_HANGS)
        if fault == "kill":
            process = self._start(command, folder)
            time.sleep(self._draw.uniform(0.1, 1.1) * lasts / len(scenario.commands))
            process.kill()
            process.communicate()
        elif fault == "full":
            limit = int(2 ** self._draw.uniform(0, 22))

            def small() -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            self._faulty(f"full at {limit}", command, folder, small)
        elif fault == "closed":
            for one in (folder, folder / "tmp", folder / "run"):
                if one.exists():
                    one.chmod(0o555)
            self._faulty("closed", command, folder, _without_override)
            for one in (folder, folder / "tmp", folder / "run"):
                if one.exists():
                    one.chmod(0o755)
        elif fault == "memory":
            spare = int(2 ** self._draw.uniform(18, 29))
            self._faulty(
                f"memory, {spare} bytes to spare", command, folder, None, subprocess.PIPE, spare
            )
        else:
            with Path("/dev/full").open("wb") as full:
                self._faulty("stdout", command, folder, None, full)

    def _faulty(self, fault: str, command: Sequence[str], folder: Path, *how: Any) -> None:
        process = self._start(command, folder, *how)
        _, errors = process.communicate(timeout=_HANGS)
        if process.returncode not in (0, 1, 2, 3, 130) or b"Traceback" in errors:
            said = f"exit code {process.returncode}, {errors[-300:]!r}"
            self.wrong.append(f"{' '.join(command[:2])}, {fault}: {said}")

    def _finish(self, name: str, scenario: Scenario, folder: Path) -> Any:
        """The result of the commands, rerun until they end well, and their files."""
        said = b""
        for command in scenario.commands:
            again: tuple[str, ...] = ()
            for _ in range(_RERUNS):
                process = self._start([*command, *again], folder)
                said, errors = process.communicate(timeout=_HANGS)
                if process.returncode == 0:
                    break
                if b"already exists; add --force" in errors:  # it had come so far
                    again = ("--force",)
            else:
                said_last = f"{process.returncode} {errors[-300:]!r}"
                self.wrong.append(f"{name}: does not get on: {said_last}")
        allowed = {entry.name for entry in self._inputs.iterdir()} | set(scenario.outputs) | {"run"}
        left = {entry.name for entry in folder.iterdir()} - allowed
        left |= {entry.name for entry in (folder / "tmp").iterdir()}
        if left:
            self.wrong.append(f"{name}: left behind: {sorted(left)}")
        if not (folder / _MINE).exists() or (folder / _MINE).read_text() != "mine\n":
            self.wrong.append(f"{name}: the file of someone else's is gone")
        return _result(said), [_content(folder / one) for one in scenario.outputs]


def _result(said: bytes) -> Any:
    """What a command printed, where that is its result."""
    found = json.loads(said) if said.startswith(b"{") else {}
    return {name: value for name, value in found.items() if name != "provenance"}


def _content(path: Path) -> Any:
    if not path.exists():
        return None
    if path.suffix == ".arrow":
        from radscore.models.predictions import Predictions

        made = Predictions(path)
        return made.header, made.totals, [one.weights.tolist() for one in made]
    if path.suffix == ".jsonl":
        lines = map(json.loads, path.read_text().splitlines())
        return {(one["prompt_id"], one["sample"]): one.get("text") for one in lines}
    return path.read_bytes()


def _without_override() -> None:
    """Lets not even root write to a folder that is closed."""
    drop, override = 24, 1
    ctypes.CDLL(None).prctl(drop, override, 0, 0, 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    args = parser.parse_args(arguments)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as inputs:
        make_inputs(Path(inputs), models=any(SCENARIOS[one].slow for one in args.only))
        harness = Harness(Path(inputs), f"http://127.0.0.1:{server.server_port}/v1", args.seed)
        for name in args.only:
            harness.run(name, args.rounds, args.faults)
            given = {fault: harness.given[name, fault] for fault in args.faults}
            print(f"{name:<10} {given}", flush=True)
    server.shutdown()
    server.server_close()
    print(f"{harness.given.total()} faults, {len(harness.wrong)} wrong")
    return 1 if harness.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
