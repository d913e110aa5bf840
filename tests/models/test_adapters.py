"""Adapters: all of a file goes into the network, or the adapter is refused by name."""

import shutil
from functools import partial

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from radscore.errors import ModelError
from radscore.models import as_language_model, load_model
from radscore.models.adapters import READABLE_KINDS
from safetensors.torch import load_file, save_file
from tiny import altered, logits, renamed, save_folder, tiny_llama
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

TARGETS = {"target_modules": ["q_proj", "v_proj"]}
#: What a kind needs beside its targets, at this size.
OPTIONS = {
    "ADALORA": {"init_r": 4, "target_r": 2, "total_step": 10, "tinit": 1, "tfinal": 1, **TARGETS},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2},
    "C3A": {"block_size": 8, **TARGETS},
    "FOURIERFT": {"n_frequency": 10, **TARGETS},
    "IA3": {"target_modules": ["v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "MISS": {"r": 8, **TARGETS},
    "PSOFT": {"r": 8, **TARGETS},
    "ROAD": {"group_size": 16, **TARGETS},
    "SHIRA": {"r": 4, **TARGETS},
    "TRAINABLE_TOKENS": {"token_indices": [1, 2, 3]},
    "VBLORA": {"r": 4, "num_vectors": 8, "vector_length": 8, "topk": 2, **TARGETS},
    "WAVEFT": {"n_frequency": 10, **TARGETS},
    "CARTRIDGE": {"num_virtual_tokens": 3},
    "CPT": {"cpt_token_ids": [1, 2], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 1]},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 3, "num_tasks": 2},
    "P_TUNING": {"num_virtual_tokens": 3, "encoder_hidden_size": 16},
    "PREFIX_TUNING": {"num_virtual_tokens": 3},
    "PROMPT_TUNING": {"num_virtual_tokens": 3},
    "POLY": {"r": 4, "n_tasks": 2, "n_skills": 2, **TARGETS},
    "XLORA": {"adapters": {"one": "nowhere"}},
}
CONFIGS = {str(kind.value): made for kind, made in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


# peft uses names that transformers has changed, and warns about what it saves
pytestmark = pytest.mark.filterwarnings("ignore")


def trained(base, config):
    """An adapter as training leaves it: all its weights have moved."""
    torch.manual_seed(1)
    network = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    adapted = get_peft_model(network, config).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return adapted


def config_of(kind):
    return CONFIGS[kind](task_type="CAUSAL_LM", **OPTIONS.get(kind, TARGETS))


@pytest.mark.parametrize("kind", sorted(READABLE_KINDS & set(CONFIGS)))
def test_supported_kinds_predict_what_was_trained(kind, base, tmp_path):
    adapted = trained(base, config_of(kind))
    adapted.save_pretrained(tmp_path)
    torch.manual_seed(2)  # nothing is drawn again
    model = load_model(tmp_path)
    got, right = logits(model.model), logits(adapted)
    assert got.shape == (1, 8, 128)
    torch.testing.assert_close(got, right, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(got, logits(load_model(base).model), atol=1e-3)


@pytest.mark.parametrize("kind", sorted(set(CONFIGS) - READABLE_KINDS))
def test_all_other_kinds_of_the_installed_peft_are_refused(kind, base, tmp_path):
    config = config_of(kind)
    config.base_model_name_or_path = str(base)
    config.save_pretrained(tmp_path)
    save_file({"weight": torch.ones(2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=rf"is of kind {kind}, which .*, so is not supported$"):
        load_model(tmp_path)


def test_networks_made_elsewhere_are_of_supported_kinds(base):
    for kind in ("PREFIX_TUNING", "PROMPT_TUNING", "POLY"):
        adapted = get_peft_model(tiny_llama(), config_of(kind))
        with pytest.raises(ModelError, match=f"PeftModelForCausalLM has an adapter of kind {kind}"):
            as_language_model(adapted)
    adapted = trained(base, config_of("LORA"))
    assert torch.equal(logits(as_language_model(adapted).model), logits(adapted))


LORAS = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "modules_to_save": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "tokens": {"trainable_token_indices": [1, 2, 3]},
    "one layer": {"layers_to_transform": [1]},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "bias": {"bias": "all"},
    "parameters": {"target_parameters": ["o_proj.weight"]},
    "replication": {"layer_replication": [(0, 2), (0, 2)]},
    "without task": {"task_type": None},
}


@pytest.mark.parametrize("kind", LORAS)
def test_variants_of_lora(kind, base, tmp_path):
    adapted = trained(base, LoraConfig(**{"task_type": "CAUSAL_LM", **TARGETS, **LORAS[kind]}))
    adapted.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(load_model(tmp_path).model), logits(adapted))


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter")
    trained(base, LoraConfig(task_type="CAUSAL_LM", **TARGETS)).save_pretrained(path)
    return path


altered = partial(altered, config="adapter_config.json")


LOST = {
    "torch.compile": (renamed(".model.", ".model._orig_mod."), "8 of the 8 .*_orig_mod"),
    "inner compile": (renamed(".model.model.", ".model.model._orig_mod."), "8 of the 8"),
    "DDP": (renamed("base_model.", "module.base_model."), "8 of the 8 .* module.base_model"),
    "both": (renamed("base_model.", "module._orig_mod.base_model."), "8 of the 8"),
    "FSDP": (renamed("base_model.", "_fsdp_wrapped_module.base_model."), "8 of the 8"),
    "some": (renamed(".model.", "._orig_mod.", "layers.0"), "4 of the 8 .*layers.0"),
    "one more": (lambda w: w | {"odd.weight": torch.ones(2)}, "1 of the 9 .*: odd.weight"),
    "half": (lambda w: {k: v for k, v in w.items() if "layers.0" in k}, "lacks .*layers.1"),
    "named": (renamed(".weight", ".default.weight"), "lacks weights"),
    "none": (lambda w: {}, "holds no weights"),
    "rank": (lambda w: {k: v[:4, :] if "A" in k else v[:, :4] for k, v in w.items()}, "mismatch"),
    "int8": (lambda w: {k: (v * 99).to(torch.int8) for k, v in w.items()}, "as int8, without its"),
    "fp8": (lambda w: {k: v.to(torch.float8_e4m3fn) for k, v in w.items()}, "as float8_e4m3fn"),
    "NaN": (lambda w: {k: v * float("nan") for k, v in w.items()}, "is not what was loaded"),
}


@pytest.mark.parametrize("kind", LOST)
def test_adapters_of_which_something_has_no_place(kind, adapter, tmp_path):
    change, match = LOST[kind]
    path = altered(adapter, tmp_path / "a", change)
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_adapters_of_another_base(adapter, base, tmp_path):
    for layers, match in ((1, "4 of the 8 .* no place .*layers.1"), (4, "lacks .*layers.2")):
        other = save_folder(tmp_path / str(layers), tiny_llama(num_hidden_layers=layers))
        with pytest.raises(ModelError, match=match):
            load_model(adapter, base=other)
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=128, n_embd=32, n_layer=2, n_head=2))
    with pytest.raises(ModelError, match="does not fit"):
        load_model(adapter, base=save_folder(tmp_path / "gpt", gpt))
    both = shutil.copytree(adapter, tmp_path / "both")
    shutil.copy(base / "model.safetensors", both)
    with pytest.raises(ModelError, match=r"an adapter and model\.safetensors: it is not clear"):
        load_model(both)


