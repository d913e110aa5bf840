"""Golden vectors, read once; and helpers of this folder, importable whatever the import mode."""

import json
import sys
from functools import lru_cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

FOLDER = Path(__file__).parents[1] / "golden"


@lru_cache(maxsize=16)
def _read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def golden():
    """Vectors made by other tools, with their source line."""
    return _read
