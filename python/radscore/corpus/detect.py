"""Which files make up a corpus, and the format of each."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import InputOptionError, counted
from radscore.corpus.compression import codec_of_head, codec_of_name, is_packed
from radscore.corpus.folders import (
    bare_name,
    is_no_data,
    note_of_copies,
    note_of_splits,
    note_of_unread,
)
from radscore.corpus.format import status_of_file
from radscore.corpus.registry import all_formats, broken_formats, format_named
from radscore.corpus.remote import local_path
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus.compression import Codec
    from radscore.corpus.format import Format, Source

__all__ = ["find_sources", "find_with_notes"]

#: Codecs whose suffix never hides a file: one whose format cannot be compressed is an error.
_COMMON_CODECS = ("gzip", "zstd")
_ARCHIVES = (".tar", ".tgz", ".zip", ".7z", ".rar")
_HEAD = 16


def find_sources(paths: Any, format_name: str | None = None) -> list[Source]:
    """The files that `paths` name: files, folders (recursively, sorted) and glob patterns.

    A file that is named twice is read once, and so is an object that is given twice. In a folder,
    files are taken by their suffix, or as the folder's index lists them; names that begin with a
    dot or an underscore, and files that are no data, are left out.

    Parameters
    ----------
    paths : path, iterable of paths, or object in memory that a format reads
        What to read.
    format_name : str, optional
        The format of all files; by default each file's is detected.

    Raises
    ------
    CorpusError
        If a path names nothing, or the format of a file cannot be detected.
    ArgumentError
        If there is no such format, or an object cannot be read.
    """
    return find_with_notes(paths, format_name)[0]


def find_with_notes(
    paths: Any, format_name: str | None = None
) -> tuple[list[Source], tuple[str, ...]]:
    """The same, and what the caller should know of what was found and what was left out."""
    search = _Search(None if format_name is None else format_named(format_name))
    sources: list[Source] = []
    seen: set[str | int] = set()
    names: Counter[Path] = Counter()
    for path in _each(paths):
        if isinstance(path, (str, os.PathLike)):
            for source in search.sources_of(local_path(os.fspath(path))):
                real = os.path.realpath(source.path)
                if real not in seen:
                    seen.add(real)
                    sources.append(source)
        elif id(path) not in seen:  # its name is made up, so it does not tell objects apart
            source = _object_source(path)
            names[source.path] += 1
            seen.add(id(path))
            sources.append(_numbered(source, names[source.path]))
    if not sources:
        raise InputOptionError("no input was given: name at least one file, folder or pattern")
    return sources, search.all_notes(sources)


def _each(paths: Any) -> Iterable[Any]:
    """`paths` one by one; an object that a format reads is one, though it can be iterated."""
    if isinstance(paths, (str, os.PathLike)) or any(
        one.takes_object(paths) for one in all_formats()
    ):
        return [paths]
    return paths if isinstance(paths, Iterable) else [paths]


def _object_source(value: object) -> Source:
    for one in all_formats():
        if one.takes_object(value):
            return one.object_source(value)
    raise ArgumentError(
        f"a path, table, Dataset or IterableDataset can be read, not {type(value).__name__}"
    )


def _numbered(source: Source, number: int) -> Source:
    """The source of an object; all but the first of one name get their number appended."""
    return source if number == 1 else replace(source, path=Path(f"{source.path}#{number}"))


# ---- paths -------------------------------------------------------------------------------------


class _Search:
    """Finds sources, and remembers what the caller should know.

    Parameters
    ----------
    named : Format or None
        The format of all files, if the caller named it.
    """

    def __init__(self, named: Format | None) -> None:
        self._named = named
        self._no_data = {name for one in all_formats() for name in one.not_data}
        self._unread: dict[Path, list[Path]] = {}
        self._notes: list[str] = []
        # By what is strange about them.
        self._strange: dict[str, list[Path]] = {}

    def all_notes(self, sources: list[Source]) -> tuple[str, ...]:
        """What the caller should know."""
        read = {path for source in sources for path in (source.path, *source.sides)}
        notes = list(self._notes)
        for folder, unread in self._unread.items():
            note = note_of_unread(folder, [path for path in unread if path not in read])
            notes += [] if note is None else [note]
        for what, paths in self._strange.items():
            more = f" (and {counted(len(paths) - 1, 'more file')})" if len(paths) > 1 else ""
            notes.append(f"{paths[0]}: {what}{more}")
        return tuple(dict.fromkeys(notes))

    def sources_of(self, path: str) -> Iterator[Source]:
        """The files that a path, folder or pattern names."""
        if Path(path).is_dir():
            yield from self._folder(Path(path))
        elif os.path.lexists(path) or _data_file(Path(path), self._named) is not None:
            yield self._source(Path(path))
        elif glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - absolute patterns too
            if not matches:
                raise InputOptionError(f"{path}: no file matches this pattern")
            for match in matches:
                if not Path(match).is_dir():
                    if not _is_side_file(Path(match)):
                        yield self._source(Path(match))
                elif "**" not in path:  # which matches the files in it as well
                    yield from self.sources_of(match)
        else:
            raise InputOptionError(f"{path}: no such file or folder")

    def _folder(self, folder: Path) -> list[Source]:
        unread: list[Path] = []
        every = list(self._walk(folder, unread))
        # Some files only describe the others.
        found = [one for one in every if not one.format.gives_way]
        if found:
            unread += [one.path for one in every if one.format.gives_way]
        found = found or every
        if not found:
            suffixes = ", ".join(_folder_suffixes(self._named))
            note = note_of_unread(folder, unread)
            holds = "" if note is None else f"; {note.partition(': ')[2]}"
            raise InputOptionError(f"{folder}: no file in this folder ends in {suffixes}{holds}")
        if unread:
            self._unread[folder] = unread
        paths = [source.path for source in found]
        notes = (note_of_splits(folder, paths), note_of_copies(folder, paths))
        self._notes += [note for note in notes if note is not None]
        return found

    def _walk(self, folder: Path, unread: list[Path]) -> Iterator[Source]:
        for parent, folders, files in os.walk(folder, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
            # Links to folders may lead in circles, and are not followed.
            unread += [path for name in folders if (path := Path(parent, name)).is_symlink()]
            listed = _listed(Path(parent), set(files), self._named)
            if listed is not None:
                if any(source.path.parent != Path(parent) for source in listed):
                    folders.clear()  # what lies there and is not listed is no part of it
                yield from listed
                unread += self._unlisted(Path(parent), files, listed)
                continue
            for name in sorted(files):
                path = Path(parent, name)
                if is_no_data(name) or name in self._no_data or _is_side_file(path):
                    continue
                if _is_taken(path, self._named):
                    yield self._source(path)
                else:
                    unread.append(path)

    def _unlisted(self, folder: Path, files: list[str], listed: list[Source]) -> list[Path]:
        """Files that look like data, but that the folder's index does not list.

        A listed file may be there twice, compressed and not.
        """
        taken = {path for source in listed for path in (source.path, *source.sides)}
        stems = {bare_name(path) for path in taken}
        paths = (Path(folder, name) for name in sorted(files))
        return [
            path
            for path in paths
            if path not in taken
            and not (is_no_data(path.name) or path.name in self._no_data or _is_side_file(path))
            and bare_name(path) not in stems
        ]

    def _source(self, path: Path) -> Source:
        path = _data_file(path, self._named) or path
        status = status_of_file(path)  # opening a pipe would wait for its writer
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError as error:
            raise CorpusError(f"{path}: {error.strerror or error}") from None
        suffix, by_name = _suffix_of(path)
        kind = self._named or _detected(path, head, _candidates(suffix, by_name))
        codec = _codec(path, head, kind, by_name)
        if codec != by_name:
            held = f"{codec} data" if codec else "nothing" if not status.st_size else "plain data"
            self._strange.setdefault(f"holds {held}, in spite of its name", []).append(path)
        if codec is not None and codec not in kind.codecs:
            raise CorpusError(
                f"{path}: files of format {kind.name} cannot be read compressed ({codec}); "
                "decompress it first"
            )
        return kind.source(path, codec)


def _refuse(error: OSError) -> None:
    raise CorpusError(f"{error.filename}: {error.strerror or error}")


def _is_side_file(path: Path) -> bool:
    return any(one.is_side_file(path) for one in all_formats())


def _listed(folder: Path, names: set[str], named: Format | None) -> list[Source] | None:
    """The sources that the folder's own index lists."""
    for one in all_formats():
        if named is None or isinstance(one, type(named)):
            sources = one.folder_sources(folder, names)
            if sources is not None:
                return sources
    return None


