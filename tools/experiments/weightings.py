"""The weighting study: which weights find a radioactive model best, of an open and a closed one.

Each weighting is scored under Alice's key and under many decoy keys at once. Validity does not
hang on the choice (section "Weights" of docs/validity.md): decoys have mean 0 and standard
deviation 1 whatever the weights. What differs is z under the true key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import radscore as rs
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CLOSED", "OPEN", "Weighed", "closed_weights", "open_weights", "weigh"]

Ids = npt.NDArray[np.int64]
Tensor = torch.Tensor
#: Probabilities below are of no interest: the floor of logarithms and ratios.
FLOOR = 1e-4


def _power(exponent: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda p, q: (p**exponent - q**exponent) / exponent


def _log_ratio(limit: float, root: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    def weight(p: Tensor, q: Tensor) -> Tensor:
        ratio = ((p + FLOOR) / (q + FLOOR)).log().clamp(-limit, limit)
        return ratio * (p * q) ** (root / 2) if root else ratio

    return weight


def _mass(p: Tensor, _: Tensor) -> Tensor:
    return p


def _root_mass(p: Tensor, _: Tensor) -> Tensor:
    return p.sqrt()


def _unit(inner: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Every position's weights scaled to length 1."""

    def weight(p: Tensor, q: Tensor) -> Tensor:
        w = inner(p, q)
        return w / (w.norm(dim=-1, keepdim=True) + 1e-3)

    return weight


#: Open model: weight of (context, v) from the suspect's p and the reference's q.
OPEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "p - q": lambda p, q: p - q,
    "p^0.75 - q^0.75": _power(0.75),
    "sqrt p - sqrt q": _power(0.5),
    "p^0.25 - q^0.25": _power(0.25),
    "log p/q within 1": _log_ratio(1.0),
    "log p/q within 3": _log_ratio(3.0),
    "(p q)^(1/8) log p/q": _log_ratio(3.0, 0.25),
    "(p q)^(1/4) log p/q": _log_ratio(3.0, 0.5),
    "(p q)^(1/2) log p/q": _log_ratio(3.0, 1.0),
    "max(p - q, 0)": lambda p, q: (p - q).clamp(min=0),
    "(p - q) / sqrt(p + q)": lambda p, q: (p - q) / (p + q + FLOOR).sqrt(),
    "(p - q) / (p + q)": lambda p, q: (p - q) / (p + q + 1e-3),
    "(p - q) sqrt(q)": lambda p, q: (p - q) * q.sqrt(),
    "p - q within 0.02": lambda p, q: (p - q).clamp(-0.02, 0.02),
    "p - q of length 1": _unit(lambda p, q: p - q),
    "sqrt p - sqrt q of length 1": _unit(_power(0.5)),
    "p (no reference)": _mass,
    "sqrt p (no reference)": _root_mass,
}


@dataclass(frozen=True, slots=True)
class Weighed:
    """z under the true key, and the decoys' mean and standard deviation."""

    z: float
    log10_pvalue: float
    decoy_mean: float
    decoy_sd: float
    n_units: int


@torch.inference_mode()
def probabilities(model: Any, rows: Ids, batch: int = 16) -> Iterator[Tensor]:
    """The next token's law at every position, a batch of rows at a time."""
    for start in range(0, len(rows), batch):
        ids = torch.from_numpy(np.ascontiguousarray(rows[start : start + batch]))
        yield model(input_ids=ids).logits.float().softmax(-1)


def open_weights(
    suspect: Any, reference: Any, rows: Ids, width: int, names: list[str], top: int
) -> tuple[Ids, dict[str, tuple[Ids, npt.NDArray[np.float32]]]]:
    """Contexts (n, width) of all positions and, by weighting, targets and weights (n, top)."""
    contexts: list[Ids] = []
    kept: dict[str, list[tuple[Ids, npt.NDArray[np.float32]]]] = {name: [] for name in names}
    both = zip(probabilities(suspect, rows), probabilities(reference, rows), strict=True)
    start = 0
    for p, q in both:
        these = rows[start : start + len(p)]
        start += len(p)
        windows = np.lib.stride_tricks.sliding_window_view(these, width, axis=1)
        contexts.append(windows.reshape(-1, width))
        p_flat = p[:, width - 1 :].reshape(-1, p.shape[-1])
        q_flat = q[:, width - 1 :].reshape(-1, p.shape[-1])
        for name in names:
            w = OPEN[name](p_flat, q_flat)
            at = w.abs().topk(top, dim=-1, sorted=True).indices
            kept[name].append((at.numpy(), w.gather(-1, at).numpy()))
    return np.concatenate(contexts), {
        name: (np.concatenate([t for t, _ in parts]), np.concatenate([w for _, w in parts]))
        for name, parts in kept.items()
    }


