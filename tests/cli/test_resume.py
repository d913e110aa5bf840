"""A command that is interrupted and rerun gives the numbers of one that was not."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import radscore as rs
import radscore.cli.options as options_module
from radscore.cli.score_loop import ScoreLoop

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


def taken_away(path):
    """A table, whose file is removed, so that the next command may write it."""
    table = pq.read_table(path)
    Path(path).unlink()
    return table


def stop_after(monkeypatch, n_batches):
    """Sends the signal of Ctrl-C once `n_batches` were scored in this process."""
    original = ScoreLoop._add
    left = [n_batches]

    def add(self, batch):
        taken = original(self, batch)
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)
        return taken

    monkeypatch.setattr(ScoreLoop, "_add", add)


def until_done(cli, monkeypatch, n_batches, *command):
    """Interrupts the command after every `n_batches`; its last run, and how many there were."""
    runs, before = 1, 0
    while True:
        with monkeypatch.context() as patch:
            stop_after(patch, n_batches)
            done = cli(*command)
        continued = re.search(r"(?m)^radscore: continuing from .*, after (\d+) doc", done.err)
        assert (0 if continued is None else int(continued[1])) == before
        if done.code != 130:
            return done, runs
        assert done.out == ""
        before = int(re.search(r"(?m)^radscore: interrupted after (\d+) doc", done.err)[1])
        runs += 1


@pytest.mark.parametrize("n_batches", [1, 7, 13])
@pytest.mark.parametrize("rows", [(), ("--per-document", "rows.parquet")], ids=["", "rows"])
def test_continued_equals_uninterrupted(cli, setup, monkeypatch, n_batches, rows):
    whole = cli(*SCORE, *OPTIONS, *rows)
    assert whole.code == 3, whole.err
    assert whole.json["n_skipped"] == 2
    table = taken_away("rows.parquet") if rows else None
    done, runs = until_done(cli, monkeypatch, n_batches, *SCORE, *OPTIONS, *rows)
    assert runs > 20 // n_batches
    assert (done.code, done.json) == (3, whole.json)
    if rows:
        assert pq.read_table("rows.parquet").equals(table)
    assert not list(setup.parent.glob("radscore.state*"))


def test_a_state_is_also_saved_now_and_then(cli, setup, monkeypatch, tmp_path):
    whole = cli(*SCORE, *OPTIONS).json
    saved = []
    original = ScoreLoop._save

    def save(self):
        took = original(self)
        saved.append((tmp_path / "s").read_bytes())
        return 0.0 * took

    monkeypatch.setattr(ScoreLoop, "_save", save)
    options = (*OPTIONS, "--save-every", 0, "--state", "s")
    assert cli(*SCORE, *options).json == whole
    assert len(saved) > 20
    assert not (tmp_path / "s").exists()
    # As after a power failure: a state from the middle is taken up.
    (tmp_path / "s").write_bytes(saved[9])
    done = cli(*SCORE, *options)
    assert done.json == whole
    assert "radscore: continuing from s, after " in done.err


def test_rows_after_the_last_saved_state_are_dropped(cli, setup, monkeypatch, tmp_path):
    rows = ("--per-document", "rows.parquet")
    cli(*SCORE, *OPTIONS, *rows)
    table = taken_away("rows.parquet")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        cli(*SCORE, *OPTIONS, *rows)
    spool = tmp_path / "radscore.state.documents"
    spool.write_bytes(spool.read_bytes() + b"left over from a save that failed")
    assert cli(*SCORE, *OPTIONS, *rows).code == 3
    assert pq.read_table("rows.parquet").equals(table)


@pytest.fixture(autouse=True)
def default_handler():
    """Ctrl-C works, also where pytest was started with it switched off (in the background)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(monkeypatch, method, call):
    """Lets the n-th call of a method of `Scorer` be hit by Ctrl-C, as `call` says."""
    original = getattr(rs.Scorer, method)
    left = [5 if method == "add" else 1]

    def hit(self, *arguments):
        left[0] -= 1
        return call(original, self, *arguments) if left[0] == 0 else original(self, *arguments)

    monkeypatch.setattr(rs.Scorer, method, hit)


def before(original, self, *arguments):
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("not reached")


def after(original, self, *arguments):
    original(self, *arguments)
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("not reached")


def within(original, self, documents, prompts):
    original(self, list(documents)[:3], None)
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("not reached")


@pytest.mark.parametrize("rows", [(), ("--per-document", "rows.parquet")], ids=["", "rows"])
@pytest.mark.parametrize("where", [("add", before), ("add", after), ("results", before)])
def test_a_signal_within_the_core(cli, setup, monkeypatch, rows, where):
    method, call = where
    whole = cli(*SCORE, *OPTIONS, *rows).json
    Path("rows.parquet").unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        interrupting(patch, method, call)
        stopped = cli(*SCORE, *OPTIONS, *rows)
    assert stopped.code == 130
    assert stopped.err.startswith("radscore: interrupted after ")  # the notice goes past capsys
    resumed = cli(*SCORE, *OPTIONS, *rows)
    assert (resumed.code, resumed.json) == (3, whole)


