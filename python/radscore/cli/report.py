"""How ``radscore score`` shows a result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from radscore.cli.output import count, power_of_ten, share, skipped_text

if TYPE_CHECKING:
    from radscore.cli.per_document import Found
    from radscore.corpus.base import SkipReport
    from radscore.results import ScoreResult

__all__ = ["Input", "json_fields", "table_rows"]


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


def json_fields(result: ScoreResult, read: Input, found: Found | None) -> dict[str, Any]:
    """The result's fields, and facts about the input."""
    skipped = read.skipped
    fields = result.to_dict()
    fields["notes"] = [*read.notes, *fields["notes"]]
    fields["n_files"] = read.n_files
    fields["field"] = read.field
    fields["skipped"] = {**skipped.to_dict(), "share": skipped.share(read.n_documents)}
    if found is not None:
        fields["per_document"] = asdict(found)
    return fields


def table_rows(result: ScoreResult, read: Input, found: Found | None) -> list[tuple[str, str]]:
    """The result as names and values."""
    rows = [
        ("input", _input(result, read)),
        ("scheme", f"{result.scheme} (fingerprint {result.fingerprint})"),
        ("windows", _windows(result)),
        ("scored", f"{count(result.n_scored)} ({_rules(result)})"),
        *_score(result),
        ("p-value", _pvalue(result)),
        *[("note", note) for note in (*read.notes, *result.notes)],
        ("skipped", skipped_text(read.skipped, read.n_documents)),
    ]
    if found is not None:
        rows.append(("documents", f"{_documents(found)}; rows in {found.path}"))
    return rows


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
