"""What Bob trains on, and his training: resumed after a kill with the same weights."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError, ModelError, StateError

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("peft")

from radscore.models.loading import load_model  # noqa: E402
from radscore.rehearsal.alice import Record  # noqa: E402
from radscore.rehearsal.alice_records import as_ids  # noqa: E402
from radscore.rehearsal.bob import mix, train, training_rows  # noqa: E402
from radscore.rehearsal.bob_rows import IGNORED  # noqa: E402
from radscore.rehearsal.settings import TrainingSettings  # noqa: E402
from small import killed, tokenizer_of  # noqa: E402
from tiny import save_folder, word_tokenizer  # noqa: E402

RECIPE = TrainingSettings(learning_rate=3e-3, epochs=2, batch_size=4, template="plain", length=64)


@pytest.fixture(scope="module")
def records(seeds):
    return list(seeds)


@pytest.fixture(scope="module")
def tokenizer(model):
    return model.tokenizer


def weights(path):
    """All weights of a model's or an adapter's folder."""
    from safetensors.torch import load_file

    (file,) = path.glob("*.safetensors")
    return load_file(file)


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# ---- rows


def split(rows, i, tokenizer):
    """The text of a row before what is learned, and what is learned."""
    learned = rows.labels[i] != IGNORED
    assert np.array_equal(rows.ids[i][learned], rows.labels[i][learned])
    first = int(np.argmax(learned))
    assert learned[first:].all()
    return tokenizer.decode(rows.ids[i][:first]), tokenizer.decode(rows.ids[i][first:])


def test_the_loss_is_on_answers_and_their_end(records, tokenizer):
    whole, cut = records[0], replace(records[1], ended=False)
    rows = training_rows([whole, cut], tokenizer, TrainingSettings())
    before, learned = split(rows, 0, tokenizer)
    assert before.endswith(f"the request.\n\n### Instruction:\n{whole.prompt}\n\n### Response:\n")
    assert learned == f"{whole.answer}<|end|>"
    assert split(rows, 1, tokenizer)[1] == cut.answer
    chat = training_rows([whole], tokenizer, TrainingSettings(template="chat"))
    assert split(chat, 0, tokenizer) == (f"<user>{whole.prompt}\n", f"{whole.answer}<|end|>")
    every = training_rows([whole], tokenizer, replace(RECIPE, loss_on="all"))
    assert (every.labels[0][1:] == every.ids[0][1:]).all()  # nothing predicts the first
    assert every.labels[0][0] == IGNORED
    assert every.n_learned == every.n_tokens - 1


def test_ids_are_kept_where_they_are_the_tokenizers(records, tokenizer):
    one = records[0]
    # letter by letter, which no tokenizer would do
    letters = [tokenizer(c)["input_ids"][0] for c in one.answer]
    before = [tokenizer(c)["input_ids"][0] for c in one.prompt]
    own = replace(one, tokens=as_ids(letters), prompt_tokens=as_ids(before))
    rows = training_rows([own], tokenizer, replace(RECIPE, length=200))
    assert rows.ids[0].tolist() == [*before, *letters, tokenizer.eos_token_id]
    assert rows.n_encoded == 0
    other = tokenizer_of([one.answer * 3, one.prompt * 3], vocab_size=300)
    foreign = replace(
        one,
        tokens=as_ids(tokenizer(one.answer)["input_ids"]),
        prompt_tokens=as_ids(tokenizer(one.prompt)["input_ids"]),
    )
    rows = training_rows([foreign, one], other, RECIPE)
    assert rows.n_encoded == 2
    assert rows.ids[0].tolist() == rows.ids[1].tolist()
    assert split(rows, 0, other) == (one.prompt, f"{one.answer}<|end|>")


def test_rows_are_cut_and_empty_ones_left_out(records, tokenizer):
    rows = training_rows(records, tokenizer, replace(RECIPE, length=24))
    assert rows.n_cut == len(records)
    assert rows.n_empty == 0
    assert {len(one) for one in rows.ids} == {24}
    rows = training_rows([records[0], Record(records[1].prompt * 9, "x")], tokenizer, RECIPE)
    assert (len(rows), rows.n_cut, rows.n_empty) == (1, 1, 1)
    with pytest.raises(ModelError, match="no chat template"):
        training_rows(records, word_tokenizer(template=False), replace(RECIPE, template="chat"))


@settings(deadline=None, max_examples=50)
@given(
    pairs=st.lists(
        st.tuples(st.text(max_size=40), st.text(max_size=40), st.booleans()), max_size=4
    ),
    template=st.sampled_from(["plain", "alpaca", "chat"]),
    length=st.integers(2, 120),
)
def test_rows_of_any_text(tokenizer, pairs, template, length):
    records = [Record(*one[:2], ended=one[2]) for one in pairs]
    recipe = replace(RECIPE, template=template, length=length)
    rows = training_rows(records, tokenizer, recipe)
    assert len(rows) + rows.n_empty == len(records)
    for ids, labels in zip(rows.ids, rows.labels, strict=True):
        assert len(ids) == len(labels) <= length
        learned = np.flatnonzero(labels != IGNORED)
        assert len(learned)
        assert learned[0] > 0
        assert learned[-1] == len(ids) - 1


# ---- mixtures


def numbered(name, n):
    return [
        Record(f"{i}", name, as_ids(), as_ids([1] * (3 if name == "m" else 1))) for i in range(n)
    ]


def test_mixtures():
    marked, clean = numbered("m", 40), numbered("c", 40)
    found = {share: mix(marked, clean, share, 5) for share in (0, 0.05, 0.1, 0.5, 1)}
    before = set()
    for share, one in found.items():
        assert len(one.records) == 40
        mine = {r.prompt for r in one.records if r.answer == "m"}
        rest = {r.prompt for r in one.records if r.answer == "c"}
        assert len(mine) == one.n_marked == round(40 * share)
        assert one.share == pytest.approx(share)
        assert one.token_share == pytest.approx(3 * len(mine) / (3 * len(mine) + len(rest)))
        assert not mine & rest  # never a record and its twin
        assert before <= mine  # larger shares add to smaller ones
        before = mine
        assert {r.prompt for r in one.recorded} == mine
    assert found[0.5].records == mix(marked, clean, 0.5, 5).records
    assert found[0.5].records != mix(marked, clean, 0.5, 6).records


@pytest.mark.parametrize(
    ("degree", "n_recorded"), [(1, 4), (0.5, 8), (0.1, 40), (0.25, 16), (0, 4)]
)
def test_supervision(degree, n_recorded):
    marked, clean = numbered("m", 40), numbered("c", 40)
    found = mix(marked, clean, 0.1, 5, supervision=degree)
    used = {r.prompt for r in found.records if r.answer == "m"}
    recorded = {r.prompt for r in found.recorded}
    assert len(found.recorded) == len(recorded) == n_recorded
    assert len(recorded & used) / len(recorded) == pytest.approx(degree)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.5}, "share must be from 0 to 1"),
        ({"supervision": -1}, "supervision must be from 0 to 1"),
        ({"supervision": 0.01}, "marked has 5 records, but 200 are needed"),
        ({"n_records": 9, "share": 0.1}, "clean has 5 records, but 8 are needed"),
    ],
)
def test_mixtures_that_cannot_be(changes, message):
    with pytest.raises(ArgumentError, match=message):
        mix(numbered("m", 5), numbered("c", 5), **{"share": 0.4, "seed": 0, **changes})


# ---- training


def test_training(folder, records, tmp_path):
    seen = []
    report = train(
        folder, records, RECIPE, tmp_path / "a", seed=1, device="cpu", progress=seen.append
    )
    assert [one.done for one in seen] == list(range(1, 7))
    assert seen[-1].tokens == 2 * report.n_tokens
    assert (report.n_steps, report.n_records, len(report.losses)) == (6, 12, 6)
    assert report.n_trained == report.n_parameters > 100_000
    assert report.losses[-1][1] < report.losses[0][1]
    kept = weights(tmp_path / "a")
    assert not same(kept, weights(folder))
    assert load_model(tmp_path / "a", device="cpu").tokenizer is not None
    assert not (tmp_path / "a" / "checkpoints").exists()
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["use_cache"] is True

    assert train(folder, records, RECIPE, tmp_path / "a", seed=1, device="cpu") == report
    train(folder, records, RECIPE, tmp_path / "b", seed=1, device="cpu", checkpoints=0)
    assert same(kept, weights(tmp_path / "b"))
    train(folder, records, RECIPE, tmp_path / "c", seed=2, device="cpu")
    assert not same(kept, weights(tmp_path / "c"))
    for change in ({"seed": 2}, {"records": records[1:]}, {"settings": replace(RECIPE, epochs=3)}):
        arguments = {"records": records, "settings": RECIPE, "seed": 1, **change}
        with pytest.raises(StateError, match=r"was made with .*; name another folder"):
            train(folder, out=tmp_path / "a", **arguments)


def test_training_is_that_of_torch(folder, records, tokenizer, tmp_path):
    """Three steps on all records, by hand."""
    recipe = replace(
        RECIPE, epochs=3, batch_size=12, schedule="constant", warmup=0.0, weight_decay=0.1
    )
    train(folder, records, recipe, tmp_path / "a", seed=1, device="cpu")
    rows = training_rows(records, tokenizer, recipe)
    network = load_model(folder, device="cpu").model.train()
    network.requires_grad_(requires_grad=True)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    other = [p for p in network.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
    )
    for _ in range(3):
        total, number = 0.0, 0
        for ids, labels in zip(rows.ids, rows.labels, strict=True):
            logits = network(input_ids=torch.tensor(ids)[None]).logits[0, :-1]
            target = torch.tensor(labels)[1:]
            total = total + torch.nn.functional.cross_entropy(
                logits, target, ignore_index=IGNORED, reduction="sum"
            )
            number += int((target != IGNORED).sum())
        optimizer.zero_grad()
        (total / number).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    found, start = weights(tmp_path / "a"), weights(folder)
    for name, expected in network.state_dict().items():
        if name in found:
            moved = (expected - start[name]).abs().max()
            assert (found[name] - expected).abs().max() < 0.02 * moved + 1e-7, name


def test_how_batches_are_read_changes_nothing_but_rounding(folder, records, tmp_path):
    base = replace(RECIPE, epochs=1, batch_size=12, schedule="constant", warmup=0.0)
    made = {}
    for name, change in {
        "whole": {},
        "parts": {"accumulate": 4},
        "again": {"gradient_checkpointing": True},
        "half": {"bf16": True},
    }.items():
        train(folder, records, replace(base, **change), tmp_path / name, seed=1, device="cpu")
        made[name] = weights(tmp_path / name)
    assert same(made["whole"], made["again"])
    start = weights(folder)
    for name in made["whole"]:
        moved = (made["whole"][name] - start[name]).abs().mean()
        assert (made["whole"][name] - made["parts"][name]).abs().mean() < 0.05 * moved
        assert (made["whole"][name] - made["half"][name]).abs().mean() < 0.7 * moved


_SCRIPT = """
import pickle, sys, time
import torch
torch.set_num_threads(1)
from radscore.rehearsal.bob import train
from pathlib import Path
folder, arguments, out = sys.argv[1:]
records, settings = pickle.load(open(arguments, "rb"))
train(Path(folder), records, settings, Path(out), seed=4, device="cpu",
      progress=lambda _: time.sleep(0.3))
