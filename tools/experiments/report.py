"""Tables and figures from the numbers of the matrix and the weighting study."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tools.experiments import api_report
from tools.experiments.bob import SHARES
from tools.experiments.matrix import DEGREES
from tools.experiments.study import TOPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["write_report"]

Numbers = dict[str, dict[str, Any]]
OPEN_ROWS = ("prediction", "mass", "contrast base", "contrast matched")
CLOSED_ROWS = ("plain", "counts", "contrast")
FILTERS = ("no filter", "unsupervised", "supervised")

_HEAD = (
    "What was trained and how, and what follows from the numbers: [README.md](README.md). "
    "Written by `python -m tools.experiments`."
)
_OPEN = (
    "z under Alice's key and, in brackets, the test's p-value (exact for `prediction`, else a "
    "bound that holds at every size), by the share of Bob's training text that carries Alice's "
    "watermark. Supervised: the model reads her recorded texts that Bob trained on, at most a "
    "tenth of 1,024 (10 texts at 1 %). Unsupervised: 128 texts without a watermark."
)
_CLOSED = (
    "z and p-value as above. 2,048 answers of 96 tokens to human prompts. Filter, "
    "supervised: the contexts of the 1,024 texts that Alice recorded; unsupervised: those "
    "of 256 other texts by her."
)
_MEMBERS = (
    "p-values of the test of losses: candidates of which Bob trained on a share d (256 "
    "texts at d = 1; for smaller d, 256 others join, and members are left out if those do "
    "not suffice), against 256 texts that nobody trained on; and the same for a model that "
    "trained on none of them."
)
_STUDY = (
    "z under the true key. Three radioactive models of share 10 %, each with its own key "
    "and text, and their mean; then other shares and the clean control under Alice's key. "
    "Decoys: mean and standard deviation of z over 40 other keys, 10 % model. Names are the "
    "library's (`transform=`); the formulas are further candidates."
)
_STUDY_OPEN = (
    "### Open model, contrast with the matched reference\n\n"
    "128 clean texts of 256 tokens, the 64 largest weights of a position, summed over all "
    "positions with the same context. p, q: the suspect's and the reference's probability. "
    "`mass`, `sqrt p` and `prediction` need no reference."
)
_STUDY_CLOSED = (
    "### Closed model, contrast with the matched reference's answers\n\n"
    "2,048 answers of 96 tokens. a, b: the suspect's and the reference's count of a window; "
    "n_a, n_b: of its context; share: the target's probability by shorter contexts."
)
_TOPS = "### How many weights per position\n\n64 clean texts, 10 % model, matched reference; z."


def write_report(
    folder: Path, matrix: Numbers, study: Numbers, api: Numbers, facts: dict[str, str]
) -> None:
    """Writes ``RESULTS.md`` and ``figures/`` in `folder`."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    parts = [
        "# Results of `make experiments`",
        _HEAD,
        _table(["", ""], facts.items()),
        *_matrix(matrix),
        *_study(study),
        *_api(api),
    ]
    (folder / "RESULTS.md").write_text("\n\n".join(parts) + "\n")
    _figures(folder / "figures", matrix, study)