def test_a_batch_taken_in_part_is_never_saved(cli, setup, monkeypatch, tmp_path):
    whole = cli(*SCORE, *OPTIONS).json
    with monkeypatch.context() as patch:
        interrupting(patch, "add", within)
        stopped = cli(*SCORE, *OPTIONS, "--save-every", 0)
    assert stopped.code == 130
    assert "cannot be saved; the state saved before is kept" in stopped.err
    assert cli(*SCORE, *OPTIONS).json == whole
    with monkeypatch.context() as patch:
        interrupting(patch, "add", within)
        assert "cannot be saved\n" in cli(*SCORE, *OPTIONS).err
    assert not (tmp_path / "radscore.state").exists()


def test_a_second_signal_stops_at_once(cli, setup, monkeypatch, tmp_path):
    def twice(original, self, *arguments):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)

    interrupting(monkeypatch, "add", twice)
    done = cli(*SCORE, *OPTIONS)
    assert (done.code, done.out, done.err) == (
        130,
        "",
        "radscore: interrupted, nothing was saved\n",
    )
    assert not (tmp_path / "radscore.state").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_keeps_what_was_saved(cli, setup, monkeypatch, tmp_path):
    whole = cli(*SCORE, *OPTIONS).json

    def twice(original, self, *arguments):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        interrupting(patch, "add", twice)
        done = cli(*SCORE, *OPTIONS, "--save-every", 0)
    assert (done.code, done.out) == (130, "")
    assert done.err == (
        "radscore: interrupted, the state saved before is still in radscore.state\n"
    )
    assert cli(*SCORE, *OPTIONS).json == whole


@pytest.mark.parametrize("rows", [None, b"", b"\xff" * 370])
def test_lost_or_damaged_rows_are_refused(cli, fails, setup, monkeypatch, rows):
    options = (*SCORE, *OPTIONS, "--per-document", "rows.parquet")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert cli(*options).code == 130
    spool = Path("radscore.state.documents")
    spool.unlink() if rows is None else spool.write_bytes(rows)
    fails(*options, code=2, match="radscore.state.documents")


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
def test_another_command_is_refused(fails, stopped, setup, extra, match):
    from radscore.kgrams import KgramSet

    Path("other.key").write_text("ff" + KEY[2:])
    KgramSet.from_kgrams([[1]], vocab_size=60).save("phi.rkg")
    if match is None:  # the same files in another order
        (setup / "a.jsonl").rename(setup / "z.jsonl")
        fails(*SCORE, *OPTIONS, code=2, match="is of other files")
        return
    fails(*SCORE, *OPTIONS, *extra, code=2, match=match)


def test_a_file_that_is_no_state_is_left_alone(fails, setup, tmp_path):
    (tmp_path / "notes.txt").write_text("remember the milk")
    for extra in ([], ["--fresh"]):
        options = ("--state", "notes.txt", *extra)
        line = fails(
            *SCORE, *OPTIONS, *options, code=2, match="is not a radscore state; name another"
        )
        assert "remove" not in line
    assert (tmp_path / "notes.txt").read_text() == "remember the milk"


def test_a_changed_corpus_is_refused(fails, stopped, setup):
    with (setup / "b.jsonl").open("a") as file:
        file.write('{"tokens": [1]}\n')
    says = "b.jsonl has changed since radscore.state was saved; start over with --fresh"
    fails(*SCORE, *OPTIONS, code=2, match=says)


def test_more_files_are_refused(fails, stopped, setup):
    (setup / "d.jsonl").write_text('{"tokens": [1]}\n')
    fails(*SCORE, *OPTIONS, code=2, match="is of 3 files, now there are 4")


def test_fresh_starts_over(cli, setup, stopped, tmp_path):
    done = cli(*SCORE, *OPTIONS, "--fresh", "--dedup", "window")
    assert (done.code, done.err) == (3, "")
    assert not (tmp_path / "radscore.state").exists()


def test_a_finished_output_is_replaced_only_by_force(cli, fails, setup, monkeypatch):
    command = (*SCORE, *OPTIONS, "--per-document", "rows.csv")
    whole = cli(*command)
    rows = Path("rows.csv").read_bytes()
    says = "--per-document: rows.csv already exists; add --force to replace it, or name another"
    fails(*command, code=2, match=says)
    fails(*command, "--fresh", code=2, match=says)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert cli(*command, "--force").code == 130
    assert Path("rows.csv").read_bytes() == rows
    Path("rows.csv").write_text("of old")
    fails(*command, code=2, match=says)
    assert cli(*command, "--force").json == whole.json
    assert Path("rows.csv").read_bytes() == rows


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
    fails(*SCORE, *OPTIONS, code=2, match="radscore.state")


def test_hours_of_work_survive_a_bad_record(cli, setup, tmp_path):
    whole = cli(*SCORE, *OPTIONS).json
    strict = tuple(option for option in OPTIONS if option not in ("--on-error", "skip"))
    stopped = cli(*SCORE, *strict, "--save-every", 0)
    assert stopped.code == 1
    assert "a.jsonl:101: not JSON" in stopped.err
    assert "everything scored before the error is saved in radscore.state" in stopped.err
    assert cli(*SCORE, *OPTIONS).json == whole


