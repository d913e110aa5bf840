"""Folders of weights: whether a folder's weights are those of the network made from it.

transformers goes on if weights have no place, are missing or of another kind; what it then computes
is not the model in the folder. Here every such case is an error that names the weight.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ModelError, line_of, some_of
from radscore.extras import need
from radscore.models.library import check_fetched, read_json

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Checkpoint",
    "architectures",
    "check_class",
    "check_settings",
    "check_weights",
    "checkpoint_of",
    "own_weights",
]

# in the order in which transformers looks for them
_WHOLE: Final = ("model.safetensors", "pytorch_model.bin")
_SHARD: Final = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
_FLOATS: Final = ("F64", "F32", "F16", "BF16")
_TORCH: Final = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_SCALE: Final = re.compile(r"scale|absmax|SCB|quant_state")
#: Settings that change predictions, and that some classes have and others lack.
_SETTINGS: Final = (
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "embedding_multiplier",
    "residual_multiplier",
    "attention_multiplier",
    "logits_scaling",
    "logit_scale",
    "query_pre_attn_scalar",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "sliding_window",
)
#: Buffers that older releases saved, and how to tell that they hold only what is computed anyway.
_BUFFERS: Final = (
    (re.compile(r"(^|\.)(rotary_emb|rotary_pos_emb|rope)\.inv_freq$"), "frequencies"),
    (re.compile(r"(^|\.)position_ids$"), "positions"),
    (re.compile(r"(^|\.)(attn|attention|self_attention)\.bias$"), "mask"),
    (re.compile(r"(^|\.)(attn|attention|self_attention)\.masked_bias$"), "constant"),
    (re.compile(r"(^|\.)num_batches_tracked$"), "count"),
)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a folder's weights.

    Attributes
    ----------
    files : dict of str to Path
        The file that holds each tensor.
    types : dict of str to str
        Each tensor's type, as safetensors calls it.
    """

    files: dict[str, Path]
    types: dict[str, str]

    def tensor(self, name: str) -> Any:
        """Reads one tensor, onto the CPU."""
        file = self.files[name]
        if file.suffix == ".safetensors":
            need("safetensors", what="reading weights")
            from safetensors import safe_open

            with safe_open(file, framework="pt") as opened:
                return opened.get_tensor(name)
        return _pickled(file)[name]


def checkpoint_of(folder: Path) -> Checkpoint:
    """What a folder's files of weights hold; reads only the headers of safetensors files.

    Raises
    ------
    ModelError
        If there are none, one is damaged, or it is not clear which of them are the model.
    """
    if strays := sorted(file.name for file in folder.glob("adapter_model.*")):
        raise ModelError(
            f"model: {folder} holds {strays[0]}, but no adapter_config.json to describe it"
        )
    files: dict[str, Path] = {}
    types: dict[str, str] = {}
    for file in _files(folder):
        check_fetched(file)
        try:
            found = _header(file) if file.suffix == ".safetensors" else _types(_pickled(file))
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:  # whatever torch.load raises
            raise ModelError(
                f"model: {folder} cannot be loaded: {file.name}: {line_of(error)}"
            ) from error
        if twice := set(found) & set(types):
            raise ModelError(f"model: {folder} holds {some_of(sorted(twice), 3)} in two files")
        types |= found
        files |= dict.fromkeys(found, file)
    return Checkpoint(files, types)


def own_weights(folder: Path) -> list[str]:
    """Names of the files that hold a whole model's weights."""
    return sorted(
        file.name for file in folder.iterdir() if file.name in _WHOLE or _SHARD.fullmatch(file.name)
    )


def _files(folder: Path) -> list[Path]:
    """The files that transformers reads; refused if others of the same kind lie beside them."""
    named = read_json(folder / "config.json").get("transformers_weights")
    if named is not None:
        return [folder / str(named)]
    for whole in _WHOLE:
        index = folder / f"{whole}.index.json"
        kind = whole.rpartition(".")[2]
        shards = {
            name for name in own_weights(folder) if name not in _WHOLE and name.endswith(f".{kind}")
        }
        if (folder / whole).is_file():
            if shards:
                raise ModelError(
                    f"model: {folder} holds {whole} and {some_of(sorted(shards), 1)}: remove those "
                    "that are not the model"
                )
            return [folder / whole]
        if index.is_file():
            listed = read_json(index).get("weight_map")
            if not isinstance(listed, dict) or not listed:
                raise ModelError(f"model: {index} lists no weights")
            used = {str(name) for name in listed.values()}
            if idle := shards - used:
                raise ModelError(
                    f"model: {folder} holds {some_of(sorted(idle), 3)}, which {index.name} does "
                    "not list"
                )
            return [folder / name for name in sorted(used)]
    raise ModelError(
        f"model: {folder} cannot be loaded: it has no weights (model.safetensors, "
        "pytorch_model.bin, or their parts with an index)"
    )


