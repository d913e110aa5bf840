"""Bob's dry run: what would be learned, how much memory it takes, and one step of it."""

from __future__ import annotations

import copy
import json
import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.errors import ArgumentError, ModelError, line_of
from radscore.extras import need
from radscore.models.library import transformers_library
from radscore.models.loading import LanguageModel, load_model
from radscore.models.tokenizer import find_tokenizer
from radscore.rehearsal.bob import quiet, steps_of, trainer_of
from radscore.rehearsal.bob_rows import IGNORED, Rows, training_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.rehearsal.alice_records import Record
    from radscore.rehearsal.settings import TrainingSettings

__all__ = ["Memory", "TrainingCheck", "check_training", "masks_as_text", "memory_of"]

#: Models up to this many weights take the step themselves; a small relative stands in for others.
_OWN_STEP = 100_000_000
_RELATIVE = 50_000_000
#: Rows of a step are cut to so many tokens where a CPU takes it.
_STEP_TOKENS = 512


@dataclass(frozen=True)
class Memory:
    """Bytes on each device while training, without sharding over several.

    Attributes
    ----------
    weights, gradients, moments : int
        The weights and their gradients, and AdamW's two averages of each.
    activations : int
        What the forward pass of one micro-batch keeps for the backward pass, and the gradient of
        its logits; with bf16 the copies of weights that it makes as well.
    rows, tokens : int
        The micro-batch.
    """

    weights: int
    gradients: int
    moments: int
    activations: int
    rows: int
    tokens: int

    @property
    def total(self) -> int:
        """All of it: a bound, since gradients and activations are not largest at once.

        Libraries and fragmentation come on top, about a tenth.
        """
        return self.weights + self.gradients + self.moments + self.activations


@dataclass(frozen=True)
class TrainingCheck:
    """What a dry run found.

    Attributes
    ----------
    rows : Rows
        What would be trained on.
    masks : list of str
        The first rows as text; what is learned stands in ⟦ ⟧.
    n_steps : int
        Updates of the weights.
    n_parameters, n_trained : int
        Weights of the model; those that would be trained.
    memory : Memory
    step_on : str
        What took the step: the base, or a random model of its kind.
    losses : tuple of float
        On one batch, before the step and after it.
    seconds : float
        For the step.
    step_tokens, step_parameters : int
        Tokens of the step, and weights of what took it.
    """

    rows: Rows
    masks: list[str]
    n_steps: int
    n_parameters: int
    n_trained: int
    memory: Memory
    step_on: str
    losses: tuple[float, float]
    seconds: float
    step_tokens: int
    step_parameters: int