def test_files_that_are_missing_or_not_supported(adapter, tmp_path):
    path = shutil.copytree(adapter, tmp_path / "more")
    torch.save({"embed": torch.ones(2)}, path / "non_lora_trainables.bin")
    with pytest.raises(ModelError, match=r"with non_lora_trainables\.bin beside it"):
        load_model(path)
    path = shutil.copytree(adapter, tmp_path / "less")
    (path / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"without weights: it lacks adapter_model\.safetensors"):
        load_model(path)


def test_configurations_that_say_more_than_is_done(adapter, tmp_path):
    for i, (settings, match) in enumerate(
        (
            ({"use_something_new": True}, "made with use_something_new, which the installed"),
            ({"task_type": "SEQ_CLS"}, "for the task SEQ_CLS"),
            ({"alora_invocation_tokens": [1, 2]}, "with alora_invocation_tokens, which"),
            ({"arrow_config": {"top_k": 2}}, "with arrow_config, which mixes"),
            ({"init_lora_weights": "pissa_niter_4"}, "a base that was changed"),
            ({"init_lora_weights": "corda"}, "a base that was changed"),
            ({"target_modules": ["q_proj"]}, "4 of the 8 weights"),
            ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, "lacks weights .*k_proj"),
            ({"peft_type": "SOMETHING"}, "of kind SOMETHING"),
        )
    ):
        with pytest.raises(ModelError, match=match):
            load_model(altered(adapter, tmp_path / str(i), **settings))
    right = load_model(adapter).fingerprint
    assert load_model(altered(adapter, tmp_path / "new", use_new=False)).fingerprint == right


def test_files_of_other_formats_and_numbers(adapter, base, tmp_path):
    pickled = shutil.copytree(adapter, tmp_path / "bin")
    weights = load_file(pickled / "adapter_model.safetensors")
    (pickled / "adapter_model.safetensors").unlink()
    torch.save(weights, pickled / "adapter_model.bin")
    assert load_model(pickled).fingerprint == load_model(adapter).fingerprint
    half = altered(adapter, tmp_path / "half", lambda w: {k: v.bfloat16() for k, v in w.items()})
    network = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    right = PeftModel.from_pretrained(network, half)
    torch.testing.assert_close(logits(load_model(half).model), logits(right))
    assert load_model(half, dtype="bfloat16").dtype == torch.bfloat16
