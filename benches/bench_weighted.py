"""Weighted units under many keys: what a further key costs, against one of plain scoring.

Pairs of random tokens with normal weights, most of them distinct. One row for each scheme; the
ratio is that of a further key with weights to one without, in the same run. The sums of the last
key are checked against `math.fsum` over its units, one by one.

    python -m benches.bench_weighted 1e7 --decoys 1000
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import radscore as rs

from benches.common import Row, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore import _core

VOCAB_SIZE: Final = 50_000
N_PAIRS: Final = 2_000_000
REPETITIONS: Final = 3
KEY: Final = rs.Key.from_hex("000102030405060708090a0b0c0d0e0f")


def _schemes() -> dict[str, tuple[rs.schemes.Scheme, int, int]]:
    """Each with so many further keys, and one pair in so many."""
    common: dict[str, Any] = {"vocab_size": VOCAB_SIZE}
    narrow: dict[str, Any] = {"gamma": 0.25, "context_width": 2, **common}
    minhash = rs.SBW(key=7, seeding="minhash", self_salt=False, **narrow)
    return {
        "keyed": (rs.Keyed(key=KEY, **narrow), 40, 1),
        "keyed, Gumbel": (rs.Keyed(key=KEY, method="gumbel", context_width=2, **common), 40, 1),
        "SBW, minhash": (minhash, 8, 1),
        "SynthID, table": (rs.SynthID(keys=tuple(range(1, 31)), context_width=2, **common), 8, 1),
        "KGW, lists": (rs.KGW(hash_key=15485863, seeding="additive", **narrow), 4, 100),
    }


def rows(n_pairs: int = N_PAIRS, decoys: int | None = None) -> list[Row]:
    """One row for each scheme, all cores, nanoseconds per pair and key."""
    chosen = _schemes()
    if decoys is not None:
        chosen = {"keyed": (chosen["keyed"][0], decoys, 1)}
    return [_row(name, *one, n_pairs) for name, one in chosen.items()]


def _row(name: str, scheme: rs.schemes.Scheme, further: int, part: int, n_pairs: int) -> Row:
    rng = np.random.default_rng(0)
    n = n_pairs // part
    width = scheme.window_width - 1
    pairs = rng.integers(1, VOCAB_SIZE, (n, width)), rng.integers(0, VOCAB_SIZE, n)
    weights = rng.normal(size=n)
    schemes = [scheme, *scheme.decoys(further, seed=1)]
    _check(schemes, pairs, weights)
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(REPETITIONS if n_pairs >= 100_000 else 1):
        for times, own in ((mine, weights), (theirs, None)):
            alone, many = (_run(some, pairs, own)[0] for some in (schemes[:1], schemes))
            times.append(max(many - alone, 1e-9) / further / n * 1e9)
    return Row(
        f"{name}, a further key of {further}",
        n,
        n,
        statistics.median(mine),
        "the same without weights",
        statistics.median(theirs),
        statistics.median(one / other for one, other in zip(mine, theirs, strict=True)),
        "sums of the last key, one unit at a time",
    )


def _run(
    schemes: Sequence[rs.schemes.Scheme], pairs: Any, weights: Any
) -> tuple[float, list[_core.Tally], rs.Scorer]:
    scorer = rs.Scorer(schemes, combine="one" if weights is None else "sum")
    contexts, targets = pairs
    scorer.add_pairs(contexts, targets, weights)
    start = time.perf_counter()
    tallies = scorer.tallies()
    return time.perf_counter() - start, tallies, scorer


def _check(schemes: Sequence[rs.schemes.Scheme], pairs: Any, weights: Any) -> None:
    _, tallies, scorer = _run(schemes, pairs, weights)
    last = len(schemes) - 1
    units = scorer.core.weighted_units(last)
    assert units is not None
    w, scores, _, _ = units
    tally = tallies[last]
    expected = (math.fsum(w), math.fsum(w * w), math.fsum(w * scores))
    found = (tally.sum_weight, tally.sum_weight_squared, tally.sum_weight_score)
    assert found == expected, f"{schemes[0].name}: {found} is not {expected}"
    assert len(w) > 0.9 * len(weights) or schemes[0].core.residues


def main() -> None:
    """Prints a row for each scheme; with --decoys, one of `Keyed` alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="?", type=float, default=N_PAIRS)
    parser.add_argument("--decoys", type=int)
    args = parser.parse_args()
    print(table(rows(int(args.pairs), args.decoys)))


if __name__ == "__main__":
    main()