def check_training(
    base: Path,
    records: Sequence[Record],
    settings: TrainingSettings,
    *,
    seed: int = 0,
    tokenizer: Any = None,
    device: str | None = None,
    n_shown: int = 2,
) -> TrainingCheck:
    """Does everything that `train` does, with one step, and writes nothing.

    Parameters
    ----------
    base : path
        A folder of a model; its weights need not be there, config.json and tokenizer are enough.
        The step is taken by the model itself if it has at most 100 million weights, else by a
        random one of the same kind with about 50 million.
    records, settings, seed, tokenizer, device
        As for `train`.
    n_shown : int
        Rows to show.

    Raises
    ------
    ArgumentError, ModelError
        As `train`.
    """
    need("torch", "transformers", "accelerate", what="training")
    with quiet():
        config = _config(base)
        words, why = find_tokenizer(tokenizer, (Path(base),))
        if words is None:
            raise ModelError(f"base: {base} has no tokenizer{f' ({why})' if why else ''}")
        rows = training_rows(records, words, settings)
        if not len(rows):
            raise ArgumentError("records: there is no token to learn")
        at_once = max(1, settings.batch_size // settings.accumulate)
        longest = max(map(len, rows.ids))
        n_parameters, n_trained = _sizes(config, settings)
        memory = memory_of(config, settings, at_once, longest)
        step_on, losses, seconds, size = _step(
            base, config, words, rows, settings, seed=seed, device=device
        )
    in_step = np.array([len(one) for one in rows.ids[: settings.batch_size]])
    return TrainingCheck(
        rows=rows,
        masks=masks_as_text(rows, words, n_shown),
        n_steps=steps_of(len(rows), settings, at_once),
        n_parameters=n_parameters,
        n_trained=n_trained,
        memory=memory,
        step_on=step_on,
        losses=losses,
        seconds=seconds,
        step_tokens=int(np.minimum(in_step, _STEP_TOKENS).sum()),
        step_parameters=size,
    )


def masks_as_text(rows: Rows, tokenizer: Any, number: int = 2) -> list[str]:
    """The first rows as text, with ⟦ ⟧ around what is learned."""
    shown = []
    for ids, labels in zip(rows.ids[:number], rows.labels[:number], strict=True):
        text, begin = "", 0
        learned = labels != IGNORED
        while begin < len(ids):
            end = begin + 1
            while end < len(ids) and learned[end] == learned[begin]:
                end += 1
            part = tokenizer.decode(ids[begin:end].tolist())
            text += f"⟦{part}⟧" if learned[begin] else part
            begin = end
        shown.append(text)
    return shown


def memory_of(config: Any, settings: TrainingSettings, rows: int, tokens: int) -> Memory:
    """What training a model takes, from its configuration alone.

    Activations are counted, not estimated by a formula: the forward pass runs on tensors without
    content, with one layer and with two, and what autograd keeps is added up.
    """
    n_parameters, n_trained = _sizes(config, settings)
    held = 2 if settings.method == "lora" and settings.bf16 else 4
    extra = n_trained if settings.method == "lora" else 0
    n_layers = int(config.get_text_config(decoder=True).num_hidden_layers)
    one, two = (_kept(config, settings, rows, tokens, layers) for layers in (1, 2))
    layer, rest = two - one, 2 * one - two
    text = config.get_text_config(decoder=True)
    if settings.gradient_checkpointing:
        # autocast's copies of all weights are gone before gradients, which are larger, come
        between = rows * tokens * int(text.hidden_size) * (2 if settings.bf16 else 4)
        kept = rest + layer + n_layers * between
    else:
        kept = rest + n_layers * layer
    logits = rows * tokens * int(text.vocab_size) * 4
    return Memory(
        weights=held * (n_parameters - extra) + 4 * extra,
        gradients=4 * n_trained,
        moments=8 * n_trained,
        activations=kept + logits,
        rows=rows,
        tokens=tokens,
    )


def _config(base: Path) -> Any:
    if not (Path(base) / "config.json").is_file():
        raise ModelError(f"base: {base} is not the folder of a model: it has no config.json")
    try:
        return transformers_library().AutoConfig.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(f"base: {base}: {line_of(error)}") from None


def _network(config: Any) -> Any:
    return transformers_library().AutoModelForCausalLM.from_config(config)


def _adapted(network: Any, settings: TrainingSettings) -> Any:
    """The network as it is trained; peft's adapters cannot be made of tensors without content."""
    import torch

    if settings.method != "lora":
        return network
    network.requires_grad_(requires_grad=False)
    output = network.get_output_embeddings()

    class Low(torch.nn.Module):
        def __init__(self, base: Any) -> None:
            super().__init__()
            self.base = base
            self.down = torch.nn.Linear(base.in_features, settings.lora_rank, bias=False)
            self.up = torch.nn.Linear(settings.lora_rank, base.out_features, bias=False)

        def forward(self, x: Any) -> Any:
            return self.base(x) + self.up(self.down(x)) * 2.0

    for module in list(network.modules()):
        for name, one in list(module.named_children()):
            if isinstance(one, torch.nn.Linear) and one is not output:
                setattr(module, name, Low(one))
    return network


def _sizes(config: Any, settings: TrainingSettings) -> tuple[int, int]:
    """Weights of a model, an adapter's included, and those of them that are trained."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        parameters = list(_adapted(_network(config), settings).parameters())
    return (
        sum(one.numel() for one in parameters),
        sum(one.numel() for one in parameters if one.requires_grad),
    )


def _kept(config: Any, settings: TrainingSettings, rows: int, tokens: int, layers: int) -> int:
    """Bytes that autograd keeps of a forward pass, weights apart."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    short = _with_layers(config, layers)
    found: dict[int, Any] = {}
    with FakeTensorMode():
        network = _adapted(_network(short), settings).train()
        own = {_storage(one) for one in network.parameters()}

        def pack(tensor: Any) -> Any:
            if (name := _storage(tensor)) not in own:
                found[name] = tensor  # held, so that no other storage takes its address
            return tensor

        ids = torch.zeros((rows, tokens), dtype=torch.long)
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16),
        ):
            network(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, use_cache=False)
    return sum(int(one.untyped_storage().nbytes()) for one in found.values())


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - without content, it has no address


