"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import textwrap
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import EXIT_CODES, UsageError
from radscore.cli.parser import Parser, looks_like_key
from radscore.documents import MAX_VOCAB
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.corpus import Corpus
    from radscore.corpus.format import Source

__all__ = ["add_command", "add_corpus_options", "natural", "number", "open_inputs", "vocabulary"]

DEFAULT_KEY_ENV = "RADSCORE_KEY"
_DTYPES = ("uint16", "uint32", "int32", "int64")
_ENGINES = ("auto", "fast", "reference")
# Smaller than the library's: progress, Ctrl-C and states come between batches.
_BATCH_TOKENS = 2**20


def add_command(
    commands: Any, name: str, *, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """A subcommand whose --help ends with examples and exit codes."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, 79) if "\n" not in description else description,
        epilog=f"examples:\n{examples.rstrip()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--debug", action="store_true", help="show where in the program an error arose"
    )
    return parser


def number(text: str) -> int:
    """A whole number, also written with underscores."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def natural(text: str) -> int:
    """A whole number from 1."""
    if (value := number(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def vocabulary(text: str) -> int:
    """The size of a vocabulary."""
    if not 2 <= (value := number(text)) <= MAX_VOCAB:
        raise argparse.ArgumentTypeError(f"must be from 2 to {MAX_VOCAB:,}, not {value}")
    return value


def _format(text: str) -> str:
    """The name of a format, which may be that of another package."""
    from radscore.corpus.registry import format_named

    try:
        return format_named(text).name
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("format ")) from None


def _formats() -> str:
    from radscore.corpus.registry import format_help

    return format_help()


def add_corpus_options(
    parser: argparse.ArgumentParser, *, prompts: bool = True, required: bool = True
) -> None:
    """The options of `open_corpus`, with or without prompts."""
    parser.add_argument(
        "inputs",
        nargs="+" if required else "*",
        metavar="INPUT",
        help="file, folder (read recursively) or glob pattern, of any of the formats below",
    )
    group = parser.add_argument_group("reading the input")
    group.add_argument(
        "--field",
        metavar="NAME",
        help="field with the text or the token ids (default: the first there is of input_ids, "
        "tokens, text)",
    )
    if prompts:
        group.add_argument(
            "--prompt-field", metavar="NAME", help="field with each document's prompt (text or ids)"
        )
    group.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="for text: a Hugging Face folder or a tokenizer.json",
    )
    group.add_argument(
        "--special-tokens",
        action="store_true",
        help="let the tokenizer put its special tokens around each text",
    )
    group.add_argument(
        "--tokenizer-engine",
        choices=_ENGINES,
        default="auto",
        help="what makes ids of text: radscore's fast path, which gives the ids of tokenizers, or "
        "tokenizers itself (default: the fast path for the tokenizers that it covers)",
    )
    if isinstance(parser, Parser):
        parser.late_help.append(_formats)
    group.add_argument(
        "--format",
        type=_format,
        metavar="NAME",
        help="format of all inputs (default: detected from names, side files and content)",
    )
    group.add_argument(
        "--dtype",
        choices=_DTYPES,
        help="ids of headerless files (needed where no side file tells it)",
    )
    group.add_argument(
        "--eod",
        type=number,
        metavar="ID",
        help="id that ends a document: it stays its last token and is scored as such; without it "
        "a headerless file is one document, unless a side file tells where documents end",
    )


def open_inputs(args: argparse.Namespace, *, vocab_size: int | None, on_error: str) -> Corpus:
    """The corpus that the arguments name; options that would have no effect are refused."""
    from radscore.corpus import open_corpus

    check_inputs(args)
    corpus = open_corpus(
        args.inputs,
        field=args.field,
        tokenizer=args.tokenizer,
        prompt_field=getattr(args, "prompt_field", None),
        format=args.format,
        dtype=args.dtype,
        eod=args.eod,
        vocab_size=vocab_size,
        on_error="skip" if on_error == "skip" else "raise",
        batch_tokens=_BATCH_TOKENS,
        add_special_tokens=args.special_tokens,
        tokenizer_engine=args.tokenizer_engine,
    )
    check_effect(args, corpus.sources)
    return corpus


def check_inputs(args: argparse.Namespace) -> None:
    """Refuses a key in the place of an input, which a message would show."""
    if any(looks_like_key(path) and not os.path.lexists(path) for path in args.inputs):
        raise UsageError(
            "an INPUT looks like a key; write it to a file and name the file with --key-file"
        )


def check_effect(args: argparse.Namespace, sources: Iterable[Source]) -> None:
    """Refuses options that change nothing: who gives them expects something else."""
    if args.special_tokens and args.tokenizer is None:
        raise UsageError("--special-tokens has no effect without --tokenizer")
    if args.tokenizer_engine != "auto" and args.tokenizer is None:
        raise UsageError("--tokenizer-engine has no effect without --tokenizer")
    sources = tuple(sources)
    if args.dtype is not None and not any(one.format.takes_dtype(one) for one in sources):
        kinds = ", ".join(dict.fromkeys(source.format.name for source in sources))
        raise UsageError(f"--dtype has no effect: files of format {kinds} say what they hold")
    if args.field is not None and not any(one.format.has_fields(one) for one in sources):
        raise UsageError("--field has no effect: the files have no fields")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What to do at bad records, and what to show meanwhile."""
    group = parser.add_argument_group("running")
    group.add_argument(
        "--threads",
        type=natural,
        metavar="N",
        help="threads, the tokenizer's too (default: all cores)",
    )
    group.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="stop at a bad record, naming it, or count it and go on (default: raise)",
    )
    add_progress_options(group)


def add_progress_options(group: Any) -> None:
    """Whether to show progress."""
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument(
        "--progress", action="store_true", help="show progress although stderr is no terminal"
    )


def add_scheme_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The scheme file and where its secret comes from."""
    group = parser.add_argument_group("scheme and key")
    group.add_argument(
        "--scheme",
        required=required,
        metavar="TOML",
        help="file with the scheme and its parameters (see: radscore schemes)",
    )
    secret = group.add_mutually_exclusive_group()
    secret.add_argument(
        "--key-file",
        metavar="FILE",
        help="file that holds the secret key: a number, or lines as seed = 3 (examples for each "
        "scheme: radscore schemes NAME)",
    )
    secret.add_argument(
        "--key-env",
        metavar="NAME",
        help=f"environment variable that holds it (default: {DEFAULT_KEY_ENV}, where it is set)",
    )
