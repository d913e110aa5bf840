"""``radscore audit power``: what it takes to find a share, before anything is asked."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.options import add_command, natural, positive, real
from radscore.cli.output import finite, json_out, table

if TYPE_CHECKING:
    from radscore.evidence.power import Setting

__all__ = ["register"]

_DESCRIPTION = """\
Says how many tokens each test needs to find a share of marked text in a suspect's training, or the
least share that a budget of tokens shows, from the effects that a rehearsal measured
(radscore rehearse). It holds for suspects trained by the rehearsed recipe."""
_EXAMPLES = """\
  radscore audit power effects.json --share 0.05
  radscore audit power effects.json --share 0.05 --tokens 100000 --level 1e-5
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "power",
        summary="say what finding a share takes",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("effects", metavar="FILE", help="effects.json of a rehearsal")
    parser.add_argument("--share", type=_share, metavar="RHO", help="share to be found, 0 to 1")
    parser.add_argument("--tokens", type=natural, metavar="N", help="tokens read or answered")
    parser.add_argument(
        "--level", type=_share, default=1e-3, metavar="P", help="level of the test (default: 0.001)"
    )
    parser.add_argument(
        "--power", type=_share, default=0.9, metavar="P", help="how often (default: 0.9)"
    )
    parser.add_argument(
        "--price", type=positive, metavar="X", help="price of a million tokens, for the cost"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _share(text: str) -> float:
    if not 0 < (value := real(text)) < 1 + (text.strip() == "1"):
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {value}")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.evidence.power import read_effects

    if args.share is None and args.tokens is None:
        raise UsageError("give --share, --tokens or both")
    found = [_row(args, one) for one in read_effects(args.effects)]
    if args.json:
        json_out([{name: finite(value) for name, value in row.items()} for row in found])
        return Exit.DONE
    for row in found:
        table([(name, _text(value)) for name, value in row.items()])
        table([("", "")])
    return Exit.DONE


def _row(args: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    row: dict[str, Any] = {"test": setting.name}
    if args.tokens is not None and args.share is None:
        share = setting.least_share(args.tokens, level=args.level, power=args.power)
        return row | {"least share": share}
    found = setting.forecast(args.share, level=args.level, power=args.power, tokens=args.tokens)
    row |= {"effect per unit": found.effect, "tokens needed": found.tokens}
    if not math.isnan(found.least):
        row |= {"tokens, at best": found.least, "tokens, at worst": found.most}
    if args.price is not None:
        row["cost"] = found.tokens * args.price / 1e6
    if args.tokens is not None:
        row["power"] = found.power
    return row


def _text(value: Any) -> str:
    if value is None:
        return "beyond the shares rehearsed"
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "no number of tokens"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
