"""`rehearse`: plays a plan to its end, and writes what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ArgumentError
from radscore.extras import need
from radscore.files import write_atomically
from radscore.provenance import provenance
from radscore.rehearsal.effects import VERSION, effects_of
from radscore.rehearsal.graph import ROWS, CellStages, cell_stages
from radscore.rehearsal.plan import Plan
from radscore.rehearsal.playing import Play
from radscore.rehearsal.stages import Stage, Store, run_stages
from radscore.rehearsal.table import as_markdown, as_text, grids_of, needs_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from radscore.progress import Progress
    from radscore.rehearsal.plan import Cell

__all__ = ["KINDS", "Rehearsal", "rehearse"]

#: What `only` can name: the tests, and stages that come before them.
KINDS: Final = ("records", "bob", "answers", "open", "closed", "membership", "ability", "quality")
EFFECTS: Final = "effects.json"


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What a rehearsal found.

    Attributes
    ----------
    plan : Plan
    folder : Path
        With a folder for each stage, ``effects.json``, ``results.md`` and ``results.html``.
    results : list of (Cell, dict)
        Every test of every suspect: see `radscore.rehearsal.tests`.
    effects : list of dict
        See `radscore.rehearsal.effects`.
    finished : bool
        Whether all stages are made.
    """

    plan: Plan
    folder: Path
    results: list[tuple[Cell, Mapping[str, Any]]] = field(default_factory=list)
    effects: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False

    def table(self) -> str:
        """The results as text."""
        grids = grids_of(self.effects)
        needs = needs_of(self.effects, self.plan.tests.level)
        return "\n".join(as_text(one) for one in (*grids, needs) if one.rows)

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
    wanted = [one for cell in cells for one in _stages(cell) if not only or one.kind in only]
    if only:
        every = {one.digest: one for cell in cells for one in _stages(cell)}
        below = {one.digest: one for top in every.values() for one in top.needed()}
        wanted = [one for one in below.values() if one.kind in only]
    finished = run_stages(store, wanted, begin=begin, progress=progress, stop=stop)
    return _written(plan, play, cells, finished=finished and not only)


def _stages(cell: CellStages) -> list[Stage]:
    models = (cell.suspect, cell.reference, cell.control)
    return [*cell.tests.values(), *(one for one in models if isinstance(one, Stage))]


def _written(plan: Plan, play: Play, cells: Sequence[CellStages], *, finished: bool) -> Rehearsal:
    store = play.store
    results: list[tuple[Cell, Mapping[str, Any]]] = []
    for one in cells:
        for stage in one.tests.values():
            if store.is_made(stage) and (rows := store.path(stage) / ROWS).exists():
                results += [(one.cell, row) for row in json.loads(rows.read_text())]
    schemes = {
        name: {"scheme": json.loads(json.dumps(play.mark(name, 0).scheme.to_dict(), default=str))}
        | {"delta": mark.delta}
        for name, mark in plan.marks.items()
    }
    effects = effects_of(
        results,
        schemes=schemes,
        level=plan.tests.level,
        answer_tokens=plan.tests.answer_tokens,
    )
    found = Rehearsal(plan, store.folder, results, effects, finished)
    content = {
        "format": "radscore effects",
        "version": VERSION,
        "name": plan.name,
        "plan": plan.digest,
        "level": plan.tests.level,
        "power": 0.9,
        "effects": effects,
        "provenance": provenance(),
    }
    write_atomically(store.folder / EFFECTS, json.dumps(content, indent=1, allow_nan=False))
    write_atomically(store.folder / "plan.json", json.dumps(plan.to_dict(), indent=1))
    grids = [*grids_of(effects), needs_of(effects, plan.tests.level)]
    text = "\n".join(as_markdown(one) for one in grids if one.rows)
    write_atomically(store.folder / "results.md", f"# {plan.name}\n\n{text}")
    return found
