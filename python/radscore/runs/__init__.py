"""Corpora larger than memory, and clusters: work units are mapped, partitions reduced, sums merged.

A *run* is a folder with a manifest. `prepare` writes it; `map_unit` reads one work unit of the
corpus and writes its distinct windows, by partition; `reduce_part` deduplicates some partitions of
all units and scores them; `merge` adds up. Every step can run anywhere that sees the folder, in any
number, and again after any failure: the result is that of one scorer in memory, to the last bit.
"""

from __future__ import annotations

from radscore.runs.manifest import Run, prepare
from radscore.runs.sizes import parse_size
from radscore.runs.steps import map_unit, merge, reduce_part, score_run

__all__ = ["Run", "map_unit", "merge", "parse_size", "prepare", "reduce_part", "score_run"]
