"""GGUF files of tiny models, written with the gguf package."""

import gguf
import numpy as np


def write_gguf(path, model, arch="llama", *, settings=None, tensors=None, without=(), pre="gpt-2"):
    """A model's weights and settings, as llama.cpp's converter writes them.

    `settings` are further ones (None leaves one out), named without the architecture; a float, int,
    str, bool or list. `tensors` are further tensors.
    """
    config = model.config
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    stated = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": groups,
        "attention.layer_norm_rms_epsilon": float(getattr(config, "rms_norm_eps", 0.0)),
        "rope.freq_base": float(theta(config)),
        "rope.dimension_count": head,
        "vocab_size": config.vocab_size,
        **(settings or {}),
    }
    writer = gguf.GGUFWriter(path, arch)
    for key, value in stated.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
        add |= {str: writer.add_string, list: writer.add_array}
        if value is not None:
            add[type(value)](key if key.startswith("general.") else f"{arch}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_pad_token_id(0)
    kind = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    weights = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = value.float().numpy()
        if key.endswith("mlp.experts.gate_up_proj"):
            layer, half = key.split(".")[2], array.shape[1] // 2
            weights[f"blk.{layer}.ffn_gate_exps.weight"] = array[:, :half]
            weights[f"blk.{layer}.ffn_up_exps.weight"] = array[:, half:]
            continue
        if key.endswith("mlp.experts.down_proj"):
            weights[f"blk.{key.split('.')[2]}.ffn_down_exps.weight"] = array
            continue
        written = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if arch == "llama" and ("attn_q.weight" in written or "attn_k.weight" in written):
            array = permuted(array, heads if "attn_q" in written else groups)
        if "ffn_gate_inp_shexp" in written:
            array = array[0]
        if arch.startswith(("gemma", "nemotron")) and written.endswith("norm.weight"):
            array = array + 1
        weights[written] = array
    for key, array in (weights | (tensors or {})).items():
        if key not in without:
            writer.add_tensor(key, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def theta(config):
    """The rotary base, wherever this release of transformers keeps it."""
    parameters = getattr(config, "rope_parameters", None) or {}
    parameters = parameters.get("full_attention", parameters)
    return parameters.get("rope_theta") or config.rope_theta


def permuted(weights, heads):
    """Rows in llama.cpp's order: both halves of a head side by side."""
    rows = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, rows, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)
