"""Packing, deduplication and scoring from memory, against counting distinct keys alone.

polars' `n_unique` and DuckDB's `count(distinct)` get the windows already packed, as u64, and count;
radscore packs the ids, deduplicates, and scores each distinct window under a key. Each on all
in turns, in one process; answers are compared.

    python -m benches.bench_flow [tokens]
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import radscore as rs

from benches.generate import zipf_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

VOCAB_SIZE: Final = 50_000
EOD: Final = 0
SCHEMES: Final[dict[str, Callable[[], rs.Scheme]]] = {
    "keyed": lambda: rs.Keyed(
        key=rs.Key.from_hex("000102030405060708090a0b0c0d0e0f"),
        vocab_size=VOCAB_SIZE,
        gamma=0.25,
        context_width=2,
    ),
    "vllm": lambda: rs.VLLMGumbel(key=42, vocab_size=VOCAB_SIZE, context_width=2),
    "sbw": lambda: rs.SBW(key=42, vocab_size=VOCAB_SIZE, gamma=0.25),
}


def main(n: int, repetitions: int = 5) -> None:
    """Prints medians of rates and ratios."""
    ids = zipf_text(n, VOCAB_SIZE, 0, EOD)
    ends = np.flatnonzero(ids == EOD) + 1
    offsets = np.unique(np.concatenate((np.zeros(1, np.int64), ends, np.array([n]))))
    documents = rs.Documents(ids, offsets)
    keys = _keys(ids, offsets)
    peers = {"polars": _polars(keys), "duckdb": _duckdb(keys)}
    ours = {name: (lambda make=make: _score(make(), documents)) for name, make in SCHEMES.items()}
    times: dict[str, list[float]] = {name: [] for name in (*ours, *peers)}
    for turn in range(repetitions + 1):
        for name, call in (*ours.items(), *peers.items()):
            start = time.perf_counter()
            found = call()
            seconds = time.perf_counter() - start
            if name in ("keyed", "vllm", "polars", "duckdb"):
                assert found == _EXPECTED.setdefault(n, found), f"{name}: {found}"
            if turn:  # the first turn warms memory up
                times[name].append(seconds)
    for name, own in times.items():
        ratios = [
            f"{statistics.median(b / a for a, b in zip(own, times[p], strict=True)):.2f}x {p}"
            for p in peers
        ]
        rate = n / statistics.median(own) / 1e6
        print(f"{name:8} {rate:7.1f} M/s  {', '.join(ratios)}", flush=True)


_EXPECTED: dict[int, int] = {}


def _score(scheme: rs.Scheme, documents: rs.Documents) -> int:
    scorer = rs.Scorer(scheme)
    scorer.add(documents)
    return scorer.result().n_scored


def _keys(ids: npt.NDArray[np.uint16], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    inside = np.ones(len(ids) - 2, dtype=bool)
    for back in (1, 2):
        edges = offsets[1:-1] - back
        inside[edges[(edges >= 0) & (edges < len(inside))]] = False
    wide = ids.astype(np.uint64)
    packed = (wide[:-2] << np.uint64(32)) | (wide[1:-1] << np.uint64(16)) | wide[2:]
    return packed[inside]


def _polars(keys: npt.NDArray[np.uint64]) -> Callable[[], int]:
    import polars as pl

    series = pl.Series(keys)
    return lambda: int(series.n_unique())


def _duckdb(keys: npt.NDArray[np.uint64]) -> Callable[[], int]:
    import duckdb

    connection: Any = duckdb.connect()
    connection.register("given", {"key": keys})
    connection.execute("create table packed as select key from given")
    query = "select count(distinct key) from packed"
    return lambda: int(connection.execute(query).fetchone()[0])


if __name__ == "__main__":
    main(int(float(sys.argv[1])) if len(sys.argv) > 1 else 10**8)
