"""SynthID with transformers' table on a large corpus: what a token costs, and whether 1 % is found.

One in a hundred random documents is marked, by SynthID's tournament over 16 likely tokens. Each
distinct window counts by its residue, and the p-value comes from the exact law over keys. A corpus
without marks must not be found. ``python -m benches.bench_synthid --tokens 1e8`` takes a few
minutes; the default is small.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Final

import numpy as np
import radscore as rs

from benches.common import Row, table

if TYPE_CHECKING:
    import numpy.typing as npt

VOCAB_SIZE: Final = 4000
LENGTH: Final = 200
CANDIDATES: Final = 16
MARKED: Final = 0.01
N_TOKENS: Final = 4_000_000


def rows(n_tokens: int = N_TOKENS) -> list[Row]:
    """A corpus with 1 % marked and one without, under the mean and the weighted mean."""
    found = []
    rng = np.random.default_rng(1)
    for method in ("mean", "weighted_mean"):
        scheme = rs.SynthID(vocab_size=VOCAB_SIZE, keys=tuple(range(101, 131)), method=method)
        n_documents = n_tokens // LENGTH
        marked = _marked(scheme, int(MARKED * n_documents), rng)
        for what, share in (("1 % marked", marked), ("none marked", marked[:0])):
            scorer = rs.Scorer(scheme)
            reading = 0.0
            rest = n_documents - len(share)
            for size in [len(share)] * bool(len(share)) + _parts(rest):
                own = share if size == len(share) and not scorer.n_tokens else None
                ids = own if own is not None else rng.integers(0, VOCAB_SIZE, (size, LENGTH))
                documents = rs.Documents(
                    np.ascontiguousarray(ids, dtype=np.uint16).ravel(),
                    np.arange(0, len(ids) * LENGTH + 1, LENGTH),
                )
                start = time.perf_counter()
                scorer.add(documents)
                reading += time.perf_counter() - start
            start = time.perf_counter()
            scorer.tallies()
            reading += time.perf_counter() - start
            start = time.perf_counter()
            result = scorer.result()
            testing = time.perf_counter() - start
            assert (result.log10_pvalue < -3) == bool(len(share)), result
            found.append(
                Row(
                    f"SynthID, {method}, {what}",
                    scorer.n_tokens,
                    result.n_scored,
                    reading / scorer.n_tokens * 1e9,
                    checked=f"z {result.zscore:.1f}, log10 p {result.log10_pvalue:.1f}, "
                    f"{testing:.2f} s for the test",
                )
            )
    return found


def _parts(n_documents: int) -> list[int]:
    """Numbers of documents that are made at once."""
    most = 50_000
    return [min(most, n_documents - start) for start in range(0, n_documents, most)]


def _marked(scheme: rs.SynthID, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Documents by tournament: 30 layers over 16 equally likely tokens at each position."""
    ids = rng.integers(0, VOCAB_SIZE, (n, LENGTH))
    rest = np.arange(n)
    for at in range(scheme.context_width, LENGTH):
        candidates = rng.integers(0, VOCAB_SIZE, (n, CANDIDATES))
        context = np.repeat(ids[:, at - scheme.context_width : at], CANDIDATES, axis=0)
        g = scheme.scores(np.column_stack([context, candidates.ravel()]))
        chances = np.full((n, CANDIDATES), 1.0 / CANDIDATES)
        for layer in g.reshape(n, CANDIDATES, -1).transpose(2, 0, 1).astype(float):
            chances *= 1.0 + layer - (chances * layer).sum(axis=1, keepdims=True)
        chosen = (chances.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
        ids[:, at] = candidates[rest, np.minimum(chosen, CANDIDATES - 1)]
    return ids


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=float, default=N_TOKENS, metavar="N")
    print(table(rows(int(parser.parse_args().tokens))))
