"""Runs the weighting study on Bob's models; keeps its numbers in the cache's ``study.json``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tools.experiments.bob import REFERENCE, Bench, Suspect
from tools.experiments.settings import alice
from tools.experiments.weightings import CLOSED, OPEN, closed_counts, open_weights, weigh

if TYPE_CHECKING:
    import radscore as rs

__all__ = ["study"]

#: The suspects, and the key that each is tested with.
CASES = (
    (Suspect(10), 0),
    (Suspect(10, key=1), 1),
    (Suspect(10, key=2), 2),
    (Suspect(100), 0),
    (Suspect(5), 0),
    (Suspect(1), 0),
    (Suspect(0), 0),
)
N_TEXTS = 128
TOP = 64
TOPS = (4, 16, 64, 256, 1024)
N_DECOYS = 40
N_ANSWERS = 2048
ANSWER = 96


def keys(bench: Bench, key: int, decoys: int) -> list[rs.Scheme]:
    """The scheme under the tested key, and under decoy keys, which are not the other owners'."""
    scheme = alice(bench.recipe, key)
    return [scheme, *(scheme.decoys(decoys, seed=4242) if decoys else [])]


def study(bench: Bench) -> dict[str, Any]:
    """All numbers; saved as they come, so a second run continues."""
    path = bench.cache / "study.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def once(name: str, run: Any) -> None:
        if name not in found:
            found[name] = run()
            path.write_text(json.dumps(found, indent=1))
            print(name, flush=True)

    for who, key in CASES:
        once(f"open {who.name}", lambda who=who, key=key: _open(bench, who, key))
    once("open base", lambda: _open(bench, Suspect(10), 0, reference="base"))
    once("open base rho-0", lambda: _open(bench, Suspect(0), 0, reference="base"))
    once("tops", lambda: _tops(bench))
    for who, key in CASES:
        once(f"closed {who.name}", lambda who=who, key=key: _closed(bench, who, key))
    return found


def _open(bench: Bench, who: Suspect, key: int, reference: str = "matched") -> dict[str, Any]:
    other = bench.base() if reference == "base" else bench.suspect(REFERENCE)
    rows = bench.texts("fresh")[:N_TEXTS]
    width = bench.recipe.context_width
    contexts, kept = open_weights(
        bench.suspect(who), other, rows, width=width, names=list(OPEN), top=TOP
    )
    schemes = keys(bench, key, N_DECOYS if who.share in {0, 10} and not who.key else 0)
    found = {}
    for name, (targets, weights) in kept.items():
        found[name] = asdict(weigh(schemes, contexts, targets, weights))
    first = kept["difference"]
    found["difference, first occurrence"] = asdict(
        weigh(schemes, contexts, first[0], first[1], combine="one")
    )
    # the paper's reading mode: the top prediction at each context's first occurrence
    targets, weights = kept["mass"]
    found["prediction"] = asdict(
        weigh(schemes, contexts, targets[:, 0], (weights[:, 0] > 0).astype(float), combine="one")
    )
    return found


def _tops(bench: Bench) -> dict[str, Any]:
    names = ["difference", "roots", "p^0.25 - q^0.25", "relative", "log_ratio", "mass"]
    rows = bench.texts("fresh")[: N_TEXTS // 2]
    found: dict[str, Any] = {name: {} for name in names}
    for top in TOPS:
        contexts, kept = open_weights(
            bench.suspect(Suspect(10)),
            bench.suspect(REFERENCE),
            rows,
            width=bench.recipe.context_width,
            names=names,
            top=top,
        )
        for name, (targets, weights) in kept.items():
            one = weigh(keys(bench, 0, 0), contexts, targets, weights)
            found[name][str(top)] = one.z
    return found


def _closed(bench: Bench, who: Suspect, key: int) -> dict[str, Any]:
    both = bench.answers(who, N_ANSWERS, ANSWER), bench.answers(REFERENCE, N_ANSWERS, ANSWER)
    scheme = alice(bench.recipe, key)
    counts = closed_counts(both, bench.prompts("asked", N_ANSWERS), scheme)
    schemes = keys(bench, key, N_DECOYS)
    return {
        name: asdict(weigh(schemes, counts.contexts, counts.targets, rule(counts)))
        for name, rule in CLOSED.items()
    }
