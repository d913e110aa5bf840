"""How ``radscore score`` shows a result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from radscore.cli.output import (
    count,
    json_out,
    power_of_ten,
    share,
    skipped_text,
    table,
    verdict_row,
)
from radscore.cli.pages import write_report
from radscore.cli.parser import as_options
from radscore.results import HIDDEN
from radscore.stats import holm
from radscore.stats.result import verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from radscore.cli.per_document import Found
    from radscore.corpus.base import SkipReport
    from radscore.results import ModelResult, ScoreResult
    from radscore.stats import DecoyResult

__all__ = ["Input", "KeyTest", "compared_rows", "print_report"]


@dataclass(frozen=True)
class Input:
    """What a report says about what was read.

    Attributes
    ----------
    n_documents, n_files : int
    field : str or None
        The field that was read, if the files have fields.
    skipped : SkipReport
    notes : tuple of str
        Notes that the result does not have.
    """

    n_documents: int
    n_files: int
    field: str | None
    skipped: SkipReport
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyTest:
    """One of the keys that were tested.

    Attributes
    ----------
    result : ScoreResult
    key : str
        The name of its file; "" where it came from elsewhere.
    decoys : DecoyResult or None
        The comparison with decoy keys, if asked for.
    """

    result: ScoreResult
    key: str = ""
    decoys: DecoyResult | None = None


def print_report(
    args: argparse.Namespace, tests: Sequence[KeyTest], read: Input, found: Found | None = None
) -> None:
    """Prints what `args` asks for: a table, or JSON."""
    if getattr(args, "json", False):
        json_out(_json_of_keys(tests, read) if len(tests) > 1 else _json(tests[0], read, found))
    else:
        rows = _rows_of_keys(tests, read) if len(tests) > 1 else _rows(tests[0], read, found)
        table((name, as_options(text, vars(args))) for name, text in rows)
    if len(tests) == 1:
        write_report(args, tests[0].result)


def _json(test: KeyTest, read: Input, found: Found | None = None) -> dict[str, Any]:
    """The result's fields, and facts about the input."""
    skipped = read.skipped
    fields = test.result.to_dict()
    fields["notes"] = [*read.notes, *fields["notes"]]
    if test.decoys is not None:
        fields["decoys"] = test.decoys.to_dict()
    fields["n_files"] = read.n_files
    fields["field"] = read.field
    fields["skipped"] = {**skipped.to_dict(), "share": skipped.share(read.n_documents)}
    if found is not None:
        fields["per_document"] = asdict(found)
    return fields


def _json_of_keys(tests: Sequence[KeyTest], read: Input) -> dict[str, Any]:
    """The fields of each key's result, with what its p-value is among so many."""
    adjusted = _adjusted(tests)
    return {
        "correction": "holm",
        "n_keys": len(tests),
        "keys": [
            {"key": test.key, "adjusted_pvalue": 10.0**log10, "log10_adjusted_pvalue": log10}
            | _json(test, read)
            for test, log10 in zip(tests, adjusted, strict=True)
        ],
    }


def _adjusted(tests: Sequence[KeyTest]) -> list[float]:
    values: list[float] = holm([test.result.log10_pvalue for test in tests]).tolist()
    return values


def _rows(test: KeyTest, read: Input, found: Found | None) -> list[tuple[str, str]]:
    """The result as names and values."""
    result = test.result
    hidden = found is None and result.may_hide_documents
    rows = [
        ("tested", result.question),
        ("input", _input(result, read)),
        ("scheme", f"{result.scheme} (fingerprint {result.fingerprint})"),
        ("windows", _windows(result)),
        ("scored", f"{count(result.n_scored)} ({_rules(result)})"),
        *_score(result),
        ("p-value", _pvalue(result)),
        _verdict(result, found),
        *_excludes(result),
        *_anytime(result),
        *_decoys(test.decoys),
        ("hint", f"{HIDDEN}: --per-document FILE tests each" if hidden else ""),
        *[("note", note) for note in (*read.notes, *result.notes)],
        ("skipped", skipped_text(read.skipped, read.n_documents)),
    ]
    if found is not None:
        where = "" if found.path is None else f"; rows in {found.path}"
        rows.append(("documents", _documents(found) + where))
    if found is not None and found.n_selected is not None:
        rows.append(("selected", f"{count(found.n_selected, 'document')} in {found.out}"))
    return rows


def _verdict(result: ScoreResult, found: Found | None) -> tuple[str, str]:
    """The row after the p-value, which does not gainsay what single documents show."""
    name, text = verdict_row(result.log10_pvalue)
    some = found is not None and found.n_significant and result.may_hide_documents
    return name, f"{text} in all documents together" if some else text


