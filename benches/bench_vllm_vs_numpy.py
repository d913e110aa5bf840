"""radscore against a vectorised numpy detector of vLLM's Gumbel watermark, one thread each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import radscore as rs

from benches import numpy_vllm
from benches.common import Row, compare, table, zipf_ids

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VOCAB_SIZE: Final = 32_000
KEY: Final = 12_345_678_901_234_567_890
N_TOKENS: Final = 1_000_000


def rows() -> list[Row]:
    """One row for each context width: 2 repeats its contexts often, 4 hardly ever."""
    return [_row(width) for width in (2, 4)]


def _row(width: int) -> Row:
    ids = zipf_ids(N_TOKENS, VOCAB_SIZE, seed=width)
    scheme = rs.VLLMGumbel(key=KEY, vocab_size=VOCAB_SIZE, context_width=width)
    return compare(
        f"vllm gumbel, width {width}",
        N_TOKENS,
        lambda: _score(scheme, ids),
        "numpy",
        lambda: numpy_vllm.score(ids, KEY, width),
        check=_check,
    )


def _score(scheme: rs.VLLMGumbel, ids: npt.NDArray[np.uint16]) -> tuple[int, float]:
    scorer = rs.Scorer(scheme, dedup="context", threads=1)
    scorer.add([ids])
    result = scorer.result()
    return result.n_scored, result.statistic


def _check(ours: tuple[int, float], theirs: tuple[int, float]) -> tuple[int, str]:
    assert ours[0] == theirs[0], f"radscore scores {ours[0]} windows, numpy {theirs[0]}"
    assert math.isclose(ours[1], theirs[1], rel_tol=1e-9), f"sums {ours[1]} and {theirs[1]}"
    return ours[0], "n_scored equal, sum to 1e-9"


if __name__ == "__main__":
    print(table(rows()))
