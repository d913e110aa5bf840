"""The page of a rehearsal: tables, figures and samples in one file that loads nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from radscore.page import check_libraries, rendered, svg_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from radscore.rehearsal.table import Grid

__all__ = ["figures_of", "page"]

_ABOUT: Final = (
    "Alice's model wrote text with her watermark; Bob's models were trained on it to the shares "
    "below. Each test was run on each of them, and on a control that was trained on none of it. "
    "z is the distance from chance in standard deviations; the intervals are of its mean over keys "
    "and seeds (Student's t, 95 %). A test that counts repetitions as evidence is shown for "
    "comparison: it has no valid p-value."
)
#: Lines of a figure; more cannot be told apart.
_MOST: Final = 8


def page(
    title: str,
    digest: str,
    *,
    grids: Sequence[Grid],
    effects: Sequence[Mapping[str, Any]],
    samples: Sequence[Mapping[str, str]],
    notes: Sequence[str],
) -> str:
    """The page as HTML; everything in it is escaped but our own figures.

    Raises
    ------
    MissingExtraError
        If Jinja2 or matplotlib is not installed.
    """
    check_libraries("the page of a rehearsal")
    return rendered(
        "radscore.rehearsal",
        "page.html.j2",
        title=title,
        about=_ABOUT,
        digest=digest,
        grids=grids,
        figures=[{"svg": svg, "caption": caption} for svg, caption in figures_of(effects)],
        samples=samples,
        notes=notes,
    )


def figures_of(effects: Sequence[Mapping[str, Any]]) -> list[tuple[Any, str]]:
    """Evidence against share, and against tokens, with captions."""
    found = []
    for test in ("open", "closed"):
        some = [one for one in effects if one["test"] == test and one["valid"]]
        lines = _by_share(some)
        if any(len(line) > 1 for line in lines.values()):
            found.append(
                (
                    _figure(lines, "share of Alice's records, %", test),
                    f"Evidence by share, {test} tests; bars: 95 % intervals of the mean.",
                )
            )
        curves = _by_tokens(some)
        if any(len(line) > 1 for line in curves.values()):
            found.append(
                (
                    _figure(curves, "tokens", test, log=True),
                    f"Evidence by tokens, {test} tests: means over suspects of the largest share.",
                )
            )
    return found


def _name(one: Mapping[str, Any]) -> str:
    to = "" if one["against"] is None else f" to {one['against']}"
    phi = "" if one["filter"] == "none" else f", filter {one['filter']}"
    return f"{one['mark']}, {one['setting']}, {one['weights']}{to}{phi}"


#: x, y, and how far the interval reaches below and above y.
_Point = tuple[float, float, float, float]


def _strongest(lines: dict[str, list[_Point]]) -> dict[str, list[_Point]]:
    order = sorted(lines, key=lambda name: -max(point[1] for point in lines[name]))
    return {name: sorted(lines[name]) for name in order[:_MOST]}


def _by_share(effects: Sequence[Mapping[str, Any]]) -> dict[str, list[_Point]]:
    """The z-score by share, of the first recipe and degree of supervision."""
    lines: dict[str, list[_Point]] = {}
    for one in _first_recipe(effects):
        z = one["z"]
        half = 0.0 if z["low"] is None else z["mean"] - z["low"]
        lines.setdefault(_name(one), []).append((100 * one["share"], z["mean"], half, half))
    return _strongest(lines)


def _by_tokens(effects: Sequence[Mapping[str, Any]]) -> dict[str, list[_Point]]:
    """The mean of -log10 p by tokens, at the largest share."""
    some = _first_recipe(effects)
    largest = max((one["share"] for one in some), default=0.0)
    return _strongest(
        {
            _name(one): [(n, -log10, 0.0, 0.0) for n, log10 in one["curve"]]
            for one in some
            if one["share"] == largest and one["curve"]
        }
    )


def _first_recipe(effects: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    def recipe(one: Mapping[str, Any]) -> tuple[str, str]:
        return str(one["training"]), one["base"]

    some = [one for one in effects if recipe(one) == recipe(effects[0])]
    degrees = {one["supervision"] for one in some}
    return [one for one in some if one["supervision"] == max(degrees) or not one["share"]]


def _figure(lines: Mapping[str, Sequence[_Point]], x: str, test: str, *, log: bool = False) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        xs, ys, low, high = zip(*points, strict=True)
        label = name.replace("$", r"\$")  # no formulas from names
        axes.errorbar(xs, ys, yerr=(low, high), marker="o", markersize=4, capsize=2, label=label)
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel(x)
    axes.set_ylabel("-log10 p" if log else f"z, {test}")
    if log:
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=-0.2)
        axes.xaxis.set_major_formatter("{x:g}")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg_of(figure)
