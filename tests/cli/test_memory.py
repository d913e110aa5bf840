"""Runs in files and in steps, from the command line."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from radscore.corpus import SkipReport
from radscore.runs import Run, manifest, steps
from radscore.runs.executors import processes
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

KEY = "00112233445566778899aabbccddeeff"
INPUT = ("corpus", "--dtype", "uint16", "--eod", 7)
SCHEME = ("--scheme", "scheme.toml", "--key-file", "alice.key")
LIMITED = ("--memory", "64MiB", "--tmp", "tmp")


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
    monkeypatch.setattr(steps, "read_unit", None)
    other = cli(
        "score", *INPUT, *SCHEME[:3], "bob.key", "--json", "--memory", "64MiB", "--tmp", "tmp"
    )
    assert other.json == expected


def test_the_same_command_goes_on(cli, setup, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "UNIT_BYTES", 50_000)
    expected = score(cli)
    original = steps.Mapping.unit
    left = [1]

    def stop(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(steps.Mapping, "unit", stop)
        done = cli("score", *INPUT, *SCHEME, "--memory", "64MiB", "--tmp", "tmp")
    assert done.code == 130
    assert "the same command goes on" in done.err
    assert len(list((tmp_path / "tmp").rglob("*.done"))) == 1
    assert score(cli, "--memory", "64MiB", "--tmp", "tmp") == expected


def test_a_changed_rule_is_refused(cli, fails, setup):
    score(cli, "--memory", "64MiB", "--tmp", "tmp", "--keep")
    command = ("score", *INPUT, *SCHEME, "--memory", "64MiB", "--tmp", "tmp")
    fails(*command, "--dedup", "window", match="holds a run under other rules")


def test_another_limit_goes_on_too(cli, setup, tmp_path, monkeypatch):
    expected = score(cli)
    monkeypatch.setattr(manifest, "UNIT_BYTES", 20_000)
    score(cli, "--memory", "64MiB", "--tmp", "tmp", "--keep")
    [path] = (tmp_path / "tmp").rglob("run.json")
    assert len(json.loads(path.read_text())["units"]) == 5
    monkeypatch.setattr(manifest, "UNIT_BYTES", 256_000_000)
    monkeypatch.setattr(steps, "read_unit", None)
    assert score(cli, "--memory", "128MiB", "--tmp", "tmp") == expected


def test_a_damaged_unit_is_made_anew(cli, fails, setup, tmp_path, monkeypatch):
    expected = score(cli)
    command = ("score", *INPUT, *SCHEME, "--memory", "64MiB", "--tmp", "tmp")
    score(cli, *LIMITED, "--keep")
    [unit] = (tmp_path / "tmp").rglob("unit-000000.rsw")
    run = unit.parents[1]

    def damage():
        whole = unit.read_bytes()
        unit.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        for path in run.rglob("windows-*.json"):
            path.unlink()

    damage()
    says = f"makes work unit 0 anew (of a run in steps: radscore map {run} --unit 0 --redo)"
    fails(*command, match=says)
    assert score(cli, *LIMITED, "--keep") == expected
    damage()
    fails(*command, match=says)
    monkeypatch.chdir(run)
    assert "unit 0 of 1 done" in cli("map", run, "--unit", 0, "--redo").err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(steps, "read_unit", None)
    assert score(cli, *LIMITED) == expected


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


def text_corpus(folder):
    """Lines of text, of which the fast path hands some on, and their tokenizer."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=260, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    words = ("cafe\u0301", *4 * ["cafe"])
    texts = [f"a text {number} {words[number % 5]}" for number in range(300)]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "scheme.toml").write_text(
        'scheme = "sglang_gumbel"\nvocab_size = 300\ncontext_width = 2\n'
    )


def test_what_tokenised_the_text(cli, setup, tmp_path):
    text_corpus(tmp_path)
    reading = ("./t.jsonl", "--tokenizer", "tokenizer.json")
    workers = ("--unit-size", "3kB", "--parts", 2, "--workers", 2)
    for engine in ("auto", "reference"):
        options = (*reading, "--tokenizer-engine", engine, *SCHEME)
        expected = cli("score", *options, "--json").json
        says = "as asked" if engine == "reference" else "fast path; 60 of 300 texts by tokenizers"
        assert says in expected["notes"][0]
        assert cli("score", *options, *LIMITED, "--json").json == expected
        assert cli("prepare", engine, *options, *workers).code == 0
        assert len(list((tmp_path / engine).rglob("*.rsw"))) == 3
        assert cli("merge", engine, *SCHEME, "--json").json == expected


