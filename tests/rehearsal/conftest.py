"""A small model that was trained, in seconds, to write instructions and their answers."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def always_one_thread(one_thread):
    """For all tests of this folder."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a Llama of about 150,000 weights that writes `lessons`, with its tokenizer."""
    from small import lessons, save_trained

    return save_trained(tmp_path_factory.mktemp("base"), lessons(random.Random(0), 600))


@pytest.fixture(scope="session")
def model(folder):
    """The same, loaded."""
    from radscore.models import load_model

    return load_model(folder, device="cpu")


@pytest.fixture(scope="session")
def seeds():
    """Records as the model knows them."""
    from small import lessons

    return lessons(random.Random(1), 12)
