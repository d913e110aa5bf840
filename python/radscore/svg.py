"""Figures of matplotlib as SVG that stands in a page."""

from __future__ import annotations

import io
import re
from typing import Any, Final

__all__ = ["svg_of"]

#: What stands before the element, and what it says of itself: date, program and licences.
_REST: Final = re.compile(r"\A.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)


def svg_of(figure: Any) -> str:
    """A figure as an element of a page; the same figure gives the same text."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "radscore", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True)
    return _REST.sub("", buffer.getvalue())
