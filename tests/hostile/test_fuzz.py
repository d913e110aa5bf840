"""A few mutants of everything that is read; `make fuzz` makes many."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Those whose files take no model to make; what they do is in `tools/fuzz/targets.py`.
TARGETS = ("state", "run", "scheme and key", "reply", "jsonl", "parquet", "arrow", "datasets")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", TARGETS)
def test_mutants_are_refused_or_read_rightly(target, tmp_path):
    command = ["-m", "tools.fuzz", "--mutants", "60", "--only", target, "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, *command, "--keep", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 mutants, 0 faults" in done.stdout
