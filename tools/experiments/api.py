"""Models behind an API: what their log-probabilities, or their text alone, show of a share of 10 %.

Weights and constants were chosen on the keys 0 to 3 and are reported on others. An API's list is
simulated by the suspect's N likeliest tokens. The weights are those of `test_closed` and, for what
is read, of `test_open` (tests/answers/test_experiments.py), computed for many keys at once.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import radscore as rs
from radscore.answers.grouping import kept_windows
from radscore.answers.places import frequency, saturated
from radscore.models.weighting import Weighting
from radscore.scoring.contexts import Lookup

from tools.experiments.bob import REFERENCE, Bench, Suspect
from tools.experiments.places import Places, read_places
from tools.experiments.settings import alice
from tools.experiments.small import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "ANSWER_PRICE",
    "KEYS",
    "PARTS",
    "PROMPT_PRICE",
    "SETTINGS",
    "WEAK",
    "WEAK_SHARES",
    "api",
    "weak",
]

Ids = Any
KEYS = tuple(range(4, 10))
CONTROL = Suspect(0)
SECOND = replace(REFERENCE, seed=1)
N_READ, N_ASKED, N_TEXT, ANSWER = 122, 261, 1042, 96
#: Places of which one token is asked for, and the most of one context.
N_PLACES, _PLACES_OF_A_CONTEXT = 6000, 4
#: Tokens kept at each place.
MOST = 512
#: Dollars for a million tokens; only their ratio matters.
PROMPT_PRICE, ANSWER_PRICE = 0.25, 1.0


class Readings:
    """What suspects and references predict, read once and kept in the folder `out`."""

    def __init__(self, bench: Bench, out: Path) -> None:
        self.bench = bench
        self.out = out
        out.mkdir(parents=True, exist_ok=True)

    def answers(self, who: Suspect) -> Ids:
        """The suspect's answers to the prompts of the pool "asked"; a second seed's are fewer."""
        path = self.out / f"answers-{who.name}.npy"
        if not path.exists():
            r = self.bench.recipe
            prompts = self.bench.prompts("asked", N_ASKED if who.seed else N_TEXT)
            seed = r.seed + 5000 + 10 * who.share + who.key + 1000 * who.seed
            said = write(self.bench.suspect(who), prompts, ANSWER, seed + 7 * (who == REFERENCE))
            np.save(path, said.astype(np.uint16))
        return np.load(path).astype(np.int64)

    def rows(self, kind: str, who: Suspect) -> tuple[Ids, int]:
        """The texts that are read, and their first place."""
        if kind == "read":
            return self.bench.texts("fresh")[:N_READ], self.bench.recipe.context_width
        number = N_ASKED if kind == "answered" else N_TEXT
        prompts = self.bench.prompts("asked", N_TEXT)[:number]
        return np.hstack([prompts, self.answers(who)[:number]]), prompts.shape[1]

    def places(self, kind: str, who: Suspect) -> Places:
        """Of the suspect ("p"), two matched references ("q0", "q1") and the base ("qb")."""
        path = self.out / f"{kind}-{who.name}.npz"
        if not path.exists():
            rows, first = self.rows(kind, who)
            models: dict[str, Callable[[], Any]] = {
                "q0": lambda: self.bench.suspect(REFERENCE),
                "q1": lambda: self.bench.suspect(SECOND),
                "qb": self.bench.base,
            }
            if kind != "text":
                models["p"] = lambda: self.bench.suspect(who)
            width = self.bench.recipe.context_width
            read_places(models, rows, first=first, width=width, most=MOST).save(path)
        return Places.load(path)


#: What is seen, and the tokens of prompts and of answers that are paid for.
_TEXTS, _PROMPTS = N_READ * 256, N_ASKED * 16
_LISTED = {
    f"{n} {kind} {name}": paid
    for kind, most, paid in (
        ("read", "logits", (_TEXTS, 0)),
        ("answered", 96, (_PROMPTS, N_ASKED * ANSWER)),
    )
    for name in ("matched", "base", "both")
    for n in (5, 20, most)
}
SETTINGS: dict[str, tuple[int, int]] = {
    **_LISTED,
    "20 long matched": (65 * 16, 65 * ANSWER),
    "20 short matched": (_PROMPTS, N_ASKED * 24),
    "20 few read matched": (24 * 256, 0),
    "20 random matched": (N_PLACES * 16, N_PLACES),
    "20 frequent matched": (N_PLACES * 16, N_PLACES),
    **{
        f"text {name}": (N_TEXT * 16, N_TEXT * ANSWER)
        for name in ("plain", "matched", "base", "both")
    },
}


#: Settings in which the small shares are looked for, and parts of the tokens.
WEAK = {
    "read": ("logits read both", "20 read both"),
    "answered": ("20 answered both",),
    "text": ("text matched",),
}
WEAK_SHARES, PARTS = (5, 1), (0.25, 0.5, 1.0)
#: One setting of each kind.
_SEEN = {"read": "logits read matched", "answered": "20 answered matched", "text": "text matched"}


class Units:
    """Distinct (context, token) pairs at some places, and sums of weights over them."""

    def __init__(self, contexts: Ids, ids: Ids, vocab_size: int) -> None:
        self.contexts, self.context = np.unique(contexts, axis=0, return_inverse=True)
        self.context = self.context.ravel()
        self.size = vocab_size
        pairs = self.context[:, None] * vocab_size + ids
        self.units, unit = np.unique(pairs, return_inverse=True)
        self.unit = unit.reshape(ids.shape)

    def weights(self, w: Any, inside: Any, weighting: str) -> Any:
        """The units' weights: what `test_closed` makes of those of places."""
        sums = np.bincount(self.unit[inside], w[inside], minlength=len(self.units))
        places = inside.any(axis=1)
        n = np.bincount(self.context[places], minlength=len(self.contexts))
        return saturated(sums * frequency(n, weighting)[self.units // self.size], weighting)

    def z(self, weights: dict[str, Any], scheme: rs.Scheme) -> dict[str, float]:
        """The tests under one key of a green list."""
        rows = self.contexts[self.units // self.size]
        windows = np.column_stack([rows, self.units % self.size]).astype(np.uint32)
        law = scheme.null_law
        scores = np.asarray(scheme.scores(windows), dtype=np.float64) - law.mean
        return {
            name: float(w @ scores) / math.sqrt(law.variance * float(w @ w))
            for name, w in weights.items()
        }


def _references(places: Places, some: Any, n: int) -> dict[str, Any]:
    one, other = (places.probabilities[name][some][:, :n] for name in ("q0", "qb"))
    return {"matched": one, "base": other, "both": (one + other) / 2}


def _listed(p: Any, q: Any, n: int, rows: Any) -> tuple[Any, Any]:
    """Weights of the n likeliest tokens at some places, and which they are."""
    least = -np.partition(-p, n - 1, axis=1)[:, n - 1 : n]
    inside = (p >= least) & rows[:, None]
    w = np.where(inside, (p - q) / (p + q + 0.01), 0.0)
    return w - 0.75 * w.sum(1, keepdims=True) / np.maximum(inside.sum(1, keepdims=True), 1), inside


def _contrast(p: Any, q: Any) -> tuple[Any, Any]:
    """Weights of the tokens that `test_open` keeps, the largest, and which they are."""
    w = (p - q) / (p + q + 0.01)
    size, most = np.abs(w), Weighting("contrast").max_weights
    least = -np.partition(-size, most - 1, axis=1)[:, most - 1 : most]
    inside = (size >= least) & (size > 1e-4)
    w = np.where(inside, w, 0.0)
    mean = w.sum(1, keepdims=True) / np.maximum(inside.sum(1, keepdims=True), 1)
    return np.where(inside, w - mean, 0.0), inside


def _frequent(readings: Readings, units: Units) -> Any:
    """Places whose contexts are the most frequent in unmarked text, each at most 4 times."""
    counts = rs.KgramCounts(units.contexts.shape[1], units.size, watermarked=False)
    counts.add(list(readings.bench.texts("reference")))
    times = Lookup(*counts.to_numpy()).counts(units.contexts.astype(np.uint32))[units.context]
    times = times.astype(np.float64)
    order = np.random.default_rng(1).permutation(len(times))
    order = order[np.argsort(units.context[order], kind="stable")]
    _, starts, sizes = np.unique(units.context[order], return_index=True, return_counts=True)
    which = np.arange(len(order)) - np.repeat(starts, sizes)
    few = order[which < _PLACES_OF_A_CONTEXT]
    return few[np.argsort(-times[few], kind="stable")][:N_PLACES]


def weights_of(
    readings: Readings, kind: str, who: Suspect, part: float = 1.0
) -> tuple[Units, dict[str, Any]]:
    """The units of one suspect and their weights in every setting, from a first part of places."""
    places = readings.places(kind, who)
    size, n = readings.bench.recipe.vocab_size, MOST if kind == "read" else 96
    some = np.arange(len(places.ids))
    if kind != "read":
        prompts = readings.bench.prompts("asked", N_TEXT)[: len(some) // ANSWER]
        said = rs.Documents.of(places.targets.reshape(-1, ANSWER))
        asked = rs.Documents.of(list(prompts))
        some = kept_windows(said, alice(readings.bench.recipe), prompts=asked).tokens
    some = some[: round(part * len(some))]
    ids, targets = places.ids[some][:, :n], places.targets[some]
    references = _references(places, some, n)
    found: dict[str, Any] = {}
    if kind == "text":
        units = Units(places.contexts[some], np.column_stack([ids, targets]), size)
        for name, q in references.items():
            w = np.column_stack([-q, np.ones(len(q))])
            found[f"text {name}"] = units.weights(w, np.ones(w.shape, dtype=bool), "residual")
        found["text plain"] = np.zeros(len(units.units))
        found["text plain"][units.unit[:, -1]] = 1.0
        return units, found
    units = Units(places.contexts[some], ids, size)
    p = places.probabilities["p"][some][:, :n]

    def add(name: str, q: Any, listed: int, rows: Any = None) -> None:
        rows = np.ones(len(p), dtype=np.bool_) if rows is None else rows
        found[name] = units.weights(*_listed(p, q, listed, rows), "listed")

    for name, q in references.items():
        for listed in (5, 20):
            add(f"{listed} {kind} {name}", q, listed)
        if kind == "read":
            found[f"logits read {name}"] = units.weights(*_contrast(p, q), "listed")
        else:
            add(f"96 {kind} {name}", q, 96)
    q = references["matched"]
    if kind == "answered":
        add("20 long matched", q, 20, some // ANSWER < 65)
        add("20 short matched", q, 20, some % ANSWER < 24)
        return units, found
    add("20 few read matched", q, 20, some < 24 * 254)
    chosen = np.random.default_rng(1).permutation(len(p))[:N_PLACES]
    add("20 random matched", q, 20, np.isin(some, chosen))
    add("20 frequent matched", q, 20, np.isin(some, _frequent(readings, units)))
    return units, found


def weak(bench: Bench, out: Path) -> dict[str, Any]:
    """Of small shares, z by "setting: share, part of the tokens"; saved."""
    path = out / "weak.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    readings = Readings(bench, out / "api")
    for kind, settings in WEAK.items():
        for share in WEAK_SHARES:
            for part in PARTS:
                labels = {name: f"{name}: {share} %, {part:g}" for name in settings}
                if all(label in found for label in labels.values()):
                    continue
                units, weights = weights_of(readings, kind, Suspect(share), part)
                z = units.z({name: weights[name] for name in settings}, alice(bench.recipe))
                found |= {label: z[name] for name, label in labels.items()}
                path.write_text(json.dumps(found, indent=1))
    return found


def api(bench: Bench, out: Path) -> dict[str, Any]:
    """All z, by "setting: model, key"; saved, so a second run continues."""
    path = out / "api.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    readings = Readings(bench, out / "api")
    own = {f"key {key}": alice(bench.recipe, key) for key in KEYS}
    decoys = {f"decoy {i}": one for i, one in enumerate(alice(bench.recipe).decoys(40, seed=4242))}
    for kind in ("read", "answered", "text"):
        for who in (*(Suspect(10, key=key) for key in KEYS), CONTROL):
            keys = {f"key {who.key}": own[f"key {who.key}"]} if who.share else {**own, **decoys}
            name = _SEEN[kind]
            if all(f"{name}: {who.name}, {key}" in found for key in keys):
                continue
            units, weights = weights_of(readings, kind, who)
            for key, scheme in keys.items():
                for setting, z in units.z(weights, scheme).items():
                    found[f"{setting}: {who.name}, {key}"] = z
            path.write_text(json.dumps(found, indent=1))
            print(kind, who.name, flush=True)
    return found
