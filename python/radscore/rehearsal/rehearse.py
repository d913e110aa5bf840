"""`rehearse`: plays a plan to its end, and writes what came of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ArgumentError, MissingExtraError
from radscore.extras import need
from radscore.files import write_atomically
from radscore.provenance import provenance
from radscore.rehearsal.effects import FORMAT, POWER, VERSION, effects_of
from radscore.rehearsal.graph import ABILITY, QUALITY, ROWS, CellStages, cell_stages
from radscore.rehearsal.page import page
from radscore.rehearsal.plan import Plan, plain
from radscore.rehearsal.playing import Play, public
from radscore.rehearsal.stages import Stage, Store, all_needed, run_stages
from radscore.rehearsal.table import (
    ability_of,
    as_markdown,
    as_text,
    grids_of,
    membership_of,
    needs_of,
    quality_of,
)
from radscore.rehearsal.tests import NAIVE

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from radscore.progress import Progress
    from radscore.rehearsal.plan import Cell
    from radscore.rehearsal.table import Grid

__all__ = ["KINDS", "Rehearsal", "rehearse"]

#: What `only` can name: the tests, and stages that come before them.
KINDS: Final = ("records", "bob", "answers", "open", "closed", "membership", "ability", "quality")


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What a rehearsal found.

    Attributes
    ----------
    plan : Plan
    folder : Path
        With a folder for each stage.
    results : list of (Cell, dict)
        Every test of every suspect; see `radscore.rehearsal.tests`.
    effects : list of dict
        See `radscore.rehearsal.effects`.
    quality, ability : list of dict
        Of Alice's text by mark and key, and of Bob's models.
    finished : bool
        Whether all stages are made.
    files : list of Path
        What was written.
    notes : list of str
        Why tests have no p-value, and what is left.
    """

    plan: Plan
    folder: Path
    results: list[tuple[Cell, Mapping[str, Any]]] = field(default_factory=list)
    effects: list[dict[str, Any]] = field(default_factory=list)
    quality: list[dict[str, Any]] = field(default_factory=list)
    ability: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def grids(self) -> list[Grid]:
        """All tables."""
        found = [
            *grids_of(self.effects),
            needs_of(self.effects, self.plan.tests.level),
            membership_of(self.results),
            quality_of(self.quality),
            ability_of(self.ability),
        ]
        return [one for one in found if one.rows]

    def table(self) -> str:
        """The results as text."""
        return "\n".join(map(as_text, self.grids))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "plan": self.plan.digest,
            "folder": str(self.folder),
            "finished": self.finished,
            "results": [{**plain(cell), **row} for cell, row in self.results],
            "effects": self.effects,
            "quality": self.quality,
            "ability": self.ability,
            "files": [str(one) for one in self.files],
            "notes": self.notes,
        }

    def __repr__(self) -> str:
        done = "" if self.finished else ", not finished"
        return f"Rehearsal({self.plan.name!r}, {len(self.results)} results{done})"


