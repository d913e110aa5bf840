"""What the benchmarks share: token streams, interleaved timing, one table."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import radscore as rs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

__all__ = [
    "Row",
    "compare",
    "machine",
    "peak_memory",
    "table",
    "throughput",
    "uniform_ids",
    "zipf_ids",
]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; times are in nanoseconds per token."""

    what: str
    n_tokens: int
    n_scored: int
    radscore: float
    peer: str = ""
    theirs: float = math.nan
    ratio: float = math.nan
    checked: str = ""


def peak_memory() -> int:
    """Most bytes that this process has held; getrusage would include the one before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def uniform_ids(n: int, vocab_size: int, seed: int) -> npt.NDArray[np.int64]:
    """Ids without structure: nearly every context is new, so caches make no difference."""
    return np.random.default_rng(seed).integers(0, vocab_size, n)


def zipf_ids(n: int, vocab_size: int, seed: int) -> npt.NDArray[np.uint16]:
    """Ids by Zipf's law over the whole vocabulary (exponent 1), as repetitive as text."""
    rng = np.random.default_rng(seed)
    ranks = np.exp(rng.random(n) * math.log(vocab_size + 1)).astype(np.int64) - 1
    names = rng.permutation(vocab_size)
    return names[np.minimum(ranks, vocab_size - 1)].astype(np.uint16)


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def compare(
    what: str,
    n_tokens: int,
    ours: Callable[[], Any],
    peer: str,
    theirs: Callable[[], Any],
    *,
    check: Callable[[Any, Any], tuple[int, str]],
    repetitions: int = 5,
    per_token_read: bool = False,
) -> Row:
    """Times both in turns, after one call of each; the ratio is the median over the turns.

    Parameters
    ----------
    per_token_read : bool
        Whether times are per token read, not per token scored.
    check : callable
        Gets both answers of every turn; asserts that they agree, and returns ``(n_scored, what
        was compared)``.
    """
    n_scored, checked = check(ours(), theirs())
    times: list[tuple[float, float]] = []
    for _ in range(repetitions):
        mine, answer = _seconds(ours)
        other, expected = _seconds(theirs)
        check(answer, expected)
        times.append((mine, other))
    nanoseconds = 1e9 / (n_tokens if per_token_read else n_scored)
    return Row(
        what,
        n_tokens,
        n_scored,
        statistics.median(mine for mine, _ in times) * nanoseconds,
        peer,
        statistics.median(other for _, other in times) * nanoseconds,
        statistics.median(other / mine for mine, other in times),
        checked,
    )


def throughput(
    what: str,
    n_tokens: int,
    ours: Callable[[], Any],
    check: Callable[[Any], tuple[int, str]],
    repetitions: int = 3,
) -> Row:
    """Times a call without a peer, per token read."""
    n_scored, checked = check(ours())
    median = statistics.median(_seconds(ours)[0] for _ in range(repetitions))
    return Row(what, n_tokens, n_scored, median / n_tokens * 1e9, checked=checked)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table whose columns also line up in a terminal."""
    head = ("what", "tokens", "scored", "radscore", "peer", "", "ratio", "answer checked")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    alone = math.isnan(row.ratio)
    speed = f"{1e3 / row.radscore:.1f} M tokens/s"
    return (
        row.what,
        f"{row.n_tokens:,}",
        f"{row.n_scored:,}",
        speed if alone else _nanoseconds(row.radscore),
        row.peer,
        "" if alone else _nanoseconds(row.theirs),
        "" if alone else f"{row.ratio:.3g}x",
        row.checked,
    )


def _nanoseconds(value: float) -> str:
    return f"{value:,.0f} ns" if value >= 100 else f"{value:.1f} ns"


def machine() -> str:
    """The processor, its cores and load, and the versions of everything involved."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    found = [f"radscore {rs.__version__}"]
    for package in ("duckdb", "numpy", "polars", "tokenizers", "torch", "transformers"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    python = platform.python_version()
    load = f"load {os.getloadavg()[0]:.1f} before the run"
    return f"{model}, {os.cpu_count()} cores, {load}; Python {python}, " + ", ".join(found)
