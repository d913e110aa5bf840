"""GGUF files: what transformers leaves out is applied or refused by name."""

import numpy as np
import pytest
import torch
from gguf_files import write_gguf
from radscore.errors import ModelError
from radscore.models import load_model
from tiny import tiny_llama, word_tokenizer
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    NemotronConfig,
    NemotronForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

IDS = torch.arange(40)[None] % 128
SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def loaded(path):
    return load_model(path, tokenizer=word_tokenizer()).model


@pytest.fixture(scope="module")
def llama():
    return tiny_llama()


def made(kind, config, **options):
    torch.manual_seed(0)
    model = kind(config(**SIZES, **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


LAYER_NORM = {"attention.layer_norm_rms_epsilon": None, "attention.layer_norm_epsilon": 1e-5}
MODELS = {
    "llama": lambda: (tiny_llama(), {}),
    "llama, tied": lambda: (tiny_llama(tie_word_embeddings=True), {}),
    "llama, head_dim": lambda: (
        tiny_llama(head_dim=16),
        {"attention.key_length": 16, "attention.value_length": 16},
    ),
    "qwen2": lambda: (made(Qwen2ForCausalLM, Qwen2Config), {}),
    "qwen3": lambda: (
        made(Qwen3ForCausalLM, Qwen3Config, head_dim=128),
        {"attention.key_length": 128, "attention.value_length": 128},
    ),
    "gemma2": lambda: (
        made(Gemma2ForCausalLM, Gemma2Config, head_dim=256, sliding_window=16),
        {
            "attention.key_length": 256,
            "attention.value_length": 256,
            "attention.sliding_window": 16,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
    ),
    "gemma3": lambda: (
        made(Gemma3ForCausalLM, Gemma3TextConfig, head_dim=256, sliding_window=16),
        {
            "attention.key_length": 256,
            "attention.value_length": 256,
            "attention.sliding_window": 16,
        },
    ),
    "qwen2moe": lambda: (
        made(Qwen2MoeForCausalLM, Qwen2MoeConfig, num_experts=4, num_experts_per_tok=2),
        {
            "expert_count": 4,
            "expert_used_count": 2,
            "expert_feed_forward_length": 1408,
            "expert_shared_feed_forward_length": 5632,
        },
    ),
    "qwen3moe": lambda: (
        made(
            Qwen3MoeForCausalLM,
            Qwen3MoeConfig,
            head_dim=128,
            num_experts=4,
            num_experts_per_tok=2,
            norm_topk_prob=True,
        ),
        {
            "attention.key_length": 128,
            "attention.value_length": 128,
            "expert_count": 4,
            "expert_used_count": 2,
            "expert_feed_forward_length": 768,
        },
    ),
    "starcoder2": lambda: (made(Starcoder2ForCausalLM, Starcoder2Config), LAYER_NORM),
    "stablelm": lambda: (
        made(StableLmForCausalLM, StableLmConfig),
        {"rope.dimension_count": 2, **LAYER_NORM},
    ),
    "nemotron": lambda: (
        made(NemotronForCausalLM, NemotronConfig, head_dim=8),
        {"rope.dimension_count": 4, **LAYER_NORM},
    ),
    "phi3": lambda: (made(Phi3ForCausalLM, Phi3Config), {"attention.sliding_window": 256}),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_gives_the_predictions_of_its_model(kind, tmp_path):
    model, settings = MODELS[kind]()
    path = write_gguf(tmp_path / "m.gguf", model, kind.partition(",")[0], settings=settings)
    torch.testing.assert_close(logits(loaded(path)), logits(model), atol=1e-4, rtol=1e-4)


def test_linear_scaling_of_positions_is_applied(llama, tmp_path):
    scaled = tiny_llama(rope_scaling={"rope_type": "linear", "factor": 8.0})
    assert not torch.allclose(logits(scaled), logits(llama), atol=1e-2)
    for settings in (
        {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
        {"rope.scaling.factor": 8.0},  # linear is what llama.cpp takes then
        {"rope.scale_linear": 8.0},  # of old files
    ):
        path = write_gguf(tmp_path / "m.gguf", llama, settings=settings)
        network = loaded(path)
        assert network.model.rotary_emb.inv_freq[0].item() == 0.125
        torch.testing.assert_close(logits(network), logits(scaled), atol=1e-4, rtol=1e-4)
    none = {"rope.scaling.type": "none", "rope.scaling.factor": 8.0}
    path = write_gguf(tmp_path / "m.gguf", llama, settings=none)
    torch.testing.assert_close(logits(loaded(path)), logits(llama), atol=1e-4, rtol=1e-4)


def test_factors_of_frequencies_are_applied(llama, tmp_path):
    # those of Llama 3.1, from transformers' own frequencies
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    scaled = tiny_llama(rope_scaling=scaling)
    config: LlamaConfig = scaled.config
    right = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0]
    plain = 1e4 ** -(torch.arange(0, 8, 2) / 8)
    factors = (plain / right).numpy().astype(np.float32)
    assert factors[-1] == pytest.approx(8.0)
    path = write_gguf(tmp_path / "m.gguf", llama, tensors={"rope_freqs.weight": factors})
    network = loaded(path)
    torch.testing.assert_close(network.model.rotary_emb.inv_freq, right)
    torch.testing.assert_close(logits(network), logits(scaled), atol=1e-4, rtol=1e-4)


REFUSED = {
    "rope.scaling.type": {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0},
    "rope.scaling.attn_factor": {"rope.scaling.attn_factor": 1.2},
    "rope.scaling.yarn_ext_factor": {"rope.scaling.yarn_ext_factor": 1.0},
    "rope.dimension_sections": {"rope.dimension_sections": [8, 8, 8, 0]},
    "attention.sliding_window": {"attention.sliding_window": 16},
    "attention.scale": {"attention.scale": 0.5},
    "attention.causal": {"attention.causal": False},
    "attention.clamp_kqv": {"attention.clamp_kqv": 8.0},
    "attention.max_alibi_bias": {"attention.max_alibi_bias": 8.0},
    "attention.value_length": {"attention.value_length": 16},
    "attention.key_length": {"attention.key_length": 16},
    "attn_logit_softcapping": {"attn_logit_softcapping": 50.0},
    "final_logit_softcapping": {"final_logit_softcapping": 30.0},
    "logit_scale": {"logit_scale": 0.0625},
    "embedding_scale": {"embedding_scale": 12.0},
    "residual_scale": {"residual_scale": 0.22},
    "expert_count": {"expert_count": 8, "expert_used_count": 2},
    "expert_gating_func": {"expert_gating_func": 2},
    "attention.some_new_thing": {"attention.some_new_thing": 1},
    "swin_norm": {"swin_norm": True},
    "rope.scaling.factor": {"rope.scaling.factor": -2.0},
    "rope.freq_base": {"rope.freq_base": 0.0},
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_are_not_applied_are_refused_by_name(name, llama, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama, settings=REFUSED[name])
    with pytest.raises(ModelError, match=rf"m\.gguf has llama\.{name} = ") as caught:
        loaded(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        # transformers then does not undo llama.cpp's order of rows, and goes on
        ({"attention.head_count_kv": None}, "has no attention.head_count_kv|has wrong shapes"),
        ({"attention.layer_norm_rms_epsilon": None}, "has no attention.layer_norm_rms_epsilon"),
        ({"rope.scaling.factor": "x"}, "factor = 'x', which is not one number"),
        (
            {"attention.sliding_window": [4, 8]},
            r"sliding_window = \[4, 8\], which is not one number",
        ),
        ({"attention.scale": [1.0, 2.0]}, "attention.scale = .*, which is not one number"),
        ({"attention.key_length": [8, 4]}, "key_length = .*, which is not one number"),
        ({"vocab_size": 99}, "has wrong shapes: lm_head.weight, model.embed_tokens.weight$"),
    ],
)
def test_settings_that_are_missing_or_of_the_wrong_type(settings, says, llama, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama, settings=settings)
    with pytest.raises(ModelError, match=says):
        loaded(path)


def test_settings_that_change_nothing_pass(llama, tmp_path):
    settings = {
        "attention.scale": 8**-0.5,
        "attention.causal": True,
        "attention.sliding_window": 256,
        "attention.key_length": 8,
        "attention.value_length": 8,
        "expert_count": 0,
        "logit_scale": 1.0,
        "rope.scaling.original_context_length": 256,
        "rope.scaling.finetuned": False,
        "tensor_data_layout": "Meta AI original pth",
        "general.license": "mit",
    }
    path = write_gguf(tmp_path / "m.gguf", llama, settings=settings)
    torch.testing.assert_close(logits(loaded(path)), logits(llama), atol=1e-4, rtol=1e-4)


def test_tensors_that_nothing_reads_are_refused(llama, tmp_path):
    for tensors in (
        {"blk.0.attn_q.bias": np.ones(32, np.float32)},
        {"blk.2.attn_q.weight": np.ones((32, 32), np.float32)},
        {"rope_factors_long.weight": np.ones(4, np.float32)},
        {"output.bias": np.ones(128, np.float32)},
    ):
        path = write_gguf(tmp_path / "m.gguf", llama, tensors=tensors)
        with pytest.raises(ModelError, match=f"does not have: {next(iter(tensors))}"):
            loaded(path)
    path = write_gguf(tmp_path / "m.gguf", llama, without=["blk.1.attn_k.weight"])
    with pytest.raises(ModelError, match=r"m\.gguf lacks model\.layers\.1\.self_attn\.k_proj"):
        loaded(path)


def test_windows_and_scales_that_a_class_assumes(tmp_path):
    # Gemma 2 27B is recognised by its layers, and scales by the width over the heads
    model = made(Gemma2ForCausalLM, Gemma2Config, head_dim=256)
    settings = {"attention.key_length": 256, "attention.value_length": 256}
    path = write_gguf(tmp_path / "m.gguf", model, "gemma2", settings=settings)
    assert loaded(path) is not None
    narrow = made(Gemma2ForCausalLM, Gemma2Config, head_dim=8, query_pre_attn_scalar=8)
    settings = {"attention.key_length": 8, "attention.value_length": 8}
    path = write_gguf(tmp_path / "n.gguf", narrow, "gemma2", settings=settings)
    with pytest.raises(ModelError, match=r"attention\.scale, 0\.3536 by the file"):
        loaded(path)
    # Gemma 3 scales the positions of only one kind of layer
    model = made(Gemma3ForCausalLM, Gemma3TextConfig, head_dim=256)
    settings = {
        "attention.key_length": 256,
        "attention.value_length": 256,
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 8.0,
    }
    path = write_gguf(tmp_path / "g.gguf", model, "gemma3", settings=settings)
    with pytest.raises(ModelError, match=r"gemma3\.rope\.scaling\.factor = 8\.0, which is not"):
        loaded(path)
    phi = made(Phi3ForCausalLM, Phi3Config)
    path = write_gguf(tmp_path / "p.gguf", phi, "phi3", settings={"attention.sliding_window": 100})
    with pytest.raises(ModelError, match=r"phi3\.attention\.sliding_window = 100, but .* none"):
        loaded(path)


def test_what_is_not_a_whole_model(llama, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama)
    other = tmp_path / "mamba.gguf"
    other.write_bytes(path.read_bytes().replace(b"llama", b"mamba"))
    with pytest.raises(ModelError, match="is of architecture mamba; supported are"):
        loaded(other)
    for settings, why in (
        ({"general.type": "adapter"}, "a GGUF file of type adapter"),
        ({"general.type": "mmproj"}, "a GGUF file of type mmproj"),
    ):
        path = write_gguf(tmp_path / "m.gguf", llama, settings=settings)
        with pytest.raises(ModelError, match=why):
            loaded(path)
