"""``radscore test open``: was a model trained on watermarked text, by its predictions?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.interrupts import Interrupts
from radscore.cli.keys import load_scheme
from radscore.cli.model_input import (
    Given,
    add_reading_options,
    contexts_of,
    load_given,
    set_options,
)
from radscore.cli.options import add_command, add_run_options, add_scheme_options, natural, real
from radscore.cli.output import (
    count,
    json_out,
    made_by,
    power_of_ten,
    skipped_text,
    table,
    verdict_row,
)
from radscore.cli.pages import add_report, check_report, write_report
from radscore.cli.paths import check_outputs
from radscore.cli.predict import plan_of
from radscore.cli.report import compared_rows

if TYPE_CHECKING:
    import argparse

    from radscore.audits.open import OpenResult
    from radscore.results import ScoreResult

__all__ = ["register"]

_DESCRIPTION = """\
Tests whether a model was trained on watermarked text, by what it predicts while it reads text.
Fresh, similar text without the watermark is best (otherwise give --text-watermarked). There is no
p-value if a model that merely continues this text would be found as well. With --reference, a model
that was not trained on the watermarked text, the test compares the two and is much stronger.

With --from, the predictions come from files that radscore predict wrote; no model is needed."""
_EXAMPLES = """\
  radscore test open fresh.jsonl --model suspect/ --reference base/ \\
      --scheme scheme.toml --key-file alice.key
  radscore test open fresh.jsonl --model adapter/ --base model.gguf --reference model.gguf \\
      --scheme scheme.toml --key-file alice.key --json --curve 20
  radscore test open recorded.jsonl --text-watermarked --weighting prediction --model suspect/ \\
      --scheme scheme.toml --key-file alice.key
  radscore test open --from suspect.arrow --scheme scheme.toml --key-file alice.key --decoys 999
  radscore test open --from shard-*.arrow --scheme scheme.toml --key-file alice.key
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "open",
        summary="test the predictions of a model (needs logits)",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_reading_options(parser, required=False)
    parser.add_argument(
        "--from",
        dest="from_file",
        nargs="+",
        metavar="FILE",
        help="predictions from radscore predict, instead of text and models; several files are one "
        "test: shards, or parts of a text in their order",
    )
    add_scheme_options(parser)
    group = parser.add_argument_group("the test")
    group.add_argument(
        "--text-unmarked",
        action="store_true",
        help="you know that the text is not watermarked: withhold the p-value only if documents or "
        "copies look watermarked at a level of .001",
    )
    group.add_argument(
        "--saturation",
        type=real,
        metavar="W",
        help="a unit whose weights sum to W counts half of it (default: 30 with contrast and "
        "matched; 0: none)",
    )
    group.add_argument(
        "--frequency",
        type=real,
        metavar="N",
        help="a context met at N positions counts half (default: 3 with contrast and matched; "
        "0: all count)",
    )
    group.add_argument(
        "--curve",
        type=natural,
        metavar="N",
        help="with --json: also give the p-value after about N numbers of tokens, for a plot",
    )
    group.add_argument(
        "--decoys", type=natural, metavar="N", help="compare with N keys that nobody used"
    )
    group.add_argument(
        "--memory",
        metavar="SIZE",
        help="use about this much memory (such as 1GiB) for weights, and files for the rest",
    )
    group.add_argument("--tmp", metavar="DIR[,DIR]", help="folders for those files")
    add_run_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_report(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.curve is not None and not args.json:
        raise UsageError("--curve has no effect without --json")
    if args.text_unmarked and args.text_watermarked:
        raise UsageError("--text-unmarked and --text-watermarked contradict each other")
    check_outputs(args)
    check_report(args)
    scheme = load_scheme(args)
    asked = {"decoys": args.decoys or 0, "curve": args.curve or (), "threads": args.threads}
    asked |= {"memory": args.memory, "tmp": None if args.tmp is None else args.tmp.split(",")}
    asked |= {"saturation": args.saturation, "frequency": args.frequency}
    asked["contexts"] = contexts_of(args)
    given = None
    if args.from_file is not None:
        result = _from_file(args, scheme, asked)
    else:
        if not args.inputs or args.model is None:
            raise UsageError("give text and --model, or --from with a file of radscore predict")
        weighting = plan_of(args)
        given = load_given(args)
        result = _read(args, scheme, given, {**asked, "weighting": weighting})
        result = result.replace(provenance=made_by(result, given.corpus, args.inputs))
    if args.json:
        fields = result.to_dict()
        if given is not None:
            fields["notes"] = [*given.notes, *fields["notes"]]
            if given.corpus is not None:
                fields["skipped"] = given.corpus.skipped.to_dict()
        json_out(fields)
    else:
        table(_rows(result, given))
    write_report(args, result)
    skipped = given is not None and given.corpus is not None and bool(given.corpus.skipped)
    return Exit.SKIPPED if skipped else Exit.DONE


def _from_file(args: argparse.Namespace, scheme: Any, asked: dict[str, Any]) -> OpenResult:
    """Tests a file of predictions."""
    from radscore.audits.open import test_open

    if args.inputs:
        raise UsageError(f"with --from no text is read, so {args.inputs[0]} has no effect")
    if wrong := set_options(args):
        raise UsageError(f"{wrong[0]} has no effect with --from: the predictions are already made")
    vouched = False if args.text_unmarked else None
    result = test_open(
        None, None, scheme, from_file=args.from_file, text_watermarked=vouched, **asked
    )
    return result.replace(provenance=made_by(result, None, args.from_file))


def _read(args: argparse.Namespace, scheme: Any, given: Given, asked: dict[str, Any]) -> OpenResult:
    """Reads and tests; Ctrl-C ends it without a result."""
    from radscore.audits.open import test_open

    try:
        with Interrupts() as interrupts, interrupts.raising():
            return test_open(
                given.model,
                given.corpus,
                scheme,
                reference=given.reference,
                text_watermarked=args.text_watermarked or (False if args.text_unmarked else None),
                tokenizer=given.tokenizer,
                batch_tokens=args.batch_tokens,
                max_length=args.max_length,
                progress=given.bar.show,
                **asked,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "nothing was saved (radscore predict would keep what was read)"
        ) from None
    finally:
        given.bar.close()


def _rows(result: OpenResult, given: Given | None) -> list[tuple[str, str]]:
    score = result.score
    corpus = None if given is None else given.corpus
    notes = (*(() if given is None else given.notes), *result.notes, *score.notes)
    return [
        ("tested", result.question),
        ("setting", result.setting),
        ("model", result.model or ""),
        ("reference", result.reference or ""),
        ("read", f"{count(score.n_documents, 'document')}, {count(score.n_tokens, 'token')}"),
        ("scheme", f"{score.scheme} (fingerprint {score.fingerprint})"),
        ("weighting", result.weighting),
        ("damped", _damping(score)),
        *[("left out", f"{count(n)} {why}") for why, n in result.removed.items() if n],
        ("scored", count(result.n_scored, "unit")),
        *_evidence(result),
        verdict_row(result.log10_pvalue),
        *_text(result),
        *[("note", note) for note in notes],
        ("skipped", "" if corpus is None else skipped_text(corpus.skipped, corpus.n_documents)),
    ]


def _damping(score: ScoreResult) -> str:
    """How weights were made smaller."""
    parts = []
    if (half := score.saturation) is not None:
        parts.append(f"a unit with weight w counts w / (1 + |w| / {half:g})")
    if (half := score.frequency) is not None:
        parts.append(f"a context at n positions counts n / (n + {half:g})")
    return "; ".join(parts)


def _text(result: OpenResult) -> list[tuple[str, str]]:
    """How much watermark the text itself shows."""
    if math.isnan(result.text_log10_pvalue):
        return []
    text = f"p = {power_of_ten(result.text_log10_pvalue)} of the text itself"
    if not math.isnan(result.copied_log10_pvalue):
        copied = power_of_ten(result.copied_log10_pvalue)
        text += f", {copied} of a model that merely continues it"
    return [("text", text)]


def _evidence(result: OpenResult) -> list[tuple[str, str]]:
    score = result.score
    if math.isnan(result.log10_pvalue):
        return [("p-value", score.method)]
    text = f"{power_of_ten(result.log10_pvalue)} (log10 {result.log10_pvalue:.3f}), {score.method}"
    rows = [("z", f"{score.zscore:.3f}"), ("p-value", text)]
    return rows + compared_rows(result)
