"""Runs as tasks of a real Ray cluster with two workers."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import radscore as rs
from radscore.cli import main
from radscore.corpus import Corpus
from radscore.errors import ArgumentError, StorageError
from radscore.runs import score_run
from radscore.runs.executors import Resources
from radscore.runs.executors import ray as ray_executor
from radscore.runs.preparation import prepare_in
from run_schemes import SCHEMES, VOCAB, keyed

ray = pytest.importorskip("ray")


class Dying(Corpus):
    """A corpus whose reader is killed: once, or whenever it is asked."""

    def __init__(self, corpus, marker, *, once):
        vars(self).update(vars(corpus))
        self.marker, self.once, self.here = marker, once, os.getpid()

    def absolute(self):
        if os.getpid() != self.here and not (self.once and self.marker.exists()):
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        found = Dying(super().absolute(), self.marker, once=self.once)
        found.here = self.here
        return found


@pytest.fixture(scope="module")
def cluster():
    """Two workers. What tests define travels by value, since workers cannot import it."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with ray_executor.Ray("local", Resources()) as executor:
        assert executor.cores == 2
        assert executor.buckets == 16
        yield


@pytest.fixture(scope="module", autouse=True)
def two_cores(monkeymodule):
    """The cluster has two workers, however many cores this machine has."""
    init = ray.init
    monkeymodule.setattr(ray, "init", lambda **options: init(num_cpus=2, **options))


@pytest.fixture(scope="module")
def monkeymodule():
    """`monkeypatch` for a module."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize("name", SCHEMES)
def test_gives_what_one_scorer_gives(cluster, opened, tmp_path, name):
    corpus, scheme = opened(), SCHEMES[name]()
    expected = repr(rs.score(corpus, scheme))
    found = rs.score(corpus, scheme, executor="ray", memory="64MiB", tmp=tmp_path)
    assert repr(found) == expected
    assert not list(tmp_path.iterdir())


def run_of(corpus, folder):
    return prepare_in([folder], corpus, keyed(), windows=1 << 18, buckets=3)


def score_on_ray(run, corpus, progress=None):
    options = {"executor": "ray", "memory": "64MiB", "progress": progress}
    return score_run(run, corpus, keyed(), **options)


def test_a_killed_worker_is_retried(cluster, opened, tmp_path):
    marker = tmp_path / "killed"
    corpus = Dying(opened(), marker, once=True)
    run, steps = run_of(corpus, tmp_path), []
    found = score_on_ray(run, corpus, steps.append)
    assert marker.exists()
    assert found == rs.score(opened(), keyed())
    total = len(run.shards) + 3
    assert [(step.done, step.total) for step in steps] == [(n, total) for n in range(total + 1)]


def test_tasks_of_several_steps(cluster, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "_SHARES", 1)  # as many as the cluster has cores
    shares, result = [], ray_executor._result
    monkeypatch.setattr(ray_executor, "_result", lambda *args: shares.append(1) or result(*args))
    corpus, steps = opened(), []
    run = run_of(corpus, tmp_path)
    assert score_on_ray(run, corpus, steps.append) == rs.score(corpus, keyed())
    total = len(run.shards) + 3
    assert total > 4 == len(shares)
    assert steps[-1].done == steps[-1].total == total


def test_workers_that_always_die(cluster, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "_RETRIES", 1)
    corpus = Dying(opened(), tmp_path / "killed", once=False)
    run = run_of(corpus, tmp_path)
    with pytest.raises(StorageError, match=r"died 2 times .*, so run the same again to continue"):
        score_on_ray(run, corpus)
    healthy = opened()
    assert score_on_ray(run, healthy) == rs.score(healthy, keyed())


def test_errors_of_a_task_come_out_as_they_are(cluster, files, opened, tmp_path):
    other = rs.open_corpus(files / "a.bin", dtype="uint16", eod=7, vocab_size=VOCAB)
    run = run_of(other, tmp_path)
    with pytest.raises(StorageError, match="the corpus has changed"):
        score_on_ray(run, opened())


def test_the_command_line(cluster, files, tmp_path, monkeypatch, capsys):
    (tmp_path / "scheme.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {VOCAB}\ncontext_width = 2\ngamma = 0.25\n'
    )
    (tmp_path / "alice.key").write_text("00112233445566778899aabbccddeeff")
    monkeypatch.chdir(tmp_path)
    options = ["score", str(files), "--dtype", "uint16", "--eod", "7", "--scheme", "scheme.toml"]
    options += ["--key-file", "alice.key", "--json"]

    def said():  # but for what made it, which names the command
        return {k: v for k, v in json.loads(capsys.readouterr().out).items() if k != "provenance"}

    assert main(options) == 0
    expected = said()
    (tmp_path / "shared").mkdir()
    assert main([*options, "--executor", "ray:local", "--tmp", "shared"]) == 0
    assert said() == expected
    assert not list((tmp_path / "shared").iterdir())
    assert main([*options, "--executor", "ray"]) == 2
    assert "--tmp must name folders that all nodes" in capsys.readouterr().err


def test_text_is_tokenised_by_the_workers(cluster, tmp_path):
    """A fast path does not travel: each worker makes its own."""
    demo = Path(__file__).parents[2] / "demo"
    corpus = rs.open_corpus(demo / "corpus.jsonl", field="text", tokenizer=demo / "tokenizer.json")
    scheme = rs.Keyed(key=bytes(16), vocab_size=49_152, context_width=2)
    assert rs.score(corpus, scheme, executor="ray", tmp=tmp_path) == rs.score(corpus, scheme)


def test_relative_paths(cluster, files, tmp_path, monkeypatch):
    shutil.copy(files / "b.parquet", tmp_path)
    monkeypatch.chdir(tmp_path)
    corpus = rs.open_corpus("b.parquet", vocab_size=VOCAB)
    Path("shared").mkdir()
    assert rs.score(corpus, keyed(), executor="ray", tmp="shared") == rs.score(corpus, keyed())


def test_what_does_not_go_together(opened, tmp_path):
    with pytest.raises(ArgumentError, match="executor must be one of local, processes, ray, not"):
        rs.score(opened(), keyed(), executor="dask", tmp=tmp_path)
    with pytest.raises(ArgumentError, match="tmp must name folders that all"):
        rs.score(opened(), keyed(), executor="ray")
    with pytest.raises(ArgumentError, match="needs a corpus of files"):
        rs.score([[1, 2, 3]], keyed(), executor="ray", tmp=tmp_path)
