"""``radscore test membership``: were documents in a model's training, by its losses?"""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.model_options import add_model_options, load_named_model
from radscore.cli.options import (
    add_command,
    add_force,
    add_on_error,
    add_progress_options,
    natural,
    real,
)
from radscore.cli.output import count, json_out, power_of_ten, skipped_text, table, verdict_row
from radscore.cli.paths import check_new, check_outputs
from radscore.cli.progress import ProgressBar
from radscore.provenance import of_corpus

if TYPE_CHECKING:
    from radscore.audits.membership import MembershipResult
    from radscore.corpus import Corpus

__all__ = ["register"]

_DESCRIPTION = """\
Tests whether a model was trained on given documents, without any watermark. Its losses on them, in
sentences of 256 tokens, divided by their compressed length and averaged over each document, are
compared with its losses on fresh documents of the same distribution (one-sided Kolmogorov-Smirnov
test).

The p-value assumes that only training can set the two sides apart. If their lengths or compression
differ, the output says so. For experiments, --unseen adds documents to the members that were not in
the training, so that true members are a share --supervision of the candidates."""
_EXAMPLES = """\
  radscore test membership --model suspect/ --members ours.jsonl --nonmembers fresh.jsonl
  radscore test membership --model suspect/ --members a.jsonl b.jsonl --nonmembers fresh.jsonl \\
      --field text --plot losses.png --json
  radscore test membership --model suspect/ --members ours.jsonl --nonmembers fresh.jsonl \\
      --unseen more.jsonl --supervision 0.1
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "membership",
        summary="test whether documents were in the training (no watermark)",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_model_options(parser)
    texts = parser.add_argument_group("documents (read as by radscore score)")
    texts.add_argument(
        "--members",
        nargs="+",
        required=True,
        metavar="FILE",
        help="documents that may have been in the training",
    )
    texts.add_argument(
        "--nonmembers",
        nargs="+",
        required=True,
        metavar="FILE",
        help="documents of the same distribution that certainly were not",
    )
    texts.add_argument(
        "--unseen",
        nargs="+",
        metavar="FILE",
        help="for experiments: more documents that were not, to mix with the members",
    )
    texts.add_argument(
        "--field",
        metavar="NAME",
        help="field with the text or the model's token ids (default: input_ids, tokens or text, "
        "whichever comes first)",
    )
    add_on_error(texts)
    rules = parser.add_argument_group("test")
    rules.add_argument(
        "--supervision",
        type=_degree,
        default=1.0,
        metavar="D",
        help="claimed share of members that were in the training (default: 1); affects the "
        "p-value only with --unseen",
    )
    rules.add_argument(
        "--length",
        type=natural,
        default=256,
        metavar="N",
        help="tokens per sentence (default: 256)",
    )
    rules.add_argument(
        "--calibration",
        choices=("zlib", "none"),
        default="zlib",
        help="divide losses by the length of the zlib-compressed text (default), or not",
    )
    rules.add_argument(
        "--unit",
        choices=("document", "sentence"),
        default="document",
        help="what counts as one observation (default: document); with sentence there is a p-value "
        "only if every document is one sentence",
    )
    out = parser.add_argument_group("output and running")
    out.add_argument("--plot", metavar="FILE", help="save histograms (.png, .svg or .pdf)")
    add_force(out, "--plot")
    out.add_argument("--json", action="store_true", help="print JSON")
    out.add_argument(
        "--batch-tokens",
        type=natural,
        metavar="N",
        help="tokens per forward pass (default: 1,024 on a CPU, 16,384 on a GPU); halved if memory "
        "runs out",
    )
    add_progress_options(out)
    parser.set_defaults(run=run)


def _degree(text: str) -> float:
    value = real(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.audits.membership import test_membership
    from radscore.audits.membership_plot import check_format
    from radscore.corpus import open_corpus

    if args.plot is not None:
        check_format(args.plot)
    check_outputs(args)
    check_new(args, "plot")
    model = load_named_model(args)
    corpora: dict[str, Corpus] = {}
    for name in ("members", "nonmembers", "unseen"):
        if (paths := getattr(args, name)) is None:
            continue
        corpora[name] = open_corpus(
            paths,
            field=args.field,
            tokenizer=model.tokenizer,
            vocab_size=model.vocab_size,
            on_error="skip" if args.on_error == "skip" else "raise",
        )
        check_outputs(args, corpora[name])
    _check_apart(corpora)
    bar = ProgressBar(quiet=args.quiet, asked=args.progress)
    try:
        result = test_membership(
            model,
            corpora["members"],
            corpora["nonmembers"],
            supervision=args.supervision,
            unseen=corpora.get("unseen"),
            calibration=args.calibration,
            length=args.length,
            unit=args.unit,
            batch_tokens=args.batch_tokens,
            progress=bar.show,
        )
    finally:
        bar.close()
    inputs = {name: of_corpus(one.manifest(), one.settings) for name, one in corpora.items()}
    result = result.replace(provenance={**result.provenance, "inputs": inputs})
    if args.json:
        skipped = {name: corpus.skipped.to_dict() for name, corpus in corpora.items()}
        json_out({**result.to_dict(), "skipped": skipped, "plot": args.plot})
    else:
        table(_rows(result, corpora, args.plot))
    if args.plot is not None:  # last, so that nothing is lost if it fails
        check_new(args, "plot")  # again: hours may have passed
        result.plot(args.plot)
    return Exit.SKIPPED if any(corpus.skipped for corpus in corpora.values()) else Exit.DONE


def _check_apart(corpora: dict[str, Corpus]) -> None:
    """Refuses a file that is on two sides."""
    seen: dict[str, str] = {}
    for name, corpus in corpora.items():
        for source in corpus.sources:
            path = str(source.path.resolve())
            if path in seen and seen[path] != name:
                raise UsageError(f"--{name} and --{seen[path]} both name {source.path}")
            seen[path] = name


def _rows(
    result: MembershipResult, corpora: dict[str, Corpus], plot: str | None
) -> list[tuple[str, str]]:
    calibrated = "loss / zlib bytes" if result.calibration == "zlib" else "loss"
    implied = f"true members would then differ by {result.implied_statistic:.4g}"
    degree = f"{result.supervision:g} claimed; {implied}"
    removed = [f"{count(number)} {reason}" for reason, number in result.removed.items()]
    pvalue = result.method
    if not math.isnan(result.log10_pvalue):
        pvalue = f"{power_of_ten(result.log10_pvalue)} (log10 {result.log10_pvalue:.3f}), {pvalue}"
    rows = [
        ("tested", result.question),
        ("model", f"fingerprint {result.model}"),
        ("members", _side(result.n_members, result, result.member_loss)),
        ("nonmembers", _side(result.n_nonmembers, result, result.nonmember_loss)),
        ("removed", "\n".join(removed)),
        (calibrated, f"{result.member_score:.6g} and {result.nonmember_score:.6g}"),
        ("difference", f"{result.statistic:.6g}, of the distribution functions"),
        ("supervision", degree if result.supervision < 1 else ""),
        ("p-value", pvalue),
        verdict_row(result.log10_pvalue),
        *[("note", note) for note in result.notes],
    ]
    for name, corpus in corpora.items():
        rows.append((f"skipped of {name}", skipped_text(corpus.skipped, corpus.n_documents)))
    return [*rows, ("figure", plot or "")]


def _side(n: int, result: MembershipResult, loss: float) -> str:
    what = count(n, result.unit)
    if result.unit == "document":
        what += ", in sentences"
    return f"{what} of {result.length} tokens, loss {loss:.5g}"
