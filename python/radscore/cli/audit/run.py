"""``radscore audit run``: asks, reads and scores as planned."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from radscore.cli.endpoint_options import (
    add_endpoint_options,
    check_key_name,
    key_name,
    limits_of,
    warn_open,
)
from radscore.cli.exits import Exit
from radscore.cli.interrupts import Interrupts
from radscore.cli.keys import load_key
from radscore.cli.options import add_command, add_key_options, add_progress_options
from radscore.cli.output import json_out, table
from radscore.cli.progress import ProgressBar
from radscore.stats.result import power_of_ten

if TYPE_CHECKING:
    import argparse

    from radscore.evidence.audit import Outcome

__all__ = ["register"]

_DESCRIPTION = """\
Runs an audit as planned: draws the prompts or texts, asks or reads, and scores at each look, until
the level is reached or the looks or the budget are used up. Interrupted anywhere, the same command
goes on."""
_EXAMPLES = """\
  radscore audit run audit/ --key-file alice.key
  radscore audit run audit/ --key-file alice.key --api-key-env MY_KEY --concurrency 4
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "run",
        summary="run an audit, or go on with it",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("audit", metavar="DIR", help="the audit's folder")
    add_key_options(parser)
    add_endpoint_options(parser.add_argument_group("the endpoint"))
    running = parser.add_argument_group("running")
    running.add_argument("--device", metavar="NAME", help="where models at hand run")
    add_progress_options(running)
    running.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.evidence.audit import Audit

    check_key_name(args)
    audit = Audit(args.audit)
    if (endpoint := audit.plan.content["suspect"].get("endpoint")) is not None:
        warn_open(endpoint, key_name(args))
    bar = ProgressBar(quiet=args.quiet, asked=args.progress)
    try:
        # a reading can stop at any time, answers under way are waited for
        reads = audit.plan.content["test"]["access"] == "open"
        with Interrupts() as interrupts, interrupts.raising() if reads else nullcontext():
            outcome = audit.run(
                load_key(args),
                api_key_env=key_name(args),
                limits=limits_of(args),
                device=args.device,
                progress=bar.show,
                stop=lambda: interrupts.asked,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("rerun the command to go on") from None
    finally:
        bar.close()
    if outcome is None:
        raise KeyboardInterrupt("rerun the command to go on")
    _show(args, outcome)
    return Exit.DONE


def _show(args: argparse.Namespace, outcome: Outcome) -> None:
    if args.json:
        json_out(
            {
                "verdict": outcome.verdict,
                "look": outcome.look,
                "log10_pvalue": outcome.log10_pvalue,
                "level": outcome.level,
                "reason": outcome.reason,
                "result": outcome.result,
            }
        )
        return
    p = "none" if outcome.log10_pvalue is None else power_of_ten(outcome.log10_pvalue, 3)
    table(
        [
            ("verdict", f"{outcome.verdict} at the planned level"),
            ("p-value", f"{p} (level {outcome.level:.3g})"),
            ("stopped", f"at look {outcome.look}: {outcome.reason}"),
            ("next", f"radscore audit report {args.audit}"),
        ]
    )
