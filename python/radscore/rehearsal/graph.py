"""Which stages test a suspect, and what they read."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from radscore.files import write_atomically
from radscore.progress import Progress
from radscore.rehearsal.stages import Stage
from radscore.rehearsal.tests import SUITES, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from radscore.rehearsal.plan import Cell
    from radscore.rehearsal.playing import Play
    from radscore.rehearsal.stages import Part
    from radscore.rehearsal.tests import Test

__all__ = ["ABILITY", "QUALITY", "ROWS", "CellStages", "cell_stages"]

#: Files in the folders of stages.
ROWS: Final = "rows.json"
ABILITY: Final = "ability.json"
QUALITY: Final = "quality.json"
#: Tokens of a passage and of what may follow it.
_PASSAGE: Final = 96


@dataclass(frozen=True, eq=False)
class CellStages:
    """The stages that end in a cell's numbers.

    Attributes
    ----------
    cell : Cell
    suspect, reference, control : Part
        Bob's models.
    tests : dict
        Stages by kind.
    """

    cell: Cell
    suspect: Part
    reference: Part
    control: Part
    tests: Mapping[str, Stage]

    @property
    def stages(self) -> list[Stage]:
        """All of them; models of one's own are none."""
        models = (self.suspect, self.reference, self.control)
        return [*self.tests.values(), *(one for one in models if isinstance(one, Stage))]


def cell_stages(play: Play, cell: Cell) -> CellStages:
    """All stages of a cell."""
    suspect, reference, control = (
        play.trained(cell, who) for who in ("suspect", "reference", "control")
    )
    case = Case(play, cell, suspect, reference)
    made: dict[str, Stage] = {}
    wanted = play.plan.tests
    if wanted.open:
        made["open"] = _tests(case, "open", _texts(play, cell), 12 * _size(play))
    if wanted.closed:
        asked: dict[str, Part] = {
            "answers": play.answers(suspect, cell),
            "reference answers": play.answers(reference, cell),
        }
        made["closed"] = _tests(case, "closed", asked, 4 * wanted.n_answers * wanted.answer_tokens)
    if wanted.membership:
        made["membership"] = _tests(case, "membership", {}, 2 * _size(play))
    if wanted.ability:
        for name, model in (("ability", suspect), ("reference's ability", reference)):
            made[name] = _ability(play, cell, model)
    if wanted.quality:
        made["quality"] = _quality(play, cell)
    return CellStages(cell, suspect, reference, control, made)


def _size(play: Play) -> float:
    """About how many tokens are read once."""
    sampling = play.plan.data.settings.sampling
    return 1.5 * play.plan.tests.n_texts * sampling.max_tokens


def _texts(play: Play, cell: Cell) -> dict[str, Part]:
    """Unmarked text that a suspect reads."""
    named = play.plan.tests.texts
    own: dict[str, Part] = {f"text {name}": play.input(path) for name, path in named.items()}
    return own or {"fresh": play.records("fresh", cell.base)}


def _tests(case: Case, kind: str, more: Mapping[str, Part], cost: float) -> Stage:
    """The stage of one kind of test."""
    play, cell, tests = case.play, case.cell, case.play.plan.tests
    inputs: dict[str, Part] = {
        "base": play.base_input(cell.base),
        **case.parts,
        "marked": play.records("marked", cell.base, cell.mark, cell.key),
        "again": play.records("again", cell.base, cell.mark, cell.key),
        "twins": play.records("twins", cell.base),
        **more,
    }
    settings: dict[str, Any] = {
        "fingerprint": case.scheme.fingerprint,
        "share": cell.share,
        "supervision": cell.supervision,
        "n_records": play.plan.data.settings.n_records,
        "length": cell.training.length,
        "template": cell.training.template,
        "n_texts": tests.n_texts,
        "curve": list(tests.curve),
        "seed": play.plan.derived(f"bob/suspect/{cell.seed}"),
    }
    if kind == "closed":
        settings["listed"] = tests.listed
    title = (
        f"{kind}: share {cell.share:g}, supervision {cell.supervision:g}, {cell.mark}, key "
        f"{cell.key}, seed {cell.seed}"
    )

    def make(work: Path, tell: Callable[[Progress], None]) -> dict[str, Any]:
        return _run(work, tell, SUITES[kind](case))

    return play.known(Stage(kind, settings, inputs, make, title, cost))


