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
        """The values; what made them differs where the command does."""
        return without_provenance(json.loads(self.out))

    @property
    def provenance(self):
        return json.loads(self.out)["provenance"]


@pytest.fixture(scope="session")
def one_thread():
    """One thread of torch: more cost more than they bring, and weights depend on how many."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def without_provenance(content):
    if isinstance(content, dict):
        items = content.items()
        return {name: without_provenance(one) for name, one in items if name != "provenance"}
    return [without_provenance(one) for one in content] if isinstance(content, list) else content


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
