"""Documents that come once, under a memory limit: mapped, reduced and merged in one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError
from radscore.runs.collector import Collector
from radscore.runs.markers import Marker
from radscore.runs.preparation import run_of_stream
from radscore.runs.shards import Shard, Slice, slices_of
from radscore.runs.steps import BucketReducer, merge, stages_of
from radscore.sizes import budget_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from radscore.documents import Documents
    from radscore.kgrams import KgramSet
    from radscore.results import ScoreResult
    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["score_slices", "score_stream"]


def score_stream(
    batches: Iterable[tuple[Documents, Documents | None]],
    scheme: Scheme,
    *,
    folders: Sequence[Path],
    memory: int | str,
    threads: int | None = None,
    filter: KgramSet | None = None,
    **rules: Any,
) -> ScoreResult:
    """Scores documents with a bounded number of windows in memory.

    Windows go to a shard's file whenever they fill the memory. The files are in a temporary folder
    that goes with the call, so an interrupted call starts from the beginning. Each batch is in
    memory for as long as it takes to cut it.

    Parameters
    ----------
    batches : iterable of (Documents, Documents or None)
        Documents and their prompts, in reading order.
    scheme : Scheme
        The watermark and its key; prompts may exclude windows by their seeds, since it cuts them.
    folders : sequence of Path
        Where to make the folder; the first one is used.
    memory, threads, filter
        As for `Scorer`.
    rules
        The other rules: `dedup`, `start`, `prompt_role`.

    Raises
    ------
    TokenError
        If an id is outside the vocabulary, or nothing was scored.
    """
    slices = _slices(batches, scheme, rules["start"])
    limits: dict[str, Any] = {"folders": folders, "memory": memory, "threads": threads}
    return score_slices(slices, scheme, filter=filter, **limits, **rules)


def score_slices(
    slices: Iterable[Slice],
    scheme: Scheme,
    *,
    folders: Sequence[Path],
    memory: int | str,
    threads: int | None = None,
    filter: KgramSet | None = None,
    **rules: Any,
) -> ScoreResult:
    """`score_stream`, of documents that are cut into slices already."""
    limit = budget_of(memory).windows
    with TemporaryDirectory(prefix="radscore-", dir=folders[0]) as folder:
        run = run_of_stream(Path(folder), scheme, rules, filter)
        collector = Collector(run, limit, threads, scheme)
        run = _mapped(run, collector, slices)
        for stage in stages_of(run, scheme):
            BucketReducer(run, scheme, stage, memory=memory, threads=threads).reduce(0)
        return merge(run, scheme)


def _mapped(run: Run, collector: Collector, slices: Iterable[Slice]) -> Run:
    """The run with the shards that were cut, one for each time the memory was full."""
    shards = 0

    def write() -> None:
        nonlocal shards
        length, digest = collector.write(run.shard_path(shards), shards)
        Marker(shards, run.content["configuration"], length, digest.hex()).write(
            run.marker_path(shards)
        )
        shards += 1

    for some in slices:
        collector.add(some)
        if collector.full:
            write()
    write()
    return replace(run, content={**run.content, "shards": [Shard(0).to_dict()] * shards})


def _slices(
    batches: Iterable[tuple[Documents, Documents | None]], scheme: Scheme, start: int | None
) -> Iterator[Slice]:
    reach = max(scheme.window_width, (start or 0) + 1)
    for documents, prompts in batches:
        documents.check_vocab(scheme.vocab_size)
        if prompts is not None and len(prompts) != len(documents):
            raise ArgumentError(f"there are {len(prompts)} prompts for {len(documents)} documents")
        yield from slices_of(documents, prompts, reach)
