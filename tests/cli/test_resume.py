"""A run that is interrupted and taken up again gives the numbers of one that was not."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import radscore.cli.options as options_module
from radscore.cli.run import ScoreRun

KEY = "00112233445566778899aabbccddeeff"
SCORE = ("score", "corpus", "--scheme", "scheme.toml", "--quiet")


@pytest.fixture
def setup(tmp_path, monkeypatch, cli):
    """Three files in two formats, and batches of some ten documents."""
    monkeypatch.setenv("RADSCORE_KEY", KEY)
    monkeypatch.setattr(options_module, "_BATCH_TOKENS", 400)
    (tmp_path / "scheme.toml").write_text(
        'scheme = "keyed"\nvocab_size = 60\ngamma = 0.25\ncontext_width = 1\n'
    )
    folder = tmp_path / "corpus"
    folder.mkdir()
    rng = np.random.default_rng(11)
    for name in ("a.jsonl", "b.jsonl"):
        docs = rng.integers(0, 50, size=(100, 40)).tolist()
        lines = [json.dumps({"tokens": doc}) for doc in docs]
        (folder / name).write_text("\n".join([*lines, "broken", ""]))
    rng.integers(0, 50, size=4000).astype(np.uint16).tofile(folder / "c.bin")
    return folder


OPTIONS = ("--dtype", "uint16", "--eod", 7, "--on-error", "skip", "--json")


def stop_after(monkeypatch, n_batches):
    """Sends the signal of Ctrl-C once `n_batches` were scored in this process."""
    original = ScoreRun._add
    left = [n_batches]

    def add(self, batch):
        original(self, batch)
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ScoreRun, "_add", add)


@pytest.mark.parametrize("n_batches", [1, 7, 13, 22])
@pytest.mark.parametrize("per_document", [False, True])
def test_resumed_equals_uninterrupted(cli, setup, monkeypatch, tmp_path, n_batches, per_document):
    rows = ("--per-document", "rows.parquet") if per_document else ()
    whole = cli(*SCORE, *OPTIONS, *rows)
    assert whole.code == 3, whole.err
    table = pq.read_table("rows.parquet") if per_document else None
    with monkeypatch.context() as patch:
        stop_after(patch, n_batches)
        stopped = cli(*SCORE, *OPTIONS, *rows)
        assert (stopped.code, stopped.out) == (130, "")
        assert "again to stop at once" not in stopped.err or stopped.err.count("\n") <= 3
        assert "radscore: interrupted after " in stopped.err
        again = cli(*SCORE, *OPTIONS, *rows, "--resume")  # and once more interrupted
        assert again.code in (130, 3)
    done = again if again.code == 3 else cli(*SCORE, *OPTIONS, *rows, "--resume")
    while done.code == 130:
        done = cli(*SCORE, *OPTIONS, *rows, "--resume")
    assert done.code == 3
    assert done.json == whole.json
    if per_document:
        assert pq.read_table("rows.parquet").equals(table)
    assert not list(tmp_path.glob("radscore.state*"))


def test_a_state_is_also_saved_now_and_then(cli, setup, monkeypatch, tmp_path):
    whole = cli(*SCORE, *OPTIONS).json
    saved = []
    original = ScoreRun._save

    def save(self):
        took = original(self)
        saved.append((tmp_path / "s").read_bytes())
        return 0.0 * took

    monkeypatch.setattr(ScoreRun, "_save", save)
    options = (*OPTIONS, "--save-every", 0, "--state", "s")
    assert cli(*SCORE, *options).json == whole
    assert len(saved) > 20
    assert not (tmp_path / "s").exists()
    # As after a power failure: a state from the middle is taken up.
    (tmp_path / "s").write_bytes(saved[9])
    assert cli(*SCORE, *options, "--resume").json == whole


def test_rows_after_the_last_saved_state_are_dropped(cli, setup, monkeypatch, tmp_path):
    rows = ("--per-document", "rows.parquet")
    cli(*SCORE, *OPTIONS, *rows)
    table = pq.read_table("rows.parquet")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        cli(*SCORE, *OPTIONS, *rows)
    spool = tmp_path / "radscore.state.documents"
    spool.write_bytes(spool.read_bytes() + b"left over from a save that failed")
    assert cli(*SCORE, *OPTIONS, *rows, "--resume").code == 3
    assert pq.read_table("rows.parquet").equals(table)


@pytest.fixture
def stopped(cli, setup, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert cli(*SCORE, *OPTIONS).code == 130


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        (["--dedup", "window"], "another --dedup (unit, now window)"),
        (["--start", 5], "another --start (not given, now 5)"),
        (["--per-document", "r.csv"], "another --per-document (not given, now given)"),
        (["--field", "other"], "another --field (tokens, now other)"),
        (["--eod", 8], "another --eod (7, now 8)"),
        (["--key-file", "other.key"], "another scheme or key"),
        (["--filter", "phi.rkg"], "another filter"),
        (["corpus/a.jsonl"], None),
    ],
)
def test_another_command_is_refused(cli, fails, stopped, tmp_path, extra, match):
    from radscore.kgrams import KgramSet

    (tmp_path / "other.key").write_text("ff" + KEY[2:])
    KgramSet.from_kgrams([[1]], vocab_size=60).save(tmp_path / "phi.rkg")
    if match is None:  # the same files in another order
        (tmp_path / "corpus" / "a.jsonl").rename(tmp_path / "corpus" / "z.jsonl")
        fails(*SCORE, *OPTIONS, "--resume", match="was made of other files")
        return
    fails(*SCORE, *OPTIONS, *extra, "--resume", match=match)


def test_a_changed_corpus_is_refused(fails, stopped, setup):
    with (setup / "b.jsonl").open("a") as file:
        file.write('{"tokens": [1]}\n')
    fails(*SCORE, *OPTIONS, "--resume", match="b.jsonl has changed since radscore.state was saved")


def test_more_files_are_refused(fails, stopped, setup):
    (setup / "d.jsonl").write_text('{"tokens": [1]}\n')
    fails(*SCORE, *OPTIONS, "--resume", match="made of 3 files, now there are 4")


def test_a_state_in_the_way_and_none_to_resume(cli, fails, setup, stopped, tmp_path):
    fails(*SCORE, *OPTIONS, code=2, match="add --resume")
    fails(*SCORE, *OPTIONS, "--state", "none", "--resume", match="no state to resume from")
    (tmp_path / "radscore.state").unlink()
    assert cli(*SCORE, *OPTIONS).code == 3


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "version", "magic", "text"])
def test_a_damaged_state_is_refused(fails, stopped, tmp_path, damage):
    path = tmp_path / "radscore.state"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "empty":
        data.clear()
    elif damage == "version":
        data[4] ^= 0x70
    elif damage == "magic":
        data[0] ^= 1
    else:
        data = b'{"tokens": [1]}\n' * 100
    path.write_bytes(bytes(data))
    fails(*SCORE, *OPTIONS, "--resume", match="radscore.state")


def test_hours_of_work_survive_a_bad_record(cli, setup, tmp_path):
    whole = cli(*SCORE, *OPTIONS).json
    strict = tuple(option for option in OPTIONS if option not in ("--on-error", "skip"))
    stopped = cli(*SCORE, *strict, "--save-every", 0)
    assert stopped.code == 1
    assert "a.jsonl:101: not JSON" in stopped.err
    assert "what was scored before the error is saved in radscore.state" in stopped.err
    assert cli(*SCORE, *OPTIONS, "--resume").json == whole


def test_an_interrupted_process(setup, tmp_path):
    """The real command, the real signal, a corpus that takes some seconds."""
    rng = np.random.default_rng(0)
    rng.integers(0, 30_000, size=6_000_000).astype(np.uint16).tofile(tmp_path / "big.bin")
    (tmp_path / "slow.toml").write_text(
        'scheme = "kgw"\nvocab_size = 30000\ngamma = 0.5\ncontext_width = 2\nseeding = "hash"\n'
    )
    (tmp_path / "seed.key").write_text("seed = 5\nsalt_key = 35317\n")
    command = [sys.executable, "-m", "radscore", "score", "big.bin", "--scheme", "slow.toml"]
    command += ["--key-file", "seed.key", "--dtype", "uint16", "--eod", "0", "--json"]

    def start(*extra):
        return subprocess.Popen(
            [*command, *extra],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )

    runs = 0
    process = start("--save-every", "0")
    while True:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if (tmp_path / "radscore.state").exists() and runs < 2:
                time.sleep(0.2)
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.05)
        out, err = process.communicate(timeout=240)
        if process.returncode != 130:
            break
        assert out == ""
        assert "Traceback" not in err
        runs += 1
        process = start("--resume")
    assert process.returncode == 0, err
    assert runs >= 1
    resumed = json.loads(out)
    out, err = start().communicate(timeout=240)
    assert json.loads(out) == resumed, err
