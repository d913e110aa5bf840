"""Alice's text, marked or not, and suspects that copy, quote, continue or ignore what they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import radscore as rs

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.schemes import Scheme

__all__ = ["SUSPECTS", "VOCAB", "Rows", "World", "schemes"]

Rows: TypeAlias = npt.NDArray[np.int64]

VOCAB = 512
_KEY = rs.Key(bytes(16))
_HABITS = 4  # usual followers of a token
_STRAY = 0.15  # how often another token follows
_PIECE = 4  # tokens in a quotation
_TRIES = 4  # draws from which marked text takes the best


def schemes() -> dict[str, Scheme]:
    """Every scheme, and every seeding of those that have several."""
    lists: dict[str, Any] = {"vocab_size": VOCAB, "gamma": 0.25}
    hf = {"greenlist_ratio": 0.25}
    named = rs.KGW.from_lm_watermarking
    found: dict[str, Scheme] = {
        "Keyed": rs.Keyed(key=_KEY, context_width=2, **lists),
        "Keyed, Gumbel": rs.Keyed(key=_KEY, context_width=2, method="gumbel", vocab_size=VOCAB),
        "VLLMGumbel": rs.VLLMGumbel(vocab_size=VOCAB, key=1, context_width=2),
        "VLLMDualKeyGumbel": rs.VLLMDualKeyGumbel(vocab_size=VOCAB, key=1, context_width=2),
        "SGLangGumbel": rs.SGLangGumbel(vocab_size=VOCAB, key=1, context_width=2),
        "GumbelMax": rs.GumbelMax(vocab_size=VOCAB, context_width=2, seed=1),
        "KGW hash": rs.KGW(context_width=2, seeding="hash", seed=1, **lists),
        "KGW lefthash, width 4 (HF)": rs.KGW.from_transformers(
            {**hf, "seeding_scheme": "lefthash", "context_width": 4}, VOCAB
        ),
        "KGW selfhash (HF)": rs.KGW.from_transformers(
            {**hf, "seeding_scheme": "selfhash", "context_width": 2}, VOCAB
        ),
        "SynthID": rs.SynthID(vocab_size=VOCAB, keys=tuple(range(1, 9)), context_width=2),
        "SynthIDDeepMind": rs.SynthIDDeepMind(
            vocab_size=VOCAB, keys=tuple(range(1, 9)), context_width=2
        ),
        "TextSeal": rs.TextSeal(key=1, context_width=2, **lists),
        "SBW lefthash": rs.SBW.from_sbw("gpu-simple_1", key=1, **lists),
        "SBW selfhash": rs.SBW(key=1, **lists),
    }
    for prf in (
        "multiplicative", "additive", "minfunc", "simple_skip", "skipgram", "anchored_skipgram",
        "minhash", "anchored_minhash", "minskipgram", "noncomm", "position",
    ):  # fmt: skip
        found[f"KGW {prf}"] = named(f"ff-{prf}-3-False-15485863", **lists)
    found["KGW selfhash"] = named("selfhash", **lists)
    return found


@dataclass(frozen=True)
class World:
    """A language: which tokens usually follow which.

    Parameters
    ----------
    rng : Generator
        All text is drawn from it.
    """

    rng: np.random.Generator

    @property
    def habits(self) -> Rows:
        """The followers of each token, which form cliques: text loops as speech does."""
        fixed = np.random.default_rng(7)
        cliques = np.arange(VOCAB) // 8 * 8
        return cliques[:, None] + fixed.integers(0, 8, (VOCAB, _HABITS))

    def _next(self, last: Rows, habits: Rows) -> Rows:
        n = len(last)
        usual = habits[last, self.rng.integers(0, _HABITS, n)]
        stray = self.rng.random(n) < _STRAY
        return np.where(stray, self.rng.integers(1, VOCAB, n), usual)

    def text(self, n: int, length: int, scheme: Scheme | None = None, *, hidden: int = 0) -> Rows:
        """Documents as Alice's model writes them, marked if a scheme is given.

        Marked text takes the one of a few usual continuations that scores best under the key,
        which works for every scheme; how their own samplers choose makes no difference to a null
        suspect. The tokens that preceded it are left out, so its first tokens are marked as well,
        after contexts that nobody sees.
        """
        if scheme is not None and not hidden and scheme.reaches_prompt:
            hidden = scheme.window_width - 1
            return self.text(n, length + hidden, scheme, hidden=hidden)[:, hidden:]
        habits = self.habits
        rows = self.rng.integers(1, VOCAB, (n, 1))
        while rows.shape[1] < length:
            drawn = [self._next(rows[:, -1], habits) for _ in range(_TRIES if scheme else 1)]
            if scheme is None or rows.shape[1] < scheme.window_width - 1:
                rows = np.column_stack([rows, drawn[0]])
                continue
            context = rows[:, rows.shape[1] - (scheme.window_width - 1) :]
            windows = np.concatenate([np.column_stack([context, one]) for one in drawn])
            scores = np.asarray(scheme.scores(windows.astype(np.uint32)), dtype=np.float64)
            if scores.ndim == 2:
                scores = scores.mean(axis=1)
            best = scores.reshape(len(drawn), n).argmax(axis=0)
            rows = np.column_stack([rows, np.array(drawn)[best, np.arange(n)]])
        return rows

    def copies(self, read: Rows, length: int) -> Rows:
        """Repeats what it read, from the start, again and again."""
        times = -(-length // read.shape[1])
        return np.tile(read, (1, times))[:, :length]

    def quotes(self, read: Rows, length: int) -> Rows:
        """Says pieces of what it read, in another order, with other words in between."""
        n = len(read)
        pieces = read[:, : read.shape[1] // _PIECE * _PIECE].reshape(n, -1, _PIECE)
        chosen = self.rng.integers(0, pieces.shape[1], (n, -(-length // (_PIECE + 1))))
        quoted = np.take_along_axis(pieces, chosen[:, :, None], axis=1)
        filler = self.rng.integers(1, VOCAB, (*chosen.shape, 1))
        return np.concatenate([quoted, filler], axis=2).reshape(n, -1)[:, :length]

    def continues(self, read: Rows, length: int) -> Rows:
        """Follows its last token with whatever followed that token the last time."""
        rows = read
        habits = self.habits
        for _ in range(length):
            same = rows[:, :-1] == rows[:, -1:]
            last = same.shape[1] - 1 - same[:, ::-1].argmax(axis=1)
            known = same.any(axis=1)
            copied = np.take_along_axis(rows, np.minimum(last + 1, rows.shape[1] - 1)[:, None], 1)
            new = self._next(rows[:, -1], habits)
            rows = np.column_stack([rows, np.where(known, copied[:, 0], new)])
        return rows[:, read.shape[1] :]

    def loops(self, read: Rows, length: int) -> Rows:
        """Ignores what it read: says a few sentences of its own over and over."""
        own = self.text(len(read), max(length // 3, 2))
        return self.copies(own, length)


#: Suspects: functions of a world, what was read, and a length, to answers.
SUSPECTS: dict[str, Callable[[World, Rows, int], Rows]] = {
    "copies": World.copies,
    "quotes": World.quotes,
    "continues": World.continues,
    "loops": World.loops,
}
