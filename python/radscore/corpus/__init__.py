"""Corpora: token ids and text in files, read batch by batch."""

from __future__ import annotations

from radscore.corpus.base import (
    Chunk,
    DamagedFileError,
    Locations,
    Position,
    Problems,
    Reader,
    SkipReport,
    location,
)
from radscore.corpus.corpus import Batch, Corpus
from radscore.corpus.format import Format, Known, Options, Preview, Source
from radscore.corpus.in_memory import documents_of
from radscore.corpus.inspection import Inspection, inspect_corpus
from radscore.corpus.opening import open_corpus
from radscore.corpus.registry import all_formats, register_format
from radscore.corpus.text.tokenizer import load_encoder

__all__ = [
    "Batch",
    "Chunk",
    "Corpus",
    "DamagedFileError",
    "Format",
    "Inspection",
    "Known",
    "Locations",
    "Options",
    "Position",
    "Preview",
    "Problems",
    "Reader",
    "SkipReport",
    "Source",
    "all_formats",
    "documents_of",
    "inspect_corpus",
    "load_encoder",
    "location",
    "open_corpus",
    "register_format",
]
