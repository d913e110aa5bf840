"""``radscore predict`` and ``radscore test open``, run in this process."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.audits.open import test_open as open_test
from radscore.models import Predictions, load_model
from tiny import VOCAB, save_adapter, save_folder, tiny_llama, word_tokenizer

KEY = "00112233445566778899aabbccddeeff"
SCHEME = rs.Keyed(key=rs.Key(KEY), vocab_size=VOCAB, gamma=0.25, context_width=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, an adapter, a scheme and a key, texts, ids and chats."""
    path = tmp_path_factory.mktemp("work")
    save_folder(path / "suspect", tokenizer=word_tokenizer())
    save_folder(path / "base", tiny_llama(seed=1), word_tokenizer())
    save_adapter(path / "adapter", path / "base")
    (path / "scheme.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {VOCAB}\ngamma = 0.25\ncontext_width = 2\n'
    )
    (path / "alice.key").write_text(KEY)
    rng = np.random.default_rng(0)
    docs = [rng.integers(0, 120, size=rng.integers(0, 40)).tolist() for _ in range(40)]
    texts = [" ".join(f"w{i}" for i in doc) for doc in docs]
    chats = [
        [{"role": "user", "content": "w1 w2"}, {"role": "assistant", "content": text}]
        for text in texts
        if text
    ]
    write(path / "x.jsonl", [{"text": text} for text in texts])
    write(path / "ids.jsonl", [{"tokens": doc} for doc in docs])
    write(path / "chats.jsonl", [{"messages": chat} for chat in chats])
    return path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def cli(run_command, monkeypatch, folder):
    monkeypatch.chdir(folder)
    return run_command


@pytest.fixture
def fails(cli):
    def run(*arguments, code=2, match=""):
        done = cli(*arguments)
        assert done.code == code, done.err
        assert done.out == ""
        assert KEY not in done.err
        (line,) = done.err.splitlines()
        assert line.startswith("radscore: error: ")
        assert match in line, line
        return line

    return run


KEYED = ("--scheme", "scheme.toml", "--key-file", "alice.key")
OPEN = ("test", "open", "x.jsonl", "--model", "suspect", *KEYED)
PREDICT = ("predict", "x.jsonl", "--model", "suspect", "--context-width", 2)


def test_it_is_what_the_library_says(cli, folder):
    done = cli(*OPEN, "--reference", "base", "--decoys", 19, "--curve", 4, "--json")
    assert done.code == 0, done.err
    docs = [json.loads(line)["tokens"] for line in (folder / "ids.jsonl").read_text().splitlines()]
    expected = open_test(
        load_model(folder / "suspect"),
        docs,
        SCHEME,
        reference=load_model(folder / "base"),
        decoys=19,
        curve=4,
    )
    found = done.json
    assert found["statistic"] == pytest.approx(expected.statistic)
    assert found["n_scored"] == expected.n_scored
    assert found["model"] == expected.model
    assert found["weighting"] == "contrast (damped_relative, centred)"
    assert found["decoys"]["n_decoys"] == 19
    assert [p["n_tokens"] for p in found["score"]["curve"]] == [
        point.n_tokens for point in expected.curve
    ]
    assert found["skipped"]["count"] == 0


def test_tables_and_inputs(cli):
    done = cli(*OPEN, "--weighting", "prediction", "--top", 2)
    assert done.code == 0, done.err
    assert "prediction (top 2)" in done.out
    assert "p-value" in done.out
    assert "40 documents" in done.out
    assert KEY not in done.out + done.err
    ids = cli("test", "open", "ids.jsonl", "--model", "suspect", *KEYED,
              "--weighting", "prediction", "--top", 2)  # fmt: skip
    tokenised = [line for line in done.out.splitlines() if "the text was tokenised by" in line]
    assert len(tokenised) == 1
    said = done.out.replace(tokenised[0] + "\n", "")
    assert ids.out.split() == said.split()  # columns, but for the note
    # the watermark's tokenizer may be named, also where it is the model's own
    same = cli(*OPEN, "--weighting", "prediction", "--top", 2, "--tokenizer", "base")
    assert same.out == done.out
    adapter = cli("test", "open", "x.jsonl", "--model", "adapter", "--base", "base", "--reference",
                  "base", *KEYED, "--max-weights", 5, "--json")  # fmt: skip
    assert adapter.code == 0, adapter.err
    assert adapter.json["reference"] is not None
    assert adapter.json["n_scored"] > 500


