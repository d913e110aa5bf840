"""radscore against transformers' `WatermarkDetector`, per scored token.

The detector runs on one thread; radscore on one, under each of the machine's kernels, and on two.

The ids are uniform over the vocabulary: nearly every context is new, so neither side benefits from
repetition. Both count each distinct window once; the counts must be equal in every turn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import radscore as rs

from benches.common import Row, compare, table, uniform_ids

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VOCAB_SIZE: Final = 32_000
GAMMA: Final = 0.25
HASH_KEY: Final = 15_485_863
N_TOKENS: Final = 10_000
CASES: Final = (("lefthash", 1), ("lefthash", 2), ("selfhash", 4))
#: The case that is measured under every kernel.
EVERY_KERNEL: Final = ("lefthash", 2)


def rows() -> list[Row]:
    """One row for each seeding, kernel and number of threads."""
    torch: Any = importlib.import_module("torch")
    threads, before, fastest = (
        torch.get_num_threads(),
        rs.kernels.kernel(),
        rs.kernels.available_kernels()[-1],
    )
    torch.set_num_threads(1)
    try:
        return [
            _row(torch, seeding, width, kernel, workers)
            for seeding, width in CASES
            for kernel in _kernels((seeding, width))
            for workers in ((1, 2) if kernel == fastest else (1,))
        ]
    finally:
        torch.set_num_threads(threads)
        rs.kernels.set_kernel(before)


def _kernels(case: tuple[str, int]) -> tuple[str, ...]:
    return (
        rs.kernels.available_kernels()
        if case == EVERY_KERNEL
        else rs.kernels.available_kernels()[-1:]
    )


def _row(torch: Any, seeding: str, width: int, kernel: str, workers: int) -> Row:
    transformers: Any = importlib.import_module("transformers")
    ids = uniform_ids(N_TOKENS, VOCAB_SIZE, seed=width)
    config = transformers.WatermarkingConfig(
        greenlist_ratio=GAMMA,
        hashing_key=HASH_KEY,
        seeding_scheme=seeding,
        context_width=width,
    )
    # the detector drops a first token that is the model's bos: name another one
    bos = (int(ids[0]) + 1) % VOCAB_SIZE
    model = transformers.PretrainedConfig(vocab_size=VOCAB_SIZE, bos_token_id=bos)
    detector = transformers.WatermarkDetector(model, "cpu", config, ignore_repeated_ngrams=True)
    scheme = rs.KGW.from_transformers(config, VOCAB_SIZE)
    batch = torch.from_numpy(ids)[None]
    rs.kernels.set_kernel(kernel)
    return compare(
        f"transformers {seeding}, width {width}; {kernel}, {workers} thread{'s' * (workers > 1)}",
        N_TOKENS,
        lambda: _counts(scheme, ids, workers),
        "transformers",
        lambda: _detect(detector, batch),
        check=_check,
        repetitions=7,
    )


def _counts(scheme: rs.KGW, ids: npt.NDArray[np.int64], workers: int) -> tuple[int, int]:
    scorer = rs.Scorer(scheme, dedup="window", threads=workers)
    scorer.add([ids])
    result = scorer.result()
    assert result.n_green is not None
    return result.n_scored, result.n_green


def _detect(detector: Any, batch: Any) -> tuple[int, int]:
    found = detector(batch, return_dict=True)
    return int(found.num_tokens_scored[0]), int(found.num_green_tokens[0])


def _check(ours: tuple[int, int], theirs: tuple[int, int]) -> tuple[int, str]:
    assert ours == theirs, f"radscore counts (n_scored, n_green) {ours}, transformers {theirs}"
    return ours[0], "n_scored, n_green equal"


if __name__ == "__main__":
    print(table(rows()))
