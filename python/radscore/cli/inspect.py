"""``radscore inspect``: what is in a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    check_effect,
    check_inputs,
    vocabulary,
)
from radscore.cli.output import count, json_out, table
from radscore.cli.parser import as_options

if TYPE_CHECKING:
    import argparse

    from radscore.corpus import Inspection

__all__ = ["register"]

_EXAMPLES = """\
  radscore inspect corpus/
  radscore inspect tokens.bin --dtype uint16 --eod 0 --vocab-size 49152
  radscore inspect docs.jsonl.gz --field text --tokenizer tokenizer.json --json
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "inspect",
        summary="show what is in a corpus",
        description="Reads a corpus and shows its format, dtype, documents, tokens, largest id and "
        "three snippets. Bad records are skipped and counted.",
        examples=_EXAMPLES,
    )
    add_corpus_options(parser)
    parser.add_argument(
        "--vocab-size", type=vocabulary, metavar="V", help="warn about ids of V or more"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.corpus import inspect_corpus
    from radscore.corpus.detect import find_sources

    check_inputs(args)
    check_effect(args, find_sources(args.inputs, args.format))
    found = inspect_corpus(
        args.inputs,
        field=args.field,
        tokenizer=args.tokenizer,
        prompt_field=args.prompt_field,
        format=args.format,
        dtype=args.dtype,
        eod=args.eod,
        vocab_size=args.vocab_size,
        add_special_tokens=args.special_tokens,
        tokenizer_engine=args.tokenizer_engine,
    )
    if args.json:
        json_out(found.to_dict())
    else:
        table((name, as_options(text, vars(args))) for name, text in _rows(found))
    if found.n_documents is None:
        return Exit.USAGE  # the dtype is missing
    return Exit.SKIPPED if found.skipped else Exit.DONE


def _rows(found: Inspection) -> list[tuple[str, str]]:
    unit = "tokens" if found.n_bytes_of_text is None else "bytes"
    rows = [
        (
            "files",
            f"{count(found.files)} ({', '.join(found.formats)}, {count(found.total_bytes)} bytes)",
        ),
        ("field", found.field or ""),
        ("dtype", found.dtype or ""),
    ]
    if found.boundaries is not None:
        rows.append(("boundaries", found.boundaries.partition(": ")[2]))
    if found.n_documents is not None:
        lengths = f"from {count(found.shortest or 0)} to {count(found.longest or 0)} {unit}"
        rows.append(("documents", f"{count(found.n_documents)}, {lengths}"))
    if found.n_tokens is not None:
        rows.append(("tokens", count(found.n_tokens)))
    if found.n_bytes_of_text is not None:
        rows.append(("text", f"{count(found.n_bytes_of_text)} bytes"))
    if found.largest_id is not None:
        rows.append(("largest id", count(found.largest_id)))
    rows += [("snippet", snippet) for snippet in found.snippets]
    rows += [("warning", warning) for warning in found.warnings]
    return rows
