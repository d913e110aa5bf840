"""Values separated by tabs, with a line of names at the top."""

from __future__ import annotations

from radscore.corpus.formats.csv import Csv

__all__ = ["FORMAT"]


class Tsv(Csv):
    """Values separated by tabs."""

    name = "tsv"
    title = "tab-separated values"
    files = "`.tsv`; also packed as `jsonl` may be"
    remarks = "as for `csv`"

    suffixes = (".tsv",)
    delimiter = "\t"


FORMAT = Tsv()
