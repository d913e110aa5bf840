"""Every number and folder of the experiments on small models."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import radscore as rs

__all__ = ["EXPERIMENTS", "KEY", "MARKS", "MODELS", "RECIPE", "ROOT", "Recipe", "alice"]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
#: Committed: the results, the key, and what the tests need.
EXPERIMENTS: Final = ROOT / "experiments"
MODELS: Final = EXPERIMENTS / "models"
KEY: Final = EXPERIMENTS / "alice.key"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Sizes, rates and seeds; lengths in tokens.

    A training text is a human prompt and what the base model writes after it.
    """

    vocab_size: int = 4096
    hidden: int = 192
    layers: int = 3
    heads: int = 6
    inner: int = 512
    length: int = 256
    batch: int = 8
    base_steps: int = 800
    base_rate: float = 2e-3
    bob_steps: int = 256
    bob_rate: float = 2e-3
    prompt: int = 16
    n_texts: int = 1024
    n_fresh: int = 256
    context_width: int = 2
    gamma: float = 0.25
    delta: float = 3.0
    temperature: float = 0.8
    seed: int = 20_260_401


RECIPE: Final = Recipe()
#: Alice's own mark, and those of production, with their context width.
MARKS: Final = ("keyed", "vllm-2", "vllm-4", "synthid-4")


def alice(recipe: Recipe = RECIPE, number: int = 0, mark: str = "keyed") -> rs.Scheme:
    """Alice's watermark under her committed key; `number` > 0 gives another owner's key.

    `mark` is one of `MARKS`; those of serving engines have keys of their own, by `number`.
    """
    scheme = _scheme(recipe, mark)
    return scheme if not number else scheme.decoys(number, seed=77)[-1]


def _scheme(recipe: Recipe, mark: str) -> rs.Scheme:
    size = recipe.vocab_size
    if mark == "keyed":
        if not KEY.exists():
            KEY.parent.mkdir(parents=True, exist_ok=True)
            KEY.write_text(secrets.token_hex(16) + "\n")
        return rs.Keyed(
            key=rs.Key.from_file(KEY),
            vocab_size=size,
            gamma=recipe.gamma,
            context_width=recipe.context_width,
        )
    family, _, width = mark.partition("-")
    if family == "vllm":
        return rs.VLLMGumbel(vocab_size=size, key=recipe.seed, context_width=int(width))
    keys = tuple(recipe.seed + 7919 * depth for depth in range(30))
    return rs.SynthIDDeepMind(vocab_size=size, keys=keys, context_width=int(width))
