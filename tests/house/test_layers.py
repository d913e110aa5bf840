"""No import cycles, no import of a higher layer: the contracts in pyproject.toml bite."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(package_parent):
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml"],
        cwd=package_parent,
        env={**os.environ, "PYTHONPATH": str(package_parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path):
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "python/radscore", tmp_path / "radscore", ignore=ignore)
    return tmp_path


def test_the_contracts_hold(copy):
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("errors.py", "from radscore.documents import Documents", "One way through"),
        (
            "documents.py",
            "if TYPE_CHECKING:\n    from radscore.api import score",
            "One way through",
        ),
        (
            "stats/result.py",
            "def later():\n    from radscore.stats.sums import sum_test",
            "No import cycles",
        ),
    ],
    ids=["a higher layer", "for types only", "lazily, within a folder"],
)
def test_a_planted_import_is_found(copy, module, line, broken):
    path = copy / "radscore" / module
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1
    assert f"{broken}: each layer imports only those below it BROKEN" in done.stdout or (
        f"{broken}, at any depth BROKEN" in done.stdout
    )
