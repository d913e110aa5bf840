"""Pages that load nothing from elsewhere: Jinja2 templates, and figures that stand in them."""

from __future__ import annotations

import io
import re
from typing import Any, Final

from radscore.extras import need

__all__ = ["check_libraries", "rendered", "svg_of"]

#: What stands before the element, and what it says of itself: date, program and licences.
_REST: Final = re.compile(r"\A.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)


def check_libraries(what: str) -> None:
    """Raises `MissingExtraError` unless a page can be made."""
    need("jinja2", "matplotlib.figure", what=what)


def rendered(package: str, template: str, **context: Any) -> str:
    """A page from a template beside the modules of a package; everything but figures is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader(package, ".")
    made = Environment(autoescape=True, loader=loader, undefined=StrictUndefined, trim_blocks=True)
    return made.get_template(template).render(**context)


def svg_of(figure: Any) -> Any:
    """A figure of matplotlib, which escapes its text, as an element of a page.

    The same figure gives the same text.
    """
    from markupsafe import Markup
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "radscore", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True)
    return Markup(_REST.sub("", buffer.getvalue()))  # noqa: S704 - our own figure
