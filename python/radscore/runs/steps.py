"""The steps of a run: map a unit, reduce a part, merge. Each can be repeated."""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

from radscore import _core
from radscore.checks import check_choice, check_threads
from radscore.corpus.ahead import ReadAhead
from radscore.corpus.base import NOTHING_SKIPPED
from radscore.corpus.corpus import listed_now
from radscore.doubts import IdDoubt
from radscore.errors import ArgumentError, CorpusError, DamagedWindowsError, StorageError
from radscore.files import make_folder
from radscore.runs.buckets import (
    Stage,
    folder_of,
    path_of,
    read_part,
    read_parts,
    tallies_of,
    write_part,
)
from radscore.runs.manifest import window_shape
from radscore.runs.shards import cut_units, read_unit
from radscore.runs.sizes import budget_of, folders_of
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from radscore.corpus import Corpus
    from radscore.corpus.base import SkipReport
    from radscore.kgrams import KgramSet
    from radscore.results import ScoreResult
    from radscore.runs.manifest import Run
    from radscore.runs.shards import Part, UnitReading
    from radscore.schemes import Scheme

__all__ = ["map_unit", "merge", "reduce_part", "score_run"]

DEFAULT_MEMORY = 1 << 30
#: Partitions, as bits, where one call writes and reads all files.
_BITS = 12
#: Tokens of the widest window.
_WIDEST = 65
#: Files that a process has open beside those of units.
_OTHER_FILES = 256


def map_unit(
    run: Run,
    unit: int,
    corpus: Corpus,
    *,
    memory: int | str = DEFAULT_MEMORY,
    threads: int | None = None,
    redo: bool = False,
) -> bool:
    """Reads a work unit and writes its windows by partition; False where that was done before.

    Parameters
    ----------
    run, unit
        Which unit of which run.
    corpus : Corpus
        The corpus of the run, opened as it was.
    memory : int or str
        How much memory may be used.
    threads : int, optional
        Worker threads; all cores by default.
    redo : bool
        Whether to do it again although it was done.

    Raises
    ------
    StorageError
        If the corpus is not the run's, or the disk is full; what was finished is kept.
    """
    return Mapping(run, corpus, memory=memory, threads=threads).unit(unit, redo=redo)


class Mapping:
    """`map_unit` for several units: whether the corpus is the run's is looked at once."""

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
        self._run, self._corpus, self._threads = run, corpus, threads
        self._sources = absolute.sources
        self._memory = budget_of(memory).windows

    def unit(self, unit: int, *, redo: bool = False) -> bool:
        """Maps a unit; False where that was done before."""
        run = self._run
        if not 0 <= unit < len(run.units):
            raise ArgumentError(f"unit must be from 0 to {len(run.units) - 1}, not {unit}")
        if redo:
            run.marker_path(unit).unlink(missing_ok=True)
        elif run.is_done(unit):
            return False
        reach = max(run.content["windows"]["width"], (run.rules["start"] or 0) + 1)
        before = self._corpus.tokenised
        reading = read_unit(self._corpus, run.units[unit], reach)
        length, digest = self._write(unit, reading)
        for number in run.units[unit].sources:
            self._check_file(number)
        tokenised = self._corpus.tokenised
        if tokenised is not None and before is not None:
            tokenised = tokenised.plus(before, -1)
        run.mark(unit, length, digest, reading.skipped, tokenised, seen=reading.doubt.seen)
        return True

    def _check_file(self, number: int) -> None:
        """Raises if a file, or one beside it, has changed until now, when it was read."""
        source, folder = self._corpus.sources[number], self._run.folder
        if listed_now(self._sources[number]) != self._run.content["files"][number]:
            beside = ", or a file beside it," if source.sides else ""
            raise StorageError(
                f"{source.path}{beside} has changed since the run in {folder} was prepared"
            )

    def _write(self, unit: int, reading: UnitReading) -> tuple[int, bytes]:
        """Writes the file of a unit, by way of several where its windows outgrow the memory."""
        collector = _collector(self._run, self._threads)
        path, configuration = self._run.unit_path(unit), self._run.configuration
        pieces: list[Path] = []
        attempt = uuid.uuid4().hex

        def write_piece() -> None:
            pieces.append(path.with_suffix(f".{attempt}.{len(pieces)}.piece"))
            collector.write_shard(pieces[-1], configuration, unit)

        try:
            for part in _ahead(reading):
                _add(collector, part)
                if collector.n_bytes > self._memory:
                    write_piece()
            if not pieces:
                return collector.write_shard(path, configuration, unit)
            write_piece()
            limits = (self._memory, [path.parent])
            return collector.merge_shards(pieces, path, configuration, unit, *limits)
        finally:
            for piece in pieces:
                piece.unlink(missing_ok=True)


