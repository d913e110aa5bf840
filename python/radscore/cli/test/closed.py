"""``radscore test closed``: was a model trained on watermarked text, by its answers?"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import Exit, UsageError
from radscore.cli.keys import load_scheme
from radscore.cli.kgrams.sets import load_counts, load_kgrams
from radscore.cli.options import (
    add_command,
    add_on_error,
    add_scheme_options,
    check_inputs,
    natural,
)
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
from radscore.cli.report import compared_rows
from radscore.errors import CorpusError

if TYPE_CHECKING:
    import argparse

    from radscore.answers import Answers
    from radscore.audits.closed import ClosedResult
    from radscore.results import ScoreResult

__all__ = ["register"]

_DESCRIPTION = """\
Tests whether a model was trained on watermarked text, by its answers: from radscore ask, or from
any file of prompts and answers. Windows that an answer's own prompt may have shown are not scored.

With --filter, only contexts that the model may have learned are scored: the most frequent ones of
similar text without the watermark, or all of those of the watermarked text you recorded (any other
choice of watermarked text gives no p-value). --both tests with and without the filter, and corrects
for testing twice.

With --reference-model, a model that was not trained on the text reads the answers, and the test is
of what the suspect says more often than that model expects: much stronger, and strongest for
answers with log-probabilities (radscore ask --logprobs), which are used by themselves. A reference
that only answers, ideally the same prompts, serves as --reference-answers."""
_EXAMPLES = """\
  radscore test closed answers.jsonl --tokenizer tokenizer.json \\
      --scheme scheme.toml --key-file alice.key
  radscore test closed answers.jsonl --reference-model base/ --scheme scheme.toml \\
      --key-file alice.key --tokenizer tokenizer.json
  radscore test closed answers.jsonl --reference-answers base.jsonl --scheme scheme.toml \\
      --key-file alice.key --tokenizer tokenizer.json --json
 a filter from all of the recorded watermarked text, or from frequent contexts of other text:
  radscore kgrams build recorded.jsonl --watermarked --tokenizer tokenizer.json --width 2 \\
      --vocab-size 49152 --out phi.rkg
  radscore kgrams build unmarked.jsonl --unmarked --tokenizer tokenizer.json --width 2 \\
      --vocab-size 49152 --top 10000 --out known.rkg
  radscore test closed answers.jsonl --filter phi.rkg --both --scheme scheme.toml \\
      --key-file alice.key --tokenizer tokenizer.json
