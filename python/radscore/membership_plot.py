"""The figure of a membership test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    import os

    from radscore.membership import MembershipResult

__all__ = ["check_format", "draw"]

FORMATS = (".png", ".svg", ".pdf")


def check_format(path: str | os.PathLike[str]) -> None:
    """Raises `ArgumentError` unless the name says a format that figures have."""
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise ArgumentError(f"plot must end in one of {', '.join(FORMATS)}, not {suffix!r}")


def draw(result: MembershipResult, path: str | os.PathLike[str]) -> None:
    """Histograms of the calibrated losses of both sides, as shares."""
    check_format(path)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ArgumentError("plot needs matplotlib: pip install 'radscore[report]'") from None
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes: Any = figure.add_subplot()
    edges = result.thresholds
    for counts, label, color in (
        (result.nonmember_counts, f"non-members ({result.n_nonmembers:,})", "tab:gray"),
        (result.member_counts, f"candidate members ({result.n_members:,})", "tab:blue"),
    ):
        axes.stairs(counts / counts.sum(), edges, fill=True, alpha=0.4, color=color, label=label)
    calibrated = " / zlib bytes" if result.calibration == "zlib" else ""
    axes.set_xlabel(f"loss a token{calibrated}, of each {result.unit} of {result.length} tokens")
    axes.set_ylabel("share")
    axes.set_title(f"Kolmogorov-Smirnov, one-sided: log10 p = {result.log10_pvalue:.2f}")
    axes.legend()
    figure.savefig(path, dpi=150)