def _rows_of_keys(tests: Sequence[KeyTest], read: Input) -> list[tuple[str, str]]:
    """What all keys share, and a few lines for each of them."""
    first = tests[0].result
    notes = dict.fromkeys(note for test in tests for note in (*read.notes, *test.result.notes))
    rows = [
        ("tested", "does the text carry the watermark of one of these keys?"),
        ("input", _input(first, read)),
        ("scheme", f"{first.scheme}, {len(tests)} keys; p-values adjusted by Holm's correction"),
    ]
    for test, log10 in zip(tests, _adjusted(tests), strict=True):
        result = test.result
        (what, score), *z = _score(result)
        known = not math.isnan(log10)
        lines = [
            f"{test.key} (fingerprint {result.fingerprint})",
            f"scored {count(result.n_scored)} ({_rules(result)}), {what} {score}"
            + "".join(f", z {value}" for _, value in z),
            f"p-value {_pvalue(result)}",
            f"adjusted {power_of_ten(log10)}: {verdict(log10)}" if known else verdict(log10),
            *(f"{name} {text}" for name, text in (*_anytime(result), *_decoys(test.decoys))),
        ]
        rows.append(("key", "\n".join(lines)))
    if all(test.result.may_hide_documents for test in tests):
        rows.append(("hint", f"{HIDDEN}: --per-document FILE, with one key, tests each"))
    rows += [("note", note) for note in notes]
    return [*rows, ("skipped", skipped_text(read.skipped, read.n_documents))]


def compared_rows(result: ModelResult) -> list[tuple[str, str]]:
    """What stands beside the p-value of a test of a model: the normal law, and decoy keys."""
    rows = []
    if (weighted := result.score.weighted) is not None:
        rows.append(("normal law", f"{power_of_ten(weighted.log10_normal)}, approximate"))
    if (found := result.decoys) is not None and found.n_decoys:
        reached = f"{count(found.n_reached)} of {count(found.n_decoys)} reach the statistic"
        rows.append(("decoy keys", f"p = {found.pvalue:.4g}: {reached}"))
    return rows


def _excludes(result: ScoreResult) -> list[tuple[str, str]]:
    """What a result without evidence excludes, in words."""
    if (limit := result.excludes) is None:
        return []
    text = (
        f"more than {100 * limit.high:.4g} % green on average, at "
        f"{100 * limit.confidence_level:g} % (an effect of {limit.effect:.3g} standard deviations "
        "a unit), if units are green independently"
    )
    return [("excludes", text)]


def _anytime(result: ScoreResult) -> list[tuple[str, str]]:
    """The e-value, if asked for, in words."""
    if (found := result.anytime) is None:
        return []
    text = (
        f"e-value {power_of_ten(found.log10_evalue)}; p-value {power_of_ten(found.log10_pvalue)} "
        f"(log10 {found.log10_pvalue:.3f}) however often one looks: {verdict(found.log10_pvalue)}"
    )
    return [("any time", text)]


def _decoys(decoys: DecoyResult | None) -> list[tuple[str, str]]:
    """How many decoy keys score as high."""
    if decoys is None:
        return []
    if not decoys.n_decoys:
        return [("decoys", "withheld: the filter may depend on the key")]
    text = (
        f"{count(decoys.n_reached)} of {count(decoys.n_decoys)} decoy keys score as high: p-value "
        f"{power_of_ten(decoys.log10_pvalue)} without any assumption on the law"
    )
    return [("decoys", text)]


def _documents(found: Found) -> str:
    if found.n_significant is None:
        return "no p-values"
    text = (
        f"{count(found.n_significant)} of {count(found.n_tested)} with windows are significant at "
        f"q <= {found.fdr:g}"
    )
    of_those = [
        f"{what}: {count(number)}"
        for number, what in (
            (found.n_significant_copies, "copies of others"),
            (found.n_significant_common, "mostly from units of earlier documents"),
        )
        if number
    ]
    if of_those:
        text += f" ({'; '.join(of_those)})"
    if found.n_all_shared:
        one, many = found.n_all_shared == 1, found.max_sharing != 1
        text += (
            f"; {count(found.n_all_shared)} {'holds' if one else 'hold'} only units of "
            f"{found.max_sharing} earlier {'documents' if many else 'document'} and "
            f"{'was' if one else 'were'} not tested"
        )
    return text


def _input(result: ScoreResult, read: Input) -> str:
    field = "" if read.field is None else f", field {read.field!r}"
    return (
        f"{count(result.n_documents, 'document')} and {count(result.n_tokens, 'token')} in "
        f"{count(read.n_files, 'file')}{field}"
    )


def _windows(result: ScoreResult) -> str:
    # Whether a repetition is the same window or another window of the same unit is not recorded.
    removed = [
        f"{count(number)} {why}"
        for number, why in (
            (result.n_excluded, "by prompts"),
            (result.n_filtered, "by the filter"),
            (result.n_duplicates, "as repeated windows or units"),
            (result.n_keyless, "as independent of the key"),
        )
        if number
    ]
    text = count(result.n_windows)
    if removed:
        text += f"; removed {', '.join(removed)}"
    if result.n_short_documents:
        text += f"; none in {count(result.n_short_documents, 'short document')}"
    return text


def _rules(result: ScoreResult) -> str:
    return "every window" if result.dedup == "none" else f"each {result.dedup} once"


def _score(result: ScoreResult) -> list[tuple[str, str]]:
    expected = result.expected / result.n_scored
    if result.n_green is None:
        text = f"{result.statistic / result.n_scored:.6g}, expected {expected:.6g}"
        rows = [("mean score", text)]
    else:
        part = share(result.n_green, result.n_scored)
        rows = [("green", f"{count(result.n_green)}, {part}, expected {100 * expected:.4g} %")]
    return rows if math.isnan(result.zscore) else [*rows, ("z", f"{result.zscore:.3f}")]


def _pvalue(result: ScoreResult) -> str:
    if math.isnan(result.log10_pvalue):
        return result.method
    return f"{power_of_ten(result.log10_pvalue)} (log10 {result.log10_pvalue:.3f}), {result.method}"
