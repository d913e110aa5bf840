"""Pages of results that nobody planned: they say so, and escape whatever they show."""

import json

import numpy as np
import pytest
import radscore as rs
from radscore.evidence.report import page_of_result


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    rows = [{"tokens": rng.integers(0, 50, 40).tolist(), "prompt": [1, 2]} for _ in range(30)]
    for name in ("x.jsonl", "<b>y.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "s.toml").write_text('scheme = "keyed"\nvocab_size = 50\ncontext_width = 1\n')
    (tmp_path / "a.key").write_text("00" * 16)
    return tmp_path


SCHEME = ("--scheme", "s.toml", "--key-file", "a.key")


@pytest.mark.parametrize("command", [("score",), ("test", "closed")])
def test_a_result_becomes_a_page_that_says_exploratory(work, run_command, command):
    done = run_command(*command, "<b>y.jsonl", *SCHEME, "--decoys", 20, "--report", "r.html")
    assert done.code == 0, done.err
    page = (work / "r.html").read_text()
    assert "Exploratory: not planned beforehand" in page
    assert "20 other keys" in page or command == ("score",)
    assert "<b>y" not in page
    assert "&lt;b&gt;y.jsonl" in page
    assert "00" * 16 not in page
    before = page
    done = run_command(*command, "x.jsonl", *SCHEME, "--report", "r.html")
    assert done.code == 2
    assert (work / "r.html").read_text() == before
    assert run_command(*command, "x.jsonl", *SCHEME, "--report", "r.html", "--force").code == 0
    done = run_command(*command, "x.jsonl", *SCHEME, "--report", "r.txt")
    assert "must end in .html" in done.err


def test_no_page_replaces_an_input(work, run_command):
    done = run_command("score", "x.jsonl", *SCHEME, "--report", "x.jsonl", "--force")
    assert done.code == 2
    assert (work / "x.jsonl").read_text().startswith('{"tokens"')


def test_a_result_without_a_pvalue_has_a_page_too():
    scheme = rs.Keyed(key=bytes(16), vocab_size=50, gamma=0.5, context_width=1)
    page = page_of_result(rs.score([[1, 2, 3, 4]], scheme, dedup="none"))
    assert "repetitions were counted" in page
