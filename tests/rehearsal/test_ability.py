"""Whether a model works."""

import importlib.util
import json
import random

import pytest
from radscore.errors import ArgumentError, MissingExtraError, ModelError

pytest.importorskip("torch")
pytest.importorskip("transformers")

from radscore.models.loading import LanguageModel
from radscore.models.losses import document_losses
from radscore.models.writing import Sampling
from radscore.rehearsal.ability import _blanks, ability, benchmarks, side_by_side
from small import lessons
from tiny import tiny_llama


@pytest.fixture(scope="module")
def texts():
    """Held-out lessons, several in a text."""
    rng = random.Random(9)
    return [
        "".join(f"Instruction: {r.prompt}\nAnswer: {r.answer}\n\n" for r in lessons(rng, 8))
        for _ in range(30)
    ]


@pytest.fixture(scope="module")
def untrained(model):
    network = tiny_llama(vocab_size=400, seed=3, scale=1.0, max_position_embeddings=512)
    return LanguageModel(network, model.tokenizer, "untrained", 400, 512)


def test_a_model_that_works_and_one_that_does_not(model, untrained, texts):
    how = {"seed": 1, "n_questions": 60, "passage": 20, "continuation": 20}
    good, bad = ability(model, texts, **how), ability(untrained, texts, **how)
    json.dumps(good)
    assert good == ability(model, texts, **how)
    assert good["loss"]["value"] + 1 < bad["loss"]["value"] == pytest.approx(6.0, abs=0.3)
    assert good["choice"]["n"] == bad["choice"]["n"] == 60
    assert good["choice"]["value"] > 0.4
    assert abs(bad["choice"]["value"] - 0.25) < 4 * bad["choice"]["error"]
    # the last word of a lesson is a thing that was named before
    assert good["cloze"]["n"] == bad["cloze"]["n"] >= 30
    assert good["cloze"]["value"] > bad["cloze"]["value"]


def test_blanks():
    text = (
        "The old harbour has forty boats, and in winter nobody sails from the harbour. They are "
        "red. A clock stands there, which is why it is called the clock. In 1907, or so they say, "
        "it stopped in 1907."
    )
    found = {word: prompt for prompt, word in _blanks(text, random.Random(0))}
    assert set(found) == {"harbour", "clock", "1907"}
    for word, prompt in found.items():
        assert text.startswith(f"{prompt} {word}.")
    assert not _blanks("It is so, so, so.", random.Random(0))


def test_the_loss_is_that_of_the_texts(model, texts):
    ids = [model.tokenizer(one)["input_ids"][:40] for one in texts]
    found = ability(model, ids, seed=1, n_questions=5, passage=20, continuation=20)
    assert found["loss"]["value"] == pytest.approx(document_losses(model, ids).mean())
    assert found["loss"]["n"] == len(texts)


def test_answers_side_by_side(model, untrained):
    models = {"marked": model, "clean": untrained}
    how = Sampling(max_tokens=12, temperature=0.0)
    prompts = ["Instruction: Name 4 red", "Instruction: Count"]
    found = side_by_side(models, prompts, seed=1, sampling=how)
    assert [one["prompt"] for one in found] == prompts
    assert all(one["marked"] != one["clean"] for one in found)
    assert found == side_by_side(models, prompts, seed=1, sampling=how)
    with pytest.raises(ArgumentError, match="no model may be called 'prompt'"):
        side_by_side({"prompt": model}, prompts, seed=1)


def test_what_cannot_be_asked(model, texts):
    with pytest.raises(ArgumentError, match="must have at most 512 tokens together"):
        ability(model, texts, seed=1, passage=500)
    with pytest.raises(ArgumentError, match="at least 4 pieces of 96 tokens"):
        ability(model, texts[:1], seed=1)


def test_benchmarks(model, tmp_path):
    """Real lm-eval on a task of our own, or how to install it."""
    if importlib.util.find_spec("lm_eval") is None:
        with pytest.raises(MissingExtraError, match=r"pip install 'radscore\[eval\]'"):
            benchmarks(model)
        return
    with pytest.raises(ArgumentError, match="humaneval runs what the model writes"):
        benchmarks(model)
    rows = [
        {"question": "Instruction: Name 4 red boats of winter.\nAnswer: There are", "right": i % 2}
        for i in range(6)
    ]
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "own.yaml").write_text(
        "task: own_choice\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.json'}}}}}\n"
        "test_split: test\n"
        "output_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\n'
        'doc_to_target: "{{right}}"\n'
        'doc_to_choice: ["4 boats in winter, and they are red", "qqqq zzzz"]\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    found = benchmarks(model, ["own_choice"], folder=tmp_path, batch_size=2)
    assert found["own_choice"]["acc"] == 0.5
    with pytest.raises(ModelError, match="lm-eval failed"):
        benchmarks(model, ["no_such_task"], folder=tmp_path)
