"""Tables of a rehearsal's results, for the terminal and as Markdown."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from radscore.stats.result import power_of_ten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from radscore.rehearsal.plan import Cell

__all__ = [
    "Grid",
    "ability_of",
    "as_markdown",
    "as_text",
    "grids_of",
    "membership_of",
    "needs_of",
    "quality_of",
]


class Grid:
    """A table with its title.

    Attributes
    ----------
    title : str
    head : list of str
    rows : list of list of str
    """

    def __init__(self, title: str, head: list[str], rows: list[list[str]]) -> None:
        self.title, self.head, self.rows = title, head, rows


def as_text(grid: Grid) -> str:
    """Aligned columns."""
    lines = [grid.head, *grid.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(grid.head))]
    shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([grid.title, *(f"  {line}".rstrip() for line in shown)]) + "\n"


def as_markdown(grid: Grid) -> str:
    """A table of Markdown under its title."""
    lines = [grid.head, ["---"] * len(grid.head), *grid.rows]
    return (
        "\n".join(
            [f"### {grid.title}", "", *(f"| {' | '.join(map(_escaped, one))} |" for one in lines)]
        )
        + "\n"
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"


def _setting(entry: Mapping[str, Any]) -> list[str]:
    weights = entry["weights"]
    if entry["against"] is not None:
        weights += f" to {entry['against']}"
    return [entry["test"], entry["setting"], weights, entry["filter"]]


def _cell(entry: Mapping[str, Any] | None) -> str:
    """The z-score with its interval, and the mean p-value."""
    if entry is None:
        return ""
    z = entry["z"]
    text = f"{z['mean']:.1f}"
    if z["low"] is not None:
        text += f" [{z['low']:.1f}, {z['high']:.1f}]"
    p = entry["log10_pvalue"]
    if not entry["valid"]:
        return f"{text} (not valid)"
    return text if p is None else f"{text} (p {power_of_ten(p['mean'], 2)})"


def grids_of(effects: Sequence[Mapping[str, Any]]) -> list[Grid]:
    """One table per recipe, mark and degree of supervision: tests by share."""
    recipes: dict[str, list[Mapping[str, Any]]] = {}
    for one in effects:
        recipes.setdefault(_recipe(one, effects), []).append(one)
    found = []
    for title, some in recipes.items():
        shares = sorted({one["share"] for one in some})
        rows: dict[tuple[str, ...], dict[float, Mapping[str, Any]]] = {}
        for one in some:
            rows.setdefault(tuple(_setting(one)), {})[one["share"]] = one
        found.append(
            Grid(
                title,
                ["test", "shown", "weights", "filter", *map(_share, shares)],
                [
                    [*name, *(_cell(by_share.get(share)) for share in shares)]
                    for name, by_share in rows.items()
                ],
            )
        )
    return found


def _recipe(entry: Mapping[str, Any], effects: Sequence[Mapping[str, Any]]) -> str:
    """What sets an entry's recipe apart from the others'."""
    parts = [f"{entry['mark']} in {entry['base']}"]
    if len({one["supervision"] for one in effects}) > 1:
        parts.append(f"supervision {entry['supervision']:g}")
    for name, value in entry["training"].items():
        if len({str(one["training"][name]) for one in effects}) > 1:
            parts.append(f"{name} {value}")
    return "z [95 % interval] (mean p) by share: " + ", ".join(parts)


def needs_of(effects: Sequence[Mapping[str, Any]], level: float) -> Grid:
    """What the strongest valid test of each kind needs, by share."""
    best: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for one in effects:
        if one["share"] and one["valid"] and one["needed"] is not None:
            name = (one["test"], one["setting"], _recipe(one, effects), one["share"])
            if name not in best or one["needed"]["tokens"] < best[name]["needed"]["tokens"]:
                best[name] = one
    rows = []
    for one in best.values():
        need = one["needed"]
        tokens = _about(need["tokens"])
        if "answers" in need:
            tokens += f" ({_about(need['answers'])} answers)"
        sure = "" if need["times"] <= 4 else f"{need['times']:.0f} times what was measured"
        test, shown, weights, phi = _setting(one)
        weights += "" if phi == "none" else f", filter {phi}"
        rows.append([_share(one["share"]), test, shown, weights, tokens, sure])
    return Grid(
        f"Tokens for p < {level:g} in nine of ten cases, by the strongest test",
        ["share", "test", "shown", "weights", "tokens", ""],
        rows,
    )


def _about(number: float) -> str:
    """Two digits are all that is known."""
    return f"{float(f'{number:.2g}'):,.0f}"


def membership_of(results: Sequence[tuple[Cell, Mapping[str, Any]]]) -> Grid:
    """p-values of membership by share and degree of supervision: the median over suspects."""
    found: dict[tuple[float, float], dict[str, list[float]]] = {}
    for cell, row in results:
        if row["test"] == "membership" and row["log10_pvalue"] is not None:
            place = found.setdefault((cell.share, cell.supervision), {})
            place.setdefault(row["weights"], []).append(row["log10_pvalue"])
    kinds = sorted({kind for one in found.values() for kind in one}, reverse=True)
    return Grid(
        "Membership of Alice's records, without a watermark: median p (suspects)",
        ["share", "supervision", *(_CALIBRATIONS.get(one, one) for one in kinds)],
        [
            [
                _share(share),
                f"{degree:g}",
                *(
                    f"{power_of_ten(median(one[kind]), 2)} ({len(one[kind])})"
                    if kind in one
                    else ""
                    for kind in kinds
                ),
            ]
            for (share, degree), one in sorted(found.items())
        ],
    )


_CALIBRATIONS = {"zlib": "losses by zlib's length", "none": "losses as they are"}


def quality_of(quality: Sequence[Mapping[str, Any]]) -> Grid:
    """Alice's text beside its unmarked twins."""
    rows = []
    for one in quality:
        for name in ("marked", "unmarked"):
            side = one[name]
            test = side["test"]
            green = None if test is None else test["green_share"]
            rows.append(
                [
                    f"{one['mark']}, key {one['key']}",
                    name,
                    _number(side["perplexity"]),
                    _number(side["distinct"]["2"]),
                    _number(side["length"]["mean"]),
                    "" if side["parsed"] is None else _share(side["parsed"]),
                    "" if green is None else _share(green),
                    _p(None if test is None else test["log10_pvalue"]),
                ]
            )
    head = ["mark", "text", "perplexity", "distinct 2-grams", "tokens", "parsed", "green", "p"]
    return Grid("Alice's text", head, rows)


def ability_of(ability: Sequence[Mapping[str, Any]]) -> Grid:
    """Whether Bob's models work."""
    rows = [
        [one["base"], one["model"], name, *(_measured(text.get(kind)) for kind in _ABILITIES)]
        for one in ability
        for name, text in one["texts"].items()
    ]
    head = ["base", "model", "text", "loss", "multiple choice (1/4)", "cloze"]
    return Grid("Bob's models on held-out text, with standard errors", head, rows)


_ABILITIES = ("loss", "choice", "cloze")


def _measured(one: Mapping[str, Any] | None) -> str:
    if one is None or one["value"] is None:
        return ""
    error = "" if one["error"] is None else f" ± {one['error']:.2g}"
    return f"{one['value']:.3g}{error}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _p(log10: float | None) -> str:
    return "" if log10 is None else power_of_ten(log10, 2)
