"""Which files make up a corpus, and which format each has."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from radscore.corpus._base import InputOptionError
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Format", "Source", "find_sources"]

Format: TypeAlias = Literal["jsonl", "parquet", "arrow", "npy", "bin"]
Codec: TypeAlias = Literal["gzip", "zstd"]

FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".npy": "npy",
    ".bin": "bin",
}
CODECS: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
# JSON that lies beside data sets and tokenizers without being data.
NOT_DATA = frozenset(
    {
        "state.json",
        "dataset_info.json",
        "dataset_dict.json",
        "dataset_infos.json",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "index.json",
    }
)
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x93NUMPY", "npy"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"{", "jsonl"),
)
_CODEC_MAGIC: tuple[tuple[bytes, Codec], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


@dataclass(frozen=True)
class Source:
    """One file of a corpus."""

    path: Path
    format: Format
    codec: Codec | None
    size: int
    mtime_ns: int


def find_sources(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], file_format: str | None = None
) -> list[Source]:
    """The files that `paths` name: files, folders (recursively, sorted) and glob patterns.

    A file that is named twice is read once. In a folder, files are taken by their suffix; names
    that begin with a dot or an underscore are left out.

    Raises
    ------
    CorpusError
        If a path names nothing, or the format of a file cannot be told.
    """
    if file_format is not None and file_format not in FORMATS:
        raise ArgumentError(f"format must be one of {', '.join(FORMATS)}, not {file_format!r}")
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    sources: list[Source] = []
    seen: set[str] = set()
    for path in paths:
        for file in _files_of(os.fspath(path)):
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                sources.append(_source(file, file_format))
    if not sources:
        raise InputOptionError("no input was given: name at least one file, folder or pattern")
    return sources


def _files_of(path: str) -> Iterator[Path]:
    if Path(path).is_dir():
        found = [file for file in _walk(path) if _by_suffix(file)[0] is not None]
        if not found:
            raise InputOptionError(f"{path}: no file in this folder ends in {', '.join(SUFFIXES)}")
        yield from found
    elif os.path.lexists(path):
        yield Path(path)
    elif glob.has_magic(path):
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - absolute patterns too
        if not matches:
            raise InputOptionError(f"{path}: no file matches this pattern")
        for match in matches:
            if not Path(match).is_dir():
                yield Path(match)
            elif "**" not in path:  # there the files match by themselves
                yield from _files_of(match)
    else:
        raise InputOptionError(f"{path}: no such file or folder")


def _walk(folder: str) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in sorted(files):
            if not name.startswith((".", "_")) and name not in NOT_DATA:
                yield Path(parent, name)


def _by_suffix(path: Path) -> tuple[Format | None, Codec | None]:
    name = path.name.lower()
    for suffix, codec in CODECS.items():
        if name.endswith(suffix):
            return SUFFIXES.get(Path(name[: -len(suffix)]).suffix), codec
    return SUFFIXES.get(Path(name).suffix), None


def _source(path: Path, file_format: str | None) -> Source:
    try:
        status = path.stat()
        if not path.is_file():
            raise CorpusError(f"{path}: not a regular file")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from None
    kind, codec = _by_suffix(path)
    if kind not in ("bin", "npy") and file_format not in ("bin", "npy"):
        # Ids may look like anything; other formats say what they are.
        codec = next((name for magic, name in _CODEC_MAGIC if head.startswith(magic)), None)
    if file_format is not None:
        kind = next(name for name in FORMATS if name == file_format)
    elif kind is None:
        kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if kind is None:
        raise InputOptionError(
            f"{path}: the format cannot be told from the name; known are {', '.join(SUFFIXES)} "
            f"(text also with {', '.join(CODECS)}), or give format= ({', '.join(FORMATS)})"
        )
    if codec is not None and kind != "jsonl":
        raise CorpusError(f"{path}: a {codec} file can hold JSON lines only, not {kind}; unpack it")
    return Source(path, kind, codec, status.st_size, status.st_mtime_ns)
