"""What each additional decoy key of the keyed scheme costs, relative to the pass over the corpus.

The pass reads, packs, deduplicates and scores under one key; more keys are scored in the same pass.
The ids follow Zipf's law, as in `bench_core`. The tallies of the first and the last key are checked
against scorers with these keys alone.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

import radscore as rs

from benches.common import Row, table, zipf_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

VOCAB_SIZE: Final = 50_000
N_TOKENS: Final = 4_000_000
N_DECOYS: Final = 10
REPETITIONS: Final = 5


def rows() -> list[Row]:
    """One row for each kernel, all cores."""
    before = rs.kernels.kernel()
    try:
        return [_row(kernel) for kernel in rs.kernels.available_kernels()]
    finally:
        rs.kernels.set_kernel(before)


def _row(kernel: str) -> Row:
    rs.kernels.set_kernel(kernel)
    ids = zipf_ids(N_TOKENS, VOCAB_SIZE, seed=0)
    key = rs.Key.from_hex("000102030405060708090a0b0c0d0e0f")
    scheme = rs.Keyed(key=key, vocab_size=VOCAB_SIZE, gamma=0.25, context_width=2)
    schemes = [scheme, *scheme.decoys(N_DECOYS, seed=1)]
    together = _run(schemes, ids)[1]
    for end in (0, N_DECOYS):
        assert together[end] == _run(schemes[end : end + 1], ids)[1][0], f"key {end} alone differs"
    times = [(_run(schemes[:1], ids)[0], _run(schemes, ids)[0]) for _ in range(REPETITIONS)]
    nanoseconds = 1e9 / N_TOKENS
    alone = statistics.median(one for one, _ in times)
    further = [(many - one) / N_DECOYS for one, many in times]
    return Row(
        f"keyed, width 2; {kernel}",
        N_TOKENS,
        together[0][0],
        alone * nanoseconds,
        "one more key",
        statistics.median(further) * nanoseconds,
        statistics.median(more / one for more, (one, _) in zip(further, times, strict=True)),
        "tallies of both ends alone",
    )


def _run(
    schemes: Sequence[rs.Scheme], ids: npt.NDArray[np.uint16]
) -> tuple[float, list[tuple[int, float]]]:
    start = time.perf_counter()
    scorer = rs.Scorer(list(schemes), dedup="window")
    scorer.add([ids])
    results = [(result.n_scored, float(result.statistic)) for result in scorer.results()]
    return time.perf_counter() - start, results


if __name__ == "__main__":
    print(table(rows()))
