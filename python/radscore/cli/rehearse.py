"""``radscore rehearse``: play Alice and Bob with models at hand, and measure every test."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import Interrupts
from radscore.cli.options import add_command, add_progress_options
from radscore.cli.output import count, duration, json_out, note, show, table
from radscore.cli.progress import ProgressBar

if TYPE_CHECKING:
    import argparse

    from radscore.rehearsal.dry import DryRun
    from radscore.rehearsal.plan import Plan
    from radscore.rehearsal.rehearse import Rehearsal
    from radscore.rehearsal.stages import Stage

__all__ = ["register"]

_DESCRIPTION = """\
Plays Alice and Bob with models at hand, and measures how strong each test is: a model writes text
with Alice's watermark, others are trained on it to known shares, and every test is run on them,
with a matched reference and a clean control. What the plan holds: docs/rehearsal.md.

Each stage is made once and kept in --out: after Ctrl-C, an error or kill -9, rerun the command to
continue. Several processes, or machines that share the folder, may run the same plan at once.

Writes results.html, results.md and effects.json, which says how much evidence a token is worth."""
_EXAMPLES = """\
  radscore rehearse plan.toml --dry-run
  radscore rehearse plan.toml --out rehearsal/
  radscore rehearse plan.toml --out rehearsal/ --only open,closed --json
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "rehearse",
        summary="train models on watermarked text and measure how strong every test is",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("plan", metavar="PLAN", help="the plan: a TOML file")
    parser.add_argument("--out", metavar="FOLDER", help="where everything is kept")
    parser.add_argument(
        "--base",
        metavar="FOLDER",
        help="the base model, in place of the plan's (with one base only)",
    )
    parser.add_argument(
        "--only",
        metavar="KINDS",
        help="stages of these kinds alone, and what they read (records, bob, answers, open, "
        "closed, membership, ability, quality; several with commas)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="make nothing: show what would be learned, memory, time, and take one step",
    )
    running = parser.add_argument_group("running")
    add_progress_options(running)
    running.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.rehearsal.plan import Plan

    plan = Plan.read(args.plan, base=args.base)
    if args.dry_run:
        return _dry(args, plan)
    if args.out is None:
        raise UsageError("--out is missing: the folder where everything is kept")
    from radscore.rehearsal.rehearse import rehearse

    bar = ProgressBar(quiet=args.quiet, asked=args.progress)

    def begin(stage: Stage) -> None:
        if not args.quiet:
            note(stage.title)

    try:
        with Interrupts() as interrupts, interrupts.raising():
            found = rehearse(
                plan,
                folder=args.out,
                only=args.only.split(",") if args.only else (),
                begin=begin,
                progress=bar.show,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"what is made is in {args.out}; rerun the command to continue"
        ) from None
    finally:
        bar.close()
    _show(args, found)
    return Exit.DONE


def _show(args: argparse.Namespace, found: Rehearsal) -> None:
    if args.json:
        json_out(found.to_dict())
        return
    show(found.table())
    saved = [one.name for one in found.files]
    table(
        [("saved", ", ".join(saved) + f" in {args.out}"), *(("note", one) for one in found.notes)]
    )


def _dry(args: argparse.Namespace, plan: Plan) -> int:
    from radscore.rehearsal.dry import dry_run

    found = dry_run(plan, args.out)
    if args.json:
        json_out({"plan": plan.digest, **_facts(found)})
        return Exit.DONE
    kinds = ", ".join(f"{number} {kind}" for kind, number in found.stages.items())
    rows = [
        ("plan", f"{plan.name}, {plan.digest[:16]}"),
        ("cells", f"{count(found.n_cells)} (suspects and controls)"),
        ("stages", f"{count(found.n_stages)}, of which {count(found.n_made)} are made"),
        ("left", kinds),
    ]
    for name, check in found.checks.items():
        memory, tokens = check.memory, count(check.rows.n_tokens, "token")
        learned = f"{count(check.rows.n_learned)} of {tokens} in {count(len(check.rows), 'row')}"
        room = f"{memory.total / 1e9:.3g} GB on each device"
        before, after = check.losses
        rows += [
            ("recipe", name),
            ("learned", f"{learned}; {count(check.n_steps, 'step')}"),
            ("weights", f"{count(check.n_trained)} of {count(check.n_parameters)} trained"),
            ("memory", f"{room}, with {memory.rows} rows of {memory.tokens} tokens"),
            ("one step", f"{check.seconds:.2g} s on {check.step_on}"),
            ("loss", f"{before:.4g} before it, {after:.4g} after"),
            ("row", check.masks[0]),
        ]
    if not found.own_records:
        rows.append(("note", "nothing is written yet, so prompts stand in for answers in the rows"))
    rows.append(("time", f"about {duration(found.seconds)} on this machine"))
    table(rows)
    return Exit.DONE


def _facts(found: DryRun) -> dict[str, Any]:
    facts = {name: getattr(found, name) for name in found.__dataclass_fields__ if name != "checks"}
    checks = {
        name: {
            "n_rows": len(one.rows),
            "n_learned": one.rows.n_learned,
            "n_tokens": one.rows.n_tokens,
            "masks": one.masks,
            "n_steps": one.n_steps,
            "n_parameters": one.n_parameters,
            "n_trained": one.n_trained,
            "memory": asdict(one.memory),
            "step_on": one.step_on,
            "losses": list(one.losses),
            "seconds": one.seconds,
        }
        for name, one in found.checks.items()
    }
    return {**facts, "checks": checks}
