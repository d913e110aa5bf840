"""``radscore run``: in steps, by executors, by a script."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
from radscore.runs import Run, steps
from run_setup import INPUT, SCHEME, score
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

KEY = "00112233445566778899aabbccddeeff"
LIMITED = ("--memory", "64MiB", "--tmp", "tmp")
PREPARE = ("run", "prepare", "run", *INPUT, *SCHEME)


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
def test_a_run_inside_of_its_input(cli, fails, run_corpus, tmp_path, case):
    folder, inputs, names = case
    (tmp_path / "link").symlink_to("corpus")
    says = f"the folder {folder} of the run is inside the input {names}, so its files"
    options = (*INPUT[1:], *SCHEME)
    fails("run", "prepare", folder, *inputs, *options, code=2, match=says)
    fails("run", "prepare", "run", *inputs, *options, "--tmp", f"tmp,{folder}", code=2, match=says)
    fails("score", *inputs, *options, "--memory", "1GiB", "--tmp", folder, code=2, match=says)
    assert cli("run", "prepare", "corpus/_run", "corpus", *options).code == 0  # which is not read
    assert cli("run", "prepare", "corpus/run", "corpus/a.bin", *options).code == 0


def test_a_run_in_steps(cli, fails, run_corpus):
    expected = score(cli)
    done = cli(*PREPARE, "--shard-size", "20kB", "--buckets", 2)
    assert (done.code, done.err) == (0, "")
    assert "shards 5 buckets 2" in " ".join(done.out.split())
    fails("run", "merge", "run", *SCHEME, match="bucket 0 (windows) of run is not reduced yet")
    fails("run", "reduce", "run", "--bucket", 0, *SCHEME, match="shard 0 of run is not mapped yet")
    for shard in (3, 0, 1, 2, 4):
        assert cli("run", "map", "run", "--shard", shard, "--memory", "64MiB").code == 0
    assert "shard 1: was already done" in cli("run", "map", "run", "--shard", 1).err
    assert "shard 1: done" in cli("run", "map", "run", "--shard", 1, "--fresh").err
    reduce = ("run", "reduce", "run", *SCHEME)
    assert cli(*reduce, "--bucket", 1, "--bucket", 0).code == 0
    assert "bucket 1 (windows): was already done" in cli(*reduce, "--bucket", 1).err
    assert "bucket 1 (windows): done" in cli(*reduce, "--bucket", 1, "--fresh").err
    assert cli(*reduce, "--stage", "units").code == 0
    merged = cli("run", "merge", "run", *SCHEME, "--json")
    assert merged.json == expected
    fails("run", "map", "run", "--shard", 9, code=2, match="shard must be from 0 to 4")
    fails(*reduce, "--bucket", 2, code=2, match="bucket must be from 0 to 1")
    fails("run", "map", "nowhere", match="there is no run in nowhere")
    run_corpus.joinpath("a.bin").write_bytes(bytes(80_000))
    fails("run", "map", "run", "--shard", 0, "--fresh", match="the corpus has changed")
    fails(*PREPARE, match="holds a run of another corpus, or the corpus has changed; use another")
    assert cli(*PREPARE, "--fresh").code == 0


def test_all_steps_at_once(cli, fails, run_corpus):
    expected = score(cli)
    command = (*PREPARE, "--shard-size", "20kB")
    done = cli(*command, "--buckets", 3, "--executor", "processes:2")
    assert (done.code, done.err) == (0, "")
    assert "p-value" in done.out
    assert cli("run", "merge", "run", *SCHEME, "--json").json == expected
    again = cli(*command)
    assert "buckets  3" in again.out
    assert again.err == "radscore: continuing the run in run\n"
    fails(*command, "--buckets", 4, code=2, match="--buckets has no effect: the run in run has 3")
    fails(*command, "--tmp", "tmp", code=2, match="--tmp has no effect")
    with Run.open("run").locked():
        done = cli(*command, "--executor", "local")
        assert (done.code, "another process is working on run" in done.err) == (1, True)
    assert "11 of 11 steps are already done" in cli(*command, "--executor", "local").err


def test_steps_may_be_named_without_run_as_they_once_were(cli):
    for name in ("prepare", "map", "reduce", "merge"):
        done = cli(name, "--help")
        assert done.code == 0
        assert done.out.startswith(f"usage: radscore run {name} ")
        assert done.err == f"radscore: {name} is now a command of run: radscore run {name}\n"


def test_the_command_that_was_meant_is_named(fails):
    fails("membership", code=2, match="did you mean radscore test membership?")
    fails("run", "marge", code=2, match="did you mean radscore run merge?")


def test_an_interrupted_step(cli, run_corpus, monkeypatch):
    assert cli(*PREPARE).code == 0
    term = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(steps.ShardMapper, "map", term)
    assert cli("run", "map", "run").code == 130
    done = cli(*PREPARE, "--executor", "local")
    assert done.code == 130
    assert "interrupted; finished work is kept in run, rerun the command" in done.err


# A stand-in for sbatch that runs the tasks of an array one after the other, at once. It refuses
# arrays of more than two tasks, as Slurm does beyond MaxArraySize, and unknown dependencies. Its
# cluster is one of several.
SBATCH = """\
#!/bin/sh
last=0
jobs=$(cat jobs 2>/dev/null || echo 0)
for word; do
    case "$word" in
        --array=0-[01]) last=${word##*-} ;;
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


def test_a_slurm_script_does_the_same(cli, run_corpus, tmp_path):
    expected = score(cli)
    options = ("--shard-size", "20kB", "--buckets", 3, "--threads", 1)
    prepare = ("run", "prepare", "run@here", *INPUT, *SCHEME, *options)
    script = tmp_path / "run.sh"
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(SBATCH)
    fake.chmod(0o755)
    path = f"{fake.parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PYTHONPATH": ":".join(sys.path)}

    def submit(*options):
        script.write_text(cli(*prepare, "--script", *options).out)
        return subprocess.run(
            ["sh", script], env=environment, capture_output=True, text=True, check=False
        )

    refused = submit("slurm")  # five shards, no more than an array may have by default
    assert (refused.returncode, refused.stderr) == (1, "Invalid job array specification\n")
    done = submit("slurm:2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" done\n") == 5 + 2 * 3
    assert "already" not in done.stderr
    assert done.stdout.endswith("log of job 4\n")
    assert cli("run", "merge", "run@here", *SCHEME, "--json").json == expected
    text = script.read_text()
    assert str(tmp_path / "alice.key") in text
    assert text.count("--cpus-per-task=1 ") == 4
    assert text.count("--threads 1 ") == 3
    assert text.count(" --error=") == 1  # the log of the last job holds the result alone


def test_what_is_skipped_by_a_whole_run(cli, run_corpus, tmp_path):
    with (run_corpus / "b.jsonl").open("a") as file:
        file.write('{"tokens": [1, 60]}\n{"tokens": 7}\n')
    skip = (run_corpus, *INPUT[1:], *SCHEME, "--on-error", "skip")
    done = cli("score", *skip, "--json", "--quiet")
    assert (done.code, done.json["n_skipped"]) == (3, 2)
    limited = cli("score", *skip, *LIMITED, "--json")
    assert (limited.code, limited.json) == (3, done.json)
    assert cli("run", "prepare", "run", *skip, "--shard-size", "20kB", "--buckets", 2).code == 0
    assert cli("run", "map", "run").code == 0
    assert [one.skipped.count for one in Run.open("run").markers()] == [0, 0, 0, 0, 2]
    for stage in ("windows", "units"):
        assert cli("run", "reduce", "run", *SCHEME, "--stage", stage).code == 0
    merged = cli("run", "merge", "run", *SCHEME, "--json")
    assert (merged.code, merged.json) == (3, done.json)
    script = cli("run", "prepare", "run", *skip, "--script", "slurm", "--shard-size", "20kB").out
    [line] = [line for line in script.splitlines() if "radscore run merge" in line]
    work = shlex.split(line.removeprefix("merge=$(").removesuffix(")"))[-1].removeprefix("--wrap=")
    environment = {"PYTHONPATH": ":".join(sys.path)}
    for code, key in ((0, "alice.key"), (1, "bob.key")):  # nothing is reduced under the other
        command = ["sh", "-c", work.replace("alice.key", key)]
        job = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert job.returncode == code, job.stderr
        if not code:
            merged = json.loads(job.stdout)
            assert merged.pop("provenance")["inputs"]["n_files"] == 2
            assert merged == done.json


def test_what_has_no_effect_on_a_run(cli, fails, run_corpus, tmp_path):
    for option in (("--memory", "1GiB"), ("--threads", 2)):
        fails(*PREPARE, *option, code=2, match="has no effect without --executor or --script")
    fails(*PREPARE, "--shard-size", "0", code=2, match="--shard-size must be at least 1 byte")
    both = ("--script", "slurm", "--executor", "local")
    fails(*PREPARE, *both, code=2, match="not allowed with")
    for script, says in (
        (("slurm", "--memory", "1MB"), "--memory must be at least 64MiB"),
        (("slurm:many",), "--script slurm:many must have a number of tasks"),
        (("pbs",), "--script must be one of slurm, not 'pbs'"),
    ):
        done = cli(*PREPARE, "--script", *script)
        assert (done.code, done.out, says in done.err) == (2, "", True), done.err
    text = " ".join(cli(*PREPARE).out.split())
    key = "--scheme scheme.toml --key-file alice.key"
    reduce = "radscore run reduce run --stage"
    assert f"{reduce} windows {key} {reduce} units {key} radscore run merge run {key}" in text
    (tmp_path / "scheme.toml").write_text(
        'scheme = "keyed"\nvocab_size = 60\ncontext_width = 2\ngamma = 0.25\n'
    )
    (tmp_path / "alice.key").write_text(KEY)
    assert "--stage units" not in cli(*PREPARE).out
    assert cli("run", "map", "run").code == 0
    units = ("run", "reduce", "run", *SCHEME, "--stage", "units")
    fails(*units, code=2, match="for schemes whose units are not windows")


def test_shares(cli, fails, run_corpus):
    cli(*PREPARE, "--shard-size", "20kB")
    assert cli("run", "map", "run", "--share", "1/3").err.split()[2::4] == ["1:", "4:"]
    assert cli("run", "map", "run", "--share", "8/9").err == ""
    for share in ("3/3", "-1/3", "1", "a/b", "1/0"):
        fails("run", "map", "run", "--share", share, code=2, match="--share")
    both = ("--share", "0/2", "--bucket", 1)
    fails("run", "reduce", "run", *SCHEME, *both, code=2, match="not allowed with")


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


def test_what_tokenised_the_text(cli, run_corpus, tmp_path):
    text_corpus(tmp_path)
    reading = ("./t.jsonl", "--tokenizer", "tokenizer.json")
    workers = ("--shard-size", "3kB", "--buckets", 2, "--executor", "processes:1")
    for engine in ("auto", "reference"):
        options = (*reading, "--tokenizer-engine", engine, *SCHEME)
        expected = cli("score", *options, "--json").json
        says = "as asked" if engine == "reference" else "fast path; 60 of 300 texts by tokenizers"
        assert says in expected["notes"][0]
        assert cli("score", *options, *LIMITED, "--json").json == expected
        assert cli("run", "prepare", engine, *options, *workers).code == 0
        assert len(list((tmp_path / engine).rglob("*.rsw"))) == 3
        assert cli("run", "merge", engine, *SCHEME, "--json").json == expected


def test_a_tokenizer_that_was_moved(cli, fails, run_corpus, tmp_path):
    text_corpus(tmp_path)
    prepare = ("run", "prepare", "run", "t.jsonl", *SCHEME, "--tokenizer")
    assert cli(*prepare, "tokenizer.json").code == 0
    (tmp_path / "tokenizer.json").rename(tmp_path / "other.json")
    fails("run", "map", "run", code=2, match="tokenizer.json: no such file")
    assert cli(*prepare, "other.json").code == 0
    assert cli("run", "map", "run").code == 0
