"""Marks of production in an open model that reads unmarked text: matched scores at a share of 10 %.

Weights and constants were chosen on the keys 1 and 2 of the marks of width 4; the others were not
looked at.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import radscore as rs
from transformers.modeling_outputs import CausalLMOutputWithPast

from tools.experiments.bob import REFERENCE, Bench, Suspect
from tools.experiments.settings import MARKS, alice

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MARK_KEYS", "MARK_NAMES", "marks"]

MARK_KEYS = (1, 2, 3, 4)
#: Most tokens that are read: 488 texts.
_TEXTS, _DECOYS = 488, 40
_REFERENCES = ("matched", "both")
MARK_NAMES = tuple(f"{mark} {name}" for mark in MARKS[::-1] for name in _REFERENCES)


def _remembered(network: Any) -> Any:
    """The network, which computes the logits of a batch once and keeps them in half precision."""
    inner = network.forward
    known: dict[Any, Any] = {}

    @functools.wraps(inner)
    def forward(input_ids: Any, logits_to_keep: Any = 0, **given: Any) -> Any:
        name = (
            tuple(input_ids.shape),
            input_ids.numpy().tobytes(),
            np.array(logits_to_keep).tobytes(),
        )
        if name not in known:
            out = inner(input_ids=input_ids, logits_to_keep=logits_to_keep, **given)
            known[name] = out.logits.half()
        return CausalLMOutputWithPast(logits=known[name].float())

    network.forward = forward
    return network


def marks(bench: Bench, out: Path) -> dict[str, Any]:
    """log10 p by "mark reference: key"; saved, so a second run continues."""
    path = out / "marks.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    text = np.vstack([bench.texts("fresh"), bench.texts("spare")])[:_TEXTS]
    single, base = _remembered(bench.suspect(REFERENCE)), _remembered(bench.base())
    references = {"matched": single, "both": [single, base]}
    suspects = {key: [Suspect(10, key=key, mark=mark) for mark in MARKS[::-1]] for key in MARK_KEYS}
    for who in (*(one for key in (3, 4, 1, 2) for one in suspects[key]), Suspect(0)):
        tested = MARKS[::-1] if not who.share else (who.mark,)
        names = [f"{mark} {name}" for mark in tested for name in _REFERENCES]
        if all(f"{name}: {who.name}" in found for name in names):
            continue
        model = None  # what the last one remembers goes first
        model = _remembered(bench.suspect(who))
        for mark in tested:
            scheme = alice(bench.recipe, who.key or 1, mark)
            counts = rs.KgramCounts(scheme.window_width - 1, scheme.vocab_size, watermarked=False)
            counts.add(list(bench.texts("reference")))
            for name, reference in references.items():
                label = f"{mark} {name}: {who.name}"
                if label in found:
                    continue
                result = rs.test_open(
                    model,
                    list(text),
                    scheme,
                    reference=reference,
                    weighting="contrast" if mark == "keyed" else "matched",
                    contexts=counts,
                    text_watermarked=False,
                    decoys=0 if who.share else _DECOYS,
                    threads=1,
                )
                found[label] = {"log10_pvalue": result.log10_pvalue, "z": result.score.zscore}
                if result.decoys is not None:
                    each = np.asarray(result.decoys.decoy_statistics)
                    found[label] |= {"decoys": [float(each.mean()), float(each.std(ddof=1))]}
                path.write_text(json.dumps(found, indent=1))
                print(label, found[label], flush=True)
    return found
