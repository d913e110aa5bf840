"""A Slurm script for a run: arrays of map and reduce steps, each waiting for the one before."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from radscore.distributed.sizes import parse_size
from radscore.distributed.stages import stages_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.distributed.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["slurm_script"]

_SLACK = 1 << 29
#: For the job's own shell, not for the one that submits.
_TASK = '"$SLURM_ARRAY_TASK_ID"'


def slurm_script(
    run: Run,
    scheme: Scheme,
    secret: Sequence[str],
    *,
    memory: int | str = "1GiB",
    cpus: int = 2,
) -> str:
    """A shell script that submits a run; submitting it again does only what is not done.

    Parameters
    ----------
    run, scheme
        Which run is scored, for which watermark.
    secret : sequence of str
        The options that name scheme and key, as ``--scheme s.toml --key-file k``.
    memory : int or str
        Memory of windows in each step; a job asks for half a GiB more.
    cpus : int
        Cores of each step.
    """
    folder = run.folder.absolute()
    megabytes = (parse_size(memory) + _SLACK) >> 20
    logs = shlex.quote(str(folder / "logs" / "%x-%A-%a.log"))
    common = f"--parsable --mem={megabytes}M --cpus-per-task={cpus} --requeue --output={logs}"
    resources = f"--memory {parse_size(memory)} --threads {cpus}"
    call = f"{shlex.quote(sys.executable)} -m radscore"
    name = shlex.quote(str(folder))
    options = " ".join(shlex.quote(word) for word in secret)
    units, parts = len(run.units), run.n_parts
    mapping = f"{call} map {name} --unit {_TASK} {resources}"
    lines = [
        "#!/bin/sh",
        "# Submits a radscore run. Every step can be repeated: what is done is not done again.",
        "set -eu",
        f"mkdir -p {shlex.quote(str(folder / 'logs'))}",
        _submit("map", common, f"0-{units - 1}", None, mapping),
    ]
    last = "map"
    for stage in stages_of(run, scheme):
        work = f"{call} reduce {name} --part {_TASK} --stage {stage} {resources} {options}"
        lines.append(_submit(stage, common, f"0-{parts - 1}", last, work))
        last = stage
    work = f"{call} merge {name} --json {options}"
    lines.append(_submit("merge", common, None, last, work))
    lines.append('echo "submitted; the result will be in the log of job $merge"')
    return "\n".join(lines) + "\n"


def _submit(name: str, common: str, array: str | None, after: str | None, work: str) -> str:
    words = [f"{name}=$(sbatch {common} --job-name=radscore-{name}"]
    if array is not None:
        words.append(f"--array={array}")
    if after is not None:
        words.append(f"--dependency=afterok:${after}")
    words.append(f"--wrap={shlex.quote(work)})")
    return " ".join(words)
