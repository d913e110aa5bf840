"""``radscore plan``: estimate what scoring a corpus will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.keys import load_scheme
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_scheme_options,
    natural,
    open_inputs,
    vocabulary,
)
from radscore.cli.output import count, duration, json_out, table
from radscore.cli.parser import as_options, option

if TYPE_CHECKING:
    import argparse

    from radscore.runs.planning import Plan

__all__ = ["register"]

_DESCRIPTION = """\
Reads and scores a sample of a corpus, to estimate what scoring all of it will cost: tokens,
documents, distinct windows, memory, disk and time. Sizes come from headers and indexes if these
have them, everything else from the sample; rates are those of this machine.

The number of distinct windows is extrapolated from its growth along the sample, and kept between
Chao and Lin's lower bound and Good and Turing's upper bound, which are shown with it."""
_EXAMPLES = """\
  radscore plan tokens.bin --dtype uint16 --eod 0 --scheme scheme.toml --key-file alice.key
  radscore plan corpus/ --vocab-size 49152 --context-width 2
  radscore plan docs.jsonl.gz --tokenizer tokenizer.json --sample 1_000_000 --json
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "plan",
        summary="estimate what scoring a corpus will cost",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_corpus_options(parser, prompts=False)
    add_scheme_options(parser, required=False)
    group = parser.add_argument_group("planning")
    group.add_argument(
        "--context-width",
        type=natural,
        metavar="K",
        help="without --scheme: context tokens per window (default: 1)",
    )
    group.add_argument(
        "--vocab-size",
        type=vocabulary,
        metavar="V",
        help="without --scheme: size of the vocabulary (default: from the ids of the sample)",
    )
    group.add_argument(
        "--sample",
        type=natural,
        metavar="TOKENS",
        help="about how many tokens to read (default: 4,194,304)",
    )
    group.add_argument(
        "--threads", type=natural, metavar="N", help="worker threads (default: all cores)"
    )
    group.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.runs.planning import SAMPLE_TOKENS, plan_corpus

    scheme = None
    if args.scheme is None:
        for name in ("key_file", "key_env"):
            if getattr(args, name) is not None:
                raise UsageError(f"{option(name)} has no effect without --scheme")
    else:
        for name in ("context_width", "vocab_size"):
            if getattr(args, name) is not None:
                raise UsageError(f"{option(name)} has no effect with --scheme")
        scheme = load_scheme(args)
    limit = args.vocab_size if scheme is None else scheme.vocab_size
    corpus = open_inputs(args, vocab_size=limit, on_error="raise")
    plan = plan_corpus(
        corpus,
        scheme,
        context_width=args.context_width or 1,
        vocab_size=args.vocab_size,
        sample_tokens=args.sample or SAMPLE_TOKENS,
        threads=args.threads,
    )
    if args.json:
        json_out(plan.to_dict())
    else:
        table((name, as_options(text, vars(args))) for name, text in _rows(plan))
    return Exit.DONE


def _rows(plan: Plan) -> list[tuple[str, str]]:
    whole = plan.sample_tokens == plan.n_tokens
    about = "" if whole else "about "
    distinct = plan.distinct
    known = f"{about}{count(distinct.value)}"
    if distinct.low != distinct.high:
        known += f" (from {count(distinct.low)} to {count(distinct.high)})"
    return [
        (
            "files",
            f"{count(plan.n_files)} ({', '.join(plan.formats)}, {count(plan.total_bytes)} bytes)",
        ),
        ("dtype", plan.dtype),
        ("tokens", f"{'' if plan.exact_tokens else 'about '}{count(plan.n_tokens)}"),
        ("documents", f"{'' if plan.exact_documents else 'about '}{count(plan.n_documents)}"),
        ("windows", f"{about}{count(plan.n_windows)} of {plan.window_width} tokens"),
        ("vocabulary", count(plan.vocab_size, "id")),
        ("distinct windows", known),
        ("memory", f"up to {_bytes(plan.memory_bytes)}; less with --memory"),
        ("disk", f"about {_bytes(plan.spill_bytes)} with --memory, for windows in files"),
        ("state", f"about {_bytes(plan.state_bytes)} without --memory, to continue from"),
        ("time", f"about {duration(plan.seconds)} on this machine"),
        ("reading", _rate(plan.read_tokens_per_second)),
        ("scoring", _rate(plan.score_tokens_per_second)),
        ("sample", "the whole corpus" if whole else count(plan.sample_tokens, "token")),
        *(("note", note) for note in plan.notes),
    ]


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"


def _rate(tokens_per_second: float) -> str:
    return f"{tokens_per_second / 1e6:.3g} M tokens/s"
