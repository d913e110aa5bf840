"""`Run`: the folder of a run, as its manifest describes it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore import _core
from radscore.errors import ArgumentError, StorageError
from radscore.files import Lock, begins_with, remove_drafts
from radscore.kgrams import KgramSet
from radscore.runs.folders import empty, is_ours, remove_left
from radscore.runs.markers import Marker, checksum_of, total_skipped
from radscore.runs.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from radscore.corpus.base import SkipReport
    from radscore.schemes import Scheme

__all__ = [
    "BUCKETS",
    "DECISIVE",
    "FILTER",
    "FORMAT",
    "MANIFEST",
    "SHARDS",
    "VERSION",
    "Run",
    "check_seeds",
    "configuration_of",
    "sealed",
    "window_shape",
]

MANIFEST = "run.json"
FILTER = "buckets/filter.rkg"
FORMAT = "radscore run"
#: 5: every entry is under a checksum, fingerprints have 256 bits. 4: shards and buckets.
VERSION = 5
SHARDS, BUCKETS = "shards", "buckets"
_LOCK = "run.lock"
#: The entries of a manifest that decide which windows the shards' files hold.
DECISIVE = (
    "files",
    "settings",
    "windows",
    "rules",
    "filter",
    "partition_bits",
    "shards",
    "version",
)
#: The entries of a manifest and their types; those with None may be null.
_ENTRIES: dict[str, tuple[type | None, ...]] = {
    "files": (list,),
    "settings": (dict,),
    "windows": (dict,),
    "rules": (dict,),
    "filter": (str, None),
    "partition_bits": (int,),
    "shards": (list,),
    "buckets": (int,),
    "more_folders": (list,),
    "notes": (list,),
    "opening": (dict, None),
    "configuration": (str,),
}


_WINDOWS = {"width", "vocab_size", "padding", "start"}
_RULES = {"dedup", "start", "prompt_role"}


@dataclass(frozen=True)
class Run:
    """A run: a manifest, a file for each shard, and one for each bucket and key.

    A step is done once its last file, a small one, stands under its own name: the marker of a
    shard, the sums of a bucket. Nothing that is done is ever changed, so steps may run at the same
    time, on any machines, even the same step twice.

    Attributes
    ----------
    folders : tuple of Path
        Where its files are; shards go to each in turn, all else to the first.
    content : dict
        The manifest. It holds no key.
    """

    folders: tuple[Path, ...]
    content: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """Only the manifest travels: other processes load the filter themselves."""
        return Run, (self.folders, self.content)

    @property
    def folder(self) -> Path:
        """The folder of the manifest."""
        return self.folders[0]

    @property
    def configuration(self) -> bytes:
        """A hash of everything the windows depend on, which never includes a key."""
        return bytes.fromhex(self.content["configuration"])

    @cached_property
    def shards(self) -> list[Shard]:
        """The shards, in reading order."""
        return [Shard(**shard) for shard in self.content["shards"]]

    @property
    def n_buckets(self) -> int:
        """Number of buckets."""
        return int(self.content["buckets"])

    @property
    def partition_bits(self) -> int:
        """There are two to this power partitions."""
        return int(self.content["partition_bits"])

    @property
    def rules(self) -> dict[str, Any]:
        """The arguments of a scorer that the run decides on."""
        return dict(self.content["rules"])

    def filter(self) -> KgramSet | None:
        """The filter, which is kept beside the manifest and loaded once."""
        return self._filter

    @cached_property
    def _filter(self) -> KgramSet | None:
        if self.content["filter"] is None:
            return None
        path = self.folder / FILTER
        phi = KgramSet.load(path)
        if phi.fingerprint != self.content["filter"]:
            raise StorageError(f"{path} is not the filter that the run was prepared with")
        return phi

    def partitions_of(self, bucket: int) -> tuple[int, int]:
        """The partitions of a bucket: from the first up to, but without, the second."""
        if not 0 <= bucket < self.n_buckets:
            raise ArgumentError(f"bucket must be from 0 to {self.n_buckets - 1}, not {bucket}")
        total = 1 << self.partition_bits
        return total * bucket // self.n_buckets, total * (bucket + 1) // self.n_buckets

    def shard_path(self, shard: int) -> Path:
        """The file of a shard."""
        folder = self.folders[shard % len(self.folders)]
        return folder / SHARDS / f"shard-{shard:06d}.rsw"

    def marker_path(self, shard: int) -> Path:
        """The file whose presence says that a shard is mapped."""
        return self.shard_path(shard).with_suffix(".done")

    def buckets_folder(self, scheme: Scheme) -> Path:
        """Where the sums under a key are."""
        return self.folder / BUCKETS / scheme.fingerprint

    def marker(self, shard: int) -> Marker | None:
        """A shard's marker, if it fits the run and the length of the shard's file."""
        marker = Marker.read(self.marker_path(shard))
        if marker is None:
            return None
        try:
            length = self.shard_path(shard).stat().st_size
        except OSError:
            return None
        says = marker.shard, marker.configuration, marker.length
        return marker if says == (shard, self.content["configuration"], length) else None

    def is_mapped(self, shard: int) -> bool:
        """Whether a shard's marker fits, and the header of its file, which is read."""
        marker = self.marker(shard)
        if marker is None:
            return False
        try:
            configuration, number, _, digest = _core.read_shard_header(self.shard_path(shard))
        except StorageError:
            return False
        found = (configuration, number, digest.hex())
        return found == (self.configuration, shard, marker.checksum)

    def missing(self) -> list[int]:
        """Shards that are not mapped."""
        return [shard for shard in range(len(self.shards)) if not self.is_mapped(shard)]

    def markers(self) -> list[Marker]:
        """The markers of all shards, whose files are not opened.

        Raises
        ------
        StorageError
            If a shard is not mapped.
        """
        markers = []
        for shard in range(len(self.shards)):
            marker = self.marker(shard)
            if marker is None:
                raise StorageError(f"shard {shard} of {self.folder} is not mapped yet")
            markers.append(marker)
        return markers

    def skipped(self) -> SkipReport:
        """Everything that mapping left out."""
        return total_skipped(self.markers())

    def clean_up(self, scheme: Scheme, exchange: Collection[str]) -> None:
        """Deletes what killed attempts left behind.

        Parameters
        ----------
        scheme : Scheme
            The key whose buckets are all reduced; those of other keys are left alone.
        exchange : collection of str
            The names of the files there that the buckets still hand on.
        """
        for folder in self.folders:
            remove_left(folder / SHARDS)
        remove_left(self.buckets_folder(scheme), exchange)

    def discard(self) -> None:
        """Deletes its files, and the folders that it made if nothing else is in them.

        The manifest goes after everything else, so a run that another process prepares here from
        then on survives; whatever it had before is made again. The lock goes last: see `locked`.
        """
        for folder in self.folders:
            empty(folder / SHARDS, is_ours)
        buckets = self.folder / BUCKETS
        for folder in list(buckets.iterdir()) if buckets.is_dir() else ():
            empty(folder, is_ours)
        empty(buckets, is_ours)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        remove_drafts(self.folder / MANIFEST)
        for folder in reversed(self.folders):
            if folder == self.folder and begins_with(folder / _LOCK, b""):
                (folder / _LOCK).unlink()
            empty(folder, lambda _: False, unseal=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes on this machine from carrying out the same run meanwhile.

        Raises
        ------
        StorageError
            If another process is at it, or has just finished and deleted the run.
        """
        gone = StorageError(f"another process has just deleted {self.folder}; run the same again")
        try:
            lock = Lock(self.folder / _LOCK)
        except FileNotFoundError:
            raise gone from None
        except BlockingIOError:
            raise StorageError(
                f"another process is working on {self.folder}; wait for it, or use another folder"
            ) from None
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}; use another folder") from None
        with lock:
            if (self.folder / MANIFEST).exists():
                yield
                return
        empty(self.folder, lambda _: False, unseal=True)
        raise gone

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens the run in a folder.

        Raises
        ------
        StorageError
            If there is none, or its manifest is damaged or of another version.
        """
        path = Path(folder) / MANIFEST
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise StorageError(f"there is no run in {folder}: {path}: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise StorageError(f"{path} is damaged: it is not JSON") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise StorageError(f"{path} is not the manifest of a run")
        if content.get("version") != VERSION:
            raise StorageError(
                f"{path} has version {content.get('version')}, but this radscore reads version "
                f"{VERSION}: delete the folder and prepare the run again"
            )
        for name, types in _ENTRIES.items():
            if name not in content:
                raise StorageError(f"{path} is damaged: it has no {name!r}")
            if not any(_is_a(content[name], kind) for kind in types):
                raise StorageError(f"{path} is damaged: {name!r} is not what it should be")
        try:
            odd = next(_odd_entries(content), None)
        except (TypeError, KeyError, AttributeError):
            odd = "shards"
        if odd is not None:
            raise StorageError(f"{path} is damaged: {odd!r} is not what it should be")
        if content != sealed(content):
            raise StorageError(f"{path} was altered: its checksum does not match")
        if content["configuration"] != configuration_of(content):
            raise StorageError(f"{path} was altered: its configuration does not match")
        return cls((Path(folder), *map(Path, content["more_folders"])), content)

    def check_scheme(self, scheme: Scheme) -> None:
        """Raises `ArgumentError` unless the scheme reads the windows that the run cut."""
        check_seeds(scheme, self.content["settings"], self.content["rules"]["prompt_role"])
        shape = window_shape(scheme, self.content["rules"]["start"])
        if shape != self.content["windows"]:
            raise ArgumentError(
                f"the run holds windows of {_in_words(self.content['windows'])}; the scheme reads "
                f"windows of {_in_words(shape)}"
            )


def _is_a(value: Any, kind: type | None) -> bool:
    return value is None if kind is None else type(value) is kind


def _odd_entries(content: dict[str, Any]) -> Iterator[str]:
    """Entries that hold something impossible."""
    numbers = (int, type(None))
    for name in ("more_folders", "notes"):
        if not all(type(one) is str for one in content[name]):
            yield name
    if not all(type(one) is dict and type(one.get("path")) is str for one in content["files"]):
        yield "files"
    if not 1 <= content["partition_bits"] <= 16:
        yield "partition_bits"
    elif not 1 <= content["buckets"] <= 1 << content["partition_bits"]:
        yield "buckets"
    for name, keys in (("windows", _WINDOWS), ("rules", _RULES)):
        if set(content[name]) != keys:
            yield name
    words = {"dedup", "prompt_role"}
    if not all(
        type(v) is str if k in words else type(v) in numbers for k, v in content["rules"].items()
    ):
        yield "rules"
    if not all(type(one) in numbers for one in content["windows"].values()):
        yield "windows"
    for shard in (Shard(**one) for one in content["shards"]):
        if not 0 <= shard.source < shard.source + shard.n_sources <= len(content["files"]):
            yield "shards"
        if not all(type(one) is dict for one in (shard.start, shard.end or {})):
            yield "shards"
    opening = content["opening"]
    if opening is not None and not (
        type(opening.get("inputs")) is list
        and set(opening) >= {"on_error", "field", "dtype", "eod"}
    ):
        yield "opening"


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with a checksum over all its entries."""
    entries = {name: value for name, value in manifest.items() if name != "checksum"}
    return {**entries, "checksum": checksum_of(entries)}


def configuration_of(manifest: dict[str, Any]) -> str:
    """The hash of what the windows in the shards' files depend on."""
    return checksum_of({name: manifest[name] for name in DECISIVE})


def check_seeds(scheme: Scheme, settings: dict[str, Any], prompt_role: str) -> None:
    """Raises where prompts exclude windows by something that only the key can tell."""
    prompts = settings.get("prompt_field") is not None and prompt_role == "exclude"
    if prompts and scheme.seed_kind != "context":
        raise ArgumentError(
            f"under scheme {scheme.name!r} prompts exclude windows by their seeds, which a run "
            "cannot tell, since it cuts windows without the key; score in memory, or without "
            "prompts"
        )


def window_shape(scheme: Scheme, start: int | None) -> dict[str, Any]:
    """Everything about a scheme that decides how documents are cut into windows."""
    names = ("width", "vocab_size", "padding", "start")
    return dict(zip(names, scheme.core.window_shape(start), strict=True))


def _in_words(shape: dict[str, Any]) -> str:
    padding = shape["padding"]
    padded = "" if padding is None else f", padded with {padding} from position {shape['start']} on"
    return f"{shape['width']} tokens over {shape['vocab_size']} ids{padded}"
