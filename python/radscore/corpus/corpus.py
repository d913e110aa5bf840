"""`Corpus`: the batches of many files, one after the other, read ahead of who uses them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from radscore.corpus.ahead import ReadAhead
from radscore.corpus.base import (
    NOTHING_SKIPPED,
    Chunk,
    DamagedFileError,
    Problems,
    Reader,
    SkipReport,
    Where,
    counted,
)
from radscore.corpus.checks import check_ids, cut_after, without
from radscore.corpus.registry import Known, boundaries, known, reader_of, shortened
from radscore.doubts import IdDoubt
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    import numpy as np

    from radscore.corpus.records import Fields
    from radscore.corpus.sources import Source
    from radscore.corpus.text.tokenizer import Tokenised
    from radscore.documents import Documents

__all__ = ["Batch", "Corpus", "Options", "listed_now"]

_CURSOR_VERSION = 1


@dataclass(frozen=True)
class Options:
    """How the files of a corpus are read; see `open_corpus`."""

    fields: Fields | None
    dtype: np.dtype[Any] | None
    eod: int | None
    vocab_size: int | None
    batch_tokens: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Some documents of a corpus, from one file.

    Attributes
    ----------
    documents : Documents
        The token ids; a window into the memory-mapped file where its format allows that.
    prompts : Documents or None
        The prompt of each document, where `prompt_field` was given.
    first_document : int
        Number of documents of the corpus before this batch.
    from_text : bool
        Whether the tokenizer made the ids of text.
    where : Where
        The places the documents came from.
    cursor : dict
        Where the corpus goes on after this batch, JSON-able: for :meth:`Corpus.batches`.
    n_bytes : int
        Bytes of the files that were read for this batch; over all batches at most
        :attr:`Corpus.total_bytes`.
    """

    documents: Documents
    prompts: Documents | None
    first_document: int
    from_text: bool
    where: Where
    cursor: dict[str, Any]
    n_bytes: int

    def __len__(self) -> int:
        return len(self.documents)

    def locate(self, index: int) -> str:
        """File and line (or row, or token) of document `index` of this batch.

        Lines count from 1; rows and tokens from 0.
        """
        return self.where.locate(index)


@dataclass
class _Progress:
    """Totals of what was handed on; what a cursor remembers."""

    source: int = 0
    position: dict[str, int] | None = None
    documents: int = 0
    bytes: int = 0
    skipped: SkipReport = NOTHING_SKIPPED

    def cursor(self, path: str) -> dict[str, Any]:
        return {
            "version": _CURSOR_VERSION,
            "source": self.source,
            "path": path,
            "position": dict(self.position or {}),
            "documents": self.documents,
            "bytes": self.bytes,
            "skipped": self.skipped.as_dict(),
        }


