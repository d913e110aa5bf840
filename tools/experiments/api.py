"""Models behind an API: what their log-probabilities, or their text alone, show of a share of 10 %.

Weights and constants were chosen on the keys 0 to 3 (`DEVELOPED`) and are reported on others. An
API's list is simulated by the suspect's N likeliest tokens; the tests are the library's.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import radscore as rs
from radscore.answers import Answers
from radscore.answers.grouping import occurrences_in
from radscore.audits.closed import test_closed
from radscore.models.listed import Listed

from tools.experiments.bob import REFERENCE, Bench, Suspect
from tools.experiments.places import Places, read_places
from tools.experiments.settings import alice
from tools.experiments.small import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["DEVELOPED", "SETTINGS", "api"]

Ids = Any
DEVELOPED = tuple(range(4))
KEYS = tuple(range(4, 10))
SEEDS = (0, 1)
CONTROL = Suspect(0)
N_READ, N_ASKED, N_TEXT, ANSWER = 122, 261, 1042, 96
N_DECOYS = 40
#: Places of which one token is asked for, and the most of one context.
N_PLACES, _PLACES_OF_A_CONTEXT = 6000, 4
#: Tokens kept at each place.
MOST = 128
#: Dollars for a million tokens; only their ratio matters.
PROMPT_PRICE, ANSWER_PRICE = 0.25, 1.0


class Readings:
    """What suspects and references predict, read once and kept in the folder `out`."""

    def __init__(self, bench: Bench, out: Path) -> None:
        self.bench = bench
        self.out = out
        out.mkdir(parents=True, exist_ok=True)

    def answers(self, who: Suspect) -> Ids:
        """The suspect's answers to the prompts of the pool "asked"."""
        path = self.out / f"answers-{who.name}.npy"
        if not path.exists():
            r = self.bench.recipe
            prompts = self.bench.prompts("asked", N_TEXT)
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
        """What the suspect ("p"), the matched reference ("q0") and the base ("qb") predict."""
        path = self.out / f"{kind}-{who.name}.npz"
        if not path.exists():
            rows, first = self.rows(kind, who)
            models: dict[str, Callable[[], Any]] = {
                "q0": lambda: self.bench.suspect(REFERENCE),
                "qb": self.bench.base,
            }
            if kind != "text":
                models["p"] = lambda: self.bench.suspect(who)
            width = self.bench.recipe.context_width
            read_places(models, rows, first=first, width=width, most=MOST).save(path)
        return Places.load(path)


@dataclass(frozen=True)
class Setting:
    """What is seen of a suspect.

    Attributes
    ----------
    kind : {"read", "answered", "text"}
        Texts that it reads, answers with log-probabilities, or answers alone.
    listed : int
        How many of the likeliest tokens are listed at each place.
    reference : tuple of str
        Whose mean is the reference: "q0" (matched), "qb" (base).
    n_answers : int or None
        How many texts or answers, None for all; and how many tokens of each.
    length : int or None
        See there.
    asked : {"random", "frequent"}, optional
        One token is asked for after each of some prompts, which end at so many of the places: any,
        or those whose contexts are the most frequent in unmarked text, each at most 4 times.
    """

    kind: str
    listed: int
    reference: tuple[str, ...]
    n_answers: int | None = None
    length: int | None = None
    asked: str | None = None

    def tokens(self, bench: Bench) -> tuple[int, int]:
        """Tokens of prompts and of answers that are paid for."""
        if self.asked:
            return N_PLACES * bench.recipe.prompt, N_PLACES
        if self.kind == "read":
            return (self.n_answers or N_READ) * bench.recipe.length, 0
        n = self.n_answers or (N_ASKED if self.kind == "answered" else N_TEXT)
        return n * bench.recipe.prompt, n * (self.length or ANSWER)


_MATCHED, _BASE, _BOTH = ("q0",), ("qb",), ("q0", "qb")
SETTINGS = {
    "20 listed, read, matched": Setting("read", 20, _MATCHED),
    "20 listed, read, base": Setting("read", 20, _BASE),
    "20 listed, read, both": Setting("read", 20, _BOTH),
    "5 listed, read, matched": Setting("read", 5, _MATCHED),
    "96 likeliest of logits, read, matched": Setting("read", 96, _MATCHED),
    "96 likeliest of logits, read, base": Setting("read", 96, _BASE),
    "96 likeliest of logits, read, both": Setting("read", 96, _BOTH),
    "20 listed, answered, matched": Setting("answered", 20, _MATCHED),
    "20 listed, answered, base": Setting("answered", 20, _BASE),
    "20 listed, answered, both": Setting("answered", 20, _BOTH),
    "5 listed, answered, matched": Setting("answered", 5, _MATCHED),
    "20 listed, 6,000 answered, long, matched": Setting("answered", 20, _MATCHED, 65),
    "20 listed, 6,000 answered, short, matched": Setting("answered", 20, _MATCHED, None, 24),
    "20 listed, 6,000 read, matched": Setting("read", 20, _MATCHED, 24),
    "20 listed, one token after 6,000 prompts, matched": Setting(
        "read", 20, _MATCHED, asked="random"
    ),
    "20 listed, the same after frequent contexts, matched": Setting(
        "read", 20, _MATCHED, asked="frequent"
    ),
    "text alone, plain": Setting("text", 0, ()),
    "text alone, matched": Setting("text", 0, _MATCHED),
    "text alone, base": Setting("text", 0, _BASE),
    "text alone, both": Setting("text", 0, _BOTH),
}