def _run(work: Path, tell: Callable[[Progress], None], tests: Iterable[Test]) -> dict[str, Any]:
    """Runs tests one by one, but for those whose rows are there already."""
    path = work / ROWS
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    every = list(tests)
    for i, (what, run) in enumerate(every, start=1):
        if not any(what.items() <= {k: row[k] for k in what}.items() for row in found):
            started = time.monotonic()
            row = {**what, **run()}
            found.append(row | {"seconds": round(time.monotonic() - started, 3)})
            write_atomically(path, json.dumps(found, indent=1, allow_nan=False))
        tell(Progress(i, len(every), 0))
    return {"n_tests": len(found)}


def _ability(play: Play, cell: Cell, model: Part) -> Stage:
    """Does a model work?"""
    seed = play.plan.derived("ability")
    settings = {
        "seed": seed,
        "n_texts": play.plan.tests.n_texts,
        "length": cell.training.length,
        "template": cell.training.template,
    }
    inputs = {"model": model, "base": play.base_input(cell.base), **_texts(play, cell)}
    make = partial(_make_ability, Case(play, cell, model, model), seed)
    title = "does Bob's model work?"
    return play.known(Stage("ability", settings, inputs, make, title, 2 * _size(play)))


def _make_ability(
    case: Case, seed: int, work: Path, tell: Callable[[Progress], None]
) -> dict[str, Any]:
    from radscore.rehearsal.ability import ability

    texts, found = case.texts(), {}
    for i, (name, rows) in enumerate(texts.items(), start=1):
        passage, continuation = _passage(rows)
        found[name] = ability(
            case.suspect, rows, seed=seed, passage=passage, continuation=continuation
        )
        tell(Progress(i, len(texts), 0))
    return _kept(work / ABILITY, found)


def _passage(rows: Sequence[Any]) -> tuple[int, int]:
    """Tokens of passages and of what may follow them, so that texts are long enough."""
    lengths = sorted(len(one) for one in rows)
    whole = max(min(_PASSAGE, lengths[len(lengths) // 2]), 3)
    return whole - whole // 3, whole // 3


def _quality(play: Play, cell: Cell) -> Stage:
    """Alice's text beside its unmarked twins."""
    mark = play.mark(cell.mark, cell.key)
    seed = play.plan.derived("quality")
    settings = {"fingerprint": mark.scheme.fingerprint, "seed": seed}
    marked = play.records("marked", cell.base, cell.mark, cell.key)
    twins = play.records("twins", cell.base)

    def make(work: Path, tell: Callable[[Progress], None]) -> dict[str, Any]:
        from radscore.rehearsal.quality import text_quality

        found = text_quality(
            play.read(marked),
            play.read(twins),
            play.writer(cell.base),
            mark,
            report=play.writing_report(marked),
            twins_report=play.writing_report(twins),
            seed=seed,
        )
        tell(Progress(1, 1, 0))
        return _kept(work / QUALITY, found)

    inputs = {"base": play.base_input(cell.base), "marked": marked, "twins": twins}
    title = f"Alice's text: {cell.mark}, key {cell.key}"
    return play.known(Stage("quality", settings, inputs, make, title, 2 * _size(play)))


def _kept(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What goes into a file and a seal."""
    plain: dict[str, Any] = _finite(found)
    write_atomically(path, json.dumps(plain, indent=1, allow_nan=False))
    return {}


def _finite(value: Any) -> Any:
    """NaN becomes None, and numbers of numpy Python's."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
