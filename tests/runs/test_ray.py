"""Runs as tasks of a real Ray cluster with two workers."""

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
from radscore.runs.executors import ray as ray_executor
from radscore.runs.manifest import prepare_in
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
        return super().absolute()


@pytest.fixture(scope="module")
def cluster():
    """Two workers; what tests define travels by value, since workers cannot import it."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with ray_executor.on_cluster("local") as connected:
        assert ray_executor.n_cores(connected) == 2
        yield connected


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
    return prepare_in([folder], corpus, keyed(), windows=1 << 18, parts=3)


def test_a_killed_worker_is_retried(cluster, opened, tmp_path):
    marker = tmp_path / "killed"
    corpus = Dying(opened(), marker, once=True)
    run, steps = run_of(corpus, tmp_path), []
    found = ray_executor.run_ray(
        cluster, run, corpus, keyed(), memory="64MiB", progress=lambda *step: steps.append(step)
    )
    assert marker.exists()
    assert found == rs.score(opened(), keyed())
    total = len(run.units) + 3
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_tasks_of_several_steps(cluster, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "_TASKS", 1)  # as many as the cluster has cores
    corpus, steps = opened(), []
    run = run_of(corpus, tmp_path)
    found = ray_executor.run_ray(
        cluster, run, corpus, keyed(), memory="64MiB", progress=lambda *step: steps.append(step)
    )
    assert found == rs.score(corpus, keyed())
    total = len(run.units) + 3
    assert total > 4 == len(steps)
    assert steps[-1] == (total, total)


def test_workers_that_always_die(cluster, opened, tmp_path):
    corpus = Dying(opened(), tmp_path / "killed", once=False)
    run = run_of(corpus, tmp_path)
    with pytest.raises(StorageError, match="the same again goes on"):
        ray_executor.run_ray(cluster, run, corpus, keyed(), memory="64MiB")
    healthy = opened()
    found = ray_executor.run_ray(cluster, run, healthy, keyed(), memory="64MiB")
    assert found == rs.score(healthy, keyed())


def test_errors_of_a_task_come_out_as_they_are(cluster, files, opened, tmp_path):
    other = rs.open_corpus(files / "a.bin", dtype="uint16", eod=7, vocab_size=VOCAB)
    run = run_of(other, tmp_path)
    with pytest.raises(StorageError, match="the corpus has changed"):
        ray_executor.run_ray(cluster, run, opened(), keyed(), memory="64MiB")


def test_the_command_line(cluster, files, tmp_path, monkeypatch, capsys):
    (tmp_path / "scheme.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {VOCAB}\ncontext_width = 2\ngamma = 0.25\n'
    )
    (tmp_path / "alice.key").write_text("00112233445566778899aabbccddeeff")
    monkeypatch.chdir(tmp_path)
    options = ["score", str(files), "--dtype", "uint16", "--eod", "7", "--scheme", "scheme.toml"]
    options += ["--key-file", "alice.key", "--json"]
    assert main(options) == 0
    expected = capsys.readouterr().out
    (tmp_path / "shared").mkdir()
    assert main([*options, "--ray", "local", "--tmp", "shared"]) == 0
    assert capsys.readouterr().out == expected
    assert not list((tmp_path / "shared").iterdir())
    assert main([*options, "--ray", "local"]) == 2
    assert "--ray needs --tmp" in capsys.readouterr().err


def test_relative_paths(cluster, files, tmp_path, monkeypatch):
    shutil.copy(files / "b.parquet", tmp_path)
    monkeypatch.chdir(tmp_path)
    corpus = rs.open_corpus("b.parquet", vocab_size=VOCAB)
    Path("shared").mkdir()
    assert rs.score(corpus, keyed(), executor="ray", tmp="shared") == rs.score(corpus, keyed())


def test_what_does_not_go_together(opened, tmp_path):
    with pytest.raises(ArgumentError, match="executor must be one of ray"):
        rs.score(opened(), keyed(), executor="dask", tmp=tmp_path)
    with pytest.raises(ArgumentError, match="needs tmp"):
        rs.score(opened(), keyed(), executor="ray")
    with pytest.raises(ArgumentError, match="what open_corpus returns"):
        rs.score([[1, 2, 3]], keyed(), executor="ray", tmp=tmp_path)
