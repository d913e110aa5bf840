"""vLLM's Gumbel detector in numpy: the vectorised peers of `bench_vllm_vs_numpy`.

`score` is tuned for speed: contexts are packed into 64-bit integers, `numpy.unique` finds first
occurrences, and Philox runs over blocks of windows that stay in cache. `score_plainly` is what one
would write first, and works for every width: windows are rows, `numpy.unique` of rows finds first
occurrences, and every step is one operation on whole arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["score", "score_plainly"]

U64 = np.uint64
_M: Final = (U64(0xD2511F53), U64(0xCD9E8D57))
_W: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = U64(0xFFFFFFFF)
_SHIFT: Final = U64(32)
_BLOCK: Final = 1 << 14
Words = list["npt.NDArray[np.uint64]"]


def _philox(counter: Words, key: Words) -> Words:
    """Philox4x32-10 with 32-bit words in 64-bit lanes: a product is one multiplication."""
    a, b, c, d = counter
    k, l = key
    for round_ in range(10):
        if round_:
            k = (k + U64(_W[0])) & _LOW
            l = (l + U64(_W[1])) & _LOW
        p = a * _M[0]
        q = c * _M[1]
        a, b, c, d = (q >> _SHIFT) ^ b ^ k, q & _LOW, (p >> _SHIFT) ^ d ^ l, p & _LOW
    return [a, b, c, d]


def score(ids: npt.NDArray[np.integer], key: int, context_width: int = 4) -> tuple[int, float]:
    """``(n_scored, sum of scores)`` of one document; a context counts at its first occurrence.

    Parameters
    ----------
    ids : ndarray of int, shape (n_tokens,)
        Token ids below 65,536.
    key : int
        The unsigned 64-bit key.
    context_width : int
        At most 4, so that a context is one 64-bit integer and one Philox block.
    """
    if not 1 <= context_width <= 4:
        raise ValueError(f"context_width must be from 1 to 4, not {context_width}")
    tokens = ids.astype(U64)
    n = len(tokens) - context_width
    contexts = np.zeros(n, dtype=U64)
    for j in range(context_width):
        contexts = (contexts << U64(16)) | tokens[j : j + n]
    first = np.sort(np.unique(contexts, return_index=True)[1])
    total = 0.0
    for start in range(0, len(first), _BLOCK):
        total += _block(tokens, first[start : start + _BLOCK], key, context_width)
    return len(first), total


def _block(
    tokens: npt.NDArray[np.uint64], at: npt.NDArray[np.int64], key: int, width: int
) -> float:
    low, high = U64(key & 0xFFFFFFFF), U64(key >> 32)
    state: Words = []
    for slot, start in enumerate((0x574D4358, width, 0, 0)):
        data = tokens[at + slot] if slot < width else np.full(len(at), 0xFFFFFFFF - slot, U64)
        state.append(data ^ U64(start))
    keys = [np.full(len(at), low), np.full(len(at), high)]
    state = _philox(state, keys)
    target = tokens[at + width]
    keys = [state[3] ^ low, np.full(len(at), high ^ U64(0x574D544B))]
    words = _philox([target >> U64(2), *state[:3]], keys)
    word = np.choose((target & U64(3)).astype(np.int64), words)
    # rounded to float32 once, from float64: 2^24 + 1 itself is not a float32
    uniform = (((word >> U64(8)) + U64(1)) / float(2**24 + 1)).astype(np.float32)
    return float(-np.log1p(-uniform.astype(np.float64)).sum())


def score_plainly(
    ids: npt.NDArray[np.integer], key: int, context_width: int = 4
) -> tuple[int, float]:
    """Like `score`, for any width, one array operation after another."""
    windows = np.lib.stride_tricks.sliding_window_view(ids.astype(U64), context_width + 1)
    first = np.unique(windows[:, :-1], axis=0, return_index=True)[1]
    windows = windows[first]
    n = len(windows)
    state = [np.full(n, word, U64) for word in (0x574D4358, context_width, 0, 0)]
    for offset in range(0, context_width, 4):
        for slot in range(4):
            at = offset + slot
            word = windows[:, at] if at < context_width else U64(0xFFFFFFFF - slot)
            state[slot] = state[slot] ^ word
        low, high = U64((key & 0xFFFFFFFF) ^ offset), U64(key >> 32)
        state = _philox(state, [np.full(n, low), np.full(n, high)])
    target = windows[:, -1]
    keys = [state[3] ^ U64(key & 0xFFFFFFFF), np.full(n, U64(key >> 32) ^ U64(0x574D544B))]
    words = np.stack(_philox([target >> U64(2), *state[:3]], keys), axis=1)
    word = np.take_along_axis(words, (target & U64(3)).astype(np.int64)[:, None], axis=1)[:, 0]
    uniform = (((word >> U64(8)) + U64(1)) / float(2**24 + 1)).astype(np.float32)
    return n, float(-np.log1p(-uniform.astype(np.float64)).sum())
