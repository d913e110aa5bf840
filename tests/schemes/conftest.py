"""Golden vectors, read once."""

import json
from functools import lru_cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "golden"


@lru_cache(maxsize=16)
def _read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def golden():
    """Vectors made by other tools, with their source line."""
    return _read
