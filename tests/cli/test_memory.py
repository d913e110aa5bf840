"""Runs in files and in steps, from the command line."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from radscore.distributed import Run, local, manifest, stages

KEY = "00112233445566778899aabbccddeeff"
INPUT = ("corpus", "--dtype", "uint16", "--eod", 7)
SCHEME = ("--scheme", "scheme.toml", "--key-file", "alice.key")


@pytest.fixture
def setup(tmp_path, cli):
    """A file of ids, one of lines, a scheme and its key."""
    (tmp_path / "scheme.toml").write_text(
        'scheme = "sglang_gumbel"\nvocab_size = 60\ncontext_width = 2\n'
    )
    (tmp_path / "alice.key").write_text("0x12")
    (tmp_path / "bob.key").write_text("0x13")
    folder = tmp_path / "corpus"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    rng = np.random.default_rng(11)
    rng.integers(0, 50, size=40_000).astype(np.uint16).tofile(folder / "a.bin")
    docs = rng.integers(0, 50, size=(100, 40)).tolist()
    (folder / "b.jsonl").write_text("".join(json.dumps({"tokens": d}) + "\n" for d in docs))
    return folder


def score(cli, *options):
    done = cli("score", *INPUT, *SCHEME, "--json", "--quiet", *options)
    assert done.code == 0, done.err
    return done.json


def test_a_limit_changes_nothing(cli, setup, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "UNIT_BYTES", 50_000)
    expected = score(cli)
    assert score(cli, "--memory", "64MiB", "--tmp", "tmp") == expected
    assert not list((tmp_path / "tmp").iterdir())
    (tmp_path / "more").mkdir()
    assert score(cli, "--memory", "64MiB", "--tmp", "tmp,more", "--keep") == expected
    kept = list((tmp_path / "tmp").rglob("*.rsw"))
    assert kept
    assert list((tmp_path / "more").rglob("*.rsw"))


def test_a_kept_run_is_scored_under_another_key(cli, setup, tmp_path, monkeypatch):
    expected = cli("score", *INPUT, *SCHEME[:3], "bob.key", "--json").json
    score(cli, "--memory", "64MiB", "--tmp", "tmp", "--keep")
    monkeypatch.setattr(stages, "read_unit", None)
    other = cli(
        "score", *INPUT, *SCHEME[:3], "bob.key", "--json", "--memory", "64MiB", "--tmp", "tmp"
    )
    assert other.json == expected


def test_the_same_command_goes_on(cli, setup, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "UNIT_BYTES", 50_000)
    expected = score(cli)
    original = stages.Mapping.unit
    left = [1]

    def stop(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stages.Mapping, "unit", stop)
        done = cli("score", *INPUT, *SCHEME, "--memory", "64MiB", "--tmp", "tmp")
    assert done.code == 130
    assert "the same command goes on" in done.err
    assert len(list((tmp_path / "tmp").rglob("*.done"))) == 1
    assert score(cli, "--memory", "64MiB", "--tmp", "tmp") == expected


def test_a_changed_rule_is_refused(cli, fails, setup):
    score(cli, "--memory", "64MiB", "--tmp", "tmp", "--keep")
    command = ("score", *INPUT, *SCHEME, "--memory", "64MiB", "--tmp", "tmp")
    fails(*command, "--dedup", "window", match="holds a run with another rules")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--tmp", "tmp"), "--tmp has no effect without --memory"),
        (("--keep",), "--keep has no effect without --memory"),
        (("--memory", "1GiB"), "--memory needs --tmp"),
        (("--memory", "1GiB", "--tmp", "nowhere"), "there is no folder nowhere"),
        (("--memory", "lots", "--tmp", "tmp"), "must be a size like '1GiB'"),
        (("--memory", "1GiB", "--tmp", "tmp", "--resume"), "goes on by itself"),
        (("--memory", "1GiB", "--tmp", "tmp", "--per-document", "x.csv"), "--per-document"),
    ],
)
def test_what_does_not_go_together(fails, setup, options, says):
    fails("score", *INPUT, *SCHEME, *options, code=2, match=says)


def test_a_run_in_steps(cli, fails, setup, tmp_path, monkeypatch):
    expected = score(cli)
    prepare = ("prepare", "run", *INPUT, *SCHEME, "--unit-size", "20kB", "--parts", 2)
    done = cli(*prepare)
    assert done.code == 0, done.err
    assert "units 5 parts 2" in " ".join(done.out.split())
    fails("merge", "run", *SCHEME, match="is not reduced")
    fails("reduce", "run", "--part", 0, *SCHEME, match="work unit 0 of run is not done")
    for unit in (3, 0, 1, 2, 4):
        assert cli("map", "run", "--unit", unit, "--memory", "64MiB").code == 0
    assert "unit 1 of 5 was done before" in cli("map", "run", "--unit", 1).err
    assert "unit 1 of 5 done" in cli("map", "run", "--unit", 1, "--redo").err
    assert cli("reduce", "run", *SCHEME, "--part", 1, "--part", 0).code == 0
    assert cli("reduce", "run", *SCHEME, "--stage", "units").code == 0
    merged = cli("merge", "run", *SCHEME, "--json")
    assert merged.json == expected
    fails("map", "run", "--unit", 9, code=2, match="unit must be from 0 to 4")
    fails("reduce", "run", *SCHEME, "--part", 2, code=2, match="part must be from 0 to 1")
    fails("map", "nowhere", match="nowhere holds no run")
    setup.joinpath("a.bin").write_bytes(bytes(80_000))
    fails("map", "run", "--unit", 0, "--redo", match="the corpus has changed")


def test_processes_here(cli, fails, setup, tmp_path, monkeypatch):
    expected = score(cli)
    monkeypatch.setattr(local, "_PROCESSES", 2)
    options = ("--unit-size", "20kB", "--parts", 3, "--workers", 2)
    done = cli("prepare", "run", *INPUT, *SCHEME, *options)
    assert done.code == 0, done.err
    assert cli("merge", "run", *SCHEME, "--json").json == expected
    again = ("prepare", "run", *INPUT, *SCHEME, "--unit-size", "20kB")
    assert "parts 3" in " ".join(cli(*again).out.split())
    fails(*again, "--parts", 4, code=2, match="--parts has no effect: the run in run has 3 parts")
    fails(*again, "--tmp", "tmp", code=2, match="--tmp has no effect")
    with Run.open("run").alone():
        fails(*again, "--workers", 2, match="another process works on run")


def test_a_process_that_is_killed_is_started_again(cli, setup, monkeypatch):
    expected, started, killed = score(cli), [], []
    start = local._start

    def start_and_kill(step, errors):
        process = start(step, errors)
        started.append(step)
        if not killed or (step[0] == "reduce" and len(killed) < 2):
            process.kill()
            killed.append(step)
        return process

    monkeypatch.setattr(local, "_start", start_and_kill)
    options = ("--unit-size", "20kB", "--parts", 2, "--workers", 2)
    assert cli("prepare", "run", *INPUT, *SCHEME, *options).code == 0
    assert len(killed) == 2
    assert all(started.count(step) == 2 for step in killed)
    assert cli("merge", "run", *SCHEME, "--json").json == expected


def test_a_process_that_is_killed_again_and_again(cli, fails, setup, monkeypatch):
    start = local._start

    def start_and_kill(step, errors):
        errors.write("radscore: unit 0 of 5 done\n")
        process = start(step, errors)
        process.kill()
        return process

    monkeypatch.setattr(local, "_start", start_and_kill)
    command = ("prepare", "run", *INPUT, *SCHEME, "--unit-size", "20kB", "--workers", 1)
    fails(*command, match="radscore map run --unit 0 failed: signal 9 has killed it 3 times")
    monkeypatch.setattr(local, "_PROCESSES", 2)
    fails(*command, match="--unit 0 ... failed: signal 9")


# A stand-in for sbatch that runs the tasks of an array one after the other, at once. It refuses
# arrays of more than three tasks, as Slurm does beyond MaxArraySize, and unknown dependencies.
SBATCH = """\
#!/bin/sh
last=0
jobs=$(cat jobs 2>/dev/null || echo 0)
for word; do
    case "$word" in
        --array=0-[012]) last=${word##*-} ;;
        --array=*) echo "Invalid job array specification" >&2; exit 1 ;;
        --wrap=*) work=${word#--wrap=} ;;
        --dependency=afterok:*) [ "${word##*:}" = "$jobs" ] || exit 1 ;;
    esac
