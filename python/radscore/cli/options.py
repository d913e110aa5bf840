"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import textwrap
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import EXIT_CODES, UsageError
from radscore.cli.parser import COMMAND, Parser, looks_like_key
from radscore.documents import MAX_VOCAB
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.corpus import Corpus
    from radscore.corpus.format import Source

__all__ = [
    "add_command",
    "add_corpus_options",
    "add_force",
    "add_fresh",
    "add_group",
    "add_on_error",
    "add_progress_options",
    "add_run_options",
    "add_scheme_options",
    "check_effect",
    "check_inputs",
    "natural",
    "not_negative",
    "number",
    "open_inputs",
    "positive",
    "real",
    "vocabulary",
]

DEFAULT_KEY_ENV = "RADSCORE_KEY"
_DTYPES = ("uint16", "uint32", "int32", "int64")
_ENGINES = ("auto", "fast", "reference")
# Smaller than the library's, since progress, Ctrl-C and saving come between batches.
_BATCH_TOKENS = 2**20


def add_command(
    commands: Any, name: str, *, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Adds a command whose --help ends with examples and exit codes."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, 79) if "\n" not in description else description,
        epilog=f"examples:\n{examples.rstrip()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_group(
    commands: Any,
    name: str,
    members: Iterable[Any],
    *,
    summary: str,
    description: str,
    examples: str,
) -> None:
    """Adds a command that only has subcommands; each member registers one."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, 79),
        epilog=f"examples:\n{examples.rstrip()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subcommands = parser.add_subparsers(title="commands", metavar=COMMAND)
    for member in members:
        member.register(subcommands)


def number(text: str) -> int:
    """A whole number, also written with underscores."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def natural(text: str) -> int:
    """A whole number, at least 1."""
    if (value := number(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def real(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def not_negative(text: str) -> float:
    """A number, at least 0."""
    if not 0 <= (value := real(text)) < 1e15:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def positive(text: str) -> float:
    """A number above 0."""
    if (value := not_negative(text)) == 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def vocabulary(text: str) -> int:
    """The size of a vocabulary."""
    if not 2 <= (value := number(text)) <= MAX_VOCAB:
        raise argparse.ArgumentTypeError(f"must be from 2 to {MAX_VOCAB:,}, not {value}")
    return value


def _format(text: str) -> str:
    """The name of a format, which may be another package's."""
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
        help="a file, a folder (read recursively) or a glob pattern, in any of the formats below; "
        "- for standard input, or an address such as s3:// or hf:// (needs radscore[remote])",
    )
    group = parser.add_argument_group("input")
    group.add_argument(
        "--field",
        metavar="NAME",
        help="field with the text or token ids, in JSON also within others as in data.text "
        "(default: input_ids, tokens or text, whichever comes first)",
    )
    if prompts:
        group.add_argument(
            "--prompt-field", metavar="NAME", help="field with each document's prompt (text or ids)"
        )
    group.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="for text: a Hugging Face folder, a tokenizer.json or a SentencePiece .model",
    )
    group.add_argument(
        "--special-tokens",
        action="store_true",
        help="let the tokenizer add its special tokens to each text",
    )
    group.add_argument(
        "--tokenizer-engine",
        choices=_ENGINES,
        default="auto",
        help="what turns text into ids: radscore's fast path, or the tokenizers library, which "
        "gives the same ids (default: the fast path if it covers the tokenizer)",
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
        help="type of the ids in headerless files (required unless a side file says)",
    )
    group.add_argument(
        "--eod",
        type=number,
        metavar="ID",
        help="id that ends a document; it counts as the document's last token. Without it a "
        "headerless file is one document, unless a side file says where documents end",
    )


def open_inputs(args: argparse.Namespace, *, vocab_size: int | None, on_error: str) -> Corpus:
    """The corpus that the arguments name; refuses options that would have no effect."""
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
    """Refuses a key in place of an input: a message about a missing file would show it."""
    if any(looks_like_key(path) and not os.path.lexists(path) for path in args.inputs):
        raise UsageError(
            "an INPUT looks like a key; write the key to a file and give its name with --key-file"
        )


def check_effect(args: argparse.Namespace, sources: Iterable[Source]) -> None:
    """Refuses options that change nothing, since whoever gives them expects otherwise."""
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
    """Threads, bad records and progress."""
    group = parser.add_argument_group("running")
    group.add_argument(
        "--threads",
        type=natural,
        metavar="N",
        help="worker threads, including the tokenizer's (default: all cores)",
    )
    add_on_error(group)
    add_progress_options(group)


def add_on_error(group: Any) -> None:
    """What to do about a bad record."""
    group.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="at a bad record, stop and name it, or skip and count it (default: raise)",
    )


def add_fresh(group: Any, what: str) -> None:
    """The option to start over. Commands that have it continue what is there without it.

    It is about unfinished work of one's own; a finished output is replaced by --force alone.
    """
    group.add_argument("--fresh", action="store_true", help=what)


def add_force(group: Any, output: str, when: str = "if it exists") -> None:
    """The option to replace a finished output, which nothing else does."""
    group.add_argument(
        "--force",
        action="store_true",
        help=f"replace the file of {output} {when}; an input is never replaced",
    )


def add_progress_options(group: Any) -> None:
    """Whether to show progress."""
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument(
        "--progress", action="store_true", help="show progress even if stderr is not a terminal"
    )


class _KeyFile(argparse.Action):
    """The file of a key; where a command tests several keys, further files in `more_keys`."""

    def __init__(self, *args: Any, several: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._several = several

    def __call__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, value: Any, *_: Any
    ) -> None:
        if args.key_file is None:
            args.key_file = value
        elif self._several:
            args.more_keys = [*args.more_keys, value]
        else:
            parser.error("--key-file was given twice; only radscore score tests several keys")


def add_scheme_options(
    parser: argparse.ArgumentParser, *, required: bool = True, several: bool = False
) -> None:
    """The scheme file, and where its key comes from, or its `several` keys."""
    parser.set_defaults(more_keys=())
    group = parser.add_argument_group("scheme and key")
    group.add_argument(
        "--scheme",
        required=required,
        metavar="TOML",
        help="file with the scheme and its public parameters (see: radscore schemes)",
    )
    _add_key(group, several=several)


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """Where the key comes from, for commands that know the scheme."""
    parser.set_defaults(more_keys=())
    _add_key(parser.add_argument_group("key"), several=False)


def _add_key(group: Any, *, several: bool) -> None:
    secret = group.add_mutually_exclusive_group()
    secret.add_argument(
        "--key-file",
        action=_KeyFile,
        several=several,
        metavar="FILE",
        help="file with the secret key: a number, or lines such as seed = 3 (see: radscore schemes "
        f"NAME){'; give it again for each further key' if several else ''}",
    )
    secret.add_argument(
        "--key-env",
        metavar="NAME",
        help=f"environment variable with the secret key (default: {DEFAULT_KEY_ENV}, if set)",
    )
