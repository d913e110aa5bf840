"""Stages: each makes one folder from its settings and from other folders, once.

A stage is named by its kind and a hash of its settings and of what it reads. It is made in a
folder of another name beside its own, which a killed process leaves and the next call continues;
once it is whole, it is sealed: written to the disk and renamed. What is sealed is never made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

from radscore import _core
from radscore.canonical import hash_of
from radscore.errors import StorageError
from radscore.files import Lock, make_folder, sync_folder, write_atomically
from radscore.progress import Progress
from radscore.provenance import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

__all__ = ["Input", "Inputs", "Part", "Stage", "Store", "all_needed", "run_stages"]

SEAL: Final = "stage.json"
_FORMAT: Final = "radscore stage"
#: Files up to this size are hashed when a stage is sealed.
_HASHED: Final = 64 << 20
#: Seconds between looks whether another process has made a stage.
_WAIT: Final = 0.5


class Part(Protocol):
    """What a stage reads: another stage, or files of one's own."""

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that decide what there is to read."""


@dataclass(frozen=True)
class Input:
    """A file or folder that the rehearsal did not make.

    Attributes
    ----------
    path : Path
    digest : str
        Of what it holds; see `Inputs`.
    """

    path: Path
    digest: str


class Inputs:
    """Hashes of files and folders, which are computed once unless a file changes.

    Parameters
    ----------
    memory : path
        Where they are kept.
    """

    def __init__(self, memory: Path | None) -> None:
        self._memory = memory
        self._known: dict[str, str] = {}
        self._news = False
        if memory is not None and memory.exists():
            try:
                self._known = dict(json.loads(memory.read_text()))
            except (ValueError, TypeError):
                self._known = {}  # it saves time, and nothing else

    def of(self, *paths: Path) -> Input:
        """What is in a file, a folder (without hidden files), or several."""
        found = hashlib.sha256()
        for path in paths:
            files = [path]
            if path.is_dir():
                files = sorted(one for one in path.rglob("*") if _is_content(one, path))
            for file in files:
                name = file.relative_to(path).as_posix() if path.is_dir() else ""
                found.update(f"{name}\0{self._digest(file)}\n".encode())
        if self._news and self._memory is not None:
            write_atomically(self._memory, json.dumps(self._known, indent=1))
            self._news = False
        return Input(paths[0], found.hexdigest())

    def _digest(self, file: Path) -> str:
        status = file.stat()
        name = f"{file.resolve()}:{status.st_size}:{status.st_mtime_ns}"
        if name not in self._known:
            digest = digest_of(file)
            if digest is None:
                raise StorageError(f"cannot read {file}")
            self._known[name], self._news = digest, True
        return self._known[name]


def _is_content(path: Path, folder: Path) -> bool:
    hidden = any(one.startswith(".") for one in path.relative_to(folder).parts)
    return path.is_file() and not hidden


@dataclass(frozen=True, eq=False)
class Stage:
    """Something to be made in a folder of its own.

    Attributes
    ----------
    kind : str
        Begins the folder's name.
    settings : dict
        JSON values: everything that the content depends on, besides what it reads and the version
        of its kind.
    inputs : dict of str to Stage or Input
        What it reads.
    make : callable
        Makes the content in a folder (which may hold what a killed process has left) and returns
        what is to be remembered of it, as JSON values.
    title : str
        What a user is told.
    cost : float
        About how many tokens a model reads for it, forwards.
    """

    kind: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Part]
    make: Callable[[Path, Callable[[Progress], None]], Mapping[str, Any]]
    title: str = ""
    cost: float = 1.0

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What decides on the content."""
        inputs = {name: one.digest for name, one in self.inputs.items()}
        return {"kind": self.kind, "settings": dict(self.settings), "inputs": inputs}

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits, the SHA-256 of the recipe."""
        return hash_of(self.recipe, allow_nan=True)

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.kind}-{self.digest[:12]}"

    def needed(self) -> list[Stage]:
        """The stages that it reads, and it itself, in an order in which they can be made."""
        found: dict[str, Stage] = {}
        for one in self.inputs.values():
            if isinstance(one, Stage):
                found |= {stage.digest: stage for stage in one.needed()}
        found[self.digest] = self
        return list(found.values())


def all_needed(stages: Iterable[Stage]) -> dict[str, Stage]:
    """Stages and all that they read, by digest, in an order in which they can be made."""
    return {one.digest: one for stage in stages for one in stage.needed()}


@dataclass(eq=False)
class Store:
    """The folder of a rehearsal, with a folder for each stage.

    Attributes
    ----------
    folder : Path
    """

    folder: Path
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_folder(self.folder)

    def path(self, part: Stage | Input) -> Path:
        """Where a stage's content is, or an input."""
        return part.path if isinstance(part, Input) else self.folder / part.name

    def is_made(self, stage: Stage) -> bool:
        """Whether a stage is sealed."""
        return (self.folder / stage.name / SEAL).exists()

    def report(self, stage: Stage) -> dict[str, Any]:
        """What is remembered of a sealed stage.

        Raises
        ------
        StorageError
            If its seal is damaged.
        """
        path = self.folder / stage.name / SEAL
        if stage.digest not in self._known:
            damaged = f"{path} is damaged; remove the folder {path.parent} to make it again"
            try:
                found = json.loads(path.read_text())
            except (OSError, ValueError):
                raise StorageError(damaged) from None
            if not isinstance(found, dict) or found.get("digest") != stage.digest:
                raise StorageError(damaged)
            for name, size in dict(found.get("sizes", {})).items():
                there = path.parent / name
                if not there.is_file() or there.stat().st_size != size:
                    raise StorageError(
                        f"{there} is missing or of another size; remove the folder {path.parent} "
                        "to make it again"
                    )
            self._known[stage.digest] = dict(found["report"])
        return self._known[stage.digest]

    def make(
        self,
        stage: Stage,
        tell: Callable[[Progress], None],
        begin: Callable[[Stage], None] | None = None,
    ) -> bool:
        """Makes a stage unless it is made; False if another process is making it."""
        lock = self.folder / f".{stage.name}.lock"
        try:
            with Lock(lock):
                if not self.is_made(stage):
                    if begin is not None:
                        begin(stage)
                    self._make(stage, tell)
        except BlockingIOError:
            return False
        self.report(stage)
        return True

    def _make(self, stage: Stage, tell: Callable[[Progress], None]) -> None:
        work = self.folder / f".{stage.name}.part"
        make_folder(work)
        started = time.monotonic()
        report = stage.make(work, tell)
        files = sorted(one for one in work.rglob("*") if one.is_file())
        for file in files:
            _sync(file)
        seal = {
            "format": _FORMAT,
            **stage.recipe,
            "digest": stage.digest,
            "title": stage.title,
            "radscore": _core.__version__,
            "seconds": round(time.monotonic() - started, 3),
            "sizes": {one.relative_to(work).as_posix(): one.stat().st_size for one in files},
            "sha256": {
                one.relative_to(work).as_posix(): digest_of(one)
                for one in files
                if one.stat().st_size <= _HASHED
            },
            "report": report,
        }
        write_atomically(work / SEAL, json.dumps(seal, indent=1))
        try:
            work.rename(self.folder / stage.name)
        except OSError as error:
            raise StorageError(
                f"cannot rename {work} to {stage.name}: {error.strerror}; remove what is there"
            ) from None
        sync_folder(self.folder)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def run_stages(
    store: Store,
    stages: list[Stage],
    *,
    begin: Callable[[Stage], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> bool:
    """Makes stages, and all that they read; what another process is making is left to it.

    Parameters
    ----------
    store : Store
        The folder.
    stages : list of Stage
        In any order.
    begin : callable, optional
        Called with every stage that is made.
    progress : callable, optional
        Called with a `Progress` in thousands of tokens, as `Stage.cost` counts them, over all
        stages.
    stop : callable, optional
        Asked between stages; once it returns True, the rest is left.

    Returns
    -------
    bool
        Whether all are made.
    """
    every = all_needed(stages)
    left = {digest: one for digest, one in every.items() if not store.is_made(one)}
    clock = _Clock(progress, sum(one.cost for one in every.values()))
    clock.done = sum(one.cost for digest, one in every.items() if digest not in left)
    clock.say(0.0, 0)
    while left:
        moved = False
        for digest, stage in list(left.items()):
            if stop is not None and stop():
                return False
            if any(one.digest in left for one in stage.inputs.values()):
                continue
            if store.make(stage, clock.of(stage), begin):
                del left[digest]
                clock.end(stage)
                moved = True
        if not moved:
            time.sleep(_WAIT)
            for digest, stage in list(left.items()):
                if store.is_made(stage):
                    del left[digest]
                    clock.end(stage)
    return True


class _Clock:
    """Progress over all stages."""

    def __init__(self, progress: Callable[[Progress], None] | None, total: float) -> None:
        self._progress, self._total = progress, total
        self.done, self._tokens = 0.0, 0

    def say(self, more: float, tokens: int) -> None:
        if self._progress is not None:
            done = round((self.done + more) / 1000)
            total = max(round(self._total / 1000), done, 1)
            self._progress(Progress(done, total, self._tokens + tokens))

    def of(self, stage: Stage) -> Callable[[Progress], None]:
        """What a stage calls."""

        def tell(one: Progress) -> None:
            share = 0.0 if not one.total else min(one.done / one.total, 1.0)
            self.say(share * stage.cost, one.tokens)

        return tell

    def end(self, stage: Stage) -> None:
        self.done += stage.cost
        self.say(0.0, 0)
