"""``radscore ask``: a model's answers to prompts, through an API or on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.endpoint_options import (
    ENDPOINT_OPTIONS,
    add_budget_options,
    add_endpoint_options,
    budget_of,
    check_key_name,
    extra_of,
    key_name,
    limits_of,
    warn_open,
)
from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import Interrupts
from radscore.cli.model_options import add_loading_options, add_prompts_options
from radscore.cli.options import (
    add_command,
    add_force,
    add_fresh,
    add_progress_options,
    natural,
    not_negative,
    number,
)
from radscore.cli.output import count, json_out, note, table
from radscore.cli.parser import as_options, option
from radscore.cli.paths import check_outputs
from radscore.cli.progress import ProgressBar
from radscore.provenance import listed, provenance

if TYPE_CHECKING:
    import argparse

    from radscore.answers import AskReport

__all__ = ["register"]

_DESCRIPTION = """\
Sends each prompt to a model behind an OpenAI-compatible endpoint, or to a model on this machine
(--local), and keeps the answers for radscore test closed.

The output is a journal: it only grows, and each answer is on disk before the next question is
asked. After Ctrl-C, an error or kill -9, rerun the command to ask what is missing, including
questions that failed. The API key comes from the environment and is never written anywhere."""
_EXAMPLES = """\
  radscore ask --prompts prompts.jsonl --endpoint http://127.0.0.1:8000/v1 --model NAME \\
      --out answers.jsonl
  radscore ask --prompts prompts.jsonl --endpoint https://api.example.com/v1 --model NAME \\
      --api-key-env MY_KEY --requests-per-minute 60 --max-cost 5 --price-in 0.15 --price-out 0.6 \\
      --out paid.jsonl
  radscore ask --prompts prompts.jsonl --endpoint http://127.0.0.1:8000/v1 --model NAME \\
      --logprobs 20 --out listed.jsonl
  radscore ask --prompts prompts.jsonl --local base/ --api completions --out base.jsonl
  radscore test closed answers.jsonl --tokenizer tokenizer.json \\
      --scheme scheme.toml --key-file alice.key
