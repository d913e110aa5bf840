"""Tables of a rehearsal's results, for the terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.stats.result import power_of_ten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Grid", "as_markdown", "as_text", "grids_of", "needs_of"]


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
