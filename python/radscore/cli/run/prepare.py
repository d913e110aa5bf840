"""``radscore run prepare``: begin a run."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import term_as_interrupt
from radscore.cli.keys import load_scheme
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_fresh,
    add_on_error,
    add_scheme_options,
    natural,
    open_inputs,
)
from radscore.cli.output import note, printable, show, table
from radscore.cli.parser import option
from radscore.cli.paths import check_run_folders, named_folders
from radscore.cli.progress import ProgressBar
from radscore.cli.run.steps import add_folder, add_resources
from radscore.cli.score import add_rules, check_rules, load_filter
from radscore.cli.score_run import RunBar, add_executor, interrupted, opening_of, print_result
from radscore.runs.preparation import DEFAULT_BUCKETS
from radscore.sizes import DEFAULT_MEMORY

if TYPE_CHECKING:
    from radscore.runs import Run
    from radscore.schemes import Scheme

__all__ = ["register"]

_DESCRIPTION = """\
Begins a run: writes a manifest into the folder RUN, which all machines must see. It lists shards of
the corpus to map and buckets of partitions to reduce.

Then do radscore run map for each shard, radscore run reduce for each bucket and radscore run merge
once, on any machines. Or let one command do everything: --executor works here or on a Ray cluster,
--script prints a script for Slurm. Without --fresh, a run that is already there is continued."""
_EXAMPLES = """\
  radscore run prepare shared/a *.bin --dtype uint16 --scheme scheme.toml --key-file alice.key
  radscore run prepare shared/b corpus/ --scheme scheme.toml --key-file alice.key \\
      --executor processes:8
  radscore run prepare shared/c corpus/ --scheme scheme.toml --key-file alice.key \\
      --script slurm > run.sh
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "prepare",
        summary="begin a run",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_folder(parser, "the folder of the run; it is made if needed")
    add_corpus_options(parser)
    add_scheme_options(parser)
    add_rules(parser)
    group = parser.add_argument_group("the run")
    group.add_argument(
        "--buckets",
        type=natural,
        metavar="N",
        help=f"number of buckets to reduce (default: {DEFAULT_BUCKETS})",
    )
    group.add_argument(
        "--shard-size",
        metavar="SIZE",
        help="about how many bytes of files make a shard (default: 256MB, more beyond 512 GB)",
    )
    group.add_argument(
        "--tmp", metavar="DIR[,DIR]", help="more folders for the files of shards, used in turn"
    )
    add_on_error(group)
    add_fresh(group, "start over: delete the run that is in the folder")
    where = group.add_mutually_exclusive_group()
    add_executor(where, "--memory and --threads are")
    where.add_argument(
        "--script",
        metavar="NAME[:TARGET]",
        help="print a script that does the work: slurm:TASKS, job arrays of at most that many "
        "tasks (default: 500), each of which does several steps if there are more",
    )
    add_resources(group, "2 with --script, 1 with --executor, all cores if that is local", None)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Runs the command."""
    from radscore.runs.executors import Resources, script_of

    _check(args)
    scheme = load_scheme(args)
    resources = Resources(args.memory or DEFAULT_MEMORY, args.threads)
    prepared = _prepare(args, scheme)
    if args.script is not None:
        script = script_of(args.script, prepared, scheme, _secret(args), resources)
        if printable(script) != script:
            raise UsageError("the script would hold control characters of a path; rename it")
        show(script)
        return Exit.DONE
    if args.executor is not None:
        return _execute(args, prepared, scheme, resources)
    table(
        [
            ("run", str(prepared.folder)),
            ("shards", str(len(prepared.shards))),
            ("buckets", str(prepared.n_buckets)),
            ("next", "\n".join(_commands(args, prepared, scheme))),
        ]
    )
    return Exit.DONE


def _check(args: Namespace) -> None:
    """Refuses what does not go together, before anything is read."""
    check_rules(args)
    if args.script is None and args.executor is None:
        for name in ("memory", "threads"):
            if getattr(args, name) is not None:
                raise UsageError(
                    f"{option(name)} has no effect without --executor or --script: each step takes "
                    "its own"
                )
    tmp = [] if args.tmp is None else named_folders(args.tmp)
    check_run_folders([args.folder, *tmp], args.inputs)


def _prepare(args: Namespace, scheme: Scheme) -> Run:
    from radscore.runs import parse_size, prepare
    from radscore.runs.manifest import MANIFEST

    phi = None if args.filter is None else load_filter(args.filter, scheme)
    opening = opening_of(args)
    corpus = open_inputs(Namespace(**opening), vocab_size=scheme.vocab_size, on_error=args.on_error)
    shard_bytes = None
    if args.shard_size is not None:
        shard_bytes = parse_size(args.shard_size, "shard-size")
        if not shard_bytes:
            raise UsageError("--shard-size must be at least 1 byte, not 0")
    before = (Path(args.folder) / MANIFEST).exists() and not args.fresh
    run = prepare(
        args.folder,
        corpus,
        scheme,
        dedup=args.dedup,
        filter=phi,
        start=args.start,
        prompt_role=args.prompt_role or "exclude",
        shard_bytes=shard_bytes,
        buckets=args.buckets or DEFAULT_BUCKETS,
        more_folders=_own_folders(args),
        opening=opening,
        fresh=args.fresh,
    )
    if before:
        _check_found(args, run)
        note(f"continuing the run in {run.folder}")
    return run


def _own_folders(args: Namespace) -> list[Path]:
    """A folder for this run alone in each of --tmp."""
    if args.tmp is None:
        return []
    run = str(Path(args.folder).absolute())
    name = f"radscore-{hashlib.sha256(run.encode()).hexdigest()[:12]}"
    return [Path(folder).absolute() / name for folder in named_folders(args.tmp)]


def _check_found(args: Namespace, run: Run) -> None:
    """Refuses options that have no effect on a run that was already there."""
    if args.buckets not in (None, run.n_buckets):
        raise UsageError(
            f"--buckets has no effect: the run in {run.folder} has {run.n_buckets} buckets; start "
            "over with --fresh"
        )
    if args.tmp is not None and _own_folders(args) != list(run.folders[1:]):
        raise UsageError(
            f"--tmp has no effect: the run in {run.folder} was begun with other folders; start "
            "over with --fresh"
        )


def _execute(args: Namespace, run: Run, scheme: Scheme, resources: Any) -> int:
    """Does all steps now."""
    from radscore.runs.executors import executor_of
    from radscore.runs.scoring import execute

    bar = ProgressBar()
    corpus = open_inputs(
        Namespace(**opening_of(args)), vocab_size=scheme.vocab_size, on_error=args.on_error
    )
    try:
        with term_as_interrupt(), run.locked(), executor_of(args.executor, resources) as executor:
            result = execute(run, corpus, scheme, executor, RunBar(run, bar).show)
    except KeyboardInterrupt:
        return interrupted(run.folder)
    finally:
        bar.close()
    return print_result(run, [result], args)


def _secret(args: Namespace) -> list[str]:
    """The options that name the scheme and its key again, from anywhere; never the key itself."""
    options = ["--scheme", str(Path(args.scheme).absolute())]
    if args.key_file is not None:
        options += ["--key-file", str(Path(args.key_file).absolute())]
    if args.key_env is not None:
        options += ["--key-env", args.key_env]
    return options


def _commands(args: Namespace, run: Run, scheme: Scheme) -> list[str]:
    """The commands that do the rest, as one would write them here."""
    from radscore.runs.steps import stages_of

    given = [(option(name), getattr(args, name)) for name in ("scheme", "key_file", "key_env")]
    key = " ".join(f"{name} {value}" for name, value in given if value is not None)
    reduce = [f"reduce {run.folder} --stage {stage} {key}" for stage in stages_of(run, scheme)]
    steps = [f"map {run.folder}", *reduce, f"merge {run.folder} {key}"]
    return [f"radscore run {step}" for step in steps]
