"""``radscore score --memory`` and ``--executor``: a run, which the same command continues."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import term_as_interrupt
from radscore.cli.output import note, sync_stdout
from radscore.cli.parser import option
from radscore.cli.paths import check_run_folders, named_folders
from radscore.cli.progress import ProgressBar
from radscore.cli.report import Input, KeyTest, print_report
from radscore.scoring.anytime import with_anytime
from radscore.sizes import DEFAULT_MEMORY
from radscore.stats.anytime import EFFECT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from radscore.corpus import Corpus
    from radscore.kgrams import KgramSet
    from radscore.progress import Progress
    from radscore.results import ScoreResult
    from radscore.runs import Run
    from radscore.schemes import Scheme

__all__ = [
    "RunBar",
    "add_executor",
    "add_memory",
    "anytime_of",
    "check_memory",
    "interrupted",
    "opening_of",
    "print_result",
    "score_in_run",
]


def add_memory(parser: argparse.ArgumentParser) -> None:
    """The options for a corpus with more windows than fit the memory."""
    group = parser.add_argument_group("more windows than memory")
    group.add_argument(
        "--memory",
        metavar="SIZE",
        help="use about this much memory (such as 1GiB), and files for the rest",
    )
    group.add_argument(
        "--tmp",
        metavar="DIR[,DIR]",
        help="folders for those files (default: one of your own in the system's temporary folder, "
        "which may be small, or emptied when the machine restarts)",
    )
    add_executor(group, f"--memory (default: {DEFAULT_MEMORY}) and --threads (default: 1) are then")


def add_executor(group: Any, resources: str) -> None:
    """Where the steps of a run are carried out."""
    group.add_argument(
        "--executor",
        metavar="NAME[:TARGET]",
        help="what does the work: processes:N, that many processes here; ray:ADDRESS, tasks of a "
        "Ray cluster (HOST:PORT, auto for one that runs here, local for a new one here) whose "
        f"nodes all see the inputs and the folders; {resources} those of each worker (default: "
        "local, this process alone)",
    )


def check_memory(args: argparse.Namespace) -> None:
    """Refuses what does not go together with a run."""
    if args.executor is not None and args.memory is None:
        args.memory = DEFAULT_MEMORY
    if args.memory is None:
        if args.tmp is not None or args.keep is True:
            name = "--keep" if args.tmp is None else "--tmp"
            raise UsageError(f"{name} has no effect without --memory or --executor")
        return
    if isinstance(args.keep, str):  # an input that stands after the option
        args.inputs, args.keep = [*args.inputs, args.keep], True
    for name in ("per_document", "id_field", "select", "out", "state", "save_every", "decoys"):
        if getattr(args, name) is not None:
            raise UsageError(f"{option(name)} does not go together with --memory or --executor")
    if args.tmp is not None:
        check_run_folders(named_folders(args.tmp), args.inputs)


def anytime_of(args: argparse.Namespace) -> float | bool:
    """The effect that is planned for, if there is to be an e-value; False without one."""
    return (EFFECT if args.effect is None else float(args.effect)) if args.anytime else False


class RunBar:
    """The progress of a run, and a note on what was done before."""

    def __init__(self, run: Run, bar: ProgressBar, *, first: bool = True) -> None:
        self._run, self._bar, self._first = run, bar, first
        self._begun = False

    def show(self, progress: Progress) -> None:
        """Takes what `execute` calls its `progress` with."""
        if self._begun:
            self._bar.show(progress)
            return
        self._begun = True
        if progress.done and self._first:
            steps = f"{progress.done} of {progress.total} steps are already done"
            note(f"continuing the run in {self._run.folder}: {steps}")
        self._bar.begin(progress)


def opening_of(args: argparse.Namespace) -> dict[str, Any]:
    """How `open_inputs` opens the same corpus again, wherever that is."""
    names = (
        "field",
        "prompt_field",
        "format",
        "dtype",
        "eod",
        "special_tokens",
        "tokenizer_engine",
        "on_error",
    )
    return {
        "inputs": [str(Path(path).absolute()) for path in args.inputs],
        "tokenizer": None if args.tokenizer is None else str(Path(args.tokenizer).absolute()),
        **{name: getattr(args, name) for name in names},
    }


def score_in_run(
    args: argparse.Namespace, corpus: Corpus, schemes: Sequence[Scheme], phi: KgramSet | None
) -> int:
    """Scores a corpus as a run; what an earlier run of the same command has done is not redone.

    The corpus is read once for all keys; its windows are scored for one after the other.
    """
    from radscore.runs.executors import Resources, executor_of
    from radscore.runs.scoring import execute, run_in

    rules = {
        "dedup": args.dedup,
        "filter": phi,
        "start": args.start,
        "prompt_role": args.prompt_role or "exclude",
        "opening": opening_of(args),
        "fresh": args.fresh,
        "keep": bool(args.keep),
    }
    tmp = None if args.tmp is None else named_folders(args.tmp)
    bar = ProgressBar(quiet=args.quiet, asked=args.progress)
    where: Any = args.tmp or "the temporary folder"
    try:
        with (
            term_as_interrupt(),
            executor_of(args.executor, Resources(args.memory, args.threads)) as executor,
            run_in(tmp, corpus, schemes[0], executor, **rules) as run,
        ):
            where = run.folder
            results: list[ScoreResult] = []
            for scheme in schemes:
                show = RunBar(run, bar, first=not results).show
                found = execute(run, corpus, scheme, executor, show)
                results.append(with_anytime(found, scheme, anytime_of(args) or None))
                bar.close()
            return print_result(run, results, args)
    except KeyboardInterrupt:
        return interrupted(where)
    finally:
        bar.close()


def interrupted(folder: Any) -> int:
    """Says where an interrupted run has left what is finished."""
    note(f"interrupted; finished work is kept in {folder}, rerun the command to continue")
    return Exit.INTERRUPTED


def print_result(run: Run, results: Sequence[ScoreResult], args: argparse.Namespace) -> int:
    """Prints the results of a run, one for each key."""
    files, field = run.content["files"], run.content["settings"]["field"]
    read = Input(results[0].n_documents, len(files), field, run.skipped())
    labels = (args.key_file or "", *args.more_keys)
    tests = [KeyTest(result, label) for label, result in zip(labels, results, strict=True)]
    print_report(args, tests, read)
    sync_stdout()
    return Exit.SKIPPED if read.skipped else Exit.DONE
