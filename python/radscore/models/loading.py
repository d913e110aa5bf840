"""Loading a causal language model: a folder, a PEFT adapter on its base, or a GGUF file.

The libraries go on with a warning if a file does not fit; here that is an error (`checkpoints`,
`adapters`, `gguf`).
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import warnings
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError, ModelError, line_of, some_of
from radscore.extras import need
from radscore.models.adapters import base_of, check_network, load_adapter
from radscore.models.checkpoints import (
    architectures,
    check_class,
    check_settings,
    check_weights,
    checkpoint_of,
)
from radscore.models.gguf import read_gguf
from radscore.models.library import transformers_library
from radscore.models.tokenizer import find_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LanguageModel", "as_language_model", "as_references", "is_listed", "load_model"]

_CAUSAL = ("CausalLM", "LMHead", "ConditionalGeneration")
_DTYPES = ("float32", "bfloat16", "float16")
_HASHED_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False, repr=False)
class LanguageModel:
    """A causal language model, ready to read or write: evaluation mode, no gradients.

    Attributes
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        The network.
    tokenizer : transformers tokenizer or None
        None if the model's folder has none.
    name : str
        Its path or the name of its class, for messages.
    vocab_size : int
        Rows of the output layer, the last dimension of the logits. May exceed the number of
        tokens, since output layers are padded.
    max_length : int or None
        Tokens in the context window, if the configuration states them.
    why_no_tokenizer : str
        Why the tokenizer beside the weights cannot be used, if so.
    fingerprint : str
        64 hexadecimal digits, a SHA-256 over the weights, an adapter's included, whatever float
        type they are held in. Configuration and tokenizer are not part of it: two models with the
        same weights and another rotary base, say, have the same fingerprint. Computed once, when
        first asked for: it reads all weights.
    """

    model: Any
    tokenizer: Any | None
    name: str
    vocab_size: int
    max_length: int | None
    why_no_tokenizer: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that identify the weights."""
        return _fingerprint(self.model)

    @property
    def forward(self) -> Any:
        """What reads pieces where there is no network to run; see `Forward`."""
        return None

    @property
    def reads_ids(self) -> bool:
        """Whether it reads token ids, and so exactly the tokens that it is given."""
        return True

    @property
    def at_end(self) -> bool:
        """Whether only what follows a document is known."""
        return False

    @property
    def notes(self) -> tuple[str, ...]:
        """What results say of how it was read."""
        return ()

    @property
    def spent(self) -> dict[str, int]:
        """What reading has cost, where it costs something."""
        return {}

    def spent_before(self, usage: dict[str, int]) -> None:
        """Takes notice of what an earlier call has spent."""

    @property
    def device(self) -> Any:
        """Where inputs must be."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> Any:
        """The weights' type."""
        return self.model.dtype

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"LanguageModel({self.name!r}, vocab_size={self.vocab_size}, "
            f"max_length={self.max_length}, {dtype} on {self.device})"
        )