def parts_of(corpus: Corpus, start: int | None, progress: Callable[[Any], None] | None) -> _Parts:
    """A corpus in parts, so that no document must be held as a whole."""
    return _Parts(corpus, max(_WIDEST, (start or 0) + 1), progress)


class _Parts:
    """The parts of a corpus; `skipped` says, at the end, what was left out."""

    def __init__(self, corpus: Corpus, reach: int, progress: Callable[[Any], None] | None) -> None:
        self._corpus, self._reach, self._progress = corpus, reach, progress
        self.skipped: SkipReport = NOTHING_SKIPPED

    def __iter__(self) -> Iterator[Part]:
        n_documents, doubt = 0, IdDoubt(self._corpus.options.vocab_size)
        for unit in cut_units(self._corpus):
            reading = read_unit(self._corpus, unit, self._reach)
            for part in _ahead(reading):
                yield part
                n_documents += len(part.documents)
                if self._progress is not None:
                    self._progress(part)
            self.skipped = self.skipped.plus(reading.skipped)
            doubt.add(*reading.doubt.seen)
        self._corpus.take_doubt(doubt)
        if not n_documents:
            left_out = f"(skipped {self.skipped})"
            raise CorpusError(f"the corpus holds no documents that can be read {left_out}")


def score_with_files(
    parts: Iterable[Part],
    scheme: Scheme,
    *,
    memory: int | str,
    tmp: Any,
    threads: int | None,
    filter: KgramSet | None,
    **rules: Any,
) -> ScoreResult:
    """Scores documents with no more windows in memory than fit `memory`; the others go to files."""
    scorer = Scorer(scheme, filter=filter, threads=threads, **rules)
    limit, folders = budget_of(memory).windows, folders_of(tmp)
    collector = _core.WindowCollector(
        **window_shape(scheme, rules["start"]),
        seeds=scheme.core,
        dedup=rules["dedup"],
        prompt_role=rules["prompt_role"],
        filter=None if filter is None else filter.core,
        threads=check_threads(threads),
        bits=_BITS,
    )
    with TemporaryDirectory(prefix="radscore-", dir=folders[0]) as name:
        paths: list[Path] = []

        def write() -> None:
            paths.append(Path(name) / f"{len(paths)}.rsw")
            collector.write_shard(paths[-1], bytes(32), len(paths) - 1)

        for part in parts:
            _add(collector, part)
            if collector.n_bytes > limit:
                write()
        write()
        reducer = _core.Reducer([scheme.core], **rules, threads=check_threads(threads))
        _allow_open_files(len(paths))
        every, limits = (0, 1 << _BITS), (limit, folders)
        prefix = Path(name) / "exchange"
        (tally,), exchange = reducer.reduce(paths, bytes(32), *every, prefix, *limits)
        (by_unit,) = reducer.reduce_units(exchange, *every, *limits)
    return scorer.result_of(tally.merge(by_unit))


def _ahead(reading: UnitReading) -> Iterator[Part]:
    """The parts of a unit, one of them read ahead."""
    ahead: ReadAhead[Part | None] = ReadAhead(chain(reading, [None]))
    try:
        for part in ahead:
            if part is None:
                return
            yield part
    finally:
        ahead.close()


def _add(collector: _core.WindowCollector, part: Part) -> None:
    documents, prompts = part.documents, part.prompts
    first, last = part.span or (0, documents.n_tokens)
    collector.add(
        (documents.values, documents.offsets),
        None if prompts is None else (prompts.values, prompts.offsets),
        first,
        last,
    )


def _collector(run: Run, threads: int | None) -> _core.WindowCollector:
    """Cuts the windows of a run; no scheme is needed for that."""
    rules, chosen = run.rules, run.filter()
    return _core.WindowCollector(
        **run.content["windows"],
        seeds=None,
        dedup=rules["dedup"],
        prompt_role=rules["prompt_role"],
        filter=None if chosen is None else chosen.core,
        threads=check_threads(threads),
        bits=run.bits,
    )


def reduce_part(
    run: Run,
    part: int,
    scheme: Scheme,
    *,
    stage: Stage = "windows",
    memory: int | str = DEFAULT_MEMORY,
    threads: int | None = None,
) -> bool:
    """Deduplicates and scores a part of the partitions; False where that was done before.

    Parameters
    ----------
    run, part
        Which part of which run. All units must be mapped.
    scheme : Scheme
        The watermark and its key; it need not be known when the units are mapped.
    stage : {"windows", "units"}
        ``"units"`` follows once all parts of ``"windows"`` are done, for schemes whose units are
        not windows.
    memory, threads
        As in `map_unit`.

    Raises
    ------
    StorageError
        If a unit is not mapped, or its file is damaged; the message says what to redo.
    """
    return Reduction(run, scheme, stage, memory=memory, threads=threads).part(part)


