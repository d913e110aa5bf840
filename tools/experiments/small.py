"""The small model: making it, training it and writing with it, on one core."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from radscore.models.marking import rule_of
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import radscore as rs

    from tools.experiments.settings import Recipe

__all__ = ["batches", "new_model", "read_model", "save_model", "train", "write"]

Ids = npt.NDArray[np.int64]


def new_model(recipe: Recipe, seed: int) -> LlamaForCausalLM:
    """A Llama of about two million parameters, with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=2 * recipe.length,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def read_model(folder: Path) -> Any:
    """Loads the model of a folder, in float32."""
    model: Any = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    return model.eval()


def save_model(model: Any, folder: Path) -> None:
    """Saves in half precision: what is tested is what was saved."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    model.float()


def batches(rows: Ids, recipe: Recipe, seed: int, steps: int) -> Iterator[Ids]:
    """Batches of shuffled rows, shuffled again once all were used."""
    rng = np.random.default_rng(seed)
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(order) < recipe.batch:
            order = np.concatenate([order, rng.permutation(len(rows))])
        yield rows[order[: recipe.batch]]
        order = order[recipe.batch :]


def train(model: Any, rows: Ids, recipe: Recipe, *, rate: float, steps: int, seed: int) -> float:
    """Trains `model` on rows of equal length; returns the mean loss of the last tenth.

    AdamW, with a short warm-up and a cosine schedule down to a tenth of the rate.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.05)
    warm = max(steps // 20, 1)
    losses: list[float] = []
    started = time.monotonic()
    for step, batch in enumerate(batches(rows, recipe, seed, steps)):
        along = max(step - warm, 0) / max(steps - warm, 1)
        share = min((step + 1) / warm, 0.1 + 0.45 * (1 + math.cos(math.pi * along)))
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        ids = torch.from_numpy(np.ascontiguousarray(batch))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 0:
            rate_now = (step + 1) * batch.size / (time.monotonic() - started)
            print(f"  step {step}: loss {losses[-1]:.3f}, {rate_now:.0f} tokens/s", flush=True)
    model.eval()
    return float(np.mean(losses[-max(steps // 10, 1) :]))


@torch.inference_mode()
def write(
    model: Any,
    prompts: Ids,
    n_tokens: int,
    seed: int,
    *,
    scheme: rs.Scheme | None = None,
    delta: float = 0.0,
    batch: int = 256,
    temperature: float = 1.0,
) -> Ids:
    """What the model writes after each prompt, with `scheme`'s watermark if given.

    Contexts that come again in one text are left unmarked where the mark decides on the token, as
    serving engines do by default.

    Returns
    -------
    ndarray of int64, shape (n_prompts, n_tokens)
    """
    torch.manual_seed(seed)
    mark = None if scheme is None else _Mark(scheme, delta / temperature)
    written = []
    for start in range(0, len(prompts), batch):
        rows = torch.from_numpy(np.ascontiguousarray(prompts[start : start + batch]))
        step, cache = rows, DynamicCache(config=model.config)
        if mark is not None:
            mark.begin(len(rows))
        for _ in range(n_tokens):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = model(input_ids=step, cache=cache, logits_to_keep=1)
            logits = output.logits[:, -1].float() / temperature
            if mark is not None:
                logits = mark.apply(logits, rows.numpy(), prompts.shape[1])
            # inverse distribution function at one uniform per row: faster than `multinomial`
            below = logits.softmax(-1).cumsum(-1)
            step = torch.searchsorted(below, torch.rand(len(rows), 1) * below[:, -1:])
            rows = torch.cat([rows, step.clamp(max=logits.shape[1] - 1)], dim=1)
        written.append(rows[:, prompts.shape[1] :].numpy())
    return np.concatenate(written)


class _Mark:
    """The watermark in the logits of a batch of texts."""

    def __init__(self, scheme: rs.Scheme, delta: float) -> None:
        self._scheme = scheme
        self._rule = rule_of(scheme, delta, None)
        self._seen: list[set[bytes]] = []

    def begin(self, n_texts: int) -> None:
        """New texts."""
        self._seen = [set() for _ in range(n_texts)]

    def apply(self, logits: torch.Tensor, rows: Ids, n_prompt: int) -> torch.Tensor:
        """The logits of the next token, marked."""
        width = self._scheme.window_width - 1
        contexts = rows[:, -width:].copy()
        if (padding := self._scheme.padding) is not None:
            before = max(0, width - (rows.shape[1] - n_prompt))
            contexts[:, :before] = padding
        marked = self._rule.apply(logits, contexts)
        if self._scheme.sampling != "bias":
            for i, context in enumerate(contexts):
                if (one := context.tobytes()) in self._seen[i]:
                    marked[i] = logits[i]
                self._seen[i].add(one)
        return marked
