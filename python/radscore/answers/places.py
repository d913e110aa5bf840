"""Weights of tokens at the places of answers, from lists of likely tokens; none depends on the key.

A *place* is a token of an answer. What the suspect says there, or the likeliest tokens with their
probabilities that an API lists, is compared with what a reference expects at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.models.listed import Listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "DEFAULT_LISTED",
    "DEFAULT_LISTED_ALONE",
    "LISTED",
    "LISTED_ALONE",
    "PlaceWeights",
    "centred",
    "damped",
    "expected_by_context",
    "frequency",
    "listed_weights",
    "mean_lists",
    "probabilities_of",
    "residuals",
]

Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_TOKEN_BITS: Final = 20  # ids are below `documents.MAX_VOCAB`
#: Keeps quotients of small probabilities, which are mostly noise, small.
_DAMPING: Final = 0.01
#: Places of a context after which half of what can be learned is learned.
_LEARNED: Final = 10.0


@dataclass(frozen=True, eq=False)
class PlaceWeights:
    """Weights of some tokens at each place.

    Attributes
    ----------
    offsets : ndarray of int64, shape (n_places + 1,)
        Where each place's tokens begin.
    ids : ndarray of uint32, shape (n,)
    weights : ndarray of float32, shape (n,)
    """

    offsets: Ids
    ids: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]

    def at(self, places: Ids) -> tuple[Ids, npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """The tokens and weights of some places; first, the index in `places` of each."""
        sizes = self.offsets[places + 1] - self.offsets[places]
        rows = np.repeat(np.arange(len(places)), sizes)
        first = np.cumsum(sizes) - sizes
        entries = np.arange(len(rows)) - first[rows] + self.offsets[places][rows]
        return rows, self.ids[entries], self.weights[entries]


def _rows(offsets: Ids) -> Ids:
    """The place of each entry."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _names(rows: Ids, ids: npt.NDArray[Any]) -> Ids:
    """One integer for each place (or context) and token."""
    return (rows << _TOKEN_BITS) | ids.astype(np.int64)


def _values(names: Ids, known: Ids, values: npt.NDArray[Any]) -> Floats:
    """The value that belongs to each name, 0 where it is not known; `known` must rise."""
    if not len(known):
        return np.zeros(len(names))
    at = np.minimum(np.searchsorted(known, names), len(known) - 1)
    return np.where(known[at] == names, values[at], 0.0)


def _sorted(lists: Listed) -> tuple[Ids, Floats]:
    """Names of all entries, rising, and their probabilities."""
    names = _names(_rows(lists.offsets), lists.ids)
    p = np.exp(lists.logprobs.astype(np.float64))
    if (np.diff(names) > 0).all():
        return names, p
    order = np.argsort(names)
    return names[order], p[order]


def probabilities_of(lists: Listed, wanted: Listed) -> Floats:
    """The probability that `lists` gives each token that `wanted` lists at the same place.

    A token that is not listed has at most the least probability listed; 0 is returned for it.
    """
    return _values(_names(_rows(wanted.offsets), wanted.ids), *_sorted(lists))


def mean_lists(several: Sequence[Listed]) -> Listed:
    """The mean of several models' probabilities at the same places.

    A token that one of them does not list counts as 0 there.
    """
    if len(several) == 1:
        return several[0]
    found = [_sorted(one) for one in several]
    names, at = np.unique(np.concatenate([one for one, _ in found]), return_inverse=True)
    p = np.bincount(at, np.concatenate([one for _, one in found])) / len(several)
    offsets = np.searchsorted(names, np.arange(len(several[0]) + 1) << _TOKEN_BITS)
    ids = (names & ((1 << _TOKEN_BITS) - 1)).astype(np.uint32)
    return Listed(offsets, ids, np.log(p).astype(np.float32))


def residuals(targets: npt.NDArray[Any], reference: Listed) -> PlaceWeights:
    """`e_v - q(v)`: what the suspect says, less what the reference expects, at every place.

    The derivative of the answers' log-likelihood, if tokens that score high under a key are
    likelier than the reference says: the score test of that tendency. Places of which the reference
    expects nothing have no weights.

    Parameters
    ----------
    targets : ndarray of int, shape (n_places,)
        What stands at each place.
    reference : Listed
        What the reference expects there.
    """
    places = np.arange(len(targets))
    known = np.diff(reference.offsets) > 0
    names, q = _sorted(reference)
    said = _names(places, targets)[known]
    listed = np.isin(said, names, assume_unique=True)
    names = np.concatenate([names, said[~listed]])
    weights = np.concatenate([-q, np.zeros(int((~listed).sum()))])
    order = np.argsort(names)
    names, weights = names[order], weights[order]
    weights[np.searchsorted(names, said)] += 1.0
    return PlaceWeights(
        np.searchsorted(names, np.arange(len(targets) + 1) << _TOKEN_BITS),
        (names & ((1 << _TOKEN_BITS) - 1)).astype(np.uint32),
        weights.astype(np.float32),
    )


