"""Folders: every weight in the files is in the network, and nothing else is."""

import json
import math
import shutil

import pytest
import torch
from radscore.errors import ModelError
from radscore.models import load_model
from safetensors.torch import load_file, save_file
from tiny import altered, logits, renamed, save_folder, tiny_llama
from transformers import AutoModelForCausalLM

Q = "model.layers.0.self_attn.q_proj"
FREQUENCIES = 1e4 ** -(torch.arange(0, 8, 2) / 8)


def output(path):
    return logits(load_model(path).model)


def with_(**weights):
    return lambda w: w | {name.replace("__", "."): value for name, value in weights.items()}


def gptq(weights):
    left = {k: v for k, v in weights.items() if k != f"{Q}.weight"}
    packed = torch.zeros(4, 4, dtype=torch.int32)
    return left | {f"{Q}.{name}": packed for name in ("qweight", "qzeros", "scales", "g_idx")}


def int8(weights):
    scaled = (weights[f"{Q}.weight"] * 10).to(torch.int8)
    return weights | {f"{Q}.weight": scaled, f"{Q}.SCB": torch.ones(32)}


def fp8(weights, scales=True):
    made = {}
    for name, value in weights.items():
        if "proj" not in name:
            made[name] = value
            continue
        scale = value.abs().max() / 448
        made[name] = (value / scale).to(torch.float8_e4m3fn)
        if scales:
            blocks = [math.ceil(n / 32) for n in value.shape]
            made[f"{name}_scale_inv"] = torch.full(blocks, float(scale))
    return made


UNUSED = {
    "a layer more": (
        with_(model__layers__2__self_attn__q_proj__weight=torch.ones(32, 32)),
        "layers.2",
    ),
    "a bias": (with_(model__layers__0__self_attn__q_proj__bias=torch.ones(32)), "q_proj.bias"),
    "a head": (with_(value_head__weight=torch.ones(1, 32)), "value_head.weight"),
    "no mask": (with_(model__layers__0__attn__bias=torch.ones(1, 1, 4, 4)), "attn.bias"),
    "no positions": (with_(model__position_ids=torch.ones(9)), "model.position_ids"),
    "int8 and scale": (int8, "SCB"),
    "fp8 and scales": (fp8, "weight_scale_inv and"),
    "GPTQ": (gptq, f"lack {Q}.weight"),
    "no output layer": (
        lambda w: {k: v for k, v in w.items() if "lm_head" not in k},
        "lack lm_head",
    ),
    "compiled": (lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}, "lack lm_head"),
    "wrapped": (lambda w: {f"module.{k}": v for k, v in w.items()}, "lack lm_head"),
    "int8 alone": (lambda w: w | {f"{Q}.weight": w[f"{Q}.weight"].to(torch.int8)}, "as I8, but"),
    "fp8 alone": (
        lambda w: fp8(w, scales=False),
        "as F8_E4M3, but there is no quantization_config",
    ),
    "bool": (lambda w: w | {"model.norm.weight": torch.ones(32) > 0}, "as BOOL"),
    "int64": (lambda w: w | {"model.norm.weight": torch.ones(32, dtype=torch.long)}, "as I64"),
    "shape": (lambda w: w | {"model.norm.weight": torch.ones(16)}, "wrong shape at model.norm"),
    "frequencies": (
        with_(model__layers__0__self_attn__rotary_emb__inv_freq=FREQUENCIES / 2),
        "the frequencies .*inv_freq are not those",
    ),
}


@pytest.mark.parametrize("kind", UNUSED)
def test_weights_that_are_not_those_of_the_network(kind, base, tmp_path):
    change, match = UNUSED[kind]
    path = altered(base, tmp_path / "m", change)
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    # the same with a torch.save file
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    match = match.replace("I8", "int8").replace("I64", "int64").replace("BOOL", "bool")
    with pytest.raises(ModelError, match=match.replace("F8_E4M3", "float8_e4m3fn")):
        load_model(path)