"""
_REMOTE_ONLY = ("model", "logprobs", *ENDPOINT_OPTIONS)
_LOCAL_ONLY = ("base", "tokenizer", "device", "model_dtype", "batch_size")


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "ask",
        summary="ask a model and keep its answers",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_prompts_options(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="the journal of answers")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--endpoint", metavar="URL", help="base URL, such as http://HOST:PORT/v1")
    who.add_argument(
        "--local", metavar="DIR", help="folder of a model or PEFT adapter, or a .gguf file"
    )
    _add_asking(parser)
    _add_endpoint(parser)
    _add_local(parser)
    running = parser.add_argument_group("running")
    add_fresh(running, "start over: discard all answers in --out")
    add_force(running, "--out", "even if it is something else")
    add_progress_options(running)
    running.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _add_asking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to ask (the same for all answers in a journal)")
    group.add_argument(
        "--api",
        choices=("chat", "completions", "sglang"),
        default="chat",
        help="send a prompt as a user message (default), or as text to complete; sglang: the same "
        "by SGLang's own interface, which tells token ids",
    )
    group.add_argument(
        "--logprobs",
        type=natural,
        metavar="N",
        help="keep the log-probabilities of the N likeliest tokens at each position, far more "
        "evidence than text alone; a few requests first find out what the endpoint gives; "
        "temperature and top-p are then 1, unless given",
    )
    group.add_argument("--system", metavar="TEXT", help="system prompt")
    group.add_argument(
        "--temperature",
        type=not_negative,
        metavar="T",
        help="sampling temperature (default: the server's; with --local 1)",
    )
    group.add_argument(
        "--top-p",
        type=not_negative,
        metavar="P",
        help="nucleus sampling (default: the server's; with --local 1, all tokens)",
    )
    group.add_argument(
        "--max-tokens",
        type=natural,
        default=256,
        metavar="N",
        help="most tokens per answer (default: 256)",
    )
    group.add_argument(
        "--samples", type=natural, default=1, metavar="N", help="answers per prompt (default: 1)"
    )
    seed = group.add_mutually_exclusive_group()
    seed.add_argument(
        "--seed",
        type=number,
        default=0,
        metavar="N",
        help="derive the seed of each answer from N (default: 0)",
    )
    seed.add_argument(
        "--no-seed", action="store_true", help="send no seed, which some servers reject"
    )
    group.add_argument(
        "--extra", metavar="JSON", help="further fields for each request, such as '{\"top_k\": 50}'"
    )
    group.add_argument(
        "--accept-changes",
        action="store_true",
        help="add to the journal even if it was made with other settings",
    )


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the endpoint")
    group.add_argument("--model", metavar="NAME", help="the model's name there")
    add_endpoint_options(group)
    add_budget_options(
        parser.add_argument_group("budgets (for everything that goes into one journal)")
    )


def _add_local(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --local")
    group.add_argument(
        "--base",
        metavar="DIR",
        help="for an adapter: the model it belongs to (default: the one it names)",
    )
    add_loading_options(group)
    group.add_argument(
        "--batch-size", type=natural, metavar="N", help="answers per batch (default: 16)"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.answers.prompts import read_prompts

    _check(args)
    prompts = read_prompts(args.prompts, args.prompt_field)
    bar = ProgressBar(quiet=args.quiet, asked=args.progress)
    if Path(args.out).exists() and not (args.fresh or args.force):
        note(f"continuing {args.out}")
    try:
        with Interrupts() as interrupts:
            report = _ask(args, prompts, bar, interrupts)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the answers so far are in {args.out}; rerun the command to ask the rest"
        ) from None
    finally:
        bar.close()
    _show(args, report)
    return _exit(report)


def _check(args: argparse.Namespace) -> None:
    """Refuses what does not go together, before anything is read or sent."""
    if args.local is None:
        if args.model is None:
            raise UsageError("--endpoint needs the model's name there: --model NAME")
        wrong = [name for name in _LOCAL_ONLY if getattr(args, name) is not None]
        if wrong:
            raise UsageError(f"{option(wrong[0])} has no effect without --local")
    else:
        wrong = [name for name in _REMOTE_ONLY if getattr(args, name) is not None]
        if wrong:
            raise UsageError(f"{option(wrong[0])} has no effect with --local")
    check_key_name(args)
    if args.local is not None and args.api == "sglang":
        raise UsageError("--api sglang has no effect with --local")
    check_outputs(args)


def _ask(
    args: argparse.Namespace, prompts: list[str], bar: ProgressBar, interrupts: Interrupts
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
        "progress": bar.show,
        "fresh": args.fresh,
        "force": args.force,
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
    from radscore.answers import ask

    warn_open(args.endpoint, key_name(args))
    return ask(
        prompts,
        args.out,
        endpoint=args.endpoint,
        model=args.model,
        extra=extra_of(args.extra),
        logprobs=args.logprobs,
        limits=limits_of(args),
        api_key_env=key_name(args),
        **budget_of(args),
        **common,
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
        facts = {n: getattr(report, n) for n in report.__dataclass_fields__}
        made = provenance(files=listed([args.prompts]), model=args.model or args.local)
        json_out({"out": args.out, **facts, "provenance": made})
    else:
        table(_rows(args, report))
    if report.cut:
        note(f"the last line of {args.out} was incomplete; its question was asked again")
    if report.failures:
        reason, times = next(iter(report.failures.items()))
        note(f"{count(report.n_failed, 'question')} failed, {times} of them with: {reason}")
    if report.n_left:
        left = f"{count(report.n_left, 'question')} left ({_stopped(args, report)})"
        note(f"{left}; rerun the command to continue")


def _probed(report: AskReport) -> str:
    """What the probe found, in words."""
    found = report.probe
    if found is None:
        return ""
    told = {True: "yes", False: "no", None: "unknown"}
    share = found["listed"]
    listed = "" if share is None else f"; those listed have {share:.0%} of all probability"
    repeated = found["difference"]
    differ = "" if repeated is None else f"; two equal requests differ by {repeated:.2g}"
    return (
        f"tokens as {'ids' if found['ids'] else 'text'}, at least {found['most']} allowed"
        f"{listed}{differ}; values change with temperature: "
        f"{told[found['after_temperature']]}, with top-p: {told[found['after_top_p']]}"
    )


def _stopped(args: argparse.Namespace, report: AskReport) -> str:
    return as_options(report.stopped or "", vars(args))


def _rows(args: argparse.Namespace, report: AskReport) -> list[tuple[str, str]]:
    answered = f"{count(report.n_answered)} of {count(report.n_questions, 'question')}"
    if report.n_before:
        answered += f"; {count(report.n_before)} were in the journal before"
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
        ("empty", count(report.n_empty) if report.n_empty else ""),
        ("refused", count(report.n_refused) if report.n_refused else ""),
        ("failed", "\n".join([count(report.n_failed), *shown]) if report.n_failed else ""),
        ("left", f"{count(report.n_left)}: {_stopped(args, report)}" if report.n_left else ""),
        ("log-probabilities", _probed(report)),
        ("in the journal", used),
        ("cost", "" if report.cost is None else f"{report.cost:.6g}"),
        *(("note", as_options(text, vars(args))) for text in report.notes),
        ("saved", args.out),
    ]
