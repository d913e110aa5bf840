"""A dry run: what a plan would make, what it would learn, and what that takes; makes nothing."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore.rehearsal.graph import cell_stages
from radscore.rehearsal.playing import Play
from radscore.rehearsal.stages import Stage, Store, all_needed

if TYPE_CHECKING:
    import os

    from radscore.rehearsal.alice_records import Record
    from radscore.rehearsal.bob_check import TrainingCheck
    from radscore.rehearsal.plan import Plan

__all__ = ["DryRun", "dry_run"]

#: A forward and a backward pass, in forward passes.
_STEP: Final = 3.0


@dataclass(frozen=True)
class DryRun:
    """What a rehearsal would do.

    Attributes
    ----------
    n_cells : int
        Suspects and their controls, by degree of supervision.
    n_stages, n_made : int
        Stages in all, and those that the folder has.
    stages : dict
        Numbers of stages that are left, by kind.
    n_tokens : float
        About how many tokens are read forwards for them.
    seconds : float
        About how long that takes here, by the step that was timed.
    checks : dict of str to TrainingCheck
        Of each base and recipe: rows, masks, memory, and a step.
    own_records : bool
        Whether the rows are real records; else prompts stand in for answers.
    """

    n_cells: int
    n_stages: int
    n_made: int
    stages: dict[str, int]
    n_tokens: float
    seconds: float
    checks: dict[str, TrainingCheck]
    own_records: bool


def dry_run(plan: Plan, folder: str | os.PathLike[str] | None = None) -> DryRun:
    """Goes through a plan without making anything: one step of training, by the code that trains.

    Parameters
    ----------
    plan : Plan
        Weights of the base need not be there: config.json and tokenizer are enough.
    folder : path, optional
        Of a rehearsal that has begun, to count what is left.
    """
    from radscore.rehearsal.bob_check import check_training

    with tempfile.TemporaryDirectory() as scratch:
        known = folder is not None and Path(folder).is_dir()
        play = Play(plan, Store(Path(folder) if known and folder is not None else Path(scratch)))
        cells = plan.cells()
        every = all_needed(one for cell in cells for one in cell_stages(play, cell).stages)
        left = [one for one in every.values() if not play.store.is_made(one)]
        records, own = _records(play, cells[0].base)
        checks: dict[str, TrainingCheck] = {}
        for cell in cells:
            recipe = cell.training
            name = f"{cell.base}, {recipe.method}, length {recipe.length}"
            name += f", batch {recipe.batch_size}"
            if name not in checks:
                checks[name] = check_training(
                    plan.bases[cell.base],
                    records,
                    recipe,
                    seed=plan.seed,
                    tokenizer=plan.tokenizer,
                    device=plan.device,
                )
        n_tokens = sum(one.cost for one in left)
        rate = min(_rate(one) for one in checks.values())
    return DryRun(
        n_cells=len(cells),
        n_stages=len(every),
        n_made=len(every) - len(left),
        stages=dict(Counter(one.kind for one in left)),
        n_tokens=n_tokens,
        seconds=n_tokens / rate,
        checks=checks,
        own_records=own,
    )


def _rate(check: TrainingCheck) -> float:
    """Tokens of the base that are read forwards in a second."""
    scale = check.step_parameters / check.n_parameters
    return _STEP * check.step_tokens / max(check.seconds, 1e-6) * scale


def _records(play: Play, base: str) -> tuple[list[Record], bool]:
    """Records that are there; else prompts, each with others in place of its answer."""
    from radscore.rehearsal.alice_records import Record

    for pool in ("twins", "others"):
        part = play.records(pool, base)
        if not isinstance(part, Stage) or play.store.is_made(part):
            return play.read(part), True
    some: list[Any] = play.prompts["marked"]
    if isinstance(some[0], Record):
        return _many(some, play.plan.data.settings.n_records), False
    n = play.plan.data.settings.sampling.max_tokens
    words = " ".join(some).split()
    answers = [" ".join((words[i:] + words)[: max(n // 2, 1)]) for i in range(len(some))]
    made = [Record(one, answer) for one, answer in zip(some, answers, strict=True)]
    return _many(made, play.plan.data.settings.n_records), False


def _many(records: list[Record], number: int) -> list[Record]:
    return (records * (-(-number // len(records))))[:number]