done
task=0
while [ $task -le $last ]; do
    SLURM_ARRAY_TASK_ID=$task sh -c "$work" >&2 || exit 1
    task=$((task + 1))
done
echo $((jobs + 1)) | tee jobs
"""


def test_a_slurm_script_does_the_same(cli, setup, tmp_path):
    expected = score(cli)
    options = ("--unit-size", "20kB", "--parts", 4, "--slurm", "--threads", 1)
    prepare = ("prepare", "run@here", *INPUT, *SCHEME, *options)
    script = tmp_path / "run.sh"
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(SBATCH)
    fake.chmod(0o755)
    path = f"{fake.parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PYTHONPATH": ":".join(sys.path)}

    def submit(*options):
        script.write_text(cli(*prepare, *options).out)
        return subprocess.run(
            ["sh", script], env=environment, capture_output=True, text=True, check=False
        )

    refused = submit()  # five units, which are no more than an array may have by default
    assert (refused.returncode, refused.stderr) == (1, "Invalid job array specification\n")
    done = submit("--slurm-tasks", 3)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" done\n") == 5 + 2 * 4
    assert "before" not in done.stderr
    assert "log of job 4" in done.stdout
    assert cli("merge", "run@here", *SCHEME, "--json").json == expected
    text = script.read_text()
    assert str(tmp_path / "alice.key") in text
    assert text.count("--cpus-per-task=1 ") == 4
    assert text.count("--threads 1 ") == 3


def test_shares(cli, fails, setup):
    cli("prepare", "run", *INPUT, *SCHEME, "--unit-size", "20kB")
    assert cli("map", "run", "--share", "1/3").err.split()[2::6] == ["1", "4"]
    assert cli("map", "run", "--share", "8/9").err == ""
    for share in ("3/3", "-1/3", "1", "a/b", "1/0"):
        fails("map", "run", "--share", share, code=2, match="--share")
    fails("reduce", "run", *SCHEME, "--share", "0/2", "--part", 1, code=2, match="not allowed with")
    fails("prepare", "run", *INPUT, *SCHEME, "--slurm-tasks", 9, code=2, match="without --slurm")
    both = ("--slurm", "--workers", 2)
    fails("prepare", "run", *INPUT, *SCHEME, *both, code=2, match="not allowed with")
    little = ("--unit-size", "20kB", "--slurm", "--memory", "1MB")
    fails("prepare", "run", *INPUT, *SCHEME, *little, code=2, match="at least 64MiB")


@pytest.mark.parametrize("seconds", [0.3, 0.8])
def test_a_process_that_is_killed(cli, setup, tmp_path, seconds):
    expected = score(cli)
    command = [sys.executable, "-m", "radscore", "score", *map(str, INPUT), *SCHEME]
    command += ["--json", "--memory", "64MiB", "--tmp", "tmp"]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert score(cli, "--memory", "64MiB", "--tmp", "tmp") == expected
