"""What a real server says of a prompt is what the same weights predict here."""

import json
from pathlib import Path

import numpy as np
import pytest
from radscore.answers import EndpointModel, Limits
from radscore.models import Weighting
from radscore.models.live import Reading

DEMO = Path(__file__).parents[2] / "demo"
N = 20
#: The server's precision: half-precision weights and cache.
PRECISION = 0.03
LIMITS = Limits(concurrency=1, retries=0)


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def texts():
    lines = (DEMO / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"][:300] for line in lines[5:8]] + [
        "Naïve 東京 — “yes” 🙂, he said"
    ]


def lists(reading):
    """By position: tokens and their probabilities."""
    found = {}
    for pairs in reading:
        for o, t, w in zip(pairs.occurrences, pairs.targets, pairs.weights, strict=True):
            if w:
                found.setdefault(int(o), {})[int(t)] = float(w)
    return found


def test_lists_of_a_prompt_are_those_of_the_local_model(endpoint, language, texts):
    how = {"context_width": 1, "weighting": Weighting("mass", max_weights=N, min_weight=0.0)}
    local = lists(Reading(language, texts, **how))
    with EndpointModel(endpoint, "m", tokenizer=language.tokenizer, limits=LIMITS) as model:
        assert model.reads == "echo"
        reading = Reading(model, texts, **how)
        remote = lists(reading)
    n_tokens = reading.totals.n_tokens
    assert len(local) == n_tokens
    # the first token's list is not told where there is no start token before it
    assert len(remote) >= n_tokens - 3 * len(texts)
    right = 0
    for position, found in remote.items():
        expected = local[position]
        # tokens that the server's strings do not tell are missing; others may swap at the end
        common = [token for token in found if token in expected]
        ratio = np.log([found[t] for t in common]) - np.log([expected[t] for t in common])
        missing = [t for t in found if t not in expected]
        near = all(found[t] < 1.1 * min(expected.values()) for t in missing)
        right += near and float(np.abs(ratio).max(initial=0.0)) < PRECISION * 5
        assert len(common) > N // 2
    assert right >= 0.95 * n_tokens - 2 * len(texts)


def test_one_token_after_a_prompt(endpoint, language, texts):
    how = {"context_width": 1, "weighting": Weighting("mass", max_weights=N, min_weight=0.0)}
    prompts = [text[:40] for text in texts]
    local = lists(Reading(language, prompts, **how))
    options = {"tokenizer": language.tokenizer, "reads": "one-token", "limits": LIMITS}
    with EndpointModel(endpoint, "m", **options) as model:
        assert model.reads == "one-token, text"
        remote = lists(Reading(model, prompts, **how))
    assert len(remote) == len(prompts)
    for position, found in remote.items():
        for token in found.keys() & local[position].keys():
            assert found[token] == pytest.approx(
                local[position][token], rel=5 * PRECISION, abs=1e-3
            )