HARMLESS = {
    "frequencies": with_(model__layers__0__self_attn__rotary_emb__inv_freq=FREQUENCIES),
    "rounded": with_(model__layers__0__self_attn__rotary_emb__inv_freq=FREQUENCIES.bfloat16()),
    "mask": with_(model__layers__0__attn__bias=torch.ones(1, 1, 9, 9).tril().bool()),
    "masked": with_(model__layers__0__attn__masked_bias=torch.tensor(-1e4)),
    "positions": with_(model__position_ids=torch.arange(9)[None]),
    "batches": with_(model__layers__0__num_batches_tracked=torch.tensor(7)),
    "without prefix": renamed("model.", ""),
    "float64": lambda w: {k: v.double() for k, v in w.items()},
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_extras_pass(kind, base, tmp_path):
    path = altered(base, tmp_path / "m", HARMLESS[kind])
    assert torch.equal(output(path), output(base))


SETTINGS = (
    ({"num_hidden_layers": 1}, "does not have: .*layers.1"),
    ({"num_hidden_layers": 3}, "lack .*layers.2"),
    ({"intermediate_size": 32}, "wrong shape at .*mlp"),
    ({"num_key_value_heads": 4}, "wrong shape at .*k_proj"),
    ({"vocab_size": 64}, "wrong shape at lm_head"),
    ({"architectures": ["MistralForCausalLM"]}, "holds MistralForCausalLM, but its model_type"),
    ({"sliding_window": 16}, "config.json has sliding_window = 16, which LlamaForCausalLM does"),
    ({"final_logit_softcapping": 30.0}, "config.json has final_logit_softcapping = 30.0"),
    ({"num_local_experts": 8}, "config.json has num_local_experts = 8"),
    ({"quantization_config": {"quant_method": "new"}}, "quantized by 'new', which"),
    ({"quantization_config": {"bits": 4}}, "cannot be loaded: .*quant_method"),
)


@pytest.mark.parametrize(("settings", "match"), SETTINGS)
def test_a_configuration_of_another_network(settings, match, base, tmp_path):
    with pytest.raises(ModelError, match=match):
        load_model(altered(base, tmp_path / "m", **settings))


def test_settings_that_change_nothing(base, tmp_path):
    settings = {"sliding_window": 256, "logit_scale": 1.0, "num_experts": 0, "sampling": 3}
    assert torch.equal(output(altered(base, tmp_path / "m", **settings)), output(base))


def test_weights_of_an_adapter_that_is_not_described(base, tmp_path):
    path = altered(base, tmp_path / "m")
    save_file({"odd": torch.ones(2)}, path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors, but no adapter_config"):
        load_model(path)


def test_tied_weights(base, tmp_path):
    tied = save_folder(tmp_path / "tied", tiny_llama(tie_word_embeddings=True))
    right = output(tied)
    same = altered(
        tied, tmp_path / "same", lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"]}
    )
    assert torch.equal(output(same), right)
    # the folder's own output layer is used or refused, never replaced by the embeddings
    other = altered(base, tmp_path / "other", tie_word_embeddings=True)
    try:
        got = output(other)
    except ModelError:
        got = None
    assert got is None or torch.equal(got, output(base))


def test_weights_that_a_quantization_explains(base, tmp_path):
    config = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    right = altered(base, tmp_path / "right", fp8, quantization_config=config)
    plain = AutoModelForCausalLM.from_pretrained(right, dtype=torch.float32)
    assert torch.equal(output(right), logits(plain))
    assert not torch.equal(output(right), output(base))
    assert torch.allclose(output(right), output(base), atol=0.5)
    for name, change in (("lost", lambda w: fp8(w, scales=False)), ("int8", int8)):
        path = altered(base, tmp_path / name, change, quantization_config=config)
        if name == "int8":
            with pytest.raises(ModelError, match="SCB"):
                load_model(path)
            continue
        with pytest.raises(ModelError, match="as F8_E4M3, but its scales are missing"):
            load_model(path)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    path = tmp_path_factory.mktemp("parts")
    tiny_llama().save_pretrained(path, max_shard_size="30KB")
    return path


def test_weights_in_parts(base, parts, tmp_path):
    assert torch.equal(output(parts), output(base))
    names = sorted(file.name for file in parts.glob("model-*"))
    assert len(names) > 2

    def refused(name, match, change):
        path = shutil.copytree(parts, tmp_path / name)
        change(path)
        with pytest.raises(ModelError, match=match):
            load_model(path)

    def add(path):
        weights = load_file(path / names[0]) | {"odd.weight": torch.ones(2)}
        save_file(weights, path / names[0], {"format": "pt"})

    def stale(path):
        save_file({"odd.weight": torch.ones(2)}, path / "model-00009-of-00009.safetensors")

    def twice(path):
        weights = load_file(path / names[0]) | load_file(path / names[1])
        save_file(weights, path / names[0], {"format": "pt"})

    refused("more", "does not have: odd.weight", add)
    refused("stale", "model-00009-of-00009.safetensors, which .*index.json does not list", stale)
    refused("twice", "in two files", twice)
    refused(
        "whole",
        "holds model.safetensors and model-00001",
        lambda p: shutil.copy(base / "model.safetensors", p),
    )
    refused("lacking", "cannot be loaded", lambda p: (p / names[1]).unlink())


def test_files_of_torch_save(base, tmp_path):
    weights = load_file(base / "model.safetensors")
    for name, zipped in (("new", True), ("old", False)):
        path = tmp_path / name
        path.mkdir()
        shutil.copy(base / "config.json", path)
        torch.save(weights, path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        assert torch.equal(output(path), output(base))
    (path / "pytorch_model.bin").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"old cannot be loaded: pytorch_model\.bin"):
        load_model(path)


def test_what_git_lfs_has_not_fetched(tmp_path):
    save_folder(tmp_path)
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        with pytest.raises(ModelError, match=f"{name}: only points to a file in Git LFS"):
            load_model(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"architectures": {"a": 1}}, "not a causal language model"),
        ({"architectures": "LlamaModel"}, "holds LlamaModel, which is not a causal"),
        ({"sliding_window": "4"}, "sliding_window = '4', which"),
        ({"sliding_window": [4, 4]}, r"sliding_window = \[4, 4\], which"),
    ],
)
def test_settings_of_the_wrong_type(tmp_path, settings, says):
    config = json.loads((save_folder(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | settings))
    with pytest.raises(ModelError, match=says):
        load_model(tmp_path)
