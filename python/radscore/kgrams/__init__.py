"""Sets and counts of k-grams, which serve as filters: the contexts a model may have learned."""

from radscore.kgrams.origin import KgramOrigin
from radscore.kgrams.sets import KgramCounts, KgramSet

__all__ = ["KgramCounts", "KgramOrigin", "KgramSet"]
