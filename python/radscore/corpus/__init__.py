"""Corpora: token ids and text in files, read batch by batch."""

from __future__ import annotations

from radscore.corpus.base import DamagedFileError, SkipReport, Where, place
from radscore.corpus.corpus import Batch, Corpus
from radscore.corpus.inspection import Inspection, inspect_corpus
from radscore.corpus.opening import open_corpus
from radscore.corpus.registry import Known
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
