"""From a model's logits to sparse weights: which tokens count after a context, and how much.

Nothing here knows of keys, and ties go to the smaller token id, so weights never depend on the key
and every one of these statistics is valid. Which is strongest is a matter of experiment; another
way to contrast two models is one more entry in `CONTRASTS`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.documents import check_width
from radscore.errors import ArgumentError, near

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CENTRED_LISTS", "CONTRASTS", "WEIGHTINGS", "Weighting", "plan"]

WEIGHTINGS: Final = ("prediction", "mass", "contrast", "matched")

#: Probabilities below it are rounding: keeps logarithms and quotients finite.
_FLOOR: Final = 1e-6
_LARGEST_LOG: Final = 5.0


def _library(values: Any) -> Any:
    """What the values are computed with: numpy or torch."""
    if isinstance(values, np.ndarray):
        return np
    import torch

    return torch


def _difference(p: Any, q: Any) -> Any:
    return p - q


def _roots(p: Any, q: Any) -> Any:
    sqrt = _library(p).sqrt
    return sqrt(p) - sqrt(q)


def _gain(p: Any, q: Any) -> Any:
    return _library(p).clip(p - q, 0.0, None)


def _log_ratio(p: Any, q: Any) -> Any:
    xp = _library(p)
    return xp.clip(xp.log(p + _FLOOR) - xp.log(q + _FLOOR), -_LARGEST_LOG, _LARGEST_LOG)


def _weighted_log_ratio(p: Any, q: Any) -> Any:
    return q * _log_ratio(p, q)


def _root_log_ratio(p: Any, q: Any) -> Any:
    sqrt = _library(p).sqrt
    return sqrt(sqrt(p * q)) * _log_ratio(p, q)


def _scaled(p: Any, q: Any) -> Any:
    return (p - q) / _library(p).sqrt(p + q + _FLOOR)


def _relative(p: Any, q: Any) -> Any:
    return (p - q) / (p + q + 1e-3)


def _damped_relative(p: Any, q: Any) -> Any:
    return (p - q) / (p + q + 1e-2)


def _unit_difference(p: Any, q: Any) -> Any:
    return _to_unit(p - q, 1e-3)


def _unit_roots(p: Any, q: Any) -> Any:
    return _to_unit(_roots(p, q), 1e-2)


def _to_unit(w: Any, floor: float) -> Any:
    return w / (_library(w).linalg.norm(w, axis=-1, keepdims=True) + floor)


#: Weights of the tokens after a context, by name: functions of the suspect's and the reference's
#: probabilities p and q, tensors or arrays of shape (n, V), to one of that shape.
CONTRASTS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "difference": _difference,  # p - q
    "roots": _roots,  # sqrt p - sqrt q
    "gain": _gain,  # max(p - q, 0)
    "log_ratio": _log_ratio,  # log p/q, clipped to 5
    "weighted_log_ratio": _weighted_log_ratio,  # q log p/q
    "root_log_ratio": _root_log_ratio,  # (p q)^(1/4) log p/q
    "scaled": _scaled,  # (p - q) / sqrt(p + q)
    "relative": _relative,  # (p - q) / (p + q)
    "damped_relative": _damped_relative,  # (p - q) / (p + q + 0.01)
    "unit_difference": _unit_difference,  # p - q, scaled to length 1
    "unit_roots": _unit_roots,  # sqrt p - sqrt q, scaled to length 1
}

#: How much of the mean weight of a position's listed tokens to subtract: where a mark is strong,
#: all that is listed may be green, so a quarter of the mean stays.
CENTRED_LISTS: Final = 0.75

#: Which settings have an effect, by kind.
_USED: Final[dict[str, tuple[str, ...]]] = {
    "prediction": ("top",),
    "mass": ("max_weights", "min_weight"),
    "contrast": ("max_weights", "min_weight", "transform", "centred"),
    "matched": ("max_weights", "transform", "centred"),
}


@dataclass(frozen=True)
class Weighting:
    """How a model's predictions after a context become weights.

    Parameters
    ----------
    kind : {"prediction", "mass", "contrast", "matched"}
        Weight 1 for each of the `top` likeliest tokens; the suspect's probability of a token; a
        function of the suspect's and a reference's probability; or such a function together with
        the reference's probability (`Pairs.base`), for a test that asks what the watermark would
        have made of the reference.
    top : int
        With "prediction": how many of the likeliest tokens.
    max_weights : int, optional
        With "mass" and "contrast": how many of a context's weights are kept, the largest (256).
        With "matched": how many tokens, those that either model finds likeliest (128). What is
        dropped is not part of the statistic.
    min_weight : float
        With "mass" and "contrast": weights up to this size are dropped as well.
    transform : str, optional
        With "contrast" and "matched": a name in `CONTRASTS`; the defaults, "damped_relative" and
        "relative", were strongest on trained models (experiments/RESULTS.md).
    centred : float or bool
        With "contrast" and "matched": how much of their mean to subtract from the weights that are
        kept at a position, from 0 (or False) to 1 (or True); by default all with "contrast" and
        nothing with "matched".

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[0.0, 2.0, 2.0, 1.0]])
    >>> rows, ids, weights, _ = Weighting("prediction", top=1).sparse(logits)
    >>> rows.tolist(), ids.tolist(), weights.tolist()
    ([0], [1], [1.0])
    """

    kind: str
    top: int = 1
    max_weights: int = None  # type: ignore[assignment] # until `kind` is known
    min_weight: float = 1e-4
    transform: str = None  # type: ignore[assignment]
    centred: float = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        matched = self.kind == "matched"
        if self.max_weights is None:
            object.__setattr__(self, "max_weights", 128 if matched else 256)
        if self.transform is None:
            object.__setattr__(self, "transform", "relative" if matched else "damped_relative")
        if self.centred is None:
            object.__setattr__(self, "centred", float(self.kind == "contrast"))
        if self.kind not in WEIGHTINGS:
            raise ArgumentError(
                f"weighting must be one of {', '.join(WEIGHTINGS)}, not {self.kind!r}"
                f"{near(self.kind, WEIGHTINGS)}"
            )
        check_width("top", self.top, 1, 2**20)
        check_width("max_weights", self.max_weights, 1, 2**20)
        number = isinstance(self.min_weight, (int, float))
        if not number or not 0 <= self.min_weight < float("inf"):
            raise ArgumentError(f"min_weight must be 0 or more, not {self.min_weight!r}")
        if self.transform not in CONTRASTS:
            raise ArgumentError(
                f"transform must be one of {', '.join(CONTRASTS)}, not {self.transform!r}"
            )
        if not isinstance(self.centred, (int, float)) or not 0 <= self.centred <= 1:
            raise ArgumentError(f"centred must be from 0 to 1, not {self.centred!r}")
        object.__setattr__(self, "centred", float(self.centred))

    @property
    def needs_reference(self) -> bool:
        """Whether the weights depend on a second model."""
        return self.kind in {"contrast", "matched"}

    @property
    def most(self) -> int:
        """The most weights that one context can have."""
        return self.top if self.kind == "prediction" else self.max_weights

    @property
    def words(self) -> str:
        """The kind in words, with the settings that matter."""
        if self.needs_reference:
            centred = ", centred" if self.centred else ""
            share = f" by {self.centred:g}" if 0 < self.centred < 1 else ""
            return f"{self.kind} ({self.transform}{centred}{share})"
        if self.kind == "prediction" and self.top > 1:
            return f"prediction (top {self.top})"
        return self.kind

    def sparse(self, logits: Any, *references: Any) -> tuple[Any, Any, Any, Any]:
        """The weights at some positions, without the zeros ("matched": of all tokens kept).

        Cost: one or two passes over the logits.

        Parameters
        ----------
        logits : tensor of float32, shape (n, V)
            The suspect's.
        *references : tensor of float32, shape (n, V)
            The reference's, for "contrast" and "matched"; of several, their probabilities are
            averaged.

        Returns
        -------
        rows, ids, weights : tensors of int64, int64 and float32, shape (n_weights,)
            Sorted by row, and by id within a row.
        base : tensor of float32, shape (n_weights,), or None
            With "matched": the reference's probabilities.
        """
        if self.kind == "prediction":
            return *_prediction(logits, min(self.top, logits.shape[1])), None
        p = logits.softmax(dim=-1)
        if self.kind == "mass":
            return *_largest(p, self.max_weights, self.min_weight, signed=False), None
        q = references[0].softmax(dim=-1)
        for other in references[1:]:
            q = q + other.softmax(dim=-1)
        q = q / len(references) if len(references) > 1 else q
        w = CONTRASTS[self.transform](p, q)
        base = None
        if self.kind == "matched":
            rows, ids = _likeliest(p, q, self.max_weights)
            kept, base = w[rows, ids], q[rows, ids]
        else:
            rows, ids, kept = _largest(w, self.max_weights, self.min_weight, signed=True)
        if self.centred:
            kept = _centred(kept, rows, len(w), self.centred)
        return rows, ids, kept, base


def plan(
    weighting: str | Weighting | None,
    reference: Any,
    given: dict[str, Any],
    *,
    listed: bool = False,
) -> Weighting:
    """The weighting that is meant, with its settings; those without effect are refused.

    By default it is "contrast" with a reference, else "mass"; of lists of the likeliest tokens
    (`listed`), as an API returns them, with weights that suit those.
    """
    if weighting is None:
        weighting = "mass" if reference is None else "contrast"
    if weighting == "contrast" and listed:
        weighting = Weighting("contrast", centred=CENTRED_LISTS)
    if not isinstance(weighting, Weighting):
        weighting = Weighting(weighting)
    for name in given:
        if name not in _USED[weighting.kind]:
            raise ArgumentError(f"{name}= has no effect with weighting='{weighting.kind}'")
    if weighting.needs_reference and reference is None:
        raise ArgumentError(f"weighting='{weighting.kind}' needs reference=")
    if reference is not None and not weighting.needs_reference:
        raise ArgumentError(f"reference= has no effect with weighting='{weighting.kind}'")
    return replace(weighting, **given)


def _prediction(logits: Any, top: int) -> tuple[Any, Any, Any]:
    import torch

    if top == 1:  # the first of equals
        ids = logits.argmax(dim=-1)
        rows = torch.arange(len(ids), device=ids.device)
    else:
        rows, ids = _top(logits, top).nonzero(as_tuple=True)
    return rows, ids, torch.ones(len(ids), dtype=torch.float32, device=ids.device)


def _largest(weights: Any, most: int, least: float, *, signed: bool) -> tuple[Any, Any, Any]:
    """The entries larger than `least`, at most the `most` largest of each row."""
    rows, ids = _nonzero((weights.abs() if signed else weights) > least)
    kept = weights[rows, ids]
    counts = rows.bincount(minlength=len(weights))
    if bool((counts > most).any()):
        inside = _best(kept.abs(), rows, counts, most)
        rows, ids, kept = rows[inside], ids[inside], kept[inside]
    return rows, ids, kept


def _likeliest(p: Any, q: Any, most: int) -> tuple[Any, Any]:
    """The `most` tokens of each row that either finds likeliest, of those that either allows."""
    import torch

    likelier = torch.maximum(p, q)
    return _nonzero(_top(likelier, most) & (likelier > 0))


def _centred(weights: Any, rows: Any, n_rows: int, share: float) -> Any:
    """Each weight, less a share of the mean of its row."""
    import torch

    sums = torch.zeros(n_rows, dtype=torch.float64, device=weights.device)
    sums.index_add_(0, rows, weights.double())
    means = share * sums / rows.bincount(minlength=n_rows).clamp(min=1)
    return (weights - means[rows]).float()


def _best(sizes: Any, rows: Any, counts: Any, most: int) -> Any:
    """Which of the entries are among the `most` largest of their row."""
    import torch

    crowded = counts > most
    inside = ~crowded[rows]
    where = (~inside).nonzero()[:, 0]
    # put the crowded rows' entries side by side: that searches few columns, not the vocabulary
    starts = counts.cumsum(0) - counts
    lines = (crowded.cumsum(0) - 1)[rows[where]]
    columns = where - starts[rows[where]]
    side = torch.full(
        (int(crowded.sum()), int(counts.max())), -1.0, dtype=sizes.dtype, device=sizes.device
    )
    side[lines, columns] = sizes[where]
    inside[where] = _top(side, most)[lines, columns]
    return inside


def _top(values: Any, most: int) -> Any:
    """Mask of the `most` largest of each row; of equals, those with the smaller ids."""
    import torch

    if most >= values.shape[1]:
        return torch.ones_like(values, dtype=torch.bool)
    least = values.topk(most, dim=-1, sorted=False).values.min(dim=-1, keepdim=True).values
    above, equal = values > least, values == least
    room = most - above.sum(dim=-1, keepdim=True)
    tied = (equal.sum(dim=-1, keepdim=True) > room)[:, 0]
    if bool(tied.any()):
        part = equal[tied]
        equal[tied] = part & (part.cumsum(dim=-1) <= room[tied])
    return above | equal


def _nonzero(mask: Any) -> tuple[Any, Any]:
    """Rows and columns of the true entries, row by row."""
    import torch

    if mask.device.type != "cpu":
        rows, ids = mask.nonzero(as_tuple=True)
        return rows, ids
    import numpy as np

    flat = torch.from_numpy(np.flatnonzero(mask.numpy()))  # several times faster than torch's
    return flat // mask.shape[1], flat % mask.shape[1]
