"""The part of the results on models behind an API."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import t as student

from tools.experiments.api import ANSWER_PRICE, KEYS, PROMPT_PRICE, SETTINGS

__all__ = ["HEAD", "WORDS", "rows"]

HEAD = (
    "seen",
    "prompt + answer tokens",
    "z by key",
    "mean",
    "per 1,000 tokens",
    "per cent paid",
    "control",
    "decoys",
)

WORDS = (
    "z for a share of 10 % under the keys 4 to 9, on which no choice was made; mean with its "
    "95 % interval. *5*, *20*: tokens that an API lists at each place, with their log- "
    "probabilities; *logits*: all of an open model; *96*: the likeliest of them. *read*: "
    "texts that it reads as prompts; *answered*: its own answers; *long*, *short*: 65 answers "
    "of 96 tokens, 261 of 24; *few read*: 24 texts; *random*, *frequent*: one token after "
    "each of 6,000 prompts of "
    "16 tokens, which end anywhere or in the contexts that are most frequent in unmarked "
    "text; *text*: 1,042 answers without log-probabilities. References: the matched one, the "
    "base model, or the mean of *both*. Evidence: z^2 / (2 ln 10) digits, per 1,000 tokens "
    f"and per cent, at ${PROMPT_PRICE:g} for a million prompt tokens and ${ANSWER_PRICE:g} for "
    "a million answer tokens. Control: mean and range of z of the clean model under the six "
    "keys; decoys: its mean and standard deviation under 40 keys that nobody used."
)


def rows(found: dict[str, Any]) -> list[list[str]]:
    """The table, a setting in each row; empty without numbers."""
    made = []
    for name, (prompt, answer) in SETTINGS.items():
        labels = [f"{name}: rho-10-key-{key}, key {key}" for key in KEYS]
        if not all(label in found for label in [*labels, f"{name}: rho-0, decoy 39"]):
            continue
        z = [found[label] for label in labels]
        control = [found.get(f"{name}: rho-0, key {key}", math.nan) for key in KEYS]
        decoys = [found.get(f"{name}: rho-0, decoy {i}", math.nan) for i in range(40)]
        mean = float(np.mean(z))
        half = student.ppf(0.975, len(z) - 1) * np.std(z, ddof=1) / math.sqrt(len(z))
        digits = max(mean, 0.0) ** 2 / (2 * math.log(10))
        cents = 100 * (PROMPT_PRICE * prompt + ANSWER_PRICE * answer) / 1e6
        made.append(
            [
                name,
                f"{prompt:,} + {answer:,}",
                " ".join(f"{one:.1f}" for one in z),
                f"**{mean:.1f}** ({mean - half:.1f} to {mean + half:.1f})",
                f"{1000 * digits / (prompt + answer):.3f}",
                f"{digits / cents:.1f}",
                f"{np.mean(control):.1f} ({min(control):.1f} to {max(control):.1f})",
                f"{np.mean(decoys):.2f}, {np.std(decoys, ddof=1):.2f}",
            ]
        )
    return made
