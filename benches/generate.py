"""Token ids like those of a corpus: Zipf's law, with phrases and passages that recur.

`zipf_text` draws ids by Zipf's law, then copies: short phrases often, long passages now and then,
as corpora repeat themselves. At 1e8 tokens about 0.6 of all windows of three ids are distinct.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["BLOCK", "zipf_text"]

#: Ids that are drawn together.
BLOCK = 1 << 22
_PHRASE = 8
#: Shares of the text that repeat phrases, and long passages, of a fixed store.
_PHRASES, _PASSAGES = 0.25, 0.06


def zipf_text(
    n: int, vocab_size: int, seed: int, eod: int | None = None, *, first: int = 0
) -> npt.NDArray[np.uint16]:
    """`n` ids; `eod`, if given, ends documents of 1,000 tokens on average.

    A text can be made piece by piece: `first` is the number of the first block of `BLOCK` ids.
    """
    out = np.empty(n, dtype=np.uint16)
    names = np.random.default_rng(seed).permutation(vocab_size).astype(np.uint16)
    store = _block(1 << 20, vocab_size, np.random.default_rng([seed, 1]))
    for number, start in enumerate(range(0, n, BLOCK), start=first):
        rng = np.random.default_rng([seed, 2, number])
        size = min(BLOCK, n - start)
        ids = _block(size, vocab_size, rng)
        _copy(ids, store, int(size * _PHRASES) // _PHRASE, _PHRASE, rng)
        _copy(ids, store, int(size * _PASSAGES) // 512, 512, rng)
        block = names[ids]
        if eod is not None:
            block[rng.random(size) < 1e-3] = eod
        out[start : start + size] = block
    return out


def _block(size: int, vocab_size: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Ranks by Zipf's law (exponent 1)."""
    draws = rng.random(size, dtype=np.float32)
    ranks: npt.NDArray[np.int32]
    ranks = np.exp(draws * np.float32(np.log(vocab_size + 1))).astype(np.int32) - 1
    return np.minimum(ranks, vocab_size - 1, out=ranks)


def _copy(
    ids: npt.NDArray[np.int32],
    store: npt.NDArray[np.int32],
    count: int,
    length: int,
    rng: np.random.Generator,
) -> None:
    """Copies `count` stretches of the store to random offsets, early ones most often."""
    if len(ids) <= length:
        return
    favourites = np.exp(rng.random(count) * np.log(len(store) // length)).astype(np.int64) - 1
    to = rng.integers(0, len(ids) - length, count)[:, None] + np.arange(length)
    ids[to] = store[(favourites * length)[:, None] + np.arange(length)]


def main() -> None:
    """Writes a headerless file of uint16 ids."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--tokens", type=float, default=1e8)
    parser.add_argument("--vocab-size", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eod", type=int, default=0)
    args = parser.parse_args()
    total, step = int(args.tokens), 16 * BLOCK
    with args.path.open("wb") as file:
        for start in range(0, total, step):
            n = min(step, total - start)
            first = start // BLOCK
            zipf_text(n, args.vocab_size, args.seed, args.eod, first=first).tofile(file)


if __name__ == "__main__":
    main()
