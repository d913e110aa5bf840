"""The part of the results on models behind an API."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

from tools.experiments.api import ANSWER_PRICE, KEYS, PROMPT_PRICE, SEEDS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["rows", "words"]

HEAD = (
    "seen",
    "prompt + answer tokens",
    "z, mean of six",
    "second seed",
    "log10 p",
    "per 1,000 tokens",
    "per cent paid",
    "control",
    "decoys",
)

words = (
    "Share 10 %, keys 4 to 9, which no choice was made on. *Listed*: the likeliest tokens that an "
    "API returns at each place, with their log-probabilities, of texts that it reads as prompts or "
    "of its own answers; *logits*: the 96 tokens that suspect or references find likeliest. "
    "References: the matched one, the base model, or the mean of *both*. z: mean over six keys "
    "with its 95 % interval, and of six more models of other seeds; log10 p: the mean of the "
    "library's bounds. Evidence is -log10 p, per 1,000 tokens and per cent at "
    f"${PROMPT_PRICE:g} for a million prompt tokens and ${ANSWER_PRICE:g} for a million answer "
    "tokens. Control: mean and range of z of the clean model under the six keys. Decoys: mean and "
    "standard deviation of z over 40 other keys, first model."
)


def _mean(values: Iterable[float]) -> float:
    values = [one for one in values if not math.isnan(one)]
    return float(np.mean(values)) if values else math.nan


def _z(found: dict[str, Any], name: str, model: str) -> list[float]:
    labels = (f"{name}: {model.format(key)}, key {key}" for key in KEYS)
    return [found[label]["z"] for label in labels if label in found]


def rows(found: dict[str, Any]) -> list[list[str]]:
    """The table, a setting in each row; empty without numbers."""
    made = []
    for name in SETTINGS:
        z = _z(found, name, "rho-10-key-{}")
        if len(z) < len(KEYS):
            continue
        other = _z(found, name, f"rho-10-key-{{}}-seed-{SEEDS[1]}")
        control = _z(found, name, "rho-0")
        mine = [found[f"{name}: rho-10-key-{key}, key {key}"] for key in KEYS]
        prompt, answer = mine[0]["n_tokens"]
        evidence = -_mean(one["log10_pvalue"] for one in mine)
        cents = 100 * (PROMPT_PRICE * prompt + ANSWER_PRICE * answer) / 1e6
        half = student.ppf(0.975, len(z) - 1) * np.std(z, ddof=1) / math.sqrt(len(z))
        decoys = _mean(one["decoy_mean"] for one in mine), _mean(one["decoy_sd"] for one in mine)
        made.append(
            [
                name,
                f"{prompt:,} + {answer:,}",
                f"**{np.mean(z):.1f}** ({np.mean(z) - half:.1f} to {np.mean(z) + half:.1f})",
                f"{np.mean(other):.1f}" if len(other) == len(KEYS) else "",
                f"{-evidence:.1f}",
                f"{1000 * evidence / (prompt + answer):.3f}",
                f"{evidence / cents:.2f}",
                f"{np.mean(control):.1f} ({min(control):.1f} to {max(control):.1f})"
                if control
                else "",
                "" if math.isnan(decoys[0]) else f"{decoys[0]:.2f}, {decoys[1]:.2f}",
            ]
        )
    return made
