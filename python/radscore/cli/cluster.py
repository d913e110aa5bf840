"""``radscore prepare``, ``map``, ``reduce``, ``merge``: a run in steps, on many machines."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import term_as_interrupt
from radscore.cli.keys import load_scheme
from radscore.cli.memory import (
    MEMORY_OF_A_STEP,
    RunInput,
    StepProgress,
    interrupted,
    opening_of,
)
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_scheme_options,
    natural,
    number,
    open_inputs,
)
from radscore.cli.output import json_out, table
from radscore.cli.paths import check_run_folders, named_folders
from radscore.cli.report import json_fields, table_rows
from radscore.cli.score import add_rules, check_rules, load_filter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from radscore.corpus import Corpus
    from radscore.results import ScoreResult
    from radscore.runs import Run
    from radscore.schemes import Scheme

__all__ = ["register"]

_PREPARE = """\
Begins a run over a corpus that is scored in steps, on one machine or many. Writes a manifest into
the folder RUN, which all machines must see: work units to map and parts to reduce.

Afterwards: radscore map for each unit, radscore reduce for each part, radscore merge once. Any step
can be repeated; what is done is not done again. Or let one command run all of them: --workers here
starts processes on this machine, --slurm prints a script for a cluster."""
_MAP = """\
Reads work units of a run and writes their distinct windows, by partition. Needs no key."""
_REDUCE = """\
Deduplicates and scores parts of a run whose units are all mapped. Schemes whose units are not
windows need a second stage: --stage units, when all parts of the first are done."""
_MERGE = """\
Adds up the parts of a run, and prints the result as radscore score does."""


def register(commands: Any) -> None:
    """Adds the commands."""
    _register_prepare(commands)
    for name, text, summary, work in (
        ("map", _MAP, "read work units of a run", _run_map),
        ("reduce", _REDUCE, "score parts of a run", _run_reduce),
        ("merge", _MERGE, "add up the parts of a run", _run_merge),
    ):
        what = "" if name == "merge" else f" --{'unit' if name == 'map' else 'part'} 0"
        key = "" if name == "map" else " --scheme scheme.toml --key-file alice.key"
        parser = add_command(
            commands,
            name,
            summary=summary,
            description=text,
            examples=f"  radscore {name} /shared/run{what}{key}\n",
        )
        parser.add_argument("folder", metavar="RUN", help="the folder of the run")
        if name == "map":
            _add_which(parser, "unit")
            parser.add_argument("--redo", action="store_true", help="also where it was done")
        if name == "reduce":
            _add_which(parser, "part")
            parser.add_argument(
                "--stage",
                choices=("windows", "units"),
                default="windows",
                help="windows, then units (default: windows)",
            )
        if name != "map":
            add_scheme_options(parser)
        if name == "merge":
            parser.add_argument("--json", action="store_true", help="print JSON")
        else:
            _add_resources(parser)
        parser.set_defaults(run=work)


def _add_which(parser: Any, what: str) -> None:
    """Which units or parts are meant."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        f"--{what}",
        type=number,
        action="append",
        metavar="I",
        help=f"{what} from 0 on; can be given again (default: all)",
    )
    group.add_argument(
        "--share",
        type=_share,
        default=slice(None),
        metavar="I/N",
        help=f"every Nth {what} from the Ith on, as 0/4, 1/4, 2/4 and 3/4 for four tasks",
    )


def _share(text: str) -> slice:
    """``I/N``: every Nth from the Ith on."""
    first, _, step = text.partition("/")
    start, every = number(first), natural(step)
    if not 0 <= start < every:
        raise ArgumentTypeError(f"I/N must have an I from 0 to {every - 1}, not {start}")
    return slice(start, None, every)


def _chosen(named: list[int] | None, share: slice, count: int) -> Sequence[int]:
    """The units or parts that are meant, of so many."""
    return range(count)[share] if named is None else named


def _add_resources(
    parser: Any, threads: str = "all cores", memory: str | None = MEMORY_OF_A_STEP
) -> None:
    """Memory and threads of a step."""
    parser.add_argument(
        "--memory",
        default=memory,
        metavar="SIZE",
        help=f"memory of a step (default: {MEMORY_OF_A_STEP})",
    )
    parser.add_argument(
        "--threads", type=natural, metavar="N", help=f"threads of a step (default: {threads})"
    )


