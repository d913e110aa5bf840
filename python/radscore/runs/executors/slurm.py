"""A Slurm script for a run: arrays of map and reduce steps, each waiting for the one before."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from radscore.runs.sizes import budget_of
from radscore.runs.steps import stages_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["slurm_script"]

_SLACK = 1 << 29


def slurm_script(
    run: Run,
    scheme: Scheme,
    secret: Sequence[str],
    *,
    memory: int | str = "1GiB",
    cpus: int = 2,
    tasks: int = 500,
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
    tasks : int
        Most tasks of an array: a task does several steps where there are more of them. Slurm allows
        1,001 where nothing else is configured (``MaxArraySize``), and often only so many jobs of
        a user (``MaxSubmitJobs``).
    """
    folder, limit = run.folder.absolute(), budget_of(memory).memory
    megabytes = (limit + _SLACK) >> 20
    logs = str(folder / "logs").replace("%", "%%")  # of Slurm's placeholders
    common = f"--parsable --mem={megabytes}M --cpus-per-task={cpus} --requeue"
    resources = f"--memory {limit} --threads {cpus}"
    call = f"{shlex.quote(sys.executable)} -m radscore"
    name = shlex.quote(str(folder))
    options = " ".join(shlex.quote(word) for word in secret)

    def submit(job: str, after: str | None, count: int | None, work: str) -> str:
        log, array, error = "%x-%j.log", "", ""
        if count is None:  # its output is the result alone
            error = f" --error={shlex.quote(f'{logs}/%x-%j.err')}"
        else:
            last = min(count, tasks) - 1
            log, array = "%x-%A-%a.log", f" --array=0-{last}"
            # For the job's own shell, not for the one that submits.
            work += f' --share "$SLURM_ARRAY_TASK_ID/{last + 1}"'
        waits = ""
        if after is not None:  # where several clusters are one, sbatch adds ";" and their name
            waits = f" --dependency=afterok:${{{after}%%;*}} --kill-on-invalid-dep=yes"
        return (
            f"{job}=$(sbatch {common} --job-name=radscore-{job}{array}{waits} "
            f"--output={shlex.quote(f'{logs}/{log}')}{error} --wrap={shlex.quote(work)})"
        )

    lines = [
        "#!/bin/sh",
        "# Submits a radscore run. Every step can be repeated: what is done is not done again.",
        "set -eu",
        f"mkdir -p {shlex.quote(str(folder / 'logs'))}",
        submit("map", None, len(run.units), f"{call} map {name} {resources}"),
    ]
    last = "map"
    for stage in stages_of(run, scheme):
        work = f"{call} reduce {name} --stage {stage} {resources} {options}"
        lines.append(submit(stage, last, run.n_parts, work))
        last = stage
    # That records were skipped (exit code 3, and a line of the result) is no failure of the job.
    work = f"{call} merge {name} --json {options} || [ $? -eq 3 ]"
    lines.append(submit("merge", last, None, work))
    lines.append('echo "submitted; the result will be in the log of job ${merge%%;*}"')
    return "\n".join(lines) + "\n"
