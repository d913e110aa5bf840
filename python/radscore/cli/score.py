"""``radscore score``: test a corpus for a watermark."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from radscore.cli.document_files import check_records, wanted_of
from radscore.cli.exits import Exit, UsageError
from radscore.cli.keys import load_schemes
from radscore.cli.kgrams.sets import load_kgrams
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_force,
    add_fresh,
    add_run_options,
    add_scheme_options,
    natural,
    not_negative,
    number,
    open_inputs,
    positive,
    real,
)
from radscore.cli.output import sync_stdout
from radscore.cli.pages import add_report, check_report
from radscore.cli.parser import option
from radscore.cli.paths import check_new, check_outputs
from radscore.cli.progress import ProgressBar
from radscore.cli.report import Input, print_report
from radscore.cli.score_loop import ScoreLoop, ScoreOptions
from radscore.cli.score_run import add_memory, anytime_of, check_memory, score_in_run
from radscore.cli.state_files import StateFiles
from radscore.scoring.anytime import check_anytime
from radscore.scoring.per_document import MAX_SHARING
from radscore.stats.anytime import EFFECT

if TYPE_CHECKING:
    from radscore.cli.per_document import Found
    from radscore.corpus import Corpus
    from radscore.kgrams import KgramSet

__all__ = ["add_rules", "check_rules", "load_filter", "register"]

_DESCRIPTION = """\
Tests a corpus for a watermark: does its text depend on the key? Prints how many windows were
scored and the p-value of the whole corpus and, with --per-document, writes that of each document.

