"""Log-probabilities of a real server are those of the same weights read here."""

import json

import numpy as np
import pytest
from radscore.answers import Limits, ask, open_answers

PROMPTS = [
    "The sea is",
    "Once upon a time there was a king who",
    "To make bread, first",
    "What is a naïve 東京?",
    "1, 2, 3,",
]
N = 20
#: The server's precision: half-precision weights and cache.
PRECISION = 0.03


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module", params=["completions", "chat"])
def asked(request, endpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("answers") / "a.jsonl"
    report = ask(
        PROMPTS, out, endpoint=endpoint, model="m", api=request.param, logprobs=N, max_tokens=24,
        limits=Limits(concurrency=1, retries=0),
    )  # fmt: skip
    assert (report.n_answered, report.stopped) == (len(PROMPTS), None)
    return request.param, out, report


def prompt_ids(language, api, prompt):
    if api == "chat":
        chat = [{"role": "user", "content": prompt}]
        prompt = language.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
    return language.tokenizer(prompt, add_special_tokens=False)["input_ids"]


def test_the_probe_finds_what_this_server_does(asked):
    _, _, report = asked
    found = report.probe
    assert not found["ids"]
    assert (found["after_temperature"], found["after_top_p"]) == (False, False)
    assert found["sums"]
    assert 0.4 < found["listed"] < 1
    assert found["difference"] < PRECISION
    assert found["most"] > 900  # of 1,000 asked for, some have one text


def test_lists_are_those_of_the_local_model(asked, language):
    import torch

    api, out, _ = asked
    answers = open_answers(out, tokenizer=language.tokenizer)
    records = [one for one in map(json.loads, out.read_text().splitlines()) if "text" in one]
    within, start = [], 0
    for record, ids in zip(records, answers.documents, strict=True):
        before = prompt_ids(language, api, record["prompt"])
        read = torch.tensor([before + ids.tolist()])
        with torch.no_grad():
            logits = language.model(read).logits[0, len(before) - 1 : -1].double()
        local = torch.log_softmax(logits, dim=-1).numpy()
        for position, row in enumerate(local):
            found = answers.listed[start + position]
            if not found:
                continue
            listed = np.array(list(found))
            worst = np.abs(row[listed] - np.array(list(found.values()))).max()
            # the likeliest, but for ties within the precision
            left_out = np.delete(row, listed).max() - row[listed].min()
            within.append(worst < PRECISION and left_out < 2 * PRECISION)
        start += len(ids)
    assert len(within) > 0.8 * answers.documents.n_tokens > 50
    assert np.mean(within) > 0.95, f"only at {np.mean(within):.1%} of positions"
    (said,) = [note for note in answers.notes if "log-probabilities" in note]
    assert f"{len(within)} of {answers.documents.n_tokens} tokens have" in said
