"""``radscore kgrams``: sets of k-grams to filter by."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import EXIT_CODES, Exit
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_run_options,
    natural,
    open_inputs,
)
from radscore.cli.output import count, json_out, skipped_text, table
from radscore.cli.progress import Progress
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from radscore.kgrams import KgramSet

__all__ = ["register"]

_BUILD = """\
  radscore kgrams build marked/*.jsonl --width 2 --vocab-size 32000 --out phi.rkg
  radscore kgrams build fresh.parquet --width 2 --vocab-size 32000 --top 10000 --out phi.rkg
"""
_INFO = """\
  radscore kgrams info phi.rkg
"""


def register(commands: Any) -> None:
    """Adds the command and its two subcommands."""
    parser = commands.add_parser(
        "kgrams",
        help="build and show sets of k-grams",
        description="Builds and shows sets of k-grams: the filter phi of radscore score.",
        epilog=f"examples:\n{_BUILD}{_INFO}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = add_command(
        parts,
        "build",
        summary="make a set of the k-grams of a corpus",
        description="Counts the k-grams of a corpus and saves all of them, or the most frequent. "
        "K-grams never cross documents. As a filter their width is the scheme's context width.",
        examples=_BUILD,
    )
    add_corpus_options(build, prompts=False)
    build.add_argument("--width", type=natural, required=True, metavar="K", help="tokens a k-gram")
    build.add_argument(
        "--vocab-size", type=natural, required=True, metavar="V", help="size of the vocabulary"
    )
    build.add_argument("--top", type=natural, metavar="N", help="keep the N most frequent")
    build.add_argument(
        "--min-count", type=natural, default=1, metavar="C", help="keep those that occur C times"
    )
    build.add_argument("--out", required=True, metavar="FILE", help="where to save the set")
    add_run_options(build)
    build.add_argument("--json", action="store_true", help="print JSON")
    build.set_defaults(run=run_build)
    info = add_command(
        parts,
        "info",
        summary="show what a set holds",
        description="Shows width, vocabulary and size of a saved set of k-grams.",
        examples=_INFO,
    )
    info.add_argument("file", metavar="FILE", help="a set that radscore kgrams build saved")
    info.add_argument(
        "--vocab-size", type=natural, metavar="V", help="needed for k-grams in .json or .jsonl"
    )
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=run_info)


def run_build(args: argparse.Namespace) -> int:
    """Runs ``kgrams build``."""
    from radscore.kgrams import KgramCounts

    corpus = open_inputs(args, vocab_size=args.vocab_size, on_error=args.on_error)
    counts = KgramCounts(args.width, args.vocab_size)
    progress = Progress(corpus.total_bytes, quiet=args.quiet, asked=args.progress)
    try:
        for batch in corpus:
            counts.add(batch.documents, threads=args.threads)
            progress.add(batch.n_bytes, batch.documents.n_tokens)
    finally:
        progress.close()
    if len(counts) == 0:
        raise CorpusError(
            f"there are no k-grams: all {corpus.n_documents} documents are shorter than "
            f"{args.width} tokens"
        )
    kept = counts.top(args.top, min_count=args.min_count)
    if len(kept) == 0:
        raise CorpusError(f"no k-gram occurs {args.min_count} times")
    kept.save(args.out)
    facts = {
        **_facts(kept),
        "n_distinct": len(counts),
        "n_total": counts.total,
        "n_documents": corpus.n_documents,
        "skipped": corpus.skipped.as_dict(),
    }
    if args.json:
        json_out(facts)
    else:
        table(
            [
                *_rows(kept),
                ("distinct", f"{count(len(counts))} of {count(counts.total)} in the corpus"),
                ("documents", count(corpus.n_documents)),
                ("skipped", skipped_text(corpus.skipped, corpus.n_documents)),
                ("saved", args.out),
            ]
        )
    return Exit.SKIPPED if corpus.skipped else Exit.DONE


def run_info(args: argparse.Namespace) -> int:
    """Runs ``kgrams info``."""
    from radscore.kgrams import KgramSet

    kgrams = KgramSet.load(args.file, vocab_size=args.vocab_size)
    if args.json:
        json_out(_facts(kgrams))
    else:
        table(_rows(kgrams))
    return Exit.DONE


def _facts(kgrams: KgramSet) -> dict[str, Any]:
    return {
        "n_kgrams": len(kgrams),
        "width": kgrams.width,
        "vocab_size": kgrams.vocab_size,
        "fingerprint": kgrams.fingerprint,
    }


def _rows(kgrams: KgramSet) -> list[tuple[str, str]]:
    return [
        ("k-grams", count(len(kgrams))),
        ("width", count(kgrams.width)),
        ("vocabulary", count(kgrams.vocab_size)),
        ("fingerprint", kgrams.fingerprint),
    ]
