import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden():
    """Reads a file of vectors that another tool made; each says in `source` which."""

    def read(name):
        vectors = json.loads((Path(__file__).parent / f"{name}.json").read_text())
        assert vectors["source"]
        return vectors

    return read
