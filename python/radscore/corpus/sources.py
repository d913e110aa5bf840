"""Which files make up a corpus, and which format each has."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from radscore.corpus.base import InputOptionError
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Format", "Source", "find_sources", "side_file"]

Format: TypeAlias = Literal[
    "jsonl",
    "parquet",
    "arrow",
    "npy",
    "bin",
    "megatron",
    "datatrove",
    "dolma",
    "llmc",
    "nanogpt",
    "mds",
    "litdata",
    "datasets",
]
Codec: TypeAlias = Literal["gzip", "zstd", "brotli", "bz2", "snappy"]

#: What a file can be said to be; `datasets` are saved folders and objects.
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
    ".ds": "datatrove",
    ".mds": "mds",
}
CODECS: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
# Only where ids lie in shards that name their codec; elsewhere these are no data.
_SHARD_CODECS: dict[str, Codec] = {**CODECS, ".br": "brotli", ".bz2": "bz2", ".snappy": "snappy"}
# Files that a folder is searched for where its files are all of one format.
_SUFFIX_OF: dict[str, str] = {
    "megatron": ".bin",
    "llmc": ".bin",
    "nanogpt": ".bin",
    "litdata": ".bin",
    "dolma": ".npy",
    "datatrove": ".ds",
    "mds": ".mds",
}
#: Formats of bare ids: nothing in them is a codec's magic, and they have no fields.
BARE: frozenset[str] = frozenset(
    {"npy", "bin", "megatron", "datatrove", "dolma", "llmc", "nanogpt"}
)
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
_NPY_MAGIC = b"\x93NUMPY"
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (_NPY_MAGIC, "npy"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"{", "jsonl"),
)
_CODEC_MAGIC: tuple[tuple[bytes, Codec], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
#: llm.c and its descendants: 256 int32 of header, of which the first two are (magic, version).
LLM_C_HEADERS = ((20240520, 1), (20240801, 7), (20240522, 1))


@dataclass(frozen=True)
class Source:
    """One file of a corpus, and the files beside it that say how it is cut into documents."""

    path: Path
    format: Format
    codec: Codec | None
    size: int
    mtime_ns: int
    #: Index and metadata files that belong to this one.
    sides: tuple[Path, ...] = ()
    #: What an index says of this file (an entry of JSON), or the object that is read.
    entry: Any = field(default=None, compare=False, repr=False)

    @property
    def is_file(self) -> bool:
        """Whether it lies in files, and is no object of the library `datasets`."""
        return self.format != "datasets" or isinstance(self.entry, dict)


def find_sources(paths: Any, file_format: str | None = None) -> list[Source]:
    """The files that `paths` name: files, folders (recursively, sorted) and glob patterns.

    A file that is named twice is read once, and so is an object that is given twice. In a folder,
    files are taken by their suffix, or as its index lists them; names that begin with a dot or an
    underscore are left out. Objects of the library `datasets` are sources themselves.

    Raises
    ------
    CorpusError
        If a path names nothing, or the format of a file cannot be told.
    """
    if file_format is not None and file_format not in FORMATS:
        raise ArgumentError(f"format must be one of {', '.join(FORMATS)}, not {file_format!r}")
    sources: list[Source] = []
    seen: set[str | int] = set()
    names: Counter[Path] = Counter()
    for path in _each(paths):
        if isinstance(path, (str, os.PathLike)):
            for source in _sources_of(os.fspath(path), file_format):
                real = os.path.realpath(source.path)
                if real not in seen:
                    seen.add(real)
                    sources.append(source)
        elif id(path) not in seen:  # its name is made up, so it tells no objects apart
            from radscore.corpus.formats.datasets import object_source

            source = object_source(path)
            names[source.path] += 1
            seen.add(id(path))
            sources.append(_numbered(source, names[source.path]))
    if not sources:
        raise InputOptionError("no input was given: name at least one file, folder or pattern")
    return sources


def _numbered(source: Source, number: int) -> Source:
    """The source of an object; all but the first of one name have their number in it."""
    return source if number == 1 else replace(source, path=Path(f"{source.path}#{number}"))


def _each(paths: Any) -> Iterable[Any]:
    """`paths` one by one; a data set is one, though it can be iterated."""
    if isinstance(paths, (str, os.PathLike)) or is_dataset(paths):
        return [paths]
    return list(paths)


def is_dataset(value: object) -> bool:
    """Whether a value is an object of the library `datasets` (which is not imported for that)."""
    return type(value).__module__.partition(".")[0] == "datasets"


def _sources_of(path: str, file_format: str | None) -> Iterator[Source]:
    if Path(path).is_dir():
        found = list(_walk(path, file_format))
        if not found:
            suffixes = [_SUFFIX_OF[file_format]] if file_format in _SUFFIX_OF else SUFFIXES
            raise InputOptionError(f"{path}: no file in this folder ends in {', '.join(suffixes)}")
        yield from found
    elif os.path.lexists(path):
        yield _source(Path(path), file_format)
    elif _is_prefix(path, file_format):
        yield _source(Path(f"{path}.bin"), file_format)
    elif glob.has_magic(path):
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - absolute patterns too
        if not matches:
            raise InputOptionError(f"{path}: no file matches this pattern")
        for match in matches:
            if not Path(match).is_dir():
                if not _is_side(Path(match)):
                    yield _source(Path(match), file_format)
            elif "**" not in path:  # there the files match by themselves
                yield from _sources_of(match, file_format)
    else:
        raise InputOptionError(f"{path}: no such file or folder")


def _is_prefix(path: str, file_format: str | None) -> bool:
    """Whether a path is the prefix by which Megatron's tools name a pair of files."""
    named = file_format in (None, "megatron")
    return named and Path(f"{path}.bin").is_file() and Path(f"{path}.idx").is_file()


