"""Help, usage, and how every command fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from radscore.cli import Exit
from radscore.cli import score as score_module
from radscore.cli.entry import COMMANDS as REGISTERED
from radscore.cli.entry import make_parser
from radscore.cli.output import power_of_ten

COMMANDS = [list(path) for path in make_parser().commands()]


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_every_help_has_examples_and_exit_codes(cli, command):
    done = cli(*command, "--help")
    assert done.code == 0
    assert done.out.startswith(" ".join(["usage: radscore", *command]))
    assert "\nexamples:\n  radscore " in done.out
    assert "\nexit codes:\n  0    success\n" in done.out
    for code in Exit:
        assert f"\n  {code.value:<3}  " in done.out


def test_examples_in_help_are_understood(cli):
    assert [path for path in COMMANDS if len(path) == 1] == [[name] for name in REGISTERED]
    for command in [[], *COMMANDS]:
        text = cli(*command, "--help").out.replace("\\\n", "")
        examples = text.partition("examples:\n")[2].partition("\n\n")[0]
        lines = [line for line in examples.splitlines() if line.startswith("  ")]
        assert lines
        for line in lines:
            words = line.partition(">")[0].split()
            assert words[0] == "radscore"
            assert make_parser().parse_args(words[1:]).run


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["nonsense"], "'nonsense'"),
        (["score"], "INPUT"),
        (["score", "x.jsonl"], "--scheme"),
        (["score", "x", "--scheme", "y", "--dedup", "all"], "'all'"),
        (["score", "x", "--scheme", "y", "--threads", "0"], "at least 1"),
        (["score", "x", "--scheme", "y", "--start", "two"], "'two'"),
        (["score", "x", "--scheme", "y", "--start", "-1"], "--start"),
        (["score", "x", "--scheme", "y", "--fdr", "1.5"], "between 0 and 1"),
        (["score", "x", "--scheme", "y", "--eod", "1.5"], "--eod"),
        (["score", "x", "--scheme", "y", "--key-file", "a", "--key-env", "B"], "not allowed with"),
        (["score", "x", "--scheme", "y", "--per-document", "out.txt"], ".parquet, .jsonl or .csv"),
        (["score", "x", "--scheme", "y", "--per-document", "no/out.csv"], "there is no folder"),
        (["score", "x", "--scheme", "y", "--state", "no/s"], "--state: there is no folder"),
        (["score", "x", "--scheme", "y", "--state", "."], "--state must be a file"),
        (["score", "x", "--scheme", "y", "--fdr", "0.1"], "--fdr has no effect"),
        (
            ["score", "x", "--scheme", "y", "--prompt-role", "context"],
            "--prompt-role has no effect",
        ),
        (["score", "x", "--scheme", "y", "--vocab", "3"], "score --help"),
        (["score", "x", "--scheme", "y", "--key-fil", "a"], "did you mean --key-file?"),
        (["score", "x", "--schem", "y"], "there is no option --schem; did you mean --scheme?"),
        (["score", "x", "--scheme"], "--scheme: expected one argument"),
        (["schemes", "kgw", "sbw"], "1 argument too many"),
        (["schemes", "vllm_gumble"], "did you mean vllm_gumbel?"),
        (["inspect", "no.jsonl"], "no.jsonl: no such file or folder"),
        (["inspect", "x", "--vocab-size", "2000000"], "from 2 to 1,048,576"),
        (["inspect", "x", "--dtype", "int8"], "'int8'"),
        (["kgrams", "build", "x", "--width", "2"], "--vocab-size"),
        (["schemes", "--toml"], "needs the name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_two_and_one_line(fails, arguments, match):
    fails(*arguments, code=2, match=match)


@pytest.mark.parametrize("command", [[], ["kgrams"]], ids=" ".join)
def test_without_a_command_the_help_is_shown(cli, command):
    done = cli(*command)
    assert (done.code, done.out) == (2, "")
    assert done.err == cli(*command, "--help").out


def test_inputs_may_stand_after_options(cli, tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"tokens": [1, 2]}\n')
    done = cli("inspect", "a.jsonl", "--json", "b.jsonl")
    assert done.json["files"] == 2


SECRET = "00112233445566778899aabbccddeeff"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--key", SECRET], "there is no --key"),
        ([f"--key={SECRET}"], "there is no --key"),
        (["--kee-file", SECRET], "did you mean --key-file?"),
        (["--key-file", SECRET], "--key-file looks like a key"),
        (["--key-file", "15485863"], "--key-file looks like a key"),
        (["--key-env", SECRET], "--key-env looks like a key"),
        (["--scheme", SECRET], "--scheme looks like a key"),
        (["--key-file", "a.key", SECRET], "an INPUT looks like a key"),
        (["--threads", SECRET], "--threads"),
        (["--nothing", SECRET], "there is no option --nothing"),
        ([f"-k{SECRET}"], "there is no option -k"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_key_in_the_wrong_place_is_not_shown(fails, tmp_path, arguments, match):
    (tmp_path / "y.toml").write_text('scheme = "keyed"\nvocab_size = 100\n')
    (tmp_path / "a.key").write_text(SECRET)
    (tmp_path / "x.jsonl").write_text('{"tokens": [1, 2]}\n')
    line = fails("score", "x.jsonl", "--scheme", "y.toml", *arguments, code=2, match=match)
    assert SECRET not in line
    assert "15485863" not in line


def test_a_scheme_file_in_place_of_the_key_is_named(fails, tmp_path):
    (tmp_path / "y.toml").write_text(f'scheme = "keyed"\nkey = "{SECRET}"\ngamma = 0.5\n')
    (tmp_path / "a.key").write_text(SECRET)
    (tmp_path / "x.jsonl").write_text('{"tokens": [1, 2]}\n')
    for scheme in ("a.key", "y.toml"):  # swapped, or the scheme given twice
        files = ("--scheme", scheme, "--key-file", "y.toml")
        line = fails("score", "x.jsonl", *files, code=2, match="y.toml: this describes a scheme")
        assert "--key-file" in line
        assert SECRET not in line


def test_the_key_as_a_command_is_not_shown(fails):
    assert SECRET not in fails(SECRET, code=2)


def test_a_full_disk_names_stdout(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"tokens": [1, 2]}\n')
    for option in ([], ["--json"]):
        with open("/dev/full", "w") as full:  # noqa: PTH123
            done = subprocess.run(
                [sys.executable, "-m", "radscore", "inspect", "x.jsonl", *option],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                timeout=120,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr == "radscore: error: stdout: No space left on device\n"


def test_version(cli):
    done = cli("--version")
    assert done.code == 0
    assert done.out.startswith("radscore ")


def test_a_fault_of_the_program_shows_no_detail_but_with_debug(cli, monkeypatch):
    def broken(args):
        raise ValueError("a secret")

    monkeypatch.setattr(score_module, "run", broken)
    done = cli("score", "x", "--scheme", "y")
    assert done.code == Exit.INTERNAL
    assert done.err == (
        "radscore: error: internal error (ValueError); rerun with --debug and report it\n"
    )
    done = cli("score", "x", "--scheme", "y", "--debug")
    assert "Traceback" in done.err
    assert done.err.splitlines()[-2] == "ValueError: a secret"


def test_no_traceback_but_with_debug(cli):
    assert "Traceback" not in cli("inspect", "nothing").err
    assert "Traceback" in cli("inspect", "nothing", "--debug").err


def run_process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "radscore", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_the_real_command(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"tokens": [1, 2]}\n')
    done = run_process("inspect", "x.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "documents   1, from 2 to 2 tokens" in done.stdout
    done = run_process("inspect", "y.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "radscore: error: y.jsonl: no such file or folder\n"


def test_a_reader_that_goes_away(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"tokens": [1, 2]}\n')
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "radscore", "inspect", "x.jsonl"],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_importing_the_command_line_is_quick():
    heavy = "scipy, pyarrow, torch, tokenizers, transformers, tqdm"
    code = (
        f"import sys, radscore.cli; print([m for m in '{heavy}'.split(', ') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("log10", "text"),
    [
        (0.0, "1"),
        (-1.0, "0.1"),
        (-6.9208, "1.2e-7"),
        (-100_000.5, "3.16e-100001"),
        (-7.0000001, "1e-7"),
        (float("-inf"), "0"),
    ],
)
def test_probabilities_of_any_size(log10, text):
    assert power_of_ten(log10) == text


DEMO = Path(__file__).parents[2] / "demo"
COUNT_THREADS = """
import os, sys, time
from radscore.cli import main
code = main(sys.argv[1:])
counts = [-1]
while len(counts) < 6 or len(set(counts[-6:])) > 1:  # the scorer's own threads are still ending
    time.sleep(0.05)
    counts.append(len(os.listdir("/proc/self/task")))
print("threads", counts[-1], "code", code)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_threads_are_the_tokenizers_too():
    def started(threads):
        command = ["score", DEMO / "corpus.jsonl", "--field", "text", "--quiet"]
        command += ["--tokenizer", DEMO / "tokenizer.json", "--scheme", DEMO / "scheme.toml"]
        command += ["--key-file", DEMO / "alice.key", "--threads", threads]
        done = subprocess.run(
            [sys.executable, "-c", COUNT_THREADS, *map(str, command)],
            capture_output=True,
            text=True,
            check=True,
        )
        words = done.stdout.split("threads")[-1].split()
        assert words[-1] == "0"
        return int(words[0])

    assert started(5) - started(2) >= 3


def test_the_environment_stays_as_it_was(cli, monkeypatch):
    for before in (None, "3"):
        if before:
            monkeypatch.setenv("RAYON_NUM_THREADS", before)
        cli("score", "missing.jsonl", "--scheme", "missing.toml", "--threads", "4000")
        assert os.environ.get("RAYON_NUM_THREADS") == before
