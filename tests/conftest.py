"""What tests of several folders share."""

import json
from dataclasses import dataclass

import pytest
from radscore.cli import main


@dataclass
class Run:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run_command(capsys, monkeypatch):
    """Runs the command line in this process, with no key about; exit code and what it printed."""
    for name in ("RADSCORE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Run(int(code), captured.out, captured.err)

    return run
