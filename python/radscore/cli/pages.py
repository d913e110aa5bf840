"""``--report``: a result as a page that can be given away, marked as exploratory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import UsageError
from radscore.cli.options import add_force
from radscore.cli.paths import check_new

if TYPE_CHECKING:
    import argparse

    from radscore.results import ModelResult, ScoreResult

__all__ = ["add_report", "check_report", "write_report"]


def add_report(parser: Any, *, force: bool = True) -> None:
    """The option, and --force unless another output has it."""
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="also write a page for others to read, .html (a planned test is better evidence: "
        "radscore audit)",
    )
    if force:
        add_force(parser, "--report")


def check_report(args: argparse.Namespace) -> None:
    """Raises unless the page can be written; to be called before hours of work."""
    if args.report is None:
        return
    from radscore.page import check_libraries

    if Path(args.report).suffix not in {".html", ".htm"}:
        raise UsageError(f"--report: {args.report} must end in .html")
    check_libraries("a report")
    check_new(args, "report")


def write_report(args: argparse.Namespace, result: ModelResult | ScoreResult) -> None:
    """Writes the page if it is asked for."""
    if getattr(args, "report", None) is None:
        return
    from radscore.evidence.report import page_of_result
    from radscore.files import drafted

    check_new(args, "report")  # again: hours may have passed
    with drafted(Path(args.report), replace=args.force) as temporary:
        temporary.write_text(page_of_result(result), encoding="utf-8")
