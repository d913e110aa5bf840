"""``radscore kgrams``: sets of k-grams to filter by."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import EXIT_CODES, Exit, UsageError, writing
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_run_options,
    natural,
    open_inputs,
    vocabulary,
)
from radscore.cli.output import count, json_out, skipped_text, table
from radscore.cli.paths import check_outputs
from radscore.cli.progress import Progress
from radscore.errors import CorpusError, StateError, TokenError

if TYPE_CHECKING:
    from radscore.kgrams import KgramSet

__all__ = ["load_kgrams", "register"]

_JSON = (".json", ".jsonl", ".ndjson")
#: How a set that radscore saved begins.
_MAGIC = b"RSKG"

_BUILD = """\
  radscore kgrams build recorded/*.jsonl --watermarked --width 2 --vocab-size 32000 --out phi.rkg
  radscore kgrams build new.jsonl --unmarked --width 2 --vocab-size 32000 --top 10000 --out p.rkg
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
    parts = parser.add_subparsers(title="commands", metavar="COMMAND")
    build = add_command(
        parts,
        "build",
        summary="make a set of the k-grams of a corpus",
        description="Counts the k-grams of a corpus and saves all of them, or the most frequent. "
        "K-grams never cross documents. As a filter their width is the scheme's context width. "
        "What a test may conclude with it depends on the text: of text without the tested "
        "watermark (--unmarked) any choice is valid, of watermarked text only all k-grams are; "
        "where neither is said, tests take the text for watermarked.",
        examples=_BUILD,
    )
    add_corpus_options(build, prompts=False)
    build.add_argument("--width", type=natural, required=True, metavar="K", help="tokens a k-gram")
    build.add_argument(
        "--vocab-size", type=vocabulary, required=True, metavar="V", help="size of the vocabulary"
    )
    build.add_argument("--top", type=natural, metavar="N", help="keep the N most frequent")
    build.add_argument(
        "--min-count",
        type=natural,
        default=1,
        metavar="C",
        help="keep those that occur at least C times",
    )
    build.add_argument(
        "--count",
        choices=("occurrences", "documents"),
        default="occurrences",
        help="what makes a k-gram frequent: how often it occurs (default), or in how many "
        "documents",
    )
    marked = build.add_mutually_exclusive_group()
    marked.add_argument(
        "--unmarked",
        dest="watermarked",
        action="store_false",
        default=None,
        help="the text does not carry the watermark that will be tested",
    )
    marked.add_argument(
        "--watermarked", action="store_true", default=None, help="the text carries it"
    )
    build.add_argument("--out", required=True, metavar="FILE", help="where to save the set")
    add_run_options(build)
    build.add_argument("--json", action="store_true", help="print JSON")
    build.set_defaults(run=run_build)
    info = add_command(
        parts,
        "info",
        summary="show what a set holds",
        description="Shows width, vocabulary, size and making of a saved set of k-grams.",
        examples=_INFO,
    )
    info.add_argument("file", metavar="FILE", help="a set that radscore kgrams build saved")
    info.add_argument(
        "--vocab-size", type=vocabulary, metavar="V", help="needed for k-grams in .json or .jsonl"
    )
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=run_info)


def run_build(args: argparse.Namespace) -> int:
    """Runs ``kgrams build``."""
    from radscore.kgrams import KgramCounts

    if Path(args.out).suffix in _JSON:
        raise UsageError(
            f"--out: the format is radscore's own, not JSON; name it phi.rkg, say, not {args.out}"
        )
    check_outputs(args)
    counts = KgramCounts(args.width, args.vocab_size, watermarked=args.watermarked)
    corpus = open_inputs(args, vocab_size=args.vocab_size, on_error=args.on_error)
    check_outputs(args, corpus)
    progress = Progress(corpus.total_bytes, quiet=args.quiet, asked=args.progress)
    try:
        for batch in corpus:
            counts.add(
                batch.documents, per_document=args.count == "documents", threads=args.threads
            )
            progress.add(batch.n_bytes, batch.documents.n_tokens)
    finally:
        progress.close()
    if len(counts) == 0:
        raise CorpusError(
            f"there are no k-grams: of {count(corpus.n_documents, 'document')} none has "
            f"{count(args.width, 'token')}"
        )
    kept = counts.top(args.top, min_count=args.min_count)
    if len(kept) == 0:
        raise CorpusError(f"no k-gram occurs at least {args.min_count} times")
    with writing():
        kept.save(args.out)
    facts = {
        **_facts(kept),
        "n_distinct": len(counts),
        "n_total": counts.total,
        "n_documents": corpus.n_documents,
        "skipped": corpus.skipped.to_dict(),
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
    kgrams = load_kgrams(args.file, "FILE", args.vocab_size)
    if args.json:
        json_out(_facts(kgrams))
    else:
        table(_rows(kgrams))
    return Exit.DONE


def load_kgrams(path: str, option: str, vocab_size: int | None) -> KgramSet:
    """The set in a file, whatever its name; a message names the option that gave it."""
    from radscore import _core
    from radscore.kgrams import KgramSet

    try:
        with Path(path).open("rb") as file:
            is_set = file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise UsageError(f"{option}: {path}: {error.strerror}") from None
    if not is_set and Path(path).suffix not in _JSON:
        raise UsageError(
            f"{option}: {path} is no set of k-grams; allowed are those of radscore kgrams build, "
            "and .json or .jsonl"
        )
    if not is_set and vocab_size is None:
        raise UsageError(f"--vocab-size is needed for the k-grams in {path}")
    try:
        if is_set:
            return KgramSet(_core.KgramSet.load(Path(path)))
        return KgramSet.load(path, vocab_size=vocab_size)
    except (StateError, TokenError) as error:
        raise UsageError(f"{option}: {error}") from None


def _facts(kgrams: KgramSet) -> dict[str, Any]:
    return {
        "n_kgrams": len(kgrams),
        "width": kgrams.width,
        "vocab_size": kgrams.vocab_size,
        "origin": asdict(kgrams.origin),
        "fingerprint": kgrams.fingerprint,
    }


def _rows(kgrams: KgramSet) -> list[tuple[str, str]]:
    return [
        ("k-grams", count(len(kgrams))),
        ("width", count(kgrams.width)),
        ("vocabulary", count(kgrams.vocab_size)),
        ("made of", kgrams.origin.words),
        ("fingerprint", kgrams.fingerprint),
    ]