def test_a_tokenizer_that_was_moved(cli, fails, setup, tmp_path):
    text_corpus(tmp_path)
    prepare = ("prepare", "run", "t.jsonl", *SCHEME, "--tokenizer")
    assert cli(*prepare, "tokenizer.json").code == 0
    (tmp_path / "tokenizer.json").rename(tmp_path / "other.json")
    fails("map", "run", code=2, match="tokenizer.json: no such file")
    assert cli(*prepare, "other.json").code == 0
    assert cli("map", "run").code == 0


@pytest.mark.parametrize(
    "case",
    [
        ("corpus/run", ["corpus"], "corpus"),
        ("corpus", ["./corpus/"], "./corpus/"),
        ("link/run", ["corpus"], "corpus"),
        ("corpus/x/run", ["corpus/*.bin", "corp*"], "corpus"),
        ("corpus/run", ["corpus/*"], "corpus/*"),
    ],
)
def test_a_run_inside_of_its_input(cli, fails, setup, tmp_path, case):
    folder, inputs, names = case
    (tmp_path / "link").symlink_to("corpus")
    says = f"the folder {folder} of the run lies inside the input {names}, so its files"
    options = (*INPUT[1:], *SCHEME)
    fails("prepare", folder, *inputs, *options, code=2, match=says)
    fails("prepare", "run", *inputs, *options, "--tmp", f"tmp,{folder}", code=2, match=says)
    fails("score", *inputs, *options, "--memory", "1GiB", "--tmp", folder, code=2, match=says)
    assert cli("prepare", "corpus/_run", "corpus", *options).code == 0  # which is not read
    assert cli("prepare", "corpus/run", "corpus/a.bin", *options).code == 0


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
    expected, started, start = score(cli), [], processes._start
    monkeypatch.setattr(processes, "_SHARES", 1)
    monkeypatch.setattr(processes, "_start", lambda *step: started.append(step) or start(*step))
    options = ("--unit-size", "20kB", "--parts", 3, "--workers", 2)
    done = cli("prepare", "run", *INPUT, *SCHEME, *options)
    assert done.code == 0, done.err
    assert len(started) == 3 * 2
    assert cli("merge", "run", *SCHEME, "--json").json == expected
    again = ("prepare", "run", *INPUT, *SCHEME, "--unit-size", "20kB")
    assert "parts 3" in " ".join(cli(*again).out.split())
    fails(*again, "--parts", 4, code=2, match="--parts has no effect: the run in run has 3 parts")
    fails(*again, "--tmp", "tmp", code=2, match="--tmp has no effect")
    with Run.open("run").alone():
        fails(*again, "--workers", 2, match="another process works on run")


def test_a_process_that_is_killed_is_started_again(cli, setup, monkeypatch):
    expected, started, killed = score(cli), [], []
    start = processes._start

    def start_and_kill(step, errors):
        process = start(step, errors)
        started.append(step)
        if not killed or (step[0] == "reduce" and len(killed) < 2):
            process.kill()
            killed.append(step)
        return process

    monkeypatch.setattr(processes, "_start", start_and_kill)
    options = ("--unit-size", "20kB", "--parts", 2, "--workers", 2)
    assert cli("prepare", "run", *INPUT, *SCHEME, *options).code == 0
    assert len(killed) == 2
    assert all(started.count(step) == 2 for step in killed)
    assert cli("merge", "run", *SCHEME, "--json").json == expected


def test_a_process_that_is_killed_again_and_again(cli, fails, setup, monkeypatch):
    start = processes._start

    def start_and_kill(step, errors):
        errors.write("radscore: unit 0 of 5 done\n")
        process = start(step, errors)
        process.kill()
        return process

    monkeypatch.setattr(processes, "_start", start_and_kill)
    command = ("prepare", "run", *INPUT, *SCHEME, "--unit-size", "20kB", "--workers", 1)
    fails(*command, match="radscore map run --unit 0 failed: signal 9 has killed it 3 times")
    monkeypatch.setattr(processes, "_SHARES", 2)
    fails(*command, match="--unit 0 ... failed: signal 9")


