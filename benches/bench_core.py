"""Throughput of packing, deduplication and scoring together, on all cores.

The ids follow Zipf's law. The answer is checked twice: `n_scored` against `numpy.unique` of the
packed windows, and the whole tally against a run on one thread that gets the ids in three calls.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import radscore as rs

from benches.common import Row, table, throughput, zipf_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

VOCAB_SIZE: Final = 50_000
WIDTH: Final = 2
N_DOCUMENTS: Final = 1_000
SCHEMES: Final[dict[str, Callable[[], rs.Scheme]]] = {
    "keyed": lambda: rs.Keyed(
        key=rs.Key.from_hex("000102030405060708090a0b0c0d0e0f"),
        vocab_size=VOCAB_SIZE,
        gamma=0.25,
        context_width=WIDTH,
    ),
    "vllm": lambda: rs.VLLMGumbel(key=42, vocab_size=VOCAB_SIZE, context_width=WIDTH),
    "sglang": lambda: rs.SGLangGumbel(key=0x2A, vocab_size=VOCAB_SIZE, context_width=WIDTH),
    "textseal": lambda: rs.TextSeal(key=42, vocab_size=VOCAB_SIZE, gamma=0.25, context_width=WIDTH),
    "kgw": lambda: rs.KGW(vocab_size=VOCAB_SIZE, gamma=0.25, context_width=WIDTH, seeding="hash"),
}
SIZES: Final = {"kgw": 10**6}


def rows(most: int = 10**7) -> list[Row]:
    """One row for each scheme, of `most` tokens where `SIZES` does not say fewer."""
    return [_row(name, min(SIZES.get(name, most), most)) for name in SCHEMES]


def _row(name: str, n_tokens: int) -> Row:
    ids = zipf_ids(n_tokens, VOCAB_SIZE, seed=0)
    offsets = np.linspace(0, n_tokens, N_DOCUMENTS + 1).astype(np.int64)
    scheme = SCHEMES[name]()
    expected = _run(scheme, ids, offsets, calls=3, threads=1)
    n_distinct = _distinct_windows(ids, offsets)

    def check(result: tuple[int, float]) -> tuple[int, str]:
        assert result == expected, f"{name}: {result}, in three calls on one thread {expected}"
        assert result[0] == n_distinct, f"{name}: {result[0]} windows, numpy finds {n_distinct}"
        return result[0], "n_scored; tally of split run"

    return throughput(
        f"{name}, width {WIDTH}",
        n_tokens,
        lambda: _run(scheme, ids, offsets, calls=1, threads=None),
        check,
    )


def _run(
    scheme: rs.Scheme,
    ids: npt.NDArray[np.uint16],
    offsets: npt.NDArray[np.int64],
    calls: int,
    threads: int | None,
) -> tuple[int, float]:
    # From the first full window on, whichever way the scheme pads.
    scorer = rs.Scorer(scheme, dedup="window", start=WIDTH, threads=threads)
    edges = np.linspace(0, len(offsets) - 1, calls + 1).astype(np.int64)
    for start, stop in pairwise(edges):
        scorer.add(rs.Documents(ids, offsets[start : stop + 1]))
    result = scorer.result()
    return result.n_scored, float(result.statistic)


def _distinct_windows(ids: npt.NDArray[np.uint16], offsets: npt.NDArray[np.int64]) -> int:
    """How many distinct windows of `WIDTH` + 1 ids there are within documents."""
    n = len(ids) - WIDTH
    packed = np.zeros(n, dtype=np.uint64)
    for j in range(WIDTH + 1):
        packed = (packed << np.uint64(16)) | ids[j : j + n].astype(np.uint64)
    inside = np.ones(n, dtype=bool)
    for back in range(1, WIDTH + 1):
        inside[offsets[1:-1] - back] = False
    return len(np.unique(packed[inside]))


if __name__ == "__main__":
    print(table(rows()))