def load_model(
    path: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    tokenizer: Any = None,
    device: Any = None,
    dtype: Any = None,
) -> LanguageModel:
    """Loads a causal language model from this machine; nothing is downloaded.

    Parameters
    ----------
    path : path
        A folder that transformers' `AutoModelForCausalLM` reads, a folder with a PEFT adapter,
        or a ``.gguf`` file (whose weights are unpacked, which takes most of the time).
    base : path, optional
        For an adapter: the model that it belongs to (a folder or a ``.gguf`` file); by default
        the one that the adapter names, if it is on this machine.
    tokenizer : path or transformers tokenizer, optional
        By default the one beside the weights; an adapter's own takes precedence over its base's.
    device : str or torch.device, optional
        By default the GPU if there is one, else the CPU.
    dtype : str or torch.dtype, optional
        "float32", "bfloat16" or "float16"; by default bfloat16 on a GPU and float32 on the CPU.

    Returns
    -------
    LanguageModel

    Raises
    ------
    ModelError
        If there is no such model, it does not predict the next token, or the network that was
        made is not the one in the folder: weights are damaged, missing, unused, or quantized
        without their scales; an adapter does not fit its base, or is of a kind that is not
        supported; a setting of a GGUF file is not applied.
    """
    need("torch", "safetensors", "transformers", what="reading a model")
    import torch

    place = _device(device)
    precision = _dtype(dtype, place)
    file = Path(path)
    if not file.exists():
        raise ModelError(
            f"model: {path}: no such file or folder (models are read from this machine only)"
        )
    adapter = file.is_dir() and (file / "adapter_config.json").is_file()
    if base is not None and not adapter:
        raise ModelError(f"base is for PEFT adapters, but {path} has no adapter_config.json")
    if adapter:
        need("peft", what="an adapter")
    with _quiet(file):
        if adapter:
            below = base_of(file, base)
            network = load_adapter(file, below, _plain(below, precision))
        else:
            network = _plain(file, precision)
        words, reason = find_tokenizer(tokenizer, (file, below) if adapter else (file,))
    try:
        network = network.to(place)
    except (RuntimeError, torch.OutOfMemoryError) as error:
        raise ModelError(f"model: {path} cannot be moved to {place}: {line_of(error)}") from None
    return _finished(network, words, str(path), reason)


def as_language_model(model: Any, name: str = "model") -> LanguageModel:
    """A `LanguageModel` from one, from a path, or from a transformers or PEFT model.

    Parameters
    ----------
    model : LanguageModel, path or transformers.PreTrainedModel or peft.PeftModel
        A network is switched to evaluation mode, and comes without a tokenizer.
    name : str
        The argument, for messages.

    Raises
    ------
    ModelError
        As `load_model`.
    ArgumentError
        If it is not one of these.
    """
    if isinstance(model, LanguageModel):
        return model
    if isinstance(model, (str, os.PathLike)):
        return load_model(model)
    if not hasattr(model, "get_input_embeddings") or not hasattr(model, "config"):
        raise ArgumentError(
            f"{name} must be a LanguageModel, a path or a transformers model, not "
            f"{type(model).__name__}"
        )
    made = type(model).__name__
    check_network(model, made)
    return _finished(model, None, made)


def as_references(reference: Any) -> tuple[LanguageModel, ...]:
    """A reference as `as_language_model` makes it: none, one, or several of a list or tuple.

    Raises
    ------
    ModelError, ArgumentError
        As `as_language_model`, or if the list is empty.
    """
    if reference is None:
        return ()
    several = reference if isinstance(reference, (list, tuple)) else [reference]
    if not several:
        raise ArgumentError("reference must be one model or several, not an empty list")
    return tuple(as_language_model(one, "reference") for one in several)


def is_listed(model: Any) -> bool:
    """Whether a model tells its likeliest tokens only, as those behind an API do."""
    return isinstance(model, LanguageModel) and model.forward is not None


def _finished(network: Any, tokenizer: Any, name: str, reason: str = "") -> LanguageModel:
    """Switches to evaluation mode, and checks that the network predicts the next token."""
    network.eval()
    network.requires_grad_(requires_grad=False)
    config = network.config.get_text_config(decoder=True)
    output = network.get_output_embeddings()
    if output is None:
        raise ModelError(f"model: {name} has no output layer, so predicts no tokens")
    weight = getattr(output, "weight", None)
    vocab_size = int(config.vocab_size if weight is None else weight.shape[0])
    longest = getattr(config, "max_position_embeddings", None)
    made = LanguageModel(
        network,
        tokenizer,
        name,
        vocab_size,
        int(longest) if longest and longest > 0 else None,
        reason,
    )
    _check_causal(made)
    return made


