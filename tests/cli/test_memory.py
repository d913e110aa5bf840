"""``radscore score --memory``: a run that the same command continues."""

import json
import os
import signal
import subprocess
import sys

import pytest
from radscore.runs import preparation, steps
from run_setup import INPUT, SCHEME, score

LIMITED = ("--memory", "64MiB", "--tmp", "tmp")


def test_a_limit_changes_nothing(cli, run_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "SHARD_BYTES", 50_000)
    expected = score(cli)
    assert score(cli, "--memory", "64MiB", "--tmp", "tmp") == expected
    assert not list((tmp_path / "tmp").iterdir())
    (tmp_path / "more").mkdir()
    assert score(cli, "--memory", "64MiB", "--tmp", "tmp,more", "--keep") == expected
    assert list((tmp_path / "tmp").rglob("*.rsw"))
    assert list((tmp_path / "more").rglob("*.rsw"))


def test_without_tmp_the_files_are_in_the_systems_folder(cli, run_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "tmp"))
    expected = score(cli)
    assert score(cli, "--memory", "64MiB", "--keep") == expected
    [own] = (tmp_path / "tmp").iterdir()
    assert own.name == f"radscore-{os.getuid()}"
    assert list(own.rglob("*.rsw"))
    assert score(cli, "--executor", "processes:1") == expected
    assert not list(own.iterdir())


def test_a_kept_run_is_scored_under_another_key(cli, run_corpus, tmp_path, monkeypatch):
    expected = cli("score", *INPUT, *SCHEME[:3], "bob.key", "--json").json
    score(cli, *LIMITED, "--keep")
    monkeypatch.setattr(steps, "ShardReading", None)
    other = cli("score", *INPUT, *SCHEME[:3], "bob.key", "--json", *LIMITED)
    assert other.json == expected
    assert "1 of 33 steps are already done" in other.err


def interrupted(cli, monkeypatch, *options):
    """The command, interrupted after its first shard."""
    original, left = steps.ShardMapper.map, [1]

    def stop(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(steps.ShardMapper, "map", stop)
        done = cli("score", *INPUT, *SCHEME, *LIMITED, *options)
    assert done.code == 130
    assert "radscore: interrupted; finished work is kept in " in done.err
    assert ", rerun the command to continue" in done.err


def test_the_same_command_continues_and_fresh_starts_over(cli, run_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "SHARD_BYTES", 50_000)
    expected = score(cli)
    interrupted(cli, monkeypatch)
    assert len(list((tmp_path / "tmp").rglob("*.done"))) == 1
    done = cli("score", *INPUT, *SCHEME, *LIMITED, "--json")
    assert done.json == expected
    assert "continuing the run in " in done.err
    assert ": 1 of 35 steps are already done\n" in done.err
    interrupted(cli, monkeypatch)
    done = cli("score", *INPUT, *SCHEME, *LIMITED, "--json", "--fresh")
    assert (done.json, done.err) == (expected, "")


def test_a_changed_rule_is_refused_but_for_fresh(cli, fails, run_corpus):
    score(cli, *LIMITED, "--keep")
    command = ("score", *INPUT, *SCHEME, *LIMITED, "--dedup", "window")
    fails(
        *command, match="holds a run with other rules; use another folder, or start over with --f"
    )
    assert cli(*command, "--fresh").code == 0


def test_another_limit_continues_too(cli, run_corpus, tmp_path, monkeypatch):
    expected = score(cli)
    monkeypatch.setattr(preparation, "SHARD_BYTES", 20_000)
    score(cli, *LIMITED, "--keep")
    [path] = (tmp_path / "tmp").rglob("run.json")
    assert len(json.loads(path.read_text())["shards"]) == 5
    monkeypatch.setattr(preparation, "SHARD_BYTES", 256_000_000)
    monkeypatch.setattr(steps, "ShardReading", None)
    assert score(cli, "--memory", "128MiB", "--tmp", "tmp") == expected


def test_a_damaged_shard_is_rebuilt(cli, fails, run_corpus, tmp_path, monkeypatch):
    expected = score(cli)
    score(cli, *LIMITED, "--keep")
    [shard] = (tmp_path / "tmp").rglob("shard-000000.rsw")
    run = shard.parents[1]

    def damage():
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        for path in run.rglob("windows-*.json"):
            path.unlink()

    def refused():
        done = cli("score", *INPUT, *SCHEME, *LIMITED)
        says = f"to rebuild shard 0 (step by step: radscore run map {run} --shard 0)\n"
        assert (done.code, done.err.endswith(says)) == (1, True), done.err

    damage()
    refused()
    assert score(cli, *LIMITED, "--keep") == expected
    damage()
    refused()
    monkeypatch.chdir(run)
    assert "shard 0: done" in cli("run", "map", run, "--shard", 0).err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(steps, "ShardReading", None)
    assert score(cli, *LIMITED) == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--tmp", "tmp"), "--tmp has no effect without --memory"),
        (("--keep",), "--keep has no effect without --memory"),
        (("--memory", "1GiB", "--tmp", "nowhere"), "error: --tmp must name folders: there is"),
        (("--memory", "lots", "--tmp", "tmp"), "must be a size like '1GiB'"),
        (("--memory", "1GiB", "--state", "s"), "--state does not go together with --memory"),
        (("--memory", "1GiB", "--save-every", "1"), "--save-every does not go together"),
        (("--memory", "1GiB", "--per-document", "x.csv"), "--per-document does not go together"),
        (("--executor", "dask"), "--executor must be one of local, processes, ray, not 'dask'"),
        (("--executor", "local:2"), "--executor local:2 has a target"),
        (("--executor", "processes:none"), "--executor processes:none must have a number"),
    ],
)
def test_what_does_not_go_together(fails, run_corpus, options, says):
    fails("score", *INPUT, *SCHEME, *options, code=2, match=says)


def test_sigterm_is_taken_as_ctrl_c(cli, run_corpus, monkeypatch, tmp_path):
    term = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(steps.ShardMapper, "map", term)
    (tmp_path / "other").mkdir()
    done = cli("score", *INPUT, *SCHEME, "--memory", "1GiB", "--tmp", "tmp, other")
    assert (done.code, "rerun the command to continue" in done.err) == (130, True)


@pytest.mark.parametrize("first", ["*.rsw*", "windows-*"])
def test_a_process_that_is_killed(cli, run_corpus, tmp_path, first):
    expected = score(cli)
    command = [sys.executable, "-m", "radscore", "score", *map(str, INPUT), *SCHEME, *LIMITED]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not any((tmp_path / "tmp").rglob(first)):
        pass
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert score(cli, *LIMITED) == expected
    assert not any((tmp_path / "tmp").iterdir())
