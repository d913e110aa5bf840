"""The steps of a run: map a shard, reduce a bucket, merge. Each can be repeated."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, get_args

from radscore import _core
from radscore.checks import check_choice, check_threads
from radscore.corpus.ahead import ReadAhead
from radscore.corpus.corpus import listed_now
from radscore.errors import ArgumentError, CorpusError, DamagedWindowsError, StorageError
from radscore.provenance import of_corpus
from radscore.runs.buckets import (
    Stage,
    bucket_path,
    read_bucket,
    read_buckets,
    tallies_of,
    write_bucket,
)
from radscore.runs.collector import Collector
from radscore.runs.folders import claim
from radscore.runs.markers import Marker, reading_notes, total_skipped
from radscore.runs.shards import ShardReading
from radscore.scoring.scorer import Scorer
from radscore.sizes import DEFAULT_MEMORY, budget_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radscore.corpus import Corpus
    from radscore.results import ScoreResult
    from radscore.runs.manifest import Run
    from radscore.runs.shards import Slice
    from radscore.schemes import Scheme

__all__ = ["BucketReducer", "ShardMapper", "map_shard", "merge", "reduce_bucket", "stages_of"]

#: Files that a process opens beside those of shards.
_OTHER_FILES = 256


def map_shard(
    run: Run,
    shard: int,
    corpus: Corpus,
    *,
    memory: int | str = DEFAULT_MEMORY,
    threads: int | None = None,
    fresh: bool = False,
) -> bool:
    """Reads a shard and writes its windows by partition; False if that was already done.

    Parameters
    ----------
    run, shard
        Which shard of which run.
    corpus : Corpus
        The run's corpus, opened in the same way.
    memory : int or str
        How much memory to use.
    threads : int, optional
        Worker threads; all cores by default.
    fresh : bool
        Whether to do it even if it was done before.

    Raises
    ------
    StorageError
        If the corpus is not the run's, or the disk is full; finished work is kept.
    """
    return ShardMapper(run, corpus, memory=memory, threads=threads).map(shard, fresh=fresh)


class ShardMapper:
    """`map_shard` for several shards, which compares the corpus with the run's only once."""

    def __init__(
        self,
        run: Run,
        corpus: Corpus,
        *,
        memory: int | str = DEFAULT_MEMORY,
        threads: int | None = None,
    ) -> None:
        absolute, content = corpus.absolute(), run.content
        if (absolute.manifest(), corpus.settings) != (content["files"], content["settings"]):
            raise StorageError(f"the corpus has changed since the run in {run.folder} was prepared")
        self._run, self._threads = run, threads
        self._sources = absolute.sources
        budget = budget_of(memory)
        self._corpus = corpus.within(budget.memory)
        room = self._corpus.room
        self._memory = budget.beside(None if room is None else room.n_bytes)

    def map(self, shard: int, *, fresh: bool = False) -> bool:
        """Maps a shard; False if that was already done."""
        run = self._run
        if not 0 <= shard < len(run.shards):
            raise ArgumentError(f"shard must be from 0 to {len(run.shards) - 1}, not {shard}")
        if fresh:
            run.marker_path(shard).unlink(missing_ok=True)
        elif run.is_mapped(shard):
            return False
        reach = max(run.content["windows"]["width"], (run.rules["start"] or 0) + 1)
        before = self._corpus.tokenised
        reading = ShardReading(self._corpus, run.shards[shard], reach)
        collector = Collector(run, self._memory, self._threads)
        length, digest = collector.write_all(_ahead(reading), run.shard_path(shard), shard)
        for number in run.shards[shard].sources:
            self._check_file(number)
        tokenised = self._corpus.tokenised
        if tokenised is not None and before is not None:
            tokenised = tokenised.plus(before, -1)
        Marker(
            shard=shard,
            configuration=run.content["configuration"],
            length=length,
            checksum=digest.hex(),
            tokens=collector.n_tokens,
            skipped=reading.skipped,
            tokenised=tokenised,
            seen=reading.doubt.seen,
        ).write(run.marker_path(shard))
        return True

    def _check_file(self, number: int) -> None:
        """Raises if a file, or one beside it, has changed by now, when it has been read."""
        source, folder = self._corpus.sources[number], self._run.folder
        if listed_now(self._sources[number]) != self._run.content["files"][number]:
            beside = ", or a file beside it," if source.sides else ""
            raise StorageError(
                f"{source.path}{beside} has changed since the run in {folder} was prepared"
            )


def _ahead(reading: ShardReading) -> Iterator[Slice]:
    """The slices of a shard, one of them read ahead."""
    ahead: ReadAhead[Slice | None] = ReadAhead(chain(reading, [None]))
    try:
        for some in ahead:
            if some is None:
                return
            yield some
    finally:
        ahead.close()


def reduce_bucket(
    run: Run,
    bucket: int,
    scheme: Scheme,
    *,
    stage: Stage = "windows",
    memory: int | str = DEFAULT_MEMORY,
    threads: int | None = None,
    fresh: bool = False,
) -> bool:
    """Deduplicates and scores a bucket; False if that was already done.

    Parameters
    ----------
    run, bucket
        Which bucket of which run. All shards must be mapped.
    scheme : Scheme
        The watermark and its key, which mapping did not need.
    stage : {"windows", "units"}
        ``"units"`` comes after all buckets of ``"windows"``, for schemes whose units are not
        windows.
    memory, threads, fresh
        As for `map_shard`.

    Raises
    ------
    StorageError
        If a shard is not mapped, or its file is damaged; the message says what to do again.
    """
    reducer = BucketReducer(run, scheme, stage, memory=memory, threads=threads)
    return reducer.reduce(bucket, fresh=fresh)


