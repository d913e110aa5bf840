"""Weights of listed tokens: what `Weighting` does with logits, where there are only lists.

An API lists its likeliest tokens. Of a token that it does not list only a range is known: from 0 to
the least probability listed. Nothing here knows of keys, so no choice of a value in that range
makes a test invalid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.errors import ArgumentError
from radscore.models.weighting import CONTRASTS

if TYPE_CHECKING:
    import numpy.typing as npt

    from radscore.models.listed import Listed

__all__ = ["listed_weights", "looked_up"]

_CELLS_AT_ONCE: Final = 1 << 20


def listed_weights(
    suspect: Listed,
    reference_logprobs: npt.ArrayLike,
    *,
    least: npt.ArrayLike | None = None,
    absent: float = 0.5,
    transform: str = "damped_relative",
    centred: float = 0.0,
) -> npt.NDArray[np.float64]:
    """The weight of each token that the suspect lists, by its gain over the reference.

    Parameters
    ----------
    suspect : Listed
        The suspect's lists, one per position.
    reference_logprobs : array_like of float, shape (n,)
        The reference's natural log-probability of each token of `suspect.ids`, all else equal; NaN
        where it is not known.
    least : array_like of float, shape (n_positions,), optional
        The largest log-probability that a token can have which the reference does not list, as
        `looked_up` gives it; needed where `reference_logprobs` has NaN. Where it is NaN as well,
        nothing is known of the reference, and the position's weights are 0.
    absent : float
        Which share of it such a token is taken to have, from 0 to 1. A half was best on
        `experiments/models` (24,500 tokens read, matched reference; z for 0, 1/4, 1/2 and 1): 5.3,
        5.6, 5.7, 5.5 with 20 tokens listed and 3.9, 4.2, 4.5, 4.0 with 5.
    transform : str
        A name in `CONTRASTS`.
    centred : float
        How much of their mean to subtract from the weights of a position, from 0 to 1: what lists
        of two models have for weights in common, because each shows what its model finds likely,
        cancels.

    Returns
    -------
    ndarray of float64, shape (n,)
        Aligned with `suspect.ids`.

    Raises
    ------
    ArgumentError
        If shapes do not fit, `transform` is unknown, or `least` is missing.

    Examples
    --------
    >>> from radscore.models.listed import Listed
    >>> suspect = Listed.of([{7: np.log(0.5), 9: np.log(0.125)}])
    >>> listed_weights(suspect, np.log([0.25, 0.25]), transform="difference").round(6).tolist()
    [0.25, -0.125]
    """
    if transform not in CONTRASTS:
        raise ArgumentError(f"transform must be one of {', '.join(CONTRASTS)}, not {transform!r}")
    if not 0 <= absent <= 1:
        raise ArgumentError(f"absent must be from 0 to 1, not {absent!r}")
    if not 0 <= centred <= 1:
        raise ArgumentError(f"centred must be from 0 to 1, not {centred!r}")
    lengths = np.diff(suspect.offsets)
    p = np.exp(suspect.logprobs.astype(np.float64))
    q = np.exp(np.minimum(_column("reference_logprobs", reference_logprobs, len(p)), 0.0))
    unknown = np.isnan(q)
    if unknown.any():
        if least is None:
            raise ArgumentError("reference_logprobs has NaN, which needs least=")
        most = np.exp(np.minimum(_column("least", least, len(lengths)), 0.0))
        q[unknown] = absent * np.repeat(most, lengths)[unknown]
    weights = np.zeros(len(p))
    step = max(1, _CELLS_AT_ONCE // max(1, int(lengths.max(initial=0))))
    for start in range(0, len(lengths), step):
        some = lengths[start : start + step]
        part = slice(suspect.offsets[start], suspect.offsets[start + len(some)])
        weights[part] = _weights(p[part], q[part], some, transform, centred=centred)
    return weights


def _weights(
    p: npt.NDArray[np.float64],
    q: npt.NDArray[np.float64],
    lengths: npt.NDArray[np.int64],
    transform: str,
    *,
    centred: float,
) -> npt.NDArray[np.float64]:
    """Those of some positions, side by side; both probabilities are 0 where a list has ended."""
    inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
    both = np.zeros((2, *inside.shape))
    both[0][inside], both[1][inside] = p, q
    known = ~np.isnan(both[1]).any(axis=1)
    both[:, ~known] = 0.0
    made = CONTRASTS[transform](both[0], both[1])
    if centred:
        made = made - centred * (made.sum(axis=1, keepdims=True) / np.maximum(lengths, 1)[:, None])
    return np.asarray(made[inside])


def looked_up(
    suspect: Listed, reference: Listed
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What the reference's lists say of the suspect's tokens.

    Parameters
    ----------
    suspect, reference : Listed
        Of the same positions.

    Returns
    -------
    logprobs : ndarray of float64, shape (n,)
        The reference's log-probability of each token of `suspect.ids`; NaN where it is not listed.
    least : ndarray of float64, shape (n_positions,)
        The least log-probability that the reference lists at each position; NaN for an empty list.
    """
    if len(suspect) != len(reference):
        raise ArgumentError(
            f"the suspect has {len(suspect)} positions, but the reference {len(reference)}"
        )
    mine, theirs = _names(suspect), _names(reference)
    order = np.argsort(theirs)
    logprobs = np.full(len(mine), np.nan)
    if len(theirs):
        at = order[np.minimum(np.searchsorted(theirs, mine, sorter=order), len(theirs) - 1)]
        same = theirs[at] == mine
        logprobs[same] = reference.logprobs[at[same]]
    least = np.full(len(reference), np.nan)
    some = np.diff(reference.offsets) > 0
    if some.any():
        least[some] = np.minimum.reduceat(reference.logprobs, reference.offsets[:-1][some])
    return logprobs, least


def _names(listed: Listed) -> npt.NDArray[np.int64]:
    """One number per token, which says its position too."""
    positions = np.repeat(np.arange(len(listed), dtype=np.int64), np.diff(listed.offsets))
    return (positions << 32) | listed.ids


def _column(name: str, values: Any, length: int) -> npt.NDArray[np.float64]:
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (length,):
        raise ArgumentError(f"{name} must have shape ({length},), not {column.shape}")
    return column
