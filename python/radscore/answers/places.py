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
from radscore.models.listed_weights import listed_weights
from radscore.models.weighting import CENTRED_LISTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "DEFAULT_LISTED",
    "DEFAULT_LISTED_ALONE",
    "LISTED_ALONE",
    "PlaceWeights",
    "frequency",
    "looked_up_by_context",
    "mean_lists",
    "residuals",
    "saturated",
    "summed",
    "weights_of_lists",
]

Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
#: Log-probabilities of the suspect's tokens, and the most that one has which is not listed.
Reference: TypeAlias = tuple[Floats, Floats]
Summed: TypeAlias = tuple[Ids, npt.NDArray[np.uint32], Floats]

_TOKEN_BITS: Final = 20  # ids are below `documents.MAX_VOCAB`
#: Places of a context after which half of what can be learned of it is learned, by the weighting.
_LEARNED: Final = {"residual": 10.0, "listed": 3.0}
#: Sum of the weights of a unit at which it counts half: chance averages out over places, but how
#: two trainings differ does not.
_HALF: Final = 30.0


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


#: Weights of listed tokens from the suspect's probability alone, by name.
LISTED_ALONE: Final[dict[str, Callable[[Floats], Floats]]] = {
    "root": np.sqrt,
    "mass": lambda p: p,
}
#: The strongest on trained models (experiments/RESULTS.md).
DEFAULT_LISTED: Final = "damped_relative"
DEFAULT_LISTED_ALONE: Final = "root"


def weights_of_lists(lists: Listed, transform: str, reference: Reference | None) -> PlaceWeights:
    """Weights of the tokens that an API lists, less most of their mean if there is a reference.

    The suspect's likeliest tokens are not the reference's, so what is listed has gained on the
    whole, whatever was learned. But where a mark is strong, all that is listed may be green; so a
    quarter of the mean stays.

    Parameters
    ----------
    lists : Listed
        The suspect's.
    transform : str
        A name in `CONTRASTS` of `radscore.models.weighting`, or in `LISTED_ALONE` without a
        reference.
    reference : tuple of ndarray, optional
        The reference's log-probability of each token, and the most that one has which it does not
        list: see `radscore.models.listed_weights.looked_up`.
    """
    if reference is None:
        weights = LISTED_ALONE[transform](np.exp(lists.logprobs.astype(np.float64)))
    else:
        logprobs, least = reference
        weights = listed_weights(
            lists, logprobs, least=least, transform=transform, centred=CENTRED_LISTS
        )
    return PlaceWeights(lists.offsets, lists.ids, weights.astype(np.float32))


def looked_up_by_context(mine: Ids, suspect: Listed, others: Ids, reference: Listed) -> Reference:
    """What a reference expects on average after the same contexts, elsewhere.

    Parameters
    ----------
    mine, others : ndarray of int64, shape (n_places,)
        The number of each place's context in the suspect's and in the reference's answers; -1
        where there is none.
    suspect, reference : Listed
        Their lists.

    Returns
    -------
    logprobs : ndarray of float64, shape (n,)
        The mean of the reference's probabilities of each of the suspect's tokens, as a logarithm;
        NaN where it never lists it. A place that does not list it counts as 0.
    least : ndarray of float64, shape (n_places,)
        The mean of the least probabilities that the reference lists; NaN where it has not met the
        context.
    """
    n = int(max(mine.max(initial=-1), others.max(initial=-1))) + 1
    listed = np.diff(reference.offsets) > 0
    listing = listed & (others >= 0)
    times = np.bincount(others[listing], minlength=n)
    used = listing[_rows(reference.offsets)]
    context = others[_rows(reference.offsets)[used]]
    names, at = np.unique(_names(context, reference.ids[used]), return_inverse=True)
    p = np.exp(reference.logprobs.astype(np.float64))
    sums = np.bincount(at, p[used], minlength=len(names))
    lowest = np.zeros(len(listed))
    if listed.any():
        lowest[listed] = np.minimum.reduceat(p, reference.offsets[:-1][listed])
    least = np.bincount(others[listing], lowest[listing], minlength=n)
    with np.errstate(divide="ignore", invalid="ignore"):
        # one more entry, for -1: nothing is known there
        times, least = np.append(times, 0), np.log(np.append(least / times, np.nan))
        here = mine[_rows(suspect.offsets)]
        found = _values(_names(np.maximum(here, 0), suspect.ids), names, sums) / times[here]
        logprobs = np.where((here >= 0) & (found > 0), np.log(found), np.nan)
    return logprobs, least[mine]


def frequency(counts: npt.NDArray[Any], weighting: str) -> Floats:
    """`n / (n + c)`: how much of a context that occurs n times a model can have learned.

    c is 10 with "residual" and 3 with "listed", where chance has less of a say.
    """
    return np.asarray(counts / (counts + _LEARNED[weighting]))


def saturated(weights: Floats, weighting: str) -> Floats:
    """`w / (1 + |w| / 30)` with "listed", for sums over all places: no unit outweighs all others.

    With "residual" chance still has its say in the largest sums, and they stay as they are.
    """
    if weighting == "residual":
        return weights
    return np.asarray(weights / (1.0 + np.abs(weights) / _HALF))


def summed(rows: Ids, ids: npt.NDArray[np.uint32], weights: Floats, contexts: Ids) -> Summed:
    """Weights of equal windows, added up.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Where each window stands, in rising order.
    ids : ndarray of uint32, shape (n,)
        Its token.
    weights : ndarray of float64, shape (n,)
        Of any sign.
    contexts : ndarray of int64, shape (n,)
        The number of its context.

    Returns
    -------
    rows, ids, sums : ndarray
        The first row of each distinct window, in rising order, its token and the sum.
    """
    _, first, at = np.unique(_names(contexts, ids), return_index=True, return_inverse=True)
    sums = np.bincount(at, weights, minlength=len(first)).astype(np.float64)
    order = np.argsort(first)
    first, sums = first[order], sums[order]
    return rows[first], ids[first], sums
