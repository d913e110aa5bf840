"""A chat model that was trained on watermarked answers is found behind a real server."""

import sys
from pathlib import Path

import pytest
import radscore as rs
from radscore.answers import Limits, ask, open_answers
from radscore.models import load_model

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.demo_model import prompts  # noqa: E402
from tools.make_adapters import scheme  # noqa: E402

from .conftest import package_file, serving, write_floats  # noqa: E402

SMOLLM2 = ROOT / "experiments" / "smollm2"
N_PROMPTS, N_TOKENS = 24, 24  # ten prompts had p = 1e-16
N_DECOYS = 40


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["watermarked", "control"])
def test_a_model_that_read_watermarked_answers_is_found(name, language, tmp_path):
    """Twenty log-probabilities at each token, against the base model on this machine."""
    file = tmp_path / "suspect.gguf"
    merge(name, file)
    # forms that no training prompt had
    asked = prompts((2,))[:N_PROMPTS]
    limits = Limits(concurrency=1, retries=0)
    with serving(file, tmp_path / "log") as endpoint:
        report = ask(
            asked, tmp_path / "a.jsonl", endpoint=endpoint, model="m", logprobs=20,
            max_tokens=N_TOKENS, limits=limits,
        )  # fmt: skip
    assert (report.n_answered, report.stopped) == (N_PROMPTS, None)
    answers = open_answers(tmp_path / "a.jsonl", tokenizer=language.tokenizer)
    assert 0.8 * N_PROMPTS * N_TOKENS < answers.documents.n_tokens < 5000
    result = rs.test_closed(answers, scheme(), reference=language, decoys=N_DECOYS)
    assert result.weighting == "listed"
    if name == "watermarked":
        assert result.log10_pvalue < -6
    else:
        assert result.log10_pvalue > -2
    assert abs(result.decoys.mean) < 0.6


def merge(name, file):
    """Writes the adapter merged into its base, which must predict what the two do."""
    import torch

    suspect = load_model(SMOLLM2 / name, base=package_file(), device="cpu")
    ids = torch.tensor([suspect.tokenizer("A page about the tides and the moon.")["input_ids"]])
    with torch.no_grad():
        expected = suspect.model(ids).logits
        write_floats(package_file(), file, suspect.model.merge_and_unload())
        got = load_model(file, device="cpu").model(ids).logits
    assert (got - expected).abs().max() < 0.2  # half precision; 0.03 was seen