def _register_prepare(commands: Any) -> None:
    parser = add_command(
        commands,
        "prepare",
        summary="begin a run in steps, for a cluster",
        description=_PREPARE,
        examples=(
            "  radscore prepare /run *.bin --dtype uint16 --scheme s.toml --key-file a.key\n"
            "  radscore prepare /run in/ --scheme s.toml --key-file a.key --slurm > run.sh\n"
        ),
    )
    parser.add_argument("folder", metavar="RUN", help="the folder of the run, made where needed")
    add_corpus_options(parser)
    add_scheme_options(parser)
    add_rules(parser)
    group = parser.add_argument_group("the run")
    group.add_argument("--parts", type=natural, metavar="N", help="parts to reduce (default: 16)")
    group.add_argument(
        "--unit-size",
        metavar="SIZE",
        help="about how many bytes of files are one unit (default: 256MB, more beyond 512 GB)",
    )
    group.add_argument(
        "--tmp", metavar="DIR[,DIR]", help="more folders for files of units, used in turn"
    )
    group.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="as of radscore score"
    )
    where = group.add_mutually_exclusive_group()
    where.add_argument("--slurm", action="store_true", help="print a Slurm script for the run")
    where.add_argument(
        "--workers", type=natural, metavar="N", help="run all of it now, in N processes here"
    )
    group.add_argument(
        "--slurm-tasks",
        type=natural,
        metavar="N",
        help="with --slurm: most tasks of an array (default: 500); a task does several steps where "
        "there are more",
    )
    _add_resources(group, "2 with --slurm, 1 with --workers", memory=None)
    parser.set_defaults(run=_run_prepare)


def reopen(run: Run) -> Corpus:
    """The corpus of a run that the command line prepared."""
    from argparse import Namespace

    opening = run.content.get("opening")
    if opening is None:
        raise UsageError(f"{run.folder} was prepared in Python: map its units there")
    args = Namespace(**opening)
    vocab_size = run.content["windows"]["vocab_size"]
    return open_inputs(args, vocab_size=vocab_size, on_error=opening["on_error"])


def _run_prepare(args: argparse.Namespace) -> int:
    from argparse import Namespace

    from radscore.runs import parse_size, prepare
    from radscore.runs.executors.slurm import slurm_script
    from radscore.runs.steps import stages_of

    check_rules(args)
    if args.slurm_tasks is not None and not args.slurm:
        raise UsageError("--slurm-tasks has no effect without --slurm")
    if not args.slurm and args.workers is None:
        for name in ("memory", "threads"):
            if getattr(args, name) is not None:
                raise UsageError(
                    f"--{name} has no effect without --slurm or --workers: each step takes its own"
                )
    tmp = [] if args.tmp is None else named_folders(args.tmp)
    check_run_folders([args.folder, *tmp], args.inputs)
    scheme = load_scheme(args)
    phi = None if args.filter is None else load_filter(args.filter, scheme)
    opening = opening_of(args)
    corpus = open_inputs(Namespace(**opening), vocab_size=scheme.vocab_size, on_error=args.on_error)
    unit_bytes = None
    if args.unit_size is not None:
        unit_bytes = parse_size(args.unit_size, "unit-size")
        if not unit_bytes:
            raise UsageError("--unit-size must be at least 1 byte, not 0")
    parts = {} if args.parts is None else {"parts": args.parts}
    run = prepare(
        args.folder,
        corpus,
        scheme,
        args.dedup,
        filter=phi,
        start=args.start,
        prompt_role=args.prompt_role or "exclude",
        unit_bytes=unit_bytes,
        more_folders=_folders_of_its_own(args),
        opening=opening,
        **parts,
    )
    _check_prepared(args, run)
    secret = _secret_options(args)
    memory = args.memory or MEMORY_OF_A_STEP
    if args.slurm:
        options = {"cpus": args.threads, "tasks": args.slurm_tasks}
        given = {name: value for name, value in options.items() if value is not None}
        print(slurm_script(run, scheme, secret, memory=memory, **given), end="")
        return Exit.DONE
    if args.workers is not None:
        return _run_here(run, scheme, secret, memory, args)
    steps = ["map", *(f"reduce --stage {stage}" for stage in stages_of(run, scheme)), "merge"]
    table(
        [
            ("run", str(run.folder)),
            ("units", str(len(run.units))),
            ("parts", str(run.n_parts)),
            ("next", f"for {run.folder}: radscore {', then radscore '.join(steps)}"),
        ]
    )
    return Exit.DONE