def damped(p: Floats, q: Floats) -> Floats:
    """`(p - q) / (p + q + 0.01)`: a relative gain that pays little attention to rare tokens."""
    return (p - q) / (p + q + _DAMPING)


def centred(weights: Floats, offsets: Ids) -> Floats:
    """Weights less their mean over the tokens listed at a place.

    The suspect's likeliest tokens are not the reference's, so what an API lists has gained on the
    whole, whatever was learned. That is no evidence about single tokens.
    """
    rows, sizes = _rows(offsets), np.diff(offsets)
    sums = np.bincount(rows, weights, minlength=len(sizes))
    return np.asarray(weights - (sums / np.maximum(sizes, 1))[rows])


#: Weights of listed tokens from the suspect's and the reference's probabilities, by name.
LISTED: Final[dict[str, Callable[[Floats, Floats], Floats]]] = {
    "relative": damped,
    "difference": lambda p, q: p - q,
    "roots": lambda p, q: np.sqrt(p) - np.sqrt(q),
}
#: The same without a reference.
LISTED_ALONE: Final[dict[str, Callable[[Floats], Floats]]] = {
    "root": np.sqrt,
    "mass": lambda p: p,
}
#: The strongest on trained models (experiments/RESULTS.md).
DEFAULT_LISTED: Final = "relative"
DEFAULT_LISTED_ALONE: Final = "root"


def listed_weights(
    lists: Listed, expected: Floats | None, transform: str, *, known: npt.NDArray[np.bool_] | None
) -> PlaceWeights:
    """Weights of the tokens that an API lists, centred at each place if there is a reference.

    Parameters
    ----------
    lists : Listed
        The suspect's.
    expected : ndarray of float64, shape (n,), optional
        The reference's probability of each token listed.
    transform : str
        A name in `LISTED`, or in `LISTED_ALONE` without a reference.
    known : ndarray of bool, shape (n_places,), optional
        Where the reference expects anything; elsewhere there are no weights.
    """
    p = np.exp(lists.logprobs.astype(np.float64))
    if expected is None:
        weights = LISTED_ALONE[transform](p)
    else:
        weights = centred(LISTED[transform](p, expected), lists.offsets)
    if known is not None:
        weights[~known[_rows(lists.offsets)]] = 0.0
    return PlaceWeights(lists.offsets, lists.ids, weights.astype(np.float32))


def expected_by_context(
    mine: Ids, wanted: Listed, others: Ids, lists: Listed
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What a reference expects on average after the same contexts, elsewhere.

    Parameters
    ----------
    mine, others : ndarray of int64, shape (n_places,)
        The number of each place's context in the suspect's and in the reference's answers; -1
        where there is none.
    wanted, lists : Listed
        Their lists.

    Returns
    -------
    expected : ndarray of float64
        The reference's mean probability of each token of `wanted`; 0 where it is not known.
    known : ndarray of bool, shape (n_places,)
        Whether the reference has met the context.
    """
    n = int(max(mine.max(initial=-1), others.max(initial=-1))) + 1
    listing = (np.diff(lists.offsets) > 0) & (others >= 0)
    times = np.bincount(others[listing], minlength=n)
    rows = _rows(lists.offsets)
    used = listing[rows]
    names, at = np.unique(_names(others[rows[used]], lists.ids[used]), return_inverse=True)
    p = np.exp(lists.logprobs[used].astype(np.float64))
    sums = np.bincount(at, p, minlength=len(names))
    context = mine[_rows(wanted.offsets)]
    found = _values(_names(np.maximum(context, 0), wanted.ids), names, sums)
    known = (mine >= 0) & (times[np.maximum(mine, 0)] > 0) if n else mine >= 0
    met = times[np.maximum(context, 0)] if n else np.zeros(len(context))
    return np.where(context >= 0, found / np.maximum(met, 1), 0.0), known


def frequency(counts: npt.NDArray[Any]) -> Floats:
    """`n / (n + 10)`: how much of a context that occurs n times a model can have learned."""
    return np.asarray(counts / (counts + _LEARNED))
