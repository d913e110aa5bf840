"""``radscore audit commit``: the hash to publish, before anything is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.options import add_command
from radscore.cli.output import json_out, note, table

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_DESCRIPTION = """\
Commits to a plan: prints the hash to publish, or to have time-stamped, before anything is asked.
What is run afterwards is that plan and no other.

With --beacon, public randomness that appeared after the hash was published is mixed into the draw
of the prompts and of the decoy keys, so that nobody can have tried plans until one suits."""
_EXAMPLES = """\
  radscore audit commit audit/
  radscore audit commit audit/ --beacon 8f3c0a5d6e7b8c9d0e1f2a3b4c5d6e7f --source drand-4711
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "commit",
        summary="commit to a plan",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("audit", metavar="DIR", help="the audit's folder")
    parser.add_argument("--beacon", metavar="HEX", help="public randomness, 32 digits or more")
    parser.add_argument("--source", metavar="TEXT", help="where everybody can look it up")
    parser.add_argument("--sign", metavar="PEM", help="sign the hash with this Ed25519 private key")
    parser.add_argument(
        "--timestamp", metavar="URL", help="have it stamped by this RFC 3161 authority"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.source is not None and args.beacon is None:
        raise UsageError("--source has no effect without --beacon")
    from radscore.evidence.audit import Audit

    audit = Audit(args.audit)
    line = audit.commit(
        beacon=args.beacon,
        source=args.source,
        signing_key=args.sign,
        timestamp=args.timestamp,
    )
    if args.json:
        json_out({"plan": audit.plan.sha256, "time": line["time"], "log": line["head"]})
        return Exit.DONE
    table([("plan", audit.plan.sha256), ("committed", line["time"]), ("log", line["head"])])
    note(f"publish the plan's hash now, then: radscore audit run {args.audit}")
    return Exit.DONE
