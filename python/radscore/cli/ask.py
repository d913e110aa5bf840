"""``radscore ask``: a model's answers to prompts, through an API or on this machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import Interrupts
from radscore.cli.models import add_loading_options, add_prompts_options
from radscore.cli.options import add_command, add_progress_options, natural, number
from radscore.cli.output import count, json_out, table
from radscore.cli.parser import looks_like_key
from radscore.cli.paths import check_outputs
from radscore.cli.progress import Progress

if TYPE_CHECKING:
    from radscore.answers import AskReport

__all__ = ["register"]

_DESCRIPTION = """\
Sends each prompt to a model behind an OpenAI-compatible endpoint, or to a model of this machine
(--local), and keeps the answers: what radscore test closed reads.

The output is a journal: it only grows, and every answer is on the disk before the next question
takes its place. After Ctrl-C, an error or kill -9 the same command asks only what is missing;
questions that failed are asked again. The API key comes from the environment and is written
nowhere."""
_EXAMPLES = """\
  radscore ask --prompts prompts.jsonl --endpoint http://127.0.0.1:8000/v1 --model NAME \\
      --out answers.jsonl
  radscore ask --prompts prompts.jsonl --endpoint https://api.example.com/v1 --model NAME \\
      --api-key-env MY_KEY --requests-per-minute 60 --max-cost 5 --price-in 0.15 --price-out 0.6 \\
      --out answers.jsonl
  radscore ask --prompts prompts.jsonl --local model/ --api completions --out answers.jsonl
  radscore test closed answers.jsonl --scheme scheme.toml --tokenizer tokenizer.json
