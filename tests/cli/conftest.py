"""Runs the command line in this process, and makes small corpora."""

import json

import numpy as np
import pytest


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
