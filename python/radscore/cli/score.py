"""``radscore score``: test a corpus for a watermark."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

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
    real,
)
from radscore.cli.output import sync_stdout
from radscore.cli.parser import option
from radscore.cli.paths import check_new, check_outputs
from radscore.cli.per_document import check_suffix
from radscore.cli.progress import ProgressBar
from radscore.cli.report import Input, print_report
from radscore.cli.score_loop import ScoreLoop, ScoreOptions
from radscore.cli.score_run import add_memory, check_memory, score_in_run
from radscore.cli.state_files import StateFiles
from radscore.scoring.per_document import MAX_SHARING

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
  radscore score docs.jsonl.gz --field text --tokenizer ./tokenizer --scheme scheme.toml
  radscore score train.bin --dtype uint16 --eod 50256 --scheme scheme.toml --json
  radscore score answers.jsonl --prompt-field prompt --filter phi.rkg --scheme scheme.toml
  radscore score corpus/ --scheme scheme.toml --per-document documents.parquet --on-error skip
  radscore score tokens/ --scheme scheme.toml --memory 8GiB --tmp /disk1,/disk2
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
    add_force(group, "--per-document")
    add_memory(parser)
    parser.set_defaults(run=run)


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON")
    group.add_argument(
        "--decoys",
        type=natural,
        metavar="N",
        help="compare with N random other keys, scored in the same pass: a p-value without any "
        "assumption, at least 1 / (N + 1)",
    )
    group.add_argument(
        "--per-document",
        metavar="FILE",
        help="write one row per document to a .parquet, .jsonl or .csv file",
    )
    group.add_argument(
        "--max-contexts",
        type=natural,
        metavar="N",
        help="with --per-document: score only the first N distinct contexts of each document",
    )
    group.add_argument(
        "--max-sharing",
        type=_sharing,
        metavar="N",
        help="with --per-document: count a unit as evidence in only the first N documents that "
        f"hold it, at most 255; 0 for all (default: {MAX_SHARING})",
    )
    group.add_argument(
        "--fdr",
        type=_level,
        metavar="Q",
        help="with --per-document: false discovery rate for significant documents (default: "
        f"{DEFAULT_FDR})",
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
    with StateFiles(args.state or DEFAULT_STATE, beside=args.per_document is not None) as files:
        schemes, corpus, phi = _inputs(args)
        if args.fresh or args.per_document is None or not files.wrote(args.per_document):
            check_new(args, "per_document")
        return _score_in_memory(args, corpus, schemes, phi, files)


def _inputs(args: argparse.Namespace) -> tuple[dict[str, Any], Corpus, KgramSet | None]:
    """The schemes by key, the corpus and the filter."""
    schemes = load_schemes(args)
    first = next(iter(schemes.values()))
    phi = None if args.filter is None else load_filter(args.filter, first)
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
        per_document=args.per_document is not None,
        max_sharing=None if args.per_document is None else sharing,
        decoys=args.decoys,
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
                args.per_document,
                corpus,
                tests[0].result,
                level,
                options.max_sharing,
                files,
                args.force,
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
    if args.per_document is None:
        if args.max_contexts is not None:
            raise UsageError(
                "--max-contexts is for --per-document; the whole corpus counts every context"
            )
        for name in ("fdr", "max_sharing"):
            if getattr(args, name) is not None:
                raise UsageError(f"{option(name)} has no effect without --per-document")
    else:
        check_suffix(args.per_document)
        if args.more_keys:
            raise UsageError(
                "--per-document is for one key; give --key-file once and score the others by "
                "themselves"
            )
    if args.fdr is not None and args.dedup == "none":
        raise UsageError("--fdr has no effect with --dedup none, which gives no p-values")
    check_outputs(args)


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