def _is_taken(path: Path, named: Format | None) -> bool:
    """Whether a file of a folder is data, by its suffix."""
    suffix, codec = _suffix_of(path)
    if named is None or named.takes_any_suffix:
        return bool(_candidates(suffix, codec))
    return suffix in named.suffixes


def _folder_suffixes(named: Format | None) -> Iterable[str]:
    """The suffixes of the files that are taken from a folder."""
    if named is None or named.takes_any_suffix:
        return dict.fromkeys(suffix for one in all_formats() for suffix in one.suffixes)
    return named.suffixes


# ---- one file ----------------------------------------------------------------------------------


def _codec(path: Path, head: bytes, kind: Format, by_name: Codec | None) -> Codec | None:
    """How a file is compressed: by its first bytes, unless those may be anything."""
    found = codec_of_head(head, by_name)
    if head.startswith(kind.magic):
        return None
    if found is None and by_name == "brotli" and is_packed(path, by_name):
        return by_name  # it has no magic
    if not kind.codec_by_name or (by_name is not None and found is not None):
        return found
    if kind.codecs or found is None or by_name is not None:
        return by_name
    # It is refused, unless it only happens to begin like this.
    return found if is_packed(path, found) else None


def _data_file(path: Path, named: Format | None) -> Path | None:
    """The data file that a path stands for, if it is an index or a prefix."""
    found = (one.data_file(path) for one in all_formats() if named in (None, one))
    return next((data for data in found if data is not None), None)