def _with_layers(config: Any, layers: int) -> Any:
    short = copy.deepcopy(config)
    text = short.get_text_config(decoder=True)
    text.num_hidden_layers = layers
    kinds = getattr(text, "layer_types", None)
    if kinds:
        text.layer_types = (kinds * layers)[:layers]
    return short


def _relative(config: Any) -> Any:
    """A configuration of the same kind with about 50 million weights."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    def size(one: Any) -> int:
        with FakeTensorMode():
            return sum(each.numel() for each in _network(one).parameters())

    layers = int(config.get_text_config(decoder=True).num_hidden_layers)
    small = _with_layers(config, min(layers, 4))
    text = small.get_text_config(decoder=True)
    heads = int(text.num_attention_heads)
    groups = heads // int(getattr(text, "num_key_value_heads", None) or heads)
    ratio = getattr(text, "intermediate_size", 4 * text.hidden_size) / text.hidden_size
    width = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    for scale in range(heads, 0, -1):
        if scale % groups:
            continue
        text.num_attention_heads, text.hidden_size = scale, scale * width
        if hasattr(text, "num_key_value_heads"):
            text.num_key_value_heads = scale // groups
        if hasattr(text, "intermediate_size"):
            text.intermediate_size = max(8, int(ratio * text.hidden_size) // 8 * 8)
        if size(small) <= _RELATIVE:
            break
    return small


def _step(
    base: Path,
    config: Any,
    words: Any,
    rows: Rows,
    settings: TrainingSettings,
    *,
    seed: int,
    device: str | None,
) -> tuple[str, tuple[float, float], float, int]:
    """One step on the first batch, with the code that trains."""
    import torch

    weights = [*Path(base).glob("*.safetensors"), *Path(base).glob("pytorch_model*.bin")]
    if weights and _sizes(config, settings)[0] <= _OWN_STEP:
        model = load_model(base, tokenizer=words, device="cpu", dtype="float32")
        name = "the base"
    else:
        torch.manual_seed(seed % 2**32)
        network = _network(_relative(config)).float()
        n = sum(one.numel() for one in network.parameters())
        size = int(network.get_input_embeddings().weight.shape[0])
        model = LanguageModel(network, words, f"random {type(network).__name__}", size, None)
        name = f"a random {type(network).__name__} of {n / 1e6:.0f} million weights"
    first = Rows(
        [one[:_STEP_TOKENS] for one in rows.ids[: settings.batch_size]],
        [one[:_STEP_TOKENS] for one in rows.labels[: settings.batch_size]],
    )
    settings = replace(settings, warmup=0.0)  # which begins with a rate of zero
    with tempfile.TemporaryDirectory() as folder:
        trainer, _ = trainer_of(
            model, first, settings, Path(folder), seed=seed, device=device, max_steps=1
        )
        before = trainer.evaluate(trainer.train_dataset)["eval_loss"]
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
        after = trainer.evaluate(trainer.train_dataset)["eval_loss"]
    if not math.isfinite(after):
        raise ModelError(f"the loss is {after} after one step: lower learning_rate")
    size = sum(one.numel() for one in model.model.parameters())
    return name, (float(before), float(after)), seconds, size
