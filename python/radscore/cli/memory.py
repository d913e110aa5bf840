"""``radscore score --memory`` and ``--ray``: windows in files, unit by unit, part by part."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import term_as_interrupt
from radscore.cli.output import json_out, table
from radscore.cli.parser import as_options
from radscore.cli.paths import check_run_folders, named_folders
from radscore.cli.progress import Progress
from radscore.cli.report import json_fields, table_rows

if TYPE_CHECKING:
    import argparse

    from radscore.corpus import Corpus
    from radscore.corpus.base import SkipReport
    from radscore.kgrams import KgramSet
    from radscore.results import ScoreResult
    from radscore.runs import Run
    from radscore.schemes import Scheme

__all__ = [
    "MEMORY_OF_A_STEP",
    "RunInput",
    "StepProgress",
    "add_memory",
    "check_memory",
    "interrupted",
    "opening_of",
    "score_in_files",
]

MEMORY_OF_A_STEP = "1GiB"


def add_memory(parser: argparse.ArgumentParser) -> None:
    """The options of a corpus that is larger than memory."""
    group = parser.add_argument_group("more windows than memory")
    group.add_argument(
        "--memory",
        metavar="SIZE",
        help="use about so much memory (as 1GiB), and files for what is more; the same command "
        "goes on where it was stopped",
    )
    group.add_argument("--tmp", metavar="DIR[,DIR]", help="with --memory: folders for those files")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on a Ray cluster (HOST:PORT, auto for one that runs here, local for a new one "
        "here) whose nodes all see the inputs and the folders of --tmp; --memory (default: 1GiB) "
        "and --threads (default: 1) are those of each task",
    )
    group.add_argument(
        "--keep",
        action="store_true",
        help="with --memory: keep the files; the same command with another key then does not read "
        "the corpus again",
    )


def check_memory(args: argparse.Namespace) -> None:
    """Refuses what does not go together with windows in files."""
    if args.ray is not None and args.memory is None:
        args.memory = MEMORY_OF_A_STEP
    if args.memory is None:
        for name in ("tmp", "keep"):
            if getattr(args, name):
                raise UsageError(f"--{name} has no effect without --memory")
        return
    if args.tmp is None:
        given = "--memory" if args.ray is None else "--ray"
        raise UsageError(f"{given} needs --tmp: folders for the files of windows")
    check_run_folders(named_folders(args.tmp), args.inputs)
    if args.per_document is not None:
        raise UsageError("--per-document does not go with --memory")
    if args.resume:
        raise UsageError("--resume has no effect with --memory: the same command goes on by itself")


class RunInput:
    """What a report says of the input of a run."""

    notes: tuple[str, ...] = ()  # the result has them

    def __init__(self, run: Run, result: ScoreResult) -> None:
        self.skipped: SkipReport = run.skipped()
        self.n_documents = result.n_documents
        self.sources: Any = run.content["files"]
        self.field: str | None = run.content["settings"]["field"]


class StepProgress:
    """Progress by steps of a run, however many they are."""

    def __init__(self, *, quiet: bool, asked: bool) -> None:
        self._progress = Progress(1000, quiet=quiet, asked=asked)
        self._shown = 0

    def show(self, done: int, total: int) -> None:
        """Takes how many steps of all are done."""
        now = 1000 * done // total
        self._progress.add(now - self._shown, 0)
        self._shown = now

    def close(self) -> None:
        """Ends it."""
        self._progress.close()


def opening_of(args: argparse.Namespace) -> dict[str, Any]:
    """How `open_inputs` opens the same corpus again, wherever it runs."""
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


def score_in_files(
    args: argparse.Namespace, corpus: Corpus, scheme: Scheme, phi: KgramSet | None
) -> int:
    """Scores a corpus through files; what an earlier run of the same command did is not redone."""
    from radscore.runs import score_run
    from radscore.runs.executors.ray import n_parts, on_cluster, run_ray
    from radscore.runs.manifest import prepare_in
    from radscore.runs.sizes import budget_of, folders_of

    if args.ray is not None:
        corpus = corpus.absolute()
    windows, folders = budget_of(args.memory).windows, folders_of(named_folders(args.tmp))
    rules = {
        "dedup": args.dedup,
        "filter": phi,
        "start": args.start,
        "prompt_role": args.prompt_role or "exclude",
        "opening": opening_of(args),
    }
    progress = StepProgress(quiet=args.quiet, asked=args.progress)
    options = {"memory": args.memory, "threads": args.threads, "progress": progress.show}
    try:
        with nullcontext() if args.ray is None else on_cluster(args.ray) as ray:
            if ray is not None:
                rules["parts"] = n_parts(ray)
            run = prepare_in(folders, corpus, scheme, windows=windows, **rules)
            with term_as_interrupt(), run.alone():
                if ray is None:
                    result = score_run(run, corpus, scheme, **options)
                else:
                    result = run_ray(ray, run, corpus, scheme, **options)
                progress.close()
                return _finish(args, run, result)
    except KeyboardInterrupt:
        return interrupted(args.tmp)
    finally:
        progress.close()


def interrupted(where: Any) -> int:
    """Says where a run that was interrupted has left what was finished."""
    print(
        f"radscore: interrupted; what was finished is in {where}, and the same command goes on",
        file=sys.stderr,
    )
    return Exit.INTERRUPTED


def _finish(args: argparse.Namespace, run: Run, result: ScoreResult) -> int:
    """Prints the result, and removes the files."""
    source = RunInput(run, result)
    if args.json:
        json_out(json_fields(result, source, None))
    else:
        rows = table_rows(result, source, None)
        table((name, as_options(text, vars(args))) for name, text in rows)
    if not args.keep:
        run.discard()
    return Exit.SKIPPED if source.skipped else Exit.DONE
