"""``radscore generate``: write text with a model, watermarked or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import Interrupts
from radscore.cli.keys import load_scheme
from radscore.cli.model_options import add_model_options, add_prompts_options, load_named_model
from radscore.cli.options import (
    add_command,
    add_force,
    add_fresh,
    add_progress_options,
    add_scheme_options,
    natural,
    number,
    real,
)
from radscore.cli.output import count, json_out, note, table
from radscore.cli.parser import option
from radscore.cli.paths import check_outputs
from radscore.cli.progress import ProgressBar
from radscore.provenance import listed, provenance

if TYPE_CHECKING:
    import argparse

    from radscore.models.generating import GenerateReport
    from radscore.models.writing import Sampling

__all__ = ["register"]

_DESCRIPTION = """\
Lets a model write a text after each prompt. With --scheme the text carries that watermark, which
radscore score finds; without it the text is not watermarked.

Each line of the output has the prompt, the text, its token ids, the fingerprints of the model and
the scheme, and how tokens were chosen; never the key. The file only grows: after Ctrl-C, an error
or kill -9, rerun the command to write what is missing.

Schemes with a single Gumbel-max key choose each token themselves, so --samples would write the same
text again, at least until a context repeats; give more prompts instead."""
_EXAMPLES = """\
  radscore generate --model model/ --prompts prompts.jsonl --out unmarked.jsonl
  radscore generate --model model/ --prompts prompts.jsonl --scheme scheme.toml \\
      --key-file alice.key --out marked.jsonl --temperature 0.8 --top-p 0.95
  radscore generate --model model/ --chat --prompts prompts.jsonl --out y.jsonl --samples 4
  radscore score marked.jsonl --field tokens --prompt-field prompt_tokens \\
      --scheme scheme.toml --key-file alice.key
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "generate",
        summary="write text with a model, watermarked or not",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_prompts_options(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="file of JSON lines to write")
    add_model_options(parser)
    add_scheme_options(parser, required=False)
    how = parser.add_argument_group("how tokens are chosen")
    how.add_argument(
        "--delta",
        type=real,
        metavar="D",
        help="for schemes with green lists: added to the logit of a green token (default: 2)",
    )
    how.add_argument(
        "--temperature",
        type=real,
        default=1.0,
        metavar="T",
        help="sampling temperature; 0 takes the likeliest token (default: 1)",
    )
    how.add_argument(
        "--top-p",
        type=real,
        default=1.0,
        metavar="P",
        help="nucleus sampling (default: 1, all tokens)",
    )
    how.add_argument(
        "--top-k", type=natural, metavar="K", help="sample from the K likeliest (default: all)"
    )
    how.add_argument(
        "--repeated",
        choices=("engine", "mark", "skip", "all"),
        default="engine",
        help="whether to mark contexts that repeat in a text: as the scheme's own engine does "
        "(default), mark or skip them; all also skips those of the prompt (vLLM's 'all')",
    )
    how.add_argument(
        "--seed", type=number, default=0, metavar="N", help="seed of all draws (default: 0)"
    )
    text = parser.add_argument_group("texts")
    text.add_argument(
        "--max-tokens",
        type=natural,
        default=256,
        metavar="N",
        help="most tokens per text (default: 256)",
    )
    text.add_argument(
        "--samples",
        type=natural,
        default=1,
        metavar="N",
        help="texts per prompt (default: 1); all the same with a single Gumbel-max key, or with "
        "temperature 0",
    )
    text.add_argument(
        "--chat", action="store_true", help="put prompts into the tokenizer's chat template"
    )
    text.add_argument("--system", metavar="TEXT", help="with --chat: the system message")
    running = parser.add_argument_group("running")
    running.add_argument(
        "--batch-size",
        type=natural,
        default=16,
        metavar="N",
        help="texts per batch (default: 16); halved if memory runs out",
    )
    add_fresh(running, "start over: discard all texts in --out")
    add_force(running, "--out", "even if it is something else")
    add_progress_options(running)
    running.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.answers.prompts import read_prompts
    from radscore.models.generating import generate
    from radscore.models.writing import Sampling

    if args.scheme is None:
        for name in ("key_file", "key_env"):
            if getattr(args, name) is not None:
                raise UsageError(f"{option(name)} has no effect without --scheme")
    check_outputs(args)
    scheme = None if args.scheme is None else load_scheme(args)
    sampling = Sampling(
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        delta=args.delta,
        repeated=args.repeated,
        chat=args.chat,
        system=args.system,
        seed=args.seed,
    )
    sampling.processor(scheme, None, None)  # refuses bad options before loading
    prompts = read_prompts(args.prompts, args.prompt_field)
    model = load_named_model(args)
    bar = ProgressBar(quiet=args.quiet, asked=args.progress)
    if Path(args.out).exists() and not (args.fresh or args.force):
        note(f"continuing {args.out}")
    try:
        with Interrupts() as interrupts:
            report = generate(
                model,
                prompts,
                args.out,
                scheme,
                sampling=sampling,
                samples=args.samples,
                batch_size=args.batch_size,
                fresh=args.fresh,
                force=args.force,
                progress=bar.show,
                stop=lambda: interrupts.asked,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the texts so far are in {args.out}; rerun the command to continue"
        ) from None
    finally:
        bar.close()
    _show(args, report, sampling, scheme, model)
    return Exit.INTERRUPTED if report.n_left else Exit.DONE


def _show(
    args: argparse.Namespace, report: GenerateReport, sampling: Sampling, scheme: Any, model: Any
) -> None:
    facts = {
        "out": args.out,
        **{name: getattr(report, name) for name in report.__dataclass_fields__},
        "model": model.fingerprint,
        "scheme": None if scheme is None else scheme.name,
        "fingerprint": None if scheme is None else scheme.fingerprint,
        "provenance": provenance(
            files=listed([args.prompts]), scheme=scheme, model=model.fingerprint
        ),
    }
    if args.json:
        json_out(facts)
        return
    mark = "none" if scheme is None else f"{scheme.name} (fingerprint {scheme.fingerprint})"
    written = f"{count(report.n_written, 'text')} of {count(report.n_tokens, 'token')}"
    if report.n_before:
        written += f"; {count(report.n_before)} were in the file before"
    left = f"{count(report.n_left, 'text')}; rerun to continue" if report.n_left else ""
    table(
        [
            ("model", f"{model.name} (fingerprint {model.fingerprint})"),
            ("watermark", mark),
            ("sampling", _sampling(sampling)),
            ("written", written),
            ("left", left),
            *[("note", note) for note in report.notes],
            ("saved", args.out),
        ]
    )


def _sampling(how: Sampling) -> str:
    parts = [f"temperature {how.temperature:g}", f"top-p {how.top_p:g}", f"seed {how.seed}"]
    if how.chat:
        parts.append("chat template")
    return ", ".join(parts)
