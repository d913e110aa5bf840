"""``radscore kgrams build``: make a set of k-grams from a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError, writing
from radscore.cli.kgrams.sets import JSON, facts, rows
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_force,
    add_run_options,
    natural,
    open_inputs,
    vocabulary,
)
from radscore.cli.output import count, json_out, skipped_text, table
from radscore.cli.paths import check_new, check_outputs
from radscore.cli.progress import ProgressBar
from radscore.errors import CorpusError
from radscore.files import drafted, remove_drafts
from radscore.progress import Progress

if TYPE_CHECKING:
    import argparse

    from radscore.corpus import Corpus
    from radscore.kgrams import KgramCounts

__all__ = ["EXAMPLES", "register"]

EXAMPLES = """\
  radscore kgrams build recorded/*.jsonl --watermarked --width 2 --vocab-size 49152 --out phi.rkg
  radscore kgrams build new.jsonl --unmarked --width 2 --vocab-size 49152 --top 10000 --out p.rkg
  radscore kgrams build new.jsonl --unmarked --width 4 --vocab-size 49152 --counts --out new.rkc
"""
_DESCRIPTION = """\
Counts the k-grams of a corpus and saves all of them, or the most frequent ones. K-grams never cross
document boundaries. To filter by them, make them as wide as the scheme's contexts.

What a test may conclude depends on the text. Any choice of k-grams from text without the tested
watermark (--unmarked) is valid; from watermarked text only all k-grams are. Without either option,
tests assume that the text is watermarked."""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "build",
        summary="make a set of the k-grams of a corpus",
        description=_DESCRIPTION,
        examples=EXAMPLES,
    )
    add_corpus_options(parser, prompts=False)
    group = parser.add_argument_group("k-grams")
    group.add_argument(
        "--width", type=natural, required=True, metavar="K", help="tokens per k-gram"
    )
    group.add_argument(
        "--vocab-size", type=vocabulary, required=True, metavar="V", help="size of the vocabulary"
    )
    group.add_argument("--top", type=natural, metavar="N", help="keep the N most frequent")
    group.add_argument(
        "--min-count",
        type=natural,
        default=1,
        metavar="C",
        help="keep those that occur at least C times",
    )
    group.add_argument(
        "--count",
        choices=("occurrences", "documents"),
        default="occurrences",
        help="what makes a k-gram frequent: its occurrences (default), or the documents that hold "
        "it",
    )
    marked = group.add_mutually_exclusive_group()
    marked.add_argument(
        "--unmarked",
        dest="watermarked",
        action="store_false",
        default=None,
        help="the text does not carry the watermark to be tested",
    )
    marked.add_argument(
        "--watermarked", action="store_true", default=None, help="the text carries it"
    )
    group.add_argument(
        "--counts",
        action="store_true",
        help="save how often each occurs, for test closed --contexts, rather than a set",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="where to save the set")
    add_force(parser, "--out")
    add_run_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.kgrams import KgramCounts

    if args.counts and (args.top is not None or args.min_count > 1):
        raise UsageError("--counts saves all k-grams; --top and --min-count have no effect")
    if Path(args.out).suffix in JSON:
        raise UsageError(
            f"--out: the file will not be JSON, so name it phi.rkg, say, instead of {args.out}"
        )
    check_outputs(args)
    counts = KgramCounts(args.width, args.vocab_size, watermarked=args.watermarked)
    corpus = open_inputs(args, vocab_size=args.vocab_size, on_error=args.on_error)
    check_outputs(args, corpus)
    check_new(args, "out")
    remove_drafts(Path(args.out))
    _count(args, corpus, counts)
    if len(counts) == 0:
        raise CorpusError(
            f"there are no k-grams: none of {count(corpus.n_documents, 'document')} has "
            f"{count(args.width, 'token')}"
        )
    kept = counts.top(args.top, min_count=args.min_count)
    if len(kept) == 0:
        raise CorpusError(f"no k-gram occurs at least {args.min_count} times")
    with drafted(Path(args.out), replace=args.force) as temporary, writing():
        (counts if args.counts else kept).save(temporary)
    if args.json:
        json_out(
            {
                **facts(kept),
                "n_distinct": len(counts),
                "n_total": counts.total,
                "n_documents": corpus.n_documents,
                "skipped": corpus.skipped.to_dict(),
            }
        )
    else:
        table(
            [
                *rows(kept),
                ("distinct", f"{count(len(counts))} of {count(counts.total)} in the corpus"),
                ("documents", count(corpus.n_documents)),
                ("skipped", skipped_text(corpus.skipped, corpus.n_documents)),
                ("saved", args.out),
            ]
        )
    return Exit.SKIPPED if corpus.skipped else Exit.DONE


def _count(args: argparse.Namespace, corpus: Corpus, counts: KgramCounts) -> None:
    bar = ProgressBar(quiet=args.quiet, asked=args.progress)
    n_bytes = n_tokens = 0
    bar.begin(Progress(0, corpus.total_bytes, 0))
    try:
        for batch in corpus:
            counts.add(
                batch.documents, per_document=args.count == "documents", threads=args.threads
            )
            n_bytes, n_tokens = n_bytes + batch.n_bytes, n_tokens + batch.documents.n_tokens
            bar.show(Progress(n_bytes, corpus.total_bytes, n_tokens))
    finally:
        bar.close()