def rehearse(
    plan: str | os.PathLike[str] | Mapping[str, Any] | Plan,
    *,
    folder: str | os.PathLike[str],
    only: Sequence[str] = (),
    begin: Callable[[Stage], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Rehearsal:
    """Plays Alice and Bob with models at hand, and measures how strong each test is.

    Every stage is made once: after an error, Ctrl-C or ``kill -9`` the same call continues, and
    several processes may share a folder. Cells that read the same share it.

    Parameters
    ----------
    plan : path, mapping or Plan
        See docs/rehearsal.md.
    folder : path
        Where everything is kept.
    only : sequence of str
        Kinds of stages, of `KINDS`, and what they read; by default all.
    begin : callable, optional
        Called with every `Stage` that is made now.
    progress : callable, optional
        Called with a `Progress`: thousands of tokens read, forwards, of an estimate.
    stop : callable, optional
        Asked between stages; once it returns True, the rest is left.

    Raises
    ------
    ArgumentError
        If the plan is wrong: the message names file, table and field.
    """
    need("torch", "transformers", "accelerate", what="a rehearsal")
    if not isinstance(plan, Plan):
        plan = Plan.of(plan) if hasattr(plan, "items") else Plan.read(plan)  # type: ignore[arg-type]
    for one in only:
        if one not in KINDS:
            raise ArgumentError(f"only must be of {', '.join(KINDS)}, not {one!r}")
    store = Store(Path(folder))
    play = Play(plan, store)
    cells = [cell_stages(play, one) for one in plan.cells()]
    wanted = [one for cell in cells for one in cell.stages]
    if only:
        wanted = [one for one in all_needed(wanted).values() if one.kind in only]
    finished = run_stages(store, wanted, begin=begin, progress=progress, stop=stop)
    return _written(plan, play, cells, finished=finished and not only)


def _written(plan: Plan, play: Play, cells: Sequence[CellStages], *, finished: bool) -> Rehearsal:
    """Collects what is made, and writes it."""
    store = play.store
    results: list[tuple[Cell, Mapping[str, Any]]] = []
    quality: dict[str, dict[str, Any]] = {}
    ability: dict[str, dict[str, Any]] = {}
    for one in cells:
        cell = one.cell
        for name, stage in one.tests.items():
            if not store.is_made(stage):
                continue
            path = store.path(stage)
            if stage.kind == "quality":
                who: dict[str, Any] = {"base": cell.base, "mark": cell.mark, "key": cell.key}
                quality[stage.digest] = who | json.loads((path / QUALITY).read_text())
            elif stage.kind == "ability":
                model = "reference" if name != "ability" else f"share {100 * cell.share:.3g} %"
                model += (
                    f", {cell.mark}, key {cell.key}" if cell.share and name == "ability" else ""
                )
                who = {"base": cell.base, "model": f"{model}, seed {cell.seed}"}
                found = json.loads((path / ABILITY).read_text())
                ability[stage.digest] = who | {"texts": found}
            else:
                results += [(cell, row) for row in json.loads((path / ROWS).read_text())]
    schemes = {
        name: {"scheme": public(play.mark(name, 0).scheme), "delta": mark.delta}
        for name, mark in plan.marks.items()
    }
    effects = effects_of(results, schemes=schemes, level=plan.tests.level)
    made = Rehearsal(
        plan,
        store.folder,
        results,
        effects,
        list(quality.values()),
        list(ability.values()),
        finished,
        notes=_notes(results, finished=finished),
    )
    _write(made)
    return made


def _notes(results: Sequence[tuple[Cell, Mapping[str, Any]]], *, finished: bool) -> list[str]:
    reasons = Counter(row["why"] for _, row in results if row["why"] and row["weights"] != NAIVE)
    notes = [f"no p-value in {number} tests: {why}" for why, number in reasons.most_common()]
    return notes if finished else [*notes, "stages are missing: run the plan again to continue"]


def _write(found: Rehearsal) -> None:
    plan, folder = found.plan, found.folder
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": plan.name,
        "plan": plan.digest,
        "level": plan.tests.level,
        "power": POWER,
        "effects": found.effects,
        "provenance": provenance(),
    }
    text = "\n".join(map(as_markdown, found.grids))
    files = {
        "effects.json": json.dumps(content, indent=1, allow_nan=False),
        "plan.json": json.dumps(plan.to_dict(), indent=1),
        "results.md": f"# {plan.name}\n\n{text}",
    }
    samples = [sample for one in found.quality[:2] for sample in one["samples"]]
    try:
        files["results.html"] = page(
            plan.name,
            plan.digest,
            grids=found.grids,
            effects=found.effects,
            samples=samples,
            notes=found.notes,
        )
    except MissingExtraError as error:
        found.notes.append(f"results.html was not written: {error}")
    for name, one in files.items():
        write_atomically(folder / name, one)
        found.files.append(folder / name)
