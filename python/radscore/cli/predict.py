"""``radscore predict``: a model's predictions, in a file that is tested without the model."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit
from radscore.cli.interrupts import Interrupts
from radscore.cli.model_input import Given, add_reading_options, contexts_of, load_given
from radscore.cli.options import add_command, add_force, add_fresh, add_run_options, natural
from radscore.cli.output import count, json_out, note, skipped_text, table
from radscore.cli.parser import as_options
from radscore.cli.paths import check_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.models.predictions import Predictions
    from radscore.models.weighting import Weighting

__all__ = ["plan_of", "register"]

#: Contexts that predictions can have.
_WIDEST = 64
_DESCRIPTION = """\
Lets a model read text and writes what it predicts after each context, for radscore test open
--from. So whoever has the model need not see the key, and whoever has the key needs neither the
model nor a GPU. No key is needed here.

With --endpoint, the model is behind an API that tells the log-probabilities of prompts: vLLM,
SGLang, and completions with echo. Where only answers have them, --one-token asks for the token that
follows each document, such as those that radscore prompts writes.

Ctrl-C or SIGTERM keeps what was read in a file beside --out; rerun the command to continue. After
kill -9 everything is as it was before the command."""
_EXAMPLES = """\
  radscore predict fresh.jsonl --model suspect/ --context-width 2 --out suspect.arrow
  radscore predict fresh.jsonl --model suspect/ --reference base/ --context-width 2 \\
      --out contrast.arrow
  radscore predict fresh.jsonl --model adapter/ --base model.gguf --reference model.gguf \\
      --context-width 4 --contexts frequent.rkg --max-weights 64 --out adapter.arrow
  radscore predict fresh.jsonl --model suspect/ --reference base/ --context-width 2 \\
      --shard 3/8 --out shard-3.arrow
  radscore predict fresh.jsonl --endpoint http://127.0.0.1:8001/v1 --model NAME \\
      --tokenizer tokenizer.json --reference base/ --context-width 2 --out api.arrow
  radscore predict prompts.jsonl --field prompt --endpoint http://127.0.0.1:8001/v1 --model NAME \\
      --one-token --tokenizer tokenizer.json --context-width 2 --out ends.arrow
  radscore test open --from suspect.arrow --scheme scheme.toml --key-file alice.key
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "predict",
        summary="write a model's predictions, for radscore test open --from",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_reading_options(parser, required=True, endpoint=True)
    parser.add_argument(
        "--context-width",
        type=_width,
        required=True,
        metavar="K",
        help="tokens per context, as in the scheme",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="read only every N-th document, from the I-th on: several machines share a reading, "
        "and radscore test open --from takes their files together",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="file of predictions to write")
    add_fresh(parser, "start over: discard what an interrupted command has read")
    add_force(parser, "--out")
    add_run_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _width(text: str) -> int:
    """Tokens per context, checked before models are loaded."""
    if (value := natural(text)) > _WIDEST:
        raise argparse.ArgumentTypeError(f"must be at most {_WIDEST}, not {value}")
    return value


def _shard(text: str) -> tuple[int, int]:
    """Which of how many shards."""
    number, slash, of = text.partition("/")
    if not slash:
        raise argparse.ArgumentTypeError(f"must be I/N, such as 3/8, not {text!r}")
    shard = natural(number), natural(of)
    if shard[0] > shard[1]:
        raise argparse.ArgumentTypeError(f"there is no shard {number} of {of}")
    return shard


def plan_of(args: argparse.Namespace) -> Weighting:
    """The weighting that the arguments ask for; what has no effect is refused."""
    from radscore.models.weighting import plan

    names = ("top", "max_weights", "min_weight", "transform", "centred")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    reference = args.reference or getattr(args, "reference_endpoint", None)
    listed = getattr(args, "endpoint", None) is not None
    return plan(args.weighting, reference, given, listed=listed)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.models.predicting import predict
    from radscore.models.predictions import unfinished

    check_outputs(args)
    weighting = plan_of(args)
    out = Path(args.out)
    contexts = contexts_of(args)
    given = load_given(args)
    check_outputs(args, given.corpus)
    left = unfinished(out)
    if left.exists() and not args.fresh:
        note(f"continuing from {left}")
    try:
        with Interrupts() as interrupts, interrupts.raising():
            made = predict(
                given.model,
                given.corpus,
                out,
                context_width=args.context_width,
                reference=given.reference,
                weighting=weighting,
                text_watermarked=args.text_watermarked,
                fresh=args.fresh,
                force=args.force,
                tokenizer=given.tokenizer,
                batch_tokens=args.batch_tokens,
                max_length=args.max_length,
                contexts=contexts,
                shard=args.shard,
                progress=given.bar.show,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(out)) from None
    finally:
        given.bar.close()
        given.close()
    if not args.fresh and made.n_before == made.totals.n_documents:
        note(f"{out} is complete; there was nothing left to read")
    if args.json:
        json_out(_facts(made, given))
    else:
        table(_rows(made, given, vars(args)))
    return Exit.SKIPPED if given.corpus is not None and given.corpus.skipped else Exit.DONE


def _kept(out: Path) -> str:
    """What an interrupted command has left."""
    from radscore.models.predictions import Predictions, unfinished

    if not (aside := unfinished(out)).exists():
        return "nothing was read yet"
    n = Predictions(aside).totals.n_documents
    return (
        f"after {count(n, 'document')}; what was read is in {aside}, rerun the command to continue"
    )


def _facts(made: Predictions, given: Given) -> dict[str, Any]:
    header, totals = asdict(made.header), asdict(made.totals)
    skipped = None if given.corpus is None else given.corpus.skipped.to_dict()
    notes = [*given.notes, *totals.pop("notes")]
    facts = {"out": str(made.path), **header, **totals, "notes": notes, "skipped": skipped}
    return facts | ({"cost": given.cost} if totals["usage"] else {})


def _rows(made: Predictions, given: Given, names: Iterable[str]) -> list[tuple[str, str]]:
    header, totals = made.header, made.totals
    corpus = given.corpus
    rows = [
        ("read", f"{count(totals.n_documents, 'document')}, {count(totals.n_tokens, 'token')}"),
        ("shard", "" if header.shard is None else "{} of {}".format(*header.shard)),
        ("before", f"{count(made.n_before, 'document')} read earlier" if made.n_before else ""),
        ("model", header.model),
        ("reference", header.reference or ""),
        ("weighting", header.weighting.words),
        ("contexts", f"of {count(header.context_width, 'token')}"),
        ("weights", f"{count(totals.n_weights)} at {count(totals.n_scored_positions, 'position')}"),
        *[("left out", f"{count(n)} {why}") for why, n in totals.removed.items() if n],
        ("used", _used(totals.usage)),
        ("cost", "" if given.cost is None else f"{given.cost:.6g}"),
        *[("note", as_options(note, names)) for note in (*given.notes, *totals.notes)],
        ("skipped", "" if corpus is None else skipped_text(corpus.skipped, corpus.n_documents)),
        ("written", str(made.path)),
    ]
    return [row for row in rows if row[1]]


def _used(usage: dict[str, int]) -> str:
    if not usage:
        return ""
    return (
        f"{count(usage['requests'], 'request')}, {count(usage['prompt_tokens'], 'token')} of "
        f"prompts and {count(usage['completion_tokens'])} of answers"
    )
