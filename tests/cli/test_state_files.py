"""A state: whose its files are, who may use it, when it goes, and disks that are full.

The kinds: CWE-59 (links), CWE-377 (names that can be guessed), two commands in one folder, a result
that cannot be printed, fsync before rename (ext4 with power cut).
"""

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from radscore.cli import state_files
from radscore.cli.score_loop import ScoreLoop
from radscore.cli.state_files import StateFiles
from radscore.files import Draft, Lock
from score_setup import SCORE

SAVED = ("--save-every", 0, "--state", "s")
ROWS = ("--per-document", "rows.csv")
BESIDE = ("s.documents", "s.sharing.0", "s.sharing.1")


@pytest.fixture
def whole(cli, marked_corpus, tmp_path):
    """The result of an undisturbed command."""
    found = cli(*SCORE, "--json", *ROWS).json
    (tmp_path / "rows.csv").rename(tmp_path / "expected.csv")
    return found


def left(folder):
    """The files of a state that are there."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith((".", "s.", "s")))


@pytest.mark.usefixtures("marked_corpus")
@pytest.mark.parametrize("name", [*BESIDE, "s.lock", "s"])
@pytest.mark.parametrize(
    ("link", "fresh"), [(False, ()), (False, ("--fresh",)), (True, ()), (True, ("--fresh",))]
)
def test_what_is_not_ours_is_left_alone(cli, fails, tmp_path, *, name, link, fresh):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / name
    path.symlink_to(victim) if link else path.write_text("mine")
    fails(*SCORE, *SAVED, *ROWS, *fresh, code=2, match="--state: s")
    assert path.read_text() == victim.read_text() == "mine"
    assert not (tmp_path / "rows.csv").exists()
    if name in BESIDE:  # without rows they are of no interest
        assert cli(*SCORE, *SAVED, *fresh).code == 0
        assert path.read_text() == "mine"
    victim.unlink()
    if link:  # nor does it come into being
        fails(*SCORE, *SAVED, *ROWS, *fresh, code=2, match="--state: s")
        assert not victim.exists()


def test_files_beside_an_output_are_not_touched(cli, marked_corpus, tmp_path):
    names = ("rows.csv.part", "rows.csv.tmp", ".rows.csv.tmp", "radscore.state.backup.tmp")
    for name in names:
        (tmp_path / name).write_text("mine")
    assert cli(*SCORE, *ROWS).code == 0
    assert all((tmp_path / name).read_text() == "mine" for name in names)


def test_drafts_of_killed_commands_go_and_those_at_work_stay(cli, marked_corpus, tmp_path):
    alive = Draft(tmp_path / "s.documents")
    dead = tmp_path / f".s.documents.{'0' * 32}.tmp"
    torn = tmp_path / "s.aB3dE6.tmp"
    dead.write_bytes(b"half")
    torn.write_bytes(b"RSST half")
    assert cli(*SCORE, *SAVED, *ROWS).code == 0
    assert not dead.exists()
    assert not torn.exists()
    assert alive.temporary.exists()
    alive.discard()


def test_a_state_has_one_command_at_a_time(fails, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(state_files, "_PATIENCE", 0.05)
    with StateFiles("s", beside=True):
        line = fails(*SCORE, *SAVED, code=2, match="another command is working with the state s;")
        assert "name another file with --state" in line
        assert (tmp_path / "s").exists()
    assert left(tmp_path) == ["scheme.toml"]


def test_a_lock_ends_with_its_process(cli, whole, tmp_path):
    code = "import os, pathlib; from radscore.files import Lock; Lock(pathlib.Path('s.lock'))"
    code += "; os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert (tmp_path / "s.lock").exists()
    assert cli(*SCORE, *SAVED, "--json").json["pvalue"] == whole["pvalue"]
    assert left(tmp_path) == ["scheme.toml"]


def test_a_lock_whose_file_was_deleted_is_none(tmp_path):
    path = tmp_path / "lock"
    first = Lock(path)
    path.unlink()
    with Lock(path):
        first.release()
        with pytest.raises(BlockingIOError):
            Lock(path)
    assert not path.exists()


@contextmanager
def limited(size):
    """Files may grow to so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 5, 100, 2000])