"""


def test_killed(folder, records, tmp_path):
    arguments, out = tmp_path / "arguments", tmp_path / "out"
    arguments.write_bytes(pickle.dumps((records, LONG)))

    def saved():
        return len(list(out.glob("checkpoints/checkpoint-*/complete"))) >= 2

    killed(_SCRIPT, folder, arguments, out, once=saved)
    resumed(folder, records, tmp_path, LONG)


def test_interrupted(folder, records, tmp_path):
    recipe = replace(LONG, method="lora", lora_rank=4)

    def stop(progress):
        if progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(folder, records, recipe, tmp_path / "out", seed=4, device="cpu", progress=stop)
    resumed(folder, records, tmp_path, recipe)


LONG = replace(RECIPE, epochs=6, accumulate=2)


def resumed(folder, records, tmp_path, recipe):
    """Goes on where training ended, beside a torn checkpoint, and compares with one go."""
    out, steps = tmp_path / "out", []
    assert not (out / "training.json").exists()
    last = max(int(p.parent.name.split("-")[1]) for p in out.glob("checkpoints/*/complete"))
    torn = out / "checkpoints" / "checkpoint-17"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')
    again = train(
        folder, records, recipe, out, seed=4, device="cpu", progress=lambda p: steps.append(p.done)
    )
    assert steps == list(range(last + 1, 19))
    assert last > 0
    report = train(folder, records, recipe, tmp_path / "straight", seed=4, device="cpu")
    assert same(weights(out), weights(tmp_path / "straight"))
    assert again.losses == report.losses
    assert again.n_trained == report.n_trained
    assert (report.n_trained < report.n_parameters) == (recipe.method == "lora")


@pytest.mark.parametrize("bf16", [False, True])
def test_an_adapter_is_read_on_its_base(folder, records, tmp_path, bf16):
    recipe = replace(
        RECIPE,
        method="lora",
        learning_rate=1e-2,
        lora_rank=2,
        bf16=bf16,
        gradient_checkpointing=bf16,
    )
    report = train(folder, records, recipe, tmp_path / "a", seed=1, device="cpu")
    assert report.losses[-1][1] < report.losses[0][1]
    assert {one.dtype for one in weights(tmp_path / "a").values()} == {torch.float32}
    adapted, base = load_model(tmp_path / "a", device="cpu"), load_model(folder, device="cpu")
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert not torch.allclose(adapted.model(ids).logits, base.model(ids).logits)
    with pytest.raises(ModelError, match="is an adapter; merge it"):
        train(tmp_path / "a", records, recipe, tmp_path / "b", seed=1)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_gguf_file_is_a_base(tokenizer, records, tmp_path, method):
    from gguf_files import write_gguf
    from tiny import tiny_llama

    pytest.importorskip("gguf")
    base = write_gguf(tmp_path / "base.gguf", tiny_llama(vocab_size=len(tokenizer)))
    recipe = replace(RECIPE, method=method, lora_rank=2, learning_rate=1e-2)
    report = train(base, records, recipe, tmp_path / "a", seed=1, device="cpu", tokenizer=tokenizer)
    assert report.losses[-1][1] < report.losses[0][1]
    found = load_model(tmp_path / "a", device="cpu")
    assert found.tokenizer is not None
    assert found.fingerprint != load_model(base, device="cpu").fingerprint


def test_what_cannot_be_trained(folder, records, tmp_path):
    out = tmp_path / "a"
    with pytest.raises(ArgumentError, match="there is no token to learn"):
        train(folder, [Record("x" * 500, "y")], RECIPE, out, seed=1, device="cpu")
    with pytest.raises(ArgumentError, match="batch_size must be a multiple of 3"):
        train(folder, records, replace(RECIPE, accumulate=3), out, seed=1, device="cpu")
    with pytest.raises(StateError, match="holds a model already"):
        train(folder, records, RECIPE, save_folder(tmp_path / "b"), seed=1, device="cpu")
    bare = save_folder(tmp_path / "c")
    with pytest.raises(ModelError, match="has no tokenizer"):
        train(bare, records, RECIPE, tmp_path / "d", seed=1, device="cpu")
    for text in ("{", "[]", "{}"):
        (out / "recipe.json").write_text(text)
        with pytest.raises(StateError, match=r"recipe\.json"):
            train(folder, records, RECIPE, out, seed=1, device="cpu")


def test_a_loss_that_is_no_number_ends_training(folder, records, tmp_path):
    wild = replace(RECIPE, learning_rate=10.0, weight_decay=10.0, epochs=30, schedule="constant")
    with pytest.raises(ModelError, match=r"the loss is (nan|inf) at step \d+: lower learning_rate"):
        train(folder, records, wild, tmp_path / "a", seed=1, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lore"}, "did you mean lora"),
        ({"epochs": -1}, "epochs must be from 0"),
        ({"learning_rate": math.nan}, "learning_rate must be from 0 to 10"),
        ({"warmup": "a"}, "warmup must be a number"),
        ({"length": 1}, "length must be"),
        ({"template": ""}, "template must be one of"),
    ],
)
def test_recipes_that_are_none(change, message):
    with pytest.raises(ArgumentError, match=message):
        TrainingSettings(**change)
