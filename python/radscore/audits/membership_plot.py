"""The figure of a membership test: two histograms."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ArgumentError
from radscore.extras import need
from radscore.files import drafted

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt

__all__ = ["check_format", "draw"]

FORMATS: Final = (".png", ".svg", ".pdf")
_COLORS: Final = ("tab:gray", "tab:blue")


def check_format(path: str | os.PathLike[str]) -> None:
    """Raises unless the suffix names a format and matplotlib can be imported.

    To be called before hours of work, not after.
    """
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise ArgumentError(f"plot must end in one of {', '.join(FORMATS)}, not {suffix!r}")
    need("matplotlib.figure", what="plot")


def draw(
    path: str | os.PathLike[str],
    edges: npt.NDArray[np.float64],
    counts: dict[str, npt.NDArray[np.int64]],
    *,
    title: str,
    xlabel: str,
) -> None:
    """Draws histograms over the same bins, as shares, into a file.

    Parameters
    ----------
    path : path
        The suffix names the format: .png, .svg or .pdf.
    edges : ndarray of float64, shape (n_bins + 1,)
        Edges of the bins.
    counts : dict of str to ndarray of int64, shape (n_bins,)
        The histograms by their names in the legend, two at most.
    title, xlabel : str
        Above the figure, and below its axis.
    """
    check_format(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes: Any = figure.add_subplot()
    for (label, one), color in zip(counts.items(), _COLORS, strict=False):
        axes.stairs(one / one.sum(), edges, fill=True, alpha=0.4, color=color, label=label)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("share")
    axes.set_title(title)
    axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, format=Path(path).suffix[1:], dpi=150)
    with drafted(Path(path)) as temporary:
        temporary.write_bytes(drawn.getvalue())