def test_a_state_that_cannot_be_saved_is_a_warning(cli, whole, tmp_path, size):
    with limited(size):
        done = cli(*SCORE, *SAVED, "--json")
    assert (done.code, done.json["pvalue"]) == (0, whole["pvalue"])
    assert "radscore: warning: cannot save the state s: " in done.err
    assert done.err.count("warning") <= 2
    assert cli(*SCORE, *SAVED, "--json").json["pvalue"] == whole["pvalue"]
    assert left(tmp_path) == ["scheme.toml"]


@pytest.mark.parametrize("save_every", [0, 60])
def test_an_output_that_cannot_be_written_costs_nothing(
    cli, whole, tmp_path, monkeypatch, save_every
):
    """It fails, with the state kept, and the next command writes it without scoring again."""
    command = (*SCORE, "--state", "s", "--save-every", save_every, *ROWS)
    with monkeypatch.context() as patch:
        patch.setattr("radscore.cli.per_document.write_rows", _full)
        done = cli(*command, "--json")
    assert (done.code, done.out) == (1, "")
    assert "rows.csv: No space left on device" in done.err
    assert "the result is not lost: it is in s; rerun the command for it" in done.err
    assert left(tmp_path) == ["s", "s.documents", "s.sharing.0", "scheme.toml"]
    monkeypatch.setattr(ScoreLoop, "_add", None)
    assert cli(*command, "--json").json["pvalue"] == whole["pvalue"]
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()


def _full(*arguments):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("target", ["/dev/full", "pipe"])
def test_a_result_that_cannot_be_printed_costs_nothing(whole, tmp_path, target):
    command = [sys.executable, "-m", "radscore", *SCORE, "--json", "--state", "s", *ROWS, "--quiet"]
    if target == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(target, os.O_WRONLY)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, text=True)
    os.close(writer)
    assert done.returncode == (141 if target == "pipe" else 1)
    assert done.stderr == "" if target == "pipe" else "No space left on device" in done.stderr
    assert (tmp_path / "s").exists()
    assert (tmp_path / "rows.csv").exists()
    # It knows the file for its own; one that was changed since it does not.
    rows = (tmp_path / "rows.csv").read_bytes()
    (tmp_path / "rows.csv").write_bytes(rows + b"mine\n")
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 2
    assert "rows.csv already exists; add --force" in done.stderr
    (tmp_path / "rows.csv").write_bytes(rows)
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert json.loads(done.stdout)["pvalue"] == whole["pvalue"]
    assert left(tmp_path) == ["scheme.toml"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_streams_that_are_closed_are_no_fault(whole, tmp_path, closed):
    """What is opened first would otherwise get the number of stdout; bpo-10806."""
    words = [sys.executable, "-m", "radscore", *SCORE, *ROWS, "--quiet"]
    command = " ".join(words) + f" {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    assert left(tmp_path) == ["scheme.toml"]


def test_rows_are_on_the_disk_before_the_state_that_counts_them(
    cli, marked_corpus, tmp_path, monkeypatch
):
    done = []
    for name in ("fsync", "unlink"):
        original = getattr(os, name)

        def noted(what, *rest, original=original, name=name, **options):
            path = Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else Path(what)
            done.append((name, path.name))
            return original(what, *rest, **options)

        monkeypatch.setattr(os, name, noted)
    save = ScoreLoop._save

    def saved(self):
        took = save(self)
        done.append(("saved", "s"))
        return took

    monkeypatch.setattr(ScoreLoop, "_save", saved)
    assert cli(*SCORE, *SAVED, *ROWS).code == 0
    steps = [
        (name, path) for name, path in done if "rows.csv" in path or path.startswith(("s", ".s"))
    ]
    rows = next(
        i for i, (name, path) in enumerate(steps) if name == "fsync" and "documents" in path
    )
    output = next(
        i for i, (name, path) in enumerate(steps) if name == "fsync" and "rows.csv" in path
    )
    assert rows < steps.index(("saved", "s")) < output
    assert (tmp_path / "rows.csv").exists()
    assert not (tmp_path / "s").exists()


def test_resume_means_what_a_command_does_anyway(cli, whole, monkeypatch):
    assert cli(*SCORE, "--resume", "--json").json["pvalue"] == whole["pvalue"]
    assert "--resume" not in cli("score", "--help").out
    assert cli(*SCORE, "--resume", "--fresh").code == 2


@pytest.mark.parametrize("name", ["state", "rows", "memory"])
def test_kills_and_full_disks(name):
    """A few of those of tools/faults.py, which gives many."""
    from tools.faults import main

    assert main(["--rounds", "1", "--only", name, "--seed", "5", "--faults", "kill", "full"]) == 0