def test_processes_that_are_interrupted(cli, setup, monkeypatch):
    running, start = [], processes._start

    def start_and_note(*step):
        running.append(start(*step))
        return running[-1]

    with monkeypatch.context() as patch:
        patch.setattr(processes, "_start", start_and_note)
        patch.setattr(processes.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
        done = cli("prepare", "run", *INPUT, *SCHEME, "--workers", 2, "--unit-size", "20kB")
    assert (done.code, done.out) == (130, "")
    assert "what was finished is in run, and the same command goes on" in done.err
    assert [process.returncode for process in running] == [-signal.SIGTERM] * 2


def test_sigterm_is_taken_as_ctrl_c(cli, setup, monkeypatch):
    assert cli("prepare", "run", *INPUT, *SCHEME).code == 0
    term = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(steps.Mapping, "unit", term)
    assert cli("map", "run").code == 130
    Path("other").mkdir()
    done = cli("score", *INPUT, *SCHEME, "--memory", "1GiB", "--tmp", "tmp, other")
    assert (done.code, "the same command goes on" in done.err) == (130, True)


def test_processes_end_with_the_one_that_has_started_them(setup, tmp_path):
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "run.json")  # to wait at for ever
    script = (
        "import sys, time\n"
        "from radscore.runs.executors import processes\n"
        f"step = processes._start(['map', {str(tmp_path / 'run')!r}], sys.stderr)\n"
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


# A stand-in for sbatch that runs the tasks of an array one after the other, at once. It refuses
# arrays of more than three tasks, as Slurm does beyond MaxArraySize, and unknown dependencies. Its
# cluster is one of several.
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
echo $((jobs + 1)) > jobs
echo "$((jobs + 1));here"
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
    assert done.stdout.endswith("log of job 4\n")
    assert cli("merge", "run@here", *SCHEME, "--json").json == expected
    text = script.read_text()
    assert str(tmp_path / "alice.key") in text
    assert text.count("--cpus-per-task=1 ") == 4
    assert text.count("--threads 1 ") == 3
    assert text.count(" --error=") == 1  # the log of the last job holds the result alone


def test_what_is_skipped_by_a_whole_run(cli, setup, tmp_path):
    with (setup / "b.jsonl").open("a") as file:
        file.write('{"tokens": [1, 60]}\n{"tokens": 7}\n')
    skip = (setup, *INPUT[1:], *SCHEME, "--on-error", "skip")
    done = cli("score", *skip, "--json", "--quiet")
    assert (done.code, done.json["n_skipped"]) == (3, 2)
    limited = cli("score", *skip, *LIMITED, "--json")
    assert (limited.code, limited.json) == (3, done.json)
    assert cli("prepare", "run", *skip, "--unit-size", "20kB", "--parts", 2).code == 0
    assert cli("map", "run").code == 0
    skipped = [SkipReport.from_dict(marker["skipped"]) for marker in Run.open("run").markers()]
    assert [report.count for report in skipped] == [0, 0, 0, 0, 2]
    for stage in ("windows", "units"):
        assert cli("reduce", "run", *SCHEME, "--stage", stage).code == 0
    merged = cli("merge", "run", *SCHEME, "--json")
    assert (merged.code, merged.json) == (3, done.json)
    script = cli("prepare", "run", *skip, "--slurm", "--unit-size", "20kB").out
    [line] = [line for line in script.splitlines() if "radscore merge" in line]
    work = shlex.split(line.removeprefix("merge=$(").removesuffix(")"))[-1].removeprefix("--wrap=")
    environment = {"PYTHONPATH": ":".join(sys.path)}
    for code, key in ((0, "alice.key"), (1, "bob.key")):  # nothing is reduced under the other
        command = ["sh", "-c", work.replace("alice.key", key)]
        job = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert job.returncode == code, job.stderr
        assert code or json.loads(job.stdout) == done.json


def test_what_has_no_effect_on_a_run(cli, fails, setup, tmp_path):
    prepare = ("prepare", "run", *INPUT, *SCHEME)
    for option in (("--memory", "1GiB"), ("--threads", 2)):
        fails(*prepare, *option, code=2, match="has no effect without --slurm or --workers")
    fails(*prepare, "--unit-size", "0", code=2, match="--unit-size must be at least 1 byte")
    assert "reduce --stage windows, then radscore reduce --stage units" in cli(*prepare).out
    (tmp_path / "scheme.toml").write_text(
        'scheme = "keyed"\nvocab_size = 60\ncontext_width = 2\ngamma = 0.25\n'
    )
    (tmp_path / "alice.key").write_text(KEY)
    assert "--stage units" not in cli(*prepare).out
    assert cli("map", "run").code == 0
    units = ("reduce", "run", *SCHEME, "--stage", "units")
    fails(*units, code=2, match="for schemes whose units are not windows")


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


@pytest.mark.parametrize("first", ["run.json", "*.rsw*", "*.done", "windows-*"])
def test_a_process_that_is_killed(cli, setup, tmp_path, first):
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
