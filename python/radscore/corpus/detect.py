"""Which files make up a corpus, and the format of each."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import InputOptionError
from radscore.corpus.format import status_of_file
from radscore.corpus.registry import all_formats, broken_formats, format_named
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from radscore.corpus.format import Codec, Format, Source

__all__ = ["find_sources"]

_CODECS: dict[str, Codec] = {
    ".gz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".br": "brotli",
    ".bz2": "bz2",
    ".snappy": "snappy",
}
#: Codecs whose suffix never hides a file: one whose format cannot be compressed is an error.
_COMMON_CODECS = ("gzip", "zstd")
_CODEC_MAGIC: tuple[tuple[bytes, Codec], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_HEAD = 16


def find_sources(paths: Any, format_name: str | None = None) -> list[Source]:
    """The files that `paths` name: files, folders (recursively, sorted) and glob patterns.

    A file that is named twice is read once, and so is an object that is given twice. In a folder,
    files are taken by their suffix, or as the folder's index lists them; names that begin with a
    dot or an underscore are left out.

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
    named = None if format_name is None else format_named(format_name)
    sources: list[Source] = []
    seen: set[str | int] = set()
    names: Counter[Path] = Counter()
    for path in _each(paths):
        if isinstance(path, (str, os.PathLike)):
            for source in _sources_of(os.fspath(path), named):
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
    return sources


def _each(paths: Any) -> Iterable[Any]:
    """`paths` one by one; an object that a format reads is one, though it can be iterated."""
    if isinstance(paths, (str, os.PathLike)) or any(
        one.takes_object(paths) for one in all_formats()
    ):
        return [paths]
    return list(paths)


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


def _sources_of(path: str, named: Format | None) -> Iterator[Source]:
    if Path(path).is_dir():
        found = list(_walk(path, named))
        if not found:
            suffixes = ", ".join(_folder_suffixes(named))
            raise InputOptionError(f"{path}: no file in this folder ends in {suffixes}")
        yield from found
    elif os.path.lexists(path) or _data_file(Path(path), named) is not None:
        yield _source(Path(path), named)
    elif glob.has_magic(path):
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - absolute patterns too
        if not matches:
            raise InputOptionError(f"{path}: no file matches this pattern")
        for match in matches:
            if not Path(match).is_dir():
                if not any(one.is_side_file(Path(match)) for one in all_formats()):
                    yield _source(Path(match), named)
            elif "**" not in path:  # which matches the files in it as well
                yield from _sources_of(match, named)
    else:
        raise InputOptionError(f"{path}: no such file or folder")


def _walk(folder: str, named: Format | None) -> Iterator[Source]:
    not_data = {name for one in all_formats() for name in one.not_data}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        listed = _listed(Path(parent), set(files), named)
        if listed is not None:
            if any(source.path.parent != Path(parent) for source in listed):
                folders.clear()  # what lies there and is not listed is no part of it
            yield from listed
            continue
        for name in sorted(files):
            if name.startswith((".", "_")) or name in not_data:
                continue
            path = Path(parent, name)
            if _is_taken(path, named):
                yield _source(path, named)


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


def _source(path: Path, named: Format | None) -> Source:
    path = _data_file(path, named) or path
    status_of_file(path)  # opening a pipe would wait for its writer
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from None
    suffix, codec = _suffix_of(path)
    kind = named or _detected(path, head, _candidates(suffix, codec))
    if not kind.codec_by_name:
        codec = next((name for magic, name in _CODEC_MAGIC if head.startswith(magic)), None)
    if codec is not None and codec not in kind.codecs:
        raise CorpusError(
            f"{path}: files of format {kind.name} cannot be read compressed ({codec}); "
            "decompress it first"
        )
    return kind.source(path, codec)


def _data_file(path: Path, named: Format | None) -> Path | None:
    """The data file that a path stands for, if it is an index or a prefix."""
    found = (one.data_file(path) for one in all_formats() if named in (None, one))
    return next((data for data in found if data is not None), None)


def _suffix_of(path: Path) -> tuple[str, Codec | None]:
    """The suffix of a file's name without that of its codec, and the codec."""
    name = path.name.lower()
    for suffix, codec in _CODECS.items():
        if name.endswith(suffix):
            return Path(name[: -len(suffix)]).suffix, codec
    return Path(name).suffix, None


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
    known = ", ".join(_folder_suffixes(None))
    names = ", ".join(one.name for one in all_formats())
    more = "".join(f"; {complaint}" for complaint in broken_formats())
    raise InputOptionError(
        f"{path}: the format cannot be detected; known suffixes are {known}; name it with "
        f"format=, one of {names}{more}"
    )
