"""Corpora larger than memory, and clusters: shards are mapped, buckets reduced, sums merged.

A *run* is a folder with a manifest, which `prepare` writes. A *shard* is a stretch of the corpus:
`map_shard` reads one and writes its distinct windows to a file, by partition of their hash. A
*bucket* is a range of partitions: `reduce_bucket` deduplicates those of all shards and scores them.
`merge` adds up the buckets. Each step can run anywhere that sees the folder, as often as it takes,
and again after any failure; the result equals that of one scorer in memory, to the last bit.
"""

from __future__ import annotations

from radscore.runs.manifest import Run
from radscore.runs.preparation import prepare
from radscore.runs.scoring import score_run
from radscore.runs.steps import map_shard, merge, reduce_bucket
from radscore.sizes import parse_size

__all__ = ["Run", "map_shard", "merge", "parse_size", "prepare", "reduce_bucket", "score_run"]