def _api(numbers: Numbers) -> list[str]:
    tables = (
        (api_report.WORDS, api_report.HEAD, api_report.rows(numbers)),
        (api_report.MARKS_WORDS, api_report.MARKS_HEAD, api_report.marks_rows(numbers)),
        (api_report.WEAK_WORDS, api_report.WEAK_HEAD, api_report.weak_rows(numbers)),
    )
    parts = [part for words, head, made in tables if made for part in (words, _table(head, made))]
    return ["## Models behind an API", *parts] if parts else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _cell(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    p = one["log10_pvalue"]
    shown = f"{10**p:.2g}" if p > -4 else f"1e{p:.0f}"
    return f"{one['zscore']:.1f} ({shown})" if "zscore" in one else shown


def _matrix(matrix: Numbers) -> list[str]:
    shares = [f"{share} %" for share in SHARES]
    rows = [
        [setting, weighting]
        + [_cell(matrix.get(f"open {setting} {weighting} rho-{share}")) for share in SHARES]
        for setting in ("supervised", "unsupervised")
        for weighting in OPEN_ROWS
    ]
    parts = [
        "## Open model",
        _OPEN,
        _table(["text", "statistic", *shares], rows),
        "![open](figures/open.png)",
    ]
    rows = [
        [name, weighting]
        + [_cell(matrix.get(f"closed {name} {weighting} rho-{share}")) for share in SHARES]
        for name in FILTERS
        for weighting in CLOSED_ROWS
    ]
    parts += [
        "## Closed model",
        _CLOSED,
        _table(["filter", "weights", *shares], rows),
        "![closed](figures/closed.png)",
        "By tokens read (clean text, 10 % model) and tokens answered (no filter, 100 % model):",
        "![curve](figures/curve.png)",
        "## Membership, no watermark",
        _MEMBERS,
        _table(
            ["losses", "model", *(f"d = {d:g}" for d in DEGREES)],
            [
                [losses, label]
                + [_cell(matrix.get(f"membership {kind} {name} d={d:g}")) for d in DEGREES]
                for kind, losses in (("zlib", "by zlib's length"), ("none", "as they are"))
                for label, name in (("trained on them", "rho-0"), ("did not", "reference"))
            ],
        ),
    ]
    return parts


def _study(study: Numbers) -> list[str]:
    columns = {
        "10 %": "rho-10",
        "key 1": "rho-10-key-1",
        "key 2": "rho-10-key-2",
        "100 %": "rho-100",
        "5 %": "rho-5",
        "1 %": "rho-1",
        "control": "rho-0",
    }
    parts = [
        "## Which weights",
        _STUDY,
    ]
    for kind, title in (("open", _STUDY_OPEN), ("closed", _STUDY_CLOSED)):
        cases = {label: study.get(f"{kind} {name}") for label, name in columns.items()}
        if cases["10 %"] is None:
            continue
        extra = {}
        if kind == "open":
            extra = {"base, 10 %": study.get("open base")}
            extra["base, control"] = study.get("open base rho-0")
        names = sorted(cases["10 %"], key=lambda name: -_mean(cases, name))
        rows = []
        for name in names:
            decoys = cases["10 %"][name]
            shown = [_z(one, name) for one in (*cases.values(), *extra.values())]
            shown.insert(3, f"**{_mean(cases, name):.1f}**")
            shown.append(f"{decoys['decoy_mean']:.2f}, {decoys['decoy_sd']:.2f}")
            rows.append([f"`{name}`", *shown])
        head = list(cases)
        head.insert(3, "mean of three")
        parts += [title, _table(["weights", *head, *extra, "decoys"], rows)]
    parts.append("![weightings](figures/weightings.png)")
    if "tops" in study:
        parts += [
            _TOPS,
            _table(
                ["weights", *(f"m = {top}" for top in TOPS)],
                [
                    [f"`{name}`", *(f"{z[str(top)]:.1f}" for top in TOPS)]
                    for name, z in study["tops"].items()
                ],
            ),
        ]
    return parts


def _z(case: dict[str, Any] | None, name: str) -> str:
    return f"{case[name]['z']:.1f}" if case and name in case else ""


def _mean(cases: dict[str, Any], name: str) -> float:
    z = [
        case[name]["z"]
        for label, case in cases.items()
        if label in {"10 %", "key 1", "key 2"} and case
    ]
    return math.fsum(z) / len(z)


def _figures(folder: Path, matrix: Numbers, study: Numbers) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    for name, rows, settings in (
        ("open", OPEN_ROWS, ("supervised", "unsupervised")),
        ("closed", CLOSED_ROWS, FILTERS),
    ):
        figure, axes = plt.subplots(
            1, len(settings), figsize=(3.4 * len(settings), 3.2), sharey=True, squeeze=False
        )
        for axis, setting in zip(axes[0], settings, strict=True):
            _lines(axis, name, setting, rows, matrix)
        axes[0][0].set_ylabel("z under Alice's key")
        axes[0][0].legend(frameon=False, fontsize=8)
        _save(figure, folder / f"{name}.png")
    _curve(plt, folder, matrix)
    _bars(plt, folder, study)


def _lines(axis: Any, name: str, setting: str, rows: Sequence[str], matrix: Numbers) -> None:
    for row in rows:
        z = [
            matrix.get(f"{name} {setting} {row} rho-{share}", {}).get("zscore", math.nan)
            for share in SHARES
        ]
        axis.plot(range(len(SHARES)), z, marker="o", markersize=4, label=row)
    axis.axhspan(-2, 2, color="0.92", zorder=0)
    axis.set_yscale("symlog", linthresh=5)
    axis.set_yticks([-2, 0, 2, 5, 10, 20, 50, 100], ["-2", "0", "2", "5", "10", "20", "50", "100"])
    axis.set_xticks(range(len(SHARES)), [f"{share} %" for share in SHARES])
    axis.set_xlabel("share of watermarked training text")
    axis.set_title(setting, fontsize=9)


def _curve(plt: Any, folder: Path, matrix: Numbers) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.2))
    titles = ("tokens read, 10 % model", "tokens answered, 100 % model")
    for axis, kind, title in zip(axes, ("open", "closed"), titles, strict=True):
        points: dict[str, list[tuple[int, float]]] = {}
        for name, one in matrix.items():
            if name.startswith(f"curve {kind} "):
                weighting, n_tokens = name.split()[2:]
                points.setdefault(weighting, []).append((int(n_tokens), one["log10_pvalue"]))
        for weighting, line in points.items():
            line.sort()
            axis.plot(*zip(*line, strict=True), marker="o", markersize=4, label=weighting)
        axis.set_xscale("log")
        axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ticks = sorted({n for line in points.values() for n, _ in line})
        axis.set_xticks(ticks, [f"{n:,}" for n in ticks])
        axis.minorticks_off()
        axis.set_xlabel(title)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("log10 p")
    _save(figure, folder / "curve.png")


def _bars(plt: Any, folder: Path, study: Numbers) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2))
    names = ("rho-10", "rho-10-key-1", "rho-10-key-2")
    for axis, kind in zip(axes, ("open", "closed"), strict=True):
        cases = [study[f"{kind} {name}"] for name in names if f"{kind} {name}" in study]
        if not cases:
            continue
        control = study.get(f"{kind} rho-0", {})
        rules = sorted(cases[0], key=lambda rule: math.fsum(case[rule]["z"] for case in cases))
        for height, rule in enumerate(rules):
            z = [case[rule]["z"] for case in cases]
            axis.barh(height, math.fsum(z) / len(z), color="tab:blue", alpha=0.35)
            axis.plot(z, [height] * len(z), ".", color="tab:blue", markersize=4)
            if rule in control:
                axis.plot(control[rule]["z"], height, "x", color="tab:red", markersize=4)
        axis.set_yticks(range(len(rules)), rules, fontsize=7)
        axis.axvline(0, color="0.5", linewidth=0.8)
        axis.set_xlabel("z: three 10 % models (blue), clean control (red)")
        axis.set_title(f"{kind} model", fontsize=9)
    _save(figure, folder / "weightings.png")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