def _asked(readings: Readings, setting: Setting, places: Places) -> npt.NDArray[np.bool_]:
    """The places that are asked for."""
    n, width = places.contexts.shape
    order = np.random.default_rng(1).permutation(n)
    if setting.asked == "frequent":
        counts = rs.KgramCounts(width, readings.bench.recipe.vocab_size, watermarked=False)
        counts.add(list(readings.bench.texts("reference")))
        times = occurrences_in(places.contexts.astype(np.uint32), counts)
        numbers = np.unique(places.contexts, axis=0, return_inverse=True)[1].ravel()
        by_context = order[np.argsort(numbers[order], kind="stable")]
        _, starts, sizes = np.unique(numbers[by_context], return_index=True, return_counts=True)
        which = np.arange(n) - np.repeat(starts, sizes)  # of its context
        few = by_context[which < _PLACES_OF_A_CONTEXT]
        order = few[np.argsort(-times[few], kind="stable")]
    found = np.zeros(n, dtype=np.bool_)
    found[order[: N_PLACES if setting.asked else n]] = True
    return found


def _lists(
    places: Places, values: Any, setting: Setting, shape: tuple[int, int], some: Any
) -> Listed:
    """The likeliest tokens as lists, one for each token: the first ones of a text have none."""
    per, length = shape
    listed = setting.listed if values is places.probabilities.get("p") else 0
    n = listed or values.shape[1]
    best = np.argsort(-values[some], axis=1, kind="stable")[:, :n]
    sizes = np.zeros((len(values) // per, length), dtype=np.int64)
    sizes[:, length - per :] = n * some.reshape(-1, per)
    taken = np.take_along_axis(values[some], best, axis=1)
    return Listed(
        np.concatenate([[0], np.cumsum(sizes)]),
        np.take_along_axis(places.ids[some], best, axis=1).ravel().astype(np.uint32),
        np.log(np.maximum(taken, 1e-7)).ravel().astype(np.float32),
    )


def answers_of(
    readings: Readings, who: Suspect, setting: Setting
) -> tuple[Answers, Answers | None]:
    """The suspect's answers, or the texts that it read, and what the reference makes of them."""
    rows, first = readings.rows(setting.kind, who)
    reads = setting.kind == "read"
    start = 0 if reads else first
    number, end = setting.n_answers or len(rows), start + (setting.length or rows.shape[1] - start)
    documents = rs.Documents.of(np.ascontiguousarray(rows[:number, start:end]))
    prompts = None if reads else rs.Documents.of(np.ascontiguousarray(rows[:number, :first]))
    if not setting.reference:
        return Answers(documents, prompts), None
    places = readings.places(setting.kind, who)
    length = rows.shape[1] - start
    shape = rows.shape[1] - first, length
    some = _asked(readings, setting, places)
    q = sum(places.probabilities[name] for name in setting.reference) / len(setting.reference)
    wanted = np.concatenate(
        [np.arange(i * length, i * length + end - start) for i in range(number)]
    )

    def cut(lists: Listed) -> Listed:
        if len(wanted) == len(lists):
            return lists
        return Listed.joined(
            [lists.positions(i * length, i * length + end - start) for i in range(number)]
        )

    reference = cut(_lists(places, q, setting, shape, some))
    listed = None
    if setting.listed:
        listed = cut(_lists(places, places.probabilities["p"], setting, shape, some))
    return Answers(documents, prompts, listed=listed), Answers(documents, prompts, listed=reference)


def api(bench: Bench, out: Path) -> dict[str, Any]:
    """All numbers; saved as they come, so a second run continues."""
    path = out / "api.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    readings = Readings(bench, out / "api")
    suspects = [(Suspect(10, key=key, seed=seed), key) for seed in SEEDS for key in KEYS]
    cases = [*suspects[: len(KEYS)], *((CONTROL, key) for key in KEYS), *suspects[len(KEYS) :]]
    for who, key in cases:
        for name, setting in SETTINGS.items():
            label = f"{name}: {who.name}, key {key}"
            if label in found:
                continue
            answers, reference = answers_of(readings, who, setting)
            result = test_closed(
                answers,
                alice(bench.recipe, key),
                reference=reference,
                weighting=_weighting(setting),
                decoys=N_DECOYS if key == KEYS[0] and not who.seed else 0,
                threads=1,
            )
            decoys = result.decoys
            found[label] = {
                "z": float(result.score.zscore),
                "log10_pvalue": float(result.log10_pvalue),
                "decoy_mean": math.nan if decoys is None else decoys.mean,
                "decoy_sd": math.nan if decoys is None else decoys.standard_deviation,
                "n_tokens": setting.tokens(bench),
            }
            path.write_text(json.dumps(found, indent=1))
            print(label, found[label], flush=True)
    return found


def _weighting(setting: Setting) -> Any:
    if setting.listed:
        return "listed"
    return "residual" if setting.reference else "plain"
