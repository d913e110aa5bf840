"""`Format`: everything radscore knows of one layout of files; `Source`: one file of a corpus.

A layout is a module with a subclass of `Format` and one instance of it, registered in
`radscore.corpus.registry`. All other code asks the instance, and never compares its name.
"""

# ruff: noqa: ARG002 - the defaults of methods that subclasses override

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from radscore.corpus.compression import Codec
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from radscore.corpus.base import Position, Problems, Reader
    from radscore.corpus.records import Fields

__all__ = [
    "Codec",
    "Format",
    "Known",
    "Options",
    "Preview",
    "Record",
    "Scale",
    "Source",
    "status_of_file",
]

#: A record's location, the record, and its flaw if it cannot be read.
Record: TypeAlias = tuple[str, Any, str | None]


@dataclass(frozen=True)
class Options:
    """How the files of a corpus are read; see `open_corpus`.

    Attributes
    ----------
    fields : Fields or None
        What is taken from records; None in a corpus of bare ids only.
    dtype : dtype or None
        What headerless files hold.
    eod : int or None
        The id after which documents are cut.
    vocab_size : int or None
        All ids must be below it.
    batch_tokens : int
        About how many tokens a batch holds.
    """

    fields: Fields | None
    dtype: np.dtype[Any] | None
    eod: int | None
    vocab_size: int | None
    batch_tokens: int


@dataclass(frozen=True)
class Source:
    """One file of a corpus, and the files beside it that belong to it.

    Attributes
    ----------
    path : Path
        The file; of an object in memory, a name made up for it.
    format : Format
        What reads it.
    codec : str or None
        How it is compressed.
    size, mtime_ns : int
        Bytes of data, and the time of the last change.
    sides : tuple of Path
        Index and metadata files that are there.
    entry : object
        What an index says of the file, as read from its JSON.
    dataset : object
        The object that is read instead of a file.
    """

    path: Path
    format: Format
    codec: Codec | None
    size: int
    mtime_ns: int
    sides: tuple[Path, ...] = ()
    entry: Any = field(default=None, compare=False, repr=False)
    dataset: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def of_file(cls, path: Path, kind: Format, codec: Codec | None = None, **more: Any) -> Source:
        """The source of a regular file. Raises `CorpusError` if there is none at `path`."""
        status = status_of_file(path)
        return cls(path, kind, codec, status.st_size, status.st_mtime_ns, **more)

    @property
    def is_file(self) -> bool:
        """Whether it is a file rather than an object in memory."""
        return self.dataset is None