class Corpus:
    """Documents in files, read batch by batch; made by :func:`open_corpus`.

    Iterating gives every :class:`Batch`; a corpus can be iterated again. One batch is read ahead
    in a thread of its own.

    Attributes
    ----------
    sources : tuple of Source
        The files, in reading order.
    field, prompt_field : str or None
        The fields that are read, where the files have fields.
    notes : tuple of str
        What was decided that the caller may want to know, as which of several fields is read and
        what tokenised the text.
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
        self._doubt = IdDoubt(options.vocab_size)

    @property
    def field(self) -> str | None:
        """The field that is read, where the files have fields."""
        return None if self._options.fields is None else self._options.fields.main

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided that the caller may want to know.

        As which of several fields is read and, once text was read, what tokenised it, and
        whether the ids look like those of another tokenizer.
        """
        note = None if self.tokenised is None else self.tokenised.note
        notes = (note, self._doubt.note)
        return (*self._notes, *(one for one in notes if one is not None))

    def take_doubt(self, doubt: IdDoubt) -> None:
        """Has what somebody saw who read the corpus in units of work."""
        self._doubt = doubt

    @property
    def notes_of_opening(self) -> tuple[str, ...]:
        """The notes without what tokenised the text."""
        return self._notes

    @property
    def tokenised(self) -> Tokenised | None:
        """What has made ids of text so far, where there is a tokenizer."""
        fields = self._options.fields
        encoder = None if fields is None else fields.encoder
        return None if encoder is None else encoder.tokenised

    @property
    def prompt_field(self) -> str | None:
        """The field that holds each document's prompt, if any."""
        return None if self._options.fields is None else self._options.fields.prompt

    @property
    def options(self) -> Options:
        """How the files are read."""
        return self._options

    @property
    def skipped(self) -> SkipReport:
        """What the latest reading has left out so far (``on_error="skip"``)."""
        return self._skipped

    @property
    def n_documents(self) -> int:
        """Documents that the latest reading has handed on so far."""
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

    def absolute(self) -> Corpus:
        """The same corpus by absolute paths, for processes that run in another folder."""
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
        """Path, format, size and time of change of every file, JSON-able: to see changes by.

        Files beside it that tell how it is cut into documents are listed with it.
        """
        return [_listed(source) for source in self.sources]

    @property
    def boundaries(self) -> str | None:
        """What tells where documents end, in a line; None where each is a record of its own."""
        return boundaries(self.sources, self._options.eod)

    def known(self) -> Known:
        """Tokens and documents of all files, as far as headers and indexes tell them.

        Only headers, footers and indexes are read. Records that turn out to be bad are counted.

        Raises
        ------
        CorpusError
            If a header or an index is damaged (unless ``on_error="skip"``: nothing is known then).
        """
        total = Known(0, 0)
        for source in self.sources:
            try:
                total = total.plus(known(source, self._options))
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
            settings. Reading goes on exactly after it; how the documents are cut into batches
            may differ.

        Raises
        ------
        CorpusError
            If a file is damaged or a record is bad (unless ``on_error="skip"``), if there is no
            document in any file, or `start` does not belong to these files.
        """
        progress = self._progress(start)
        self._skipped, self._n_documents = progress.skipped, progress.documents
        self._doubt = IdDoubt(self._options.vocab_size)
        return self._deliver(progress)

    def _deliver(self, progress: _Progress) -> Generator[Batch]:
        ahead = ReadAhead(self._read(progress))
        try:
            for item in ahead:
                self._skipped = item.skipped
                if isinstance(item, _End):
                    break
                self._n_documents = item.batch.first_document + len(item.batch)
                self._doubt.take(item.batch.documents)
                yield item.batch
        finally:
            ahead.close()

    def chunks_from(
        self, source: Source, position: dict[str, int], batch_tokens: int, room: int
    ) -> Iterator[Chunk]:
        """The documents of one file after a reader's position, to look at; in small batches.

        Of bare ids of which no index tells the documents, only `room` are read: one document may
        be as large as the file. Neither `skipped` nor `n_documents` change.
        """
        fields = self._options.fields
        small = None if fields is None else replace(fields, batch_tokens=batch_tokens)
        options = replace(self._options, batch_tokens=batch_tokens, fields=small)
        part = Corpus([source], options, self._on_error)
        problems = Problems(self._on_error)
        reader = None if room > 2**40 else shortened(source, options, position, room)
        return part.checked_chunks(source, position, problems, reader)

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
            )
            version, path = start["version"], start["path"]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CorpusError("start is not the cursor of a batch") from None
        if version != _CURSOR_VERSION:
            raise CorpusError(f"start is a cursor of version {version}, not {_CURSOR_VERSION}")
        if not 0 <= progress.source < len(self.sources) or path != str(
            self.sources[progress.source].path
        ):
            raise CorpusError(f"start points into {path}, which is not this corpus's file there")
        return progress

    def _read(self, progress: _Progress) -> Iterator[_Item | _End]:
        """Runs in the reading thread."""
        problems = Problems(self._on_error)
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
                batch = Batch(
                    documents=chunk.documents,
                    prompts=chunk.prompts,
                    first_document=before,
                    from_text=chunk.from_text,
                    where=chunk.where,
                    cursor=progress.cursor(str(source.path)),
                    n_bytes=progress.bytes - bytes_before,
                )
                yield _Item(batch, progress.skipped)
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
        reader: Reader | None = None,
        end: dict[str, int] | None = None,
    ) -> Iterator[Chunk]:
        """The chunks of one file, cut at `eod` and free of ids outside of the vocabulary.

        `end` is where the reader stops, if not at the end of the file.
        """
        try:
            reader = reader_of(source, self._options, problems) if reader is None else reader
            for chunk in reader.chunks(position, end):
                cut = chunk
                if self._options.eod is not None:
                    if not reader.cuts:
                        cut = cut_after(chunk, self._options.eod)
                    limit = self._options.vocab_size
                    if limit is not None and self._options.eod >= limit:
                        cut = replace(cut, documents=without(cut.documents, self._options.eod))
                cut = check_ids(cut, self._options.vocab_size, problems)
                yield replace(cut, skipped=chunk.skipped.plus(problems.take()))
        except DamagedFileError as error:
            problems.file(error)


def _listed(source: Source) -> dict[str, Any]:
    return {
        "path": str(source.path),
        "format": source.format,
        "size": source.size,
        "mtime_ns": source.mtime_ns,
        **({"sides": _changes(source.sides)} if source.sides else {}),
    }


def listed_now(source: Source) -> dict[str, Any]:
    """What :meth:`Corpus.manifest` says of a file, as the file is now."""
    if not source.is_file:
        return _listed(source)
    [[_, size, mtime_ns]] = _changes((source.path,))
    if source.format == "datasets":  # its size is that of its sides
        size = source.size
    return _listed(replace(source, size=size, mtime_ns=mtime_ns))


def _changes(paths: tuple[Path, ...]) -> list[list[Any]]:
    """Path, size and time of change of some files; -1 for those that are gone."""
    found: list[list[Any]] = []
    for path in paths:
        try:
            status = path.stat()
            found.append([str(path), status.st_size, status.st_mtime_ns])
        except OSError:
            found.append([str(path), -1, -1])
    return found


@dataclass(frozen=True, eq=False)
class _Item:
    batch: Batch
    skipped: SkipReport


@dataclass(frozen=True)
class _End:
    skipped: SkipReport