def test_an_interrupted_process(setup, tmp_path):
    """The real command, the real signal, a corpus that takes some seconds."""
    rng = np.random.default_rng(0)
    (tmp_path / "big").mkdir()
    for i in range(40):  # a batch each
        rng.integers(0, 30_000, size=5000).astype(np.uint16).tofile(tmp_path / f"big/{i}.bin")
    (tmp_path / "slow.toml").write_text(
        'scheme = "kgw"\nvocab_size = 30000\ngamma = 0.5\ncontext_width = 2\nseeding = "hash"\n'
    )
    (tmp_path / "seed.key").write_text("seed = 5\nsalt_key = 35317\n")
    command = [sys.executable, "-m", "radscore", "score", "big", "--scheme", "slow.toml"]
    command += ["--key-file", "seed.key", "--dtype", "uint16", "--eod", "0", "--json"]
    state = tmp_path / "radscore.state"

    def start(*extra):
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*command, *extra], stdout=pipe, stderr=pipe, text=True, cwd=tmp_path
        )

    def stamp():
        found = state.stat() if state.exists() else None
        return found.st_mtime_ns if found and found.st_size > 8 else 0  # else with nothing in it

    process, n_interrupted = start("--save-every", "0"), 0
    while True:
        before = stamp()  # a state that is gone is no news: the work is done
        while process.poll() is None and stamp() in (0, before):
            time.sleep(0.01)
        if n_interrupted < 2 and process.poll() is None:  # it has saved a state, so is at work
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=240)
        if process.returncode != 130:
            break
        assert out == ""
        assert "Traceback" not in err
        assert "radscore: interrupted after " in err
        n_interrupted += 1
        process = start("--save-every", "0")
    assert process.returncode == 0, err
    assert n_interrupted >= 1
    resumed = json.loads(out)
    resumed.pop("provenance")  # names the command
    assert not state.exists()
    out, err = start().communicate(timeout=240)
    whole = json.loads(out)
    whole.pop("provenance")
    assert whole == resumed, err


def sharing_corpus(folder):
    """Three files whose documents share a header, and a document that comes again."""
    rng = np.random.default_rng(12)
    header = rng.integers(0, 50, 12).tolist()
    docs = [[*header, *rng.integers(0, 50, 28).tolist()] for _ in range(200)]
    docs[150] = docs[3]
    for name, part in (("a.jsonl", docs[:70]), ("b.jsonl", docs[70:])):
        lines = [json.dumps({"tokens": doc}) + "\n" for doc in part]
        (folder / name).write_text("".join(lines))
    (folder / "c.bin").unlink()
    return docs


@pytest.mark.parametrize("n_batches", [1, 5])
def test_what_documents_share_is_known_in_the_next_command(
    cli, setup, monkeypatch, tmp_path, n_batches
):
    docs = sharing_corpus(setup)
    command = (*SCORE, "--per-document", "rows.parquet", "--max-sharing", 5, "--json")
    whole = cli(*command)
    assert whole.code == 0, whole.err
    table = taken_away("rows.parquet")
    scheme = rs.Keyed(key=bytes.fromhex(KEY), vocab_size=60, gamma=0.25, context_width=1)
    alone = rs.score_documents(docs, scheme, max_sharing=5)
    for name in ("n_scored", "n_shared", "n_common", "copy_of", "statistic", "log10_pvalue"):
        np.testing.assert_allclose(table[name].to_numpy(), getattr(alone, name), rtol=1e-12)
    assert alone.copy_of[150] == 3
    assert whole.json["per_document"]["n_copies"] == 1
    assert whole.json["per_document"]["n_all_shared"] == 0
    done, runs = until_done(cli, monkeypatch, n_batches, *command)
    assert runs > 3
    assert (done.code, done.json) == (0, whole.json)
    assert pq.read_table("rows.parquet").equals(table)
    assert not list(tmp_path.glob("radscore.state*"))


def test_a_batch_that_was_not_taken_in_shares_nothing(cli, setup, monkeypatch):
    """A signal between the documents' tests and the scorer's takes both back."""
    sharing_corpus(setup)
    command = (*SCORE, "--per-document", "rows.parquet", "--json")
    whole = cli(*command)
    table = taken_away("rows.parquet")
    with monkeypatch.context() as patch:
        interrupting(patch, "add", before)
        assert cli(*command).code == 130
    done = cli(*command)
    assert (done.code, done.json) == (0, whole.json)
    assert pq.read_table("rows.parquet").equals(table)


def test_another_sharing_or_a_table_that_is_lost_is_said(cli, setup, monkeypatch, tmp_path):
    sharing_corpus(setup)
    command = (*SCORE, "--per-document", "rows.parquet")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert cli(*command).code == 130
    other = cli(*command, "--max-sharing", 3)
    assert other.code == 2
    assert "is of a command with another --max-sharing (8, now 3)" in other.err
    for path in tmp_path.glob("radscore.state.sharing.*"):
        path.unlink()
    lost = cli(*command)
    assert lost.code == 2
    assert "radscore.state.sharing.0 does not exist" in lost.err
