"""``radscore audit plan``: what will be tested, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.keys import load_scheme
from radscore.cli.options import add_command, add_scheme_options
from radscore.cli.output import json_out, note, show, table

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_DESCRIPTION = """\
Makes a plan from a settings file, in a folder of its own. The plan names the suspect, the pool of
prompts or texts by its hash, the test, its level and looks, and a commitment to scheme and key. It
does not hold the key. Nothing is asked yet, and nothing counts until the plan is committed to.

secret.json in that folder opens the commitment: keep it as you keep the key."""
_EXAMPLES = """\
  radscore audit plan --example > audit.toml
  radscore audit plan audit.toml --scheme scheme.toml --key-file alice.key --out audit/
"""
_EXAMPLE = """\
question = "model"        # was the suspect trained on text marked with the key?
alpha = 0.001             # the level of the verdict

[suspect]                 # an endpoint, or a model at hand: folder = "suspect/"
endpoint = "http://127.0.0.1:8000/v1"
model = "suspect-7b"
api = "chat"              # or "completions"

[pool]                    # questions to draw from, or texts = "unmarked.jsonl" for a model to read
prompts = "pool.jsonl"
drawn = 400

[asking]
max_tokens = 256
logprobs = 20             # leave it out where the API returns none

[test]
tokenizer = "tokenizer.json"   # the watermark's
reference = "base/"            # a model that was not trained on marked text, read locally
looks = [100, 200, 400]        # test after so many answers, and stop at the first that suffices
decoys = 100

[budget]
max_requests = 1000
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "plan",
        summary="plan an audit",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("settings", nargs="?", metavar="TOML", help="the settings file")
    parser.add_argument("--example", action="store_true", help="print a settings file, and exit")
    parser.add_argument("--out", metavar="DIR", help="the audit's folder, which must be new")
    add_scheme_options(parser, required=False)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.example:
        show(_EXAMPLE)
        return Exit.DONE
    for name in ("settings", "scheme", "out"):
        if getattr(args, name) is None:
            what = "a settings file (begin one: --example)" if name == "settings" else f"--{name}"
            raise UsageError(f"a plan needs {what}")
    from radscore.evidence.audit import Audit
    from radscore.evidence.plan import read_settings

    scheme = load_scheme(args)
    settings = read_settings(args.settings)
    base = Path(args.settings).absolute().parent
    audit = Audit.planned(settings, scheme, args.out, base=base)
    if args.json:
        json_out({"sha256": audit.plan.sha256, "plan": audit.plan.content, "out": args.out})
    else:
        table([*audit.plan.rows(), ("saved", args.out)])
        note(f"next: radscore audit commit {args.out}")
    return Exit.DONE