class BucketReducer:
    """`reduce_bucket` for several buckets, which looks only once whether its input is there."""

    def __init__(
        self,
        run: Run,
        scheme: Scheme,
        stage: Stage = "windows",
        *,
        memory: int | str = DEFAULT_MEMORY,
        threads: int | None = None,
    ) -> None:
        check_choice("stage", stage, get_args(Stage))
        run.check_scheme(scheme)
        if stage not in stages_of(run, scheme):
            raise ArgumentError(
                f"stage {stage!r} is for schemes whose units are not windows (with dedup 'unit'); "
                "this one is done after stage 'windows'"
            )
        self._run, self._scheme, self._stage, self._threads = run, scheme, stage, threads
        self._memory = budget_of(memory).windows

    def reduce(self, bucket: int, *, fresh: bool = False) -> bool:
        """Reduces a bucket; False if that was already done."""
        run, scheme, stage = self._run, self._scheme, self._stage
        first, last = run.partitions_of(bucket)
        if not fresh and read_bucket(run, scheme, bucket, stage) is not None:
            return False
        threads = check_threads(self._threads)
        reducer = _core.Reducer([scheme.core], **run.rules, threads=threads)
        target = bucket_path(run, scheme, bucket, stage)
        claim(target.parent)
        limits = (self._memory, [target.parent])
        written: list[tuple[int, Path]] = []
        if stage == "windows":
            prefix = target.with_suffix("")
            try:
                tallies, written = reducer.reduce(
                    self._shards, run.configuration, first, last, prefix, *limits
                )
            except DamagedWindowsError as error:
                if error.path in self._shards:
                    raise self._unmarked(error) from None
                raise
        else:
            tallies = reducer.reduce_units(self._exchange, first, last, *limits)
        write_bucket(run, scheme, bucket, stage, tallies=tallies, exchange=written)
        return True

    def _unmarked(self, error: DamagedWindowsError) -> StorageError:
        """Removes the marker of a shard whose file is damaged, so that it is mapped again."""
        shard, run = self._shards.index(error.path), self._run
        run.marker_path(shard).unlink(missing_ok=True)
        return StorageError(
            f"{error.path} is damaged: {error.what}; run the same again to rebuild shard {shard} "
            f"(step by step: radscore run map {run.folder} --shard {shard})"
        )

    @cached_property
    def _shards(self) -> list[Path]:
        """The files of all shards; the core looks inside."""
        paths = [self._run.shard_path(shard) for shard in range(len(self._run.markers()))]
        _allow_open_files(len(paths))
        return paths

    @cached_property
    def _exchange(self) -> list[tuple[int, Path]]:
        """Everything that the buckets of the first stage hand on."""
        folder = self._run.buckets_folder(self._scheme)
        buckets = read_buckets(self._run, self._scheme, "windows")
        files = [(group, folder / name) for one in buckets for group, name in one["exchange"]]
        _allow_open_files(len(files))
        return files


def _allow_open_files(count: int) -> None:
    """Raises this process's limit on open files where it is too low, as far as it may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most < count:
        raise StorageError(
            f"a reduction opens {count} files at once, but a process may open only {hard} here "
            "(ulimit -Hn): raise the limit, or prepare the run with larger shards"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def merge(run: Run, scheme: Scheme) -> ScoreResult:
    """Adds up all buckets: the result for the whole corpus.

    Raises
    ------
    StorageError
        If a bucket is not reduced.
    TokenError
        If not a single window was scored.
    """
    run.check_scheme(scheme)
    total: _core.Tally | None = None
    exchange: set[str] = set()
    for stage in stages_of(run, scheme):
        for bucket in read_buckets(run, scheme, stage):
            exchange.update(name for _, name in bucket["exchange"])
            for tally in tallies_of(bucket):
                total = tally if total is None else total.merge(tally)
    if total is None:
        raise StorageError(f"{run.folder} has no buckets")
    markers = run.markers()
    skipped = total_skipped(markers)
    run.clean_up(scheme, exchange)
    if total.n_documents == 0 and run.content["files"]:
        raise CorpusError(f"the corpus holds no readable documents (skipped {skipped})")
    result = Scorer(scheme, **run.rules, filter=run.filter()).result_of(total)
    settings = run.content["settings"]
    notes = [
        *run.content["notes"],
        *reading_notes(markers, settings["vocab_size"], settings.get("eod")),
    ]
    made = result.provenance
    if files := run.content["files"]:
        made = {**made, **of_corpus(files, settings)}
    return replace(result, n_skipped=skipped.count, notes=(*notes, *result.notes), provenance=made)


def stages_of(run: Run, scheme: Scheme) -> tuple[Stage, ...]:
    """The stages of reducing: windows and, if units are not windows, units after all windows."""
    by_unit = run.rules["dedup"] == "unit" and not scheme.core.has_distinct_units
    return ("windows", "units") if by_unit else ("windows",)
