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
    lengths = [len(language.tokenizer(text)["input_ids"]) for text in texts]
    assert len(local) == sum(lengths)
    wrong = {position for position in local if not agrees(remote, local, position)}
    # without a start token the server does not tell what follows the first token; of parts of
    # characters, which the last text has, it tells little
    starts = {0, *np.cumsum(lengths).tolist()}
    plain = set(range(sum(lengths[:-1]))) - starts
    assert len(wrong & plain) <= 0.05 * len(plain)


def agrees(remote, local, position):
    """Whether the tokens that the server tells of have the local probabilities."""
    found, expected = remote.get(position, {}), local[position]
    missing = [token for token in found if token not in expected]  # others may swap at the end
    near = all(found[token] < 1.1 * min(expected.values()) for token in missing)
    ratios = [abs(np.log(found[t] / expected[t])) for t in found if t in expected]
    return near and len(ratios) > N // 2 and max(ratios) < 5 * PRECISION


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
