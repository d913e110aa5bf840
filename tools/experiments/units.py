"""Scores of units under the tested key and decoys, kept so that many weightings share them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import radscore as rs

__all__ = ["Units", "Z"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Z:
    """z under the tested key, and mean and standard deviation under the decoys."""

    z: float
    decoy_mean: float = math.nan
    decoy_sd: float = math.nan


class Units:
    """Distinct (context, token) pairs of green lists.

    Parameters
    ----------
    schemes : list of Scheme
        The tested key, then its decoys.
    contexts : ndarray of int64, shape (n, k)
    ids : ndarray of int64, shape (n, m)
        Tokens after each context.

    Attributes
    ----------
    unit : ndarray of int64, shape (n, m)
        The number of each pair's unit.
    context : ndarray of int64, shape (n,)
        The number of each place's context.
    """

    def __init__(self, schemes: list[rs.Scheme], contexts: Ids, ids: Ids) -> None:
        size = schemes[0].vocab_size
        distinct, self.context = np.unique(contexts, axis=0, return_inverse=True)
        self.context = self.context.ravel()
        pairs = self.context[:, None] * size + ids
        units, unit = np.unique(pairs, return_inverse=True)
        self.unit = unit.reshape(ids.shape)
        self.n = len(units)
        windows = np.column_stack([distinct[units // size], units % size]).astype(np.uint32)
        self.of_context = units // size
        self._share = float(schemes[0].core.share[0] / schemes[0].core.share[1])
        self.scores = np.stack([one.scores(windows).astype(np.uint8) for one in schemes])

    def sums(self, weights: Any) -> npt.NDArray[np.float64]:
        """The weights of each unit, added up."""
        return np.bincount(self.unit.ravel(), np.asarray(weights).ravel(), minlength=self.n)

    def z(self, sums: npt.NDArray[np.float64]) -> Z:
        """The test by the weights of the units."""
        share = self._share
        scale = math.sqrt(share * (1 - share) * float(sums @ sums)) or math.nan
        z = [(float(sums[one.view(np.bool_)].sum()) - share * float(sums.sum())) / scale
             for one in self.scores]
        decoys = np.array(z[1:]) if len(z) > 2 else np.full(2, np.nan)
        return Z(z[0], float(decoys.mean()), float(decoys.std(ddof=1)))
