"""``radscore audit report``: the page, and the bundle for a third party."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.keys import load_key
from radscore.cli.options import add_command, add_force, add_key_options
from radscore.cli.output import json_out, table

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_DESCRIPTION = """\
Writes the report of an audit, one page without anything from the network, as report.html in its
folder; and with --bundle all that a third party needs to verify it. The key is in the bundle only
with --open-key; without it, whoever verifies the scores must be given the key."""
_EXAMPLES = """\
  radscore audit report audit/
  radscore audit report audit/ --bundle audit.zip
  radscore audit report audit/ --bundle opened.zip --open-key --key-file alice.key
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "report",
        summary="write the report and the bundle of an audit",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("audit", metavar="DIR", help="the audit's folder")
    parser.add_argument("--bundle", metavar="ZIP", help="the bundle to write")
    parser.add_argument(
        "--open-key", action="store_true", help="put the key into the bundle, for all to see"
    )
    parser.add_argument(
        "--seal-for",
        metavar="PEM",
        help="put the key into the bundle for the holder of this X25519 key alone",
    )
    add_key_options(parser)
    add_force(parser, "--bundle")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.bundle is None and (args.open_key or args.seal_for is not None):
        option = "--open-key" if args.open_key else "--seal-for"
        raise UsageError(f"{option} has no effect without --bundle")
    if args.open_key and args.seal_for is not None:
        raise UsageError("--open-key shows the key to all, --seal-for to one: give one of them")
    if args.bundle is not None and Path(args.bundle).exists() and not args.force:
        raise UsageError(f"--bundle: {args.bundle} exists; name another file, or give --force")
    from radscore.evidence.audit import Audit
    from radscore.evidence.bundle import write_bundle
    from radscore.evidence.report import page_of_audit
    from radscore.files import write_atomically

    audit = Audit(args.audit)
    page = audit.folder / "report.html"
    write_atomically(page, page_of_audit(audit))
    shown = args.open_key or args.seal_for is not None
    if args.bundle is not None:
        scheme = audit.plan.scheme(load_key(args)) if shown else None
        write_bundle(audit, args.bundle, scheme=scheme, seal_for=args.seal_for, force=args.force)
    if args.json:
        json_out({"report": str(page), "bundle": args.bundle})
        return Exit.DONE
    rows = [("report", str(page))]
    if args.bundle is not None:
        sealed = "" if args.seal_for is None else f", sealed for {args.seal_for}"
        key = f"with the key{sealed}" if shown else "without the key"
        rows.append(("bundle", f"{args.bundle} ({key})"))
    table(rows)
    return Exit.DONE
