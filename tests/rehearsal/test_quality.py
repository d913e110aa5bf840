"""How good Alice's text is."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import radscore as rs
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from radscore.models.writing import Sampling  # noqa: E402
from radscore.rehearsal.alice import Record, read_records, write_records  # noqa: E402
from radscore.rehearsal.alice_records import as_ids  # noqa: E402
from radscore.rehearsal.quality import answer_losses, distinct_share, text_quality  # noqa: E402
from radscore.rehearsal.settings import DataSettings, Mark  # noqa: E402
from tiny import VOCAB, starting  # noqa: E402

MARK = Mark(rs.Keyed(key=bytes(16), vocab_size=400, gamma=0.25, context_width=2), 4.0)


@pytest.mark.parametrize("which", ["plain", "starting"])
def test_losses_of_answers(model, seeds, which):
    """Against torch, with and without a start token."""
    if which == "plain":
        reader, records, start = model, seeds, []
        records = [*records, Record("", "Say it."), Record("A", "B")]
    else:
        reader, start = starting(), [VOCAB - 2]
        records = [
            Record("w1 w2", "w3 w4 w5"),
            Record("w1 w2", "w3", as_ids([1, 2]), as_ids([3, 4, 4])),  # not what was said
            Record("w1", "w7 w7", as_ids([*start, 1]), as_ids([7, 7])),
        ]
    losses, lengths = answer_losses(records, reader)
    i = 0
    for one in records:
        before = reader.tokenizer(one.prompt)["input_ids"]
        after = reader.tokenizer(one.answer, add_special_tokens=False)["input_ids"]
        after = after if before else after[1:]  # nothing predicts the first token of all
        whole = torch.tensor(
            [*before, *reader.tokenizer(one.answer, add_special_tokens=False)["input_ids"]]
        )
        with torch.inference_mode():
            logits = reader.model(whole[None]).logits[0].double()
        expected = torch.nn.functional.cross_entropy(
            logits[:-1][-len(after) :], whole[-len(after) :], reduction="sum"
        )
        assert lengths[i] == len(after)
        assert losses[i] == pytest.approx(float(expected), rel=1e-4)
        i += 1
    assert i == len(losses)


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=5),
    st.integers(1, 3),
    st.integers(1, 30),
)
def test_distinct_ngrams(texts, n, most):
    grams, left = [], most
    for text in texts:
        text = text[:left]  # noqa: PLW2901
        left -= len(text)
        grams += [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
    found = distinct_share([np.array(one, dtype=np.int64) for one in texts], n, most)
    if grams:
        assert found == len(set(grams)) / len(grams)
    else:
        assert math.isnan(found)


def test_marked_text_beside_its_twins(model, seeds, tmp_path):
    how = DataSettings("continuations", 40, Sampling(max_tokens=60, temperature=0.9))
    prompts = [f"Instruction: {one.prompt}\nAnswer:" for one in seeds]
    reports, records = [], []
    for mark in MARK, None:
        out = tmp_path / f"{mark is None}"
        reports.append(write_records(model, prompts, how, mark, out, seed=1))
        records.append(read_records(out))
    parsed = replace(reports[0], n_parsed=3, n_broken=1)
    found = text_quality(*records, model, MARK, report=parsed, twins_report=reports[1], n_samples=3)
    json.dumps(found, allow_nan=False)
    marked, clean = found["marked"], found["unmarked"]
    assert marked["loss"] > clean["loss"] + 3 * clean["loss_error"]
    assert marked["perplexity"] == pytest.approx(math.exp(marked["loss"]))
    losses, lengths = answer_losses(records[0], model)
    assert marked["loss"] == pytest.approx(losses.sum() / lengths.sum())
    assert marked["test"]["log10_pvalue"] < -8 < -3 < clean["test"]["log10_pvalue"]
    assert marked["test"]["green_share"] > clean["test"]["green_share"] + 0.1
    assert (marked["parsed"], clean["parsed"]) == (0.75, None)
    for some, one in ((records[0], marked), (records[1], clean)):
        assert one["n_records"] == len(some)
        assert one["ended"] == np.mean([r.ended for r in some])
        assert one["length"]["mean"] == np.mean([len(r.tokens) for r in some])
        assert 0 < one["distinct"]["1"] < one["distinct"]["3"] <= 1
    assert len(found["samples"]) == 3
    assert set(found["samples"][0]) >= {"prompt", "marked", "unmarked"}


def test_samples_answer_the_same_prompt(model, seeds):
    twins = [replace(one, answer="Something else.") for one in seeds]
    found = text_quality(seeds, twins[::-1], model, None, n_samples=4)
    by_prompt = {one.prompt: one.answer for one in seeds}
    assert len(found["samples"]) == 4
    for one in found["samples"]:
        assert one["marked"] == by_prompt[one["prompt"]]
        assert one["unmarked"] == "Something else."
    assert found["marked"]["test"] is None
    assert found["marked"]["parsed"] is None
