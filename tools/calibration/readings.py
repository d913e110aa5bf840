"""Open tests of models that read text: behind an API that lists tokens, or at chosen places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import radscore as rs
from radscore.audits.open import DAMPING, test_open
from radscore.errors import TokenError
from radscore.models.live import Reading
from radscore.models.weighting import plan
from radscore.scoring import MatchedScorer
from radscore.scoring.contexts import Contexts

from tools.calibration.models import Habits, Induction, Listing
from tools.calibration.routes import LENGTH, N_TEXTS, answers_of
from tools.calibration.rows import Row
from tools.calibration.world import SUSPECTS, VOCAB, Rows, World, schemes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radscore.schemes import Scheme

__all__ = ["contaminated_readings", "marked_readings", "unmarked_readings", "without_memory"]

_CUTS: Final = (9, 17, 33, 58, 80)  # tokens of prompts, after which one more is told


def _of(how: str, world: World, width: int) -> dict[str, Any]:
    """The suspect, which continues what it reads, and the other arguments of `test_open`."""
    network = Induction.of(VOCAB)
    if how == "chosen contexts":
        counts = rs.KgramCounts(width, VOCAB, watermarked=False)
        counts.add(world.text(4 * N_TEXTS, LENGTH))
        return {"model": network, "contexts": counts, "min_weight": 0.01}
    if how == "lists alone":
        return {"model": Listing(network)}
    given: dict[str, Any] = {"model": Listing(network, at_end=how == "one token a prompt")}
    several = [world.habits, world.habits[::-1].copy()]  # the other knows another language
    clean = [Habits.of(habits, VOCAB) for habits in several[: 1 + (how == "lists by two")]]
    given["reference"] = clean
    if how == "lists, matched":
        given |= {"weighting": "matched", "max_weights": 32}
    return given


_HOWS: Final = (
    "lists",
    "lists by two",
    "lists alone",
    "lists, matched",
    "one token a prompt",
    "chosen contexts",
)


def _hows(scheme: Scheme) -> list[str]:
    """Those that are routes of their own under a scheme."""
    matched = isinstance(scheme.sampling, str) and scheme.sampling != "bias"
    return [how for how in _HOWS if matched or how != "lists, matched"]


def _texts(world: World, suspect: str, scheme: Scheme | None, how: str) -> list[Rows]:
    """Text of Alice's, which a suspect went on with; or prompts that end anywhere in it."""
    begun = world.text(N_TEXTS, LENGTH, scheme)
    texts = np.column_stack([begun, answers_of(world, suspect, begun)])
    return _cut([*texts], how)


def _cut(texts: list[Rows], how: str) -> list[Rows]:
    if how != "one token a prompt":
        return texts
    return [text[:length] for text in texts for length in _CUTS if length <= len(text)]


def _world(suspect: str, n_keys: int) -> World:
    return World(np.random.default_rng([10 + list(SUSPECTS).index(suspect), n_keys]))


def unmarked_readings(
    name: str, suspect: str, n_keys: int, only: Sequence[str] | None = None
) -> list[Row]:
    """Text without any mark: one reading, whose weights all keys share."""
    scheme = schemes()[name]
    keys = scheme.decoys(n_keys, seed=n_keys)
    rows = []
    for how in only or _hows(scheme):
        world = _world(suspect, n_keys)
        texts = _texts(world, suspect, None, how)
        given = _of(how, world, scheme.window_width - 1)
        reference = given.get("reference")
        settings: dict[str, Any] = {
            n: given[n] for n in ("max_weights", "min_weight") if n in given
        }
        reading = Reading(
            given["model"],
            texts,
            context_width=scheme.window_width - 1,
            weighting=plan(
                given.get("weighting"), reference, settings, listed=how != "chosen contexts"
            ),
            reference=reference,
            contexts=Contexts.of(given.get("contexts"), scheme.window_width - 1, None),
        )
        rows.append(Row.of(name, f"{how}, clean text", suspect, _log10s(keys, reading)))
    return rows