def _header(file: Path) -> dict[str, str]:
    """Names and types of a safetensors file."""
    with file.open("rb") as opened:
        (size,) = struct.unpack("<Q", opened.read(8))
        if size > file.stat().st_size:
            raise ValueError("its header is cut short")
        content = json.loads(opened.read(size))
    return {name: entry["dtype"] for name, entry in content.items() if name != "__metadata__"}


def _pickled(file: Path) -> Mapping[str, Any]:
    """The tensors of a torch.save file, mapped into memory if its format allows."""
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # the format before torch 1.6
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise TypeError("it does not hold named tensors")
    return content


def _types(content: Mapping[str, Any]) -> dict[str, str]:
    names = {name: str(t.dtype).removeprefix("torch.") for name, t in content.items()}
    return {name: _TORCH.get(dtype, dtype) for name, dtype in names.items()}


def architectures(folder: Path) -> list[str]:
    """The names of classes that a folder's configuration gives."""
    names = read_json(folder / "config.json").get("architectures") or []
    return list(map(str, names)) if isinstance(names, list) else [str(names)]


def check_class(folder: Path, network: Any) -> None:
    """Raises if the network's class is not the one that the folder names."""
    names = architectures(folder)
    made = type(network).__name__
    if names and made.lower() not in [name.lower() for name in names]:
        raise ModelError(
            f"model: {folder} holds {names[0]}, but its model_type loads {made}, a different "
            "network"
        )


def check_settings(folder: Path, network: Any) -> None:
    """Raises if the folder states a setting that the network's class does not have."""
    content = read_json(folder / "config.json")
    has = type(network.config)()
    for name in _SETTINGS:
        value = content.get(name)
        if value in (None, False, 0, 1) or hasattr(has, name):
            continue
        if (
            name == "sliding_window"
            and type(value) is int
            and value >= (content.get("max_position_embeddings") or 0)
        ):
            continue
        raise ModelError(
            f"model: {folder}: config.json has {name} = {value!r}, which "
            f"{type(network).__name__} does not apply"
        )


def check_weights(folder: Path, held: Checkpoint, network: Any, report: Mapping[str, Any]) -> None:
    """Raises unless all of a folder's weights went into the network, and filled it.

    Parameters
    ----------
    folder : Path
        For messages.
    held : Checkpoint
        What the folder's files hold.
    network : transformers.PreTrainedModel
        What transformers made from it.
    report : mapping
        transformers' report on loading it (`output_loading_info`).
    """
    state = network.state_dict()
    missing = set(report["missing_keys"]) | _unreported(held, network, state)
    wrong = {str(entry[0]) for entry in report["mismatched_keys"]}
    if missing or wrong:  # transformers goes on with random numbers there
        what = f"have the wrong shape at {some_of(sorted(wrong), 1)}"
        if missing:
            what = f"lack {some_of(sorted(missing), 1)}"
        raise ModelError(
            f"model: the weights in {folder} {what}, so they are not a whole language model"
        )
    if report.get("error_msgs"):
        raise ModelError(f"model: {folder}: {line_of(RuntimeError(report['error_msgs'][0]))}")
    unused = {name for name in report["unexpected_keys"] if not _computed(name, held, network)}
    if unused:
        raise ModelError(
            f"model: {folder} holds weights that {type(network).__name__} does not have: "
            f"{some_of(sorted(unused), 3)} (another config.json, or a lost quantization_config?)"
        )
    _check_types(folder, held, state, quantized=_quantized(folder))
    _check_tied(folder, held, network)
    pattern, kind = _BUFFERS[0]
    for name in filter(pattern.search, held.types):  # transformers ignores them
        if not _same_frequencies(held.tensor(name), network):
            raise ModelError(
                f"model: {folder}: the {kind} {name} are not those that config.json gives "
                "(rope_theta or rope_scaling)"
            )


