"""Packing, deduplication and scoring from memory, against counting distinct keys alone.

polars' `n_unique` and DuckDB's `count(distinct)` get the same windows already packed, as u64, and
count the distinct ones; radscore packs the ids, deduplicates, and scores under a key. Both use all
cores, in turns.

    python -m benches.bench_flow [tokens]
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import radscore as rs

from benches.common import Row, compare, table
from benches.generate import zipf_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

VOCAB_SIZE: Final = 50_000
EOD: Final = 0
N_TOKENS: Final = 100_000_000
_KEY: Final = rs.Key.from_hex("000102030405060708090a0b0c0d0e0f")


def _schemes() -> dict[str, rs.Scheme]:
    """Sorted by window width, so each peer's keys are made once."""
    return {
        "keyed, width 2": rs.Keyed(key=_KEY, vocab_size=VOCAB_SIZE, gamma=0.25, context_width=2),
        "vllm Gumbel, width 2": rs.VLLMGumbel(key=42, vocab_size=VOCAB_SIZE, context_width=2),
        "sglang Gumbel, width 2": rs.SGLangGumbel(key=42, vocab_size=VOCAB_SIZE, context_width=2),
        "sbw lefthash, width 1": rs.SBW(
            key=42,
            vocab_size=VOCAB_SIZE,
            gamma=0.25,
            seeding="additive",
            context_width=1,
            self_salt=False,
        ),
        "sbw selfhash, width 4": rs.SBW(key=42, vocab_size=VOCAB_SIZE, gamma=0.25),
    }


def rows(n: int = N_TOKENS) -> list[Row]:
    """Two rows for each scheme: against polars and against DuckDB."""
    ids = zipf_text(n, VOCAB_SIZE, 0, EOD)
    ends = np.flatnonzero(ids == EOD) + 1
    offsets = np.unique(np.concatenate((np.zeros(1, np.int64), ends, np.array([n]))))
    documents = rs.Documents(ids, offsets)
    found, width = [], 0
    for name, scheme in _schemes().items():
        if scheme.window_width != width:
            width = scheme.window_width
            keys = _keys(ids, offsets, width)
            peers = {"polars": _polars(keys), "DuckDB": _duckdb(keys)}
            del keys
        # vLLM pads contexts from the first token; its peers count whole windows only.
        start = scheme.context_width if isinstance(scheme, rs.VLLMGumbel) else None
        ours = partial(rs.score, documents, scheme, start=start)
        # Where units are not windows, fewer are scored; that the windows are the same is seen here.
        windows = ours(dedup="window").n_scored
        for peer, theirs in peers.items():
            check = partial(_check, windows, ours())
            row = compare(
                name, n, ours, peer, theirs, check=check, repetitions=3, per_token_read=True
            )
            found.append(row)
    return found


def _check(
    windows: int, expected: rs.ScoreResult, ours: rs.ScoreResult, theirs: int
) -> tuple[int, str]:
    assert windows == theirs, f"radscore has {windows} distinct windows, the peer {theirs}"
    assert ours == expected, "results differ from turn to turn"
    return ours.n_scored, "distinct windows equal"


def _keys(
    ids: npt.NDArray[np.uint16], offsets: npt.NDArray[np.int64], width: int
) -> npt.NDArray[np.uint64]:
    """The windows of all documents, 16 bits per id."""
    count = len(ids) - width + 1
    packed = np.zeros(count, dtype=np.uint64)
    inside = np.ones(count, dtype=bool)
    for position in range(width):
        packed <<= np.uint64(16)
        packed |= ids[position : position + count]
    for back in range(1, width):
        edges = offsets[1:-1] - back
        inside[edges[(edges >= 0) & (edges < count)]] = False
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
    connection.unregister("given")
    query = "select count(distinct key) from packed"
    return lambda: int(connection.execute(query).fetchone()[0])


if __name__ == "__main__":
    print(table(rows(int(float(sys.argv[1])) if len(sys.argv) > 1 else N_TOKENS)))