def _log10s(keys: Sequence[Scheme], reading: Reading) -> list[float]:
    """The p-value of each key, of the same pairs."""
    scorer: Any = None
    for pairs in reading:
        some, base = pairs.weights != 0, []
        if pairs.base is None:
            is_contrast = reading.header.weighting.kind == "contrast"
            damping: dict[str, Any] = DAMPING if is_contrast else {}
            scorer = scorer or rs.Scorer(keys, combine="sum", threads=1, **damping)
        else:
            scorer = scorer or MatchedScorer(keys, threads=1)
            some |= pairs.base > 0
            base = [pairs.base[some]]
        scorer.add_pairs(pairs.contexts[some], pairs.targets[some], pairs.weights[some], *base)
    return [one.log10_pvalue for one in scorer.results()]


def marked_readings(
    name: str, suspect: str, n_keys: int, only: Sequence[str] | None = None
) -> list[Row]:
    """Text that each key has marked, and a suspect went on with, which is declared.

    Under schemes whose text does not tell their seeds, which have no p-value then: none.
    """
    if not schemes()[name].tells_marked_seeds:
        return []

    def texts(world: World, key: Scheme, how: str) -> list[Rows]:
        return _texts(world, suspect, key, how)

    return _each(name, "marked text", suspect, n_keys, only, texts=texts, text_watermarked=True)


def contaminated_readings(
    name: str, suspect: str, n_keys: int, only: Sequence[str] | None = None
) -> list[Row]:
    """Text of which one in twenty carries the mark and repeats itself, undeclared."""

    def texts(world: World, key: Scheme, how: str) -> list[Rows]:
        marked = world.copies(world.text(1, LENGTH // 2, key), 3 * LENGTH)
        return [*_cut([*world.text(19, LENGTH)], how), *_cut([*marked], how)]

    return _each(name, "contaminated text", suspect, n_keys, only, texts=texts)


def _each(
    name: str,
    kind: str,
    suspect: str,
    n_keys: int,
    only: Sequence[str] | None,
    *,
    texts: Callable[[World, Scheme, str], list[Rows]],
    **more: Any,
) -> list[Row]:
    """Rows for which each key has a text of its own."""
    scheme = schemes()[name]
    keys = scheme.decoys(n_keys, seed=n_keys)

    rows = []
    for how in only or _hows(scheme):
        world = _world(suspect, n_keys)
        given = _of(how, world, scheme.window_width - 1) | more
        found = [_log10(key, texts(world, key, how), given) for key in keys]
        rows.append(Row.of(name, f"{how}, {kind}", suspect, found))
    return rows


def _log10(key: Scheme, texts: list[Rows], given: dict[str, Any]) -> float:
    model, options = given["model"], {k: v for k, v in given.items() if k != "model"}
    try:
        return test_open(model, texts, key, threads=1, **options).log10_pvalue
    except TokenError as error:
        if "nothing was scored" not in str(error):
            raise
        return math.nan


def without_memory(name: str, n_keys: int) -> Row:
    """The planted mistake: marked prompts, and only the places after them are taken as read.

    The suspect has seen the seeds there earlier in the prompts, and what followed them.
    """
    scheme = schemes()[name]
    found = []
    for key in scheme.decoys(n_keys, seed=n_keys):
        world = _world("copies", n_keys)
        read = world.copies(world.text(8 * N_TEXTS, LENGTH // 2, key), LENGTH + LENGTH // 4)
        given = _of("one token a prompt", world, scheme.window_width - 1)
        reading = Reading(
            given["model"],
            [*read],
            context_width=scheme.window_width - 1,
            weighting=plan("mass", None, {}, listed=True),
        )
        found += _log10s([key], reading)
    return Row.of(name, "one token a prompt, forgotten", "copies", found)