def _run_here(
    run: Run, scheme: Scheme, secret: list[str], memory: str, args: argparse.Namespace
) -> int:
    """All steps, in processes of this machine."""
    from radscore.runs.executors.processes import run_local

    progress = StepProgress(quiet=False, asked=False)
    try:
        with term_as_interrupt(), run.alone():
            result = run_local(
                run,
                scheme,
                secret,
                workers=args.workers,
                memory=memory,
                threads=args.threads,
                progress=progress.show,
            )
    except KeyboardInterrupt:
        return interrupted(run.folder)
    finally:
        progress.close()
    return _report(run, result, as_json=False)


def _folders_of_its_own(args: argparse.Namespace) -> list[Path]:
    """A folder for this run alone in each of --tmp."""
    import hashlib
    from pathlib import Path

    if args.tmp is None:
        return []
    run = str(Path(args.folder).absolute())
    name = f"radscore-{hashlib.sha256(run.encode()).hexdigest()[:12]}"
    return [Path(folder).absolute() / name for folder in named_folders(args.tmp)]


def _check_prepared(args: argparse.Namespace, run: Run) -> None:
    """Refuses options that have no effect on a run that was there."""
    if args.parts not in (None, run.n_parts):
        raise UsageError(f"--parts has no effect: the run in {run.folder} has {run.n_parts} parts")
    if args.tmp is not None and _folders_of_its_own(args) != list(run.folders[1:]):
        raise UsageError(
            f"--tmp has no effect: the run in {run.folder} was begun with other folders"
        )


def _secret_options(args: argparse.Namespace) -> list[str]:
    """The options that name the scheme and its key again; never the key itself."""
    from pathlib import Path

    options = ["--scheme", str(Path(args.scheme).absolute())]
    if args.key_file is not None:
        options += ["--key-file", str(Path(args.key_file).absolute())]
    if args.key_env is not None:
        options += ["--key-env", args.key_env]
    return options


def _run_map(args: argparse.Namespace) -> int:
    from radscore.runs import Run
    from radscore.runs.steps import Mapping

    run = Run.open(args.folder)
    mapping = Mapping(run, reopen(run), memory=args.memory, threads=args.threads)
    with term_as_interrupt():
        for unit in _chosen(args.unit, args.share, len(run.units)):
            done = mapping.unit(unit, redo=args.redo)
            _tell(f"unit {unit}", of=len(run.units), done=done)
    return Exit.DONE


def _run_reduce(args: argparse.Namespace) -> int:
    from radscore.runs import Run
    from radscore.runs.steps import Reduction

    run, scheme = Run.open(args.folder), load_scheme(args)
    reduction = Reduction(run, scheme, args.stage, memory=args.memory, threads=args.threads)
    with term_as_interrupt():
        for part in _chosen(args.part, args.share, run.n_parts):
            done = reduction.part(part)
            _tell(f"part {part} ({args.stage})", of=run.n_parts, done=done)
    return Exit.DONE


def _tell(step: str, *, of: int, done: bool) -> None:
    """A line for the log of whoever runs the step."""
    print(f"radscore: {step} of {of} {'done' if done else 'was done before'}", file=sys.stderr)


def _run_merge(args: argparse.Namespace) -> int:
    from radscore.runs import Run, merge

    run, scheme = Run.open(args.folder), load_scheme(args)
    return _report(run, merge(run, scheme), as_json=args.json)


def _report(run: Run, result: ScoreResult, *, as_json: bool) -> int:
    """Prints a result of a run."""
    source = RunInput(run, result)
    if as_json:
        json_out(json_fields(result, source, None))
    else:
        table(table_rows(result, source, None))
    return Exit.SKIPPED if source.skipped else Exit.DONE
