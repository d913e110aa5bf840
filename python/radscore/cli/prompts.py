"""``radscore prompts``: prompts that end in frequent contexts of unmarked text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError, writing
from radscore.cli.options import (
    add_command,
    add_corpus_options,
    add_force,
    add_run_options,
    natural,
    number,
    open_inputs,
)
from radscore.cli.output import count, json_out, skipped_text, table
from radscore.cli.paths import check_new, check_outputs
from radscore.files import drafted, remove_drafts

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_DESCRIPTION = """\
Chooses beginnings of documents that end in contexts which are frequent in a text without the
watermark: what a model learned of a watermark, it learned where contexts came again. The text
should be of the kind that the watermark's owner publishes. No key is needed here.

The output is a file of JSON lines with text and token ids, the most frequent contexts first, for
radscore predict --endpoint --one-token and for radscore ask. The text is read twice."""
_EXAMPLES = """\
  radscore prompts unmarked.jsonl --tokenizer tokenizer.json --context-width 2 --length 16 \\
      --min-count 1 --out chosen.jsonl
  radscore predict chosen.jsonl --endpoint http://127.0.0.1:8001/v1 --model NAME --one-token \\
      --tokenizer tokenizer.json --context-width 2 --out chosen.arrow
  radscore ask --prompts chosen.jsonl --endpoint http://127.0.0.1:8000/v1 --model NAME \\
      --out chosen-answers.jsonl
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "prompts",
        summary="choose prompts that end in frequent contexts",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_corpus_options(parser, prompts=False)
    group = parser.add_argument_group("prompts")
    group.add_argument(
        "--context-width",
        type=natural,
        required=True,
        metavar="K",
        help="tokens per context, as in the scheme",
    )
    group.add_argument(
        "--number", type=natural, default=1000, metavar="N", help="prompts wanted (default: 1000)"
    )
    group.add_argument(
        "--length", type=natural, default=32, metavar="L", help="tokens per prompt (default: 32)"
    )
    group.add_argument(
        "--per-context",
        type=natural,
        default=1,
        metavar="M",
        help="prompts that may end in the same context (default: 1)",
    )
    group.add_argument(
        "--min-count",
        type=natural,
        default=2,
        metavar="C",
        help="leave out contexts that occur less often (default: 2)",
    )
    group.add_argument(
        "--seed", type=number, default=0, metavar="N", help="which places are chosen (default: 0)"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="file of prompts to write")
    add_force(parser, "--out")
    add_run_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.answers.choosing import choose_prompts
    from radscore.corpus.text.tokenizer import load_encoder

    if args.tokenizer is None:
        raise UsageError("prompts are text, which needs the tokenizer: --tokenizer PATH")
    if "-" in args.inputs:
        raise UsageError("standard input cannot be read twice; write it to a file")
    if args.length < args.context_width:
        raise UsageError(
            f"--length must be at least --context-width ({args.context_width}), not {args.length}"
        )
    check_outputs(args)
    encoder = load_encoder(args.tokenizer)
    corpus = open_inputs(args, vocab_size=encoder.vocab_size, on_error=args.on_error)
    check_outputs(args, corpus)
    check_new(args, "out")
    remove_drafts(Path(args.out))
    chosen = choose_prompts(
        corpus,
        encoder,
        context_width=args.context_width,
        number=args.number,
        length=args.length,
        per_context=args.per_context,
        min_count=args.min_count,
        seed=args.seed,
        threads=args.threads,
    )
    lines = [
        json.dumps(
            {"text": one.text, "input_ids": one.tokens, "context_count": one.count},
            ensure_ascii=False,
        )
        for one in chosen
    ]
    with drafted(Path(args.out), replace=args.force) as temporary, writing():
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    contexts = len({one.tokens[-args.context_width :] for one in chosen})
    facts = {"out": args.out, "n_prompts": len(chosen), "n_contexts": contexts}
    if args.json:
        json_out({**facts, "skipped": corpus.skipped.to_dict()})
    else:
        table(
            [
                ("prompts", f"{count(len(chosen))} of {count(args.length, 'token')}"),
                ("contexts", _contexts(contexts, [one.count for one in chosen])),
                ("documents", count(corpus.n_documents)),
                ("skipped", skipped_text(corpus.skipped, corpus.n_documents)),
                ("saved", args.out),
            ]
        )
    return Exit.SKIPPED if corpus.skipped else Exit.DONE


def _contexts(number: int, times: list[int]) -> str:
    if not times:
        return count(number)
    return f"{count(number)}, which occur {count(min(times))} to {count(max(times))} times"