"""
DEFAULT_API_KEY_ENV = "OPENAI_API_KEY"
_REMOTE_ONLY = (
    "model",
    "api_key_env",
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "retries",
    "timeout",
    "max_requests",
    "max_tokens_total",
    "max_cost",
    "price_in",
    "price_out",
    "extra",
)
_LOCAL_ONLY = ("base", "tokenizer", "device", "model_dtype", "batch_size")


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "ask",
        summary="ask a model, and keep its answers",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_prompts_options(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="the journal of answers")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--endpoint", metavar="URL", help="base URL, such as http://HOST:PORT/v1")
    who.add_argument(
        "--local", metavar="DIR", help="folder of a model or of a PEFT adapter, or a .gguf file"
    )
    _add_asking(parser)
    _add_endpoint(parser)
    _add_local(parser)
    running = parser.add_argument_group("running")
    add_progress_options(running)
    running.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _add_asking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to ask (equal for all answers in a journal)")
    group.add_argument(
        "--api",
        choices=("chat", "completions"),
        default="chat",
        help="send a prompt as a user's message (default), or as text to go on with",
    )
    group.add_argument("--system", metavar="TEXT", help="system prompt")
    group.add_argument(
        "--temperature", type=_not_negative, metavar="T", help="default: the server's; locally 1"
    )
    group.add_argument("--top-p", type=_not_negative, metavar="P", help="default: the server's")
    group.add_argument(
        "--max-tokens", type=natural, default=256, metavar="N", help="of an answer; default: 256"
    )
    group.add_argument(
        "--samples", type=natural, default=1, metavar="N", help="answers a prompt; default: 1"
    )
    seed = group.add_mutually_exclusive_group()
    seed.add_argument(
        "--seed",
        type=number,
        default=0,
        metavar="N",
        help="the seed of each answer is drawn from it; default: 0",
    )
    seed.add_argument(
        "--no-seed", action="store_true", help="send none: some servers refuse the field"
    )
    group.add_argument(
        "--extra", metavar="JSON", help="more fields of each request, such as '{\"top_k\": 50}'"
    )
    group.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on although the journal was made with other settings",
    )
    group.add_argument("--fresh", action="store_true", help="start over, dropping what --out holds")


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the endpoint")
    group.add_argument("--model", metavar="NAME", help="the model's name there")
    group.add_argument(
        "--api-key-env",
        metavar="NAME",
        help=f"environment variable with the API key (default: {DEFAULT_API_KEY_ENV})",
    )
    group.add_argument(
        "--concurrency", type=natural, metavar="N", help="requests at once; default: 8"
    )
    group.add_argument("--requests-per-minute", type=_positive, metavar="N", help="limit")
    group.add_argument(
        "--tokens-per-minute", type=_positive, metavar="N", help="limit, prompts and answers"
    )
    group.add_argument(
        "--retries",
        type=_count,
        metavar="N",
        help="further attempts after errors that pass (429, 5xx, connections, answers that are "
        "none), each after a longer wait; default: 6",
    )
    group.add_argument(
        "--timeout",
        type=_positive,
        metavar="SECONDS",
        help="of a request, to the last byte of its answer; default: 300",
    )
    budget = parser.add_argument_group("budgets (over all runs into one journal)")
    budget.add_argument("--max-requests", type=natural, metavar="N", help="retries included")
    budget.add_argument(
        "--max-tokens-total", type=natural, metavar="N", help="of prompts and answers"
    )
    budget.add_argument(
        "--max-cost",
        type=_positive,
        metavar="X",
        help="in the prices' currency; needs --price-in and --price-out",
    )
    budget.add_argument(
        "--price-in", type=_not_negative, metavar="X", help="of a million tokens of prompts"
    )
    budget.add_argument(
        "--price-out", type=_not_negative, metavar="X", help="of a million tokens of answers"
    )


def _add_local(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --local")
    group.add_argument(
        "--base",
        metavar="DIR",
        help="for an adapter: the model that it belongs to (default: the one that it names)",
    )
    add_loading_options(group)
    group.add_argument(
        "--batch-size", type=natural, metavar="N", help="answers made at once; default: 16"
    )


def _positive(text: str) -> float:
    if (value := _not_negative(text)) == 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < 1e15:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def _count(text: str) -> int:
    if (value := number(text)) < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {value}")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.answers.prompts import read_prompts

    _check(args)
    prompts = read_prompts(args.prompts, args.prompt_field)
    progress = Progress(len(prompts) * args.samples, quiet=args.quiet, asked=args.progress)
    try:
        with Interrupts() as interrupts:
            report = _ask(args, prompts, progress, interrupts)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the answers until now are in {args.out}; the same command asks the rest"
        ) from None
    finally:
        progress.close()
    _show(args, report)
    return _exit(report)


def _check(args: argparse.Namespace) -> None:
    """Refuses what does not go together, before anything is read or sent."""
    if args.local is None:
        if args.model is None:
            raise UsageError("--endpoint needs the model's name there (--model)")
        wrong = [name for name in _LOCAL_ONLY if getattr(args, name) is not None]
        if wrong:
            raise UsageError(f"{_option(wrong[0])} has no effect without --local")
    else:
        wrong = [name for name in _REMOTE_ONLY if getattr(args, name) is not None]
        if wrong:
            raise UsageError(f"{_option(wrong[0])} has no effect with --local")
    name = args.api_key_env
    if name is not None and name not in os.environ:
        if looks_like_key(name) or not name.isidentifier():
            raise UsageError(
                "the value of --api-key-env looks like a key; put it into an environment variable "
                "and name that"
            )
        raise UsageError(f"--api-key-env: the environment has no variable {name}")
    check_outputs(args)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _ask(
    args: argparse.Namespace, prompts: list[str], progress: Progress, interrupts: Interrupts
) -> AskReport:
    common: dict[str, Any] = {
        "api": args.api,
        "system": args.system,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "max_tokens": args.max_tokens,
        "samples": args.samples,
        "seed": None if args.no_seed else args.seed,
        "accept_changes": args.accept_changes,
        "progress": progress.show,
        "fresh": args.fresh,
        "stop": lambda: interrupts.asked,
    }
    if args.local is not None:
        from radscore.answers.local import ask_local
        from radscore.models.loading import load_model

        language = load_model(
            args.local,
            base=args.base,
            tokenizer=args.tokenizer,
            device=args.device,
            dtype=args.model_dtype,
        )
        size = {} if args.batch_size is None else {"batch_size": args.batch_size}
        name = Path(args.local).absolute().name
        return ask_local(prompts, args.out, model=language, name=name, **size, **common)
    from radscore.answers import Limits, ask

    limits = {
        name: getattr(args, name)
        for name in (
            "concurrency",
            "requests_per_minute",
            "tokens_per_minute",
            "retries",
            "timeout",
        )
        if getattr(args, name) is not None
    }
    _warn_open(args)
    return ask(
        prompts,
        args.out,
        endpoint=args.endpoint,
        model=args.model,
        extra=_extra(args.extra),
        limits=Limits(**limits),
        max_requests=args.max_requests,
        max_tokens_total=args.max_tokens_total,
        max_cost=args.max_cost,
        price_in=args.price_in,
        price_out=args.price_out,
        api_key_env=args.api_key_env or DEFAULT_API_KEY_ENV,
        **common,
    )


def _extra(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        extra = json.loads(text)
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise UsageError("--extra must be a JSON object, such as '{\"top_k\": 50}'")
    return extra


def _warn_open(args: argparse.Namespace) -> None:
    """A key over plain HTTP can be read by everybody on the way."""
    from radscore.answers.settings import api_key, endpoint_url

    parts = urlsplit(endpoint_url(args.endpoint))
    name = args.api_key_env or DEFAULT_API_KEY_ENV
    near = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "http" and not near and api_key(name):
        print(
            f"radscore: note: the key in {name} is sent over http, which anybody on the way can "
            "read",
            file=sys.stderr,
        )


def _exit(report: AskReport) -> Exit:
    if report.stopped == "interrupted":
        return Exit.INTERRUPTED
    missing = report.n_failed + report.n_left
    if not missing:
        return Exit.DONE
    return Exit.SKIPPED if report.n_before + report.n_answered else Exit.ERROR


def _show(args: argparse.Namespace, report: AskReport) -> None:
    if args.json:
        json_out({"out": args.out, **{n: getattr(report, n) for n in report.__dataclass_fields__}})
    else:
        table(_rows(args, report))
    if report.cut:
        print(
            f"radscore: note: the last line of {args.out} was torn; its question was asked again",
            file=sys.stderr,
        )
    if report.failures:
        reason, times = next(iter(report.failures.items()))
        print(
            f"radscore: {count(report.n_failed, 'question')} failed; {times} with: {reason}",
            file=sys.stderr,
        )
    if report.n_left:
        print(
            f"radscore: {count(report.n_left, 'question')} left, because: {report.stopped}; the "
            "same command asks the rest",
            file=sys.stderr,
        )


def _rows(args: argparse.Namespace, report: AskReport) -> list[tuple[str, str]]:
    answered = f"{count(report.n_answered)} of {count(report.n_questions, 'question')}"
    if report.n_before:
        answered += f"; {count(report.n_before)} stood in the journal before"
    used = (
        f"{count(report.requests, 'request')}, {count(report.prompt_tokens, 'token')} of prompts "
        f"and {count(report.completion_tokens)} of answers"
    )
    failures = list(report.failures.items())
    shown = [f"{times} with {reason}" for reason, times in failures[:5]]
    if len(failures) > 5:
        shown.append(f"and {len(failures) - 5} other reasons")
    return [
        ("answered", answered),
        ("failed", "\n".join([count(report.n_failed), *shown]) if report.n_failed else ""),
        ("left", f"{count(report.n_left)}: {report.stopped}" if report.n_left else ""),
        ("in the journal", used),
        ("cost", "" if report.cost is None else f"{report.cost:.6g}"),
        ("saved", args.out),
    ]