def test_chats(cli):
    done = cli("test", "open", "chats.jsonl", "--messages-field", "messages", "--model", "suspect",
               *KEYED, "--weighting", "mass", "--max-weights", 3, "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["score"]["n_documents"] > 30
    # contexts are within what the assistant says: two tokens fewer a chat than it has
    whole = cli("test", "open", "x.jsonl", "--model", "suspect", *KEYED, "--weighting", "mass",
                "--max-weights", 3, "--json")  # fmt: skip
    assert done.json["n_scored"] == pytest.approx(whole.json["n_scored"], rel=0.05)


@pytest.mark.parametrize("kind", ["prediction", "mass", "contrast", "matched"])
def test_predicting_and_testing_apart(cli, folder, kind):
    how = ["--weighting", kind]
    if kind in {"contrast", "matched"}:
        how += ["--reference", "base", "--transform", "roots", "--centred"]
    out = folder / f"{kind}.arrow"
    done = cli(*PREDICT, *how, "--out", out)
    assert done.code == 0, done.err
    assert "weights" in done.out
    assert f"written    {out}" in done.out
    again = cli("test", "open", "--from", out, *KEYED, "--json")
    live = cli(*OPEN, *how, "--json")
    for name in ("n_scored", "n_windows", "n_documents", "n_tokens", "method", "scheme"):
        assert again.json["score"][name] == live.json["score"][name]
    for name in ("statistic", "zscore"):
        rounded = pytest.approx(live.json["score"][name], rel=1e-3, abs=1e-3)
        assert again.json["score"][name] == rounded
    # draws depend on every bit of the weights
    near = pytest.approx(live.json["score"]["log10_pvalue"], abs=0.15)
    assert again.json["score"]["log10_pvalue"] == near
    made = Predictions(out).totals.provenance
    assert made["command"].startswith("radscore predict ")
    (one,) = made["inputs"]["files"]
    assert one["sha256"] == hashlib.sha256((folder / one["path"]).read_bytes()).hexdigest()
    assert made["reading"]["field"]
    last = cli(*PREDICT, *how, "--out", out, "--json")
    assert last.provenance == made
    facts = last.json
    assert facts["complete"] is True
    assert facts["weighting"]["kind"] == kind
    assert facts["n_tokens"] == live.json["score"]["n_tokens"]


def test_machines_share_a_reading(cli, fails, folder):
    """Shards are one test, behind contexts that are chosen before reading or after it."""
    vocabulary = ("--width", 2, "--vocab-size", VOCAB)
    built = cli("kgrams", "build", "ids.jsonl", "--unmarked", *vocabulary, "--out", "phi.rkg")
    assert built.code == 0, built.err
    parts = [f"part-{i}.arrow" for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        done = cli(*PREDICT, "--shard", f"{i}/2", "--contexts", "phi.rkg", "--out", part)
        assert done.code == 0, done.err
        assert f"{i} of 2" in done.out
        assert "20 documents" in done.out
    done = cli("test", "open", "--from", *parts, *KEYED, "--json")
    found = done.json
    whole = cli(*OPEN, "--contexts", "phi.rkg", "--json").json
    assert cli(*PREDICT, "--out", "all.arrow").code == 0
    later = cli("test", "open", "--from", "all.arrow", *KEYED, "--contexts", "phi.rkg", "--json")
    for other in (whole, later.json):
        assert found["n_scored"] == other["n_scored"]
        assert found["statistic"] == pytest.approx(other["statistic"], rel=1e-3, abs=1e-3)
    assert all(part in json.dumps(done.provenance) for part in parts)
    fails("test", "open", "--from", parts[0], parts[0], *KEYED, match="are both of text")
    fails(*PREDICT, "--shard", "3/2", "--out", "p", match="there is no shard 3 of 2")
    fails(*PREDICT, "--shard", "3", "--out", "p", match="must be I/N")
    fails(*PREDICT, "--shard", "1/2", "--text-watermarked", "--out", "p", match="--shard has no")
    cli("kgrams", "build", "ids.jsonl", *vocabulary, "--out", "unsaid.rkg")
    fails(*OPEN, "--contexts", "unsaid.rkg", match="make it from unmarked text")
    fails(*OPEN, "--contexts", "x.arrow", match="x.arrow")


def test_ctrl_c_keeps_what_was_read_and_the_same_command_continues(cli, folder):
    rng = np.random.default_rng(4)
    docs = [{"tokens": rng.integers(0, 120, size=200).tolist()} for _ in range(150)]
    write(folder / "long.jsonl", docs)
    arguments = ["predict", "long.jsonl", "--model", "suspect", "--context-width", "2",
                 "--batch-tokens", "400", "--max-weights", "2", "--threads", "1"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "radscore", *arguments, "--out", "part.arrow", "--progress"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    part = None
    for _ in range(600):  # until something was written beside the file
        time.sleep(0.1)
        part = next(folder.glob(".part.arrow.*"), None)
        if process.poll() is not None or (part is not None and part.stat().st_size > 5_000):
            break
    assert process.poll() is None, "the run ended before it could be interrupted"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "what was read is in part.arrow.incomplete, rerun the command to continue" in err
    assert not list(folder.glob(".part.arrow.*"))
    kept = Predictions(folder / "part.arrow.incomplete")
    assert not kept.totals.complete
    assert 0 < kept.totals.n_documents < 150
    part_test = cli("test", "open", "--from", "part.arrow.incomplete", *KEYED)
    assert "the reading was stopped after" in part_test.out
    done = cli(*arguments, "--out", "part.arrow")
    assert done.code == 0, done.err
    assert "documents read earlier" in done.out
    assert done.err == "radscore: continuing from part.arrow.incomplete\n"
    again = cli(*arguments, "--out", "part.arrow")
    assert again.err == "radscore: part.arrow is complete; there was nothing left to read\n"
    assert cli(*arguments, "--out", "whole.arrow").code == 0
    one, other = (Predictions(folder / name) for name in ("part.arrow", "whole.arrow"))
    assert one.totals == other.totals
    for mine, theirs in zip(one, other, strict=False):
        assert np.array_equal(mine.occurrences, theirs.occurrences)
        assert np.array_equal(mine.targets, theirs.targets)
        np.testing.assert_allclose(mine.weights, theirs.weights, rtol=1e-4)


def test_what_is_wrong_with_the_command_line(fails, cli, folder):
    fails("test", "open", *KEYED, match="give text and --model, or --from")
    fails("test", "open", "x.jsonl", *KEYED, match="give text and --model, or --from")
    fails(*OPEN, "--curve", 3, match="--curve has no effect without --json")
    fails(*OPEN, "--weighting", "contrast", match="--weighting contrast needs --reference")
    fails(*OPEN, "--weighting", "mass", "--top", 3, match="--top has no effect with")
    fails(*OPEN, "--reference", "base", "--transform", "sum", match="must be one of difference")
    fails(*OPEN, "--reference-base", "base", match="--reference-base has no effect without")
    fails(*OPEN, "--messages-field", "m", "--field", "text", match="--field has no effect with")
    fails("test", "open", "nowhere.jsonl", "--model", "suspect", *KEYED, match="nowhere.jsonl")
    fails("test", "open", "x.jsonl", "--model", "nowhere", *KEYED, code=1, match="no such file")
    fails("test", "open", "x.jsonl", "--model", "x.jsonl", *KEYED, code=1, match="is not a model")
    fails(*PREDICT, "--out", "x.jsonl", match="--out names an input: x.jsonl")
    fails(*PREDICT, "--out", "nowhere/p", match="--out: there is no folder")
    cli(*PREDICT, "--out", "p.arrow", "--weighting", "prediction")
    fails("test", "open", "x.jsonl", "--from", "p.arrow", *KEYED, match="so x.jsonl has no effect")
    fails("test", "open", "--from", "p.arrow", *KEYED, "--top", 3, match="--top has no effect with")
    fails(*PREDICT, "--out", "p.arrow", match="use --force to start over")
    fails("test", "open", "--from", "x.jsonl", *KEYED, match="not a file of predictions")
    cut = folder / "cut.arrow"
    cut.write_bytes((folder / "p.arrow").read_bytes()[:-100])
    fails("test", "open", "--from", "cut.arrow", *KEYED, match="cut off")
    (folder / "wide.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {VOCAB}\ngamma = 0.25\ncontext_width = 4\n'
    )
    fails("test", "open", "--from", "p.arrow", "--scheme", "wide.toml", "--key-file", "alice.key",
          match="contexts of 2 tokens, but the scheme reads 4")  # fmt: skip
    (folder / "large.toml").write_text('scheme = "keyed"\nvocab_size = 49152\ngamma = 0.25\n')
    fails("test", "open", "x.jsonl", "--model", "suspect", "--scheme", "large.toml", "--key-file",
          "alice.key", code=1, match="vocabulary of 49152, but the model predicts 128")  # fmt: skip


def test_what_is_wrong_with_the_input(fails, folder):
    chats = ("test", "open", "bad.jsonl", "--model", "suspect", *KEYED, "--messages-field", "chat")
    for content, match in (
        ("", "there are no chats in bad.jsonl"),
        ('{"chat": [{"role": "user", "content": "w1"}]}\n{"chat": 5}\n', "bad.jsonl:2: field"),
        ("{\n", "bad.jsonl:1: not JSON"),
        ('{"chat": [{"role": "user"}]}\n', "bad.jsonl:1: field 'chat': message 0 has no content"),
    ):
        (folder / "bad.jsonl").write_text(content)
        fails(*chats, code=1, match=match)
    write(folder / "bad.jsonl", [{"tokens": [1, 2, 3]}, {"tokens": [1, VOCAB]}])
    fails("test", "open", "bad.jsonl", "--model", "suspect", *KEYED, code=1, match="bad.jsonl:2")
    write(folder / "bad.jsonl", [{"tokens": []}, {"tokens": [1]}])
    fails("test", "open", "bad.jsonl", "--model", "suspect", *KEYED, code=1,
          match="shorter than a context of 2 tokens")  # fmt: skip


def test_bad_records_can_be_skipped(cli, folder):
    write(folder / "some.jsonl", [{"tokens": [1, 2, 3, 4]}, {"tokens": [1, VOCAB]}])
    done = cli("test", "open", "some.jsonl", "--model", "suspect", *KEYED, "--weighting", "mass",
               "--on-error", "skip")  # fmt: skip
    assert done.code == 3, done.err
    assert "1 record" in done.out


def test_help_needs_no_torch():
    code = (
        "import sys; from radscore.cli import main; main(['predict', '--help']); "
        "main(['test', 'open', '--help']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert "radscore predict fresh.jsonl" in done.stdout
    assert "--from suspect.arrow" in done.stdout
    assert Path(sys.executable).exists()
