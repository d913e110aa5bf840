"""The weighting study: which weights find a radioactive model best, open or closed.

Each weighting is scored under Alice's key and under many decoy keys at once. Validity does not
depend on the choice (section "Weights" of docs/validity.md): decoys have mean 0 and standard
deviation 1 whatever the weights. What differs is z under the true key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import radscore as rs
import torch
from radscore.answers import weights as library
from radscore.answers.grouping import WindowCounts, count_windows, kept_windows
from radscore.models.weighting import CONTRASTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CLOSED", "OPEN", "Weighed", "closed_counts", "open_weights", "weigh"]

Ids = npt.NDArray[np.int64]
AnyIds = npt.NDArray[np.integer[Any]]
Tensor = torch.Tensor
#: Keeps logarithms and ratios finite; smaller probabilities are of no interest.
FLOOR = 1e-4


def _power(exponent: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda p, q: (p**exponent - q**exponent) / exponent


def _log_ratio(limit: float, root: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    def weight(p: Tensor, q: Tensor) -> Tensor:
        ratio: Tensor = ((p + FLOOR) / (q + FLOOR)).log().clamp(-limit, limit)
        return ratio * (p * q) ** (root / 2) if root else ratio

    return weight


def _mass(p: Tensor, _: Tensor) -> Tensor:
    return p


def _root_mass(p: Tensor, _: Tensor) -> Tensor:
    return p.sqrt()


#: Open model: the weight of (context, v) from the suspect's p and the reference's q. The library's
#: rules have their names there, others their formulas.
OPEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **CONTRASTS,
    "p^0.75 - q^0.75": _power(0.75),
    "p^0.25 - q^0.25": _power(0.25),
    "log p/q within 1": _log_ratio(1.0),
    "(p q)^(1/8) log p/q": _log_ratio(3.0, 0.25),
    "(p q)^(1/2) log p/q": _log_ratio(3.0, 1.0),
    "(p - q) / (p + q + 0.01)": lambda p, q: (p - q) / (p + q + 1e-2),
    "(p - q) / (p + q + 0.0001)": lambda p, q: (p - q) / (p + q + 1e-4),
    "(p - q) / (p + q)^(3/4)": lambda p, q: (p - q) / (p + q + FLOOR) ** 0.75,
    "(p - q) sqrt(q)": lambda p, q: (p - q) * q.sqrt(),
    "p - q within 0.02": lambda p, q: (p - q).clamp(-0.02, 0.02),
    "mass": _mass,
    "sqrt p": _root_mass,
}


@dataclass(frozen=True, slots=True)
class Weighed:
    """z under the true key, and the mean and standard deviation of the decoys'."""

    z: float
    decoy_mean: float
    decoy_sd: float


@torch.inference_mode()
def probabilities(model: Any, rows: Ids, batch: int = 16) -> Iterator[Tensor]:
    """The distribution of the next token at every position, a batch of rows at a time."""
    for start in range(0, len(rows), batch):
        ids = torch.from_numpy(np.ascontiguousarray(rows[start : start + batch]))
        yield model(input_ids=ids).logits.float().softmax(-1)


def open_weights(
    suspect: Any, reference: Any, rows: Ids, *, width: int, names: list[str], top: int
) -> tuple[Ids, dict[str, tuple[Ids, npt.NDArray[np.float32]]]]:
    """Contexts (n, width) of all positions and, per weighting, targets and weights (n, top)."""
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
    schemes: list[rs.Scheme],
    contexts: AnyIds,
    targets: AnyIds,
    weights: Any,
    *,
    combine: str = "sum",
) -> Weighed:
    """The test under the first scheme, and under the others, which are decoys."""
    scorer = rs.Scorer(schemes, combine=combine, threads=1)  # type: ignore[arg-type]
    positions = None
    if targets.ndim == 2:
        n, top = targets.shape
        positions = np.repeat(np.arange(n), top)
        contexts = np.repeat(contexts, top, axis=0)
        targets, weights = targets.ravel(), weights.ravel()
    scorer.add_pairs(
        contexts, targets, np.asarray(weights, dtype=np.float64), occurrences=positions
    )
    mean = float(schemes[0].share)
    z = [
        (one.sum_weight_score - mean * one.sum_weight)
        / math.sqrt(mean * (1 - mean) * one.sum_weight_squared)
        for one in scorer.tallies()
    ]
    decoys = np.array(z[1:]) if len(z) > 2 else np.full(2, np.nan)
    return Weighed(z[0], float(decoys.mean()), float(decoys.std(ddof=1)))


def _expected(c: WindowCounts) -> Any:
    """The reference's count, scaled to the suspect's contexts; 0 if it never met the context."""
    return np.where(c.n_b > 0, c.b * c.n_a / np.maximum(c.n_b, 1), 0.0)


def _smoothed(prior: float) -> Callable[[WindowCounts], Any]:
    return lambda c: c.a - c.n_a * (c.b + prior * c.share) / (c.n_b + prior)


def _library(name: str, *, contrast: bool) -> Callable[[WindowCounts], Any]:
    return lambda c: library.weigh(c, name, contrast=contrast, gamma=0.25)


#: Closed model: the weight of a window from its counts; the library's rules by their names there.
CLOSED: dict[str, Callable[[WindowCounts], Any]] = {
    "plain (no reference)": lambda c: (c.a > 0).astype(float),
    **{f"{n} (no reference)": _library(n, contrast=False) for n in library.COUNTS},
    **{n: _library(n, contrast=True) for n in library.CONTRASTS},
    "a - b n_a / n_b": lambda c: c.a - _expected(c),
    "a - n_a (b + share) / (n_b + 1)": _smoothed(1.0),
    "a - n_a (b + 4 share) / (n_b + 4)": _smoothed(4.0),
    "a - n_a share": lambda c: c.a - c.n_a * c.share,
    "(a - e) / sqrt(a + e), e = b n_a / n_b": lambda c: (
        (c.a - _expected(c)) / np.sqrt(np.maximum(c.a + _expected(c), 1e-9))
    ),
    "sqrt a - sqrt(b n_a / n_b)": lambda c: np.sqrt(c.a) - np.sqrt(_expected(c)),
    "a - b": lambda c: c.a - c.b,
    "sqrt a - sqrt b": lambda c: np.sqrt(c.a) - np.sqrt(c.b),
    "log((a + 1/2) / (b + 1/2))": lambda c: np.log((c.a + 0.5) / (c.b + 0.5)),
}


def closed_counts(bench_answers: tuple[Ids, Ids], prompts: Ids, scheme: rs.Scheme) -> WindowCounts:
    """Counts of the windows in two models' answers to the same prompts."""
    kept = [
        kept_windows(
            rs.Documents.of(list(rows)),
            scheme,
            prompts=rs.Documents.of(list(prompts)),
        )
        for rows in bench_answers
    ]
    return count_windows(kept[0], kept[1], scheme.vocab_size)
