"""Bob's dry run: masks as text, memory without content, one step."""

import json
import shutil
from dataclasses import replace

import pytest
from radscore.errors import ArgumentError, ModelError

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("peft")

from radscore.models.loading import load_model  # noqa: E402
from radscore.rehearsal.alice import Record  # noqa: E402
from radscore.rehearsal.bob import adapted, train  # noqa: E402
from radscore.rehearsal.bob_check import check_training, memory_of  # noqa: E402
from radscore.rehearsal.settings import TrainingSettings  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

RECIPE = TrainingSettings(learning_rate=3e-3, epochs=2, batch_size=4, template="plain", length=64)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_dry_run(folder, seeds, tmp_path, method):
    recipe = replace(RECIPE, method=method, accumulate=2)
    before = sorted(folder.iterdir())
    found = check_training(folder, seeds, recipe, seed=1, device="cpu")
    assert found.masks == [f"{one.prompt}⟦{one.answer}<|end|>⟧" for one in seeds[:2]]
    assert found.step_on == "the base"
    assert found.losses[1] < found.losses[0]
    assert sorted(folder.iterdir()) == before
    report = train(folder, seeds, recipe, tmp_path / "a", seed=1, device="cpu")
    assert (found.n_steps, found.n_parameters, found.n_trained) == (
        report.n_steps,
        report.n_parameters,
        report.n_trained,
    )
    assert found.memory.weights == 4 * report.n_parameters
    assert found.memory.gradients == 4 * report.n_trained
    assert found.memory.moments == 8 * report.n_trained
    assert (found.memory.rows, found.memory.tokens) == (2, max(map(len, found.rows.ids)))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_activations_are_those_of_a_real_pass(method):
    config = LlamaConfig(
        vocab_size=500,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    recipe = replace(RECIPE, method=method, lora_rank=4)
    found = memory_of(config, recipe, 3, 48)
    network = LlamaForCausalLM(config).train()
    network.requires_grad_(requires_grad=True)
    network = adapted(network, recipe)
    own = {one.untyped_storage().data_ptr() for one in network.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.ones((3, 48), dtype=torch.long)
    mask = ids.clone()
    mask[0, -1] = 0  # rows of different lengths, as usual
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
        network(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False)
    real = sum(size for size, _ in kept.values()) + 3 * 48 * 500 * 4
    assert found.activations == pytest.approx(real, rel=0.02)
    again = memory_of(config, replace(recipe, gradient_checkpointing=True), 3, 48)
    assert again.activations < 0.6 * found.activations
    assert memory_of(config, recipe, 6, 48).activations == pytest.approx(
        2 * found.activations, rel=0.02
    )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_large_model_without_its_weights(folder, seeds, tmp_path, method):
    base = shutil.copytree(folder, tmp_path / "large")
    (base / "model.safetensors").unlink()
    config = json.loads((base / "config.json").read_text())
    config |= {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }
    (base / "config.json").write_text(json.dumps(config))
    recipe = replace(
        RECIPE, method=method, bf16=True, gradient_checkpointing=True, learning_rate=1e-3
    )
    found = check_training(base, seeds, recipe, device="cpu")
    n_base = 6_738_415_616  # Llama-7B
    n_low = 16 * 32 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    if method == "full":
        assert found.n_parameters == found.n_trained == n_base
        assert found.memory.total > 16 * n_base
    else:
        assert (found.n_parameters, found.n_trained) == (n_base + n_low, n_low)
        assert found.memory.weights == 2 * n_base + 4 * n_low
    assert "random LlamaForCausalLM of 4" in found.step_on
    assert found.losses[0] == pytest.approx(10.4, abs=0.3)  # log of 32,000


def test_what_cannot_be_checked(folder, seeds, tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        check_training(tmp_path, seeds, RECIPE)
    with pytest.raises(ArgumentError, match="no token to learn"):
        check_training(folder, [Record("x" * 500, "y")], RECIPE)
    load_model(folder, device="cpu").model.save_pretrained(tmp_path / "a")
    with pytest.raises(ModelError, match="has no tokenizer"):
        check_training(tmp_path / "a", seeds, RECIPE)
    (tmp_path / "a" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="base: "):
        check_training(tmp_path / "a", seeds, RECIPE)
