"""``radscore generate``: write text with a model, marked or not."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import Interrupts
from radscore.cli.keys import load_scheme
from radscore.cli.models import add_model_options, add_prompts_options, load_named_model
from radscore.cli.options import (
    add_command,
    add_progress_options,
    add_scheme_options,
    natural,
    number,
)
from radscore.cli.output import count, json_out, table
from radscore.cli.paths import check_outputs
from radscore.cli.progress import Progress

if TYPE_CHECKING:
    from radscore.models.generating import GenerateReport
    from radscore.models.writing import Sampling

__all__ = ["register"]

_DESCRIPTION = """\
Lets a model write a text after each prompt. With --scheme the text carries that watermark, which
radscore score finds; without it the text is not marked.

Every line of the output has the prompt, the text, its token ids, the fingerprints of the model and
of the scheme, and how tokens were chosen; never the key. The file only grows: after Ctrl-C, an
error or kill -9 the same command writes what is missing.

Schemes of a single Gumbel-max key choose the token themselves, so that --samples writes the same
text again and again, at least until a context repeats; give more prompts instead."""
_EXAMPLES = """\
  radscore generate --model model/ --prompts prompts.jsonl --out unmarked.jsonl
  radscore generate --model model/ --prompts prompts.jsonl --scheme scheme.toml \\
      --key-file alice.key --out marked.jsonl --temperature 0.8 --top-p 0.95
  radscore generate --model chat.gguf --chat --prompts prompts.jsonl --out y.jsonl --samples 4
  radscore score marked.jsonl --field tokens --prompt-field prompt_tokens --scheme scheme.toml
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "generate",
        summary="write text with a model, with a watermark or without",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_prompts_options(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON lines to write")
    add_model_options(parser)
    add_scheme_options(parser, required=False)
    how = parser.add_argument_group("how tokens are chosen")
    how.add_argument(
        "--delta",
        type=_real,
        metavar="D",
        help="what a green token's logit gains (default: 2; for schemes with green lists)",
    )
    how.add_argument(
        "--temperature", type=_real, default=1.0, metavar="T", help="default: 1; 0 takes the best"
    )
    how.add_argument("--top-p", type=_real, default=1.0, metavar="P", help="default: 1, all tokens")
    how.add_argument("--top-k", type=natural, metavar="K", help="default: all tokens")
    how.add_argument(
        "--repeated",
        choices=("engine", "mark", "skip", "all"),
        default="engine",
        help="whether contexts that come again in a text are marked again: as the scheme's own "
        "engine does (default), always, or never; all: nor those of the prompt (vLLM's 'all')",
    )
    how.add_argument("--seed", type=number, default=0, metavar="N", help="of all draws; default: 0")
    text = parser.add_argument_group("texts")
    text.add_argument(
        "--max-tokens", type=natural, default=256, metavar="N", help="of a text; default: 256"
    )
    text.add_argument(
        "--samples",
        type=natural,
        default=1,
        metavar="N",
        help="texts a prompt; default: 1. With Gumbel-max of a single key, and with temperature 0, "
        "they are alike",
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
        help="texts at once (default: 16); halved where memory is short",
    )
    running.add_argument(
        "--fresh", action="store_true", help="start over, dropping what --out holds"
    )
    add_progress_options(running)
    running.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.answers.prompts import read_prompts
    from radscore.models.generating import generate
    from radscore.models.writing import Sampling

    if args.scheme is None:
        for option, value in (("--key-file", args.key_file), ("--key-env", args.key_env)):
            if value is not None:
                raise UsageError(f"{option} has no effect without --scheme")
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
    sampling.processor(scheme, None, None)  # refuses what does not go together before loading
    prompts = read_prompts(args.prompts, args.prompt_field)
    model = load_named_model(args)
    progress = Progress(len(prompts) * args.samples, quiet=args.quiet, asked=args.progress)
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
                progress=progress.show,
                stop=lambda: interrupts.asked,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"what was written is in {args.out}; the same command goes on"
        ) from None
    finally:
        progress.close()
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
    }
    if args.json:
        json_out(facts)
        return
    mark = "none" if scheme is None else f"{scheme.name} (fingerprint {scheme.fingerprint})"
    written = f"{count(report.n_written, 'text')} of {count(report.n_tokens, 'token')}"
    if report.n_before:
        written += f"; {count(report.n_before)} stood in the file before"
    left = f"{count(report.n_left, 'text')}; the same command goes on" if report.n_left else ""
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