"""


def register(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "closed",
        summary="test the answers of a model (needs only text)",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="ANSWERS",
        help="journals from radscore ask, or JSON lines, Parquet or Arrow files of answers",
    )
    group = parser.add_argument_group("answers")
    group.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="for text: the watermark's, as a Hugging Face folder or a tokenizer.json",
    )
    group.add_argument(
        "--field",
        metavar="NAME",
        help="field with the answer, text or ids (default: the first common name, such as text or "
        "token_ids)",
    )
    prompt = group.add_mutually_exclusive_group()
    prompt.add_argument(
        "--prompt-field",
        metavar="NAME",
        default="prompt",
        help="field with each answer's prompt (default: prompt)",
    )
    prompt.add_argument(
        "--no-prompts", action="store_true", help="exclude nothing: the answers have no prompts"
    )
    add_on_error(group)
    add_scheme_options(parser)
    _add_test(parser)
    parser.add_argument("--threads", type=natural, metavar="N", help="threads (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_report(parser)
    parser.set_defaults(run=run)


def _add_test(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the test")
    reference = group.add_mutually_exclusive_group()
    reference.add_argument(
        "--reference-model",
        action="append",
        metavar="DIR",
        help="a model that was not trained on the watermarked text, to read the answers: ideally "
        "one fine-tuned like the suspect on similar text without the watermark, else the suspect's "
        "base; given several times, the mean of several",
    )
    reference.add_argument(
        "--reference-answers",
        metavar="FILE",
        help="answers from a model that was not trained on the watermarked text",
    )
    group.add_argument(
        "--contexts",
        metavar="FILE",
        help="with --reference-model or log-probabilities: how often contexts occur in text "
        "without the watermark (from radscore kgrams build --unmarked --counts), which says how "
        "much of them can have been learned (default: how often in the answers)",
    )
    group.add_argument(
        "--filter",
        metavar="FILE",
        help="score only contexts in this set (from radscore kgrams build, or .json, .jsonl)",
    )
    group.add_argument(
        "--both",
        action="store_true",
        help="with --filter: test with and without it, and double the smaller p-value",
    )
    group.add_argument(
        "--weighting",
        choices=("plain", "counts", "contrast", "residual", "listed"),
        help="count each unit once (plain, the default), weight units by how often the model says "
        "what (counts), by how much more often than the reference says it (contrast, the default "
        "with --reference-answers) or expects it (residual, the default with --reference-model), "
        "or by the log-probabilities of the answers (listed, the default if they have them)",
    )
    group.add_argument(
        "--transform", metavar="NAME", help="with counts, contrast or listed: the function to use"
    )
    group.add_argument(
        "--prompts-watermarked",
        action="store_true",
        help="the prompts carry this key's watermark: exclude what any of them may have shown",
    )
    group.add_argument(
        "--curve",
        type=natural,
        metavar="N",
        help="with --json: also give the p-value after N numbers of tokens, for a plot",
    )
    group.add_argument(
        "--decoys", type=natural, metavar="N", help="compare with N keys that nobody used"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from radscore.answers import open_answers
    from radscore.audits.closed import test_closed
    from radscore.models.loading import load_model

    check_inputs(args)
    if args.both and args.filter is None:
        raise UsageError("--both needs --filter")
    if args.curve is not None and not args.json:
        raise UsageError("--curve has no effect without --json")
    check_outputs(args)
    check_report(args)
    scheme = load_scheme(args)
    phi = None if args.filter is None else load_kgrams(args.filter, "--filter", scheme.vocab_size)
    how = {
        "tokenizer": args.tokenizer,
        "prompt_field": None if args.no_prompts else args.prompt_field,
        "field": args.field,
        "on_error": args.on_error,
    }
    answers = _read(args, open_answers, how)
    reference: Any = None
    if args.reference_answers is not None:
        if any(_same(path, args.reference_answers) for path in args.inputs):
            raise UsageError("--reference-answers names the suspect's own answers")
        reference = open_answers(args.reference_answers, **how)
    if args.reference_model is not None:
        reference = [load_model(path) for path in args.reference_model]
    result = test_closed(
        answers,
        scheme,
        filter=phi,
        both=args.both,
        reference=reference,
        contexts=None if args.contexts is None else load_counts(args.contexts, "--contexts"),
        weighting=args.weighting,
        transform=args.transform,
        prompts_watermarked=args.prompts_watermarked,
        curve=args.curve or (),
        decoys=args.decoys or 0,
        threads=args.threads,
    )
    result = result.replace(provenance=made_by(result, None, args.inputs))
    if args.json:
        fields = result.to_dict()
        fields["field"] = answers.field
        fields["skipped"] = answers.skipped.to_dict()
        json_out(fields)
    else:
        table(_rows(result, answers))
    write_report(args, result)
    return Exit.SKIPPED if answers.skipped or answers.n_failed else Exit.DONE


def _read(args: argparse.Namespace, open_answers: Any, how: dict[str, Any]) -> Answers:
    """The answers; where they have no prompts, an error says which options there are."""
    try:
        answers: Answers = open_answers(args.inputs, **how)
    except CorpusError as error:
        if f"no field {how['prompt_field']!r}" not in str(error):
            raise
        more = "--prompt-field names another; --no-prompts says that the answers have no prompts"
        raise CorpusError(f"{error}; {more}") from None
    return answers


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _rows(result: ClosedResult, answers: Answers) -> list[tuple[str, str]]:
    score = result.score
    read = f"{count(score.n_documents)} with {count(score.n_tokens, 'token')}"
    if result.n_failed:
        read += f"; {count(result.n_failed, 'question')} failed"
    notes = (*result.notes, *score.notes)
    return [
        ("tested", result.question),
        ("setting", result.setting),
        ("model", result.model or ""),
        ("reference", result.reference or ""),
        ("answers", read),
        ("scheme", f"{score.scheme} (fingerprint {score.fingerprint})"),
        ("weighting", _weighting(result)),
        ("windows", _windows(result)),
        ("scored", count(result.n_scored, "unit")),
        *([] if math.isnan(score.zscore) else [("z", f"{score.zscore:.3f}")]),
        *_evidence(result),
        verdict_row(result.log10_pvalue),
        *[("note", note) for note in notes],
        ("skipped", skipped_text(answers.skipped, len(answers))),
    ]


def _weighting(result: ClosedResult) -> str:
    text = result.weighting
    if result.transform is not None:
        text += f" ({result.transform})"
    if result.n_tests > 1:
        text += f"; {'without' if result.score.filter is None else 'with'} the filter"
    return text


def _evidence(result: ClosedResult) -> list[tuple[str, str]]:
    score = result.score
    text = f"{power_of_ten(result.log10_pvalue)} (log10 {result.log10_pvalue:.3f}), {score.method}"
    if math.isnan(result.log10_pvalue):
        text = score.method
    rows = []
    if result.n_tests > 1:
        if not math.isnan(result.log10_pvalue):
            text += f", times {result.n_tests} for {result.n_tests} tests"
        for name, one in (("without filter", result.unfiltered), ("with filter", result.filtered)):
            rows.append((name, "nothing to score" if one is None else _one(one)))
    rows.append(("p-value", text))
    return rows + compared_rows(result)


def _one(score: ScoreResult) -> str:
    if math.isnan(score.log10_pvalue):
        return score.method
    return (
        f"p = {power_of_ten(score.log10_pvalue)}, z = {score.zscore:.3f}, "
        f"{count(score.n_scored, 'unit')}"
    )


def _windows(result: ClosedResult) -> str:
    removed = [
        f"{count(number)} {why}"
        for why, number in result.removed.items()
        if number and not why.startswith(("records", "questions", "answers"))
    ]
    text = count(result.score.n_windows)
    return f"{text}; of these {', '.join(removed)}" if removed else text