def _plain(path: Path, dtype: Any) -> Any:
    """A folder's or a GGUF file's model, with nothing left out."""
    if path.is_dir():
        _check_config(path)
        held = checkpoint_of(path)
        network, report = _loaded(path, dtype, {"pretrained_model_name_or_path": path})
        check_class(path, network)
        check_settings(path, network)
        check_weights(path, held, network, report)
        return network
    if path.suffix != ".gguf":
        raise ModelError(
            f"model: {path} is not a model: give a folder with a config.json, one with an "
            "adapter_config.json, or a .gguf file"
        )
    file = read_gguf(path)
    where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    where["quantization_config"] = transformers_library().GgufConfig(dequantize=True)
    network, report = _loaded(path, dtype, where)
    for kind, what in (("missing", "lacks"), ("mismatched", "has wrong shapes:")):
        named = ((key,) if isinstance(key, str) else key for key in report[f"{kind}_keys"])
        if names := {str(name) for name, *_ in named}:
            raise ModelError(f"model: {path} {what} {some_of(sorted(names), 3)}")
    file.fit(network)
    return network


def _loaded(path: Path, dtype: Any, where: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A network, and transformers' report on loading it."""
    import torch

    try:
        network, report = transformers_library().AutoModelForCausalLM.from_pretrained(
            **where,
            local_files_only=True,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and then refused by name
        )
    except (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ModelError(f"model: {path} cannot be loaded: {line_of(error)}") from error
    return network, report


def _check_config(folder: Path) -> None:
    """Raises unless the folder claims to hold a causal model."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model: the folder {folder} has no config.json (of a model) and no "
            "adapter_config.json (of a PEFT adapter)"
        )
    names = architectures(folder)
    if names and not any(part in name for name in names for part in _CAUSAL):
        raise ModelError(
            f"model: {folder} holds {names[0]}, which is not a causal language model (one that "
            "predicts the next token, such as LlamaForCausalLM)"
        )


def _device(device: Any) -> Any:
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(f"device: {line_of(error)}") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"device must not be {device!s}: torch sees no GPU here")
    return place


def _dtype(dtype: Any, device: Any) -> Any:
    import torch

    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ArgumentError(f"dtype must be one of {', '.join(_DTYPES)}, not {dtype!r}")
    return getattr(torch, name)


def _check_causal(model: LanguageModel) -> None:
    """Raises if a prediction depends on the tokens that follow: such a model just copies them."""
    import torch

    ids = torch.tensor([[1, 2, 3], [1, 0, 0]], device=model.device) % model.vocab_size
    try:
        with torch.inference_mode():
            logits = model.model(input_ids=ids, use_cache=False).logits.float()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"model: {model.name} does not take token ids as a causal language model does: "
            f"{line_of(error)}"
        ) from None
    if logits.shape[:2] != ids.shape:
        raise ModelError(
            f"model: {model.name} gives {logits.shape[1]} predictions for {ids.shape[1]} tokens"
        )
    logits = logits[:, 0]
    # the noise of bfloat16 is below a hundredth of the spread
    shown = logits.isfinite().all(dim=0)  # some entries may be held at minus infinity
    difference = float((logits[0] - logits[1])[shown].abs().max()) if shown.any() else math.nan
    if not difference <= 0.05 * float(logits[:, shown].std()) + 1e-5:
        raise ModelError(
            f"model: {model.name} looks ahead: what it predicts after the first token depends on "
            "the second (or is NaN), so it is not a causal language model"
        )


def _fingerprint(network: Any) -> str:
    """SHA-256 over names, shapes and values; floats are hashed as float32."""
    from concurrent.futures import ThreadPoolExecutor

    state = dict(sorted(network.state_dict().items()))
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        digests = list(pool.map(_tensor_digest, state.values()))
    whole = hashlib.sha256()
    for (name, tensor), digest in zip(state.items(), digests, strict=True):
        whole.update(f"{name} {tuple(tensor.shape)} ".encode() + digest)
    return whole.hexdigest()


def _tensor_digest(tensor: Any) -> bytes:
    import torch

    flat = tensor.detach().reshape(-1)
    digest = hashlib.sha256()
    for part in flat.split(_HASHED_AT_ONCE):
        values = part.to(torch.float32) if part.is_floating_point() else part
        digest.update(values.cpu().contiguous().view(torch.uint8).numpy())
    return digest.digest()


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Silences the libraries' bars and reports; running out of memory becomes one line."""
    logging = transformers_library().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            # what the libraries tell each other
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    except MemoryError:
        raise ModelError(f"model: {path} does not fit in memory") from None
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
