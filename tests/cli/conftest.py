"""Runs the command line in this process, and makes small corpora."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import radscore as rs

sys.path.insert(0, str(Path(__file__).parent))

from score_setup import KEY, VOCAB, marked, write


@pytest.fixture
def cli(run_command, monkeypatch, tmp_path):
    """Runs a command in an empty folder; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    return run_command


@pytest.fixture
def fails(cli):
    """Runs a command that must fail with one line of explanation and nothing on stdout."""

    def run(*arguments, code=1, match=""):
        done = cli(*arguments)
        assert done.code == code, done.err
        assert done.out == ""
        lines = done.err.splitlines()
        assert len(lines) == 1, done.err
        assert lines[0].startswith("radscore: error: ")
        assert match in lines[0]
        return lines[0]

    return run


@pytest.fixture
def corpus(tmp_path):
    """A hundred documents of 50 random ids below 100 in x.jsonl."""
    rng = np.random.default_rng(7)
    docs = rng.integers(0, 100, size=(100, 50)).tolist()
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"tokens": doc}) + "\n" for doc in docs))
    return docs


@pytest.fixture
def run_corpus(tmp_path, cli):
    """A folder with a file of ids and one of lines; a scheme and two keys."""
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


@pytest.fixture
def scheme():
    return rs.Keyed(key=rs.Key(KEY), vocab_size=VOCAB, gamma=0.25, context_width=2)


@pytest.fixture
def marked_corpus(tmp_path, monkeypatch, cli, scheme):
    """A scheme file, the key in the environment, and 40 documents of which 10 are marked."""
    monkeypatch.setenv("RADSCORE_KEY", KEY)
    (tmp_path / "scheme.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {VOCAB}\ngamma = 0.25\ncontext_width = 2\n'
    )
    rng = np.random.default_rng(3)
    docs = rng.integers(0, VOCAB, size=(30, 60)).tolist() + marked(scheme, 10, 40, 4)
    docs.append([1, 2])  # too short
    write(tmp_path / "x.jsonl", docs)
    return docs
