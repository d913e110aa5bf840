"""The part of the results on models behind an API."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import t as student

from tools.experiments.api import (
    ANSWER_PRICE,
    KEYS,
    PARTS,
    PROMPT_PRICE,
    SETTINGS,
    WEAK,
    WEAK_SHARES,
)
from tools.experiments.marks import MARK_KEYS, MARK_NAMES

__all__ = [
    "HEAD",
    "MARKS_HEAD",
    "MARKS_WORDS",
    "WEAK_HEAD",
    "WEAK_WORDS",
    "WORDS",
    "marks_rows",
    "rows",
    "weak_rows",
]

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


MARKS_HEAD = (
    "mark",
    "reference",
    *(f"key {key}" for key in MARK_KEYS),
    "mean",
    "mean of 3 and 4",
    "control",
    "decoys",
)
MARKS_WORDS = (
    "### Marks of production\n\n"
    "An open model with a share of 10 % reads 124,928 tokens of unmarked text: log10 p (z) of "
    '`test_open(weighting="matched", contexts=...)`, for `keyed` (gamma .25, delta 3) of '
    '`"contrast"`. Contexts: counts of 262,144 tokens of unmarked text. `both`: the mean of the '
    "matched reference and the base model. Choices were made on the keys 1 and 2 of the marks of "
    "width 4. Control: the clean model under key 1; decoys: mean and standard deviation of its z "
    "under 40 other keys."
)
WEAK_HEAD = ("seen", "share", "tokens", "z of a quarter, half, all", "tokens for p < .001")
#: z at which a bound `exp(-z^2 / 2)` is .001.
_ENOUGH = math.sqrt(2 * math.log(1000))
WEAK_WORDS = (
    "### Small shares\n\n"
    f"z by the tokens seen, for one key, and how many tokens bring z to {_ENOUGH:.1f}, where the "
    "exponential-moment bound is .001: what was enough, or extrapolated, first as if z grew with "
    "the root of the number of tokens, then as it grew from a quarter to all (the mean over the "
    "rows). "
    "One z has a standard deviation of 1 by chance."
)


def marks_rows(found: dict[str, Any]) -> list[list[str]]:
    """A mark and a reference in each row; empty without numbers."""
    made = []
    for name in MARK_NAMES:
        mark, reference = name.split()
        label = f"rho-10-{mark}-key-" if mark != "keyed" else "rho-10-key-"
        cases = [found.get(f"{name}: {label}{key}") for key in MARK_KEYS]
        if None in cases[2:]:
            continue
        digits = [math.nan if one is None else one["log10_pvalue"] for one in cases]
        control = found.get(f"{name}: rho-0")
        cells = [
            "" if one is None else f"{one['log10_pvalue']:.1f} ({one['z']:.1f})" for one in cases
        ]
        whole = "" if None in cases else f"**{np.mean(digits):.1f}**"
        made.append([mark, reference, *cells, whole, f"{np.mean(digits[2:]):.1f}"])
        if control is None:
            made[-1] += ["", ""]
        else:
            mean, deviation = control["decoys"]
            made[-1] += [
                f"{control['log10_pvalue']:.1f} ({control['z']:.1f})",
                f"{mean:.2f}, {deviation:.2f}",
            ]
    return made


def weak_rows(found: dict[str, Any]) -> list[list[str]]:
    """A setting and a share in each row; empty without numbers."""
    cases: list[tuple[str, int, list[float]]] = []
    for name in (name for names in WEAK.values() for name in names):
        for share in WEAK_SHARES:
            labels = [f"{name}: {share} %, {part:g}" for part in PARTS]
            if all(label in found for label in labels):
                cases.append((name, share, [found[label] for label in labels]))
    growth = [math.log(z[-1] / z[0]) / math.log(4) for *_, z in cases if min(z) > 0]
    made = []
    for name, share, z in cases:
        n_tokens = sum(SETTINGS[name])
        enough = [part for part, one in zip(PARTS, z, strict=True) if one >= _ENOUGH]
        if enough:
            wanted = f"at most {round(min(enough) * n_tokens, -2):,.0f}"
        elif z[-1] > 0:
            powers = (0.5, max(float(np.mean(growth)), 0.05))
            root, slow = (n_tokens * (_ENOUGH / z[-1]) ** (1 / power) for power in powers)
            wanted = f"{_round(root)} to {_round(slow)} (n^{powers[1]:.2f})"
        else:
            wanted = "not known"
        shown = " ".join(f"{one:.1f}" for one in z)
        made.append([name, f"{share} %", f"{n_tokens:,}", shown, wanted])
    return made


def _round(n: float) -> str:
    """To two digits, or beyond all measure."""
    if n > 1e9:
        return "more than 10^9"
    step = 10 ** (math.floor(math.log10(n)) - 1)
    return f"{round(n / step) * step:,}"
