"""Weighted pairs beyond memory: sums and p-value of 10^7 to 10^9 pairs from sorted files.

Every pair comes twice, far apart, with two weights that are whole numbers of 1/64; so what the sums
must be is known without holding the pairs. It is computed in memory, some distinct pairs at a time.
The run is a process of its own, whose peak must stay under a GiB, whatever the number of pairs.

    python -m benches.bench_pairs 1e8 --tmp /disk
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import radscore as rs

from benches.common import Row, peak_memory, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

VOCAB_SIZE: Final = 50_000
SIZES: Final = (10_000_000,)
MEMORY: Final = "768MiB"
ALLOWED: Final = 1 << 30
#: Pairs that are made together.
_PORTION: Final = 1 << 19
#: Primes above any number of pairs, which put them in two orders.
_ORDERS: Final = (1_000_000_007, 1_000_000_009)
_STEP: Final = 249_989  # 5 x 10^8 times this is below VOCAB_SIZE^3


def rows(sizes: tuple[int, ...] = SIZES, memory: str = MEMORY, tmp: str | None = None) -> list[Row]:
    """One row for each number of pairs."""
    return [_row(n // 2 * 2, memory, tmp) for n in sizes]


def _row(n: int, memory: str, tmp: str | None) -> Row:
    with tempfile.TemporaryDirectory(dir=tmp) as folder:
        command = [sys.executable, "-m", "benches.bench_pairs", "--child", str(n), memory, folder]
        found: dict[str, Any] = json.loads(subprocess.check_output(command))
    expected = _expected(n)
    assert found["sums"] == expected, f"{found['sums']} is not {expected}"
    assert found["n_scored"] == n // 2
    assert found["peak"] <= ALLOWED, f"{found['peak']:,} bytes of {ALLOWED:,} allowed"
    seconds, cpu = found["seconds"], found["cpu"]
    return Row(
        f"pairs with memory={memory}: sums and p-value; peak {found['peak'] / 2**20:,.0f} MiB, "
        f"{seconds:,.0f} s, {cpu:,.0f} s of CPU",
        n,
        n // 2,
        seconds / n * 1e9,
        checked="number of units and three sums, exactly",
    )


def _scheme() -> rs.Keyed:
    key = rs.Key.from_hex("000102030405060708090a0b0c0d0e0f")
    return rs.Keyed(key=key, vocab_size=VOCAB_SIZE, gamma=0.25, context_width=2)


def _pairs(numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Distinct contexts and targets of distinct numbers."""
    x = numbers * _STEP
    before = np.stack([x % VOCAB_SIZE, x // VOCAB_SIZE % VOCAB_SIZE], axis=1)
    return before, x // VOCAB_SIZE**2


def _weights(numbers: npt.NDArray[np.int64], turn: int) -> npt.NDArray[np.float64]:
    return (numbers * (7 + 4 * turn) % 129 - 64) / 64.0


def _portions(n: int) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """The numbers of the pairs in the order in which they come, and whether first or second."""
    half = n // 2
    for turn, prime in enumerate(_ORDERS):
        for start in range(0, half, _PORTION):
            yield np.arange(start, min(start + _PORTION, half)) * prime % half, turn


def _expected(n: int) -> list[float]:
    """The sums of w, w^2 and w times the score; all of them multiples of 2^-12, so exact."""
    sums = np.zeros(3)
    for start in range(0, n // 2, _PORTION):
        numbers = np.arange(start, min(start + _PORTION, n // 2))
        w = _weights(numbers, 0) + _weights(numbers, 1)
        before, after = _pairs(numbers)
        green = _scheme().scores(np.column_stack([before, after]).astype(np.uint32))
        sums += w.sum(), (w * w).sum(), (w * green).sum()
    return sums.tolist()


def _measure(n: int, memory: str, tmp: str) -> None:
    """What the child does."""
    start, before = time.perf_counter(), time.process_time()
    scorer = rs.Scorer(_scheme(), combine="sum", memory=memory, tmp=tmp)
    for numbers, turn in _portions(n):
        scorer.add_pairs(*_pairs(numbers), _weights(numbers, turn))
    tally = scorer.tallies()[0]
    result = scorer.result()
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    sums = [tally.sum_weight, tally.sum_weight_squared, tally.sum_weight_score]
    found = {"seconds": seconds, "cpu": cpu, "peak": peak_memory(), "sums": sums}
    print(json.dumps(found | {"n_scored": result.n_scored}))


def main() -> None:
    """Prints a row for each number of pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", type=float, default=SIZES)
    parser.add_argument("--memory", default=MEMORY)
    parser.add_argument("--tmp")
    parser.add_argument("--child", nargs=3)
    args = parser.parse_args()
    if args.child:
        _measure(int(args.child[0]), *args.child[1:])
        return
    print(table(rows(tuple(map(int, args.pairs)), args.memory, args.tmp)))


if __name__ == "__main__":
    main()
