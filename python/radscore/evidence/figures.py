"""Figures of a report, as SVG that stands in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.page import svg_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["decoy_figure"]


def decoy_figure(decoys: Sequence[float], own: float, label: str) -> Any:
    """A histogram of the statistic under decoy keys, with the tested key's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.hist(decoys, bins=min(30, max(5, len(decoys) // 3)), color="#9aa5b1", label="decoy keys")
    axes.axvline(own, color="#b3261e", linewidth=2, label="the committed key")
    axes.set_xlabel(label)
    axes.set_ylabel("keys")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False)
    return svg_of(figure)
