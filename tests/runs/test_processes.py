"""Runs by processes of this machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import radscore as rs
from radscore.errors import ArgumentError, StorageError
from radscore.runs import prepare, score_run
from radscore.runs.executors import Resources, executor_of, processes
from run_schemes import SCHEMES, keyed

DEMO = Path(__file__).parents[2] / "demo"


@pytest.fixture
def run(opened, tmp_path):
    return prepare(tmp_path, opened(), SCHEMES["sglang"](), shard_bytes=40_000, buckets=2)


def score(run, corpus, progress=None, executor="processes:2"):
    return score_run(
        run, corpus, SCHEMES["sglang"](), memory="64MiB", executor=executor, progress=progress
    )


def test_gives_what_one_scorer_gives(opened, run, monkeypatch):
    started, start, steps = [], processes._start, []
    monkeypatch.setattr(processes, "_start", lambda task: started.append(task) or start(task))
    assert score(run, opened(), steps.append) == rs.score(opened(), SCHEMES["sglang"]())
    assert len(started) == 3 * 2  # two workers for the map and for each of two stages
    total = len(run.shards) + 2 * 2
    assert total > 8
    assert [(step.done, step.total) for step in steps] == [(n, total) for n in range(total + 1)]


def test_from_one_call_and_from_text(opened, tmp_path):
    found = rs.score(opened(), keyed(), executor="processes:1", tmp=tmp_path, memory="64MiB")
    assert found == rs.score(opened(), keyed())
    corpus = rs.open_corpus(DEMO / "corpus.jsonl", field="text", tokenizer=DEMO / "tokenizer.json")
    scheme = rs.Keyed(key=bytes(16), vocab_size=49_152, context_width=2)
    assert rs.score(corpus, scheme, executor="processes", tmp=tmp_path) == rs.score(corpus, scheme)
    assert not list(tmp_path.iterdir())


def test_a_step_whose_process_is_killed_is_given_to_another(opened, run, monkeypatch):
    """Each process is killed once it has done two steps."""
    killed, take = [], processes._Worker.take

    def take_and_kill(worker, line):
        worker.n_taken = getattr(worker, "n_taken", 0) + 1
        if worker.n_taken == 2:
            worker.process.kill()
            killed.append(worker.task.words)
        return take(worker, line)

    monkeypatch.setattr(processes._Worker, "take", take_and_kill)
    assert score(run, opened()) == rs.score(opened(), SCHEMES["sglang"]())
    assert killed.count("mapping shard") > 1


def test_a_step_whose_process_is_killed_again_and_again(opened, run, monkeypatch):
    started, start = [], processes._start

    def start_and_kill(task):
        started.append(start(task))
        started[-1].process.kill()
        return started[-1]

    monkeypatch.setattr(processes, "_start", start_and_kill)
    with pytest.raises(
        StorageError, match=r"mapping shard 0 of .*: its process was killed 3 times"
    ):
        score(run, opened(), executor="processes:1")
    assert len(started) == 3


def test_an_error_of_a_process_comes_out_as_it_is(opened, files, tmp_path):
    other = rs.open_corpus(files / "a.bin", dtype="uint16", eod=7, vocab_size=60)
    run = prepare(tmp_path, other, keyed())
    with pytest.raises(StorageError, match="the corpus has changed since the run"):
        score_run(run, opened(), keyed(), executor="processes:1")


def test_a_fault_is_named(opened, run, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StorageError, match=r"mapping shard 0 of .*: internal fault \(exit code 1"):
        score(run, opened(), executor="processes:1")


def test_an_interrupt_ends_all_processes(opened, run, monkeypatch):
    running, start = [], processes._start

    def start_and_note(task):
        running.append(start(task))
        return running[-1]

    def stop(progress):
        if progress.done:
            raise KeyboardInterrupt

    monkeypatch.setattr(processes, "_start", start_and_note)
    with pytest.raises(KeyboardInterrupt):
        score(run, opened(), stop)
    assert len(running) >= 2
    assert all(one.process.returncode in (0, -signal.SIGTERM) for one in running)
    assert score(run, opened()) == rs.score(opened(), SCHEMES["sglang"]())


def test_processes_end_with_the_one_that_has_started_them(opened, tmp_path):
    """The worker waits at a FIFO for ever; its stderr is closed when it ends."""
    run = prepare(tmp_path / "run", opened(), keyed())
    run.shard_path(0).with_suffix(".done").unlink(missing_ok=True)
    os.mkfifo(run.marker_path(0))
    script = (
        "import sys, time, radscore as rs\n"
        "from radscore.runs import Run\n"
        "from radscore.runs.executors import Resources, processes\n"
        "from radscore.runs.executors.base import MapTask\n"
        f"run = Run.open({str(tmp_path / 'run')!r})\n"
        f"corpus = rs.open_corpus({str(Path(run.content['files'][0]['path']).parent)!r}, "
        "dtype='uint16', eod=7, vocab_size=60, batch_tokens=3000)\n"
        "processes.tempfile.TemporaryFile = lambda: open(2, 'wb', closefd=False)\n"
        "processes._start(MapTask(run, [0], Resources(threads=1), corpus)).send(0)\n"
        "print('started', flush=True)\n"
        "time.sleep(99)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"started\n"
    process.kill()
    process.communicate(timeout=60)  # until nobody holds its stderr any more


@pytest.mark.parametrize("target", ["0", "-1", "two", "", "1.5", "²"])
def test_the_number_of_processes_is_a_number(target):
    with pytest.raises(ArgumentError, match="must have a number of processes"):
        executor_of(f"processes:{target}", Resources())
