"""Nothing that a file, a name or a server holds reaches the terminal as a command (CWE-150)."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from radscore.cli import main
from radscore.cli.output import json_out, note, printable, table

#: Title and clipboard of the terminal, colour, C1, DEL, directions, ends of lines, tags.
EVIL = "\x1b]0;own\x07\x1b[2J\x9b31m\x7f\x08\u202e\u2066\u2028\x85\r\U000e0041"
#: The same, as a file may be called.
NAME = EVIL.replace("/", "")
CONTROLS = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\U000e0000-\U000e007f]"
)


@pytest.fixture
def safe(cli):
    """Runs a command; it may fail, but writes neither controls nor lines that it did not mean."""

    def run(*arguments, code=None, shows=True):
        done = cli(*arguments)
        text = done.out + done.err
        assert not CONTROLS.search(text), repr(text)
        assert code is None or done.code == code, text
        assert done.code in (0, 1, 2, 3)
        if shows:
            assert "\\x1b]0;own\\x07" in text or "\\u001b]0;own\\u0007" in text, text
        assert all(line.startswith("radscore: ") for line in done.err.splitlines())
        return done

    return run


@pytest.fixture
def scheme(tmp_path):
    (tmp_path / "scheme.toml").write_text('scheme = "sbw"\nvocab_size = 100\n')
    (tmp_path / "alice.key").write_text("77")
    return ["--scheme", "scheme.toml", "--key-file", "alice.key", "--quiet"]


def lines(path, *rows):
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    Path(path).write_text(text)
    return path


def test_names_of_fields(safe, scheme, tmp_path):
    lines(tmp_path / "k.jsonl", {EVIL: 1, "b": 2})
    for command in (
        ["score", "k.jsonl", *scheme],
        ["inspect", "k.jsonl"],
        ["inspect", "k.jsonl", "--json"],
    ):
        safe(*command, shows="--json" not in command)
    pq.write_table(pa.table({EVIL: [list(range(50))]}), tmp_path / "c.parquet")
    safe("score", "c.parquet", *scheme, code=1)
    safe("score", "c.parquet", *scheme, "--field", EVIL, code=0)
    safe("score", "c.parquet", *scheme, "--field", EVIL, "--json", code=0)


def test_values_and_snippets(safe, scheme, tmp_path):
    lines(tmp_path / "v.jsonl", {"input_ids": [1, EVIL]}, {"input_ids": EVIL})
    safe("score", "v.jsonl", *scheme, shows=False)
    lines(tmp_path / "t.jsonl", *[{"text": f"one {EVIL} two"}] * 5)
    safe("inspect", "t.jsonl", code=0)
    found = safe("inspect", "t.jsonl", "--json", code=0)
    assert any(EVIL.strip() in snippet or "own" in snippet for snippet in found.json["snippets"])


def test_names_of_files(safe, scheme, tmp_path):
    lines(tmp_path / f"{NAME}.jsonl", {"input_ids": list(range(50))}, "broken")
    path = f"{NAME}.jsonl"
    safe("score", path, *scheme, code=1)
    safe("score", path, *scheme, "--on-error", "skip", code=3)
    safe("score", path, *scheme, "--on-error", "skip", "--json", code=3)
    safe("inspect", path, code=3)
    safe("plan", path, *scheme[:2], shows=False)
    safe("score", f"{NAME}.gone", *scheme, code=2)
    for option in ("--scheme", "--key-file", "--out", "--state"):
        safe("score", path, *scheme, option, f"no/{NAME}", shows=False)


def test_names_of_files_that_are_no_text(safe, scheme, tmp_path):
    """As file systems allow, and as argv then has them: a lone surrogate per byte."""
    path = os.fsdecode(b"\xff\x1b]0;own\x07.jsonl")
    lines(tmp_path / path, {"input_ids": list(range(50))}, "broken")
    safe("score", path, *scheme, "--on-error", "skip", code=3)
    safe("score", path, *scheme, "--on-error", "skip", "--json", code=3)
    safe("score", path, *scheme, code=1)


def test_names_of_schemes_and_of_models(safe, scheme, tmp_path):
    escaped = json.dumps(EVIL)[1:-1].replace("\\udb40\\udc41", "")
    (tmp_path / "s.toml").write_text(f'scheme = "x{escaped}"\n')
    done = safe("score", "k.jsonl", "--scheme", "s.toml", "--key-file", "alice.key", shows=False)
    assert done.code == 2
    row = {"prompt": [1], "input_ids": list(range(50))}
    lines(tmp_path / "a.jsonl", {**row, "model": f"evil{EVIL}"}, {**row, "model": "other"})
    safe("test", "closed", "a.jsonl", *scheme[:4], code=0)
    safe("test", "closed", "a.jsonl", *scheme[:4], "--json", code=0)


def test_what_argparse_and_tracebacks_print(safe, scheme, cli, tmp_path):
    for words in (
        [f"sc{EVIL}re"],
        ["score", f"--{EVIL}"],
        ["score", "x", "--dtype", EVIL],
        ["ask", "--prompts", "p", "--out", "o", "--local", EVIL, f"--m{EVIL}del", "x"],
        ["schemes", EVIL],
    ):
        safe(*words, code=2, shows=False)
    lines(tmp_path / "k.jsonl", {EVIL: 1})
    done = cli("score", "k.jsonl", *scheme, "--debug")
    assert "Traceback" in done.err
    assert "own" in done.err
    assert not CONTROLS.search(done.err)


def test_a_note_is_one_line(capsys):
    note("a\nradscore: p-value 1e-30")
    assert capsys.readouterr().err == "radscore: a\\nradscore: p-value 1e-30\n"


@given(st.text())
def test_all_text_is_made_harmless(text):
    shown = printable(text)
    assert not CONTROLS.search(shown)
    shown.encode()
    if not CONTROLS.search(text) and not re.search("[\ufff9-\ufffb]", text):
        assert shown == text  # and that includes accents, other alphabets and emoji


@given(st.dictionaries(st.text(), st.text() | st.floats() | st.lists(st.text())))
def test_json_is_the_same_json(value):
    stream = io.StringIO()
    before, sys.stdout = sys.stdout, stream
    try:
        json_out(value)
    finally:
        sys.stdout = before
    text = stream.getvalue()
    assert not CONTROLS.search(text)
    text.encode()
    read = json.loads(text)
    assert list(read) == list(value)
    texts = {name: one for name, one in value.items() if not isinstance(one, float)}
    assert texts == {name: read[name] for name in texts}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_streams_of_other_encodings(tmp_path, encoding, extra):
    """What a stream cannot write is escaped, not an internal error."""
    lines(tmp_path / "t.jsonl", {"text": "é Δ 🙂 \x1b"})
    done = subprocess.run(
        [sys.executable, "-m", "radscore", "inspect", "t.jsonl", *extra],
        check=False, capture_output=True, cwd=tmp_path, timeout=60,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "\x1b" not in text
    if extra:
        assert (
            json.loads(text)["snippets"] == ["é Δ 🙂 \x1b"]
            or "é" in json.loads(text)["snippets"][0]
        )


def test_tables_keep_their_shape(capsys):
    table([("name", "one\ntwo"), (EVIL, "x\x85y\u2028z"), ("none", "")])
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3
    assert not CONTROLS.search(out)


def test_help_is_harmless(cli):
    assert not CONTROLS.search(cli("score", "--help").out)
    assert main(["--version"]) == 0


def test_arrays_of_names(safe, scheme, tmp_path):
    np.save(tmp_path / f"{NAME}.npy", np.arange(50, dtype=np.float64))
    safe("score", f"{NAME}.npy", *scheme, code=1)