def _is_side(path: Path) -> bool:
    """Whether a file that a pattern matches only lies beside the data that it describes."""
    name = path.name
    if name.endswith((".ds.index", ".ds.metadata", ".ds.loss")):
        return path.with_suffix("").exists()
    if name.endswith(".idx"):
        return path.with_suffix(".bin").exists()
    return name.endswith(".csv.gz") and path.with_name(f"{name[:-7]}.npy").exists()


def _walk(folder: str, file_format: str | None) -> Iterator[Source]:
    from radscore.corpus.folders import folder_sources

    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        listed = folder_sources(Path(parent), files, file_format)
        if listed is not None:
            yield from listed
            continue
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith((".", "_")) or name in NOT_DATA:
                continue
            if file_format in _SUFFIX_OF:
                if _stem(path)[0].suffix == _SUFFIX_OF[file_format]:
                    yield _source(path, file_format)
            elif _by_suffix(path)[0] is not None:
                yield _source(path, file_format)


def _stem(path: Path) -> tuple[Path, Codec | None]:
    """A path without the suffix of its packing, and the codec of that."""
    name = path.name.lower()
    for suffix, codec in _SHARD_CODECS.items():
        if name.endswith(suffix):
            return Path(name[: -len(suffix)]), codec
    return Path(name), None


def _by_suffix(path: Path) -> tuple[Format | None, Codec | None]:
    stem, codec = _stem(path)
    kind = SUFFIXES.get(stem.suffix)
    if codec is not None and kind != "mds" and codec not in CODECS.values():
        return None, None
    return kind, codec


def side_file(path: Path, suffix: str) -> Path:
    """The file beside `path` whose name has `suffix` added or, for .idx and .csv.gz, in place."""
    if suffix in (".idx", ".csv.gz"):
        return path.with_name(f"{path.stem}{suffix}")
    return path.with_name(f"{path.name}{suffix}")


def make_source(path: Path, kind: Format, codec: Codec | None = None, **more: Any) -> Source:
    """A source of one file that must be there."""
    try:
        status = path.stat()
        if not path.is_file():
            raise CorpusError(f"{path}: not a regular file")
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from None
    return Source(path, kind, codec, status.st_size, status.st_mtime_ns, **more)


def _source(path: Path, file_format: str | None) -> Source:
    if path.suffix == ".idx" and file_format in (None, "megatron"):
        path = path.with_suffix(".bin")  # the pair is named by either
    source = make_source(path, "bin")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from None
    kind, codec = _by_suffix(path)
    bare = kind in BARE or file_format in BARE
    if not bare and "mds" not in (kind, file_format) and file_format != "litdata":
        # Ids may look like anything; other formats say what they are.
        codec = next((name for magic, name in _CODEC_MAGIC if head.startswith(magic)), None)
    if file_format is not None:
        kind = next(name for name in FORMATS if name == file_format)
    elif kind in ("bin", "npy"):
        kind = _bare_format(path, kind, head)
    elif kind is None:
        kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if kind is None:
        raise InputOptionError(
            f"{path}: the format cannot be told from the name; known are {', '.join(SUFFIXES)} "
            f"(text also with {', '.join(CODECS)}), or give format= ({', '.join(FORMATS)})"
        )
    if kind == "datasets":
        raise InputOptionError(f"{path}: format 'datasets' is a folder with a state.json")
    if codec is not None and kind not in ("jsonl", "mds", "litdata"):
        raise CorpusError(f"{path}: a {codec} file can hold JSON lines only, not {kind}; unpack it")
    if kind in ("litdata", "mds") and (indexed := _listed(path, kind)) is not None:
        return indexed
    return Source(path, kind, codec, source.size, source.mtime_ns, _sides(path, kind))


def _bare_format(path: Path, kind: Format, head: bytes) -> Format:
    """What a file of ids is, by its head and the files beside it."""
    if kind == "npy":
        indexed = side_file(path, ".csv.gz").exists()
        return "dolma" if indexed and not head.startswith(_NPY_MAGIC) else "npy"
    words = (int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little"))
    indexed = side_file(path, ".idx").exists()
    if indexed and words in LLM_C_HEADERS:
        raise InputOptionError(
            f"{path}: has the header of llm.c, but beside it lies {side_file(path, '.idx').name} "
            "as of Megatron; give format= (llmc, megatron)"
        )
    if indexed:
        return "megatron"
    if words in LLM_C_HEADERS:
        return "llmc"
    return kind if _listed(path, "litdata") is None else "litdata"


def _listed(path: Path, kind: str) -> Source | None:
    """What the index beside a shard says of it."""
    try:
        index, now = path.with_name("index.json").stat(), path.stat()
    except OSError:
        return None
    found = _listing(path.parent, kind, index.st_size, index.st_mtime_ns).get(path)
    return found and replace(found, size=now.st_size, mtime_ns=now.st_mtime_ns)


@lru_cache(maxsize=4)
def _listing(folder: Path, kind: str, *_index: int) -> dict[Path, Source]:
    """The shards that an index lists; it is read once for all of them."""
    from radscore.corpus.folders import folder_sources

    sources = folder_sources(folder, ("index.json",), kind) or ()
    return {source.path: source for source in sources}


def _sides(path: Path, kind: str) -> tuple[Path, ...]:
    suffixes = {
        "megatron": (".idx",),
        "datatrove": (".index", ".metadata"),
        "dolma": (".csv.gz",),
    }.get(kind, ())
    sides = (side_file(path, suffix) for suffix in suffixes)
    return tuple(side for side in sides if side.exists())