def _suffix_of(path: Path) -> tuple[str, Codec | None]:
    """The suffix of a file's name without that of its codec, and the codec."""
    name, codec = codec_of_name(path.name.lower())
    return Path(name).suffix, codec


def _candidates(suffix: str, codec: Codec | None) -> list[Format]:
    """The formats that a name's suffixes allow."""
    common = codec is None or codec in _COMMON_CODECS
    return [
        one for one in all_formats() if suffix in one.suffixes and (common or codec in one.codecs)
    ]


def _detected(path: Path, head: bytes, candidates: list[Format]) -> Format:
    """The format of a file: that which recognises it, else by its suffix, else by its magic."""
    certain = [one for one in candidates if one.recognises(path, head)]
    if len(certain) > 1:
        raise InputOptionError(
            f"{path}: could be {' or '.join(one.name for one in certain)}; say which with format="
        )
    likely = [one for one in candidates if one.suffix_suffices]
    by_magic = (one for one in all_formats() if head.startswith(one.magic))
    for one in (*certain, *likely, *by_magic):
        return one
    if path.suffix.lower() in _ARCHIVES or _suffix_of(path)[0] in _ARCHIVES:
        raise InputOptionError(f"{path}: archives cannot be read; unpack it first")
    known = ", ".join(_folder_suffixes(None))
    names = ", ".join(one.name for one in all_formats())
    more = "".join(f"; {complaint}" for complaint in broken_formats())
    raise InputOptionError(
        f"{path}: the format cannot be detected; known suffixes are {known}; name it with "
        f"format=, one of {names}{more}"
    )