def status_of_file(path: Path) -> os.stat_result:
    """The status of a regular file.

    Raises
    ------
    CorpusError
        If there is none at `path`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise CorpusError(f"{path}: not a regular file")
    return status


@dataclass(frozen=True)
class Known:
    """What is known of a corpus before it is read; None if nothing tells.

    Attributes
    ----------
    n_tokens, n_documents : int or None
        Tokens and documents of all files.
    """

    n_tokens: int | None
    n_documents: int | None

    def plus(self, other: Known) -> Known:
        """Both as one."""
        return Known(_sum(self.n_tokens, other.n_tokens), _sum(self.n_documents, other.n_documents))


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True)
class Preview:
    """The fields of a file's records, found without reading all of it.

    Attributes
    ----------
    names : list of str or None
        The fields; None if there is no record to tell.
    where : str
        Where they were found; without names, what is wrong with the file ("" if it is empty).
    record : dict, optional
        A record that has been parsed for this.
    holds : callable, optional
        Whether a dotted path that is none of the names leads to a field within one.
    """

    names: list[str] | None
    where: str
    record: dict[str, Any] | None = None
    holds: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class Scale:
    """What the positions in a file count: `key`, from 0 to `total`.

    A reader can begin at every multiple of `step`; `rest` belongs to each of these positions.
    """

    key: str
    total: int
    step: int = 1
    rest: Position = field(default_factory=dict)


class Format(ABC):
    """A layout of files: how it is recognised, what it holds, and what reads it.

    Instances have no state: two of one class are equal. A subclass sets `name` and the words for
    people, implements `open`, and overrides whatever else differs from a plain file of records.
    Naming a format for a folder stands for its subclasses, too. No method runs once per record.
    """

    # ---- for people: --help shows the title and the files, docs/corpora.md all of it
    #: What `format=` and `--format` call it.
    name: ClassVar[str]
    #: Its usual name.
    title: ClassVar[str]
    #: Names of its files, with suffixes in backquotes.
    files: ClassVar[str]
    #: What of a file is read.
    content: ClassVar[str]
    #: What ends a document.
    documents: ClassVar[str]
    remarks: ClassVar[str] = ""

    # ---- how files are recognised
    #: Suffixes of its files, without that of a codec.
    suffixes: ClassVar[tuple[str, ...]] = ()
    #: Whether such a suffix is enough, unless another format recognises the file.
    suffix_suffices: ClassVar[bool] = True
    #: First bytes that identify a file whose suffix says nothing.
    magic: ClassVar[tuple[bytes, ...]] = ()
    #: Names of the files beside a file that belong to it, made of its {name} or its {stem}.
    side_names: ClassVar[tuple[str, ...]] = ()
    #: Codecs that its files may be compressed with, as a whole.
    codecs: ClassVar[tuple[Codec, ...]] = ()
    #: Whether only the name tells the codec, since a file may begin with any bytes.
    codec_by_name: ClassVar[bool] = False
    #: Names of files that are not data in spite of their suffix.
    not_data: ClassVar[frozenset[str]] = frozenset()
    #: Whether its files are left out of a folder that also holds data of other formats.
    gives_way: ClassVar[bool] = False
    #: Whether naming the format for a folder takes data files of any suffix, not just its own.
    takes_any_suffix: ClassVar[bool] = False

    # ---- what its files hold
    #: Whether its files may hold ids without anything that tells their dtype.
    headerless: ClassVar[bool] = False
    #: The end-of-document id of all its files, unless another is given.
    eod: ClassVar[int | None] = None
    #: What the positions in a file count, if they count documents.
    position_key: ClassVar[str] = ""
    #: Whether a damaged first file is an error even with on_error="skip", since more likely an
    #: option is wrong.
    always_checked: ClassVar[bool] = False
    #: Whether a source's path is an index, and the side files hold the data.
    data_in_sides: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"<format {self.name}>"

    # ---- finding files

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether a file with one of the suffixes is certainly of this format.

        By its first 16 bytes and the files beside it. A file that two formats recognise is refused.
        """
        return False

    def data_file(self, path: Path) -> Path | None:
        """The data file that a path stands for, if it is an index or a prefix of one."""
        return None

    def side_files(self, path: Path) -> tuple[Path, ...]:
        """The files that may lie beside a file and belong to it."""
        named = (name.format(name=path.name, stem=path.stem) for name in self.side_names)
        return tuple(path.with_name(name) for name in named)

    def is_side_file(self, path: Path) -> bool:
        """Whether a file only describes one beside it; patterns leave it out."""
        for suffix, name in product(self.suffixes, self.side_names):
            ending = name.format(name=suffix, stem="")
            data = path.with_name(f"{path.name.removesuffix(ending)}{suffix}")
            if path.name.endswith(ending) and data.exists():
                return True
        return False

    def folder_sources(self, folder: Path, names: set[str]) -> list[Source] | None:
        """The sources that a folder's own index lists, in its order; None without such an index.

        `names` are the files in the folder. Raises `CorpusError` if the index is damaged or lists
        files that are not there.
        """
        return None

    def takes_object(self, value: object) -> bool:
        """Whether an object in memory is of this format. Must not import what defines it."""
        return False

    def object_source(self, value: Any) -> Source:
        """The source of such an object. Raises `ArgumentError` if it cannot be read."""
        raise NotImplementedError

    def source(self, path: Path, codec: Codec | None) -> Source:
        """The source of one file."""
        sides = tuple(side for side in self.side_files(path) if side.exists())
        return Source.of_file(path, self, codec, sides=sides)

    # ---- before reading: headers, footers and indexes only

    def has_fields(self, source: Source) -> bool:
        """Whether the documents are fields of records."""
        return True

    def preview(self, source: Source) -> Preview:
        """The fields of the records. Raises `DamagedFileError` if the file is damaged."""
        raise NotImplementedError

    def takes_dtype(self, source: Source) -> bool:
        """Whether a dtype given by the caller can matter."""
        return self.headerless

    def tells_dtype(self, source: Source) -> bool:
        """Whether the file or one beside it tells the dtype of its ids."""
        return True

    def known(self, source: Source, options: Options) -> Known:
        """Tokens and documents, as far as a header, footer or index tells."""
        return Known(None, None)

    def boundaries(self, source: Source, eod: int | None) -> str | None:
        """What tells where documents end, in a few words; None if each is a record."""
        return None

    def notes(self, sources: Sequence[Source], options: Options) -> tuple[str, ...]:
        """What the caller should know about the corpus's sources of this format."""
        return ()

    def sample(self, source: Source, options: Options) -> list[npt.NDArray[Any]]:
        """Some ids of a file, each array consecutive, if their dtype is worth a doubt.

        Only a little may be read. Raises `CorpusError` if the file is damaged.
        """
        return []

    # ---- reading

    @abstractmethod
    def open(self, source: Source, options: Options, problems: Problems) -> Reader:
        """The reader of a file; `options.fields` is set if `has_fields` is true.

        Raises
        ------
        CorpusError
            If the file is damaged, does not fit its index, or holds neither ids nor text.
        """

    def records(self, source: Source) -> Iterator[Record]:
        """All records of a file, for prompts and answers.

        Raises
        ------
        ArgumentError
            If files of this format hold no text.
        """
        raise ArgumentError(f"{source.path}: files of format {self.name} hold no text")

    # ---- sampling

    def scale(self, source: Source, options: Options) -> Scale | None:
        """What positions count; None if a file can be read from its beginning only."""
        number = self.known(source, options).n_documents if self.position_key else None
        return None if number is None else Scale(self.position_key, number)

    def positions(self, source: Source, options: Options, shares: list[float]) -> list[Position]:
        """Positions at which a reader can begin, at about these shares of the file."""
        scale = self.scale(source, options)
        if scale is None:
            return [{}]
        points = (int(share * scale.total) // scale.step * scale.step for share in shares)
        return [{scale.key: point, **scale.rest} for point in points]
