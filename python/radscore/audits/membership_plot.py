"""The figure of a membership test."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from radscore.audits.membership import MembershipResult

__all__ = ["check_format", "draw"]

FORMATS = (".png", ".svg", ".pdf")


def check_format(path: str | os.PathLike[str]) -> None:
    """Raises `ArgumentError` unless the name says a format that figures have, and one can be drawn.

    It is asked before hours of work, so the library is looked for as well.
    """
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise ArgumentError(f"plot must end in one of {', '.join(FORMATS)}, not {suffix!r}")
    try:
        import matplotlib.figure  # noqa: F401 - only whether it is there
    except ImportError:
        raise ArgumentError("plot needs matplotlib: pip install 'radscore[report]'") from None


def draw(result: MembershipResult, path: str | os.PathLike[str]) -> None:
    """Histograms of the calibrated losses of both sides, as shares."""
    check_format(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes: Any = figure.add_subplot()
    edges = result.thresholds
    for counts, label, color in (
        (result.nonmember_counts, f"non-members ({result.n_nonmembers:,})", "tab:gray"),
        (result.member_counts, f"candidate members ({result.n_members:,})", "tab:blue"),
    ):
        axes.stairs(counts / counts.sum(), edges, fill=True, alpha=0.4, color=color, label=label)
    calibrated = " / zlib bytes" if result.calibration == "zlib" else ""
    of = "each sentence" if result.unit == "sentence" else "sentences, mean of each document"
    axes.set_xlabel(f"loss per token{calibrated}, {of}; {result.length} tokens a sentence")
    axes.set_ylabel("share")
    shown = f"log10 p = {result.log10_pvalue:.2f}"
    if math.isnan(result.log10_pvalue):
        shown = "no p-value"
    axes.set_title(f"Kolmogorov-Smirnov, one-sided: {shown}")
    axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, format=Path(path).suffix[1:], dpi=150)
    try:
        Path(path).write_bytes(drawn.getvalue())
    except OSError as error:  # a full disk's error names no file
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from None
