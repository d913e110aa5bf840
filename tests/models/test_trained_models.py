"""Models that were trained on watermarked text are found, and their controls are not.

The models are real: adapters of SmolLM2-135M-Instruct, and small models trained from scratch.
experiments/README.md says how they were made, and gives p-values on more text.
"""

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.answers.answer_files import Answers
from radscore.answers.expected import expected
from radscore.audits.closed import test_closed as closed
from radscore.audits.open import test_open as opened
from radscore.models import Weighting, load_model, predict

ROOT = Path(__file__).resolve().parent.parent.parent / "experiments"
SMOLLM2 = ROOT / "smollm2"
SMALL = ROOT / "models"


# A chat model and its adapters.


@pytest.fixture(scope="module", autouse=True)
def all_threads(one_thread):
    """These models are large enough to gain from them."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(smollm2, tmp_path_factory):
    """The chat model, and a folder with it, which loads faster than the GGUF file."""
    folder = tmp_path_factory.mktemp("base")
    smollm2.model.save_pretrained(folder)
    return smollm2, folder


@pytest.fixture(scope="module", params=["watermarked", "control"])
def adapter(request, base):
    return request.param, load_model(SMOLLM2 / request.param, base=base[1], device="cpu")


@pytest.fixture(scope="module")
def chats():
    """The scheme, and the answers of each kind except those that go round in circles."""
    scheme = rs.Keyed(
        key=rs.Key.from_file(SMOLLM2 / "alice.key"),
        vocab_size=49_152,
        gamma=0.25,
        context_width=1,
    )
    texts: dict[str, list[list[int]]] = {}
    for line in (SMOLLM2 / "texts.jsonl").read_text().splitlines():
        row = json.loads(line)
        if len(set(pairwise(row["ids"]))) > 0.5 * len(row["ids"]):
            texts.setdefault(row["kind"], []).append(row["ids"])
    return scheme, {"watermarked": texts["watermarked"], "fresh": texts["fresh"][4:]}


# By text and statistic: how many answers are read, and the largest log10 p at which the radioactive
# adapter counts as found. The control reads at most four.
FOUND = {
    ("watermarked", "prediction"): (8, -3),
    ("watermarked", "mass"): (8, -2.5),
    ("watermarked", "contrast"): (2, -4),
    ("fresh", "prediction"): (4, -3),
    ("fresh", "mass"): (3, -3),
    ("fresh", "contrast"): (2, -8),
}


@pytest.mark.parametrize(("kind", "weighting"), FOUND)
def test_a_chat_model_that_read_watermarked_text_is_found(adapter, base, chats, kind, weighting):
    (name, suspect), (scheme, texts) = adapter, chats
    number, largest = FOUND[kind, weighting]
    result = opened(
        suspect,
        texts[kind][: number if name == "watermarked" else min(number, 4)],
        scheme,
        reference=base[0] if weighting == "contrast" else None,
        weighting=weighting,
        text_watermarked=kind == "watermarked",
    )
    if name == "watermarked":
        assert result.log10_pvalue < largest
    else:
        # By luck, English is a little greener than chance under this key: without a reference, the
        # base model itself, which cannot know the key, has p = 0.004 on more of this text.
        assert result.log10_pvalue > (-2.5 if weighting == "prediction" else -2)


# Small models: a tenth of Bob's training text carried the mark.


@pytest.fixture(scope="module")
def small_scheme():
    return rs.Keyed(
        key=rs.Key.from_file(ROOT / "alice.key"), vocab_size=4096, gamma=0.25, context_width=2
    )


@pytest.fixture(scope="module")
def small_texts():
    with np.load(SMALL / "texts.npz") as arrays:
        return {name: arrays[name].astype(np.int64) for name in arrays.files}


@pytest.fixture(scope="module")
def small_models():
    return {
        name: load_model(SMALL / name, device="cpu") for name in ("rho-10", "control", "reference")
    }


@pytest.mark.parametrize("watermarked", [False, True])
def test_a_tenth_of_watermarked_text_shows_in_what_a_model_predicts(
    small_models, small_scheme, small_texts, watermarked
):
    rows = list(small_texts["marked"][:16] if watermarked else small_texts["fresh"][:64])
    found, clean = (
        opened(
            small_models[name],
            rows,
            small_scheme,
            reference=small_models["reference"],
            text_watermarked=watermarked,
            max_weights=64,
        )
        for name in ("rho-10", "control")
    )
    assert found.log10_pvalue < -4
    assert clean.log10_pvalue > -2


@pytest.mark.parametrize("filtered", [False, True])
def test_watermarked_text_shows_in_what_a_model_answers(small_scheme, small_texts, filtered):
    # all of this model's training text carried the mark: a tenth does not show in so few answers
    def answers(name):
        return Answers(
            rs.Documents.of(list(small_texts[f"answers_{name}"])),
            rs.Documents.of(list(small_texts["prompts"])),
        )

    phi = rs.KgramSet.from_documents(list(small_texts["again"]), 2, 4096) if filtered else None
    plain, contrast, clean = (
        closed(
            answers(name),
            small_scheme,
            filter=phi,
            reference=answers("reference") if weighting == "contrast" else None,
            weighting=weighting,
        )
        for name, weighting in (
            ("rho-100", "plain"),
            ("rho-100", "contrast"),
            ("control", "contrast"),
        )
    )
    assert plain.log10_pvalue < -3.5
    assert contrast.log10_pvalue < -5
    assert clean.log10_pvalue > -2


def test_a_tenth_shows_in_log_probabilities(small_scheme, small_texts, small_models):
    """The 20 likeliest tokens at each place of a clean text, as an API returns them."""
    texts = rs.Documents.of(list(small_texts["fresh"][:64]))
    found = {}
    for name in ("rho-10", "control"):
        listed = expected(small_models[name], texts, vocab_size=4096, likeliest=20)
        found[name] = closed(
            Answers(texts, None, listed=listed), small_scheme, reference=small_models["reference"]
        )
        assert (found[name].weighting, found[name].transform) == ("listed", "damped_relative")
    assert found["rho-10"].score.zscore > 3.5
    assert found["rho-10"].log10_pvalue < -2
    assert abs(found["control"].score.zscore) < 2.5


def test_the_answers_are_the_models_own(small_models, small_texts):
    # each model's loss on its own answers is lower than the other's
    import torch

    names = ("control", "reference")
    losses = {}
    for name in names:
        rows = np.hstack([small_texts["prompts"], small_texts[f"answers_{name}"]])[:64]
        ids = torch.from_numpy(rows)
        labels = ids.clone()
        labels[:, : small_texts["prompts"].shape[1]] = -100
        for reader in names:
            with torch.inference_mode():
                found = small_models[reader].model(input_ids=ids, labels=labels)
            losses[name, reader] = found.loss.item()
    for name in names:
        assert min(names, key=lambda reader: losses[name, reader]) == name


def test_files_and_contexts_find_what_a_live_test_finds(
    small_models, small_scheme, small_texts, tmp_path
):
    """Two shards with rounded weights, and positions whose context unmarked answers have."""
    rows = list(small_texts["fresh"][:48])
    counts = rs.KgramCounts(2, 4096, watermarked=False)
    counts.add(list(small_texts["answers_control"]))
    how = {
        "reference": small_models["reference"],
        "weighting": Weighting("contrast", max_weights=64),
    }
    live, clean = (
        opened(small_models[name], rows, small_scheme, contexts=counts, min_count=2, **how)
        for name in ("rho-10", "control")
    )
    assert live.log10_pvalue < -4
    assert clean.log10_pvalue > -2
    files = [tmp_path / f"{i}" for i in (1, 2)]
    for i, file in enumerate(files, 1):
        predict(small_models["rho-10"], rows, file, context_width=2, shard=(i, 2), **how)
    again = opened(None, None, small_scheme, from_file=files, contexts=counts.top(min_count=2))
    assert again.removed == live.removed
    # other batches round differently, which decides about weights at the edge
    assert again.n_scored == pytest.approx(live.n_scored, rel=1e-4)
    assert again.score.zscore == pytest.approx(live.score.zscore, abs=1e-3)
    # a p-value of draws depends on every bit of the weights; the bound does not
    bounds = [one.score.weighted.log10_bound for one in (again, live)]
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-3)
    assert again.log10_pvalue == pytest.approx(live.log10_pvalue, abs=0.5)
