"""``radscore audit verify``: what holds of a bundle, offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit
from radscore.cli.keys import load_key
from radscore.cli.options import add_command, add_key_options
from radscore.cli.output import json_out, table
from radscore.stats.result import power_of_ten

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_DESCRIPTION = """\
Verifies a bundle without the model and without a network: that plan and log are whole, that the
prompts are those that the plan draws, that the key is the one committed to, and that every number
comes out the same, to the last bit, from the kept answers. Says what it could not check. The exit
code is 1 if anything is wrong."""
_EXAMPLES = """\
  radscore audit verify audit.zip
  radscore audit verify audit.zip --key-file alice.key
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "verify",
        summary="check a bundle",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="the .zip file, or an audit's folder")
    parser.add_argument("--plan-hash", metavar="SHA256", help="the plan's hash, as published")
    parser.add_argument("--head", metavar="SHA256", help="the hash of the log's last line")
    parser.add_argument(
        "--private-key", metavar="PEM", help="the X25519 private key that the key was sealed for"
    )
    parser.add_argument(
        "--roots", metavar="PEM", help="root certificates of trusted time-stamp authorities"
    )
    add_key_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.evidence.verify import verify

    key = load_key(args, needed=False)
    found = verify(
        args.bundle,
        key,
        plan_hash=args.plan_hash,
        head=args.head,
        private_key=args.private_key,
        roots=args.roots,
    )
    if args.json:
        parts = {"holds": found.holds, "wrong": found.wrong, "unknown": found.unknown}
        json_out({"sound": found.sound, **parts})
    else:
        rows = [("wrong", one) for one in found.wrong]
        rows += [("holds", one) for one in found.holds]
        rows += [("not checked", one) for one in found.unknown]
        if found.outcome is not None and found.sound:
            log10 = found.outcome.log10_pvalue
            p = "none" if log10 is None else power_of_ten(log10, 3)
            who = "" if found.recomputed else " (as the log says; not recomputed)"
            rows.append(("verdict", f"{found.outcome.verdict}, p-value {p}{who}"))
        rows.append(("bundle", "sound" if found.sound else "NOT sound"))
        table(rows)
    return Exit.DONE if found.sound else Exit.ERROR
