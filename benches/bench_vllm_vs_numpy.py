"""radscore on one and two threads against numpy detectors of vLLM's Gumbel watermark."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import radscore as rs

from benches import numpy_vllm
from benches.common import Row, compare, table, zipf_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

VOCAB_SIZE: Final = 32_000
KEY: Final = 12_345_678_901_234_567_890
N_TOKENS: Final = 4_000_000


def rows(n_tokens: int = N_TOKENS) -> list[Row]:
    """Rows for two context widths: 2 repeats its contexts often, 4 hardly ever."""
    return [
        _row(n_tokens, width, threads, peer)
        for width in (2, 4)
        for threads, peer in (
            (1, numpy_vllm.score),
            (2, numpy_vllm.score),
            (2, numpy_vllm.score_plainly),
        )
    ]


def _row(n_tokens: int, width: int, threads: int, peer: Callable[..., tuple[int, float]]) -> Row:
    ids = zipf_ids(n_tokens, VOCAB_SIZE, seed=width)
    scheme = rs.VLLMGumbel(key=KEY, vocab_size=VOCAB_SIZE, context_width=width)
    return compare(
        f"vllm gumbel, width {width}; {threads} thread{'s' * (threads > 1)}",
        n_tokens,
        lambda: _score(scheme, ids, threads),
        "numpy" if peer is numpy_vllm.score else "numpy, plain",
        lambda: peer(ids, KEY, width),
        check=_check,
        repetitions=3,
    )


def _score(scheme: rs.VLLMGumbel, ids: npt.NDArray[np.uint16], threads: int) -> tuple[int, float]:
    # vLLM pads contexts from the first token; the peers score full windows only.
    scorer = rs.Scorer(scheme, dedup="context", start=scheme.context_width, threads=threads)
    scorer.add([ids])
    result = scorer.result()
    return result.n_scored, result.statistic


def _check(ours: tuple[int, float], theirs: tuple[int, float]) -> tuple[int, str]:
    assert ours[0] == theirs[0], f"radscore scores {ours[0]} windows, numpy {theirs[0]}"
    assert math.isclose(ours[1], theirs[1], rel_tol=1e-9), f"sums {ours[1]} and {theirs[1]}"
    return ours[0], "n_scored equal, sum to 1e-9"


if __name__ == "__main__":
    print(table(rows()))
