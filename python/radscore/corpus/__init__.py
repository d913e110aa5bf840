"""Corpora: token ids and text in files, read batch by batch."""

from __future__ import annotations

from radscore.corpus._base import DamagedFileError, SkipReport, Where, place
from radscore.corpus._open import open_corpus
from radscore.corpus.formats import Known
from radscore.corpus.inspection import Inspection, inspect_corpus
from radscore.corpus.reading import Batch, Corpus
from radscore.corpus.sources import Source

__all__ = [
    "Batch",
    "Corpus",
    "DamagedFileError",
    "Inspection",
    "Known",
    "SkipReport",
    "Source",
    "Where",
    "inspect_corpus",
    "open_corpus",
    "place",
]