Each distinct unit of evidence counts once in the whole corpus (--dedup unit). Ctrl-C or SIGTERM
saves the state; rerun the command to continue from there, or add --fresh to start over."""
_EXAMPLES = """\
  radscore score corpus/*.parquet --scheme scheme.toml --key-file alice.key
  radscore score docs.jsonl.gz --field text --tokenizer tokenizer.json \\
      --scheme scheme.toml --key-file alice.key --per-document documents.parquet
  radscore score tokens.bin --dtype uint16 --eod 0 --scheme scheme.toml --key-file alice.key \\
      --memory 2GiB --tmp disk1,disk2
  radscore score marked.jsonl --prompt-field prompt_tokens --scheme scheme.toml \\
      --key-file alice.key --key-file bob.key --decoys 99 --json
"""
DEFAULT_STATE = "radscore.state"
DEFAULT_FDR = 0.05
DEFAULT_SECONDS = 60.0


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "score",
        summary="test a corpus for a watermark",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_corpus_options(parser)
    add_scheme_options(parser, several=True)
    add_rules(parser)
    _add_output(parser)
    add_run_options(parser)
    group = parser.add_argument_group("continuing")
    group.add_argument(
        "--state",
        metavar="FILE",
        help="where to save the state, regularly and when interrupted (default: "
        f"{DEFAULT_STATE}); deleted at the end",
    )
    group.add_argument(
        "--save-every",
        type=not_negative,
        metavar="SECONDS",
        help=f"how often to save the state (default: {DEFAULT_SECONDS:g}; less often if saving "
        "takes long)",
    )
    again = group.add_mutually_exclusive_group()
    add_fresh(again, "start over: delete the state, or run, that an interrupted command has left")
    # What a command without --fresh does anyway; scripts for earlier versions say it.
    again.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    add_force(group, "--per-document, --out or --report")
    add_memory(parser)
    parser.set_defaults(run=run)


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON")
    add_report(group, force=False)
    group.add_argument(
        "--decoys",
        type=natural,
        metavar="N",
        help="compare with N random other keys, scored in the same pass: a p-value without any "
        "assumption, at least 1 / (N + 1)",
    )
    group.add_argument(
        "--anytime",
        action="store_true",
        help="for a corpus that grows and is tested again and again: an e-value too, and a p-value "
        "that holds however often one looks",
    )
    group.add_argument(
        "--effect",
        type=positive,
        metavar="D",
        help="with --anytime: the effect that is planned for, in standard deviations of one unit's "
        f"score (default: {EFFECT:g})",
    )
    group.add_argument(
        "--per-document",
        metavar="FILE",
        help="write one row per document to a .parquet, .jsonl or .csv file",
    )
    group.add_argument(
        "--id-field",
        metavar="NAME",
        help="with --per-document: the field with each document's id, for the column id",
    )
    group.add_argument(
        "--keep",
        nargs="?",
        const=True,
        metavar="NAME[,NAME]",
        help="with --per-document: fields of the records to keep as columns; with --memory, and "
        "without names: keep the run's files, so that the same command with another key need not "
        "read the corpus",
    )
    group.add_argument(
        "--select",
        choices=("found", "clean"),
        help="with --out: write the records of the documents that are significant at --fdr, or "
        "of all others",
    )
    group.add_argument(
        "--out",
        metavar="FILE",
        help="with --select: a .jsonl or .parquet file; records as they were read, or the ids of "
        "documents in files without records",
    )
    group.add_argument(
        "--max-contexts",
        type=natural,
        metavar="N",
        help="with --per-document or --select: score only the first N distinct contexts of each "
        "document",
    )
    group.add_argument(
        "--max-sharing",
        type=_sharing,
        metavar="N",
        help="with --per-document or --select: count a unit as evidence in only the first N "
        f"documents that hold it, at most 255; 0 for all (default: {MAX_SHARING})",
    )
    group.add_argument(
        "--fdr",
        type=_level,
        metavar="Q",
        help="with --per-document or --select: false discovery rate for significant documents "
        f"(default: {DEFAULT_FDR})",
    )


def add_rules(parser: argparse.ArgumentParser) -> None:
    """The options that decide which windows count."""
    group = parser.add_argument_group("which windows count")
    group.add_argument(
        "--dedup",
        choices=("unit", "window", "context", "none"),
        default="unit",
        help="what counts once in the whole corpus (default: unit, what the scheme's random "
        "function reads); none gives no p-value",
    )
    group.add_argument(
        "--filter",
        metavar="FILE",
        help="score only contexts in this set (from radscore kgrams build, or .json, .jsonl)",
    )
    group.add_argument(
        "--start",
        type=number,
        metavar="N",
        help="first position to score in each document (default: 0 for the schemes of vLLM and "
        "SynthID, which pad contexts, otherwise the context width)",
    )
    group.add_argument(
        "--prompt-role",
        choices=("exclude", "context"),
        help="with --prompt-field: exclude windows whose random draw the document's own prompt may "
        "have shown (default), or let the first contexts reach into the prompt",
    )


def _level(text: str) -> float:
    value = real(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {text}")
    return value


def _sharing(text: str) -> int:
    value = number(text)
    if not 0 <= value <= 255:
        raise argparse.ArgumentTypeError(f"must be from 0 to 255, not {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    _check(args)
    if args.memory is not None:
        schemes, corpus, phi = _inputs(args)
        return score_in_run(args, corpus, list(schemes.values()), phi)
    with StateFiles(args.state or DEFAULT_STATE, beside=_of_documents(args)) as files:
        schemes, corpus, phi = _inputs(args)
        check_records(wanted_of(args, DEFAULT_FDR), corpus)
        for name in ("per_document", "out"):
            if args.fresh or not files.wrote(getattr(args, name) or ""):
                check_new(args, name)
        return _score_in_memory(args, corpus, schemes, phi, files)


def _of_documents(args: argparse.Namespace) -> bool:
    """Whether single documents are scored too."""
    return args.per_document is not None or args.select is not None


def _open(args: argparse.Namespace, corpus: Corpus) -> Corpus:
    """The corpus once more."""
    return open_inputs(args, vocab_size=corpus.options.vocab_size, on_error=args.on_error)


def _inputs(args: argparse.Namespace) -> tuple[dict[str, Any], Corpus, KgramSet | None]:
    """The schemes by key, the corpus and the filter."""
    schemes = load_schemes(args)
    first = next(iter(schemes.values()))
    phi = None if args.filter is None else load_filter(args.filter, first)
    check_anytime(anytime_of(args), first, args.dedup, phi)
    corpus = open_inputs(args, vocab_size=first.vocab_size, on_error=args.on_error)
    check_outputs(args, corpus)
    return schemes, corpus, phi


def _score_in_memory(
    args: argparse.Namespace,
    corpus: Corpus,
    keys: dict[str, Any],
    phi: KgramSet | None,
    files: StateFiles,
) -> int:
    sharing = MAX_SHARING if args.max_sharing is None else args.max_sharing or None
    options = ScoreOptions(
        dedup=args.dedup,
        filter=phi,
        start=args.start,
        prompt_role=args.prompt_role or "exclude",
        max_contexts=args.max_contexts,
        threads=args.threads,
        per_document=_of_documents(args),
        max_sharing=sharing if _of_documents(args) else None,
        decoys=args.decoys,
        anytime=anytime_of(args) or None,
    )
    schemes = list(keys.values())
    if args.decoys is not None:  # mostly the same ones for every key
        decoys = [decoy for scheme in keys.values() for decoy in scheme.decoys(args.decoys)]
        schemes = list(dict.fromkeys([*schemes, *decoys]))
    bar = ProgressBar(quiet=args.quiet, asked=args.progress)
    seconds = DEFAULT_SECONDS if args.save_every is None else args.save_every
    with ScoreLoop(corpus, schemes, options, files, fresh=args.fresh) as loop:
        tests = loop.tests(list(keys)) if loop.score(bar, save_every=seconds) else None
        if tests is None:
            return Exit.INTERRUPTED
        found = None
        if loop.documents is not None:
            level = DEFAULT_FDR if args.fdr is None else args.fdr
            found = loop.documents.write(
                wanted_of(args, level),
                corpus,
                lambda: _open(args, corpus),
                tests[0].result,
                files,
                max_sharing=options.max_sharing,
            )
        _show(args, corpus, tests, found)
        sync_stdout()
    files.discard()  # now that the result is where it belongs, and on the disk
    return Exit.SKIPPED if corpus.skipped else Exit.DONE


def _show(args: argparse.Namespace, corpus: Corpus, tests: Any, found: Found | None) -> None:
    read = Input(
        corpus.n_documents, len(corpus.sources), corpus.field, corpus.skipped, corpus.notes
    )
    print_report(args, tests, read, found)


def _check(args: argparse.Namespace) -> None:
    """Refuses what does not go together, before anything is read."""
    check_rules(args)
    check_memory(args)
    if args.memory is None:
        wanted_of(args, DEFAULT_FDR)
    if not _of_documents(args):
        if args.max_contexts is not None:
            raise UsageError(
                "--max-contexts is for --per-document and --select; the whole corpus counts every "
                "context"
            )
        for name in ("fdr", "max_sharing"):
            if getattr(args, name) is not None:
                raise UsageError(f"{option(name)} has no effect without --per-document or --select")
    elif args.more_keys:
        raise UsageError(
            f"{'--select' if args.per_document is None else '--per-document'} is for one key: what "
            "documents share, and so which of them a unit is evidence in, differs from key to key; "
            "give --key-file once, and run the command for each key"
        )
    if args.effect is not None and not args.anytime:
        raise UsageError("--effect has no effect without --anytime")
    if args.select is not None and args.dedup == "none":
        raise UsageError("--select cannot tell with --dedup none, which gives no p-values")
    if args.fdr is not None and args.dedup == "none":
        raise UsageError("--fdr has no effect with --dedup none, which gives no p-values")
    if args.report is not None and args.more_keys:
        raise UsageError("--report is for one key; run the command for each key")
    check_outputs(args)
    check_report(args)


def check_rules(args: argparse.Namespace) -> None:
    """Refuses rules that are impossible or have no effect."""
    if args.start is not None and args.start < 0:
        raise UsageError(f"--start must be 0 or more, not {args.start}")
    if args.prompt_role is not None and args.prompt_field is None:
        raise UsageError("--prompt-role has no effect without --prompt-field")


def load_filter(path: str, scheme: Any) -> KgramSet:
    """The filter, which must hold contexts of the scheme."""
    phi = load_kgrams(path, "--filter", scheme.vocab_size)
    width = scheme.window_width - 1
    if (phi.width, phi.vocab_size) != (width, scheme.vocab_size):
        raise UsageError(
            f"--filter: {path} holds {phi.width}-grams over {phi.vocab_size} ids, but the contexts "
            f"of the scheme are {width}-grams over {scheme.vocab_size}"
        )
    return phi