class Reduction:
    """`reduce_part` for several parts: whether all that they read is there is looked at once."""

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
                f"stage {stage!r} is for schemes whose units are not windows (and dedup 'unit'); "
                "here all is done when the parts of 'windows' are"
            )
        self._run, self._scheme, self._stage, self._threads = run, scheme, stage, threads
        self._memory = budget_of(memory).windows

    def part(self, part: int) -> bool:
        """Reduces a part; False where that was done before."""
        run, scheme, stage = self._run, self._scheme, self._stage
        first, last = run.part_range(part)
        if read_part(run, scheme, part, stage) is not None:
            return False
        threads = check_threads(self._threads)
        reducer = _core.Reducer([scheme.core], **run.rules, threads=threads)
        target = path_of(run, scheme, part, stage)
        make_folder(target.parent)
        limits = (self._memory, [target.parent])
        written: list[tuple[int, Path]] = []
        if stage == "windows":
            prefix = target.with_suffix("")
            try:
                tallies, written = reducer.reduce(
                    self._units, run.configuration, first, last, prefix, *limits
                )
            except DamagedWindowsError as error:
                if error.path in self._units:
                    raise self._unmarked(error) from None
                raise
        else:
            tallies = reducer.reduce_units(self._exchange, first, last, *limits)
        write_part(run, scheme, part, stage, tallies=tallies, exchange=written)
        return True

    def _unmarked(self, error: DamagedWindowsError) -> StorageError:
        """Unmarks the unit whose file is damaged, so that it is mapped again."""
        unit, run = self._units.index(error.path), self._run
        run.marker_path(unit).unlink(missing_ok=True)
        return StorageError(
            f"{error.path} is damaged: {error.what}; run the same again, which makes work unit "
            f"{unit} anew (of a run in steps: radscore map {run.folder} --unit {unit} --redo)"
        )

    @cached_property
    def _units(self) -> list[Path]:
        """The files of all units; the core looks into them."""
        paths = [self._run.unit_path(unit) for unit in range(len(self._run.markers()))]
        _allow_open_files(len(paths))
        return paths

    @cached_property
    def _exchange(self) -> list[tuple[int, Path]]:
        """What all parts of the first stage have handed on."""
        folder = folder_of(self._run, self._scheme)
        parts = read_parts(self._run, self._scheme, "windows")
        files = [(index, folder / name) for part in parts for index, name in part["exchange"]]
        _allow_open_files(len(files))
        return files


def _allow_open_files(count: int) -> None:
    """Raises this process's limit of open files, as far as it may, where it is too low."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most < count:
        raise StorageError(
            f"a reduction opens {count} files at once, but a process here may open {hard} "
            "(ulimit -Hn): allow more, or prepare a run of larger units"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def merge(run: Run, scheme: Scheme) -> ScoreResult:
    """Adds up all parts: the result of the whole corpus.

    Raises
    ------
    StorageError
        If a part is not reduced yet.
    TokenError
        If not a single window was scored.
    """
    run.check_scheme(scheme)
    total: _core.Tally | None = None
    exchange: set[str] = set()
    for stage in stages_of(run, scheme):
        for part in read_parts(run, scheme, stage):
            exchange.update(name for _, name in part["exchange"])
            for tally in tallies_of(part):
                total = tally if total is None else total.merge(tally)
    if total is None:
        raise StorageError(f"{run.folder} has no parts")
    skipped, notes = run.read()
    run.tidy(folder_of(run, scheme), exchange)
    if total.n_documents == 0:
        raise CorpusError(f"the corpus holds no documents that can be read (skipped {skipped})")
    scorer = Scorer(scheme, **run.rules, filter=run.filter())
    result = scorer.result_of(total)
    return replace(result, n_skipped=skipped.count, notes=(*notes, *result.notes))


def stages_of(run: Run, scheme: Scheme) -> tuple[Stage, ...]:
    """How the parts are reduced: where units are not windows, by unit too, after all windows."""
    by_unit = run.rules["dedup"] == "unit" and not scheme.core.has_distinct_units
    return ("windows", "units") if by_unit else ("windows",)


def score_run(
    run: Run,
    corpus: Corpus,
    scheme: Scheme,
    *,
    memory: int | str = DEFAULT_MEMORY,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Does in this process whatever of a run is not done yet, and merges.

    Parameters
    ----------
    run, corpus, scheme, memory, threads
        As in `map_unit` and `reduce_part`.
    progress : callable, optional
        Called with the number of steps that are done, and of all.
    """
    stages = stages_of(run, scheme)
    total = len(run.units) + len(stages) * run.n_parts
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    mapping = Mapping(run, corpus, memory=memory, threads=threads)
    for unit in range(len(run.units)):
        mapping.unit(unit)
        step()
    for stage in stages:
        reduction = Reduction(run, scheme, stage, memory=memory, threads=threads)
        for part in range(run.n_parts):
            reduction.part(part)
            step()
    return merge(run, scheme)
