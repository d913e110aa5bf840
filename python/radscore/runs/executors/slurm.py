"""The script ``slurm:TASKS``: job arrays of map and reduce steps, each waiting for the last."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from radscore.errors import ArgumentError
from radscore.runs.steps import stages_of
from radscore.sizes import budget_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.runs.executors.base import Resources
    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["slurm_script"]

#: Bytes that a job asks for beyond the memory limit of its steps.
_SLACK = 1 << 29
#: Most tasks of an array, and cores of a job, unless something else is asked for.
_TASKS, _CPUS = 500, 2


def slurm_script(
    run: Run, scheme: Scheme, secret: Sequence[str], target: str | None, resources: Resources
) -> str:
    """A shell script that submits a run. Submitting it again does only what is not done.

    Parameters
    ----------
    run, scheme
        Which run is scored, for which watermark.
    secret : sequence of str
        The options that name scheme and key, such as ``--scheme s.toml --key-file k``.
    target : str, optional
        Most tasks of an array; a task does several steps if there are more. Slurm allows 1,001
        unless configured otherwise (``MaxArraySize``), and often only so many jobs per user
        (``MaxSubmitJobs``).
    resources : Resources
        Of each step; a job asks for half a GiB more.
    """
    tasks = _TASKS if target is None else _number(target)
    cpus = resources.threads or _CPUS
    folder, limit = run.folder.absolute(), budget_of(resources.memory).memory
    megabytes = (limit + _SLACK) >> 20
    logs = str(folder / "logs").replace("%", "%%")  # which Slurm would expand
    common = f"--parsable --mem={megabytes}M --cpus-per-task={cpus} --requeue"
    usage = f"--memory {limit} --threads {cpus}"
    call = f"{shlex.quote(sys.executable)} -m radscore run"
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
        if after is not None:  # in a federation sbatch appends ";" and the name of the cluster
            waits = f" --dependency=afterok:${{{after}%%;*}} --kill-on-invalid-dep=yes"
        return (
            f"{job}=$(sbatch {common} --job-name=radscore-{job}{array}{waits} "
            f"--output={shlex.quote(f'{logs}/{log}')}{error} --wrap={shlex.quote(work)})"
        )

    lines = [
        "#!/bin/sh",
        "# Submits a radscore run. Submit it again at any time: finished steps are skipped.",
        "set -eu",
        f"mkdir -p {shlex.quote(str(folder / 'logs'))}",
        submit("map", None, len(run.shards), f"{call} map {name} {usage}"),
    ]
    last = "map"
    for stage in stages_of(run, scheme):
        work = f"{call} reduce {name} --stage {stage} {usage} {options}"
        lines.append(submit(stage, last, run.n_buckets, work))
        last = stage
    # Skipped records (exit code 3, and a line in the result) do not make the job a failure.
    work = f"{call} merge {name} --json {options} || [ $? -eq 3 ]"
    lines.append(submit("merge", last, None, work))
    lines.append('echo "submitted; the result will be in the log of job ${merge%%;*}"')
    return "\n".join(lines) + "\n"


def _number(target: str) -> int:
    if not target.isascii() or not target.isdigit() or int(target) < 1:
        raise ArgumentError(f"script='slurm:{target}' must have a number of tasks after the colon")
    return int(target)
