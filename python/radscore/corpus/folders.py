"""Folders whose files an index lists: MDS, litdata, and data sets saved by Hugging Face."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import DamagedFileError, InputOptionError, damage_named
from radscore.corpus.sources import make_source
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from radscore.corpus.sources import Codec, Source

__all__ = ["folder_sources", "json_of"]

_SHARD_CODEC: dict[str, Codec] = {
    "zstd": "zstd",
    "gz": "gzip",
    "br": "brotli",
    "bz2": "bz2",
    "snappy": "snappy",
}


def folder_sources(
    folder: Path, files: Iterable[str], file_format: str | None
) -> list[Source] | None:
    """The sources that a folder's own index lists, in its order; None where there is no index.

    Raises
    ------
    CorpusError
        If the index cannot be read, or lists what is not there.
    """
    names = set(files)
    if "state.json" in names and file_format in (None, "arrow", "datasets"):
        state = _index(folder / "state.json", lambda: _any(names, ".arrow"))
        if isinstance(state, dict) and isinstance(state.get("_data_files"), list):
            return _saved_dataset(folder, state)
    if "index.json" in names and file_format in (None, "mds", "litdata"):
        index = _index(folder / "index.json", lambda: _any(names, ".mds") or _chunks(names))
        if not isinstance(index, dict):
            return None
        if isinstance(index.get("shards"), list) and file_format in (None, "mds"):
            return [_shard(folder, shard) for shard in index["shards"]]
        if isinstance(index.get("chunks"), list) and isinstance(index.get("config"), dict):
            return [
                _chunk(folder, chunk, index["config"])
                for chunk in index["chunks"]
                if file_format in (None, "litdata")
            ]
    return None


def _any(names: set[str], suffix: str) -> bool:
    return any(suffix in name for name in names)


def _chunks(names: set[str]) -> bool:
    return any(name.startswith("chunk-") and name.endswith(".bin") for name in names)


def _index(path: Path, matters: Callable[[], bool]) -> Any:
    """The JSON of an index; None where it is none and nothing shows that it should be one."""
    status = path.stat()
    try:
        return json_of(path, status.st_size, status.st_mtime_ns)
    except DamagedFileError:
        if matters():
            raise
        return None


@lru_cache(maxsize=8)
def json_of(path: Path, size: int, mtime_ns: int) -> Any:  # noqa: ARG001 - part of the key
    """What a JSON file holds."""
    with damage_named(path):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DamagedFileError(f"{path}: a damaged index, not JSON: {reason}") from None


def _inside(folder: Path, index: str, name: Any) -> Path:
    """The file of a folder that its index names; never one outside of the folder."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\0" in name:
        raise CorpusError(f"{folder / index}: names a file {_short(name)}, which cannot be its own")
    return folder.joinpath(*parts)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _shard(folder: Path, shard: Any) -> Source:
    index = folder / "index.json"
    if not isinstance(shard, dict) or not isinstance(shard.get("raw_data"), dict):
        raise CorpusError(f"{index}: a damaged index: a shard is {_short(shard)}")
    if shard.get("format") != "mds" or shard.get("version") != 2:
        raise CorpusError(
            f"{index}: a shard of format {_short(shard.get('format'))} and version "
            f"{_short(shard.get('version'))}; only mds of version 2 is read"
        )
    raw = _inside(folder, "index.json", shard["raw_data"].get("basename"))
    if raw.exists():
        return make_source(raw, "mds", sides=(index,), entry=shard)
    packed = shard.get("zip_data")
    if isinstance(packed, dict):
        path = _inside(folder, "index.json", packed.get("basename"))
        name = str(shard.get("compression")).partition(":")[0]
        if path.exists():
            if name not in _SHARD_CODEC:
                raise CorpusError(f"{index}: compression {_short(name)} is not known")
            return make_source(path, "mds", _SHARD_CODEC[name], sides=(index,), entry=shard)
    raise CorpusError(f"{index}: lists {raw.relative_to(folder)}, which is not there")


def _chunk(folder: Path, chunk: Any, config: dict[str, Any]) -> Source:
    index = folder / "index.json"
    if not isinstance(chunk, dict):
        raise CorpusError(f"{index}: a damaged index: a chunk is {_short(chunk)}")
    if config.get("encryption"):
        raise InputOptionError(f"{index}: the chunks are encrypted; write them anew without")
    path = _inside(folder, "index.json", chunk.get("filename"))
    if not path.exists():
        raise CorpusError(f"{index}: lists {path.relative_to(folder)}, which is not there")
    whole = config.get("compression_level") in (None, "", "chunk") and config.get("compression")
    name = str(config.get("compression")).partition(":")[0]
    # Rows of plain values are packed inside of the file, so its name decides.
    codec: Codec | None = "zstd" if whole and f".{name}" in path.suffixes[:-1] else None
    if codec is not None and name != "zstd":
        raise CorpusError(f"{index}: compression {_short(name)} is not known")
    return make_source(path, "litdata", codec, sides=(index,), entry=(chunk, config))


def _saved_dataset(folder: Path, state: dict[str, Any]) -> list[Source]:
    """Arrow files in the order of the rows; one source where a list of indices picks the rows."""

    def listed(name: str) -> list[Path]:
        entries = state.get(name) or []
        paths = [
            _inside(
                folder, "state.json", entry.get("filename") if isinstance(entry, dict) else None
            )
            for entry in entries
        ]
        for path in paths:
            if not path.exists():
                raise CorpusError(
                    f"{folder / 'state.json'}: lists {path.relative_to(folder)}, which is not there"
                )
        return paths

    data, indices = listed("_data_files"), listed("_indices_data_files")
    if not indices:
        return [make_source(path, "arrow", entry=state) for path in data]
    source = make_source(folder / "state.json", "datasets", sides=(*data, *indices))
    size = sum(path.stat().st_size for path in data)
    return [replace(source, size=size, entry=state)]