def _quantized(folder: Path) -> bool:
    """Whether the configuration states a quantization, which transformers must know."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    content = read_json(folder / "config.json")
    stated = content.get("quantization_config") or content.get("compression_config")
    if not stated:
        return False
    kind = stated.get("quant_method") if isinstance(stated, dict) else stated
    if kind is None and isinstance(stated, dict):
        kind = "bitsandbytes" if stated.get("load_in_8bit") or stated.get("load_in_4bit") else None
    known = {
        str(name).removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING
    }
    if kind not in known:
        raise ModelError(
            f"model: {folder} is quantized by {kind!r}, which the installed transformers ignores"
        )
    return True


def _names_in(held: Checkpoint, name: str, network: Any) -> list[str]:
    """The names that the checkpoint may have for a weight of the network."""
    prefix = f"{network.base_model_prefix}."
    return [one for one in (name, name.removeprefix(prefix), prefix + name) if one in held.types]


def _unreported(held: Checkpoint, network: Any, state: Mapping[str, Any]) -> set[str]:
    """Parameters that nothing filled but that the class hides from the report."""
    hidden = getattr(network, "_keys_to_ignore_on_load_missing", None) or ()
    tied = getattr(network, "all_tied_weights_keys", None) or {}
    parameters = dict(network.named_parameters())
    return {
        name
        for name in state
        if name in parameters
        and name not in tied
        and any(re.search(pattern, name) for pattern in hidden)
        and not _names_in(held, name, network)
    }


def _computed(name: str, held: Checkpoint, network: Any) -> bool:
    """Whether an unused entry is an old release's buffer of what is computed anyway."""
    kind = next((kind for pattern, kind in _BUFFERS if pattern.search(name)), None)
    if kind is None or name not in held.types:
        return False
    import torch

    values = held.tensor(name)
    if kind == "count" or (kind == "constant" and values.numel() == 1):
        return True
    if kind == "positions":
        return torch.equal(values.flatten().long(), torch.arange(values.numel()))
    if kind == "mask":
        square = values.ndim == 4 and values.shape[-1] == values.shape[-2]
        return square and torch.equal(values != 0, torch.tril(torch.ones_like(values)) != 0)
    return _same_frequencies(values, network)


def _same_frequencies(values: Any, network: Any) -> bool:
    """Whether rotary frequencies are those that the network computes, or scales by itself."""
    import torch

    for module in network.modules():
        own = getattr(module, "inv_freq", None)
        if own is None:
            continue
        if getattr(module, "rope_type", "default") != "default":
            return True  # they were saved unscaled
        return own.shape == values.shape and torch.allclose(
            own.float().cpu(), values.float(), rtol=1e-2, atol=1e-6
        )
    return False


def _check_types(
    folder: Path, held: Checkpoint, state: Mapping[str, Any], *, quantized: bool
) -> None:
    """Raises if weights are stored as numbers that mean nothing without their scales."""
    for name, kind in held.types.items():
        if kind in _FLOATS or any(pattern.search(name) for pattern, _ in _BUFFERS):
            continue
        place = state.get(name)
        if place is not None and not place.is_floating_point():
            continue
        if quantized and (place is None or _scales(name, held)):
            continue
        lacks = "its scales are missing" if quantized else "there is no quantization_config"
        raise ModelError(f"model: {folder} holds {name} as {kind}, but {lacks}")


def _scales(name: str, held: Checkpoint) -> list[str]:
    """The tensors beside a weight that say how to read it."""
    module = f"{name.rpartition('.')[0]}."
    return [one for one in held.types if one.startswith(module) and _SCALE.search(one)]


def _check_tied(folder: Path, held: Checkpoint, network: Any) -> None:
    """Raises if the network shares a weight of which the folder holds two versions."""
    import torch

    for target, source in (getattr(network, "all_tied_weights_keys", None) or {}).items():
        mine, other = _names_in(held, target, network), _names_in(held, source, network)
        if not mine or not other or mine[0] == other[0]:
            continue
        if network.get_parameter(target) is not network.get_parameter(source):
            continue  # transformers kept both
        if not torch.equal(held.tensor(mine[0]).float(), held.tensor(other[0]).float()):
            raise ModelError(
                f"model: {folder} holds different weights for {mine[0]} and {other[0]}, but its "
                "config.json ties them (tie_word_embeddings)"
            )