def weigh(
    schemes: list[rs.Keyed], contexts: Ids, targets: Ids, weights: Any, *, combine: str = "sum"
) -> Weighed:
    """The test under the first scheme, and what the others, decoys, show."""
    scorer = rs.Scorer(schemes, combine=combine, threads=1)  # type: ignore[arg-type]
    places = None
    if targets.ndim == 2:
        n, top = targets.shape
        places = np.repeat(np.arange(n), top)
        contexts = np.repeat(contexts, top, axis=0)
        targets, weights = targets.ravel(), weights.ravel()
    scorer.add_pairs(contexts, targets, np.asarray(weights, dtype=np.float64), occurrences=places)
    z = []
    results = scorer.results()
    z = [result.zscore for result in results]
    decoys = np.array(z[1:]) if len(z) > 1 else np.array([np.nan, np.nan])
    return Weighed(
        z[0],
        results[0].log10_pvalue,
        float(decoys.mean()),
        float(decoys.std(ddof=1)),
        results[0].n_scored,
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """Answers counted: windows of the suspect (a) and the reference (b), and their contexts."""

    contexts: Ids
    targets: Ids
    a: npt.NDArray[np.float64]
    b: npt.NDArray[np.float64]
    n_a: npt.NDArray[np.float64]
    n_b: npt.NDArray[np.float64]
    back: npt.NDArray[np.float64]


def _fixed(a: Any, b: Any, n_a: Any, n_b: Any) -> Any:
    """The reference's count, scaled to the suspect's contexts; 0 where it never was there."""
    del a
    return np.where(n_b > 0, b * n_a / np.maximum(n_b, 1), 0.0)


#: Closed model: weight of a window from its counts.
CLOSED: dict[str, Callable[[Counts], Any]] = {
    "1 where a > 0 (plain)": lambda c: (c.a > 0).astype(float),
    "a (counts)": lambda c: c.a,
    "a - b n_a / n_b": lambda c: c.a - _fixed(c.a, c.b, c.n_a, c.n_b),
    "the same where n_b > 0": lambda c: np.where(
        c.n_b > 0, c.a - _fixed(c.a, c.b, c.n_a, c.n_b), 0.0
    ),
    "a - n_a (b + k back) / (n_b + k), k = 1": lambda c: c.a - c.n_a * (c.b + c.back) / (c.n_b + 1),
    "a - n_a (b + k back) / (n_b + k), k = 4": lambda c: (
        c.a - c.n_a * (c.b + 4 * c.back) / (c.n_b + 4)
    ),
    "(a n_b - b n_a) / (n_a + n_b)": lambda c: (c.a * c.n_b - c.b * c.n_a) / (c.n_a + c.n_b),
    "(a - b n_a / n_b) / sqrt(a + b n_a / n_b)": lambda c: (
        (c.a - _fixed(c.a, c.b, c.n_a, c.n_b))
        / np.sqrt(np.maximum(c.a + _fixed(c.a, c.b, c.n_a, c.n_b), 1e-9))
    ),
    "(a n_b - b n_a) / sqrt(n_a n_b (a + b))": lambda c: np.where(
        c.n_a * c.n_b > 0,
        (c.a * c.n_b - c.b * c.n_a) / np.sqrt(np.maximum(c.n_a * c.n_b * (c.a + c.b), 1e-9)),
        0.0,
    ),
    "sqrt a - sqrt(b n_a / n_b)": lambda c: np.sqrt(c.a) - np.sqrt(_fixed(c.a, c.b, c.n_a, c.n_b)),
    "a - b": lambda c: c.a - c.b,
    "sqrt a - sqrt b": lambda c: np.sqrt(c.a) - np.sqrt(c.b),
    "log((a + 1/2) / (b + 1/2))": lambda c: np.log((c.a + 0.5) / (c.b + 0.5)),
}


def closed_weights(answers: Ids, others: Ids, width: int, vocab_size: int) -> Counts:
    """Counts of all windows of two models' answers to the same prompts."""

    def windows(rows: Ids) -> Ids:
        view = np.lib.stride_tricks.sliding_window_view(rows, width + 1, axis=1)
        return view.reshape(-1, width + 1)

    def packed(cells: Ids) -> Ids:
        number = np.zeros(len(cells), dtype=np.int64)
        for column in cells.T:
            number = number * vocab_size + column
        return number

    mine, theirs = windows(answers), windows(others)
    cells, counts = np.unique(
        np.concatenate([packed(mine) * 2, packed(theirs) * 2 + 1]), return_counts=True
    )
    keys, at = np.unique(cells >> 1, return_inverse=True)
    table = np.zeros((2, len(keys)))
    np.add.at(table, (cells & 1, at), counts)
    _, of_context = np.unique(keys // vocab_size, return_inverse=True)
    totals = np.stack([np.bincount(of_context, weights=row) for row in table])[:, of_context]
    columns = []
    rest = keys.copy()
    for _ in range(width + 1):
        columns.append(rest % vocab_size)
        rest //= vocab_size
    window = np.stack(columns[::-1], axis=1)
    # The reference's share of the target after the last context token alone, to fall back on.
    pairs, of_pair = np.unique(packed(window[:, -2:]), return_inverse=True)
    pair_counts = np.bincount(of_pair, weights=table[1], minlength=len(pairs))
    _, of_last = np.unique(pairs // vocab_size, return_inverse=True)
    last_counts = np.bincount(of_last, weights=pair_counts)[of_last]
    back = (pair_counts / np.maximum(last_counts, 1))[of_pair]
    return Counts(window[:, :-1], window[:, -1], table[0], table[1], *totals, back)
