"""``radscore score``: test a corpus for a watermark."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.keys import load_scheme
from radscore.cli.kgrams import load_kgrams
from radscore.cli.memory import add_memory, check_memory, score_in_files
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_run_options,
    add_scheme_options,
    natural,
    number,
    open_inputs,
)
from radscore.cli.output import json_out, table
from radscore.cli.parser import as_options
from radscore.cli.paths import check_outputs
from radscore.cli.per_document import check_suffix
from radscore.cli.report import json_fields, table_rows
from radscore.cli.run import Rules, ScoreRun
from radscore.scoring.per_document import MAX_SHARING

if TYPE_CHECKING:
    from radscore.kgrams import KgramSet

__all__ = ["add_rules", "check_rules", "load_filter", "register"]

_DESCRIPTION = """\
Tests a corpus for a watermark: whether its text depends on the key. Prints how many windows were
scored and the p-value of the whole corpus, and with --per-document those of each document.

Every distinct unit of evidence is scored once over the whole corpus (--dedup unit). Ctrl-C, or
SIGTERM, saves the state; the same command with --resume goes on exactly there."""
_EXAMPLES = """\
  radscore score corpus/*.parquet --scheme scheme.toml --key-file alice.key
  radscore score docs.jsonl.gz --field text --tokenizer ./tokenizer --scheme scheme.toml
  radscore score train.bin --dtype uint16 --eod 50256 --scheme scheme.toml --json
  radscore score answers.jsonl --prompt-field prompt --filter phi.rkg --scheme scheme.toml
  radscore score corpus/ --scheme scheme.toml --per-document documents.parquet --on-error skip
  radscore score corpus/ --scheme scheme.toml --state run.state --resume
  radscore score tokens/ --scheme scheme.toml --memory 8GiB --tmp /disk1,/disk2
"""
DEFAULT_STATE = "radscore.state"
DEFAULT_FDR = 0.05


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
    add_scheme_options(parser)
    add_rules(parser)
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print JSON")
    out.add_argument(
        "--per-document",
        metavar="FILE",
        help="write one row a document to a .parquet, .jsonl or .csv file",
    )
    out.add_argument(
        "--max-contexts",
        type=natural,
        metavar="N",
        help="with --per-document: score the first N distinct contexts of a document only",
    )
    out.add_argument(
        "--max-sharing",
        type=_sharing,
        metavar="N",
        help="with --per-document: a unit is evidence in the first N documents that hold it, at "
        f"most 255; 0: in all (default: {MAX_SHARING})",
    )
    out.add_argument(
        "--fdr",
        type=_level,
        metavar="Q",
        help=f"with --per-document: false discovery rate at which documents count as significant "
        f"(default: {DEFAULT_FDR})",
    )
    add_run_options(parser)
    state = parser.add_argument_group("interrupting and going on")
    state.add_argument(
        "--state",
        metavar="FILE",
        default=DEFAULT_STATE,
        help=f"where the state is saved, now and then and when interrupted (default: "
        f"{DEFAULT_STATE}); removed at the end",
    )
    add_memory(parser)
    state.add_argument("--resume", action="store_true", help="go on from the saved state")
    state.add_argument(
        "--save-every",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how often the state is saved (default: 60; less often where that takes long)",
    )
    parser.set_defaults(run=run)


def add_rules(parser: argparse.ArgumentParser) -> None:
    """The options that say which windows count."""
    rules = parser.add_argument_group("which windows count")
    rules.add_argument(
        "--dedup",
        choices=("unit", "window", "context", "none"),
        default="unit",
        help="what counts once over the whole corpus (default: unit, what the scheme's random "
        "function reads); none gives no p-value",
    )
    rules.add_argument(
        "--filter",
        metavar="PHI",
        help="score contexts of this set only (of radscore kgrams build, or .json, .jsonl)",
    )
    rules.add_argument(
        "--start",
        type=number,
        metavar="N",
        help="first position of a document that is scored (default: 0 for the schemes of vLLM and "
        "SynthID, whose contexts are padded, otherwise the context width)",
    )
    rules.add_argument(
        "--prompt-role",
        choices=("exclude", "context"),
        help="with --prompt-field: leave out windows whose random draw the document's own prompt "
        "can have shown (default), or let the first contexts reach into the prompt",
    )


def _level(text: str) -> float:
    value = _seconds(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {text}")
    return value


def _sharing(text: str) -> int:
    value = number(text)
    if not 0 <= value <= 255:
        raise argparse.ArgumentTypeError(f"must be from 0 to 255, not {text}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    _check(args)
    scheme = load_scheme(args)
    phi = None if args.filter is None else load_filter(args.filter, scheme)
    corpus = open_inputs(args, vocab_size=scheme.vocab_size, on_error=args.on_error)
    check_outputs(args, corpus)
    if args.memory is not None:
        return score_in_files(args, corpus, scheme, phi)
    sharing = MAX_SHARING if args.max_sharing is None else args.max_sharing or None
    rules = Rules(
        dedup=args.dedup,
        filter=phi,
        start=args.start,
        prompt_role=args.prompt_role or "exclude",
        max_contexts=args.max_contexts,
        threads=args.threads,
        per_document=args.per_document is not None,
        max_sharing=None if args.per_document is None else sharing,
    )
    with ScoreRun(corpus, scheme, rules, args.state, resume=args.resume) as work:
        finished = work.score(
            save_every=args.save_every, quiet=args.quiet, show_progress=args.progress
        )
        result = work.result() if finished else None
        if result is None:
            return Exit.INTERRUPTED
        found = None
        if work.documents is not None:
            level = DEFAULT_FDR if args.fdr is None else args.fdr
            found = work.documents.write(
                args.per_document, corpus, result, level, rules.max_sharing
            )
        work.discard_state()
    if args.json:
        json_out(json_fields(result, corpus, found))
    else:
        rows = table_rows(result, corpus, found)
        table((name, as_options(text, vars(args))) for name, text in rows)
    return Exit.SKIPPED if corpus.skipped else Exit.DONE


def _check(args: argparse.Namespace) -> None:
    """Refuses what does not go together, before anything is read."""
    check_rules(args)
    check_memory(args)
    if args.per_document is None:
        if args.max_contexts is not None:
            raise UsageError(
                "--max-contexts is for --per-document; the corpus counts every context"
            )
        for name in ("fdr", "max_sharing"):
            if getattr(args, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} has no effect without --per-document")
    else:
        check_suffix(args.per_document)
    if args.fdr is not None and args.dedup == "none":
        raise UsageError("--fdr has no effect with --dedup none, which gives no p-values")
    check_outputs(args)


def check_rules(args: argparse.Namespace) -> None:
    """Refuses rules that cannot be or have no effect."""
    if args.start is not None and args.start < 0:
        raise UsageError(f"--start must be 0 or more, not {args.start}")
    if args.prompt_role is not None and args.prompt_field is None:
        raise UsageError("--prompt-role has no effect without --prompt-field")


def load_filter(path: str, scheme: Any) -> KgramSet:
    """The filter, which must be over the scheme's contexts."""
    phi = load_kgrams(path, "--filter", scheme.vocab_size)
    width = scheme.window_width - 1
    if (phi.width, phi.vocab_size) != (width, scheme.vocab_size):
        raise UsageError(
            f"--filter: {path} holds {phi.width}-grams over {phi.vocab_size} ids, but the contexts "
            f"of the scheme are {width}-grams over {scheme.vocab_size}"
        )
    return phi
