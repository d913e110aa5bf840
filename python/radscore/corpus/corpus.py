"""`Corpus`: the batches of many files, one after the other, read ahead of their consumer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from radscore.corpus.ahead import ReadAhead
from radscore.corpus.base import (
    NOTHING_SKIPPED,
    Chunk,
    DamagedFileError,
    Locations,
    Problems,
    SkipReport,
    counted,
)
from radscore.corpus.checks import any_ends, check_ids, cut_after, without
from radscore.corpus.format import Known, Options
from radscore.corpus.room import Room
from radscore.doubts import IdDoubt
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from radscore.corpus.format import Source
    from radscore.corpus.text.tokenised import Tokenised
    from radscore.documents import Documents

__all__ = ["Batch", "Corpus", "boundaries_of", "listed_now"]

_CURSOR_VERSION = 1


@dataclass(frozen=True, eq=False)
class Batch:
    """Some documents of a corpus, from one file.

    Attributes
    ----------
    documents : Documents
        The token ids; a view of the memory-mapped file if its format allows that.
    prompts : Documents or None
        The prompt of each document, if `prompt_field` was given.
    first_document : int
        Number of documents of the corpus before this batch.
    from_text : bool
        Whether a tokenizer made the ids from text.
    locations : Locations
        Where the documents came from.
    cursor : dict
        Where to continue after this batch, JSON-able: for :meth:`Corpus.batches`.
    n_bytes : int
        Bytes of the files that were read for this batch; over all batches at most
        :attr:`Corpus.total_bytes`.
    """

    documents: Documents
    prompts: Documents | None
    first_document: int
    from_text: bool
    locations: Locations
    cursor: dict[str, Any]
    n_bytes: int

    def __len__(self) -> int:
        return len(self.documents)

    def locate(self, index: int) -> str:
        """File and line (or row, token or document) of document `index` of this batch.

        Lines count from 1; rows, tokens and documents from 0.
        """
        return self.locations.locate(index)


@dataclass
class _Progress:
    """What has been handed on so far; what a cursor remembers."""

    source: int = 0
    position: dict[str, int] | None = None
    documents: int = 0
    bytes: int = 0
    skipped: SkipReport = NOTHING_SKIPPED
    seen: tuple[int, int, bool] = (-1, 0, False)

    def cursor(self, path: str) -> dict[str, Any]:
        return {
            "version": _CURSOR_VERSION,
            "source": self.source,
            "path": path,
            "position": dict(self.position or {}),
            "documents": self.documents,
            "bytes": self.bytes,
            "skipped": self.skipped.to_dict(),
            "seen": list(self.seen),
        }


class Corpus:
    """Documents in files, read batch by batch; made by :func:`open_corpus`.

    Iterating gives every :class:`Batch`; a corpus can be iterated again. One batch is read ahead
    in a background thread.

    Attributes
    ----------
    sources : tuple of Source
        The files, in reading order.
    formats : tuple of str
        Names of their formats, each once.
    field, prompt_field : str or None
        The fields that are read, if the files have fields.
    notes : tuple of str
        What the caller may want to know: the field chosen among several, what tokenised the text.
    total_bytes : int
        Size of all files.
    """

    def __init__(
        self, sources: list[Source], options: Options, on_error: Any, notes: tuple[str, ...] = ()
    ) -> None:
        self.sources = tuple(sources)
        self._notes = notes
        self.total_bytes = sum(source.size for source in sources)
        self._options = options
        self._on_error = Problems(on_error).on_error
        self._skipped = SkipReport()
        self._n_documents = 0
        self._seen = _Progress.seen

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of the files' formats, each once, in reading order."""
        return tuple(dict.fromkeys(source.format.name for source in self.sources))

    @property
    def field(self) -> str | None:
        """The field that is read, if the files have fields."""
        return None if self._options.fields is None else self._options.fields.main

    @property
    def notes(self) -> tuple[str, ...]:
        """What the caller may want to know.

        Such as files of a folder that are not read, dtypes in doubt, the field chosen among
        several and, once the corpus has been read, what tokenised the text, whether the ids look
        like another tokenizer's, and whether the end-of-document id is nowhere.
        """
        note = None if self.tokenised is None else self.tokenised.note
        doubt = self._doubt(self._seen)
        return (*self._notes, *(() if note is None else (note,)), *doubt.notes)

    def _doubt(self, seen: tuple[int, int, bool]) -> IdDoubt:
        doubt = IdDoubt(self._options.vocab_size, self._options.eod)
        doubt.add(*seen)
        return doubt

    @property
    def notes_of_opening(self) -> tuple[str, ...]:
        """The notes that were known before the corpus was read."""
        return self._notes

    @property
    def tokenised(self) -> Tokenised | None:
        """What has made ids from text so far, if there is a tokenizer."""
        fields = self._options.fields
        encoder = None if fields is None else fields.encoder
        return None if encoder is None else encoder.tokenised

    @property
    def prompt_field(self) -> str | None:
        """The field that holds each document's prompt, if any."""
        return None if self._options.fields is None else self._options.fields.prompt

    @property
    def room(self) -> Room | None:
        """The memory that one record may take, if that is limited."""
        return None if self._options.fields is None else self._options.fields.room

    @property
    def options(self) -> Options:
        """How the files are read."""
        return self._options

    @property
    def skipped(self) -> SkipReport:
        """What the latest pass has left out so far (``on_error="skip"``)."""
        return self._skipped

    @property
    def n_documents(self) -> int:
        """Documents that the latest pass has handed on so far."""
        return self._n_documents

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides which ids are read from a file, JSON-able.

        Two runs over the same files with the same settings read the same documents.
        """
        options, fields = self._options, self._options.fields
        encoder = None if fields is None else fields.encoder
        return {
            "field": self.field,
            "prompt_field": self.prompt_field,
            "tokenizer": None if encoder is None else encoder.fingerprint,
            "dtype": None if options.dtype is None else options.dtype.name,
            "eod": options.eod,
            "vocab_size": options.vocab_size,
            "on_error": self._on_error,
        }

    def within(self, memory: int) -> Corpus:
        """The same corpus, without records that take more than a memory limit leaves for one.

        They are bad records. (Options that are none of `settings`: with enough memory, nothing
        differs.)
        """
        fields = self._options.fields
        if fields is None:
            return self
        limited = replace(fields, room=Room.within(memory))
        options = replace(self._options, fields=limited)
        return Corpus(list(self.sources), options, self._on_error, self._notes)

    def absolute(self) -> Corpus:
        """The same corpus with absolute paths, for processes in other folders."""
        sources = [
            replace(
                source,
                path=source.path.absolute(),
                sides=tuple(side.absolute() for side in source.sides),
            )
            if source.is_file
            else source
            for source in self.sources
        ]
        return Corpus(sources, self._options, self._on_error, self._notes)

    def manifest(self) -> list[dict[str, Any]]:
        """Path, format, size and modification time of every file, JSON-able, to detect changes.

        Index and metadata files are listed with their file.
        """
        return [_listed(source) for source in self.sources]

    @property
    def boundaries(self) -> str | None:
        """What tells where documents end, in a line; None if each is a record of its own."""
        return boundaries_of(self.sources, self._options.eod)

    def known(self) -> Known:
        """Tokens and documents of all files, as far as headers and indexes tell.

        Only headers, footers and indexes are read. Records that turn out to be bad are counted.

        Raises
        ------
        CorpusError
            If a header or an index is damaged (unless ``on_error="skip"``: nothing is known then).
        """
        total, eod = Known(0, 0), self._options.eod
        if eod is not None:  # it may cut documents once more, or be left out
            limit = self._options.vocab_size
            total = Known(None if limit is not None and eod >= limit else 0, None)
        for source in self.sources:
            try:
                total = total.plus(source.format.known(source, self._options))
            except CorpusError:
                if self._on_error == "raise":
                    raise
                return Known(None, None)
            if total == Known(None, None):
                break
        return total

    def __repr__(self) -> str:
        return f"Corpus(files={len(self.sources)}, bytes={self.total_bytes}, field={self.field!r})"

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: dict[str, Any] | None = None) -> Generator[Batch]:
        """Every batch, or those after the batch whose `cursor` is given as `start`.

        Parameters
        ----------
        start : dict, optional
            The `cursor` of a batch of a corpus that was opened on the same files with the same
            settings. Reading continues exactly after it; the batches may be of another size.

        Raises
        ------
        CorpusError
            If a file is damaged or a record is bad (unless ``on_error="skip"``), if no file has a
            document, or if `start` does not belong to these files.
        """
        progress = self._progress(start)
        self._skipped, self._n_documents = progress.skipped, progress.documents
        self._seen = progress.seen
        return self._deliver(progress)

    def _deliver(self, progress: _Progress) -> Generator[Batch]:
        ahead = ReadAhead(self._read(progress))
        try:
            for item in ahead:
                self._skipped = item.skipped
                if isinstance(item, _End):
                    break
                self._n_documents = item.batch.first_document + len(item.batch)
                self._seen = item.seen
                yield item.batch
        finally:
            ahead.close()

    def chunks_from(
        self, source: Source, position: dict[str, int], batch_tokens: int, room: int
    ) -> Iterator[Chunk]:
        """The documents of one file after a reader's position, in small batches, for a sample.

        If one document may be as large as the file, only `room` tokens are read. Neither `skipped`
        nor `n_documents` change.
        """
        fields = self._options.fields
        small = None if fields is None else replace(fields, batch_tokens=batch_tokens)
        options = replace(self._options, batch_tokens=batch_tokens, fields=small)
        alone = Corpus([source], options, self._on_error)
        problems = Problems(self._on_error)
        return alone.checked_chunks(source, position, problems, room=room)

    def _progress(self, start: dict[str, Any] | None) -> _Progress:
        if start is None:
            return _Progress()
        try:
            progress = _Progress(
                int(start["source"]),
                {str(key): int(value) for key, value in start["position"].items()},
                int(start["documents"]),
                int(start["bytes"]),
                SkipReport.from_dict(start["skipped"]),
                _seen_of(start.get("seen", [-1, 0, True])),
            )
            version, path = start["version"], start["path"]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CorpusError("start is not the cursor of a batch") from None
        if version != _CURSOR_VERSION:
            raise CorpusError(f"start is a cursor of version {version}, not {_CURSOR_VERSION}")
        if not 0 <= progress.source < len(self.sources) or path != str(
            self.sources[progress.source].path
        ):
            raise CorpusError(f"start points into {path}, which is not that file of this corpus")
        return progress

    def _read(self, progress: _Progress) -> Iterator[_Item | _End]:
        """Runs in the reading thread."""
        problems = Problems(self._on_error)
        doubt = self._doubt(progress.seen)
        first = progress.source
        files_before = sum(source.size for source in self.sources[:first])
        for index in range(first, len(self.sources)):
            source = self.sources[index]
            position = progress.position if index == first and progress.position else {}
            progress.source = index
            for chunk in self.checked_chunks(source, position, problems):
                progress.position = chunk.position
                progress.skipped = progress.skipped.plus(chunk.skipped)
                if len(chunk.documents) == 0:
                    continue
                before, bytes_before = progress.documents, progress.bytes
                progress.documents += len(chunk.documents)
                progress.bytes = max(files_before + chunk.bytes_read, bytes_before)
                doubt.take(chunk.documents, ended=chunk.ended)
                progress.seen = doubt.seen
                batch = Batch(
                    documents=chunk.documents,
                    prompts=chunk.prompts,
                    first_document=before,
                    from_text=chunk.from_text,
                    locations=chunk.locations,
                    cursor=progress.cursor(str(source.path)),
                    n_bytes=progress.bytes - bytes_before,
                )
                yield _Item(batch, progress.skipped, progress.seen)
            progress.skipped = progress.skipped.plus(problems.take())
            files_before += source.size
        if progress.documents == 0:
            raise CorpusError(self._nothing(progress.skipped))
        yield _End(progress.skipped)

    def _nothing(self, skipped: SkipReport) -> str:
        files = str(self.sources[0].path)
        if len(self.sources) > 1:
            files += f" and {counted(len(self.sources) - 1, 'more file')}"
        if not skipped:
            return f"the corpus holds no documents: {files}"
        return (
            f"the corpus holds no documents that can be read: {files}; skipped "
            f"{skipped}, first {skipped.examples[0]}"
        )

    def checked_chunks(
        self,
        source: Source,
        position: dict[str, int],
        problems: Problems,
        end: dict[str, int] | None = None,
        room: int | None = None,
    ) -> Iterator[Chunk]:
        """The chunks of one file, cut at `eod`, with all ids inside the vocabulary.

        `end` is where the reader stops; by default at the end of the file, or after `room` tokens
        of a file that can be cut anywhere.
        """
        fields = self._options.fields
        encoder = None if fields is None else fields.encoder
        failures = None if encoder is None else encoder.failures
        try:
            reader = source.format.open(source, self._options, problems)
            if room is not None and reader.n_tokens is not None:
                end = {"token": min(position.get("token", 0) + room, reader.n_tokens)}
            for chunk in reader.chunks(position, end):
                cut = chunk
                if self._options.eod is not None:
                    if not reader.cuts_at_eod:
                        cut = cut_after(chunk, self._options.eod)
                    cut = replace(cut, ended=any_ends(cut.documents, self._options.eod))
                    limit = self._options.vocab_size
                    if limit is not None and self._options.eod >= limit:
                        cut = replace(cut, documents=without(cut.documents, self._options.eod))
                cut = check_ids(cut, self._options.vocab_size, problems, failures)
                yield replace(cut, skipped=chunk.skipped.plus(problems.take()))
        except DamagedFileError as error:
            problems.file(error)


def boundaries_of(sources: Sequence[Source], eod: int | None) -> str | None:
    """What tells where documents end, in a line; None if each is a record of its own."""
    found = Counter(source.format.boundaries(source, eod) for source in sources)
    told = [f"{what} ({counted(n, 'file')})" for what, n in found.items() if what is not None]
    return f"document boundaries: {'; '.join(told)}" if told else None


def _listed(source: Source) -> dict[str, Any]:
    return {
        "path": str(source.path),
        "format": source.format.name,
        "size": source.size,
        "mtime_ns": source.mtime_ns,
        **({"sides": _changes(source.sides)} if source.sides else {}),
    }


def listed_now(source: Source) -> dict[str, Any]:
    """What :meth:`Corpus.manifest` says of a file, as the file is now."""
    if not source.is_file:
        return _listed(source)
    [[_, size, mtime_ns]] = _changes((source.path,))
    if source.format.data_in_sides:
        size = source.size
    return _listed(replace(source, size=size, mtime_ns=mtime_ns))


def _changes(paths: tuple[Path, ...]) -> list[list[Any]]:
    """Path, size and modification time of some files; -1 for those that are gone."""
    found: list[list[Any]] = []
    for path in paths:
        try:
            status = path.stat()
            found.append([str(path), status.st_size, status.st_mtime_ns])
        except OSError:
            found.append([str(path), -1, -1])
    return found


def _seen_of(value: Any) -> tuple[int, int, bool]:
    largest, n_tokens, ended = value
    return int(largest), int(n_tokens), bool(ended)


@dataclass(frozen=True, eq=False)
class _Item:
    batch: Batch
    skipped: SkipReport
    seen: tuple[int, int, bool]


@dataclass(frozen=True)
class _End:
    skipped: SkipReport
