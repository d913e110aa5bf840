"""GGUF files: whether a file's tensors and settings are those of the network made from it.

transformers reads some of a file's settings and drops tensors that it has no place for. Here all of
them are compared with the network: what agrees passes, the scaling of rotary frequencies is
applied, and everything else is refused by name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ModelError, line_of, some_of
from radscore.extras import need
from radscore.models.library import check_fetched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["GgufFile", "read_gguf"]

#: Architectures whose settings are compared; others have settings of their own.
# fmt: off
_ARCHITECTURES: Final = frozenset(
    [
        "llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gemma2", "gemma3", "phi3",
        "starcoder2", "stablelm", "nemotron",
    ]
)
# fmt: on
#: Settings that only describe, or that the shapes of the tensors show anyway.
_NO_MATTER: Final = ("context_length", "tensor_data_layout", "feed_forward_length", "vocab_size")
#: What configurations call a setting, and the values that change nothing if they have none.
_SAME: Final[dict[str, tuple[tuple[str, ...], tuple[float, ...]]]] = {
    "embedding_length": (("hidden_size",), ()),
    "block_count": (("num_hidden_layers",), ()),
    "attention.head_count": (("num_attention_heads",), ()),
    "expert_count": (("num_experts", "num_local_experts"), (0,)),
    "expert_used_count": (("num_experts_per_tok",), (0,)),
    "expert_feed_forward_length": (("moe_intermediate_size",), (0,)),
    "expert_shared_feed_forward_length": (("shared_expert_intermediate_size",), (0,)),
    "expert_weights_norm": (("norm_topk_prob",), (0,)),
    "expert_weights_scale": (("routed_scaling_factor",), (0, 1)),
    "attn_logit_softcapping": (("attn_logit_softcapping",), (0,)),
    "final_logit_softcapping": (("final_logit_softcapping",), (0,)),
    "embedding_scale": (("embedding_multiplier",), (0, 1)),
    "residual_scale": (("residual_multiplier",), (0, 1)),
    "logit_scale": ((), (0, 1)),
    "use_parallel_residual": (("use_parallel_residual", "parallel_attn"), ()),
    "attention.causal": ((), (1,)),
    "attention.clamp_kqv": ((), (0,)),
    "attention.max_alibi_bias": ((), (0,)),
    "attention.sliding_window_pattern": (("_sliding_window_pattern", "sliding_window_pattern"), ()),
}
#: Numbers of layers of the sizes whose attention is scaled by the width over the heads, not by a
#: head's own width.
_WIDE_SCALE: Final = {"gemma2": 46, "gemma3": 62}
_FREQUENCIES: Final = "rope_freqs.weight"
#: llama.cpp's rotary base for files that state none.
_BASE: Final = 10_000.0


def read_gguf(path: Path) -> GgufFile:
    """Reads the settings of a file, and maps its tensors.

    Raises
    ------
    ModelError
        If it is not a GGUF file, not a whole model, or of an unsupported architecture.
    """
    need("gguf", what="a GGUF file")
    check_fetched(path)
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        settings = {
            name: field.contents()
            for name, field in reader.fields.items()
            if not name.startswith("tokenizer.")
        }
        n_parts = int(settings.get("split.count") or 1)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise ModelError(f"model: {path} cannot be loaded: {line_of(error)}") from error
    kind = settings.get("general.type", "model")
    if kind != "model" or "adapter.type" in settings:
        raise ModelError(f"model: {path} is a GGUF file of type {kind}, not a whole model")
    if n_parts > 1:
        raise ModelError(
            f"model: {path} is one of {n_parts} parts of a model; merge them first "
            "(llama-gguf-split --merge)"
        )
    architecture = str(settings.get("general.architecture"))
    if architecture not in _ARCHITECTURES:
        raise ModelError(
            f"model: {path} is of architecture {architecture}; supported are "
            f"{', '.join(sorted(_ARCHITECTURES))}"
        )
    return GgufFile(path, architecture, settings, {t.name: t for t in reader.tensors})


class GgufFile:
    """What a file states, to be compared with a network.

    Every setting has to be used up by a comparison: one that nothing looked at is refused.

    Parameters
    ----------
    path : Path
        For messages.
    architecture : str
        The prefix of its settings.
    settings : dict
        All metadata but the tokenizer's.
    tensors : dict
        gguf's tensors by name.
    """

    def __init__(
        self, path: Path, architecture: str, settings: dict[str, Any], tensors: dict[str, Any]
    ) -> None:
        self._path = path
        self._architecture = architecture
        prefix = f"{architecture}."
        self._settings = {
            name.removeprefix(prefix): _single(value)
            for name, value in settings.items()
            if name.startswith(prefix)
        }
        self._tensors = tensors
        self._left = set(self._settings) - set(_NO_MATTER)

    def fit(self, network: Any) -> None:
        """Compares everything with a network, and scales its rotary frequencies as the file says.

        Raises
        ------
        ModelError
            If a tensor or a setting of the file is not in the network.
        """
        self._check_tensors(network)
        config = network.config.get_text_config(decoder=True)
        self._check_named(config)
        self._check_heads(config)
        self._check_norms(network)
        self._check_window(config)
        self._check_scale(network, config)
        self._fit_rotary(network, config)
        if self._left:
            raise self._refusal(min(self._left), "which is not applied here")

    def _take(self, name: str, otherwise: Any = None) -> Any:
        """A setting, which is then used up."""
        self._left.discard(name)
        return self._settings.get(name, otherwise)

    def _number(self, name: str, otherwise: float = 0) -> float:
        """A setting that is a number, the same for all layers, which is then used up."""
        value = self._take(name, otherwise)
        try:
            return float(value or 0)
        except (TypeError, ValueError):
            raise self._refusal(name, "which is not one number") from None

    def _refusal(self, name: str, why: str) -> ModelError:
        value = self._settings.get(name)
        stated = f"{self._architecture}.{name} = {value!r}" if name in self._settings else name
        return ModelError(f"model: {self._path} has {stated}, {why}")

    def _check_tensors(self, network: Any) -> None:
        """Raises if a tensor has no place in the network."""
        from transformers import modeling_gguf_pytorch_utils as legacy

        kind = legacy.TENSOR_PROCESSORS.get(self._architecture, legacy.TensorProcessor)
        places_of: Any = legacy.get_gguf_hf_weights_map
        processor: Any = kind
        places = places_of(network, processor(config=network.config.to_dict()))
        # experts that are held as one parameter have no suffix
        known = {*places, *(f"{name}.weight" for name in places if name.endswith("_exps"))}
        lost = set(self._tensors) - known - {_FREQUENCIES}
        tied = network.config.get_text_config(decoder=True).tie_word_embeddings
        if tied and "output.weight" in self._tensors:
            self._check_tied()
            lost.discard("output.weight")
        if lost:
            raise ModelError(
                f"model: {self._path} holds tensors that {type(network).__name__} does not have: "
                f"{some_of(sorted(lost), 3)}"
            )

    def _check_tied(self) -> None:
        import numpy as np
        from gguf import dequantize

        one, other = self._tensors["output.weight"], self._tensors.get("token_embd.weight")
        if other is None or not np.array_equal(
            dequantize(one.data, one.tensor_type), dequantize(other.data, other.tensor_type)
        ):
            raise ModelError(
                f"model: {self._path} has an output.weight of its own, which transformers would "
                "replace by token_embd.weight"
            )

    def _check_named(self, config: Any) -> None:
        """Raises if a setting differs from the one that the configuration has for it."""
        for name, (attributes, harmless) in _SAME.items():
            if name not in self._settings:
                continue
            value = self._take(name)
            held = [getattr(config, one) for one in attributes if hasattr(config, one)]
            if held and _same(value, held[0]):
                continue
            if not held and value in harmless:
                continue
            if held and held[0] in (None, 0) and value in harmless:
                continue
            what = f"but the network has {held[0]!r}" if held else "which is not applied here"
            raise self._refusal(name, what)
        if self._take("expert_gating_func", 1) != 1:  # softmax
            raise self._refusal("expert_gating_func", "which is not applied here")

    def _check_heads(self, config: Any) -> None:
        if self._architecture == "llama" and "attention.head_count_kv" not in self._settings:
            # transformers then leaves the rows of queries and keys in llama.cpp's order
            raise self._refusal("no attention.head_count_kv", "without which it is misread")
        heads = int(config.num_attention_heads)
        held = getattr(config, "num_key_value_heads", None) or heads
        if self._take("attention.head_count_kv", heads) != held:
            raise self._refusal("attention.head_count_kv", f"but the network has {held}")
        width = self._head_width(config)
        own = getattr(config, "head_dim", None) or config.hidden_size // heads
        if own != width:
            raise self._refusal("attention.key_length", f"but the network has heads of {own}")
        if self._take("attention.value_length", width) != own:
            raise self._refusal("attention.value_length", f"but the network has heads of {own}")

    def _head_width(self, config: Any) -> int:
        otherwise = config.hidden_size // config.num_attention_heads
        return int(self._number("attention.key_length", otherwise))

    def _check_norms(self, network: Any) -> None:
        names = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
        if not set(names) & set(self._settings):
            raise self._refusal(f"no {names[0]}", "which the network needs")
        for name in names:
            if name not in self._settings:
                continue
            stated = self._number(name)
            for module in network.modules():
                held = getattr(module, "variance_epsilon", getattr(module, "eps", None))
                if isinstance(held, float) and not math.isclose(held, stated, rel_tol=1e-5):
                    raise self._refusal(name, f"but the network has {held:g}")

    def _check_window(self, config: Any) -> None:
        """Raises if attention windows differ, unless both are as long as the context."""
        stated = int(self._number("attention.sliding_window"))
        held = int(getattr(config, "sliding_window", None) or 0)
        if held and getattr(config, "use_sliding_window", True) is False:
            held = 0
        longest = int(self._settings.get("context_length") or config.max_position_embeddings or 0)
        stated, held = (0 if one >= longest else one for one in (stated, held))
        if stated != held:
            raise self._refusal("attention.sliding_window", f"but the network has {held or 'none'}")

    def _check_scale(self, network: Any, config: Any) -> None:
        """Raises unless attention is scaled as the file says, or as llama.cpp does at this size."""
        stated = self._number("attention.scale")
        held = {float(m.scaling) for m in network.modules() if isinstance(_scaling(m), float)}
        if not stated:
            if self._architecture not in _WIDE_SCALE:
                return
            width = self._head_width(config)
            if config.num_hidden_layers == _WIDE_SCALE[self._architecture]:
                width = config.hidden_size // config.num_attention_heads
            stated = width**-0.5
        if not held or any(not math.isclose(one, stated, rel_tol=1e-4) for one in held):
            raise self._refusal(
                "attention.scale", f"{stated:.4g} by the file, but the network has another"
            )

    def _fit_rotary(self, network: Any, config: Any) -> None:
        """Raises unless the rotary frequencies are the file's; scales them if it says so."""
        factor = self._linear_factor()
        divisors = self._divisors()
        scaled = factor != 1 or divisors is not None
        found = {
            name: module
            for name, module in network.named_modules()
            if any(one.endswith("inv_freq") for one, _ in module.named_buffers(recurse=False))
        }
        stated = [name for name in self._settings if name.startswith("rope.")]
        base, width = self._number("rope.freq_base", _BASE), self._number("rope.dimension_count")
        local = self._number("rope.freq_base_swa", _BASE)
        for name, value in (
            ("freq_base", base),
            ("freq_base_swa", local),
            ("scaling.factor", factor),
        ):
            if not 0 < value < math.inf:
                raise self._refusal(f"rope.{name}", "which is not a positive number")
        if not found:
            if stated or scaled:
                name = stated[0] if stated else _FREQUENCIES
                raise self._refusal(name, "but the network has no rotary positions")
            return
        width = int(width or self._head_width(config))
        for module in found.values():
            for name, held in module.named_buffers(recurse=False):
                if name.endswith("original_inv_freq") or not name.endswith("inv_freq"):
                    continue
                sliding = name.startswith("sliding_attention")
                right = self._frequencies(held, local if sliding else base, width, sliding)
                if not scaled:
                    continue
                if name != "inv_freq" or len(found) != 1:
                    raise self._refusal(
                        "rope.scaling.factor" if divisors is None else _FREQUENCIES,
                        "which is not applied to a network with several kinds of attention",
                    )
                if divisors is not None:
                    if divisors.shape != right.shape:
                        raise self._refusal(_FREQUENCIES, f"of the wrong shape for {width}")
                    right = right / divisors
                held.copy_((right / factor).to(held.dtype))
                if hasattr(module, "original_inv_freq"):
                    module.original_inv_freq = held.clone()

    def _frequencies(self, held: Any, base: float, width: int, sliding: bool) -> Any:
        """The unscaled rotary frequencies; raises unless the network holds them."""
        import torch

        powers = torch.arange(0, width, 2, dtype=torch.float64) / width
        right = base**-powers
        if held.shape != right.shape:
            raise self._refusal("rope.dimension_count", f"but the network rotates {2 * len(held)}")
        if not torch.allclose(held.double().cpu(), right, rtol=1e-5, atol=0):
            name = "rope.freq_base_swa" if sliding else "rope.freq_base"
            raise self._refusal(name, f"{base:g}, but the network has another base")
        return right

    def _linear_factor(self) -> float:
        """What positions are divided by, as llama.cpp reads it: linear unless stated."""
        kind = self._take("rope.scaling.type", "linear")
        otherwise = self._number("rope.scale_linear", 1)
        factor = self._number("rope.scaling.factor", otherwise) or 1
        for name in ("original_context_length", "finetuned", "yarn_beta_fast", "yarn_beta_slow"):
            self._take(f"rope.scaling.{name}")  # matters only to scalings that are refused
        if kind not in ("linear", "none"):
            raise self._refusal("rope.scaling.type", "which is not applied here")
        return 1.0 if kind == "none" else factor

    def _divisors(self) -> Any:
        """What each frequency is divided by, in Llama 3.1 and the like; None for nothing."""
        import torch
        from gguf import dequantize

        for name in ("attn_factor", "yarn_attn_factor"):
            if self._take(f"rope.scaling.{name}", 1) != 1:
                raise self._refusal(f"rope.scaling.{name}", "which is not applied here")
        for name in ("alpha", "yarn_log_multiplier"):
            if self._take(f"rope.scaling.{name}", 0) not in (0, 1):
                raise self._refusal(f"rope.scaling.{name}", "which is not applied here")
        if self._take("rope.scaling.yarn_ext_factor", -1) > 0:
            raise self._refusal("rope.scaling.yarn_ext_factor", "which is not applied here")
        tensor = self._tensors.get(_FREQUENCIES)
        if tensor is None:
            return None
        values = torch.tensor(dequantize(tensor.data, tensor.tensor_type)).double().flatten()
        if not bool((values > 0).all()):
            raise self._refusal(_FREQUENCIES, "with values that are not positive")
        return values


def _single(value: Any) -> Any:
    """A setting; a single value if it is the same for all layers."""
    if isinstance(value, (list, tuple)) and value and all(one == value[0] for one in value):
        return value[0]
    return value


def _scaling(module: Any) -> Any:
    """The scale of an attention module, under its name in transformers."""
    return getattr(module, "scaling", None) if "Attention" in type(module).__name__ else None


def _same(one: Any, other: Any) -> bool:
    """Whether two values of a setting are equal, up to 32-bit rounding."""
    if isinstance(one, (list, tuple)) or other is None:
        return _listed(one) == _listed(other) and other is not None
    try:
        return math.isclose(float(one), float(other), rel_tol=1e-6, abs_tol=0)
    except (TypeError, ValueError):
        return bool(one == other)


def _listed(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
